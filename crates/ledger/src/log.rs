//! The head of a log: gives entries their index, time, line and leaf hash, and keeps what is open. Not here: any file,
//! and the tree, which whoever keeps the entries folds from their leaf hashes ([`crate::TileBuilder`]).

use std::collections::BTreeSet;
use std::collections::hash_map::Entry as Spot;

use chancery_model::{Digest, EntryRef, SessionId, Timestamp};
use foldhash::HashMap;

use crate::line::{self, Common, Tally};
use crate::staged::NOTHING;
use crate::tree::{leaf_hash, roll, sha256};
use crate::view::{View, hexadecimal};
use crate::{Crash, Entry, EntryKind, KeyEpoch, Leaf, LedgerError, Placed, Staged, ToEntry};

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
    /// The index of its opening.
    opened: u64,
    acts: u64,
    leaves: u64,
    rolling: Digest,
    running: Running,
}

impl OpenSession {
    /// Commands that have a start and no end, in the order of their start.
    pub fn running(&self) -> &[u64] {
        self.running.as_slice()
    }
}

/// A list that lies within its session while it is short, as it nearly always is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Running {
    Few([u64; 2], u8),
    Many(Vec<u64>),
}

impl Running {
    fn as_slice(&self) -> &[u64] {
        match self {
            Self::Few(commands, count) => &commands[..usize::from(*count)],
            Self::Many(commands) => commands,
        }
    }
    fn push(&mut self, command: u64) {
        match self {
            Self::Few(commands, count) if usize::from(*count) < commands.len() => {
                commands[usize::from(*count)] = command;
                *count += 1;
            }
            Self::Few(commands, _) => *self = Self::Many([commands.as_slice(), &[command]].concat()),
            Self::Many(commands) => commands.push(command),
        }
    }
    fn remove(&mut self, command: u64) {
        let Some(at) = self.as_slice().iter().position(|running| *running == command) else { return };
        match self {
            Self::Few(commands, count) => {
                commands.copy_within(at + 1.., at);
                *count -= 1;
            }
            Self::Many(commands) => {
                commands.remove(at);
            }
        }
    }
}

/// What is open, by session.
pub(crate) type Sessions = HashMap<SessionId, OpenSession>;

/// The head of one log. Single writer; the caller serialises.
pub struct Log {
    origin: String,
    /// In hexadecimal.
    boot: [u8; 32],
    size: u64,
    wall: i64,
    mono: i64,
    sessions: Sessions,
    epochs: Option<Epochs>,
    holds: BTreeSet<[u8; 16]>,
}

/// The first and the last `key.epoch` entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The ladder's root.
    pub first: [u8; 32],
    /// The running epoch.
    pub last: KeyEpoch,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("origin", &self.origin).field("size", &self.size).finish_non_exhaustive()
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
            size: 0,
            wall: i64::MIN,
            mono: 0,
            sessions: Sessions::default(),
            epochs: None,
            holds: BTreeSet::new(),
        })
    }
    /// The origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// The wall clock of the last entry.
    pub fn last_time(&self) -> Option<Timestamp> {
        (self.wall != i64::MIN).then_some(Timestamp(self.wall))
    }
    /// Its epochs, if it has any.
    pub fn epochs(&self) -> Option<Epochs> {
        self.epochs
    }
    /// The next epoch has the next number and begins where it says.
    fn check_epoch(&self, epoch: &KeyEpoch) -> Result<(), LedgerError> {
        let due = self.epochs.map_or(0, |epochs| epochs.last.number.saturating_add(1));
        if epoch.number != due || epoch.size != self.size {
            return Err(LedgerError::Misuse("it is not the epoch that follows"));
        }
        Ok(())
    }
    fn note_epoch(&mut self, epoch: KeyEpoch) {
        let first = self.epochs.map_or(epoch.key, |epochs| epochs.first);
        self.epochs = Some(Epochs { first, last: epoch });
    }
    /// Holds that were set and not lifted.
    pub fn holds(&self) -> &BTreeSet<[u8; 16]> {
        &self.holds
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
            let command = open.running().iter().map(|command| Some(*command));
            entries.extend(command.chain([None]).map(|command| Entry::Crash(Crash { session, command })));
        }
        entries
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
        let epoch = if let Entry::KeyEpoch(epoch) = entry { Some(*epoch) } else { None };
        if let Some(epoch) = &epoch {
            self.check_epoch(epoch)?;
        }
        let found = Change::of(entry).find(&mut self.sessions);
        found.check()?;
        // Sorting and reading go by index; the times never run backwards within a log, small steps are flattened.
        let (wall, mono) = (stamp.wall.0.max(self.wall), stamp.mono.max(self.mono));
        let common = Common { boot: &self.boot, mono, index: self.size, origin: &self.origin, wall };
        let tally = found.closing().map(OpenSession::tally).unwrap_or_default();
        let start = out.len();
        line::write(out, entry, &common, &tally)?;
        let leaf = hash_in_place(out, start);
        let index = self.size;
        self.size += 1;
        (self.wall, self.mono) = (wall, mono);
        found.apply(index, leaf);
        if let Some(epoch) = epoch {
            self.note_epoch(epoch);
        }
        match entry {
            Entry::HoldSet(hold) => drop(self.holds.insert(hold.hold)),
            Entry::HoldLift(hold) => drop(self.holds.remove(&hold.hold)),
            _ => {}
        }
        Ok(EntryRef { index, leaf })
    }

    /// Takes the place of an entry of which only the hash is left.
    pub fn skip(&mut self) {
        self.size += 1;
    }

    /// Takes a line that was stored by an earlier process, so that start-up and appending end in the same state.
    pub fn replay(&mut self, line: &[u8]) -> Result<EntryRef, LedgerError> {
        let index = self.size;
        let fields = Leaf::parse(line, index)?;
        if fields.origin != self.origin {
            return Err(LedgerError::Corrupt(index, "its origin is another log's"));
        }
        if fields.wall < self.wall {
            return Err(LedgerError::Corrupt(index, "its time is before the entry before it"));
        }
        let epoch =
            fields.epoch().map(|epoch| epoch.ok_or(LedgerError::Corrupt(index, "it is no epoch"))).transpose()?;
        if epoch.is_some_and(|epoch| self.check_epoch(&epoch).is_err()) {
            return Err(LedgerError::Corrupt(index, "it is not the epoch that follows"));
        }
        let found = Change::of_line(&View::from(&fields)).find(&mut self.sessions);
        found.check().map_err(|_| LedgerError::Corrupt(index, "it does not fit what is open"))?;
        let hold = fields.rest.get("hold").and_then(|id| hexadecimal(id.as_str()?));
        let leaf = leaf_hash(line);
        self.size += 1;
        self.wall = fields.wall;
        found.apply(index, leaf);
        if let Some(epoch) = epoch {
            self.note_epoch(epoch);
        }
        match fields.kind {
            Some(EntryKind::HoldSet) => drop(hold.map(|hold| self.holds.insert(hold))),
            Some(EntryKind::HoldLift) => drop(hold.map(|hold| self.holds.remove(&hold))),
            _ => {}
        }
        Ok(EntryRef { index, leaf })
    }
}

/// The leaf hash of what stands in `out` from `start` on. The byte before it lends its place to the leaf prefix of RFC
/// 6962, so that one call hashes both and nothing is copied.
fn hash_in_place(out: &mut [u8], start: usize) -> Digest {
    let Some(before) = start.checked_sub(1) else { return leaf_hash(out) };
    let lent = std::mem::replace(&mut out[before], 0);
    let leaf = sha256(&out[before..]);
    out[before] = lent;
    leaf
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
    pub(crate) fn of_line(leaf: &View<'_>) -> Self {
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
    /// Looks up what it changes.
    pub(crate) fn find(self, sessions: &mut Sessions) -> Found<'_> {
        let spot = match self {
            Self::Nothing => None,
            Self::Open(session) | Self::Close(session) | Self::Lost(session) => Some(session),
            Self::Start(session, _) | Self::Done(session, _) | Self::Within(session) => Some(session),
        };
        Found { change: self, spot: spot.map(|session| sessions.entry(session)) }
    }
}

/// A change and the session that it is about, looked up once for checking and applying it.
pub(crate) struct Found<'a> {
    change: Change,
    spot: Option<Spot<'a, SessionId, OpenSession>>,
}

impl Found<'_> {
    fn open(&self) -> Option<&OpenSession> {
        match &self.spot {
            Some(Spot::Occupied(spot)) => Some(spot.get()),
            _ => None,
        }
    }
    /// The index of the opening of the session that it is about, if that is open.
    pub(crate) fn opened(&self) -> Option<u64> {
        self.open().map(|open| open.opened)
    }
    /// The session that it ends in order, if that is open.
    pub(crate) fn closing(&self) -> Option<&OpenSession> {
        self.open().filter(|_| matches!(self.change, Change::Close(_)))
    }
    /// Whether it fits.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        let open = self.open();
        let misuse = match (self.change, open) {
            (Change::Nothing | Change::Within(_), _) | (Change::Open(_), None) => return Ok(()),
            (Change::Open(_), Some(_)) => "the session is open already",
            (_, None) => "the session is not open",
            (Change::Close(_) | Change::Lost(_), Some(open)) if open.running().is_empty() => return Ok(()),
            (Change::Close(_) | Change::Lost(_), Some(_)) => "the session has commands without an outcome",
            (Change::Start(_, command), Some(open)) if !open.running().contains(&command) => return Ok(()),
            (Change::Start(..), Some(_)) => "the command has started already",
            (Change::Done(_, command), Some(open)) if open.running().contains(&command) => return Ok(()),
            (Change::Done(..), Some(_)) => "the command has not started",
        };
        Err(LedgerError::Misuse(misuse))
    }
    /// Takes effect. What did not pass `check` changes what it can, so that a reader can go on.
    pub(crate) fn apply(self, index: u64, leaf: Digest) {
        let mut spot = match (self.change, self.spot) {
            (Change::Close(_) | Change::Lost(_), Some(Spot::Occupied(spot))) => {
                spot.remove();
                return;
            }
            (Change::Open(_), Some(spot)) => {
                let running = Running::Few([0; 2], 0);
                spot.insert_entry(OpenSession { opened: index, acts: 0, leaves: 0, rolling: NOTHING, running })
            }
            (_, Some(Spot::Occupied(spot))) => spot,
            _ => return,
        };
        let open = spot.get_mut();
        match self.change {
            Change::Start(_, command) => {
                open.acts += 1;
                open.running.push(command);
            }
            Change::Done(_, command) => open.running.remove(command),
            _ => {}
        }
        open.leaves += 1;
        open.rolling = roll(&open.rolling, &leaf);
    }
}

impl OpenSession {
    /// Whether a `session.close` says of this session what is true.
    pub(crate) fn agrees(&self, leaf: &View<'_>) -> bool {
        leaf.number("acts") == Some(self.acts)
            && leaf.number("leaves") == Some(self.leaves)
            && leaf.digest("roll") == Some(self.rolling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_kept_in_order_however_many_there_are() {
        let mut running = Running::Few([0; 2], 0);
        let mut expected: Vec<u64> = Vec::new();
        for (command, ends) in [(1, None), (2, Some(1)), (3, None), (4, None), (5, Some(3)), (6, Some(6)), (7, Some(2))]
        {
            running.push(command);
            expected.push(command);
            if let Some(end) = ends {
                running.remove(end);
                expected.retain(|one| *one != end);
            }
            assert_eq!(running.as_slice(), expected);
        }
        for command in [9, 5, 4, 7] {
            running.remove(command);
            expected.retain(|one| *one != command);
            assert_eq!(running.as_slice(), expected);
        }
    }

    #[test]
    fn a_line_has_its_hash_wherever_it_is_appended() {
        for before in [b"".as_slice(), b"\0", b"{", b"behind others\xff"] {
            let (mut log, mut out) = (Log::new("gw.test/a", [1; 16]).expect("an origin"), before.to_vec());
            let at = log.append(&Entry::Heartbeat, Stamp::default(), &mut out).expect("fits");
            let line = out.strip_prefix(before).expect("what was there before stays as it was");
            assert_eq!((at.index, at.leaf), (0, leaf_hash(line)));
        }
    }

    #[test]
    fn an_export_states_its_keys() {
        let (mut log, mut out) = (Log::new("gw.test/a", [1; 16]).expect("an origin"), Vec::new());
        let (from, to, manifest) = (Timestamp(1), Timestamp(9), Digest([3; 32]));
        let entry = Entry::Export(crate::Export { by: [2; 16], from, to, manifest });
        log.append(&entry, Stamp::default(), &mut out).expect("fits");
        let leaf = Leaf::parse(&out, 0).expect("a line");
        assert_eq!((leaf.kind, leaf.digest("cr")), (Some(EntryKind::Export), Some(manifest)));
        assert_eq!((leaf.number("from"), leaf.number("to")), (Some(1), Some(9)));
        assert_eq!(leaf.rest.get("by").and_then(serde_json::Value::as_str), Some("02".repeat(16).as_str()));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let (session, leaf) = (SessionId([1; 16]), Digest([9; 32]));
        let mut sessions = Sessions::default();
        let fits = |sessions: &mut Sessions, change: Change| {
            let before = sessions.clone();
            let found = change.find(sessions);
            let fits = found.check().map(|()| found.apply(0, leaf)).is_ok();
            assert!(fits || *sessions == before, "{change:?}");
            fits
        };
        use Change::{Close, Done, Lost, Open, Start, Within};
        for (change, expected) in [
            (Start(session, 1), false),
            (Done(session, 1), false),
            (Close(session), false),
            (Lost(session), false),
            (Within(session), true),
            (Open(session), true),
            (Open(session), false),
            (Done(session, 1), false),
            (Start(session, 1), true),
            (Start(session, 1), false),
            (Start(session, 2), true),
            (Close(session), false),
            (Lost(session), false),
            (Done(session, 1), true),
            (Done(session, 1), false),
            (Within(session), true),
            (Done(session, 2), true),
            (Close(session), true),
            (Close(session), false),
            (Open(session), true),
            (Lost(session), true),
        ] {
            assert_eq!(fits(&mut sessions, change), expected, "{change:?}");
        }
        assert!(sessions.is_empty(), "what was within no session opened none");
    }
}
