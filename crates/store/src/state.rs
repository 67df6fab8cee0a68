//! The state directory: where a gateway keeps its ledger, recordings, catalog and keys. Not here: what is in them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chancery_ledger::LogSigner;
use chancery_model::Digest;

/// Length of every key.
const KEY_BYTES: usize = 32;
const MARK: &str = "chancery-state";
const MARK_TEXT: &str = "1\n";

/// Which of the keys of a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFile {
    Log,
    Fingerprint,
    Wrap,
}

impl KeyFile {
    const ALL: [Self; 3] = [Self::Log, Self::Fingerprint, Self::Wrap];
    fn name(self) -> &'static str {
        match self {
            Self::Log => "keys/log-ed25519.seed",
            Self::Fingerprint => "keys/fingerprint-hmac.key",
            Self::Wrap => "keys/wrap.key",
        }
    }
}

/// Why a state directory was not made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// There is something at the path already; it is left as it is.
    #[error("{0} exists and is not empty: a state directory is made once")]
    Exists(PathBuf),
    /// The path is not a state directory.
    #[error("{0} is not a state directory")]
    NotState(PathBuf),
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A key file is missing, of the wrong length, or readable by others.
    #[error("key file {0} is missing, damaged or readable by others")]
    Key(PathBuf),
    /// The origin cannot name a log.
    #[error("the origin cannot name a log")]
    Origin,
    /// The file system refused.
    #[error("the state directory cannot be used")]
    Io(#[from] io::Error),
}

/// A state directory, locked for this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    origin: String,
    _lock: File,
}

impl StateDir {
    /// Makes a state directory with fresh keys, for the log named `origin`, and opens it. The path must be absent or an
    /// empty directory.
    pub fn create(path: &Path, origin: &str) -> Result<Self, StateError> {
        LogSigner::from_seed(origin, &[0; KEY_BYTES]).map_err(|_| StateError::Origin)?;
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(StateError::Exists(path.to_owned())),
            Ok(false) => fs::set_permissions(path, fs::Permissions::from_mode(0o700))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            }
            Err(error) => return Err(error.into()),
        }
        for name in ["ledger", "recordings", "keys"] {
            DirBuilder::new().mode(0o700).create(path.join(name))?;
        }
        for key in KeyFile::ALL {
            let mut bytes = [0; KEY_BYTES];
            random(&mut bytes)?;
            write_new(&path.join(key.name()), &bytes)?;
        }
        write_new(&path.join("origin"), format!("{origin}\n").as_bytes())?;
        File::open(path.join("keys"))?.sync_all()?;
        // The mark comes last: a crash before it leaves what `open` does not take for a state directory.
        write_new(&path.join(MARK), MARK_TEXT.as_bytes())?;
        File::open(path)?.sync_all()?;
        Self::open(path)
    }

    /// Opens and locks a state directory.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if read_small(&path.join(MARK)).ok().as_deref() != Some(MARK_TEXT) {
            return Err(StateError::NotState(path.to_owned()));
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::InUse(path.to_owned())),
            done => done.map_err(io::Error::from)?,
        }
        let origin = read_small(&path.join("origin"))?.trim_end().to_owned();
        let state = Self { path: path.to_owned(), origin, _lock: lock };
        for key in KeyFile::ALL {
            state.key(key)?;
        }
        state.log_signer()?;
        Ok(state)
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where the ledger is.
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger")
    }
    /// Where the recordings are.
    pub fn recordings(&self) -> PathBuf {
        self.path.join("recordings")
    }
    /// Where sealed originals are.
    pub fn sealed(&self) -> PathBuf {
        self.path.join("sealed")
    }
    /// Where the keys are.
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }
    /// Where the catalog is.
    pub fn catalog(&self) -> PathBuf {
        self.path.join("catalog.sqlite")
    }
    /// Where the texts of rule sets that were in force are.
    pub fn rules(&self) -> PathBuf {
        self.path.join("rules")
    }
    /// Keeps the text of a rule set under its digest. If we crash here, a text may lie there that was never in force.
    pub fn keep_rules(&self, digest: &Digest, text: &[u8]) -> io::Result<()> {
        let directory = self.rules();
        let path = directory.join(format!("{digest}.rules"));
        if fs::read(&path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let draft = directory.join("draft");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => write_new(&draft, text)?,
        }
        fs::rename(&draft, &path)?;
        File::open(&directory)?.sync_all()
    }
    /// The signer of the log's heads.
    pub fn log_signer(&self) -> Result<LogSigner, StateError> {
        let seed = self.key(KeyFile::Log)?;
        LogSigner::from_seed(&self.origin, &seed).map_err(|_| StateError::Origin)
    }
    /// The key of statement fingerprints (HMAC-SHA-256). Wiping it is the caller's affair.
    pub fn fingerprint_key(&self) -> Result<[u8; KEY_BYTES], StateError> {
        self.key(KeyFile::Fingerprint)
    }
    /// The key that wraps stored credentials. Wiping it is the caller's affair.
    pub fn wrap_key(&self) -> Result<[u8; KEY_BYTES], StateError> {
        self.key(KeyFile::Wrap)
    }

    fn key(&self, key: KeyFile) -> Result<[u8; KEY_BYTES], StateError> {
        let path = self.path.join(key.name());
        let bad = || StateError::Key(path.clone());
        let mut file = File::open(&path).map_err(|_| bad())?;
        let meta = file.metadata()?;
        if meta.len() != KEY_BYTES as u64 || meta.permissions().mode() & 0o077 != 0 {
            return Err(bad());
        }
        let mut bytes = [0; KEY_BYTES];
        file.read_exact(&mut bytes).map_err(|_| bad())?;
        Ok(bytes)
    }
}

/// Fills `into` from the kernel's generator.
pub fn random(into: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < into.len() {
        at += rustix::rand::getrandom(&mut into[at..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(4096).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_made_once_locked_and_refused_when_its_keys_are_open() {
        let mut id = [0; 8];
        random(&mut id).expect("the kernel gives random bytes");
        let path = std::env::temp_dir().join(format!("chancery-state-{:016x}", u64::from_be_bytes(id)));
        assert!(matches!(StateDir::open(&path), Err(StateError::NotState(_))));
        assert!(matches!(StateDir::create(&path, "not an origin"), Err(StateError::Origin)));
        let state = StateDir::create(&path, "gw.test/a").expect("a fresh path");
        assert_ne!(state.fingerprint_key().expect("made"), state.wrap_key().expect("made"));
        let public = state.log_signer().expect("made").verifier_key();
        assert!(matches!(StateDir::create(&path, "gw.test/a"), Err(StateError::Exists(_))));
        assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
        drop(state);
        let state = StateDir::open(&path).expect("the lock went");
        assert_eq!((state.origin(), state.log_signer().expect("kept").verifier_key()), ("gw.test/a", public));
        drop(state);
        let digest = Digest([7; 32]);
        let kept = || fs::read(path.join(format!("rules/{digest}.rules"))).expect("kept");
        let state = StateDir::open(&path).expect("the lock went");
        for text in ["a cut tex", "the text", "the text"] {
            state.keep_rules(&digest, text.as_bytes()).expect("there is room");
            assert_eq!(kept(), text.as_bytes());
        }
        drop(state);
        let key = path.join("keys/wrap.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("own file");
        assert!(matches!(StateDir::open(&path), Err(StateError::Key(_))));
        fs::remove_dir_all(&path).expect("own directory");
    }
}
