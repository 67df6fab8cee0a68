//! The signatures of approvals: that they are those of the entries, and of the keys that they name.

use std::collections::BTreeMap;

use chancery_ledger::{EntryKind, Hasher, Leaf};
use chancery_model::Digest;
use foldhash::HashMap;
use serde::Deserialize;

use super::{Notes, PackCheck, SignatureCheck};
use crate::directory::unhex;
use crate::fields::{decision, text};

/// One line of `reviews/approvals.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRow {
    /// The index of the `approval.decide` entry.
    pub entry: u64,
    /// An OpenSSH public key.
    pub key: String,
    /// An armoured SSH signature.
    pub signature: String,
}

impl ApprovalRow {
    /// As a line.
    pub fn line(&self, out: &mut String) {
        out.push_str(&format!("{{\"entry\":{},\"key\":", self.entry));
        crate::json_text(&self.key, out);
        out.push_str(",\"signature\":");
        crate::json_text(&self.signature, out);
        out.push_str("}\n");
    }
}

/// What a request says that a signature is over.
struct Request {
    digest: Option<Digest>,
    rules: Option<Digest>,
    until: i64,
    resource: String,
}

#[derive(Default)]
pub(super) struct Approvals {
    rows: BTreeMap<u64, ApprovalRow>,
    requests: HashMap<String, Request>,
    check: Option<SignatureCheck>,
    unchecked: Option<u64>,
}

impl Approvals {
    pub(super) fn with(check: Option<SignatureCheck>) -> Self {
        Self { check, ..Self::default() }
    }

    pub(super) fn line(&mut self, line: &str) -> Option<()> {
        let row: ApprovalRow = serde_json::from_str(line).ok()?;
        let mut again = String::new();
        row.line(&mut again);
        (again == line).then(|| drop(self.rows.insert(row.entry, row)))
    }

    pub(super) fn entry(&mut self, leaf: &Leaf, notes: &mut Notes) {
        let Some(review) = text(leaf, "rev") else { return };
        match leaf.kind {
            Some(EntryKind::ApprovalRequest) => {
                let until = leaf.rest.get("until").and_then(serde_json::Value::as_i64).unwrap_or_default();
                let (digest, rules) = (leaf.digest("ch"), leaf.digest("p"));
                let resource = text(leaf, "c").unwrap_or_default();
                self.requests.insert(review, Request { digest, rules, until, resource });
            }
            Some(EntryKind::ApprovalDecide) => self.decided(leaf, &review, notes),
            Some(EntryKind::ApprovalUse | EntryKind::ApprovalEnd) => {
                self.requests.remove(&review);
            }
            _ => {}
        }
    }

    fn decided(&mut self, leaf: &Leaf, review: &str, notes: &mut Notes) {
        let Some(said) = leaf.digest("sig") else { return };
        let (word, rules) = decision(leaf);
        if word.as_deref() != Some("approve") {
            return;
        }
        let Some(row) = self.rows.remove(&leaf.index) else {
            self.unchecked.get_or_insert(leaf.index);
            return;
        };
        let mut hasher = Hasher::default();
        hasher.update(row.signature.as_bytes());
        if hasher.finish() != said {
            return notes.fail(PackCheck::Approvals, Some(leaf.index), "its signature is not the one in the pack");
        }
        let payload = self.requests.get(review).and_then(|request| request.payload(review, rules.first()?));
        match (self.check, payload) {
            (None, _) => {
                self.unchecked.get_or_insert(leaf.index);
            }
            (Some(check), Some(payload)) if check(&row.signature, &row.key, &payload) => {}
            _ => notes.fail(PackCheck::Approvals, Some(leaf.index), "its signature does not hold"),
        }
    }

    pub(super) fn finish(&mut self, notes: &mut Notes) {
        if let Some(entry) = self.unchecked {
            let why =
                if self.check.is_some() { "its signature is not in the pack" } else { "signatures are not checked" };
            notes.doubt(PackCheck::Approvals, Some(entry), why);
        }
        if let Some(entry) = self.rows.keys().next() {
            notes.fail(PackCheck::Approvals, Some(*entry), "the pack has a signature for what is no approval");
        }
    }
}

impl Request {
    /// The bytes that an approver signs: fields with their lengths in front, as eight bytes, big-endian.
    fn payload(&self, review: &str, rule: &str) -> Option<Vec<u8>> {
        let (until, uses) = (self.until.to_be_bytes(), 1_u64.to_be_bytes());
        let (review, digest, rules) = (unhex::<16>(review)?, self.digest?, self.rules?);
        let fields: [&[u8]; 9] = [
            b"chancery/approval/1",
            b"approve",
            &review,
            &digest.0,
            rule.as_bytes(),
            &rules.0,
            &until,
            &uses,
            self.resource.as_bytes(),
        ];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        Some(bytes)
    }
}
