//! Who is behind chain ids: rows of the directory, and the commitments that tie them to entries.

use std::collections::BTreeMap;

use chancery_ledger::Hasher;
use chancery_model::{Actor, Delegation, Digest, Principal, PrincipalKind};
use serde::Deserialize;

use crate::row::json_text;

/// One line of `directory/chains.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRow {
    /// The chain's id in entries.
    pub chain: [u8; 16],
    /// The commitment's salt.
    pub salt: [u8; 32],
    /// The chain. What its principal is called (`display`) is not covered by the commitment, and not in a pack.
    pub delegation: Delegation,
}

/// Who somebody is, as columns name them.
pub fn who(issuer: &str, subject: &str) -> String {
    format!("{subject}@{issuer}")
}

impl ChainRow {
    /// The commitment in the `principal` entry: `docs/spec/pack.md`.
    pub fn commitment(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(b"chancery/principal/1");
        hasher.update(&self.salt);
        hasher.update(&self.delegation.canonical());
        hasher.finish()
    }

    /// As a line.
    pub fn line(&self, out: &mut String) {
        out.push_str("{\"a\":\"");
        hex(&self.chain, out);
        out.push_str("\",\"actors\":[");
        for (at, actor) in self.delegation.actors.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str("{\"issuer\":");
            json_text(&actor.issuer, out);
            out.push_str(",\"kind\":\"");
            out.push_str(kind_word(actor.kind));
            out.push_str("\",\"subject\":");
            json_text(&actor.subject, out);
            out.push('}');
        }
        let principal = &self.delegation.principal;
        out.push_str("],\"principal\":{\"groups\":");
        crate::Value::from(principal.groups.clone()).json(out);
        out.push_str(",\"issuer\":");
        json_text(&principal.issuer, out);
        out.push_str(",\"kind\":\"");
        out.push_str(kind_word(principal.kind));
        out.push_str("\",\"subject\":");
        json_text(&principal.subject, out);
        out.push_str("},\"salt\":\"");
        hex(&self.salt, out);
        out.push_str("\"}\n");
    }

    /// Reads a line. Only the exact form that [`ChainRow::line`] writes is taken.
    pub fn parse(line: &str) -> Option<Self> {
        let form: ChainForm = serde_json::from_str(line).ok()?;
        let row = Self {
            chain: unhex(&form.a)?,
            salt: unhex(&form.salt)?,
            delegation: Delegation {
                principal: Principal {
                    issuer: form.principal.issuer,
                    subject: form.principal.subject,
                    kind: kind(&form.principal.kind)?,
                    display: String::new(),
                    groups: form.principal.groups,
                },
                actors: form.actors.into_iter().map(ActorForm::actor).collect::<Option<_>>()?,
            },
        };
        let mut again = String::new();
        row.line(&mut again);
        (again.trim_end() == line.trim_end()).then_some(row)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainForm {
    a: String,
    actors: Vec<ActorForm>,
    principal: PrincipalForm,
    salt: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActorForm {
    issuer: String,
    kind: String,
    subject: String,
}

impl ActorForm {
    fn actor(self) -> Option<Actor> {
        Some(Actor { issuer: self.issuer, subject: self.subject, kind: kind(&self.kind)? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalForm {
    groups: Vec<String>,
    issuer: String,
    kind: String,
    subject: String,
}

pub(crate) fn kind_word(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Agent => "agent",
    }
}

fn kind(word: &str) -> Option<PrincipalKind> {
    [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Agent].into_iter().find(|one| kind_word(*one) == word)
}

pub(crate) fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Lower-case hex of exactly `N` bytes.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The rows of a pack, by chain id as entries write it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    rows: BTreeMap<String, ChainRow>,
    /// Their ids, in the order in which they were added.
    order: Vec<String>,
}

impl Directory {
    /// Adds a row. False: there is one of this id, which stays.
    pub fn add(&mut self, row: ChainRow) -> bool {
        let mut id = String::with_capacity(32);
        hex(&row.chain, &mut id);
        if self.rows.contains_key(&id) {
            return false;
        }
        self.order.push(id.clone());
        self.rows.insert(id, row);
        true
    }
    /// The ids, in the order in which rows were added.
    pub fn ids(&self) -> &[String] {
        &self.order
    }
    /// The row of an id.
    pub fn row(&self, chain: &str) -> Option<&ChainRow> {
        self.rows.get(chain)
    }
    /// The chain behind an id.
    pub fn chain(&self, chain: &str) -> Option<&Delegation> {
        self.rows.get(chain).map(|row| &row.delegation)
    }
    /// Its principal, as columns name it.
    pub fn principal(&self, chain: &str) -> Option<String> {
        self.chain(chain).map(|one| who(&one.principal.issuer, &one.principal.subject))
    }
    /// Its actors, as columns name them.
    pub fn actors(&self, chain: &str) -> Option<Vec<String>> {
        self.chain(chain).map(|one| one.actors.iter().map(|actor| who(&actor.issuer, &actor.subject)).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(chain: u8, subject: &str, actors: &[&str]) -> ChainRow {
        let issuer = "https://idp.example";
        let actor =
            |subject: &&str| Actor { issuer: issuer.into(), subject: (*subject).into(), kind: PrincipalKind::Agent };
        ChainRow {
            chain: [chain; 16],
            salt: [7; 32],
            delegation: Delegation {
                principal: Principal {
                    issuer: issuer.into(),
                    subject: subject.into(),
                    kind: PrincipalKind::User,
                    display: String::new(),
                    groups: vec!["dba".into(), "ops \"x\"".into()],
                },
                actors: actors.iter().map(actor).collect(),
            },
        }
    }

    #[test]
    fn a_row_is_read_back_and_no_other_form_is_taken() {
        let row = row(1, "alice", &["agent", "sub-agent"]);
        let mut line = String::new();
        row.line(&mut line);
        assert_eq!(ChainRow::parse(&line), Some(row));
        for (from, to) in [("\"a\":", "\"a\": "), ("\"user\"", "\"root\""), ("0707", "07"), ("\"salt\"", "\"extra\"")] {
            let other = line.replacen(from, to, 1);
            assert_ne!(other, line);
            assert_eq!(ChainRow::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn the_commitment_is_that_of_the_gateway() {
        let row = row(1, "alice", &["agent"]);
        let canonical = row.delegation.canonical();
        let mut hasher = Hasher::default();
        for piece in [b"chancery/principal/1".as_slice(), &[7; 32], &canonical] {
            hasher.update(piece);
        }
        assert_eq!(row.commitment(), hasher.finish());
    }
}
