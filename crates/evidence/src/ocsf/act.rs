//! Commands as Datastore Activity (6005).

use chancery_ledger::{EntryKind, Leaf};
use chancery_model::Digest;
use serde_json::{Value, json};

use super::common::{Event, Kind, gateway, millis};
use super::events::Open;
use crate::{Directory, fields};

const DATASTORE: u32 = 6005;
const READ: u32 = 1;
const QUERY: u32 = 4;
const WRITE: u32 = 5;

/// What a command's outcome needs of its start.
pub(super) struct Act {
    at: i64,
    chain: Option<String>,
    effect: Option<String>,
    query: Option<Value>,
}

impl Act {
    pub(super) fn new(leaf: &Leaf) -> Self {
        let text = |name| fields::text(leaf, name);
        Self { at: leaf.wall, chain: text("a"), effect: text("x"), query: query(text("ch"), text("fp")) }
    }
}

/// No statement's text is in an entry: its fingerprint, which statements that differ in literals share, stands for it.
fn query(digest: Option<String>, fingerprint: Option<String>) -> Option<Value> {
    let text = match &fingerprint {
        Some(fingerprint) => format!("(the ledger keeps no statements) fingerprint {fingerprint}"),
        None => "(the ledger keeps no statements)".to_owned(),
    };
    digest.map(|digest| json!({ "query_string": text, "uid": digest }))
}

fn activity(effect: Option<&str>) -> u32 {
    match effect {
        Some("read") => READ,
        Some("write") => WRITE,
        _ => QUERY,
    }
}

/// A ruling on a command, or its outcome.
pub(super) fn event<'l>(leaf: &'l Leaf, hash: &Digest, directory: &Directory, open: Option<&Open>) -> Event<'l> {
    let act = open.zip(leaf.command).and_then(|(open, command)| open.acts.get(&command));
    let ends = matches!(leaf.kind, Some(EntryKind::ActDone | EntryKind::Crash));
    let (severity, message) = match leaf.kind {
        Some(EntryKind::ActStart) => (1, "command forwarded"),
        Some(EntryKind::ActDone) => (1, "command ended"),
        Some(EntryKind::ActDeny) => (2, "command refused"),
        _ => (3, "command lost: the process ended"),
    };
    let effect = act.filter(|_| ends).and_then(|act| act.effect.clone()).or_else(|| fields::text(leaf, "x"));
    let kind = Kind { class: DATASTORE, activity: activity(effect.as_deref()), severity };
    let mut event = Event::new(leaf, hash, kind, message);
    event.take("x");
    let chain = event.take("a").or_else(|| act.and_then(|act| act.chain.clone()));
    let chain = chain.or_else(|| open.and_then(|open| open.chain.clone()));
    event.actor(directory, chain.as_deref());
    event.set("src_endpoint", gateway(leaf));
    let resource = event.take("c").or_else(|| open.and_then(|open| open.resource.clone()));
    event.set("database", database(resource, open.and_then(|open| open.protocol.as_deref())));
    if ends {
        outcome(&mut event, leaf, act);
    } else {
        ruling(&mut event, leaf.kind == Some(EntryKind::ActStart));
    }
    event
}

fn database(resource: Option<String>, protocol: Option<&str>) -> Value {
    let name = resource.unwrap_or_else(|| "unknown".to_owned());
    match protocol {
        Some(protocol @ ("postgres" | "mysql")) => json!({ "name": name, "type": protocol, "type_id": 1 }),
        _ => json!({ "name": name, "type_id": 0 }),
    }
}

fn ruling(event: &mut Event<'_>, allowed: bool) {
    event.ruling(allowed);
    let (digest, fingerprint) = (event.take("ch"), event.take("fp"));
    if let Some(query) = query(digest, fingerprint) {
        event.set("query_info", query);
    }
    if allowed {
        event.status(99, None);
        event.set("status", "Forwarded");
    } else {
        event.status(2, None);
        if let Some(code) = event.take("code") {
            event.set("status_code", code);
        }
    }
}

fn outcome(event: &mut Event<'_>, leaf: &Leaf, act: Option<&Act>) {
    let out = event.take("out");
    let status = match out.as_deref() {
        Some("completed" | "suspended") => 1,
        Some("failed" | "skipped") => 2,
        Some("cancelled") => 99,
        _ => 0,
    };
    event.status(status, out.as_deref().or(Some("unknown")));
    if status == 99 {
        event.set("status", "Cancelled");
    }
    if let Some(code) = event.take("sqlstate") {
        event.set("status_code", code);
    }
    if let Some(micros) = event.take_number("us") {
        event.set("duration", micros / 1000);
        event.beside("us", micros);
    }
    let Some(act) = act else { return };
    event.set("start_time", millis(act.at));
    event.set("end_time", millis(leaf.wall));
    if let Some(mut query) = act.query.clone() {
        if let Some(bytes) = fields::number(leaf, "bytes") {
            query["bytes"] = bytes.into();
        }
        event.set("query_info", query);
    }
}
