//! The files of a registry of logs: its key, its entries, its checkpoints. One process writes at a time; readers need nothing
//! from it. Format: `docs/spec/registry.md`. Not here: what fits into a registry and what it says of logs, which is
//! `chancery-ledger`'s.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chancery_ledger::{
    Checkpoint, LedgerError, LogSigner, LogVerifier, REGISTRY_BYTES_MAX, Registration, Registry, Report,
    STAMP_BYTES_MAX, SignedCheckpoint, TimeStamp, Verdict, WitnessPolicy, read_registry,
};
use chancery_model::{Digest, Timestamp};
use zeroize::Zeroizing;

use crate::sequencer::{Directory, Volume};
use crate::state::{random, read_small, write_new};

const MARK: &str = "chancery-registry";
const MARK_TEXT: &str = "1\n";
const NAME: &str = "name";
const SEED: &str = "seed";
const ENTRIES: &str = "entries";
const CHECKPOINT: &str = "checkpoint";
const WITNESSED: &str = "witnessed";
const STAMPS: &str = "stamps";
/// The ends of the three files of a stamp; the last is written last.
const NOTE: &str = "note";
const QUESTION: &str = "tsq";
const ANSWER: &str = "tsr";
/// The last stamps are read; the others stay where they are.
const STAMPS_MAX: usize = 64;
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Why a registry was not made, opened, read or added to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is something at the path already; it is left as it is.
    #[error("{0} exists and is not empty: a registry is made once")]
    Exists(PathBuf),
    /// The path is not that of a registry.
    #[error("{0} is not a registry")]
    NotRegistry(PathBuf),
    /// Another process writes to it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// Its key is missing, of the wrong length, or readable by others.
    #[error("key file {0} is missing, damaged or readable by others")]
    Key(PathBuf),
    /// What is there is not what was signed.
    #[error("the registry does not hold: {0}")]
    Damaged(String),
    /// The entry does not fit, or the name is none.
    #[error("{0}")]
    Unfit(#[from] LedgerError),
    /// The file system refused.
    #[error("the registry's files cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// What a reader finds in the directory of a registry. Nothing of it is judged yet.
#[derive(Clone, Debug)]
pub struct RegistryFiles {
    /// The name it gives itself.
    pub name: String,
    /// The bytes of its entries.
    pub entries: Vec<u8>,
    /// Its checkpoints: the last one, behind the last that enough witnesses cosigned, if there is one.
    pub checkpoints: Vec<String>,
    /// Its last stamps, oldest first.
    pub stamps: Vec<TimeStamp>,
}

impl RegistryFiles {
    /// Reads them beside a writer: the checkpoints first, so that entries are there for all of them.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        if read_small(&path.join(MARK)).ok().as_deref() != Some(MARK_TEXT) {
            return Err(RegistryError::NotRegistry(path.to_owned()));
        }
        let name = read_small(&path.join(NAME))?.trim_end().to_owned();
        let mut checkpoints = Vec::new();
        for file in [WITNESSED, CHECKPOINT] {
            match bounded(&path.join(file), NOTE_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                bytes => checkpoints.push(text(file, bytes?)?),
            }
        }
        let stamps = stamps(path)?;
        Ok(Self { name, stamps, entries: bounded(&path.join(ENTRIES), REGISTRY_BYTES_MAX)?, checkpoints })
    }

    /// Verifies them with the key from outside.
    pub fn verify(&self, key: &LogVerifier, policy: Option<&WitnessPolicy>) -> (Registry, Report) {
        let stamped = self.stamps.iter().map(|stamp| stamp.note.clone());
        let checkpoints: Vec<String> = stamped.chain(self.checkpoints.iter().cloned()).collect();
        read_registry(key, &self.entries, &checkpoints, policy)
    }
}

/// A stamp is there when its answer is.
fn stamps(path: &Path) -> Result<Vec<TimeStamp>, RegistryError> {
    let folder = path.join(STAMPS);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut answers = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|end| end == ANSWER) {
            answers.push(file);
        }
    }
    answers.sort();
    let last = answers.split_off(answers.len().saturating_sub(STAMPS_MAX));
    let read = |answer: PathBuf| {
        let note = text("a stamp's note", bounded(&answer.with_extension(NOTE), NOTE_BYTES_MAX)?)?;
        let request = bounded(&answer.with_extension(QUESTION), STAMP_BYTES_MAX as u64)?;
        Ok(TimeStamp { note, request, response: bounded(&answer, STAMP_BYTES_MAX as u64)? })
    };
    last.into_iter().map(read).collect()
}

fn bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file longer than its limit"));
    }
    Ok(bytes)
}

fn text(file: &str, bytes: Vec<u8>) -> Result<String, RegistryError> {
    String::from_utf8(bytes).map_err(|_| RegistryError::Damaged(format!("{file} is not text")))
}

/// A registry that may be added to: no other process writes to it.
pub struct RegistryDir {
    path: PathBuf,
    volume: Directory,
    signer: LogSigner,
    registry: Registry,
}

impl std::fmt::Debug for RegistryDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryDir").field("path", &self.path).field("signer", &self.signer).finish_non_exhaustive()
    }
}

impl RegistryDir {
    /// Makes a registry of this name with a fresh key. The path must be absent or an empty directory.
    pub fn create(path: &Path, name: &str) -> Result<Self, RegistryError> {
        let empty = Registry::new(name)?;
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(RegistryError::Exists(path.to_owned())),
            Ok(false) => fs::set_permissions(path, fs::Permissions::from_mode(0o700))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            }
            Err(error) => return Err(error.into()),
        }
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut *seed)?;
        write_new(&path.join(SEED), &*seed)?;
        write_new(&path.join(NAME), format!("{name}\n").as_bytes())?;
        write_new(&path.join(ENTRIES), b"")?;
        write_new(&path.join(CHECKPOINT), LogSigner::from_seed(name, &seed)?.sign(&empty.head()).note.as_bytes())?;
        // The mark comes last: a crash before it leaves what `open` does not take for a registry.
        write_new(&path.join(MARK), MARK_TEXT.as_bytes())?;
        File::open(path)?.sync_all()?;
        Self::open(path)
    }

    /// Opens a registry for this process alone. What no checkpoint covers was never promised to anybody, and is cut off.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        if read_small(&path.join(MARK)).ok().as_deref() != Some(MARK_TEXT) {
            return Err(RegistryError::NotRegistry(path.to_owned()));
        }
        let volume = Directory::exclusive(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => RegistryError::InUse(path.to_owned()),
            _ => error.into(),
        })?;
        let files = RegistryFiles::read(path)?;
        let signer = LogSigner::from_seed(&files.name, &*seed(path)?)?;
        let (registry, report) = files.verify(&LogVerifier::parse(&signer.verifier_key())?, None);
        if let Some(wrong) = report.findings.iter().find(|one| one.verdict == Verdict::Fail) {
            return Err(RegistryError::Damaged(wrong.to_string()));
        }
        let opened = Self { path: path.to_owned(), volume, signer, registry };
        opened.cut(&files.entries)?;
        Ok(opened)
    }

    fn cut(&self, entries: &[u8]) -> Result<(), RegistryError> {
        let signed = usize::try_from(self.registry.head().size).unwrap_or(usize::MAX);
        let covered: usize = entries.split_inclusive(|byte| *byte == b'\n').take(signed).map(<[u8]>::len).sum();
        if covered < entries.len() {
            tracing::warn!(bytes = entries.len() - covered, "entries that no checkpoint covers are cut off");
            let file = OpenOptions::new().write(true).open(self.path.join(ENTRIES))?;
            file.set_len(covered as u64)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// What it says.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
    /// Its public key in the form of signed-note.
    pub fn verifier_key(&self) -> String {
        self.signer.verifier_key()
    }
    /// Its head, signed.
    pub fn published(&self) -> SignedCheckpoint {
        self.signer.sign(&self.registry.head())
    }

    /// Writes an entry about `log`, and the checkpoint that covers it.
    pub fn register(&mut self, log: &str, what: Registration, now: Timestamp) -> Result<Checkpoint, RegistryError> {
        let line = self.registry.line(log, what, now)?;
        let mut file = OpenOptions::new().append(true).open(self.path.join(ENTRIES))?;
        if file.metadata()?.len() + line.len() as u64 + 1 > REGISTRY_BYTES_MAX {
            return Err(LedgerError::LimitReached("the registry is full").into());
        }
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        // If we crash here, no checkpoint covers the line: the next writer cuts it off.
        self.registry.push(line.as_bytes())?;
        let signed = self.published();
        self.volume.replace(CHECKPOINT, signed.note.as_bytes())?;
        Ok(signed.checkpoint)
    }

    /// The proof that the registry of `old` entries is the beginning of what it is.
    pub fn consistency(&self, old: u64) -> Option<Vec<Digest>> {
        self.registry.consistency(old)
    }
    /// Keeps what an authority said of a head. If we crash before the last of the files, there is no stamp.
    pub fn keep_stamp(&self, stamp: &TimeStamp) -> Result<(), RegistryError> {
        let size = LogVerifier::parse(&self.verifier_key())?.open(&stamp.note)?.checkpoint.size;
        let name = |end: &str| format!("{STAMPS}/{size:020}.{end}");
        // Not replaced: a crash in between would leave the answer to another request.
        if self.path.join(name(ANSWER)).exists() {
            return Err(LedgerError::Misuse("this head is stamped already").into());
        }
        self.volume.replace(&name(NOTE), stamp.note.as_bytes())?;
        self.volume.replace(&name(QUESTION), &stamp.request)?;
        Ok(self.volume.replace(&name(ANSWER), &stamp.response)?)
    }
    /// Keeps the published head with the cosignatures that it got.
    pub fn keep_witnessed(&self, note: &str) -> io::Result<()> {
        self.volume.replace(WITNESSED, note.as_bytes())
    }
}

fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, RegistryError> {
    let path = path.join(SEED);
    let bad = || RegistryError::Key(path.clone());
    let mut file = File::open(&path).map_err(|_| bad())?;
    let meta = file.metadata()?;
    if meta.len() != 32 || meta.permissions().mode() & 0o077 != 0 {
        return Err(bad());
    }
    let mut seed = Zeroizing::new([0; 32]);
    file.read_exact(&mut *seed).map_err(|_| bad())?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use chancery_ledger::{Grew, RegisteredHead, Roots};

    use super::*;

    /// A directory that goes when the test does.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let mut id = [0; 8];
            random(&mut id).expect("the kernel gives random bytes");
            Self(std::env::temp_dir().join(format!("chancery-registry-{:016x}", u64::from_be_bytes(id))))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn roots(name: &str, seed: u8) -> Roots {
        let key = |name: &str, seed| LogSigner::from_seed(name, &[seed; 32]).expect("a seed").verifier_key();
        Roots::parse(&format!("{}\n{}\n", key(name, seed), key(&format!("{name}/epoch/0"), seed + 1))).expect("keys")
    }

    fn head(name: &str, seed: u8, size: u64) -> Registration {
        let head = Checkpoint { origin: name.to_owned(), size, root: Digest([size as u8; 32]) };
        let signed = LogSigner::from_seed(name, &[seed; 32]).expect("a seed").sign(&head);
        Registration::Head(RegisteredHead::of(&signed, Grew::First))
    }

    #[test]
    fn a_registry_is_made_once_written_by_one_and_read_by_all() {
        let place = Place::new();
        assert!(matches!(RegistryDir::open(&place.0), Err(RegistryError::NotRegistry(_))));
        assert!(matches!(RegistryDir::create(&place.0, "no name"), Err(RegistryError::Unfit(_))));
        let mut made = RegistryDir::create(&place.0, "registry.test/r").expect("a fresh path");
        let key = LogVerifier::parse(&made.verifier_key()).expect("own key");
        assert!(matches!(RegistryDir::create(&place.0, "registry.test/r"), Err(RegistryError::Exists(_))));
        assert!(matches!(RegistryDir::open(&place.0), Err(RegistryError::InUse(_))));
        made.register("gw/a", Registration::Join(roots("gw/a", 1)), Timestamp(5)).expect("fits");
        assert!(matches!(made.register("gw/b", head("gw/b", 3, 1), Timestamp(6)), Err(RegistryError::Unfit(_))));
        let (registry, report) = RegistryFiles::read(&place.0).expect("beside the writer").verify(&key, None);
        assert_eq!((report.verdict(), registry.head()), (Verdict::Pass, made.registry().head()));
        drop(made);
        let mut made = RegistryDir::open(&place.0).expect("the lock went");
        made.register("gw/a", head("gw/a", 1, 4), Timestamp(7)).expect("fits");
        assert_eq!(made.registry().head().size, 2);
        drop(made);
        fs::set_permissions(place.0.join(SEED), fs::Permissions::from_mode(0o640)).expect("own file");
        assert!(matches!(RegistryDir::open(&place.0), Err(RegistryError::Key(_))));
    }

    #[test]
    fn what_a_crash_left_is_cut_off_and_what_was_signed_is_not() {
        let place = Place::new();
        let mut made = RegistryDir::create(&place.0, "registry.test/r").expect("a fresh path");
        made.register("gw/a", Registration::Join(roots("gw/a", 1)), Timestamp(5)).expect("fits");
        let before = made.registry().head();
        drop(made);
        let entries = place.0.join(ENTRIES);
        let good = fs::read(&entries).expect("own file");
        for left in ["{\"grew\":\"fir", "{\"a whole line\":1}\n", "two\nlines\n"] {
            fs::write(&entries, [good.as_slice(), left.as_bytes()].concat()).expect("own file");
            assert_eq!(RegistryDir::open(&place.0).expect("it holds").registry().head(), before);
            assert_eq!(fs::read(&entries).expect("own file"), good, "{left}");
        }
        for bad in [&good[..good.len() - 1], &[b"x", &good[1..]].concat(), b""] {
            fs::write(&entries, bad).expect("own file");
            assert!(matches!(RegistryDir::open(&place.0), Err(RegistryError::Damaged(_))));
            assert_eq!(fs::read(&entries).expect("own file"), bad, "what does not hold is left as it is");
        }
    }
}
