//! Ruling on commands, and holding those that need a review.

use std::sync::Arc;

use aws_lc_rs::digest::{Context as Hasher, SHA256};
use bytes::Bytes;
use chancery_ledger::{FrameKind, stage_frame};
use chancery_mask::Plan;
use chancery_model::{
    Action, Ask, CommandId, CopyDirection, Digest, Durability, Effect as Change, Refusal, RefusalCode, Review,
    ReviewId, ReviewState, Statement, Timestamp,
};
use chancery_policy::{Hold, Request, Scope, Verdict, decide, step};
use chancery_wire::Relay;

use crate::effect::Effect;
use crate::original::Original;
use crate::reading::{Known, Looked, RUNS, misreads, read, unreadable};
use crate::ruling::{Level, Ruled, Tape};
use crate::session::{Session, Stage};
use crate::trust::Trust;

/// What is recorded of one to eight parameters: said for nearly every statement, so it is not written anew.
const FEW_MASKED: [&[u8]; 8] =
    [b"1 masked", b"2 masked", b"3 masked", b"4 masked", b"5 masked", b"6 masked", b"7 masked", b"8 masked"];

impl<R: Relay> Session<R> {
    /// Rules on every command that may be ruled on now, in order.
    pub(crate) fn rule_next(&mut self, now: Timestamp) {
        for at in 0..self.commands.len() {
            if matches!(self.commands[at].stage, Stage::Asked) {
                if self.trust != Trust::Fresh && !self.refresh() {
                    break;
                }
                self.rule_at(at, now);
            }
            if self.commands[at].blocks() {
                self.hasten(at);
                break;
            }
        }
    }

    /// Commands wait for the end of the one at `at`: the resource must not keep it to itself.
    fn hasten(&mut self, at: usize) {
        let waited_for = at + 1 < self.commands.len();
        let active = &mut self.commands[at];
        if waited_for && matches!(active.stage, Stage::Forwarded) && !std::mem::replace(&mut active.hastened, true) {
            self.gate.relay_mut().hasten();
        }
    }

    fn rule_at(&mut self, at: usize, now: Timestamp) {
        let Some(ask) = self.commands[at].ask.take() else { return };
        self.commands[at].stage = Stage::Ruling;
        let id = self.commands[at].id;
        let (kind, statement, parameters): (_, _, &[u8]) = match &ask {
            Ask::Refused(refusal) => {
                let refusal = Refusal { reference: format!("{}/{id}", self.context.id), ..refusal.clone() };
                return self.refuse(at, refusal, Vec::new(), now);
            }
            Ask::Step(word) => {
                let digest = self.digest("step", word.as_bytes(), &[]);
                self.commands[at].digest = digest;
                let permit = step(&self.grip.rules, digest);
                return self.effects.push_back(Effect::Tape(stage_frame(Tape::Step(now, id, word, permit))));
            }
            Ask::Query(statement) => ("query", statement, &[]),
            Ask::Prepare(statement) => ("prepare", statement, &[]),
            Ask::Execute(statement, bind) => ("execute", statement, &bind.raw),
        };
        if self.context.seals {
            self.effects.push_back(Effect::Seal(Original::command(id, &statement.text, now)));
            if let Ask::Execute(_, bind) = &ask {
                self.effects.push_back(Effect::Seal(Original::parameters(id, &bind.raw, now)));
            }
        }
        let digest = self.digest(kind, &statement.text, parameters);
        self.commands[at].digest = digest;
        let text_max = self.context.limits.text_bytes_max;
        let looked = match &ask {
            Ask::Query(_) => self.readings.look(statement, text_max),
            _ => self.readings.look_prepared(statement, text_max),
        };
        let count = ask.parameter_count();
        match looked {
            Looked::Found(known) => match known.permit(&self.grip.rules, digest) {
                Some(permit) => {
                    self.tape_command(id, &known, count, now);
                    let permit = permit.limit(self.commands[at].scope);
                    self.commands[at].known = Some(known);
                    self.forwardable(at, Ruled::Forward(permit));
                }
                None => self.rule_anew(at, ask, None, now),
            },
            Looked::New { shaped } => self.rule_anew(at, ask, Some(shaped), now),
        }
    }

    fn digest(&self, ask: &str, text: &[u8], parameters: &[u8]) -> Digest {
        self.grip.digests.of(ask, text, parameters)
    }

    /// Reads a statement and has the rules decide. `shaped`: what is found may be remembered, by its shape or its text.
    fn rule_anew(&mut self, at: usize, ask: Ask, shaped: Option<bool>, now: Timestamp) {
        let (id, digest) = (self.commands[at].id, self.commands[at].digest);
        let (Ask::Query(statement) | Ask::Prepare(statement) | Ask::Execute(statement, _)) = &ask else { return };
        let (statement, count) = (statement.clone(), ask.parameter_count());
        // A portal that was begun goes on with what the name stood for then.
        let resumed = matches!(&ask, Ask::Execute(_, bind) if bind.resumed);
        self.commands[at].ask = Some(ask);
        let relay = self.gate.relay();
        let defined = |name: &str| relay.defined(name).filter(|_| !resumed);
        let mut known = read(&statement, &self.context, &self.catalog, defined);
        let digest = match known.runs {
            Some(_) => self.digest_of_run(at, &statement, &known),
            None => digest,
        };
        if let Some(refusal) = self.unfit(id, &known) {
            let known = Arc::new(known);
            self.tape_command(id, &known, count, now);
            self.commands[at].known = Some(known);
            self.refuse(at, refusal, Vec::new(), now);
            return;
        }
        let verdict = self.decide(digest, &known, now);
        if let (Verdict::Allow(permit), Some(shaped)) = (&verdict, shaped) {
            known.standing = permit.standing();
            let known = Arc::new(known);
            self.readings.remember(&known, shaped, self.context.limits.shapes_max);
            self.settle_verdict(at, verdict, known, count, now);
        } else {
            self.settle_verdict(at, verdict, Arc::new(known), count, now);
        }
    }

    /// An approval of an EXECUTE is for what it runs, too.
    fn digest_of_run(&mut self, at: usize, statement: &Statement, known: &Known) -> Digest {
        let covered = known.covered(&statement.text);
        let digest = match (&self.commands[at].ask, self.commands[at].scope) {
            (Some(Ask::Execute(_, bind)), _) => self.digest("execute", &covered, &bind.raw),
            (_, Scope::Prepare) => self.digest("prepare", &covered, &[]),
            _ => self.digest("query", &covered, &[]),
        };
        self.commands[at].digest = digest;
        digest
    }

    fn decide(&self, digest: Digest, known: &Known, now: Timestamp) -> Verdict {
        let request = Request {
            subject: &self.grip.subject,
            digest,
            facts: &known.facts,
            needs: &known.needs,
            reviews: &[],
            connect: false,
        };
        decide(&request, &self.grip.rules, now)
    }

    fn settle_verdict(
        &mut self,
        at: usize,
        verdict: Verdict,
        known: Arc<Known>,
        parameters: Option<u16>,
        now: Timestamp,
    ) {
        let active = &mut self.commands[at];
        let (id, scope, digest) = (active.id, active.scope, active.digest);
        active.known = Some(known.clone());
        self.tape_command(id, &known, parameters, now);
        match verdict {
            Verdict::Allow(permit) => {
                self.commands[at].ask = None;
                self.forwardable(at, Ruled::Forward(permit.limit(scope)));
            }
            Verdict::Deny(denial) => {
                let refusal = denial.refusal(format!("{}/{id}", self.context.id));
                self.refuse(at, refusal, denial.rules().to_vec(), now);
            }
            // What needs a review to run may be prepared: that runs nothing.
            Verdict::Hold(hold) if scope == Scope::Prepare => {
                self.commands[at].ask = None;
                self.forwardable(at, Ruled::Forward(hold.prepare()));
            }
            Verdict::Hold(hold) => {
                self.commands[at].stage = Stage::Finding(Box::new(hold));
                self.effects.push_back(Effect::Find(id, digest));
            }
        }
    }

    /// What no rule can allow.
    fn unfit(&self, id: CommandId, known: &Known) -> Option<Refusal> {
        if let Some(why) = known.facts.why_unreadable() {
            return Some(unreadable(&self.context, id, why));
        }
        if let Some(what) = misreads(&known.facts) {
            let message = format!("{what} is not supported: statements would be misread");
            return Some(self.context.refusal(RefusalCode::Unsupported, id, message));
        }
        if self.cannot_be_masked(known) {
            let message = "COPY in this format cannot be masked, and it reads masked columns";
            let refusal = self.context.refusal(RefusalCode::Unsupported, id, message);
            return Some(refusal.hint("use the text format without options, or leave the masked columns out"));
        }
        let reads = |need: &chancery_model::Need| matches!(need.action, Action::Read | Action::Connect);
        if self.context.only_read && !(known.needs.iter().all(reads) && known.effect == Change::Read) {
            let message = "the access token is limited to reading";
            return Some(self.context.refusal(RefusalCode::Denied, id, message));
        }
        None
    }

    fn cannot_be_masked(&self, known: &Known) -> bool {
        let out =
            known.facts.statements.iter().filter_map(|s| s.copy.as_ref()).filter(|c| c.direction == CopyDirection::Out);
        out.into_iter().any(|copy| {
            let listed = copy.table.as_ref().map_or(1, |table| self.catalog.columns_of(table).len().max(1));
            let count = if copy.columns.is_empty() { listed } else { copy.columns.len() };
            let count = u16::try_from(count).unwrap_or(u16::MAX);
            let binary = copy.format == "binary";
            let (rules, lifted) = (&self.context.mask, &self.lifted);
            Plan::copy(&self.catalog, rules, lifted, &known.exposure, copy, binary, count).is_impossible()
        })
    }

    fn tape_command(&mut self, id: CommandId, known: &Known, parameters: Option<u16>, now: Timestamp) {
        self.note(id, FrameKind::Command, known.redacted.clone(), now);
        if let Some(count) = parameters.filter(|count| *count > 0) {
            let words = FEW_MASKED.get(usize::from(count) - 1);
            let words = words.map_or_else(|| Bytes::from(format!("{count} masked")), |words| Bytes::from_static(words));
            self.note(id, FrameKind::Parameters, words, now);
        }
    }

    /// Stages a forward at the level that its effect and the profile ask for.
    fn forwardable(&mut self, at: usize, ruled: Ruled) {
        let effect = self.commands[at].known.as_ref().map_or(Change::Write, |known| known.effect);
        let runs = self.commands[at].scope == Scope::Run;
        let level = if effect == Change::Write && runs { Level::OnDisk } else { Level::Written };
        self.commands[at].starting = true;
        self.rule(at, ruled, level);
    }

    pub(crate) fn refuse(&mut self, at: usize, refusal: Refusal, rules: Vec<chancery_model::RuleId>, now: Timestamp) {
        let active = &mut self.commands[at];
        active.stage = Stage::Ruling;
        active.ask = None;
        let id = active.id;
        let note = format!("{}: {}", refusal.code, refusal.message);
        self.note(id, FrameKind::Verdict, Bytes::from(note), now);
        let strict = self.context.resource.durability == Durability::Strict;
        let level = if strict { Level::OnDisk } else { Level::Written };
        self.rule(at, Ruled::Refuse(refusal, rules), level);
    }

    pub(crate) fn found(&mut self, id: CommandId, review: Option<&Review>, now: Timestamp) {
        let Some(at) = self.position(id) else { return };
        let Stage::Finding(hold) = std::mem::replace(&mut self.commands[at].stage, Stage::Ruling) else { return };
        if self.commands[at].cancelled {
            let reference = format!("{}/{id}", self.context.id);
            let why = "cancelled before it was put before its reviewers";
            return self.refuse(at, Refusal::new(RefusalCode::Cancelled, why, reference), Vec::new(), now);
        }
        match review {
            // The one that an earlier sending of the same command asked for.
            Some(review) if review.state == ReviewState::Pending => self.refuse_waiting(at, review.id, now),
            Some(review) => self.settle_review(at, *hold, review, now),
            None => self.request(at, hold, now),
        }
    }

    /// Puts a request for a review into the ledger; the reviewers see it once it is there.
    fn request(&mut self, at: usize, hold: Box<Hold>, now: Timestamp) {
        let rules = &self.grip.rules;
        let shortest = hold.needed().iter().filter_map(|name| rules.review(name)).map(|rule| rule.expires_micros).min();
        let wait = shortest.unwrap_or(0).min(self.context.limits.hold_micros_max);
        let active = &self.commands[at];
        let (text, parameters) = match &active.ask {
            Some(Ask::Execute(statement, bind)) => (statement.as_str().to_owned(), self.gate.relay().parameters(bind)),
            Some(Ask::Query(statement) | Ask::Prepare(statement)) => (statement.as_str().to_owned(), Vec::new()),
            _ => (String::new(), Vec::new()),
        };
        let text = match active.known.as_ref().and_then(|known| known.runs.as_ref()) {
            Some(prepared) => format!("{text}{RUNS}{}", prepared.as_str()),
            None => text,
        };
        let facts = active.known.as_ref().map(|known| known.summary()).unwrap_or_default();
        let review = Review {
            id: self.next_review(now),
            session: self.context.id,
            command: self.commands[at].id,
            resource: self.context.resource.name.clone(),
            chain: (*self.context.chain).clone(),
            digest: self.commands[at].digest,
            rules: self.grip.rules.digest(),
            needed: hold.needed().to_vec(),
            text,
            parameters,
            summary: facts,
            asked_at: now,
            expires_at: now.plus_micros(wait),
            uses: 1,
            state: ReviewState::Pending,
            approvals: Vec::new(),
        };
        let (id, expires_at) = (review.id, review.expires_at);
        let command = self.commands[at].id;
        self.note(command, FrameKind::Verdict, Bytes::from(format!("held for review {id}")), now);
        self.commands[at].stage = Stage::Requesting(Box::new(review));
        self.rule(at, Ruled::Hold(hold, id, expires_at), Level::OnDisk);
    }

    fn next_review(&mut self, now: Timestamp) -> ReviewId {
        self.reviews += 1;
        let mut hasher = Hasher::new(&SHA256);
        hasher.update(&self.context.seed);
        hasher.update(&self.reviews.to_be_bytes());
        let digest = hasher.finish();
        let mut random = [0; 10];
        random.copy_from_slice(&digest.as_ref()[..10]);
        ReviewId::new(now, random)
    }

    pub(crate) fn reviewed(&mut self, review: &Review, now: Timestamp) {
        let held =
            self.commands.iter().position(|active| matches!(&active.stage, Stage::Held(_, id, _) if *id == review.id));
        let Some(at) = held else { return };
        let Stage::Held(hold, ..) = std::mem::replace(&mut self.commands[at].stage, Stage::Ruling) else { return };
        let id = self.commands[at].id;
        let (code, message) = match review.state {
            ReviewState::Approved | ReviewState::Used => return self.settle_review(at, *hold, review, now),
            ReviewState::Denied => (RefusalCode::ReviewDenied, "the reviewers denied it"),
            ReviewState::Expired => (RefusalCode::ReviewExpired, "nobody answered the review in time"),
            ReviewState::Withdrawn => (RefusalCode::Cancelled, "the review was withdrawn"),
            ReviewState::Pending => {
                self.commands[at].stage = Stage::Held(hold, review.id, review.expires_at);
                return;
            }
        };
        let reference = format!("{}, {}/{id}", review.id, self.context.id);
        self.refuse(at, Refusal::new(code, message, reference), Vec::new(), now);
    }

    /// The approval is checked again, now, under the rules of now.
    fn settle_review(&mut self, at: usize, hold: Hold, review: &Review, now: Timestamp) {
        let id = self.commands[at].id;
        match hold.settle(review, &self.grip.rules, now) {
            Verdict::Allow(permit) => {
                let who: Vec<_> = review.approvals.iter().map(|a| a.reviewer.display.as_str()).collect();
                let note = format!("released by review {}, approved by {}", review.id, who.join(", "));
                self.note(id, FrameKind::Verdict, Bytes::from(note), now);
                self.commands[at].ask = None;
                self.forwardable(at, Ruled::Forward(permit));
            }
            Verdict::Deny(denial) => {
                let refusal = denial.refusal(format!("{}, {}/{id}", review.id, self.context.id));
                self.refuse(at, refusal, denial.rules().to_vec(), now);
            }
            Verdict::Hold(_) => {
                let refusal = self.context.refusal(RefusalCode::Denied, id, "the approval does not cover it");
                self.refuse(at, refusal, Vec::new(), now);
            }
        }
    }

    /// A client that does not wait is told at once where its request stands.
    pub(crate) fn refuse_waiting(&mut self, at: usize, review: ReviewId, now: Timestamp) {
        let id = self.commands[at].id;
        let reference = format!("{review}, {}/{id}", self.context.id);
        let refusal = Refusal::new(RefusalCode::ReviewPending, format!("it needs a review: {review}"), reference)
            .hint("send the same command again after the approval; it then runs once");
        self.refuse(at, refusal, Vec::new(), now);
    }

    /// Ends a held command without an answer.
    pub(crate) fn withdraw(&mut self, at: usize, state: ReviewState, code: RefusalCode, why: &str, now: Timestamp) {
        let Stage::Held(_, review, _) = self.commands[at].stage else { return };
        let id = self.commands[at].id;
        self.effects.push_back(Effect::Withdraw(review, state));
        let refusal = Refusal::new(code, why, format!("{review}, {}/{id}", self.context.id));
        self.refuse(at, refusal, Vec::new(), now);
    }
}
