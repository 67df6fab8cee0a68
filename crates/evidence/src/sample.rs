//! A year of a small house, made up: for tests and for `examples/sample.rs`, which both have what is used here in scope.
//! Not here: anything that is shipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_ledger::{Checkpoint, EntryKind, Leaf};
use chancery_model::{Actor, Delegation, Digest, Principal, PrincipalKind, SessionId, Timestamp};
use serde_json::{Value as Json, json};

use super::{ChainRow, Directory, Generator, Period, Provenance};

const START: i64 = 1_767_225_600_000_000;
const DAY: i64 = 86_400_000_000;
const ISSUER: &str = "https://idp.example";

pub(crate) struct Sample {
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) from: Provenance,
    pub(crate) rules: Vec<String>,
}

/// An entry as the ledger has it.
pub(crate) fn line(leaf: &Leaf) -> Vec<u8> {
    let mut fields = leaf.rest.clone();
    let kind = leaf.kind.map_or("unknown", |kind| kind.as_str());
    for (name, value) in [
        ("v", json!(1)),
        ("k", json!(kind)),
        ("o", json!(leaf.origin)),
        ("n", json!(leaf.index)),
        ("t", json!(leaf.wall)),
        ("m", json!(leaf.mono)),
        ("b", json!(leaf.boot)),
    ] {
        fields.insert(name.into(), value);
    }
    let session = leaf.session.map(|id| id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    fields.extend(session.map(|id| ("s".into(), json!(id))));
    fields.extend(leaf.command.map(|number| ("q".into(), json!(number))));
    serde_json::to_vec(&fields).unwrap_or_default()
}

struct Maker {
    leaves: Vec<Leaf>,
    now: i64,
    booted: i64,
    boots: u8,
    seed: u64,
    sessions: u8,
    reviews: u64,
}

fn hex(byte: u8, count: usize) -> String {
    format!("{byte:02x}").repeat(count)
}

fn rule_set(number: u8) -> String {
    hex(0xa0 + number, 32)
}

impl Maker {
    /// A number below `limit`, the same in every run.
    fn draw(&mut self, limit: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % limit
    }

    fn add(&mut self, kind: EntryKind, place: (Option<u8>, Option<u64>), rest: Json) {
        self.now += 1_000 + i64::try_from(self.draw(40_000)).unwrap_or(0);
        let rest: BTreeMap<String, Json> = rest.as_object().cloned().unwrap_or_default().into_iter().collect();
        self.leaves.push(Leaf {
            kind: Some(kind),
            index: self.leaves.len() as u64,
            wall: self.now,
            mono: self.now - self.booted,
            boot: hex(self.boots, 16),
            origin: "gw-a.example/2026".into(),
            session: place.0.map(|number| SessionId([number; 16])),
            command: place.1,
            rest,
        });
    }

    fn boot(&mut self, version: &str, dangerous: &[&str]) {
        self.booted = self.now;
        self.boots += 1;
        let size = self.leaves.len();
        let epoch =
            json!({"e": 0, "key": hex(1, 32), "life_ms": 600_000, "root": hex(2, 32), "sig": hex(3, 64), "size": size});
        self.add(EntryKind::KeyEpoch, (None, None), epoch);
        let boot = json!({"config": hex(4, 32), "dangerous": dangerous, "loss_ms": 20, "prof": "balanced", "root": hex(2, 32),
            "size": size, "ver": version});
        self.add(EntryKind::Boot, (None, None), boot);
    }

    fn session(&mut self, chain: u8, resource: &str, commands: u64, rules: u8) {
        self.sessions += 1;
        let session = self.sessions;
        let place = (Some(session), None);
        let open = json!({"a": hex(chain, 16), "auth": "oidc", "c": resource, "d": ["allow", "connect-staff"], "p": rule_set(rules),
            "prof": "balanced", "proto": "postgres"});
        self.add(EntryKind::SessionOpen, place, open);
        let mut acts = 0;
        for command in 1..=commands {
            acts += u64::from(self.command(session, command, chain, resource, rules));
        }
        let close = json!({"acts": acts, "cm": hex(session, 32), "leaves": 3, "reason": "client", "roll": hex(9, 32)});
        self.add(EntryKind::SessionClose, place, close);
        self.now += DAY / 3;
    }

    fn command(&mut self, session: u8, command: u64, chain: u8, resource: &str, rules: u8) -> bool {
        let place = (Some(session), Some(command));
        if self.draw(12) == 0 {
            let deny = json!({"a": hex(chain, 16), "c": resource, "ch": hex(5, 32), "code": "denied", "d": ["deny", "no-drop"],
                "p": rule_set(rules)});
            self.add(EntryKind::ActDeny, place, deny);
            return false;
        }
        let effect = if self.draw(4) == 0 { "write" } else { "read" };
        self.start(place, (chain, resource, rules), ("allow", effect), None);
        self.done(place);
        true
    }

    fn start(
        &mut self,
        place: (Option<u8>, Option<u64>),
        who: (u8, &str, u8),
        what: (&str, &str),
        review: Option<&str>,
    ) {
        let (chain, resource, rules) = who;
        let fingerprint = 0x10 + u8::try_from(self.draw(9)).unwrap_or(0);
        let mut rest = json!({"a": hex(chain, 16), "c": resource, "ch": hex(0x55, 32), "d": [what.0, "staff-may-read"],
            "fp": hex(fingerprint, 32), "p": rule_set(rules), "prof": "balanced", "x": what.1});
        if let Some(review) = review {
            rest["rev"] = json!(review);
        }
        self.add(EntryKind::ActStart, place, rest);
    }

    fn done(&mut self, place: (Option<u8>, Option<u64>)) {
        let failed = self.draw(20) == 0;
        let (rows, masked) = (self.draw(500), self.draw(3) * self.draw(200));
        let mut rest = json!({"bytes": rows * 80, "cm": hex(6, 32), "masked": masked, "out": if failed { "failed" } else { "completed" },
            "rows": rows, "us": 900 + rows * 11});
        if failed {
            rest["sqlstate"] = json!("42P01");
        }
        self.add(EntryKind::ActDone, place, rest);
    }

    fn review(&mut self, asker: u8, reviewer: u8, assurance: &str) {
        self.reviews += 1;
        self.sessions += 1;
        let (session, id) = (self.sessions, format!("{:032x}", 0xbeef + self.reviews));
        let place = (Some(session), Some(1));
        let open = json!({"a": hex(asker, 16), "auth": "oidc", "c": "shop", "d": ["allow", "connect-staff"], "p": rule_set(1),
            "prof": "balanced", "proto": "postgres"});
        self.add(EntryKind::SessionOpen, (Some(session), None), open);
        let request = json!({"a": hex(asker, 16), "c": "shop", "ch": hex(0x55, 32), "needed": ["dba"], "p": rule_set(1), "rev": id,
            "until": self.now + 900_000_000});
        self.add(EntryKind::ApprovalRequest, place, request);
        let mut decide = json!({"assurance": assurance, "by": hex(reviewer, 16), "ch": hex(0x55, 32), "d": ["approve", "dba"], "rev": id});
        if assurance == "signed" {
            decide["sig"] = json!(hex(8, 32));
        }
        self.add(EntryKind::ApprovalDecide, (None, None), decide);
        let decided = self.leaves.len() - 1;
        let reference = format!("{decided}:{}", hex(0xdd, 32));
        let usage = json!({"ch": hex(0x55, 32), "ref": [reference], "rev": id});
        self.add(EntryKind::ApprovalUse, place, usage);
        self.start(place, (asker, "shop", 1), ("approved", "write"), Some(&id));
        self.done(place);
        let close = json!({"acts": 1, "cm": hex(session, 32), "leaves": 4, "reason": "client", "roll": hex(9, 32)});
        self.add(EntryKind::SessionClose, (Some(session), None), close);
        self.now += DAY / 2;
    }

    /// What does not happen on a good day.
    fn troubles(&mut self) {
        let refused = json!({"c": "shop", "code": "unauthenticated", "d": ["deny"], "p": rule_set(1)});
        self.add(EntryKind::ActDeny, (Some(0xf0), Some(0)), refused);
        self.add(EntryKind::Stall, (None, None), json!({"reason": "disk-full"}));
        self.add(EntryKind::Alert, (None, None), json!({"code": "rules-invalid"}));
        let open = json!({"a": hex(3, 16), "auth": "oidc", "c": "ledger-db", "d": ["allow", "connect-staff"], "p": rule_set(1),
            "prof": "strict", "proto": "postgres"});
        self.add(EntryKind::SessionOpen, (Some(0xf1), None), open);
        self.start((Some(0xf1), Some(1)), (3, "ledger-db", 1), ("allow", "write"), None);
        self.now += DAY;
        self.boot("0.2.0", &["dangerous_plaintext_resource"]);
        self.add(EntryKind::Crash, (Some(0xf1), Some(1)), json!({}));
        self.add(EntryKind::Crash, (Some(0xf1), None), json!({}));
        let request = json!({"a": hex(2, 16), "c": "shop", "ch": hex(0x56, 32), "needed": ["dba"], "p": rule_set(1),
            "rev": hex(0xee, 16), "until": self.now + 900_000_000});
        self.add(EntryKind::ApprovalRequest, (Some(0xf2), Some(4)), request);
        self.now += 900_000_000;
        self.add(EntryKind::ApprovalEnd, (None, None), json!({"end": "expired", "rev": hex(0xee, 16)}));
        self.add(
            EntryKind::SecretChange,
            (None, None),
            json!({"by": hex(1, 16), "c": "shop", "change": "rotated", "ver": 2}),
        );
    }

    fn evidence(&mut self) {
        self.add(
            EntryKind::RecordingSegment,
            (None, None),
            json!({"blocks": 212, "bytes": 1_048_576, "cr": hex(12, 32), "file": 0}),
        );
        let segment = json!({"bytes": 90_000, "com": hex(14, 32), "cr": hex(15, 32), "hd": hex(16, 32), "seg": 0,
            "to": [hex(17, 8)]});
        self.add(EntryKind::RawSegment, (Some(1), None), segment);
        self.add(EntryKind::Unseal, (Some(1), None), json!({"by": hex(2, 16), "rev": hex(0xdd, 16)}));
        let shred = json!({"by": hex(2, 16), "cr": hex(18, 32), "what": "sealed"});
        self.add(EntryKind::Shred, (Some(1), None), shred);
        self.add(EntryKind::View, (Some(1), None), json!({"by": hex(2, 16), "what": "replay"}));
        let export = json!({"by": hex(2, 16), "cr": hex(13, 32), "from": START, "to": START + 365 * DAY});
        self.add(EntryKind::Export, (None, None), export);
        self.add(EntryKind::Heartbeat, (None, None), json!({}));
        self.add(EntryKind::Shutdown, (None, None), json!({"reason": "signal"}));
    }
}

pub(crate) fn generator() -> Generator {
    Generator { name: "chancery".into(), version: "0.2.0".into(), binary_sha256: Digest([0xb1; 32]) }
}

fn row(chain: u8, kind: PrincipalKind, subject: &str, actors: &[&str]) -> ChainRow {
    let actor = |name: &&str| Actor { issuer: ISSUER.into(), subject: (*name).into(), kind: PrincipalKind::Agent };
    let principal = Principal {
        issuer: ISSUER.into(),
        subject: subject.into(),
        kind,
        display: String::new(),
        groups: vec!["staff".into()],
    };
    let delegation = Delegation { principal, actors: actors.iter().map(actor).collect() };
    ChainRow { chain: [chain; 16], salt: [chain; 32], delegation }
}

fn people() -> Vec<ChainRow> {
    vec![
        row(1, PrincipalKind::User, "ada", &[]),
        row(2, PrincipalKind::User, "grace", &[]),
        row(3, PrincipalKind::Service, "ci-deploy", &[]),
        row(4, PrincipalKind::User, "ada", &["support-agent", "sql-sub-agent"]),
        row(5, PrincipalKind::User, "mallory <b>\u{202e}gnp.exe\u{1b}[31m", &[]),
    ]
}

pub(crate) fn sample() -> Sample {
    let mut maker =
        Maker { leaves: Vec::new(), now: START, booted: START, boots: 0, seed: 42, sessions: 0, reviews: 0 };
    let mut directory = Directory::default();
    maker.boot("0.1.0", &[]);
    maker.add(EntryKind::PolicyApply, (None, None), json!({"p": rule_set(0), "source": "start"}));
    for person in people() {
        let com = person.commitment().to_string();
        maker.add(EntryKind::Principal, (None, None), json!({"a": hex(person.chain[0], 16), "com": com}));
        directory.add(person);
    }
    maker.add(EntryKind::SecretChange, (None, None), json!({"by": hex(1, 16), "c": "shop", "change": "set", "ver": 1}));
    for round in 0..12u64 {
        for (chain, resource) in [(1, "shop"), (2, "shop"), (3, "ledger-db"), (4, "shop"), (5, "shop")] {
            let commands = 2 + maker.draw(14);
            maker.session(chain, resource, commands, u8::from(round > 5));
        }
        if round == 5 {
            maker.now += 20_000_000;
            maker.add(
                EntryKind::PolicyApply,
                (None, None),
                json!({"by": hex(1, 16), "p": rule_set(1), "source": "file"}),
            );
        }
        if round > 5 {
            maker.review(1, 2, "signed");
        }
    }
    maker.review(4, 1, "signed");
    maker.review(3, 2, "clicked");
    maker.troubles();
    maker.evidence();
    let head =
        Checkpoint { origin: "gw-a.example/2026".into(), size: maker.leaves.len() as u64, root: Digest([0xc4; 32]) };
    let created_at = Timestamp(maker.now);
    let period = Period { from: START, to: START + 365 * DAY };
    let controls = Vec::new();
    let from = Provenance { head, created_at, period, controls, pruned: None, registry: false };
    Sample { leaves: maker.leaves, directory: Arc::new(directory), from, rules: vec![rule_set(0)] }
}
