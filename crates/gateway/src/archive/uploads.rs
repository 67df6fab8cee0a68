//! The task that archives what the ledger's last signed checkpoint covers, round by round. It keeps no notes: where it goes
//! on, the archive says. No session waits for it; of what it reads, a few objects are in memory.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_ledger::{Checkpoint, LogVerifier, Roots, SignedCheckpoint};
use chancery_store::{
    ArchiveError, ArchiveObject, Directory, LedgerReader, RecordingMark, RecordingPiece, RecordingReader,
    archive_entries, begins_with,
};
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use super::ArchiveFault;
use super::bucket::Bucket;
use crate::gateway::{Shared, lock};

/// Objects on their way at once.
const TOGETHER: usize = 16;
/// Objects that were read and wait.
const WAITING: usize = 2;
/// Between two attempts, however often they failed.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How far the archive is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Entries that the last checkpoint in it covers.
    done: u64,
    /// Bundles and tiles of so many entries are in it; a multiple of 256.
    below: u64,
    /// Recordings before this are in it.
    mark: RecordingMark,
}

/// One archive and what goes into it.
pub(crate) struct Copies {
    bucket: Bucket,
    roots: String,
    log: LogVerifier,
    ledger: LedgerReader,
    recordings: RecordingReader,
    progress: Option<Progress>,
}

/// The rounds of a gateway.
pub(crate) struct Uploads {
    shared: Arc<Shared>,
    every: Duration,
    copies: Copies,
}

impl Uploads {
    /// `None` if no archive is configured.
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Option<Self>, String> {
        let Some(settings) = &shared.settings.archive else { return Ok(None) };
        let bucket = Bucket::open(&settings.place).map_err(|fault| fault.to_string())?;
        let open = |path: PathBuf| Directory::shared(&path).map(Arc::new).map_err(|error| error.to_string());
        let ledger = LedgerReader::new(open(shared.state.ledger())?);
        let recordings = RecordingReader::new(open(shared.state.recordings())?);
        let copies = Copies::new(bucket, shared.sequencer.roots(), ledger, recordings)?;
        Ok(Some(Self { shared: shared.clone(), every: settings.every, copies }))
    }

    /// Archives round by round; once more when `ended` says so, and then no more.
    pub(crate) async fn run(mut self, mut ended: watch::Receiver<bool>) {
        let mut wait = self.every;
        loop {
            match self.round().await {
                Ok(()) => wait = self.every,
                // What is behind comes when the store is there again.
                Err(fault) if fault.passes() => wait = (wait * 2).min(WAIT_MAX.max(self.every)),
                Err(_) => return,
            }
            if tokio::time::timeout(wait, ended.wait_for(|ended| *ended)).await.is_ok() {
                drop(self.round().await);
                return;
            }
        }
    }

    async fn round(&mut self) -> Result<(), ArchiveFault> {
        let began = Instant::now();
        let round = self.copies.round().await;
        self.note(&round, began);
        if let Some(signed) = round? {
            // For whoever asks without the archive; nothing is decided by it.
            let sequencer = self.shared.sequencer.clone();
            match spawn_blocking(move || sequencer.keep_archived(&signed.note)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "how far the archive is, is not kept"),
                Err(error) => tracing::warn!(%error, "how far the archive is, is not kept"),
            }
        }
        Ok(())
    }

    /// Tells whoever asks how far the archive is, and the operator and the ledger what went wrong.
    fn note(&self, round: &Result<Option<SignedCheckpoint>, ArchiveFault>, began: Instant) {
        let mut status = lock(&self.shared.archived);
        status.size = self.copies.done();
        let Err(fault) = round else { return status.is_all(began) };
        (status.failures, status.problem) = (status.failures.saturating_add(1), Some(fault.outside()));
        status.ended = !fault.passes();
        drop(status);
        if fault.passes() {
            return tracing::warn!(%fault, "not archived; it is tried again");
        }
        tracing::error!(%fault, "nothing more is archived");
        self.shared.alert("archive-conflict");
    }
}

impl Copies {
    pub(crate) fn new(
        bucket: Bucket,
        roots: String,
        ledger: LedgerReader,
        recordings: RecordingReader,
    ) -> Result<Self, String> {
        let log = Roots::parse(&roots).map_err(|error| error.to_string())?.log().clone();
        Ok(Self { bucket, roots, log, ledger, recordings, progress: None })
    }

    /// Archives what is new below the last signed checkpoint, and returns that; `None` if nothing was new.
    pub(crate) async fn round(&mut self) -> Result<Option<SignedCheckpoint>, ArchiveFault> {
        let mut progress = match self.progress {
            Some(progress) => progress,
            None => self.begin().await?,
        };
        self.progress = Some(progress);
        let reader = self.ledger.clone();
        // In this order, so that the first is not larger than the second.
        let (witnessed, signed) = blocking(move || Ok((reader.witnessed()?, reader.checkpoint()?))).await?;
        let Some(signed) = signed.map(|note| self.opened(&note)).transpose()? else { return Ok(None) };
        let head = signed.checkpoint.clone();
        if head.size == progress.done {
            return Ok(None);
        }
        let done = self.below(&mut progress, &head).await;
        // What is there is there, whatever became of the rest.
        self.progress = Some(progress);
        done?;
        if let Some(note) = witnessed {
            let size = self.opened(&note)?.checkpoint.size;
            // One who cosigned it again later said the same with another time: the first is kept.
            self.bucket.create(&format!("witnessed/{size:020}"), note.into()).await?;
        }
        let key = format!("checkpoints/{:020}", head.size);
        self.bucket.put(&key, signed.note.clone().into()).await?;
        self.progress = Some(Progress { done: head.size, ..progress });
        Ok(Some(signed))
    }

    /// Entries that the last checkpoint in the archive covers, as far as is known.
    fn done(&self) -> u64 {
        self.progress.map_or(0, |progress| progress.done)
    }

    fn opened(&self, note: &str) -> Result<SignedCheckpoint, ArchiveFault> {
        self.log.open(note).map_err(|error| ArchiveError::Wrong(error.to_string()).into())
    }

    /// Everything that a checkpoint needs, recordings first.
    async fn below(&self, progress: &mut Progress, head: &Checkpoint) -> Result<(), ArchiveFault> {
        while !self.pieces(&mut progress.mark).await? {}
        self.bundles(progress, head).await
    }

    /// Where an earlier process left off, and that the store and the archive are what they must be.
    async fn begin(&self) -> Result<Progress, ArchiveFault> {
        let roots = Bytes::from(self.roots.clone());
        self.bucket.put("ledger.vkey", roots.clone()).await?;
        if self.bucket.create("ledger.vkey", roots).await? {
            return Err(ArchiveFault::Unconditional);
        }
        let done = self.bucket.largest("checkpoints", u64::MAX).await?.unwrap_or(0);
        if done > 0 {
            let key = format!("checkpoints/{done:020}");
            let (bytes, _) = self.bucket.get(&key).await?.ok_or_else(|| ArchiveFault::Missing(key.clone()))?;
            let note = String::from_utf8_lossy(&bytes).into_owned();
            let head = self.log.open(&note).map_err(|_| ArchiveFault::Conflict(key.clone()))?.checkpoint;
            if head.size != done {
                return Err(ArchiveFault::Conflict(key));
            }
            let reader = self.ledger.clone();
            match blocking(move || begins_with(&reader, &head)).await {
                Ok(true) => {}
                Ok(false) | Err(ArchiveFault::Ledger(ArchiveError::Wrong(_))) => {
                    return Err(ArchiveFault::Ahead { archived: done });
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(Progress { done, below: 0, mark: self.resumed().await? })
    }

    /// The end of the last recording file of which there is anything, all of which is what the file has. Files before it
    /// are there to their end.
    async fn resumed(&self) -> Result<RecordingMark, ArchiveFault> {
        let Some(file) = self.bucket.recordings().await?.pop() else { return Ok(RecordingMark::default()) };
        let mut mark = RecordingMark { file, offset: 0 };
        for (at, length) in self.bucket.pieces(file).await? {
            if at != mark {
                break;
            }
            let key = at.key();
            let (bytes, _) = self.bucket.get(&key).await?.ok_or_else(|| ArchiveFault::Missing(key.clone()))?;
            let (reader, piece) = (self.recordings.clone(), RecordingPiece { mark: at, bytes });
            if length == 0 || !blocking(move || Ok(reader.agrees(&piece)?)).await? {
                return Err(ArchiveFault::Conflict(key));
            }
            mark.offset = mark.offset.saturating_add(length);
        }
        Ok(mark)
    }

    /// Archives what is new of the recordings. False: a shorter piece was there, and it goes on behind that.
    async fn pieces(&self, mark: &mut RecordingMark) -> Result<bool, ArchiveFault> {
        let (reader, from) = (self.recordings.clone(), *mark);
        let (mut pieces, reading) =
            reading(move |send: mpsc::Sender<RecordingPiece>| Ok(reader.pieces(from, |piece| flow(&send, piece))?));
        while let Some(piece) = pieces.recv().await {
            let there = self.bucket.piece(&piece).await?;
            *mark = RecordingMark { offset: piece.mark.offset.saturating_add(there), ..piece.mark };
            if there != piece.bytes.len() as u64 {
                return Ok(false);
            }
        }
        ended(reading.await).map(|()| true)
    }

    /// Archives bundles and tiles. What is in order there is not read again, should the rest fail.
    async fn bundles(&self, progress: &mut Progress, head: &Checkpoint) -> Result<(), ArchiveFault> {
        let (reader, from, to) = (self.ledger.clone(), progress.below.max(progress.done), head.clone());
        let (mut objects, reading) = reading(move |send: mpsc::Sender<ArchiveObject>| {
            archive_entries(&reader, from, &to, &mut |object| flow(&send, object))
        });
        let objects = stream::poll_fn(move |context| objects.poll_recv(context));
        let put = |object: ArchiveObject| async move {
            self.bucket.put(&object.key, object.bytes).await.map(|()| object.below)
        };
        let mut there = std::pin::pin!(objects.map(put).buffered(TOGETHER));
        while let Some(below) = there.next().await {
            progress.below = progress.below.max(below?);
        }
        ended(reading.await)
    }
}

/// Reads on a thread of its own, not faster than what was read is taken; ends when nobody takes it any more.
fn reading<T: Send + 'static>(
    read: impl FnOnce(mpsc::Sender<T>) -> Result<(), ArchiveError> + Send + 'static,
) -> (mpsc::Receiver<T>, JoinHandle<Result<(), ArchiveError>>) {
    let (send, receive) = mpsc::channel(WAITING);
    (receive, spawn_blocking(move || read(send)))
}

fn flow<T>(send: &mpsc::Sender<T>, item: T) -> ControlFlow<()> {
    if send.blocking_send(item).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveFault> {
    ended(spawn_blocking(read).await)
}

fn ended<T>(read: Result<Result<T, ArchiveError>, tokio::task::JoinError>) -> Result<T, ArchiveFault> {
    match read {
        Ok(read) => Ok(read?),
        Err(error) => Err(ArchiveFault::Ledger(ArchiveError::Io(std::io::Error::other(error)))),
    }
}
