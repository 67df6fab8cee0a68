//! A stand-alone witness: the file with its key and the last head of each log, and the law by which it cosigns. A head is
//! judged, then written to the disk, then signed, all under one lock: no two requests pass each other, and no crash leaves
//! a cosignature of a head that the witness has forgotten.
//!
//! The file's format is `docs/spec/witness.md`. Not here: HTTP, and what a request must prove, which is `chancery-ledger`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chancery_ledger::{AddCheckpoint, Checkpoint, Cosigner, Hasher, LogVerifier, Unwitnessed, WitnessedLog};
use chancery_model::Digest;
use zeroize::Zeroizing;

const MARK: &str = "chancery-witness 1";
const LOGS_MAX: usize = 1000;
/// A line of a log is at most about 500 bytes: room for [`LOGS_MAX`] of them, twice.
const STATE_BYTES_MAX: u64 = 1 << 20;
const EVIDENCE_MAX: usize = 100;
/// How many of these may be heads without a proof. Anybody who has a head of the log can send it with a bad proof; a second
/// root for a size comes from the log's key alone, and finds room after however many of the others.
const UNPROVEN_MAX: usize = 50;

/// Why the state of a witness was not made, opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// There is something at the path already; it is left as it is.
    #[error("{0} exists: the state of a witness is made once")]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The key in it is not the owner's alone.
    #[error("{0} can be read by others")]
    Readable(PathBuf),
    /// A byte of it is not as the witness wrote it.
    #[error("{0} is not the state of a witness, or was cut or edited")]
    Damaged(PathBuf),
    /// The name cannot be that of a key.
    #[error("a witness's name is 1 to 200 printable ASCII characters without + \" \\")]
    Name,
    /// The origin has a key already. A second one would be a second history.
    #[error("the log {0} has a key here already")]
    Known(String),
    /// There is no room for another log.
    #[error("a witness has at most {max} logs", max = LOGS_MAX)]
    Full,
    /// The file system refused.
    #[error("the state of the witness cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// Why a request got no cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not earn one.
    Unwitnessed(Unwitnessed),
    /// The head could not be written down, so nothing was signed (500).
    Unwritten,
    /// The clock is behind the log's last cosignature, and a witness does not say of two heads that each was the largest
    /// (503).
    Clock,
    /// What the disk holds is not known since a write of this process failed half way (503).
    Broken,
}

impl Refused {
    /// The HTTP status (C2SP tlog-witness, add-checkpoint).
    pub fn status(self) -> u16 {
        match self {
            Self::Unwitnessed(why) => why.status(),
            Self::Unwritten => 500,
            Self::Clock | Self::Broken => 503,
        }
    }
}

/// The last head of a log that a witness cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The log and the head.
    pub log: WitnessedLog,
    /// When, in seconds since 1970 UTC; 0 if never.
    pub time: u64,
    /// The log's own signature of the head in base64; empty if there is none. With it the file shows what the log said, and
    /// a head that was edited does not pass for one.
    signature: String,
}

impl Cosigned {
    fn never(key: LogVerifier) -> Self {
        Self { log: WitnessedLog::new(key), time: 0, signature: String::new() }
    }
    fn head(&self) -> Checkpoint {
        Checkpoint { origin: self.log.key.name().to_owned(), size: self.log.size, root: self.log.root }
    }
    /// The head as the log signed it; empty if nothing was cosigned.
    fn note(&self) -> String {
        match self.time {
            0 => String::new(),
            _ => format!("{}\n\u{2014} {} {}\n", self.head().body(), self.log.key.name(), self.signature),
        }
    }
    fn parse(key: &str, size: &str, root: &str, time: &str, signature: &str) -> Option<Self> {
        let key = LogVerifier::parse(key).ok()?;
        let log = WitnessedLog { key, size: size.parse().ok()?, root: Digest::from_hex(root)? };
        let signature = if signature == "-" { String::new() } else { signature.to_owned() };
        let read = Self { log, time: time.parse().ok()?, signature };
        let holds = match read.time {
            0 => read == Self::never(read.log.key.clone()),
            _ => read.log.key.open(&read.note()).is_ok(),
        };
        holds.then_some(read)
    }
}

/// What the file of a witness says.
pub struct WitnessState {
    name: String,
    seed: Zeroizing<[u8; 32]>,
    verifier_key: String,
    logs: BTreeMap<String, Cosigned>,
}

impl std::fmt::Debug for WitnessState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WitnessState").field("name", &self.name).field("logs", &self.logs.len()).finish_non_exhaustive()
    }
}

impl WitnessState {
    /// Reads the file beside whoever serves from it: it is replaced as a whole.
    pub fn read(path: &Path) -> Result<Self, WitnessError> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(WitnessError::Readable(path.to_owned()));
        }
        let damaged = || WitnessError::Damaged(path.to_owned());
        let length = usize::try_from(meta.len().min(STATE_BYTES_MAX)).map_err(|_| damaged())?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 64));
        file.take(STATE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > STATE_BYTES_MAX {
            return Err(damaged());
        }
        std::str::from_utf8(&bytes).ok().and_then(Self::parse).ok_or_else(damaged)
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its public key in the form of signed-note, with the type of cosignatures.
    pub fn verifier_key(&self) -> &str {
        &self.verifier_key
    }
    /// Its logs, by origin.
    pub fn logs(&self) -> impl Iterator<Item = &Cosigned> {
        self.logs.values()
    }

    fn fresh(name: &str, seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        let verifier_key = Cosigner::from_seed(name, &seed).ok()?.verifier_key();
        Some(Self { name: name.to_owned(), seed, verifier_key, logs: BTreeMap::new() })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|mark| *mark == MARK)?;
        let name = lines.next()?.strip_prefix("name ")?;
        let seed = Digest::from_hex(lines.next()?.strip_prefix("seed ")?)?;
        let mut state = Self::fresh(name, Zeroizing::new(seed.0))?;
        for line in lines {
            match *line.split(' ').collect::<Vec<_>>().as_slice() {
                ["log", key, size, root, time, signature] if state.logs.len() < LOGS_MAX => {
                    let log = Cosigned::parse(key, size, root, time, signature)?;
                    state.logs.insert(log.log.key.name().to_owned(), log);
                }
                ["sum", _] => {}
                _ => return None,
            }
        }
        // One state has one spelling: order, sum and last line end are compared with the rest.
        (*state.text() == text).then_some(state)
    }

    /// The whole file. The buffer does not grow: what it grew out of would keep the seed.
    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024 + 640 * self.logs.len()));
        // Writing to a string does not fail.
        let _ = write!(text, "{MARK}\nname {}\nseed {}\n", self.name, Digest(*self.seed));
        for known in self.logs.values() {
            let signature = if known.signature.is_empty() { "-" } else { &known.signature };
            let log = &known.log;
            let key = log.key.verifier_key();
            let _ = writeln!(text, "log {key} {} {} {} {signature}", log.size, log.root, known.time);
        }
        let sum = sha256(&text);
        let _ = writeln!(text, "sum {sum}");
        text
    }
}

fn sha256(text: &str) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(text.as_bytes());
    hasher.finish()
}

/// A write that was not done.
enum WriteFault {
    /// The old file stands for certain.
    Before(io::Error),
    /// The disk may have either.
    Within(io::Error),
}

impl From<WriteFault> for WitnessError {
    fn from(fault: WriteFault) -> Self {
        let (WriteFault::Before(error) | WriteFault::Within(error)) = fault;
        Self::Io(error)
    }
}

/// Replaces the file; a test puts a disk in its place that fails.
type Replace = Box<dyn FnMut(&Path, &str) -> Result<(), WriteFault> + Send>;

/// A witness that may sign: no other process has its file.
pub struct Witness {
    path: PathBuf,
    cosigner: Cosigner,
    desk: Mutex<Desk>,
    _lock: File,
}

/// What the one lock is for.
struct Desk {
    state: WitnessState,
    /// The origins that are answered; `None`: all that are known.
    only: Option<BTreeSet<String>>,
    replace: Replace,
    broken: bool,
    evidence_full: bool,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("path", &self.path).field("cosigner", &self.cosigner).finish_non_exhaustive()
    }
}

impl Witness {
    /// Makes the file of a witness of this name with a fresh key. Nothing is overwritten.
    pub fn create(path: &Path, name: &str) -> Result<Self, WitnessError> {
        let mut seed = Zeroizing::new([0; 32]);
        crate::random(&mut *seed)?;
        let state = WitnessState::fresh(name, seed).ok_or(WitnessError::Name)?;
        if fs::symlink_metadata(path).is_ok() {
            return Err(WitnessError::Exists(path.to_owned()));
        }
        let file = path.file_name().ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from)?;
        let path = fs::canonicalize(directory(path))?.join(file);
        let lock = locked(&path)?;
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(WitnessError::Exists(path)),
            file => file?,
        };
        // If we crash before the end, what is there lacks its sum, and nothing was signed with its key.
        file.write_all(state.text().as_bytes())?;
        file.sync_all()?;
        File::open(directory(&path))?.sync_all()?;
        Self::of(path, state, lock)
    }

    /// Opens the file for this process alone. It is written once at the start: a disk that does not take it is seen now, and
    /// a head that an earlier process left between memory and disk is on the disk before anything is signed on top of it.
    pub fn open(path: &Path) -> Result<Self, WitnessError> {
        // The lock and the file that is replaced are beside the file itself, whatever name leads to it.
        let path = fs::canonicalize(path)?;
        let lock = locked(&path)?;
        let state = WitnessState::read(&path)?;
        replace(&path, &state.text())?;
        Self::of(path, state, lock)
    }

    fn of(path: PathBuf, state: WitnessState, lock: File) -> Result<Self, WitnessError> {
        let cosigner = Cosigner::from_seed(&state.name, &state.seed).map_err(|_| WitnessError::Name)?;
        let desk = Desk { state, only: None, replace: Box::new(replace), broken: false, evidence_full: false };
        Ok(Self { path, cosigner, desk: Mutex::new(desk), _lock: lock })
    }

    /// Its public key in the form of signed-note, with the type of cosignatures.
    pub fn verifier_key(&self) -> String {
        self.cosigner.verifier_key()
    }
    /// Its logs, by origin.
    pub fn logs(&self) -> Vec<Cosigned> {
        self.reading().state.logs.values().cloned().collect()
    }

    /// Lets it witness the log with this key, from the first head that it is shown.
    pub fn add(&self, key: LogVerifier) -> Result<(), WitnessError> {
        let mut desk = self.reading();
        let origin = key.name().to_owned();
        if desk.state.logs.contains_key(&origin) {
            return Err(WitnessError::Known(origin));
        }
        if desk.state.logs.len() >= LOGS_MAX {
            return Err(WitnessError::Full);
        }
        desk.put(&self.path, Cosigned::never(key)).map_err(WitnessError::from)
    }

    /// From now on it answers these logs alone. What it knows of others is kept: a log that comes back finds its last head.
    pub fn only(&self, origins: impl IntoIterator<Item = String>) {
        self.reading().only = Some(origins.into_iter().collect());
    }

    /// Takes times of former cosignatures that are later than `now` (seconds since 1970 UTC) for those of a clock that ran
    /// ahead. The file says so with the next head.
    pub fn forget_times(&self, now: u64) {
        for known in self.reading().state.logs.values_mut() {
            known.time = known.time.min(now.max(1));
        }
    }

    /// Answers the body of an add-checkpoint request (C2SP tlog-witness) at `now`, in seconds since 1970 UTC, with the line
    /// of a cosignature. Blocks on the disk.
    pub fn witness(&self, body: &str, now: u64) -> Result<String, Refused> {
        // A panic under the lock would leave it open what was written.
        let mut desk = self.desk.lock().map_err(|_| Refused::Broken)?;
        if desk.broken {
            return Err(Refused::Broken);
        }
        let (request, claimed) = parse(body).map_err(Refused::Unwitnessed)?;
        let asked_for = desk.only.as_ref().is_none_or(|only| only.contains(claimed.origin));
        let known = desk.state.logs.get(claimed.origin).filter(|_| asked_for);
        let known = known.ok_or(Refused::Unwitnessed(Unwitnessed::Unknown))?;
        let sent = claimed.checkpoint.ok_or(Refused::Unwitnessed(Unwitnessed::Malformed))?;
        let head = match known.log.judge(&request) {
            Ok(head) => head,
            Err(why) => {
                if let Some(fork) = Fork::of(known, &sent, why) {
                    let kept = evidence(&self.path, &self.cosigner, known, &sent, fork, body, now);
                    desk.tell(&sent, fork, kept);
                }
                return Err(Refused::Unwitnessed(why));
            }
        };
        if now < known.time.max(1) || now > i64::MAX as u64 {
            tracing::error!(origin = head.origin, now, last = known.time, "the clock is behind the last cosignature");
            return Err(Refused::Clock);
        }
        let next = signed(known.log.key.clone(), &head, &request.note, now)
            .ok_or(Refused::Unwitnessed(Unwitnessed::Unsigned))?;
        // The same head within the same second is on disk already, and its cosignature is the same line.
        if next != *known
            && let Err(fault) = desk.put(&self.path, next)
        {
            let (WriteFault::Before(error) | WriteFault::Within(error)) = fault;
            tracing::error!(%error, broken = desk.broken, "the state of the witness cannot be written");
            return Err(Refused::Unwritten);
        }
        // If we crash here, the head is remembered and nobody has its cosignature: the log asks again.
        Ok(self.cosigner.cosign(&head, now))
    }

    /// For what signs nothing.
    fn reading(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Puts what is known of a log onto the disk, or leaves it as it was.
    fn put(&mut self, path: &Path, next: Cosigned) -> Result<(), WriteFault> {
        let origin = next.log.key.name().to_owned();
        let before = self.state.logs.insert(origin.clone(), next);
        let written = (self.replace)(path, &self.state.text());
        if let Err(fault) = &written {
            self.broken |= matches!(fault, WriteFault::Within(_));
            match before {
                Some(before) => self.state.logs.insert(origin, before),
                None => self.state.logs.remove(&origin),
            };
        }
        written
    }

    /// Tells the operator what was shown, once for each head.
    fn tell(&mut self, sent: &Checkpoint, fork: Fork, kept: io::Result<Kept>) {
        let Checkpoint { origin, size, root } = sent;
        match kept {
            Ok(Kept::Already) => {}
            Ok(Kept::In(path)) => {
                tracing::error!(origin, size, %root, fork = fork.word(), file = %path.display(), "a log may have two histories");
            }
            Ok(Kept::Full) if self.evidence_full => {}
            Ok(Kept::Full) => {
                self.evidence_full = true;
                tracing::error!(origin, size, %root, fork = fork.word(), "a log may have two histories; evidence is full");
            }
            Err(error) => {
                tracing::error!(origin, size, %root, fork = fork.word(), %error, "a log may have two histories; not kept");
            }
        }
    }
}

/// What a note says that it is, before any signature is looked at.
struct Claimed<'n> {
    origin: &'n str,
    /// `None` if the body has another form than this house's checkpoints.
    checkpoint: Option<Checkpoint>,
}

fn parse(body: &str) -> Result<(AddCheckpoint, Claimed<'_>), Unwitnessed> {
    let request = AddCheckpoint::parse(body).map_err(|_| Unwitnessed::Malformed)?;
    // The first empty line ends the proof; the last one ends the note's body (C2SP signed-note).
    let note = body.split_once("\n\n").map_or("", |(_, note)| note);
    let (text, signatures) = note.rsplit_once("\n\n").ok_or(Unwitnessed::Malformed)?;
    let signed =
        signatures.strip_suffix('\n').is_some_and(|lines| lines.lines().all(|line| line.starts_with("\u{2014} ")));
    let origin = text.split('\n').next().filter(|origin| !origin.is_empty()).ok_or(Unwitnessed::Malformed)?;
    if !signed {
        return Err(Unwitnessed::Malformed);
    }
    Ok((request, Claimed { origin, checkpoint: Checkpoint::parse(&format!("{text}\n")).ok() }))
}

/// The head with the log's signature, which is one of the note's lines.
fn signed(key: LogVerifier, head: &Checkpoint, note: &str, time: u64) -> Option<Cosigned> {
    let start = format!("\u{2014} {} ", key.name());
    let log = WitnessedLog { key, size: head.size, root: head.root };
    note.lines().filter_map(|line| line.strip_prefix(&start)).find_map(|signature| {
        let next = Cosigned { log: log.clone(), time, signature: signature.to_owned() };
        next.log.key.open(&next.note()).is_ok().then_some(next)
    })
}

/// What a refused head of the log's own key shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fork {
    /// Another root for the size that was cosigned.
    Root,
    /// No proof that the log only grew.
    Unproven,
}

impl Fork {
    /// [`WitnessedLog::judge`] gives these answers only for a head that the log's key signed.
    fn of(known: &Cosigned, sent: &Checkpoint, why: Unwitnessed) -> Option<Self> {
        let other = known.time != 0 && known.log.size == sent.size && known.log.root != sent.root;
        match why {
            Unwitnessed::Conflict(_) | Unwitnessed::Inconsistent | Unwitnessed::Malformed if other => Some(Self::Root),
            Unwitnessed::Inconsistent => Some(Self::Unproven),
            _ => None,
        }
    }
    fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unproven => "unproven",
        }
    }
}

enum Kept {
    In(PathBuf),
    Already,
    Full,
}

/// Keeps a request that shows a fork, each head once. It changes nothing of what is answered.
fn evidence(
    path: &Path,
    cosigner: &Cosigner,
    known: &Cosigned,
    sent: &Checkpoint,
    fork: Fork,
    body: &str,
    now: u64,
) -> io::Result<Kept> {
    let folder = beside(path, ".evidence");
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let id = sha256(&sent.body()).to_string();
    let end = format!("-{}.{}.txt", id.get(..16).unwrap_or_default(), fork.word());
    let (mut all, mut unproven) = (0, 0);
    for entry in fs::read_dir(&folder)?.take(2 * EVIDENCE_MAX) {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(&end) {
            return Ok(Kept::Already);
        }
        all += 1;
        unproven += usize::from(name.ends_with(".unproven.txt"));
    }
    if all >= EVIDENCE_MAX || (fork == Fork::Unproven && unproven >= UNPROVEN_MAX) {
        return Ok(Kept::Full);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let origin: String = sent.origin.chars().map(plain).collect();
    let file = folder.join(format!("{origin}-{now}{end}"));
    let text = format!(
        "chancery-evidence 1\nwitness {}\ntime {now}\nfork {}\n\nThe head that was cosigned at {}:\n\n{}\nThe request:\n\n{body}",
        cosigner.name(),
        fork.word(),
        known.time,
        known.note(),
    );
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    File::open(&folder)?.sync_all()?;
    Ok(Kept::In(file))
}

/// Puts the text in place of the file.
fn replace(path: &Path, text: &str) -> Result<(), WriteFault> {
    let temporary = beside(path, ".new");
    let write = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    // If we crash before the rename, the old file stands and the temporary one is removed by the next write.
    let file = write().map_err(WriteFault::Before)?;
    file.sync_all().map_err(WriteFault::Within)?;
    fs::rename(&temporary, path).map_err(WriteFault::Within)?;
    // If we crash before this returns, the disk has the old head or the new one; the new one is not signed yet.
    File::open(directory(path)).and_then(|directory| directory.sync_all()).map_err(WriteFault::Within)
}

/// The lock is a file beside the state: the state itself is another file after each write.
fn locked(path: &Path) -> Result<File, WitnessError> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside(path, ".lock"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(WitnessError::InUse(path.to_owned())),
        done => done.map(|()| lock).map_err(|error| WitnessError::Io(error.into())),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
