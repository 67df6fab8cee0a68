//! The world of one session: client, server, ledger, recorder, reviewers and clock, all driven by one seed.
//!
//! The laws are checked where they could break: when bytes leave for the client, when the server executes, when the
//! rules change, and when the world stops.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chancery_ledger::{
    Durable, EntryKind, Frame, FrameKind, FrameLog, Leaf, LedgerError, Log, Placed, PlacedFrame, Sealing, Slot, Staged,
    StagedFrame, Stamp, ToEntry, ToSeal,
};
use chancery_mask::MaskRules;
use chancery_model::{
    Approval, Assurance, CommandId, Digest, Durability, Refusal, RefusalCode, Review, ReviewState, Timestamp,
};
use chancery_policy::{CommandDigests, Permit, command_salt};
use chancery_session::{
    Closing, Context, Effect, Grip, Input, Level, Opening, Original, Outcome, Ruling, Session, SessionLimits, Tape,
};
use chancery_wire::{Leg, Limits};
use chancery_wire_pg::{Dial, DialConfig, DialStep, DialTls, PgRelay, RelayConfig};

use crate::again::{remask, tells};
use crate::client::{Client, Manners};
use crate::dice::Dice;
use crate::rules::{MINUTE, SETS, START, catalog, chain, context, mask, person};
use crate::server::{CANARY, Executed, Server, mark};

/// Known to the dialling side only.
pub(crate) const SECRET: &str = "SECRET-of-the-dial";
const ORIGIN: &str = "laws.example/1";

/// What kind of world it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    pub(crate) manners: Manners,
    pub(crate) masks: bool,
    pub(crate) rules: usize,
    /// In hundred runs, how many …
    pub(crate) strict: usize,
    pub(crate) waits: usize,
    pub(crate) crashes: usize,
    pub(crate) disk_fails: usize,
    pub(crate) recorder_fails: usize,
    pub(crate) rules_change: usize,
    /// How often another session outdates the catalog.
    pub(crate) others_define: usize,
    pub(crate) cancels: usize,
    /// No reviewer ever answers.
    pub(crate) deaf: bool,
    /// Hand bytes over one by one.
    pub(crate) bytewise: bool,
    /// Originals are kept sealed.
    pub(crate) seals: bool,
    pub(crate) limits: fn() -> Limits,
    pub(crate) waiting_bytes_max: usize,
}

impl Climate {
    pub(crate) fn mild() -> Self {
        let manners = Manners { bursts: 10, garbage: false, deletes: 6, reads_only: false, plain: false, names: false };
        Self {
            manners,
            masks: true,
            rules: 0,
            strict: 20,
            waits: 80,
            crashes: 0,
            disk_fails: 0,
            recorder_fails: 0,
            rules_change: 0,
            others_define: 0,
            cancels: 0,
            deaf: false,
            bytewise: false,
            seals: false,
            limits: Limits::default,
            waiting_bytes_max: 4 << 20,
        }
    }
}

enum Wait {
    Rule(Staged<Box<Ruling>>, Placed, Level),
    Conclude(Staged<Outcome>, Placed, Level),
    Refused(CommandId),
    Failed,
}

/// What the world saw, for tests that must not be empty.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) executed: usize,
    /// Of them, those that ran what a PREPARE had given a name to.
    pub(crate) named: usize,
    pub(crate) denied: usize,
    pub(crate) released: usize,
    pub(crate) held: usize,
    pub(crate) masked: usize,
    pub(crate) errors: usize,
    pub(crate) crashes: usize,
    pub(crate) unrecorded: usize,
    pub(crate) ended: usize,
    pub(crate) committed: usize,
    pub(crate) undone: usize,
    /// Originals with a value that is masked for the client.
    pub(crate) sealed: usize,
    /// Originals that masking changes, and changed in the same way when it was done again.
    pub(crate) remasked: usize,
}

/// A tape that waits for the recorder, and its place.
type Held = (StagedFrame<Tape>, PlacedFrame);

pub(crate) struct World {
    dice: Dice,
    climate: Climate,
    now: Timestamp,
    context: Arc<Context>,
    session: Session<PgRelay>,
    pub(crate) client: Client,
    pub(crate) server: Server,
    /// On the way to the session.
    from_client: BytesMut,
    from_server: BytesMut,
    log: Log,
    lines: Vec<Vec<u8>>,
    leaves: Vec<Leaf>,
    durable: usize,
    waits: VecDeque<Wait>,
    await_disk: Option<u64>,
    frames: FrameLog,
    tapes: VecDeque<(Option<Held>, Frame<'static>)>,
    recorded: Vec<Frame<'static>>,
    /// What the sealer got: texts of commands, and the bytes of outputs.
    sealed_texts: Vec<Vec<u8>>,
    sealed_output: Vec<u8>,
    sealed_frames: Vec<Frame<'static>>,
    taped_output: Vec<u8>,
    /// Recorded output that the client has not got, with its command.
    due: VecDeque<(u64, Bytes)>,
    reviews: Vec<Review>,
    /// Decided and not told, for a client that does not wait.
    approved: Vec<Review>,
    valid: HashMap<Digest, usize>,
    finds: VecDeque<(CommandId, Digest)>,
    refreshes: usize,
    /// A definition was spread before it was committed; that may be at the end of a session only.
    early: bool,
    rules: usize,
    disk: bool,
    /// The ledger refused an entry once.
    refused: bool,
    recorder: bool,
    ended: Option<&'static str>,
    effects: usize,
    crash_at: Option<usize>,
    judged: usize,
    /// Print every effect (`LAWS_TRACE`).
    traced: bool,
    pub(crate) seen: Seen,
}

/// The handshake with the server, which asks for the secret.
fn dialled() -> (u8, Bytes) {
    let password = zeroize::Zeroizing::new(SECRET.as_bytes().to_vec());
    let config =
        DialConfig { tls: DialTls::Disable, ..DialConfig::new("app".to_owned(), "main".to_owned(), password, [7; 18]) };
    let mut dial = Dial::new(config).expect("speakable");
    assert!(matches!(dial.receive(b"R\0\0\0\x0c\0\0\0\x05salt"), DialStep::Wait));
    match dial.receive(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x09abcdZ\0\0\0\x05I") {
        DialStep::Ready(ready) => (ready.tx_status, ready.leftover),
        other => panic!("{other:?}"),
    }
}

impl World {
    pub(crate) fn new(seed: u64, climate: Climate) -> Self {
        let mut dice = Dice::new(seed);
        let durability = if dice.percent(climate.strict) { Durability::Strict } else { Durability::Balanced };
        let wait = dice.percent(climate.waits);
        let limits = SessionLimits { waiting_bytes_max: climate.waiting_bytes_max, ..SessionLimits::default() };
        let rules = if climate.masks { mask() } else { MaskRules::none() };
        let catalog = catalog(&rules);
        let mut context = context(rules, durability, wait, limits);
        Arc::get_mut(&mut context).expect("nobody else has it yet").seals = climate.seals;
        let grip = Grip::new(SETS[climate.rules].clone(), &context);
        let mut log = Log::new(ORIGIN, [1; 16]).expect("well-formed");
        let mut line = Vec::new();
        let mut staged = Opening::rule(&context, &grip, START);
        let placed = log.place(&mut staged, Stamp { wall: START, mono: 0 }, &mut line).expect("an open log");
        let slot = sealed(placed.seal(Durable::on_disk_assertion()));
        let opened = staged.commit(slot).ok().expect("its slot").narrow::<Permit>().ok().expect("allowed");
        let (status, server) = dialled();
        let config = RelayConfig { limits: (climate.limits)(), describe: climate.masks, status, renamed: None };
        let relay = PgRelay::new(config, BytesMut::new(), BytesMut::from(&server[..])).expect("a relay");
        let session = Session::new(context.clone(), grip, opened, relay, catalog, START);
        let crash_at = dice.percent(climate.crashes).then(|| dice.below(150));
        let mut world = Self {
            dice,
            climate,
            now: START,
            session,
            client: Client::new(climate.manners),
            server: Server::new(),
            from_client: BytesMut::new(),
            from_server: BytesMut::new(),
            log,
            lines: Vec::new(),
            leaves: Vec::new(),
            durable: 1,
            waits: VecDeque::new(),
            await_disk: None,
            frames: FrameLog::new(context.id),
            context,
            tapes: VecDeque::new(),
            recorded: Vec::new(),
            sealed_texts: Vec::new(),
            sealed_output: Vec::new(),
            sealed_frames: Vec::new(),
            taped_output: Vec::new(),
            due: VecDeque::new(),
            reviews: Vec::new(),
            approved: Vec::new(),
            valid: HashMap::new(),
            finds: VecDeque::new(),
            refreshes: 0,
            early: false,
            rules: climate.rules,
            disk: true,
            refused: false,
            recorder: true,
            ended: None,
            effects: 0,
            crash_at,
            judged: 0,
            traced: std::env::var_os("LAWS_TRACE").is_some(),
            seen: Seen::default(),
        };
        world.keep_line(line);
        world.drain();
        world
    }

    /// Lives until nothing is left to be done, or the world crashes.
    pub(crate) fn run(&mut self) {
        for _ in 0..20_000 {
            if self.crashed() {
                return self.check_crash();
            }
            if !self.step() {
                break;
            }
        }
        self.check_end();
    }

    /// How many effects there were.
    pub(crate) fn effects(&self) -> usize {
        self.effects
    }

    /// Loses its power in front of the effect with this number.
    pub(crate) fn crash_at(&mut self, effect: usize) {
        self.crash_at = Some(effect);
    }

    /// The client got what the server sent, byte by byte, and nothing else.
    pub(crate) fn check_transparent(&self) {
        assert_eq!(self.ended, Some("client-gone"));
        let (heard, sent) = (self.client.heard.escape_ascii(), self.server.sent.escape_ascii());
        assert!(self.client.heard == self.server.sent, "transparent:\nheard {heard}\nsent  {sent}");
    }

    /// Refusals with this code in the ledger.
    pub(crate) fn refusals(&self, code: &str) -> usize {
        let says = |leaf: &&Leaf| leaf.kind == Some(EntryKind::ActDeny) && leaf_says(leaf, code);
        self.leaves.iter().filter(says).count()
    }

    pub(crate) fn ended(&self) -> Option<&'static str> {
        self.ended
    }

    fn crashed(&self) -> bool {
        self.crash_at.is_some_and(|at| self.effects >= at)
    }

    /// Does one of the things that can happen now.
    fn step(&mut self) -> bool {
        self.now = self.now.plus_micros(self.dice.below(50) as i64);
        if self.ended.is_none() {
            self.mishap();
        }
        if self.crashed() {
            return true;
        }
        let first = self.dice.below(12);
        (0..12).any(|turn| self.act((first + turn) % 12)) || self.patience()
    }

    fn act(&mut self, what: usize) -> bool {
        match what {
            0 => self.client_speaks(),
            1 | 2 => self.client_arrives(),
            3 | 4 => self.server_arrives(),
            5 | 6 => self.server_works(),
            7 => self.disk_works(),
            8 | 9 => self.recorder_works(),
            10 => self.ledger_answers(),
            _ => self.others_answer(),
        }
    }

    fn mishap(&mut self) {
        if self.dice.below(10_000) < self.climate.rules_change * 3 {
            let to = self.dice.pick(&[0, 1, 1, 2, 3]);
            self.change_rules(to);
        }
        if self.dice.below(10_000) < self.climate.cancels * 3 {
            self.feed(Input::Cancel);
        }
        if self.dice.below(10_000) < self.climate.disk_fails {
            self.disk = !self.disk;
        }
        if self.dice.below(100_000) < self.climate.recorder_fails {
            self.recorder = false;
        }
        if self.dice.below(1000) == 0 {
            let notice = self.dice.percent(50);
            self.server.say_aside(notice);
        }
        if self.climate.others_define > 0 && self.dice.below(10_000) < self.climate.others_define {
            self.feed(Input::Outdated);
            self.refreshes += 1;
        }
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.feed(Input::Tick);
        }
    }

    pub(crate) fn change_rules(&mut self, to: usize) {
        self.rules = to;
        self.feed(Input::RulesChanged(SETS[to].clone()));
        if to == 3 {
            assert!(self.ended.is_some() || self.crashed(), "rules bind now: connect no longer passes");
        }
    }

    fn client_speaks(&mut self) -> bool {
        let pipelines = self.dice.percent(30);
        if !self.client.has_more() || (!self.client.is_content() && !pipelines) || self.from_client.len() > 1 << 16 {
            return false;
        }
        let burst = self.client.burst(&mut self.dice);
        if self.traced {
            println!("client {}", burst.escape_ascii());
        }
        self.from_client.extend_from_slice(&burst);
        true
    }

    fn piece(&mut self, length: usize) -> usize {
        match self.dice.below(4) {
            _ if self.climate.bytewise => 1,
            0 => length,
            1 => 1 + self.dice.below(length.min(8)),
            _ => 1 + self.dice.below(length),
        }
        .min(length)
    }

    fn client_arrives(&mut self) -> bool {
        if self.from_client.is_empty() || self.ended.is_some() || !self.session.wants(Leg::Downstream) {
            return false;
        }
        let length = self.piece(self.from_client.len());
        let unit = self.from_client.split_to(length).freeze();
        self.feed(Input::Unit(Leg::Downstream, unit));
        true
    }

    fn server_arrives(&mut self) -> bool {
        let sent = self.server.outbox.split();
        self.from_server.extend_from_slice(&sent);
        if self.from_server.is_empty() || self.ended.is_some() || !self.session.wants(Leg::Upstream) {
            return false;
        }
        let length = self.piece(self.from_server.len());
        let unit = self.from_server.split_to(length).freeze();
        if self.traced {
            println!("server {}", unit.escape_ascii());
        }
        self.feed(Input::Unit(Leg::Upstream, unit));
        true
    }

    fn server_works(&mut self) -> bool {
        let worked = self.server.step();
        self.judge();
        worked
    }

    fn disk_works(&mut self) -> bool {
        if self.await_disk.take_if(|entry| *entry < self.durable as u64).is_some() {
            self.feed(Input::OnDisk(self.durable as u64));
            return true;
        }
        if !self.disk || self.durable == self.lines.len() {
            return false;
        }
        self.durable += 1 + self.dice.below(self.lines.len() - self.durable);
        true
    }

    fn recorder_works(&mut self) -> bool {
        let Some((staged, frame)) = self.tapes.pop_front() else { return false };
        if !self.recorder {
            if self.ended.is_none() {
                self.fail("recorder-failed");
            }
            return true;
        }
        let masked = !self.climate.masks || !holds(&frame.bytes, CANARY);
        assert!(masked, "masked before recorded: {:?} of command {}", frame.kind, frame.command);
        if frame.kind == FrameKind::Output {
            self.due.push_back((frame.command, frame.bytes.to_vec().into()));
        }
        self.recorded.push(frame);
        let Some((staged, placed)) = staged else { return true };
        let recorded = staged.commit(placed.seal(Durable::buffered_assertion())).ok().expect("its slot");
        self.feed(Input::Taped(recorded));
        true
    }

    fn fail(&mut self, reason: &'static str) {
        let refusal = Refusal::new(RefusalCode::RecordUnavailable, "record unavailable", "");
        self.feed(Input::End(refusal, reason));
    }

    fn ledger_answers(&mut self) -> bool {
        let durable = self.durable as u64;
        let reached = |placed: &Placed, level: &Level| *level == Level::Written || placed.index() < durable;
        let ready: Vec<usize> = (0..self.waits.len())
            .filter(|at| match &self.waits[*at] {
                Wait::Rule(_, placed, level) | Wait::Conclude(_, placed, level) => reached(placed, level),
                Wait::Refused(_) | Wait::Failed => true,
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let at = self.dice.pick(&ready);
        let assert = |level| match level {
            Level::Written => Durable::written_assertion(),
            Level::OnDisk | Level::Lazy => Durable::on_disk_assertion(),
        };
        match self.waits.remove(at).expect("an index of it") {
            Wait::Rule(staged, placed, level) => {
                let slot = sealed(placed.seal(assert(level)));
                self.feed(Input::Ruled(staged.commit(slot).ok().expect("its slot")));
            }
            Wait::Conclude(staged, placed, level) => {
                let slot = sealed(placed.seal(assert(level)));
                self.feed(Input::Concluded(staged.commit(slot).ok().expect("its slot")));
            }
            Wait::Refused(command) => {
                self.seen.unrecorded += 1;
                self.feed(Input::Unrecorded(command));
            }
            Wait::Failed => self.fail("ledger-failed"),
        }
        true
    }

    fn others_answer(&mut self) -> bool {
        if let Some((command, digest)) = self.finds.pop_front() {
            let found = self.approved.iter().position(|review| review.digest == digest);
            let review = found.map(|at| self.approved.remove(at));
            let review = review.or_else(|| self.dice.percent(5).then(|| self.forged(digest)));
            if let Some(review) = &review {
                self.note_valid(review);
            }
            self.feed(Input::Found(command, review.map(Box::new)));
            return true;
        }
        if self.refreshes > 0 {
            self.refreshes -= 1;
            self.feed(Input::Catalog(catalog(&self.context.mask)));
            return true;
        }
        if self.reviews.is_empty() || self.climate.deaf || self.dice.percent(60) {
            return false;
        }
        self.decide();
        true
    }

    /// An approval that must not release anything.
    fn forged(&mut self, digest: Digest) -> Review {
        let mut review = blank(digest, SETS[self.rules].digest(), self.now);
        review.approvals = vec![approval("bob", self.now)];
        review.state = ReviewState::Approved;
        self.spoil(&mut review);
        review
    }

    fn spoil(&mut self, review: &mut Review) {
        match self.dice.below(6) {
            0 => review.digest = Digest([9; 32]),
            1 => review.approvals = vec![approval("alice", self.now)],
            2 => review.approvals = vec![approval("mallory", self.now)],
            3 => review.rules = Digest([8; 32]),
            4 => review.approvals.clear(),
            _ => review.expires_at = self.now,
        }
    }

    /// A reviewer answers, well or badly.
    fn decide(&mut self) {
        let at = self.dice.below(self.reviews.len());
        let mut review = self.reviews.remove(at);
        review.approvals = vec![approval("bob", self.now)];
        match self.dice.below(10) {
            0 => review.state = ReviewState::Denied,
            1 => review.state = ReviewState::Expired,
            2 | 3 => {
                review.state = ReviewState::Approved;
                self.spoil(&mut review);
            }
            _ => review.state = ReviewState::Approved,
        }
        if !self.context.wait {
            if review.state == ReviewState::Approved {
                self.approved.push(review);
            }
            return;
        }
        self.note_valid(&review);
        let twice = self.dice.percent(20).then(|| review.clone());
        self.feed(Input::Reviewed(Box::new(review)));
        if let Some(review) = twice {
            self.feed(Input::Reviewed(Box::new(review)));
        }
    }

    /// By the test's own reading of what an approval must be.
    fn note_valid(&mut self, review: &Review) {
        let by_another = review.approvals.iter().any(|approval| approval.reviewer.subject == "bob");
        let valid = review.state == ReviewState::Approved
            && by_another
            && review.rules == SETS[self.rules].digest()
            && self.now < review.expires_at;
        if valid {
            *self.valid.entry(review.digest).or_default() += 1;
        }
    }

    /// Nothing moves: time does.
    fn patience(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if !self.disk {
            self.disk = true;
            return true;
        }
        if !self.reviews.is_empty() && !self.climate.deaf {
            self.decide();
            return true;
        }
        if self.climate.deaf
            && let Some(deadline) = self.session.deadline()
        {
            self.now = deadline;
            self.feed(Input::Tick);
            return true;
        }
        if let Some(words) = self.client.last_words() {
            if self.traced {
                println!("client {}", words.escape_ascii());
            }
            self.from_client.extend_from_slice(&words);
            return true;
        }
        assert!(
            self.client.is_content() || self.client.told_off,
            "everything was said, nothing moves, and the client waits for {}",
            self.client.waits_for()
        );
        self.feed(Input::Gone(Leg::Downstream));
        true
    }

    pub(crate) fn feed(&mut self, input: Input<Bytes>) {
        assert!(!self.early, "a definition is spread when it is committed");
        self.session.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.poll() {
            if self.crashed() {
                return;
            }
            self.effects += 1;
            self.perform(effect);
        }
    }

    fn place<T: ToEntry>(&mut self, staged: &mut Staged<T>) -> Option<Placed> {
        if !self.disk && staged.kind().opens() {
            self.refused = true;
            return None;
        }
        let mut line = Vec::new();
        let stamp = Stamp { wall: self.now, mono: self.now.0 - START.0 };
        let placed = match self.log.place(staged, stamp, &mut line) {
            Ok(placed) => placed,
            // A start that was refused has no place for an outcome either.
            Err(LedgerError::Misuse(_)) if self.refused => return None,
            Err(error) => panic!("the ledger: {error}"),
        };
        self.keep_line(line);
        Some(placed)
    }

    fn keep_line(&mut self, line: Vec<u8>) {
        assert!(!holds(&line, SECRET) && !holds(&line, CANARY), "no text in entries");
        let leaf = Leaf::parse(line.strip_suffix(b"\n").unwrap_or(&line), self.leaves.len() as u64).expect("an entry");
        self.leaves.push(leaf);
        self.lines.push(line);
    }

    fn trace(&self, effect: &Effect<Bytes>) {
        let text = match effect {
            Effect::Transmit(leg, bytes) => format!("{leg:?} {}", bytes.escape_ascii()),
            Effect::Rule(id, staged, level) => format!("rule {id} {:?} {level:?}", staged.kind()),
            Effect::Conclude(_, level) => format!("conclude {level:?}"),
            Effect::AwaitDisk(entry) => format!("await {entry}"),
            Effect::Tape(_) => "tape".to_owned(),
            Effect::Note(_) => "note".to_owned(),
            Effect::Seal(_) => "seal".to_owned(),
            Effect::Find(id, _) => format!("find {id}"),
            Effect::Ask(review) => format!("ask {}", review.id),
            Effect::Withdraw(id, _) => format!("withdraw {id}"),
            Effect::Taint(_) => "taint".to_owned(),
            Effect::Refresh => "refresh".to_owned(),
            Effect::Outdate => "outdate".to_owned(),
            Effect::CancelUpstream => "cancel".to_owned(),
            Effect::Close(reason) => format!("close {reason}"),
        };
        println!("{text}");
    }

    fn perform(&mut self, effect: Effect<Bytes>) {
        if self.traced {
            self.trace(&effect);
        }
        match effect {
            Effect::Transmit(Leg::Upstream, bytes) => {
                self.check_current(&bytes);
                self.server.take(&bytes);
            }
            Effect::Transmit(Leg::Downstream, bytes) => self.show(&bytes),
            Effect::Rule(command, mut staged, level) => match self.place(&mut staged) {
                Some(placed) => {
                    let leaf = self.leaves.last().expect("just placed");
                    let current = leaf.digest("p") == Some(SETS[self.rules].digest());
                    assert!(current, "rules bind now: command {command} was ruled on by another set");
                    match leaf.kind {
                        Some(EntryKind::ActDeny) => self.seen.denied += 1,
                        Some(EntryKind::ApprovalRequest) => self.seen.held += 1,
                        Some(EntryKind::ActStart) if leaf.rest.contains_key("rev") => self.seen.released += 1,
                        _ => {}
                    }
                    self.waits.push_back(Wait::Rule(staged, placed, level));
                }
                None => self.waits.push_back(Wait::Refused(command)),
            },
            Effect::Conclude(mut staged, level) => match self.place(&mut staged) {
                Some(placed) => self.waits.push_back(Wait::Conclude(staged, placed, level)),
                None => self.waits.push_back(Wait::Failed),
            },
            Effect::AwaitDisk(entry) => self.await_disk = Some(entry),
            Effect::Tape(mut staged) => {
                let (placed, frame) = self.frames.place(&mut staged);
                let frame = frame.into_owned();
                self.check_sealed(&frame);
                self.tapes.push_back((Some((staged, placed)), frame));
            }
            Effect::Seal(original) => self.seal(&original),
            Effect::Note(note) => {
                self.frames.next_number();
                self.tapes.push_back((None, note.frame().into_owned()));
            }
            Effect::Find(command, digest) => self.finds.push_back((command, digest)),
            Effect::Ask(review) => self.reviews.push(*review),
            Effect::Withdraw(id, _) => self.reviews.retain(|review| review.id != id),
            Effect::Refresh => self.refreshes += 1,
            Effect::CancelUpstream => {}
            Effect::Taint(_) => {}
            // The toy commits at a Sync or the end of a Query; until then nobody else could see it.
            Effect::Outdate => self.early |= !self.server.is_final(),
            Effect::Close(reason) => {
                self.early = false;
                self.ended = Some(reason);
                self.seen.ended += 1;
                self.place(&mut Closing::of(self.context.clone(), reason, None));
            }
        }
    }

    fn seal(&mut self, original: &Original) {
        assert!(self.climate.seals, "originals stay where they are unless they are to be kept");
        let frame = original.frame(&Sealing::sealing_assertion());
        match frame.kind {
            FrameKind::Command => self.sealed_texts.push(frame.bytes.to_vec()),
            FrameKind::Output => {
                self.seen.sealed += usize::from(holds(&frame.bytes, CANARY));
                self.sealed_output.extend_from_slice(&frame.bytes);
                self.sealed_frames.push(frame.into_owned());
            }
            FrameKind::Parameters => {}
            other => panic!("no original of kind {other:?}"),
        }
    }

    /// Nothing is recorded, and so nothing shown, whose original did not go to the sealer before.
    fn check_sealed(&mut self, frame: &Frame<'_>) {
        if !self.climate.seals || frame.kind != FrameKind::Output {
            return;
        }
        self.taped_output.extend_from_slice(&frame.bytes);
        if !self.climate.masks {
            assert!(self.sealed_output.starts_with(&self.taped_output), "sealed before recorded, and the same");
        }
    }

    /// Bytes leave for the client: they were recorded, but for words of our own about the session itself.
    fn show(&mut self, bytes: &[u8]) {
        assert!(!self.climate.masks || !holds(bytes, CANARY), "masked before released");
        assert!(!holds(bytes, SECRET), "secrets flow one way");
        match self.due.front() {
            Some((_, due)) if due == bytes => {
                let (command, _) = self.due.pop_front().expect("looked at");
                self.check_strict(command);
            }
            _ => {
                let ours = bytes.first() == Some(&b'N') && holds(bytes, "chancery: held for review")
                    || bytes.first() == Some(&b'E') && holds(bytes, "SFATAL");
                assert!(ours, "recorded before released: {:?}", String::from_utf8_lossy(bytes));
            }
        }
        if holds(bytes, "***") {
            self.seen.masked += 1;
        }
        let answer = self.client.hear(bytes, &mut self.dice);
        self.from_client.extend_from_slice(&answer);
    }

    /// A query that goes up was allowed by the rules that are in force now.
    fn check_current(&self, bytes: &[u8]) {
        let Some((b'Q', rest)) = bytes.split_first() else { return };
        let text = String::from_utf8_lossy(&rest[4..rest.len() - 1]).into_owned();
        // What a name stands for is checked where it is run.
        if text != "chancery_refused" && !text.starts_with("execute ") {
            let query = Executed { ask: "query", text, parameters: Vec::new(), prepared: None };
            let digest = digest(&query, &SETS[self.rules].digest());
            let allowed = |leaf: &Leaf| leaf.kind == Some(EntryKind::ActStart) && leaf.digest("ch") == Some(digest);
            assert!(self.leaves.iter().any(allowed), "rules bind now: {query:?} went up under older rules");
        }
    }

    fn check_strict(&self, command: u64) {
        if self.context.resource.durability != Durability::Strict || command == 0 {
            return;
        }
        let start =
            self.leaves.iter().position(|leaf| leaf.kind == Some(EntryKind::ActStart) && leaf.command == Some(command));
        assert!(start.is_none_or(|at| at < self.durable), "strict: on disk before its first output byte");
    }

    /// Every statement that the server has executed was written down before.
    fn judge(&mut self) {
        while let Some(executed) = self.server.executed.get(self.judged) {
            let executed = executed.clone();
            self.judged += 1;
            self.seen.executed += 1;
            for never in ["drop table", "selec broken", "standard_conforming_strings", "LATIN1"] {
                assert!(!executed.text.contains(never), "unreadable is refused: {}", executed.text);
            }
            let sealed = |text: &Vec<u8>| *text == executed.text.as_bytes();
            assert!(!self.climate.seals || self.sealed_texts.iter().any(sealed), "sealed before done: {executed:?}");
            let writes =
                executed.meaning().split(';').any(|part| mark(part.trim()).is_some() || part.contains("from stdin"));
            let known = if writes { self.durable } else { self.leaves.len() };
            let starts = self.starts(&executed, known);
            let runs = self.server.executed[..self.judged].iter().filter(|other| same(other, &executed)).count();
            assert!(
                starts >= runs,
                "written before done: {executed:?} ran {runs} times, {starts} starts are on record"
            );
            self.seen.named += usize::from(executed.prepared.is_some());
            if executed.meaning().contains("delete from") && self.climate.rules != 4 {
                let allowed: usize =
                    SETS.iter().filter_map(|set| self.valid.get(&digest(&executed, &set.digest()))).sum();
                assert!(runs <= allowed, "approved is forwarded: {executed:?} ran {runs} times, approved {allowed}");
            }
        }
    }

    fn starts(&self, executed: &Executed, known: usize) -> usize {
        let digests: Vec<Digest> = SETS.iter().map(|set| digest(executed, &set.digest())).collect();
        let start = |leaf: &&Leaf| {
            leaf.kind == Some(EntryKind::ActStart) && leaf.digest("ch").is_some_and(|ch| digests.contains(&ch))
        };
        self.leaves[..known].iter().filter(start).count()
    }

    fn check_end(&mut self) {
        while self.server.step() {}
        self.judge();
        assert!(self.ended.is_some(), "the session came to its end");
        let proper = ["client-gone", "rules-changed", "recorder-failed", "ledger-failed"];
        if !self.climate.manners.garbage && !self.climate.deaf {
            let ended = self.ended.unwrap_or_default();
            assert!(proper.contains(&ended), "a conversation in order came to its end by: {ended}");
        }
        let open = self.log.open_sessions().len();
        if self.disk {
            assert_eq!(open, 0, "every forward has one outcome, and the session its end");
        }
        self.check_pairs(&self.leaves);
        self.check_maps();
        self.check_effects();
        self.check_approvals();
        assert!(!holds(&self.server.received, "drop table"), "refused is not forwarded");
        assert!(!holds(&self.server.received, SECRET), "the secret went to the dial only");
        self.seen.errors += self.client.errors;
    }

    /// Who has the originals can make the recording again from its maps; where none are kept, maps tell what was masked.
    fn check_maps(&mut self) {
        if !self.climate.seals {
            let maps = self.recorded.iter().filter(|frame| frame.kind == FrameKind::MaskMap);
            assert!(maps.clone().all(tells), "a map in which nothing was masked is left out");
            assert!(self.climate.masks || maps.count() == 0, "nothing is told where nothing can be masked");
            return;
        }
        let seen = remask(&self.sealed_frames, &self.recorded);
        self.seen.remasked += seen.changed;
        if self.recorder && self.ended == Some("client-gone") {
            assert_eq!((seen.unmapped, seen.left), (0, 0), "maps speak of all that was shown");
        }
    }

    /// Executed exactly once after a valid approval: where nothing got in between, each approval has its one start,
    /// and each completed start its execution.
    fn check_approvals(&self) {
        let climate = &self.climate;
        let mishaps = climate.cancels + climate.rules_change + climate.disk_fails + climate.recorder_fails;
        if mishaps > 0 || climate.manners.garbage || climate.crashes > 0 || self.ended != Some("client-gone") {
            return;
        }
        let of = |leaf: &&Leaf, kind, digest: &Digest| leaf.kind == Some(kind) && leaf.digest("ch") == Some(*digest);
        for (digest, approved) in &self.valid {
            if !self.leaves.iter().any(|leaf| of(&leaf, EntryKind::ApprovalRequest, digest)) {
                continue;
            }
            let starts: Vec<u64> = self
                .leaves
                .iter()
                .filter(|leaf| of(leaf, EntryKind::ActStart, digest) && leaf.rest.contains_key("rev"))
                .filter_map(|leaf| leaf.command)
                .collect();
            assert_eq!(starts.len(), *approved, "each valid approval starts its command once");
            let completed = |leaf: &&Leaf| {
                let word = leaf.rest.get("o").and_then(|word| word.as_str());
                leaf.kind == Some(EntryKind::ActDone)
                    && leaf.command.is_some_and(|command| starts.contains(&command))
                    && word == Some("completed")
            };
            let completed = self.leaves.iter().filter(completed).count();
            let runs = self
                .server
                .executed
                .iter()
                .filter(|run| SETS.iter().any(|set| crate::world::digest(run, &set.digest()) == *digest));
            let runs = runs.count();
            assert!(completed <= runs && runs <= *approved, "approved {approved}, ran {runs}, completed {completed}");
        }
    }

    fn check_effects(&mut self) {
        for mark in &self.client.must_not_commit {
            assert!(!self.server.committed.contains(mark), "{mark} was told to have failed, and was committed");
        }
        self.seen.undone += self.client.must_not_commit.len();
        self.seen.committed += self.server.committed.len();
    }

    fn check_pairs(&self, leaves: &[Leaf]) {
        let mut open: Vec<u64> = Vec::new();
        for leaf in leaves {
            let Some(command) = leaf.command else { continue };
            match leaf.kind {
                Some(EntryKind::ActStart) => {
                    assert!(!open.contains(&command), "one start at a time");
                    open.push(command);
                }
                Some(EntryKind::ActDone | EntryKind::Crash) => {
                    let at = open.iter().position(|other| *other == command);
                    open.swap_remove(at.expect("every outcome has its forward"));
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "every forward has one outcome; without: {open:?}");
    }

    /// Power is lost: what is on disk must speak for everything that was or will still be done with it.
    fn check_crash(&mut self) {
        self.seen.crashes += 1;
        self.check_maps();
        let everything = self.leaves.len();
        while self.server.step() {}
        // Reads may be lost with the power, within their window; `judge` asks of writes what is on disk.
        self.judge();
        assert_eq!(everything, self.leaves.len());
        for kept in [self.durable, everything] {
            let mut log = Log::new(ORIGIN, [2; 16]).expect("well-formed");
            for line in &self.lines[..kept] {
                log.replay(line.strip_suffix(b"\n").unwrap_or(line)).expect("its own line");
            }
            let mut leaves = self.leaves[..kept].to_vec();
            let crashes = log.crashes();
            for crash in &crashes {
                let mut line = Vec::new();
                let stamp = Stamp { wall: self.now, mono: 0 };
                log.append(crash, stamp, &mut line).expect("it fits what is open");
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                leaves.push(Leaf::parse(line, leaves.len() as u64).expect("an entry"));
            }
            assert!(log.open_sessions().is_empty());
            self.check_pairs(&leaves);
        }
    }
}

fn leaf_says(leaf: &Leaf, word: &str) -> bool {
    leaf.rest.values().any(|value| value.as_str() == Some(word))
}

fn sealed(slot: impl Into<Option<Slot>>) -> Slot {
    slot.into().expect("at least written")
}

fn same(one: &Executed, other: &Executed) -> bool {
    let key = |of: &Executed| (of.ask, of.text.clone(), of.parameters.clone(), of.prepared.clone());
    key(one) == key(other)
}

fn digest(executed: &Executed, rules: &Digest) -> Digest {
    let resource = crate::rules::resource(Durability::Balanced);
    let (mut text, parameters) = (executed.text.clone().into_bytes(), &executed.parameters);
    if let Some(prepared) = &executed.prepared {
        text.push(0);
        text.extend_from_slice(prepared.as_bytes());
    }
    let salt = command_salt(&crate::rules::fingerprint_key(), &chain());
    CommandDigests::new(&salt, &resource.name, "postgres", &chain(), rules).of(executed.ask, &text, parameters)
}

pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn approval(subject: &str, at: Timestamp) -> Approval {
    let groups: &[&str] = if subject == "mallory" { &["dev"] } else { &["dba"] };
    Approval {
        rule: "dba".into(),
        reviewer: person(subject, groups),
        assurance: Assurance::Clicked,
        key: None,
        signature: None,
        at,
        entry: None,
    }
}

fn blank(digest: Digest, rules: Digest, now: Timestamp) -> Review {
    Review {
        id: chancery_model::ReviewId::new(now, [6; 10]),
        session: chancery_model::SessionId::new(START, [7; 10]),
        command: CommandId(1),
        resource: crate::rules::resource(Durability::Balanced).name,
        chain: chain(),
        digest,
        rules,
        needed: vec!["dba".into()],
        text: String::new(),
        parameters: Vec::new(),
        summary: String::new(),
        asked_at: now,
        expires_at: now.plus_micros(MINUTE),
        uses: 1,
        state: ReviewState::Pending,
        approvals: Vec::new(),
    }
}
