//! Epochs and their ladder: for a bounded time the heads of a log are signed by a key of that time, too. When its time is
//! over it signs the key that follows, together with the head of all entries so far, and is destroyed. Whoever takes the
//! keys of today cannot rewrite what was sealed before. Format and rules: `docs/spec/ledger.md`.
//!
//! Not here: randomness, clocks, and where the keys of the running epoch are kept.

use chancery_model::Digest;

use crate::crypto::is_signed;
use crate::note::{ED25519_TYPE, LogVerifier, NoteSigner, verifier_key};
use crate::view::View;
use crate::{LedgerError, LogSigner, SignedCheckpoint, Verdict};

/// The longest text of roots that is read.
const ROOTS_BYTES_MAX: usize = 4096;
/// An epoch may be over by this much before the reader doubts: the thread that ends it may be busy with a disk.
const LATE_MS: u64 = 60_000;

/// An epoch begins: what its `key.epoch` entry states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEpoch {
    /// Its number, from 0.
    pub number: u64,
    /// Its public key (Ed25519).
    pub key: [u8; 32],
    /// How long it lasts at most, in milliseconds.
    pub life_ms: u64,
    /// Entries before it: the index of the entry itself.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Over all of this, by the key of the epoch before it; by the log's key if it is the first.
    pub signature: [u8; 64],
}

impl KeyEpoch {
    /// The text that is signed.
    fn statement(&self, origin: &str) -> String {
        let hex: String = self.key.iter().map(|byte| format!("{byte:02x}")).collect();
        let Self { number, life_ms, size, root, .. } = self;
        format!("chancery/epoch/1\n{origin}\n{number}\n{hex}\n{life_ms}\n{size}\n{root}\n")
    }
}

/// The key of an epoch while it lasts. Its memory is wiped when it is dropped.
pub struct EpochSigner {
    signer: NoteSigner,
    origin: String,
    number: u64,
}

impl std::fmt::Debug for EpochSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochSigner").field("number", &self.number).finish_non_exhaustive()
    }
}

impl EpochSigner {
    /// The signer of epoch `number` of log `origin` from a 32-byte seed.
    pub fn from_seed(origin: &str, number: u64, seed: &[u8; 32]) -> Result<Self, LedgerError> {
        let signer = NoteSigner::from_seed(name(origin, number), seed)?;
        Ok(Self { signer, origin: origin.to_owned(), number })
    }
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Its public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.signer.public_key()
    }
    /// Begins the ladder of a log without entries.
    pub fn begin(&self, log: &LogSigner, life_ms: u64, root: Digest) -> KeyEpoch {
        self.signed_by(log.note_signer(), life_ms, 0, root)
    }
    /// Ends `before` over the `size` entries that have this root, and begins the epoch of this key.
    pub fn succeed(&self, before: &Self, life_ms: u64, size: u64, root: Digest) -> KeyEpoch {
        self.signed_by(&before.signer, life_ms, size, root)
    }
    fn signed_by(&self, signer: &NoteSigner, life_ms: u64, size: u64, root: Digest) -> KeyEpoch {
        let key = self.public_key();
        let mut epoch = KeyEpoch { number: self.number, key, life_ms, size, root, signature: [0; 64] };
        epoch.signature = signer.signature(epoch.statement(&self.origin).as_bytes());
        epoch
    }
    /// Adds its signature to a head whose last entry is of its epoch.
    pub fn countersign(&self, mut signed: SignedCheckpoint) -> SignedCheckpoint {
        signed.note.push_str(&self.signer.line(&signed.checkpoint.body()));
        signed
    }
    /// Its public key in the form of signed-note; of the first epoch, the ladder's root.
    pub fn verifier_key(&self) -> String {
        verifier_key(self.signer.name(), ED25519_TYPE, &self.public_key())
    }
}

/// The name under which the key of an epoch signs.
fn name(origin: &str, number: u64) -> String {
    format!("{origin}/epoch/{number}")
}

/// What a reader must hold from outside to trust a log: its key, and the key of its first epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    log: LogVerifier,
    ladder: Option<LogVerifier>,
}

impl Roots {
    /// Reads one or two verifier keys, parted by white space: the log's, and that of its first epoch.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        if text.len() > ROOTS_BYTES_MAX {
            return Err(LedgerError::Unproven("the roots are malformed"));
        }
        let mut keys = text.split_whitespace().map(LogVerifier::parse);
        let log = keys.next().ok_or(LedgerError::Unproven("no verifier key"))??;
        let ladder = keys.next().transpose()?;
        if keys.next().is_some() || ladder.as_ref().is_some_and(|key| key.name() != name(log.name(), 0)) {
            return Err(LedgerError::Unproven("the second key is not that of the log's first epoch"));
        }
        Ok(Self { log, ladder })
    }
    /// The log's key.
    pub fn log(&self) -> &LogVerifier {
        &self.log
    }
    /// The ladder's root in the form of signed-note, if it is among them.
    pub fn ladder_key(&self) -> Option<String> {
        self.ladder.as_ref().map(LogVerifier::verifier_key)
    }
    /// Whether the ladder's root is among them.
    pub fn has_ladder(&self) -> bool {
        self.ladder.is_some()
    }
    /// The text of the roots of the log with this key, as [`Roots::parse`] reads it.
    pub fn text(log: &str, first: &[u8; 32]) -> Option<String> {
        let log = LogVerifier::parse(log).ok()?;
        let first = LogVerifier::of(name(log.name(), 0), *first);
        Some(format!("{}\n{}\n", log.verifier_key(), first.verifier_key()))
    }
}

impl From<LogVerifier> for Roots {
    /// Without the ladder's root.
    fn from(log: LogVerifier) -> Self {
        Self { log, ladder: None }
    }
}

/// The ladder as far as a reader has come.
#[derive(Debug)]
pub(crate) struct Ladder {
    roots: Roots,
    step: Option<Step>,
}

#[derive(Debug)]
struct Step {
    epoch: KeyEpoch,
    verifier: LogVerifier,
    boot: String,
    mono: i64,
}

impl Ladder {
    pub(crate) fn new(roots: Roots) -> Self {
        Self { roots, step: None }
    }

    /// The entry at hand: a `key.epoch`, or any other. `root` is that of the entries before it. What is wrong, if anything.
    pub(crate) fn climb(&mut self, leaf: &View<'_>, root: impl FnOnce() -> Digest) -> Option<(Verdict, String)> {
        let Some(epoch) = leaf.epoch() else {
            let Some(step) = &self.step else {
                return Some((Verdict::Fail, "the log does not begin with an epoch".into()));
            };
            if step.boot != leaf.boot {
                return Some((Verdict::Fail, "a process that did not begin an epoch of its own".into()));
            }
            return step.doubt(leaf);
        };
        let doubt = self.step.as_ref().filter(|step| step.boot == leaf.boot).and_then(|step| step.doubt(leaf));
        let Some(epoch) = epoch else {
            return Some((Verdict::Fail, "a key.epoch entry without its fields".into()));
        };
        let fault = self.fault(&epoch, leaf, root()).map(|what| (Verdict::Fail, what));
        // A reader goes on with what is there: a fault is told of at the entry that has it.
        let verifier = LogVerifier::of(name(self.roots.log.name(), epoch.number), epoch.key);
        self.step = Some(Step { epoch, verifier, boot: leaf.boot.to_owned(), mono: leaf.mono });
        fault.or(doubt)
    }

    fn fault(&self, epoch: &KeyEpoch, leaf: &View<'_>, root: Digest) -> Option<String> {
        let log = &self.roots.log;
        let (due, signer) = match &self.step {
            None => (0, log.key()),
            Some(step) => (step.epoch.number.saturating_add(1), step.verifier.key()),
        };
        if epoch.number != due {
            return Some(format!("epoch {} where epoch {due} was expected", epoch.number));
        }
        if epoch.size != leaf.index || (due == 0 && leaf.index != 0) {
            return Some(format!("epoch {due} does not begin where it says"));
        }
        if epoch.root != root {
            return Some(format!("epoch {due} does not seal the entries before it"));
        }
        if !is_signed(&signer, epoch.statement(log.name()).as_bytes(), &epoch.signature) {
            return Some(format!("epoch {due} is not signed by the key that ended"));
        }
        let other = due == 0 && self.roots.ladder.as_ref().is_some_and(|first| first.key() != epoch.key);
        other.then(|| "the first epoch is not the one that the roots name".to_owned())
    }

    /// A head over all entries so far: the key of the epoch must have signed it.
    pub(crate) fn sealed(&self, note: &str) -> Result<(), String> {
        let Some(step) = &self.step else { return Err("a checkpoint before the first epoch".into()) };
        match step.verifier.open_signed(note) {
            Ok((_, true)) => Ok(()),
            Ok((_, false)) => Err(format!("a checkpoint lacks the signature of epoch {}", step.epoch.number)),
            Err(error) => Err(format!("the signature of epoch {}: {error}", step.epoch.number)),
        }
    }

    pub(crate) fn has_root(&self) -> bool {
        self.roots.has_ladder()
    }
}

impl Step {
    /// Whether the epoch should have ended before this entry of the same process.
    fn doubt(&self, leaf: &View<'_>) -> Option<(Verdict, String)> {
        let most = i64::try_from(self.epoch.life_ms.saturating_add(LATE_MS).saturating_mul(1000)).unwrap_or(i64::MAX);
        let what =
            || format!("epoch {} lasted longer than it should: its key was there to be taken", self.epoch.number);
        (leaf.mono.saturating_sub(self.mono) > most).then(|| (Verdict::Inconclusive, what()))
    }
}
