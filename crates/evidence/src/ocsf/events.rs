//! An entry becomes an event. An entry says only what is new in it; who opened the session and which command ended is
//! remembered from those before.

use chancery_ledger::{EntryKind, Leaf};
use chancery_model::{Digest, SessionId};
use foldhash::HashMap;
use serde_json::{Value, json};

use super::act::{self, Act};
use super::common::{Event, Kind, gateway, millis, product, user};
use crate::directory::hex;
use crate::{Directory, fields};

/// Open sessions that are remembered. There are never so many open at one gateway; events of more lack names.
const SESSIONS_MAX: usize = 100_000;
/// Commands remembered of one session.
const ACTS_MAX: usize = 10_000;
/// Requests for approval that are remembered.
const REVIEWS_MAX: usize = 100_000;

const BASE: Kind = Kind { class: 0, activity: 99, severity: 1 };
const AUTHENTICATION: u32 = 3002;
const ENTITY: u32 = 3004;
const LIFECYCLE: u32 = 6002;
const API: u32 = 6003;
const ERROR: u32 = 6008;
const DETECTION: u32 = 2004;

/// A session as its `session.open` has it.
pub(super) struct Open {
    index: u64,
    at: i64,
    pub(super) chain: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) acts: HashMap<u64, Act>,
}

/// Turns entries into events, in the order of the ledger.
#[derive(Default)]
pub struct Events {
    open: HashMap<SessionId, Open>,
    reviews: HashMap<String, (SessionId, u64)>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl Events {
    /// The first entry that has to be read again by whoever goes on behind the last one: that of the oldest session or
    /// review which is open.
    pub fn oldest(&self) -> Option<u64> {
        let reviews = self.reviews.values().map(|(_, index)| *index);
        self.open.values().map(|open| open.index).chain(reviews).min()
    }

    /// Appends the event of an entry as one line. `hash`: the entry's leaf hash. Every entry has one event.
    pub fn event(&mut self, leaf: &Leaf, hash: &Digest, directory: &Directory, line: &mut String) {
        let event = match leaf.kind {
            Some(EntryKind::SessionOpen) => opened(leaf, hash, directory),
            Some(EntryKind::SessionClose) => self.closed(leaf, hash, directory, "session closed"),
            Some(EntryKind::Crash) if leaf.command.is_none() => {
                self.closed(leaf, hash, directory, "session lost: the process ended")
            }
            Some(EntryKind::ActDeny) if leaf.command.unwrap_or_default() == 0 => unopened(leaf, hash, directory),
            Some(EntryKind::ActDeny | EntryKind::ActStart | EntryKind::ActDone | EntryKind::Crash) => {
                let open = leaf.session.and_then(|session| self.open.get(&session));
                act::event(leaf, hash, directory, open)
            }
            Some(
                EntryKind::ApprovalRequest
                | EntryKind::ApprovalDecide
                | EntryKind::ApprovalUse
                | EntryKind::ApprovalEnd,
            ) => self.review(leaf, hash, directory),
            Some(EntryKind::PolicyApply) => applied(leaf, hash, directory),
            Some(EntryKind::SecretChange) => secret(leaf, hash, directory),
            Some(EntryKind::Boot | EntryKind::Shutdown) => lifecycle(leaf, hash),
            Some(EntryKind::View | EntryKind::Export) => look(leaf, hash, directory),
            Some(EntryKind::Unseal | EntryKind::Shred) => originals(leaf, hash, directory),
            Some(EntryKind::Alert) => alert(leaf, hash),
            Some(EntryKind::Stall | EntryKind::Gap) => trouble(leaf, hash),
            Some(
                EntryKind::RawSegment
                | EntryKind::RetentionRun
                | EntryKind::RetentionDone
                | EntryKind::PruneRecording
                | EntryKind::PruneLedger
                | EntryKind::PruneRefuse
                | EntryKind::HoldSet
                | EntryKind::HoldLift,
            )
            | Some(EntryKind::Heartbeat | EntryKind::KeyEpoch | EntryKind::Principal | EntryKind::RecordingSegment)
            | None => base(leaf, hash),
        };
        event.write(line);
        self.remember(leaf);
    }

    /// Takes an entry whose event was written before.
    pub fn remember(&mut self, leaf: &Leaf) {
        let review = fields::text(leaf, "rev");
        match (leaf.kind, leaf.session) {
            (Some(EntryKind::SessionOpen), Some(session)) if self.open.len() < SESSIONS_MAX => {
                let text = |name| fields::text(leaf, name);
                let (chain, resource, protocol) = (text("a"), text("c"), text("proto"));
                let acts = HashMap::default();
                let open = Open { index: leaf.index, at: leaf.wall, chain, resource, protocol, acts };
                self.open.insert(session, open);
            }
            (Some(EntryKind::ActStart), Some(session)) => {
                let Some(open) = self.open.get_mut(&session) else { return };
                if let Some(command) = leaf.command.filter(|_| open.acts.len() < ACTS_MAX) {
                    open.acts.insert(command, Act::new(leaf));
                }
            }
            (Some(EntryKind::ActDone), Some(session)) => self.done(session, leaf.command),
            (Some(EntryKind::Crash), Some(session)) if leaf.command.is_some() => self.done(session, leaf.command),
            (Some(EntryKind::SessionClose | EntryKind::Crash), Some(session)) => {
                self.open.remove(&session);
                self.reviews.retain(|_, (of, _)| *of != session);
            }
            (Some(EntryKind::ApprovalRequest), Some(session)) if self.reviews.len() < REVIEWS_MAX => {
                self.reviews.extend(review.map(|review| (review, (session, leaf.index))));
            }
            (Some(EntryKind::ApprovalUse | EntryKind::ApprovalEnd), _) => {
                review.and_then(|review| self.reviews.remove(&review));
            }
            _ => {}
        }
    }

    fn done(&mut self, session: SessionId, command: Option<u64>) {
        if let (Some(open), Some(command)) = (self.open.get_mut(&session), command) {
            open.acts.remove(&command);
        }
    }

    fn closed<'l>(&self, leaf: &'l Leaf, hash: &Digest, directory: &Directory, message: &str) -> Event<'l> {
        let orderly = leaf.kind == Some(EntryKind::SessionClose);
        let severity = if orderly { 1 } else { 3 };
        let mut event = Event::new(leaf, hash, Kind { class: AUTHENTICATION, activity: 2, severity }, message);
        let open = leaf.session.and_then(|session| self.open.get(&session));
        let chain = open.and_then(|open| open.chain.as_deref());
        event.actor(directory, chain);
        event.set("user", user(directory, chain));
        event.set("service", service(open.and_then(|open| open.resource.as_deref())));
        let mut session = json!({ "uid": fields::session(leaf).unwrap_or_default() });
        if let Some(reason) = event.take("reason") {
            session["expiration_reason"] = reason.into();
        }
        if let Some(open) = open {
            session["created_time"] = millis(open.at).into();
            event.set("start_time", millis(open.at));
            event.set("end_time", millis(leaf.wall));
            event.set("duration", millis(leaf.wall - open.at));
        }
        event.set("session", session);
        event.status(if orderly { 1 } else { 0 }, None);
        event
    }

    /// Entity Management, not User Access Management: an approval is for one command, once; it leaves nobody with a
    /// privilege that they did not have.
    fn review<'l>(&self, leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
        let (activity, message) = match leaf.kind {
            Some(EntryKind::ApprovalRequest) => (1, "approval requested"),
            Some(EntryKind::ApprovalDecide) => (3, "approval decided"),
            Some(EntryKind::ApprovalUse) => (10, "approval used up by the command"),
            _ => (11, "request for approval ended"),
        };
        let mut event = Event::new(leaf, hash, Kind { class: ENTITY, activity, severity: 1 }, message);
        let id = event.take("rev").unwrap_or_default();
        let place = self.reviews.get(&id);
        if let (None, Some((session, _))) = (leaf.session, place) {
            let mut id = String::with_capacity(32);
            hex(&session.0, &mut id);
            event.correlate(id);
        }
        let chain = match leaf.kind {
            Some(EntryKind::ApprovalRequest) => event.take("a"),
            Some(EntryKind::ApprovalDecide) => event.take("by"),
            _ => leaf.session.and_then(|session| self.open.get(&session)).and_then(|open| open.chain.clone()),
        };
        if chain.is_some() {
            event.actor(directory, chain.as_deref());
        }
        event.set("entity", json!({ "type": "Review", "type_id": 99, "uid": id }));
        if leaf.kind == Some(EntryKind::ApprovalDecide) {
            let (word, _) = fields::decision(leaf);
            event.ruling(word.as_deref() == Some("approve"));
            event.status(1, word.as_deref());
        } else {
            let end = event.take("end");
            event.status(1, end.as_deref());
        }
        event
    }
}

fn service(resource: Option<&str>) -> Value {
    json!({ "name": resource.unwrap_or("unknown") })
}

fn opened<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let kind = Kind { class: AUTHENTICATION, activity: 1, severity: 1 };
    let mut event = Event::new(leaf, hash, kind, "session opened");
    let (chain, resource) = (event.take("a"), event.take("c"));
    let mut session = json!({
        "created_time": millis(leaf.wall),
        "is_remote": true,
        "uid": fields::session(leaf).unwrap_or_default(),
    });
    if let Some(delegation) = chain.as_deref().and_then(|chain| directory.chain(chain)) {
        session["issuer"] = delegation.principal.issuer.as_str().into();
    }
    event.ruling(true);
    event.actor(directory, chain.as_deref());
    event.set("user", user(directory, chain.as_deref()));
    event.set("service", service(resource.as_deref()));
    event.set("session", session);
    event.set("is_remote", true);
    event.set("logon_type_id", 3);
    if let Some(method) = event.take("auth") {
        event.set("auth_protocol_id", if method == "oidc" { 4 } else { 99 });
        event.set("auth_protocol", method);
    }
    event.status(1, None);
    event
}

/// The opening of a session that was refused.
fn unopened<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let kind = Kind { class: AUTHENTICATION, activity: 1, severity: 2 };
    let mut event = Event::new(leaf, hash, kind, "session refused");
    let (chain, resource) = (event.take("a"), event.take("c"));
    event.ruling(false);
    event.actor(directory, chain.as_deref());
    event.set("user", user(directory, chain.as_deref()));
    event.set("service", service(resource.as_deref()));
    event.set("is_remote", true);
    event.set("logon_type_id", 3);
    event.status(2, None);
    if let Some(code) = event.take("code") {
        event.set("status_code", code);
    }
    event
}

fn applied<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let kind = Kind { class: ENTITY, activity: 10, severity: 1 };
    let mut event = Event::new(leaf, hash, kind, "rule set took effect");
    let digest = event.take("p").unwrap_or_default();
    let policy = json!({ "is_applied": true, "name": "rules", "uid": digest });
    event.set("entity", json!({ "name": "rules", "policy": policy, "type": "Policy", "type_id": 5, "uid": digest }));
    by(&mut event, directory);
    event
}

fn secret<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let activity = match fields::text(leaf, "change").as_deref() {
        Some("set") => 1,
        Some("rotated") => 3,
        Some("removed") => 4,
        _ => 99,
    };
    let mut event = Event::new(leaf, hash, Kind { class: ENTITY, activity, severity: 1 }, "backend credential changed");
    let (name, version) = (event.take("c").unwrap_or_default(), event.take_number("ver").unwrap_or_default());
    let entity = json!({ "name": name, "type": "Backend credential", "type_id": 99, "version": version.to_string() });
    event.set("entity", entity);
    by(&mut event, directory);
    event
}

fn by(event: &mut Event<'_>, directory: &Directory) {
    if let Some(chain) = event.take("by") {
        event.actor(directory, Some(&chain));
    }
    event.status(1, None);
}

fn lifecycle<'l>(leaf: &'l Leaf, hash: &Digest) -> Event<'l> {
    let dangerous = fields::texts(leaf, "dangerous");
    let starts = leaf.kind == Some(EntryKind::Boot);
    let (activity, message) = if starts { (3, "gateway started") } else { (4, "gateway ended in order") };
    let severity = if dangerous.is_empty() { 1 } else { 3 };
    let mut event = Event::new(leaf, hash, Kind { class: LIFECYCLE, activity, severity }, message);
    let mut app = product();
    app["uid"] = leaf.origin.as_str().into();
    if let Some(version) = event.take("ver") {
        app["version"] = version.into();
    }
    event.set("app", app);
    let detail = if starts && !dangerous.is_empty() { Some(dangerous.join(", ")) } else { event.take("reason") };
    event.status(1, detail.as_deref());
    event
}

/// Somebody looked at evidence, or took it away.
fn look<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let kind = Kind { class: API, activity: 2, severity: 1 };
    let mut event = Event::new(leaf, hash, kind, "evidence was looked at");
    let chain = event.take("by");
    event.onlooker(directory, chain.as_deref());
    let what = event.take("what").unwrap_or_else(|| "export".to_owned());
    event.set("api", json!({ "operation": what, "service": { "name": "evidence" } }));
    event.set("src_endpoint", gateway(leaf));
    event.status(1, None);
    event
}

/// Sealed originals were handed out, or destroyed.
fn originals<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory) -> Event<'l> {
    let shred = leaf.kind == Some(EntryKind::Shred);
    let (activity, message) =
        if shred { (4, "sealed originals destroyed") } else { (2, "sealed originals handed out") };
    let mut event = Event::new(leaf, hash, Kind { class: API, activity, severity: 3 }, message);
    let chain = event.take("by");
    event.onlooker(directory, chain.as_deref());
    let operation = if shred { "shred" } else { "unseal" };
    event.set("api", json!({ "operation": operation, "service": { "name": "evidence" } }));
    event.set("src_endpoint", gateway(leaf));
    event.status(1, None);
    event
}

fn alert<'l>(leaf: &'l Leaf, hash: &Digest) -> Event<'l> {
    let kind = Kind { class: DETECTION, activity: 1, severity: 4 };
    let mut event = Event::new(leaf, hash, kind, "alert of the gateway");
    let code = event.take("code").unwrap_or_default();
    let info = json!({ "created_time": millis(leaf.wall), "title": code, "types": [code], "uid": hash.to_string() });
    event.set("finding_info", info);
    event.status(1, None);
    event
}

/// The ledger took no entries, or some are missing.
fn trouble<'l>(leaf: &'l Leaf, hash: &Digest) -> Event<'l> {
    let stall = leaf.kind == Some(EntryKind::Stall);
    let over = stall && leaf.rest.contains_key("us");
    let (severity, message) = match (stall, over) {
        (true, false) => (4, "ledger stopped taking entries"),
        (true, true) => (2, "ledger takes entries again"),
        _ => (5, "entries are missing"),
    };
    let mut event = Event::new(leaf, hash, Kind { class: ERROR, activity: 1, severity }, message);
    let cause = event.take(if stall { "reason" } else { "cause" });
    event.status(if over { 1 } else { 2 }, cause.as_deref());
    event
}

fn base<'l>(leaf: &'l Leaf, hash: &Digest) -> Event<'l> {
    let word = leaf.kind.map_or("an entry of a kind that this release does not know", |kind| kind.as_str());
    let mut event = Event::new(leaf, hash, BASE, word);
    event.set("activity_name", word);
    event
}

#[cfg(test)]
mod tests {
    use chancery_ledger::leaf_hash;

    use super::*;
    use crate::sample::{self, Sample};

    fn write(events: &mut Events, sample: &Sample, leaf: &Leaf, out: &mut String) {
        events.event(leaf, &leaf_hash(&sample::line(leaf)), &sample.directory, out);
    }

    #[test]
    fn whoever_reads_the_oldest_open_session_again_goes_on_as_if_never_stopped() {
        let sample = sample::sample();
        let mut whole = Events::default();
        for stop in 0..sample.leaves.len() {
            let resumed_at = whole.oldest().unwrap_or(stop as u64);
            let mut resumed = Events::default();
            let read_again = sample.leaves.iter().take(stop).filter(|leaf| leaf.index >= resumed_at);
            read_again.for_each(|leaf| resumed.remember(leaf));
            let (mut one, mut other) = (String::new(), String::new());
            write(&mut whole, &sample, &sample.leaves[stop], &mut one);
            write(&mut resumed, &sample, &sample.leaves[stop], &mut other);
            assert_eq!(one, other);
            assert_eq!(one.matches('\n').count(), 1);
        }
    }

    #[test]
    fn the_sample_is_one_that_a_ledger_could_hold() {
        for leaf in sample::sample().leaves {
            assert_eq!(Leaf::parse(&sample::line(&leaf), leaf.index).expect("well-formed"), leaf);
        }
    }

    #[test]
    fn nothing_is_remembered_of_what_ended() {
        let sample = sample::sample();
        let mut events = Events::default();
        sample.leaves.iter().for_each(|leaf| events.remember(leaf));
        assert_eq!((events.open.len(), events.reviews.len(), events.oldest()), (0, 0, None));
    }

    #[test]
    fn an_entry_without_its_session_is_an_event_all_the_same() {
        let sample = sample::sample();
        for leaf in &sample.leaves {
            let mut line = String::new();
            write(&mut Events::default(), &sample, leaf, &mut line);
            let event: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(event["metadata"]["sequence"], leaf.index);
        }
    }
}
