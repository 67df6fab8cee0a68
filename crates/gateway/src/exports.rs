//! Follows the ledger and sends an event for each entry to those who gather events of many systems. No session waits for it:
//! it reads what is on disk and signed, and where it is is remembered behind each delivery. Not here: what an event looks
//! like, which is `chancery-evidence`'s.
//!
//! Delivered is at least once: whoever crashes between a delivery and its note delivers again. `metadata.uid` tells.

mod place;
mod target;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_evidence::{ChainRow, Directory, Events};
use chancery_ledger::{Leaf, LogVerifier, Roots, leaf_hash};
use chancery_model::Digest;
use chancery_store::{LedgerItem, LedgerReader};

use crate::gateway::{Gateway, Shared, lock};
use place::Place;
use target::Target;

/// How often the head is looked at. The ledger signs one each second.
const EVERY: Duration = Duration::from_secs(1);
/// Entries read at once. A reading begins at the start of a segment, so it should be worth it.
const ENTRIES_MAX: usize = 8_192;
/// Their bytes.
const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Events sent together.
const EVENTS_MAX: usize = 1_000;
/// Their bytes, roughly.
const EVENT_BYTES: usize = 512 * 1024;
/// The first and the longest wait between two attempts.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A gateway that ends gives so long for what is left; the rest goes out after the next start.
const LAST: Duration = Duration::from_secs(5);
/// Chains remembered.
const CHAINS_MAX: usize = 65_536;

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTarget {
    /// At the end of a file, which is opened anew each time.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Posted to an address, as lines of JSON.
    Http {
        /// The address.
        url: String,
        /// A file that holds a bearer token, read anew each time.
        token: Option<PathBuf>,
        /// Certificates (PEM) that its TLS is checked against, instead of the system's.
        ca: Option<Vec<u8>>,
    },
}

/// One export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// Its name, under which the place is remembered.
    pub name: String,
    /// Where events go.
    pub target: ExportTarget,
}

/// Entries of one reading, with their hashes.
type Read = Vec<(Leaf, Digest)>;

struct Export {
    shared: Arc<Shared>,
    name: String,
    target: Target,
    reader: LedgerReader,
    log: LogVerifier,
    path: PathBuf,
    place: Place,
    events: Events,
    directory: Directory,
    chains: usize,
    /// What is ready and not delivered, and the place behind it. It is kept when a delivery is broken off, because the
    /// events were made with what was known before them.
    pending: Option<(String, Place)>,
    /// Whether the place of the last process was found.
    resumed: bool,
}

impl Gateway {
    /// Sends events until `ended`, and what is left then, for a few seconds.
    pub async fn export(self, settings: ExportSettings, ended: impl Future<Output = ()>) {
        let name = settings.name.clone();
        let mut export = match Export::new(self.0, settings) {
            Ok(export) => export,
            Err(why) => return tracing::error!(export = name, why, "events are not sent"),
        };
        tokio::select! {
            () = export.run() => {}
            () = ended => {}
        }
        if !matches!(tokio::time::timeout(LAST, export.round()).await, Ok(Ok(()))) {
            tracing::warn!(export = name, "some events are sent after the next start");
        }
    }
}

impl Export {
    fn new(shared: Arc<Shared>, settings: ExportSettings) -> Result<Self, String> {
        let volume = chancery_store::Directory::shared(&shared.state_path().join("ledger"));
        let reader = LedgerReader::new(Arc::new(volume.map_err(|error| error.to_string())?));
        let roots = Roots::parse(&shared.sequencer.roots()).map_err(|error| error.to_string())?;
        let path = shared.state_path().join("exports").join(&settings.name);
        Ok(Self {
            log: roots.log().clone(),
            target: Target::new(&settings.target)?,
            name: settings.name,
            reader,
            path,
            place: Place::default(),
            events: Events::default(),
            directory: Directory::default(),
            chains: 0,
            pending: None,
            resumed: false,
            shared,
        })
    }

    async fn run(&mut self) {
        while let Err(why) = self.resume().await {
            self.trouble(&why);
            tokio::time::sleep(RETRY_MAX).await;
        }
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.round().await {
                Ok(()) => drop(lock(&self.shared.undelivered).remove(&self.name)),
                Err(why) => {
                    self.trouble(&why);
                    tokio::time::sleep(RETRY_MAX).await;
                }
            }
        }
    }

    /// Sends all that is signed and was not sent yet.
    async fn round(&mut self) -> Result<(), String> {
        if !self.resumed {
            return Err("its place is not known".to_owned());
        }
        self.deliver().await;
        let size = self.published().await?;
        while self.place.next < size {
            let read = self.read(size).await?;
            let mut lines = String::new();
            let (mut many, last) = (0, read.len());
            for (at, (leaf, hash)) in read.into_iter().enumerate() {
                self.introduce(&leaf).await?;
                self.events.event(&leaf, &hash, &self.directory, &mut lines);
                many += 1;
                if many == EVENTS_MAX || lines.len() >= EVENT_BYTES || at + 1 == last {
                    let next = leaf.index + 1;
                    let from = self.events.oldest().map_or(next, |oldest| oldest.min(next));
                    self.pending = Some((std::mem::take(&mut lines), Place { next, from, last: Some(hash) }));
                    many = 0;
                    self.deliver().await;
                }
            }
        }
        Ok(())
    }

    /// Sends what is pending, however long it takes.
    async fn deliver(&mut self) {
        let mut wait = RETRY;
        while let Some((lines, place)) = &self.pending {
            match self.target.send(lines).await {
                Ok(()) => {
                    // If we crash here, the same events are sent again.
                    if let Err(error) = place.keep(&self.path).await {
                        tracing::error!(export = self.name, %error, "the place of an export is not remembered");
                    }
                    self.place = place.clone();
                    self.pending = None;
                    lock(&self.shared.undelivered).remove(&self.name);
                }
                Err(why) => {
                    self.trouble(&why);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn trouble(&self, why: &str) {
        tracing::warn!(export = self.name, why, "events are not delivered");
        lock(&self.shared.undelivered).insert(self.name.clone(), why.to_owned());
    }

    /// Entries that are on disk and signed: what comes behind may be lost with the host's power, and written anew.
    async fn published(&self) -> Result<u64, String> {
        let sequencer = self.shared.sequencer.clone();
        let note = tokio::task::spawn_blocking(move || sequencer.published());
        let note = note.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let head = note.map(|note| self.log.open(&note)).transpose().map_err(|error| error.to_string())?;
        Ok(head.map_or(0, |head| head.checkpoint.size))
    }

    /// Goes on where the last process ended: reads again what open sessions need, and whether the ledger is still the one
    /// that was read then.
    async fn resume(&mut self) -> Result<(), String> {
        let place = Place::remembered(&self.path).await?;
        let (next, from) = (place.next, place.from.min(place.next.saturating_sub(1)));
        let reader = self.reader.clone();
        let visited = tokio::task::spawn_blocking(move || remembered(&reader, from, next));
        let (events, last) = visited.await.map_err(|error| error.to_string())??;
        if last != place.last {
            let path = self.path.display();
            return Err(format!("the ledger is not the one whose events were sent; to send all of it, remove {path}"));
        }
        (self.events, self.place, self.resumed) = (events, place, true);
        Ok(())
    }

    /// The next entries below `size`.
    async fn read(&self, size: u64) -> Result<Read, String> {
        let (reader, next) = (self.reader.clone(), self.place.next);
        let read = tokio::task::spawn_blocking(move || entries(&reader, next, size));
        let (read, pruned) = read.await.map_err(|error| error.to_string())??;
        if pruned > 0 {
            tracing::warn!(
                export = self.name,
                from = next,
                pruned,
                "entries were pruned before their events were sent"
            );
        }
        Ok(read)
    }

    /// Learns who is behind the chains that an entry names.
    async fn introduce(&mut self, leaf: &Leaf) -> Result<(), String> {
        for name in ["a", "by"] {
            let Some(id) = leaf.rest.get(name).and_then(serde_json::Value::as_str) else { continue };
            let Some(chain) = chain_id(id).filter(|_| self.directory.row(id).is_none()) else { continue };
            let known = self.shared.catalog.chain(chain).await.map_err(|error| error.to_string())?;
            if let Some(record) = known {
                if self.chains == CHAINS_MAX {
                    (self.directory, self.chains) = (Directory::default(), 0);
                }
                // The salt is for commitments, which nobody checks here.
                self.directory.add(ChainRow { chain, salt: [0; 32], delegation: record.chain });
                self.chains += 1;
            }
        }
        Ok(())
    }
}

/// What open sessions need of the entries from `from` on, and the hash of the last one before `next`, pruned or not.
fn remembered(reader: &LedgerReader, from: u64, next: u64) -> Result<(Events, Option<Digest>), String> {
    let (mut events, mut last) = (Events::default(), None);
    let visited = reader.visit(from, |index, item| {
        let hash = match item {
            _ if index >= next => return ControlFlow::Break(()),
            LedgerItem::Damaged(_) => return ControlFlow::Break(()),
            LedgerItem::Pruned(hash, _) => hash,
            LedgerItem::Entry(line) => {
                if let Ok(leaf) = Leaf::parse(line, index) {
                    events.remember(&leaf);
                }
                leaf_hash(line)
            }
        };
        last = (index + 1 == next).then_some(hash);
        ControlFlow::Continue(())
    });
    visited.map(|()| (events, last)).map_err(|error| error.to_string())
}

/// The next entries below `size`, from `next` on; and how many were pruned before they could be read.
fn entries(reader: &LedgerReader, next: u64, size: u64) -> Result<(Read, u64), String> {
    let (mut read, mut bytes, mut wrong) = (Read::new(), 0, None);
    // Up to the last entry that is read: those behind it are met again.
    let (mut pruned, mut met) = (0, next);
    let visited = reader.visit(next, |index, item| {
        if index >= size || read.len() == ENTRIES_MAX || bytes >= ENTRY_BYTES_MAX {
            return ControlFlow::Break(());
        }
        let line = match item {
            LedgerItem::Entry(line) => line,
            LedgerItem::Pruned(..) => return ControlFlow::Continue(()),
            LedgerItem::Damaged(_) => return ControlFlow::Break(()),
        };
        bytes += line.len();
        match Leaf::parse(line, index) {
            Ok(leaf) => read.push((leaf, leaf_hash(line))),
            Err(error) => {
                wrong = Some(error.to_string());
                return ControlFlow::Break(());
            }
        }
        pruned += index - met;
        met = index + 1;
        ControlFlow::Continue(())
    });
    visited.map_err(|error| error.to_string())?;
    match wrong {
        Some(wrong) if read.is_empty() => Err(wrong),
        _ if read.is_empty() => Err(format!("entry {next} cannot be read")),
        _ => Ok((read, pruned)),
    }
}

fn chain_id(hex: &str) -> Option<[u8; 16]> {
    (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok()).flatten().map(u128::to_be_bytes)
}
