//! Makes a small pack without a gateway: the log of a few invented sessions, with real epochs and tiles, signed with keys
//! that anybody can make again. For tests and for trying a verifier; it proves nothing about anybody.
//!
//! `cargo run -p chancery-evidence --example make-pack -- PACK ROOTS [SESSIONS]` writes both files. SESSIONS: 100.

#![allow(clippy::disallowed_methods, reason = "an example is a door: it writes the two files")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use chancery_evidence::{
    BLOCK, ChainRow, Deriver, Directory, Generator, Listed, MANIFEST, MANIFEST_NOTE, Manifest, Output, Period,
    Provenance, header, manifest_text, padding,
};
use chancery_ledger::{
    ActDeny, ActDone, ActStart, BUNDLE_ENTRIES, BlockHeader, Boot, Checkpoint, Codec, Entry, EpochSigner, Hasher, Leaf,
    Log, LogSigner, Outcome, PolicyApply, PrincipalEntry, Roots, SessionClose, SessionOpen, Shutdown, Stamp, Tile,
    TileBuilder, bundle, bundle_path, leaf_hash,
};
use chancery_model::{
    Actor, Delegation, Digest, Durability, Effect, Principal, PrincipalKind, RefusalCode, ResourceName, RuleId,
    SessionId, Timestamp,
};

type Made<T> = Result<T, Box<dyn Error>>;

const ORIGIN: &str = "example.test/pack";
/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600_000_000;
const EPOCH_MS: u64 = 600_000;
const RULES: &str = "permit (principal, action, resource);\n";
/// An epoch of this many entries: a small pack should have several.
const EPOCH_ENTRIES: u64 = 300;

fn main() -> Made<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (pack, roots, sessions) = match arguments.as_slice() {
        [pack, roots] => (pack, roots, 100),
        [pack, roots, sessions] => (pack, roots, sessions.parse()?),
        _ => return Err("usage: make-pack PACK ROOTS [SESSIONS]".into()),
    };
    let mut world = World::new()?;
    world.play(sessions)?;
    let text = Roots::text(&world.signer.verifier_key(), &epoch(0)?.public_key()).ok_or("no roots")?;
    std::fs::write(roots, text)?;
    std::fs::write(pack, world.pack()?)?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// The key of an epoch: made from its number, which is why nobody should believe this log.
fn epoch(number: u64) -> Made<EpochSigner> {
    Ok(EpochSigner::from_seed(ORIGIN, number, &sha256(format!("epoch {number}").as_bytes()).0)?)
}

/// A log and who it is about.
struct World {
    log: Log,
    signer: LogSigner,
    builder: TileBuilder,
    tiles: Vec<Tile>,
    lines: Vec<Vec<u8>>,
    now: Stamp,
    epoch: u64,
    epoch_size: u64,
    resource: ResourceName,
    people: Vec<ChainRow>,
    recordings: BTreeMap<String, Vec<u8>>,
}

impl World {
    fn new() -> Made<Self> {
        Ok(Self {
            log: Log::new(ORIGIN, [7; 16])?,
            signer: LogSigner::from_seed(ORIGIN, &[1; 32])?,
            builder: TileBuilder::default(),
            tiles: Vec::new(),
            lines: Vec::new(),
            now: Stamp { wall: Timestamp(BEGIN), mono: 0 },
            epoch: 0,
            epoch_size: 0,
            resource: ResourceName::parse("orders").ok_or("no name")?,
            people: ["alice", "bob", "build-agent"].map(person).into(),
            recordings: BTreeMap::new(),
        })
    }

    fn add(&mut self, entry: &Entry<'_>) -> Made<()> {
        self.now.wall.0 += 70_000;
        self.now.mono += 70_000;
        let mut line = Vec::new();
        self.log.append(entry, self.now, &mut line)?;
        self.builder.push(leaf_hash(&line), &mut self.tiles);
        self.lines.push(line);
        if self.log.size() - self.epoch_size >= EPOCH_ENTRIES {
            let (before, next) = (epoch(self.epoch)?, epoch(self.epoch + 1)?);
            let root = self.builder.range().root();
            (self.epoch, self.epoch_size) = (self.epoch + 1, self.log.size());
            self.add(&Entry::KeyEpoch(next.succeed(&before, EPOCH_MS, self.log.size(), root)))?;
        }
        Ok(())
    }

    fn play(&mut self, sessions: u64) -> Made<()> {
        let root = self.builder.range().root();
        self.add(&Entry::KeyEpoch(epoch(0)?.begin(&self.signer, EPOCH_MS, root)))?;
        let (size, root) = (self.log.size(), self.builder.range().root());
        self.add(&Entry::Boot(Boot {
            version: "0.1.0",
            config: Digest([3; 32]),
            dangerous: &[],
            profile: Durability::Balanced,
            loss_window_ms: 20,
            size,
            root,
        }))?;
        let rules = sha256(RULES.as_bytes());
        self.add(&Entry::PolicyApply(PolicyApply { rules, source: "start", by: None }))?;
        for row in self.people.clone() {
            self.add(&Entry::Principal(PrincipalEntry { chain: row.chain, commitment: row.commitment() }))?;
        }
        for number in 0..sessions {
            self.session(number, rules)?;
        }
        self.add(&Entry::Shutdown(Shutdown { reason: "asked" }))
    }

    /// Opened, one command answered, one refused, closed; each seventh with a recording.
    fn session(&mut self, number: u64, rules: Digest) -> Made<()> {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(number + 1).to_be_bytes());
        let (session, resource) = (SessionId(id), self.resource.clone());
        let chain = self.people[usize::try_from(number)? % self.people.len()].chain;
        let rule_ids = [RuleId("everything".to_owned())];
        let profile = Durability::Balanced;
        let (digest, fingerprint) = (sha256(&number.to_be_bytes()), Digest([5; 32]));
        self.add(&Entry::SessionOpen(SessionOpen {
            session,
            chain,
            resource: &resource,
            rules,
            rule_ids: &rule_ids,
            protocol: "postgres",
            method: "oidc",
            profile,
        }))?;
        let effect = if number.is_multiple_of(3) { Effect::Write } else { Effect::Read };
        self.add(&Entry::ActStart(ActStart {
            session,
            command: 1,
            chain,
            resource: &resource,
            rules,
            decision: "allow",
            rule_ids: &rule_ids,
            effect,
            fingerprint,
            digest,
            review: None,
            profile,
        }))?;
        let recording = number.is_multiple_of(7).then(|| self.record(session));
        self.add(&Entry::ActDone(ActDone {
            session,
            command: 1,
            outcome: Outcome::Completed,
            sqlstate: None,
            rows: number % 11,
            bytes: 100 * (number % 11),
            masked: number % 5,
            duration_us: 900 + number,
            recording,
        }))?;
        self.add(&Entry::ActDeny(ActDeny {
            session,
            command: 2,
            chain: Some(chain),
            resource: Some(&resource),
            rules,
            code: RefusalCode::Denied,
            rule_ids: &[],
            digest: Some(digest),
        }))?;
        self.add(&Entry::SessionClose(SessionClose { session, reason: "client", recording }))
    }

    fn record(&mut self, session: SessionId) -> Digest {
        let stored = vec![b'r'; 2_000];
        let length = 2_000;
        let header = BlockHeader {
            session,
            number: 0,
            previous: Digest::default(),
            salt: [7; 32],
            codec: Codec::Raw,
            raw_len: length,
            stored_len: length,
            crc: 0,
        };
        let bytes = [header.encode().as_slice(), &stored].concat();
        let name: String = session.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.recordings.insert(format!("recordings/{name}.rec"), bytes);
        header.hash(&stored)
    }

    fn pack(mut self) -> Made<Vec<u8>> {
        let head = Checkpoint { origin: ORIGIN.to_owned(), size: self.log.size(), root: self.builder.range().root() };
        let note = epoch(self.epoch)?.countersign(self.signer.sign(&head)).note;
        let period = Period { from: BEGIN, to: BEGIN + 365 * 86_400_000_000 };
        let controls = Vec::new();
        let from = Provenance { head, created_at: self.now.wall, period, controls, pruned: None, registry: false };
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let mut chains = String::new();
        self.people.iter().for_each(|row| row.line(&mut chains));
        files.push(("directory/chains.jsonl".to_owned(), chains.into_bytes()));
        let rules = sha256(RULES.as_bytes()).to_string();
        files.push((format!("rules/{rules}.rules"), RULES.as_bytes().to_vec()));
        files.push(("reviews/approvals.jsonl".to_owned(), Vec::new()));
        files.extend(std::mem::take(&mut self.recordings));
        files.push(("ledger/checkpoint".to_owned(), note.into_bytes()));
        self.entries(&mut files)?;

        let mut people = Directory::default();
        for row in &self.people {
            people.add(row.clone());
        }
        let mut deriver = Deriver::new(Arc::new(people), period, vec![rules], Files::default());
        for (index, line) in (0..).zip(&self.lines) {
            deriver.entry(&Leaf::parse(line, index)?);
        }
        let (derived, _) = deriver.finish(&from, &generator());
        files.extend(derived.0);
        let sums: String = files.iter().map(|(path, bytes)| format!("{}  {path}\n", sha256(bytes))).collect();
        files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
        contained(&from, &files, &self.signer)
    }

    /// The ledger's files in the order of the specification: each tile of level 0 before its bundle, the others behind.
    fn entries(&self, files: &mut Vec<(String, Vec<u8>)>) -> Made<()> {
        let tiles: Vec<Tile> = self.tiles.iter().cloned().chain(self.builder.partial()).collect();
        let of_level = |zero: bool| tiles.iter().filter(move |tile| (tile.level == 0) == zero);
        for (number, (lines, tile)) in (0..).zip(self.lines.chunks(BUNDLE_ENTRIES).zip(of_level(true))) {
            files.push((format!("ledger/{}", tile.path()), tile.hashes.clone()));
            let path = format!("ledger/{}", bundle_path(number, lines.len()));
            files.push((path, bundle(lines.iter().map(Vec::as_slice))?));
        }
        files.extend(of_level(false).map(|tile| (format!("ledger/{}", tile.path()), tile.hashes.clone())));
        Ok(())
    }
}

fn person(subject: &str) -> ChainRow {
    let issuer = "https://id.example.test".to_owned();
    let (agent, subject) = (subject.ends_with("agent"), subject.to_owned());
    let digest = sha256(subject.as_bytes());
    let mut chain = [0; 16];
    chain.copy_from_slice(&digest.0[..16]);
    let actors = if agent {
        vec![Actor { issuer: issuer.clone(), subject: "helper".to_owned(), kind: PrincipalKind::Agent }]
    } else {
        Vec::new()
    };
    let kind = if agent { PrincipalKind::Service } else { PrincipalKind::User };
    let groups = vec!["staff".to_owned()];
    let principal = Principal { issuer, subject, kind, display: String::new(), groups };
    ChainRow { chain, salt: digest.0, delegation: Delegation { principal, actors } }
}

#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Output for Files {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        self.0.entry(path.to_owned()).or_default().extend_from_slice(bytes);
    }
}

fn generator() -> Generator {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Generator { name: "make-pack".to_owned(), version, binary_sha256: Digest::default() }
}

fn contained(from: &Provenance, files: &[(String, Vec<u8>)], signer: &LogSigner) -> Made<Vec<u8>> {
    let listed = files.iter().map(|(path, bytes)| Listed {
        path: path.clone(),
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    });
    let manifest = Manifest::new(from, generator(), listed.collect()).json().into_bytes();
    let note = signer.sign_text(&manifest_text(&manifest))?.into_bytes();
    let mut out = Vec::new();
    for (path, bytes) in [(MANIFEST.to_owned(), manifest), (MANIFEST_NOTE.to_owned(), note)].iter().chain(files) {
        let size = bytes.len() as u64;
        out.extend_from_slice(&header(path, size).ok_or("a path that cannot stand in a pack")?);
        out.extend_from_slice(bytes);
        out.resize(out.len() + padding(size), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}
