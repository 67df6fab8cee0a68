//! The head of a log: gives entries their index, time, line and hash, and keeps what is open. Not here: any file.

use chancery_model::{Digest, EntryRef, SessionId, Timestamp};
use foldhash::HashMap;

use crate::line::{self, Common, Tally};
use crate::staged::NOTHING;
use crate::tree::{sha256, sha256_of};
use crate::{Checkpoint, Crash, Entry, EntryKind, Leaf, LedgerError, LogSigner, Placed, Range, SignedCheckpoint};
use crate::{Staged, ToEntry};

/// How far the wall clock may fall behind the last entry before the log refuses: more than a time service steps.
const CLOCK_BACK_MAX_US: i64 = 60_000_000;

/// Both clocks, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The wall clock.
    pub wall: Timestamp,
    /// Microseconds of the monotonic clock since the process started.
    pub mono: i64,
}

/// A session that has an opening and no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    acts: u64,
    leaves: u64,
    rolling: Digest,
    running: Vec<u64>,
}

impl OpenSession {
    /// Commands that have a start and no end, in the order of their start.
    pub fn running(&self) -> &[u64] {
        &self.running
    }
}

/// What is open, by session.
pub(crate) type Sessions = HashMap<SessionId, OpenSession>;

/// The head of one log. Single writer; the caller serialises.
pub struct Log {
    origin: String,
    /// In hexadecimal.
    boot: [u8; 32],
    range: Range,
    wall: i64,
    mono: i64,
    sessions: Sessions,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("origin", &self.origin).field("size", &self.range.size()).finish_non_exhaustive()
    }
}

impl Log {
    /// An empty log. `origin` names it for ever: printable ASCII without space, `+`, quote or backslash.
    /// `boot` is a random id of this process.
    pub fn new(origin: &str, boot: [u8; 16]) -> Result<Self, LedgerError> {
        check_origin(origin)?;
        let mut hex = Vec::with_capacity(32);
        line::hex(&mut hex, &boot);
        let boot = hex.try_into().expect("two digits for each byte");
        Ok(Self {
            origin: origin.to_owned(),
            boot,
            range: Range::default(),
            wall: i64::MIN,
            mono: 0,
            sessions: Sessions::default(),
            scratch: Vec::with_capacity(1024),
        })
    }
    /// The origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.range.size()
    }
    /// The root over all entries.
    pub fn root(&self) -> Digest {
        self.range.root()
    }
    /// The wall clock of the last entry.
    pub fn last_time(&self) -> Option<Timestamp> {
        (self.wall != i64::MIN).then_some(Timestamp(self.wall))
    }
    /// Sessions that have an opening and no end, in the order of their ids.
    pub fn open_sessions(&self) -> Vec<(SessionId, &OpenSession)> {
        let mut open: Vec<_> = self.sessions.iter().map(|(id, session)| (*id, session)).collect();
        open.sort_by_key(|(id, _)| *id);
        open
    }
    /// The entries that close what a dead process left open: running commands first, then their session.
    pub fn crashes(&self) -> Vec<Entry<'static>> {
        let mut entries = Vec::new();
        for (session, open) in self.open_sessions() {
            let command = open.running.iter().map(|command| Some(*command));
            entries.extend(command.chain([None]).map(|command| Entry::Crash(Crash { session, command })));
        }
        entries
    }
    /// The signed head.
    pub fn checkpoint(&self, signer: &LogSigner) -> SignedCheckpoint {
        signer.sign(&Checkpoint { origin: self.origin.clone(), size: self.size(), root: self.root() })
    }

    /// Gives a staged subject its place and appends its line to `out`. On an error nothing has changed.
    pub fn place<T: ToEntry>(
        &mut self,
        staged: &mut Staged<T>,
        stamp: Stamp,
        out: &mut Vec<u8>,
    ) -> Result<Placed, LedgerError> {
        let entry = staged.subject.entry();
        let at = self.append(&entry, stamp, out)?;
        staged.at = Some(at);
        Ok(Placed { at })
    }

    /// Appends an entry that carries no subject.
    pub fn append(&mut self, entry: &Entry<'_>, stamp: Stamp, out: &mut Vec<u8>) -> Result<EntryRef, LedgerError> {
        if stamp.wall.0 < self.wall.saturating_sub(CLOCK_BACK_MAX_US) {
            return Err(LedgerError::Clock);
        }
        let change = Change::of(entry);
        change.check(&self.sessions)?;
        // Sorting and reading go by index; the times never run backwards within a log, small steps are flattened.
        let (wall, mono) = (stamp.wall.0.max(self.wall), stamp.mono.max(self.mono));
        let common = Common { boot: &self.boot, mono, index: self.range.size(), origin: &self.origin, wall };
        let tally = match change {
            Change::Close(session) => self.sessions.get(&session).map(OpenSession::tally).unwrap_or_default(),
            _ => Tally::default(),
        };
        // The leaf prefix of RFC 6962 stands before the line, so that one call hashes both.
        self.scratch.clear();
        self.scratch.push(0);
        line::write(&mut self.scratch, entry, &common, &tally)?;
        let leaf = sha256(&self.scratch);
        out.extend_from_slice(&self.scratch[1..]);
        let index = self.range.size();
        self.range.push(leaf);
        (self.wall, self.mono) = (wall, mono);
        change.apply(&mut self.sessions, leaf);
        Ok(EntryRef { index, leaf })
    }

    /// Takes a line that was stored by an earlier process, so that start-up and appending end in the same state.
    pub fn replay(&mut self, line: &[u8]) -> Result<EntryRef, LedgerError> {
        let index = self.range.size();
        let fields = Leaf::parse(line, index)?;
        if fields.origin != self.origin {
            return Err(LedgerError::Corrupt(index, "its origin is another log's"));
        }
        if fields.wall < self.wall {
            return Err(LedgerError::Corrupt(index, "its time is before the entry before it"));
        }
        let change = Change::of_leaf(&fields);
        change.check(&self.sessions).map_err(|_| LedgerError::Corrupt(index, "it does not fit what is open"))?;
        let leaf = crate::leaf_hash(line);
        self.range.push(leaf);
        self.wall = fields.wall;
        change.apply(&mut self.sessions, leaf);
        Ok(EntryRef { index, leaf })
    }
}

/// An origin stands in notes and, unescaped, in lines.
pub(crate) fn check_origin(origin: &str) -> Result<(), LedgerError> {
    let printable = |b: u8| b.is_ascii_graphic() && !matches!(b, b'+' | b'"' | b'\\');
    if origin.is_empty() || origin.len() > 200 || !origin.bytes().all(printable) {
        return Err(LedgerError::Misuse("an origin is 1 to 200 printable ASCII characters without + \" \\"));
    }
    Ok(())
}

impl OpenSession {
    fn tally(&self) -> Tally {
        Tally { acts: self.acts, leaves: self.leaves, rolling: self.rolling }
    }
}

/// What an entry changes in what is open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Nothing,
    Open(SessionId),
    Close(SessionId),
    /// The session ends by a crash.
    Lost(SessionId),
    Start(SessionId, u64),
    Done(SessionId, u64),
    /// Belongs to the session if that is open.
    Within(SessionId),
}

impl Change {
    fn of(entry: &Entry<'_>) -> Self {
        match entry {
            Entry::SessionOpen(e) => Self::Open(e.session),
            Entry::SessionClose(e) => Self::Close(e.session),
            Entry::ActStart(e) => Self::Start(e.session, e.command),
            Entry::ActDone(e) => Self::Done(e.session, e.command),
            Entry::Crash(Crash { session, command: Some(command) }) => Self::Done(*session, *command),
            Entry::Crash(Crash { session, command: None }) => Self::Lost(*session),
            Entry::ActDeny(e) => Self::Within(e.session),
            Entry::ApprovalRequest(e) => Self::Within(e.session),
            Entry::ApprovalUse(e) => Self::Within(e.session),
            _ => Self::Nothing,
        }
    }
    pub(crate) fn of_leaf(leaf: &Leaf) -> Self {
        let (Some(kind), Some(session)) = (leaf.kind, leaf.session) else { return Self::Nothing };
        match (kind, leaf.command) {
            (EntryKind::SessionOpen, _) => Self::Open(session),
            (EntryKind::SessionClose, _) => Self::Close(session),
            (EntryKind::ActStart, Some(command)) => Self::Start(session, command),
            (EntryKind::ActDone | EntryKind::Crash, Some(command)) => Self::Done(session, command),
            (EntryKind::Crash, None) => Self::Lost(session),
            (EntryKind::ActDeny | EntryKind::ApprovalRequest | EntryKind::ApprovalUse, _) => Self::Within(session),
            _ => Self::Nothing,
        }
    }
    /// Whether it fits.
    pub(crate) fn check(&self, sessions: &Sessions) -> Result<(), LedgerError> {
        let running = |session, command: &u64| {
            let open: Option<&OpenSession> = sessions.get(session);
            open.ok_or(LedgerError::Misuse("the session is not open")).map(|open| open.running.contains(command))
        };
        match self {
            Self::Nothing | Self::Within(_) => Ok(()),
            Self::Open(session) if sessions.contains_key(session) => {
                Err(LedgerError::Misuse("the session is open already"))
            }
            Self::Open(_) => Ok(()),
            Self::Close(session) | Self::Lost(session) => match sessions.get(session) {
                None => Err(LedgerError::Misuse("the session is not open")),
                Some(open) if !open.running.is_empty() => {
                    Err(LedgerError::Misuse("the session has commands without an outcome"))
                }
                Some(_) => Ok(()),
            },
            Self::Start(session, command) => match running(session, command)? {
                true => Err(LedgerError::Misuse("the command has started already")),
                false => Ok(()),
            },
            Self::Done(session, command) => match running(session, command)? {
                true => Ok(()),
                false => Err(LedgerError::Misuse("the command has not started")),
            },
        }
    }
    /// Takes effect; `check` passed.
    pub(crate) fn apply(&self, sessions: &mut Sessions, leaf: Digest) {
        let session = match self {
            Self::Nothing => return,
            Self::Close(session) | Self::Lost(session) => {
                sessions.remove(session);
                return;
            }
            Self::Open(session) => {
                let open = OpenSession { acts: 0, leaves: 0, rolling: NOTHING, running: Vec::new() };
                sessions.insert(*session, open);
                session
            }
            Self::Start(session, _) | Self::Done(session, _) | Self::Within(session) => session,
        };
        let Some(open) = sessions.get_mut(session) else { return };
        match self {
            Self::Start(_, command) => {
                open.acts += 1;
                open.running.push(*command);
            }
            Self::Done(_, command) => open.running.retain(|running| running != command),
            _ => {}
        }
        open.leaves += 1;
        open.rolling = sha256_of(&[&open.rolling.0, &leaf.0]);
    }
}

impl OpenSession {
    /// Whether a `session.close` says of this session what is true.
    pub(crate) fn agrees(&self, leaf: &Leaf) -> bool {
        leaf.number("acts") == Some(self.acts)
            && leaf.number("leaves") == Some(self.leaves)
            && leaf.digest("roll") == Some(self.rolling)
    }
}
