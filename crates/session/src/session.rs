//! The machine: one input in, effects out, nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use chancery_ledger::{FrameKind, Recorded, stage};
use chancery_mask::{Catalog, Exposure, Joined, Lifted, Masker, Plan};
use chancery_model::{
    Ask, CommandId, Digest, Done, DoneStatus, Durability, Input as Data, Output, Refusal, RefusalCode, Review,
    ReviewId, ReviewState, Timestamp,
};
use chancery_policy::{Hold, Permit, RuleSet, Scope, unmask};
use chancery_wire::{Event, Forget, Leg, Relay, WireError, take_next};

use crate::account::Account;
use crate::context::{Context, Grip};
use crate::effect::{Desk, Effect, Note};
use crate::gate::Gate;
use crate::output::Shown;
use crate::reading::{Known, Readings, renames};
use crate::ruling::{Level, Outcome, Ruled, Ruling, Tape};
use crate::trust::Trust;

/// What a session can be told.
pub enum Input<U> {
    /// Bytes, or whatever the relay's unit is, from a leg.
    Unit(Leg, U),
    /// A ruling stands in the ledger.
    Ruled(Recorded<Box<Ruling>>),
    /// The ruling on this command cannot be written down: the command is refused, whatever it said.
    Unrecorded(CommandId),
    /// An outcome stands in the ledger.
    Concluded(Recorded<Outcome>),
    /// Every entry below this index is on disk.
    OnDisk(u64),
    /// A tape stands in the recording.
    Taped(Recorded<Tape>),
    /// The answer to [`Effect::Find`]: an approval that was given before, used up now.
    Found(CommandId, Option<Box<Review>>),
    /// A review of this session was decided. An approval was used up before it is told.
    Reviewed(Box<Review>),
    /// The answer to [`Effect::Refresh`], or what follows [`Input::Outdated`].
    Catalog(Arc<Catalog>),
    /// Another session defined something; the catalog is being read again, and `Catalog` will follow.
    Outdated,
    /// Another session's statements made the catalog a newer one.
    Newer(Arc<Catalog>),
    /// Another rule set is in force.
    RulesChanged(Arc<RuleSet>),
    /// The client asks to cancel what runs or is held.
    Cancel,
    /// A leg is gone.
    Gone(Leg),
    /// The session must end: shutdown, termination, failure of the ledger or the recorder.
    End(Refusal, &'static str),
    /// Time passed.
    Tick,
}

/// One session.
pub struct Session<R: Relay> {
    pub(crate) context: Arc<Context>,
    pub(crate) grip: Grip,
    pub(crate) gate: Gate<R>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) trust: Trust,
    /// Catalogs that are being read for this session.
    pub(crate) awaited_catalogs: usize,
    /// It defined something that other sessions were not told of yet.
    pub(crate) defined: bool,
    pub(crate) masker: Masker,
    /// The plan of a session whose rules mask nothing.
    pub(crate) idle: Option<Arc<Plan>>,
    pub(crate) lifted: Lifted,
    pub(crate) readings: Readings,
    /// Commands asked and not ended, in order.
    pub(crate) commands: VecDeque<Active>,
    /// What the resource said and the client sent along, in order, not yet shown or passed.
    pub(crate) tide: VecDeque<Tide>,
    pub(crate) tide_bytes: usize,
    /// Masked, and not on its way into the recording yet: short outputs are recorded together.
    pub(crate) gathered: Joined,
    /// What masking did since the recording was told.
    pub(crate) account: Account,
    pub(crate) effects: VecDeque<Effect<R::Unit>>,
    /// Outcomes that must be on disk before anything more is shown.
    pub(crate) concluding: usize,
    /// See [`crate::SessionLimits`].
    pub(crate) waiting_bytes_max: usize,
    /// When the authority of its token ends.
    pub(crate) expires_at: Timestamp,
    /// Outputs wait until the ruling on their command is on disk.
    pub(crate) strict: bool,
    /// Entries below this are on disk, as far as this session was told.
    pub(crate) on_disk: u64,
    pub(crate) awaited: u64,
    pub(crate) reviews: u64,
    /// A statement may have put a tagged value where the session keeps things: settings, last values of sequences.
    pub(crate) stirred: bool,
    /// Inputs were taken at this time, and what follows from them is not worked out yet.
    due: Option<Timestamp>,
    pub(crate) ended: bool,
}

/// In the order in which it must happen.
pub(crate) enum Tide {
    Output(Output),
    Done(Done),
    Input(Data),
}

/// A command between asking and its end.
pub(crate) struct Active {
    pub(crate) id: CommandId,
    pub(crate) ask: Option<Ask>,
    pub(crate) scope: Scope,
    pub(crate) stage: Stage,
    pub(crate) digest: Digest,
    pub(crate) known: Option<Arc<Known>>,
    /// What it is exposed to by a catalog that came after it was ruled on.
    pub(crate) exposure: Option<Box<Exposure>>,
    pub(crate) since: Timestamp,
    /// Values masked in what it showed.
    pub(crate) masked: u64,
    pub(crate) shown: Shown,
    /// Strict profile: outputs wait until this entry is on disk.
    pub(crate) entry: Option<u64>,
    pub(crate) cancelled: bool,
    /// The resource was asked to answer it at once.
    pub(crate) hastened: bool,
    /// Its `act.start` is on its way into the ledger.
    pub(crate) starting: bool,
}

/// Where a command stands. Each stage owns its data.
pub(crate) enum Stage {
    /// Not ruled on yet.
    Asked,
    /// The ruling is on its way into the ledger or the recording.
    Ruling,
    /// It is there, and waits for its turn.
    Ruled(Recorded<Box<Ruling>>),
    /// A step's permit is recorded.
    Stepped(Box<Recorded<Permit>>),
    /// Held: an earlier approval is looked for.
    Finding(Box<Hold>),
    /// Held: its request is on its way into the ledger.
    Requesting(Box<Review>),
    /// Held: before the reviewers.
    Held(Box<Hold>, ReviewId, Timestamp),
    /// Cannot be recorded, and waits for its turn to be refused.
    Unrecorded(Box<Refusal>),
    /// Sent to the resource.
    Forwarded,
    /// Over.
    Ended,
}

impl<R: Relay> Session<R> {
    /// A session whose opening stands in the ledger. The proof is a permit that narrowed out of the recorded ruling.
    pub fn new(
        context: Arc<Context>,
        grip: Grip,
        _opened: Recorded<chancery_policy::Permit>,
        relay: R,
        catalog: Arc<Catalog>,
        now: Timestamp,
    ) -> Self {
        let masker = Masker::new(context.mask.clone());
        let waiting_bytes_max = context.limits.waiting_bytes_max;
        let expires_at = context.authentication.expires_at;
        let strict = context.resource.durability == Durability::Strict;
        let idle = Plan::idle(&context.mask).map(Arc::new);
        let mut session = Self {
            context,
            grip,
            gate: Gate::new(relay),
            catalog,
            trust: Trust::Fresh,
            awaited_catalogs: 0,
            defined: false,
            masker,
            idle,
            lifted: Lifted::none(),
            readings: Readings::default(),
            commands: VecDeque::new(),
            tide: VecDeque::new(),
            tide_bytes: 0,
            gathered: Joined::default(),
            account: Account::default(),
            effects: VecDeque::new(),
            concluding: 0,
            waiting_bytes_max,
            expires_at,
            strict,
            on_disk: 0,
            awaited: 0,
            reviews: 0,
            stirred: false,
            due: Some(now),
            ended: false,
        };
        session.lift(now);
        session
    }

    /// Takes one input. What follows from it, and from others taken since, `poll` works out when it has nothing else
    /// to give.
    pub fn handle(&mut self, input: Input<R::Unit>, now: Timestamp) {
        if self.ended {
            return;
        }
        match input {
            Input::Unit(leg, unit) => {
                if let Err(error) = self.gate.relay_mut().receive(leg, unit) {
                    self.collect(now);
                    self.broken(&error, now);
                    return;
                }
            }
            Input::Ruled(recorded) => self.ruled(recorded, now),
            Input::Unrecorded(id) => self.unrecorded(id),
            Input::Concluded(recorded) => {
                self.concluding = self.concluding.saturating_sub(usize::from(recorded.into_inner().gates));
            }
            Input::OnDisk(below) => self.on_disk = self.on_disk.max(below),
            Input::Taped(recorded) => match recorded.narrow() {
                // Nothing follows from an output that leaves.
                Ok(output) => {
                    self.gate.release(output);
                    return self.transmit();
                }
                Err(recorded) => self.taped(recorded),
            },
            Input::Found(command, review) => self.found(command, review.as_deref(), now),
            Input::Reviewed(review) => self.reviewed(&review, now),
            Input::Catalog(catalog) => self.renewed(catalog),
            Input::Newer(catalog) => self.newer(catalog),
            Input::Outdated => self.outdated(),
            Input::RulesChanged(rules) => {
                self.rules_changed(rules, now);
                if self.ended {
                    return;
                }
            }
            Input::Cancel => self.cancel(now),
            Input::Gone(leg) => {
                let reason = match leg {
                    Leg::Downstream => "client-gone",
                    Leg::Upstream => "resource-gone",
                };
                self.collect(now);
                self.run_tide(now);
                if leg == Leg::Upstream {
                    let why = "the resource closed the connection";
                    let refusal = Refusal::new(RefusalCode::ResourceUnavailable, why, self.context.id.to_string());
                    self.gate.relay_mut().close(&refusal);
                }
                self.finish(reason, now);
                return;
            }
            Input::End(refusal, reason) => {
                self.gate.relay_mut().close(&refusal);
                self.finish(reason, now);
                return;
            }
            Input::Tick => self.tick(now),
        }
        self.due = Some(now);
    }

    /// Takes the desk's memory before it is polled, and gives it back after: what is empty on both sides is exchanged.
    pub fn exchange(&mut self, desk: &mut Desk<R::Unit>) {
        if self.effects.is_empty() && desk.effects.is_empty() {
            std::mem::swap(&mut self.effects, &mut desk.effects);
        }
        if self.tide.is_empty() && desk.tide.is_empty() {
            std::mem::swap(&mut self.tide, &mut desk.tide);
        }
    }

    /// Notes that the client itself said this value of a parameter, so that it may be shown to it again.
    pub fn client_said(&mut self, parameter: &str, value: &str) {
        self.masker.client_said(parameter, value);
    }

    /// Puts the first frame into the recording: what the session is.
    pub fn begin(&mut self, kind: FrameKind, bytes: bytes::Bytes, now: Timestamp) {
        self.effects.push_front(Effect::Note(Note { at: now, command: CommandId(0), kind, bytes }));
    }

    /// The next thing to do, if any. `deadline` and `wants` are true once this said `None`.
    pub fn poll(&mut self) -> Option<Effect<R::Unit>> {
        loop {
            if let Some(effect) = take_next(&mut self.effects) {
                return Some(effect);
            }
            let now = self.due.take()?;
            if !self.ended {
                self.advance(now);
            }
        }
    }

    /// When `Tick` is due at the latest.
    pub fn deadline(&self) -> Option<Timestamp> {
        let held = self.commands.iter().filter_map(|active| match active.stage {
            Stage::Held(_, _, expires) => Some(expires),
            _ => None,
        });
        held.chain([self.expires_at]).min()
    }

    /// Whether the driver should read a leg.
    pub fn wants(&self, leg: Leg) -> bool {
        if self.ended {
            return false;
        }
        let room = self.tide_bytes < self.waiting_bytes_max;
        self.gate.relay().wants(leg) && room
    }

    /// Everything that can be done now, in order: collect events, rule, carry out, show, transmit.
    fn advance(&mut self, now: Timestamp) {
        loop {
            let resumed = self.gate.relay_mut().resume();
            self.collect(now);
            if let Err(error) = resumed {
                return self.broken(&error, now);
            }
            if self.ended {
                return;
            }
            self.spread();
            self.rule_next(now);
            let carried = self.carry_out(now);
            let concluded = self.run_tide(now);
            // What ended can let another command be ruled on, and what it defined is to be spread.
            let goes_on = carried || (concluded && (self.defined || !self.commands.is_empty()));
            if self.ended || !goes_on {
                break;
            }
        }
        self.transmit();
    }

    pub(crate) fn transmit(&mut self) {
        while let Some((leg, unit)) = self.gate.relay_mut().transmit() {
            self.effects.push_back(Effect::Transmit(leg, unit));
        }
    }

    /// Takes the relay's events into our queues.
    fn collect(&mut self, now: Timestamp) {
        while let Some(event) = self.gate.relay_mut().poll() {
            match event {
                Event::Command(command) => self.commands.push_back(Active::new(command.id, command.ask, now)),
                Event::Input(input) => {
                    self.tide_bytes += input.raw.len();
                    self.tide.push_back(Tide::Input(input));
                }
                Event::Output(output) => {
                    self.tide_bytes += output.bytes.len();
                    self.tide.push_back(Tide::Output(output));
                }
                Event::Done(done) => self.tide.push_back(Tide::Done(done)),
                Event::Closed(leg) => {
                    let reason = if leg == Leg::Downstream { "client-closed" } else { "resource-closed" };
                    self.run_tide(now);
                    self.finish(reason, now);
                    return;
                }
            }
        }
    }

    /// The first command whose ruling or approval is recorded and whose turn it is.
    fn carry_out(&mut self, now: Timestamp) -> bool {
        let mut carried = false;
        for at in 0..self.commands.len() {
            let active = &mut self.commands[at];
            match active.stage {
                Stage::Forwarded | Stage::Ended => continue,
                Stage::Ruled(_) | Stage::Stepped(_) | Stage::Unrecorded(_) => {}
                _ => break,
            }
            let (id, digest, scope) = (active.id, active.digest, active.scope);
            if let Stage::Ruled(ruling) = &active.stage {
                if ruling.subject().is_stale(&self.grip.rules.digest()) {
                    let why = "the rules changed before it was forwarded; send it again";
                    self.recall(at, RefusalCode::Denied, why, now);
                    break;
                }
                if active.cancelled && ruling.subject().is_forward() {
                    self.recall(at, RefusalCode::Cancelled, "cancelled before it was forwarded", now);
                    break;
                }
            }
            let forwarded = match std::mem::replace(&mut active.stage, Stage::Ended) {
                Stage::Unrecorded(refusal) => {
                    self.gate.refuse_unrecorded(id, &refusal);
                    carried = true;
                    continue;
                }
                Stage::Stepped(permit) => self.gate.forward(id, &digest, scope, *permit).is_ok(),
                Stage::Ruled(recorded) => match recorded.narrow() {
                    Ok(permit) => self.gate.forward(id, &digest, scope, permit).is_ok(),
                    Err(recorded) => {
                        if let Ok(refusal) = recorded.narrow() {
                            self.gate.refuse(id, &refusal);
                        }
                        carried = true;
                        continue;
                    }
                },
                _ => false,
            };
            if !forwarded {
                let why = "the ruling does not belong to the command";
                self.stop(self.context.refusal(RefusalCode::Unreadable, id, why), "ruling-mismatch", now);
                return true;
            }
            let active = &mut self.commands[at];
            active.stage = Stage::Forwarded;
            active.since = now;
            carried = true;
            self.note_changes(at);
        }
        self.drop_ended();
        carried
    }

    /// Refuses what was allowed and not forwarded yet: by rules that are not in force any more, or before a cancel.
    fn recall(&mut self, at: usize, code: RefusalCode, why: &str, now: Timestamp) {
        let active = &mut self.commands[at];
        active.starting = false;
        let id = active.id;
        let outcome = self.outcome(&self.commands[at], chancery_ledger::Outcome::Skipped, None, 0, 0, now);
        self.effects.push_back(Effect::Conclude(stage(outcome), Level::Written));
        self.refuse(at, self.context.refusal(code, id, why), Vec::new(), now);
    }

    pub(crate) fn drop_ended(&mut self) {
        while matches!(self.commands.front(), Some(Active { stage: Stage::Ended, .. })) {
            take_next(&mut self.commands);
        }
    }

    /// A forwarded statement may change settings, and what names in later messages mean.
    fn note_changes(&mut self, at: usize) {
        let active = &self.commands[at];
        let Some(known) = active.known.clone().filter(|_| active.scope == Scope::Run) else { return };
        self.stirred |= known.stirs;
        if !known.taints.is_empty() {
            // Before its bytes are on their way: whoever reads the relation from now on sees what it may hold.
            self.effects.push_back(Effect::Taint(known.taints.clone()));
        }
        if known.obscure {
            self.gate.relay_mut().forget(Forget::Defined);
        }
        if !known.barrier {
            return;
        }
        for setting in known.facts.statements.iter().flat_map(|statement| &statement.settings) {
            if let Some(value) = &setting.value {
                self.masker.client_said(&setting.name, value);
            }
        }
        for statement in &known.facts.statements {
            let names = match (statement.prepared.as_deref(), statement.kind.as_str()) {
                (Some(""), _) | (None, "do" | "discard") => Forget::All,
                (Some(name), _) if renames(statement) => Forget::Statement(name),
                (None, kind) if kind.starts_with("declare") || kind.starts_with("close") => Forget::Portals,
                _ => continue,
            };
            self.gate.relay_mut().forget(names);
        }
    }

    fn ruled(&mut self, recorded: Recorded<Box<Ruling>>, now: Timestamp) {
        let id = recorded.subject().command();
        let index = recorded.entry_ref().map(|entry| entry.index);
        let Some(at) = self.position(id) else { return };
        let stage = std::mem::replace(&mut self.commands[at].stage, Stage::Ended);
        let active = &mut self.commands[at];
        active.stage = match (stage, recorded.narrow()) {
            (Stage::Requesting(review), Ok(hold)) => {
                let hold: Box<Hold> = hold.into_inner();
                let (id, expires_at) = (review.id, review.expires_at);
                let text = format!(
                    "chancery: held for review {id} ({}); release it with: chancery review approve {id}; cancel to withdraw",
                    review.needed.join(", ")
                );
                self.effects.push_back(Effect::Ask(review));
                if !self.context.wait {
                    return self.refuse_waiting(at, id, now);
                }
                let (command, cancelled) = (active.id, active.cancelled);
                let stale = hold.ruleset() != self.grip.rules.digest();
                active.stage = Stage::Held(hold, id, expires_at);
                if cancelled {
                    return self.withdraw_cancelled(at, now);
                }
                if stale {
                    return self.withdraw_stale(now);
                }
                self.gate.relay_mut().inform(command, &text);
                return;
            }
            (_, Err(recorded)) => {
                active.entry = index.filter(|_| self.strict);
                Stage::Ruled(recorded)
            }
            // A hold that nobody waits for any more.
            (_, Ok(_)) => Stage::Ended,
        };
    }

    /// Fail closed: what cannot be recorded is not done. This refusal is the one that stands nowhere.
    fn unrecorded(&mut self, id: CommandId) {
        let Some(at) = self.position(id) else { return };
        let message = "record unavailable: it cannot be put on record as it must be, so nothing is done";
        let refusal = self
            .context
            .refusal(RefusalCode::RecordUnavailable, id, message)
            .hint("try again later; tell the operator that the ledger cannot be written, or is without its witnesses");
        self.commands[at].stage = Stage::Unrecorded(Box::new(refusal));
        self.commands[at].starting = false;
    }

    fn taped(&mut self, recorded: Recorded<Tape>) {
        let recorded = match recorded.narrow() {
            Ok(input) => return self.gate.pass(input),
            Err(recorded) => recorded,
        };
        if let Tape::Step(_, id, ..) = recorded.subject()
            && let Some(at) = self.position(*id)
            && let Ok(permit) = recorded.narrow()
        {
            self.commands[at].stage = Stage::Stepped(Box::new(permit));
        }
    }

    fn rules_changed(&mut self, rules: Arc<RuleSet>, now: Timestamp) {
        self.grip = Grip::new(rules, &self.context);
        self.readings.clear();
        self.lift(now);
        self.withdraw_stale(now);
        if !matches!(self.grip.connect(&self.context, now).1, chancery_policy::Verdict::Allow(_)) {
            let why = "the rules changed and no longer allow this session";
            let refusal = self.context.refusal(RefusalCode::SessionEnded, CommandId(0), why);
            self.stop(refusal, "rules-changed", now);
        }
    }

    /// Ends what is held under rules that are not in force any more: no approval can release it.
    fn withdraw_stale(&mut self, now: Timestamp) {
        let rules = self.grip.rules.digest();
        for at in 0..self.commands.len() {
            if matches!(&self.commands[at].stage, Stage::Held(hold, ..) if hold.ruleset() != rules) {
                let why = "the rules changed while it waited for its review; send it again";
                self.withdraw(at, ReviewState::Withdrawn, RefusalCode::Denied, why, now);
            }
        }
    }

    fn withdraw_cancelled(&mut self, at: usize, now: Timestamp) {
        let why = "cancelled while it waited for its review";
        self.withdraw(at, ReviewState::Withdrawn, RefusalCode::Cancelled, why, now);
    }

    /// Which tags the rules lift for this chain.
    fn lift(&mut self, now: Timestamp) {
        let mut tags: Vec<String> = self.context.mask.columns.iter().map(|rule| rule.tag.clone()).collect();
        tags.sort();
        tags.dedup();
        let lifted = unmask(&self.grip.subject, &self.grip.rules, &tags, now);
        self.lifted = Lifted::of(tags.into_iter().zip(lifted).filter(|(_, lifted)| *lifted).map(|(tag, _)| tag));
    }

    fn cancel(&mut self, now: Timestamp) {
        // What the resource works on, or would if it were not held: the first that is not over.
        let first = self.commands.iter().position(|active| !matches!(active.stage, Stage::Ended));
        let Some(at) = first else { return };
        match self.commands[at].stage {
            Stage::Held(..) => self.withdraw_cancelled(at, now),
            Stage::Forwarded => {
                self.commands[at].cancelled = true;
                self.effects.push_back(Effect::CancelUpstream);
            }
            // On its way to being held or forwarded; it is ended when it gets there.
            Stage::Asked | Stage::Ruling | Stage::Ruled(_) | Stage::Finding(_) | Stage::Requesting(_) => {
                self.commands[at].cancelled = true;
            }
            Stage::Stepped(_) | Stage::Unrecorded(_) | Stage::Ended => {}
        }
    }

    fn tick(&mut self, now: Timestamp) {
        let expired = self
            .commands
            .iter()
            .position(|active| matches!(active.stage, Stage::Held(_, _, expires) if expires <= now));
        if let Some(at) = expired {
            let why = "nobody answered the review in time";
            self.withdraw(at, ReviewState::Expired, RefusalCode::ReviewExpired, why, now);
        }
        if self.expires_at <= now {
            let refusal = self.context.refusal(
                RefusalCode::SessionEnded,
                CommandId(0),
                "the access token of this session expired",
            );
            self.stop(refusal.hint("get a new token and connect again"), "token-expired", now);
        }
    }

    /// A leg broke the protocol, or a limit: the client is told in its own protocol, and the session ends.
    fn broken(&mut self, error: &WireError, now: Timestamp) {
        let (code, leg, why) = match error {
            WireError::PeerUnsupported(leg, why) => (RefusalCode::Unsupported, *leg, *why),
            WireError::LimitReached(leg, why) => (RefusalCode::Limit, *leg, *why),
            WireError::PeerMisbehaved(leg, why) => (RefusalCode::Malformed, *leg, *why),
            _ => (RefusalCode::Malformed, Leg::Downstream, "internal error"),
        };
        let whose = if leg == Leg::Downstream { "the client's message" } else { "the resource's answer" };
        let refusal = self.context.refusal(code, CommandId(0), format!("{whose} cannot be processed: {why}"));
        self.stop(refusal, "protocol-error", now);
    }

    /// Ends the session with a word to the client.
    pub(crate) fn stop(&mut self, refusal: Refusal, reason: &'static str, now: Timestamp) {
        if !self.ended {
            self.gate.relay_mut().close(&refusal);
            self.finish(reason, now);
        }
    }

    /// Closes every open command with an outcome, then the session.
    fn finish(&mut self, reason: &'static str, now: Timestamp) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.spread_at_end();
        // Whose authority ended, has nothing running on it any longer. A client that leaves is the resource's affair, as
        // it is without us.
        let left = matches!(reason, "client-gone" | "client-closed" | "resource-gone" | "resource-closed");
        if !left && self.commands.iter().any(|active| matches!(active.stage, Stage::Forwarded)) {
            self.effects.push_back(Effect::CancelUpstream);
        }
        for active in std::mem::take(&mut self.commands) {
            let outcome = match active.stage {
                Stage::Forwarded => chancery_ledger::Outcome::Unknown,
                // Recorded and never carried out.
                Stage::Ruled(ref recorded) if recorded.subject().is_forward() => chancery_ledger::Outcome::Skipped,
                Stage::Ruling if active.starting => chancery_ledger::Outcome::Skipped,
                Stage::Held(_, review, _) => {
                    self.effects.push_back(Effect::Withdraw(review, ReviewState::Withdrawn));
                    continue;
                }
                // Its request may stand in the ledger already; nobody was asked yet.
                Stage::Requesting(review) => {
                    self.effects.push_back(Effect::Withdraw(review.id, ReviewState::Withdrawn));
                    continue;
                }
                _ => continue,
            };
            if active.scope != Scope::Step {
                let outcome = self.outcome(&active, outcome, None, 0, 0, now);
                self.effects.push_back(Effect::Conclude(stage(outcome), Level::Written));
            }
        }
        self.tell_map(now);
        self.transmit();
        self.effects.push_back(Effect::Close(reason));
    }

    pub(crate) fn outcome(
        &self,
        active: &Active,
        outcome: chancery_ledger::Outcome,
        sqlstate: Option<String>,
        rows: u64,
        bytes: u64,
        now: Timestamp,
    ) -> Outcome {
        Outcome {
            context: self.context.clone(),
            command: active.id,
            outcome,
            sqlstate,
            rows,
            bytes,
            masked: active.masked,
            duration_us: u64::try_from(now.0.saturating_sub(active.since.0)).unwrap_or(0),
            gates: false,
        }
    }

    pub(crate) fn position(&self, id: CommandId) -> Option<usize> {
        self.commands.iter().position(|active| active.id == id)
    }

    pub(crate) fn note(&mut self, id: CommandId, kind: FrameKind, bytes: bytes::Bytes, now: Timestamp) {
        self.effects.push_back(Effect::Note(Note { at: now, command: id, kind, bytes }));
    }

    pub(crate) fn rule(&mut self, at: usize, ruled: Ruled, level: Level) {
        let active = &mut self.commands[at];
        let (fingerprint, effect) = active
            .known
            .as_ref()
            .map_or((Digest::default(), chancery_model::Effect::Read), |known| (known.fingerprint, known.effect));
        let ruling = Box::new(Ruling {
            context: self.context.clone(),
            command: active.id,
            digest: active.digest,
            fingerprint,
            effect,
            rules: self.grip.rules.digest(),
            ruled,
        });
        let id = self.commands[at].id;
        self.effects.push_back(Effect::Rule(id, stage(ruling), level));
    }
}

impl Active {
    /// Whether nothing behind it may be ruled on yet: it is held, or what it does can change how they are read.
    pub(crate) fn blocks(&self) -> bool {
        match self.stage {
            Stage::Ended => false,
            Stage::Finding(_) | Stage::Requesting(_) | Stage::Held(..) => true,
            _ => self.known.as_ref().is_some_and(|known| known.barrier),
        }
    }

    fn new(id: CommandId, ask: Ask, now: Timestamp) -> Self {
        let scope = match ask {
            Ask::Query(_) | Ask::Execute(..) | Ask::Refused(_) => Scope::Run,
            Ask::Prepare(_) => Scope::Prepare,
            Ask::Step(_) => Scope::Step,
        };
        Self {
            id,
            ask: Some(ask),
            scope,
            stage: Stage::Asked,
            digest: Digest::default(),
            known: None,
            exposure: None,
            since: now,
            masked: 0,
            shown: Shown::default(),
            entry: None,
            cancelled: false,
            starting: false,
            hastened: false,
        }
    }
}

/// The ledger's word for how a command ended.
pub(crate) fn ending(status: &DoneStatus, cancelled: bool) -> (chancery_ledger::Outcome, Option<String>) {
    match status {
        DoneStatus::Completed => (chancery_ledger::Outcome::Completed, None),
        DoneStatus::Suspended => (chancery_ledger::Outcome::Suspended, None),
        DoneStatus::Skipped => (chancery_ledger::Outcome::Skipped, None),
        DoneStatus::Failed(code) if cancelled => (chancery_ledger::Outcome::Cancelled, Some(code.clone())),
        DoneStatus::Failed(code) => (chancery_ledger::Outcome::Failed, Some(code.clone())),
    }
}
