//! The keys of epochs: made, kept while their epoch lasts, and put out of the file when it has ended. Not here: what an
//! epoch seals, which is `chancery-ledger`'s.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_ledger::{Entry, EpochSigner, Epochs as Known, KeyEpoch, LedgerError, LogSigner};
use chancery_model::Digest;
use zeroize::Zeroizing;

use super::volume::{Volume, read_whole};
use super::{OpenError, Options, Shared, Stall, is_full};

/// The file of the seeds: a line for each, number and hexadecimal digits.
const FILE: &str = "epoch";
const FILE_BYTES_MAX: u64 = 1024;
/// What a full disk kept from being done is tried again so often.
const RETRY: Duration = Duration::from_secs(1);

/// The seed of an epoch's key.
struct Seed {
    number: u64,
    bytes: Zeroizing<[u8; 32]>,
}

impl Seed {
    fn fresh(number: u64) -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        crate::random(bytes.as_mut())?;
        Ok(Self { number, bytes })
    }
    fn signer(&self, origin: &str) -> Result<EpochSigner, LedgerError> {
        EpochSigner::from_seed(origin, self.number, &self.bytes)
    }
    fn parse(line: &str) -> Option<Self> {
        let (number, digits) = line.split_once(' ')?;
        let mut bytes = Zeroizing::new([0; 32]);
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self { number: number.parse().ok()?, bytes })
    }
}

/// Where seeds are kept.
pub(super) struct Keys(pub(super) Arc<dyn Volume>);

impl Keys {
    fn read(&self) -> Result<Vec<Seed>, OpenError> {
        let blob = match self.0.open(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            blob => blob?,
        };
        let text = Zeroizing::new(read_whole(blob.as_ref(), FILE_BYTES_MAX)?);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        Ok(text.lines().filter_map(Seed::parse).collect())
    }
    fn write(&self, seeds: &[&Seed]) -> io::Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(256));
        for seed in seeds {
            text.push_str(&format!("{} ", seed.number));
            for byte in seed.bytes.iter() {
                text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
                text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
            }
            text.push('\n');
        }
        self.0.replace(FILE, text.as_bytes())
    }
}

/// The running epoch, as the thread that ends it knows it.
pub(super) struct Epochs {
    keys: Keys,
    seed: Seed,
    began: Instant,
    /// The index of its entry.
    first: u64,
    /// The file still holds the key of the epoch before: until the entry is on disk, the log may end before it.
    former: bool,
    /// When what could not be done for lack of space, or with this clock, is tried again.
    again: Option<Instant>,
}

/// How this process begins: its epoch, the signer of it, and the entry.
pub(super) type Begun = (Epochs, EpochSigner, KeyEpoch);

impl Epochs {
    /// Begins the epoch of a process. `size` and `root` are those of the log as it was found.
    pub(super) fn begin(
        keys: Keys,
        log: &LogSigner,
        origin: &str,
        known: Option<Known>,
        (size, root): (u64, Digest),
        options: &Options,
    ) -> Result<Begun, OpenError> {
        let misuse = |error: LedgerError| OpenError::Misuse(error.to_string());
        let life = life_ms(options);
        let Some(known) = known else {
            if size > 0 {
                return Err(OpenError::Misuse("the log has no epochs".into()));
            }
            let seed = Seed::fresh(0)?;
            let signer = seed.signer(origin).map_err(misuse)?;
            // If we crash before its entry is on disk, the ledger is still new and gets another key.
            keys.write(&[&seed])?;
            let entry = signer.begin(log, life, root);
            return Ok((
                Self { keys, seed, began: Instant::now(), first: 0, former: false, again: None },
                signer,
                entry,
            ));
        };
        let last = known.last.number;
        let mut signers = keys.read()?.into_iter().filter(|seed| seed.number == last);
        let running = signers.find_map(|seed| {
            let signer = seed.signer(origin).ok().filter(|signer| signer.public_key() == known.last.key)?;
            Some((seed, signer))
        });
        let Some((before, ending)) = running else { return Err(OpenError::EpochKey { number: last }) };
        let seed = Seed::fresh(last.saturating_add(1))?;
        let signer = seed.signer(origin).map_err(misuse)?;
        keys.write(&[&before, &seed])?;
        let entry = signer.succeed(&ending, life, size, root);
        Ok((Self { keys, seed, began: Instant::now(), first: size, former: true, again: None }, signer, entry))
    }

    fn is_due(&self, size: u64, options: &Options) -> bool {
        let lasted = self.began.elapsed();
        lasted >= options.epoch
            || (size.saturating_sub(self.first) >= options.epoch_entries && lasted >= options.epoch_least)
    }

    /// Ends the epoch if its time is over. The entry is placed, not yet on disk; the next round is hurried.
    pub(super) fn turn(&mut self, shared: &Shared, size: u64) -> Result<(), Stall> {
        if self.former || !self.is_due(size, &shared.options) || self.waits() {
            return Ok(());
        }
        let fail = |error: io::Error| shared.failed(&mut shared.lock(), &error);
        let seed = Seed::fresh(self.seed.number.saturating_add(1)).map_err(fail)?;
        match self.keys.write(&[&self.seed, &seed]) {
            // Nothing new is taken as long as the disk is full.
            Err(error) if is_full(&error) => {
                self.wait();
                return Ok(());
            }
            done => done.map_err(fail)?,
        }
        let mut head = shared.lock();
        let signer = seed.signer(head.log.origin()).map_err(Stall::Refused)?;
        let (size, root) = (head.log.size(), shared.tree().root_with(&head.leaves));
        let entry = signer.succeed(&head.epoch, life_ms(&shared.options), size, root);
        if let Err(stall) = shared.append_entry(&mut head, &Entry::KeyEpoch(entry)) {
            drop(head);
            tracing::warn!(%stall, "an epoch of the ledger's keys is over and cannot be ended");
            self.wait();
            return Ok(());
        }
        // The key that ended goes with the last head that it signs.
        head.epoch = Arc::new(signer);
        head.wanted = true;
        (self.seed, self.began, self.first, self.former) = (seed, Instant::now(), size, true);
        Ok(())
    }

    /// Entries below `durable` are on disk: the key of an epoch that ended there is put out.
    pub(super) fn settle(&mut self, durable: u64) -> io::Result<()> {
        if !self.former || durable <= self.first || self.waits() {
            return Ok(());
        }
        match self.keys.write(&[&self.seed]) {
            Err(error) if is_full(&error) => self.wait(),
            done => {
                done?;
                self.former = false;
            }
        }
        Ok(())
    }

    fn wait(&mut self) {
        self.again = Instant::now().checked_add(RETRY);
    }
    fn waits(&self) -> bool {
        self.again.is_some_and(|again| Instant::now() < again)
    }
}

fn life_ms(options: &Options) -> u64 {
    u64::try_from(options.epoch.as_millis()).unwrap_or(u64::MAX)
}
