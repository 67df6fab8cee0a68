//! Objects that several classes have.

use chancery_ledger::Leaf;
use chancery_model::{Delegation, Digest, PrincipalKind, Timestamp};
use serde_json::{Map, Value, json};

use crate::{Directory, fields, who};

/// An event as it is put together: its attributes, and the fields of the entry that no attribute has yet.
pub(super) struct Event<'l> {
    leaf: &'l Leaf,
    attributes: Map<String, Value>,
    unmapped: Map<String, Value>,
}

/// Class, activity and severity.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) class: u32,
    pub(super) activity: u32,
    pub(super) severity: u32,
}

pub(super) fn product() -> Value {
    json!({ "name": "Chancery", "vendor_name": "Chancery" })
}

/// OCSF counts in milliseconds.
pub(super) fn millis(micros: i64) -> i64 {
    micros.div_euclid(1000)
}

impl<'l> Event<'l> {
    /// Begins one with what every event has.
    pub(super) fn new(leaf: &'l Leaf, hash: &Digest, kind: Kind, message: &str) -> Self {
        let word = leaf.kind.map_or("unknown", |kind| kind.as_str());
        let mut metadata = json!({
            "version": super::VERSION,
            "product": product(),
            "event_code": word,
            "log_name": leaf.origin,
            "original_time": Timestamp(leaf.wall).to_string(),
            "sequence": leaf.index,
            "uid": hash.to_string(),
        });
        if let Some(session) = fields::session(leaf) {
            metadata["correlation_uid"] = session.into();
        }
        let mut event = Self { leaf, attributes: Map::new(), unmapped: Map::new() };
        event.set("activity_id", kind.activity);
        event.set("category_uid", kind.class / 1000);
        event.set("class_uid", kind.class);
        event.set("type_uid", kind.class * 100 + kind.activity);
        event.set("severity_id", kind.severity);
        event.set("time", millis(leaf.wall));
        event.set("message", message);
        event.set("metadata", metadata);
        event.unmapped.extend(leaf.rest.iter().map(|(name, value)| (name.clone(), value.clone())));
        event.unmapped.extend([("b".into(), json!(leaf.boot)), ("m".into(), json!(leaf.mono))]);
        if let Some(command) = leaf.command {
            event.unmapped.insert("q".into(), json!(command));
        }
        event
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.attributes.insert(name.to_owned(), value.into());
    }

    /// Beside the entry's own fields: what is known of it from elsewhere, and no class has a place for.
    pub(super) fn beside(&mut self, name: &str, value: impl Into<Value>) {
        self.unmapped.insert(name.to_owned(), value.into());
    }

    /// A text field of the entry, which an attribute then has.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.unmapped.remove(name);
        fields::text(self.leaf, name)
    }

    /// As [`Event::take`], a number.
    pub(super) fn take_number(&mut self, name: &str) -> Option<u64> {
        self.unmapped.remove(name);
        fields::number(self.leaf, name)
    }

    pub(super) fn correlate(&mut self, session: String) {
        if let Some(metadata) = self.attributes.get_mut("metadata") {
            metadata["correlation_uid"] = session.into();
        }
    }

    pub(super) fn status(&mut self, id: u32, detail: Option<&str>) {
        self.set("status_id", id);
        if let Some(detail) = detail {
            self.set("status_detail", detail);
        }
    }

    /// Who acts: the principal, and by whom it lets itself be represented.
    pub(super) fn actor(&mut self, directory: &Directory, chain: Option<&str>) {
        let mut actor = json!({ "user": user(directory, chain) });
        if let Some(session) = fields::session(self.leaf) {
            actor["session"] = json!({ "uid": session });
        }
        if let Some(actors) = chain.and_then(|chain| directory.actors(chain)).filter(|actors| !actors.is_empty()) {
            actor["invoked_by"] = actors.join(" > ").into();
            self.beside("actors", actors);
        }
        self.set("actor", actor);
    }

    /// As [`Event::actor`], but the entry's session is what was acted on, not in which.
    pub(super) fn onlooker(&mut self, directory: &Directory, chain: Option<&str>) {
        self.actor(directory, chain);
        if let Some(actor) = self.attributes.get_mut("actor").and_then(Value::as_object_mut) {
            actor.remove("session");
        }
    }

    /// What was ruled, by which rules (profile `security_control`).
    pub(super) fn ruling(&mut self, allowed: bool) {
        let (word, rules) = fields::decision(self.leaf);
        self.unmapped.remove("d");
        let mut policy = json!({ "is_applied": true });
        if let Some(digest) = self.take("p") {
            policy["uid"] = digest.into();
        } else {
            policy["type"] = "review rule".into();
        }
        if !rules.is_empty() {
            policy["name"] = rules.join(", ").into();
        }
        if let Some(metadata) = self.attributes.get_mut("metadata") {
            metadata["profiles"] = json!(["security_control"]);
        }
        self.set("action_id", if allowed { 1 } else { 2 });
        self.set("disposition_id", if allowed { 1 } else { 2 });
        self.set("policy", policy);
        if let Some(word) = word {
            self.set("authorizations", json!([{ "decision": word }]));
        }
    }

    /// Writes it as a line.
    pub(super) fn write(mut self, line: &mut String) {
        let unmapped = std::mem::take(&mut self.unmapped);
        self.set("unmapped", unmapped);
        crate::json::line(&Value::Object(self.attributes), line);
    }
}

/// Whoever is behind a chain id; the id alone where the directory does not know it.
pub(super) fn user(directory: &Directory, chain: Option<&str>) -> Value {
    let Some(chain) = chain else { return json!({ "name": "unknown", "type_id": 0 }) };
    match directory.chain(chain) {
        Some(delegation) => known(delegation, chain),
        None => json!({ "uid": chain, "type_id": 0 }),
    }
}

fn known(delegation: &Delegation, chain: &str) -> Value {
    let principal = &delegation.principal;
    let mut user = json!({
        "domain": principal.issuer,
        "name": principal.subject,
        "uid": who(&principal.issuer, &principal.subject),
        "uid_alt": chain,
    });
    user["type_id"] = match principal.kind {
        PrincipalKind::User => 1.into(),
        PrincipalKind::Service => 4.into(),
        PrincipalKind::Agent => {
            user["type"] = "Agent".into();
            99.into()
        }
    };
    if !principal.groups.is_empty() {
        user["groups"] = principal.groups.iter().map(|group| json!({ "name": group })).collect::<Vec<_>>().into();
    }
    user
}

/// The gateway, as the end that speaks to a resource: entries do not say from where a client came.
pub(super) fn gateway(leaf: &Leaf) -> Value {
    json!({ "name": leaf.origin, "svc_name": "chancery", "instance_uid": leaf.boot })
}
