//! A small log with sessions, a held command, refusals, recordings and a restart, and packs of it in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_evidence::{
    ApprovalRow, BLOCK, ChainRow, Deriver, Directory, Generator, Kept, Listed, MANIFEST, MANIFEST_NOTE, Manifest,
    Output, Period, Provenance, Trusted, header, kept_bundle, kept_path, manifest_text, padding,
};
use chancery_ledger::{
    ActDeny, ActDone, ActStart, ApprovalDecide, ApprovalRequest, ApprovalUse, BlockHeader, Boot, Checkpoint, Codec,
    Entry, EntryKind, EpochSigner, Hasher, Leaf, Log, LogSigner, Outcome, PolicyApply, PrincipalEntry, PruneLedger,
    PruneRefuse, Pruned, Range, RawSegment, RetentionRun, Roots, SessionClose, SessionOpen, Shred, Shutdown, Stamp,
    TileBuilder, Unseal, bundle_path, leaf_hash,
};
use chancery_model::{
    Actor, Assurance, Delegation, Digest, Durability, Effect, EntryRef, Principal, PrincipalKind, RefusalCode,
    ResourceName, ReviewId, RuleId, SessionId, Timestamp,
};

const ORIGIN: &str = "gw.test/a";
pub(crate) const START: i64 = 1_764_000_000_000_000;
pub(crate) const RULES: &[u8] = b"the text of the rules";
pub(crate) const SIGNATURE: &str = "a signature of dana's";

pub(crate) struct Story {
    pub(crate) lines: Vec<Vec<u8>>,
    pub(crate) note: String,
    pub(crate) trusted: Trusted,
    pub(crate) chains: Vec<ChainRow>,
    pub(crate) approvals: Vec<ApprovalRow>,
    /// The files of a copy of the registry.
    pub(crate) registry: Vec<(String, Vec<u8>)>,
    /// By session, in hex.
    pub(crate) recordings: BTreeMap<String, Vec<u8>>,
    /// Entries that are only hashes, and the first entry of the segment of each.
    pub(crate) gone: BTreeMap<u64, u64>,
}

struct Maker {
    log: Log,
    lines: Vec<Vec<u8>>,
    range: Range,
}

impl Maker {
    fn add(&mut self, entry: Entry<'_>) -> EntryRef {
        let mut line = Vec::new();
        let at = self.lines.len() as i64 * 1_000;
        let stamp = Stamp { wall: Timestamp(START + at), mono: at };
        let at = self.log.append(&entry, stamp, &mut line).expect("it fits");
        self.range.push(at.leaf);
        self.lines.push(line);
        at
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn chain(id: u8, subject: &str, actors: &[&str]) -> ChainRow {
    let issuer = "https://idp.example".to_owned();
    let actor = |one: &&str| Actor { issuer: issuer.clone(), subject: (*one).to_owned(), kind: PrincipalKind::Agent };
    let principal = Principal {
        issuer: issuer.clone(),
        subject: subject.to_owned(),
        kind: PrincipalKind::User,
        display: String::new(),
        groups: vec!["staff".to_owned()],
    };
    let delegation = Delegation { principal, actors: actors.iter().map(actor).collect() };
    ChainRow { chain: [id; 16], salt: [id; 32], delegation }
}

/// One block with nothing a reader would decode.
fn recording(session: SessionId) -> (Vec<u8>, Digest) {
    let stored = b"what was shown";
    let header = BlockHeader {
        session,
        number: 0,
        previous: Digest::default(),
        salt: [7; 32],
        codec: Codec::Raw,
        raw_len: stored.len() as u32,
        stored_len: stored.len() as u32,
        crc: 0,
    };
    ([header.encode().as_slice(), stored].concat(), header.hash(stored))
}

/// `approver`: the chain that approves the held command of alice's agent.
pub(crate) fn story(approver: u8) -> Story {
    told(approver, |_| BTreeMap::new())
}

/// The story, of which the first two sessions were pruned, each from a segment of its own. What became of the originals of the
/// first stays. `said`: what is changed in what the entries say of it.
pub(crate) fn pruned_story(said: impl Fn(&mut PruneLedger)) -> Story {
    told(2, |maker| {
        let (session, by, digest) = (SessionId([0x10; 16]), [2; 16], Digest([6; 32]));
        let (index, bytes, to) = (0, 9, &[[7; 8]]);
        #[rustfmt::skip]
        let raw = RawSegment { session, index, bytes, body: digest, header: digest, to, commitment: digest };
        maker.add(Entry::RawSegment(raw));
        maker.add(Entry::Unseal(Unseal { session, review: ReviewId([8; 16]), by }));
        let (refused, by_) = (Some(session), Some(by));
        maker.add(Entry::PruneRefuse(PruneRefuse { session: refused, by: by_, ..PruneRefuse::new("held") }));
        maker.add(Entry::Shred(Shred { session, what: "sealed", authority: Some(digest), by: Some(by), run: None }));
        let run = maker
            .add(Entry::RetentionRun(RetentionRun { by: None, due: 2, ledger: 400, recordings: 400, sealed: 400 }))
            .index;
        let leaves: Vec<Leaf> = (0..).zip(&maker.lines).map(|(at, line)| Leaf::parse(line, at).expect("own")).collect();
        let (mut gone, mut segment) = (BTreeMap::new(), 0);
        for number in 0..2 {
            let hex = format!("{:02x}", 0x10 + number).repeat(16);
            let of_review = |leaf: &Leaf| leaf.rest.get("rev").is_some_and(|review| review == hex.as_str());
            let of_session = |leaf: &&Leaf| leaf.session == Some(SessionId([0x10 + number; 16])) || of_review(leaf);
            let stays = |kind| {
                matches!(kind, EntryKind::RawSegment | EntryKind::Unseal | EntryKind::Shred | EntryKind::PruneRefuse)
            };
            let of_it: Vec<&Leaf> =
                leaves.iter().filter(of_session).filter(|leaf| !leaf.kind.is_some_and(stays)).collect();
            let (mut hasher, last) = (Hasher::default(), of_it.last().expect("a session"));
            for leaf in &of_it {
                hasher.update(&leaf_hash(&maker.lines[leaf.index as usize]).0);
                gone.insert(leaf.index, segment);
            }
            let (dropped, digest, wall) = (of_it.len() as u64, hasher.finish(), Timestamp(last.wall));
            let mut prune = PruneLedger { run, first: segment, dropped, digest, bytes: 9, last: wall };
            said(&mut prune);
            segment = last.index + 1;
            maker.add(Entry::PruneLedger(prune));
        }
        gone
    })
}

fn told(approver: u8, then: impl FnOnce(&mut Maker) -> BTreeMap<u64, u64>) -> Story {
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed");
    let epoch = EpochSigner::from_seed(ORIGIN, 0, &[9; 32]).expect("a seed");
    let mut maker =
        Maker { log: Log::new(ORIGIN, [7; 16]).expect("an origin"), lines: Vec::new(), range: Range::default() };
    let chains = vec![chain(1, "alice", &["report-agent"]), chain(2, "dana", &[]), chain(3, "alice", &[])];
    let rules = digest(RULES);
    maker.add(Entry::KeyEpoch(epoch.begin(&signer, 600_000, Range::default().root())));
    maker.add(Entry::Boot(Boot {
        version: "0",
        config: Digest::default(),
        dangerous: &[],
        profile: Durability::Balanced,
        loss_window_ms: 20,
        size: 1,
        root: Digest::default(),
    }));
    maker.add(Entry::PolicyApply(PolicyApply { rules, source: "start", by: None }));
    for row in &chains {
        maker.add(Entry::Principal(PrincipalEntry { chain: row.chain, commitment: row.commitment() }));
    }
    let mut recordings = BTreeMap::new();
    let mut approvals = Vec::new();
    for number in 0..3_u8 {
        let session = SessionId([0x10 + number; 16]);
        let (blocks, head) = recording(session);
        let command = Told { maker: &mut maker, session, rules, head };
        approvals.extend(command.tell(approver));
        recordings.insert(format!("{:02x}", 0x10 + number).repeat(16), blocks);
    }
    let gone = then(&mut maker);
    maker.add(Entry::Shutdown(Shutdown { reason: "asked" }));
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: maker.range.size(), root: maker.range.root() };
    let roots = format!("{}\n{}\n", signer.verifier_key(), epoch.verifier_key());
    let roots = Roots::parse(&roots).expect("keys");
    let note = epoch.countersign(signer.sign(&head)).note;
    let trusted =
        Trusted { roots, witnesses: None, checkpoints: Vec::new(), signatures: Some(|one, _, _| one == SIGNATURE) };
    approvals.retain(|row: &ApprovalRow| !gone.contains_key(&row.entry));
    for number in 0..u8::from(!gone.is_empty()) * 2 {
        recordings.remove(&format!("{:02x}", 0x10 + number).repeat(16));
    }
    let registry = Vec::new();
    Story { lines: maker.lines, note, trusted, chains, approvals, registry, recordings, gone }
}

struct Told<'m> {
    maker: &'m mut Maker,
    session: SessionId,
    rules: Digest,
    head: Digest,
}

impl Told<'_> {
    /// A session: one read, one refusal, one write that is held and approved.
    fn tell(self, approver: u8) -> Option<ApprovalRow> {
        let Self { maker, session, rules, head } = self;
        let resource = &ResourceName::parse("shop").expect("well-formed");
        let (rule_ids, chain) = (&[RuleId("analysts-read".into())], [1; 16]);
        let open = SessionOpen {
            session,
            chain,
            resource,
            rules,
            rule_ids,
            protocol: "postgres",
            method: "oidc",
            profile: Durability::Balanced,
        };
        maker.add(Entry::SessionOpen(open));
        let (fingerprint, digest_) = (Digest([3; 32]), Digest([4; 32]));
        let start = ActStart {
            session,
            command: 1,
            chain,
            resource,
            rules,
            decision: "allow",
            rule_ids,
            effect: Effect::Read,
            fingerprint,
            digest: digest_,
            review: None,
            profile: Durability::Balanced,
        };
        let done = |command, masked| ActDone {
            session,
            command,
            outcome: Outcome::Completed,
            sqlstate: None,
            rows: 1,
            bytes: 9,
            masked,
            duration_us: 5,
            recording: Some(head),
        };
        maker.add(Entry::ActStart(start));
        maker.add(Entry::ActDone(done(1, 2)));
        maker.add(Entry::ActDeny(ActDeny {
            session,
            command: 2,
            chain: Some(chain),
            resource: Some(resource),
            rules,
            code: RefusalCode::Denied,
            rule_ids,
            digest: None,
        }));
        let review = ReviewId(session.0);
        let needed = &["dba".to_owned()];
        let expires_at = Timestamp(START + 3_600_000_000);
        let request = ApprovalRequest {
            review,
            session,
            command: 3,
            chain,
            resource,
            rules,
            digest: digest_,
            needed,
            expires_at,
        };
        maker.add(Entry::ApprovalRequest(request));
        let decide = ApprovalDecide {
            review,
            by: [approver; 16],
            approved: true,
            rule: "dba",
            assurance: Assurance::Signed,
            digest: digest_,
            signature: Some(digest(SIGNATURE.as_bytes())),
        };
        let at = maker.add(Entry::ApprovalDecide(decide));
        maker.add(Entry::ApprovalUse(ApprovalUse { review, session, command: 3, digest: digest_, decisions: &[at] }));
        maker.add(Entry::ActStart(ActStart { command: 3, effect: Effect::Write, review: Some(review), ..start }));
        maker.add(Entry::ActDone(done(3, 0)));
        maker.add(Entry::SessionClose(SessionClose { session, reason: "client", recording: Some(head) }));
        Some(ApprovalRow { entry: at.index, key: "ssh-ed25519 AAAA".into(), signature: SIGNATURE.into() })
    }
}

/// Files of a pack, in the order in which they were begun.
#[derive(Default)]
pub(crate) struct Files(pub(crate) Vec<(String, Vec<u8>)>);

impl Output for Files {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        match self.0.iter_mut().find(|(name, _)| name == path) {
            Some((_, file)) => file.extend_from_slice(bytes),
            None => self.0.push((path.to_owned(), bytes.to_vec())),
        }
    }
}

impl Story {
    /// The files of a pack of all of it.
    pub(crate) fn files(&self) -> (Files, Provenance) {
        self.files_since(START)
    }

    /// The files of a pack of a period that ends with it.
    pub(crate) fn files_since(&self, from: i64) -> (Files, Provenance) {
        let last = Leaf::parse(self.lines.last().expect("entries"), self.lines.len() as u64 - 1).expect("well-formed");
        let (mut files, mut directory) = (Files(self.registry.clone()), Directory::default());
        let mut text = String::new();
        self.chains.iter().for_each(|row| row.line(&mut text));
        files.append("directory/chains.jsonl", text.as_bytes());
        self.chains.iter().for_each(|row| assert!(directory.add(row.clone())));
        files.append(&format!("rules/{}.rules", digest(RULES)), RULES);
        text.clear();
        self.approvals.iter().for_each(|row| row.line(&mut text));
        files.append("reviews/approvals.jsonl", text.as_bytes());
        for (session, blocks) in &self.recordings {
            files.append(&format!("recordings/{session}.rec"), blocks);
        }
        files.append("ledger/checkpoint", self.note.as_bytes());
        let mut tiles = TileBuilder::default();
        self.lines.iter().for_each(|line| tiles.push(leaf_hash(line), &mut Vec::new()));
        assert!(self.lines.len() < 256, "one bundle");
        for tile in tiles.partial() {
            files.append(&format!("ledger/{}", tile.path()), &tile.hashes);
        }
        let entries = (0..).zip(&self.lines).map(|(index, line)| match self.gone.get(&index) {
            Some(segment) => Kept::Pruned(leaf_hash(line), *segment),
            None => Kept::Entry(line),
        });
        let place = if self.gone.is_empty() { bundle_path } else { kept_path };
        let entries = kept_bundle(entries).expect("short");
        files.append(&format!("ledger/{}", place(0, self.lines.len())), &entries);
        let body = self.note.split_once("\n\n").expect("a note").0;
        let head = Checkpoint::parse(&format!("{body}\n")).expect("a checkpoint");
        let period = Period { from, to: last.wall + 1 };
        let mut pruned = Pruned::default();
        for (index, line) in (0..).zip(&self.lines) {
            match self.gone.get(&index) {
                Some(segment) => drop(pruned.hash(index, &leaf_hash(line), *segment)),
                None => pruned.entry(&Leaf::parse(line, index).expect("well-formed")),
            }
        }
        let pruned = pruned.missing(from);
        let (created_at, controls, registry) = (Timestamp(last.wall), Vec::new(), !self.registry.is_empty());
        let from = Provenance { head, created_at, period, controls, pruned, registry };
        let rules = vec![digest(RULES).to_string()];
        let mut deriver = Deriver::new(Arc::new(directory), period, rules, &mut files);
        for (index, line) in (0..).zip(&self.lines).filter(|(index, _)| !self.gone.contains_key(index)) {
            deriver.entry(&Leaf::parse(line, index).expect("well-formed"));
        }
        deriver.finish(&from, &generator());
        (files, from)
    }
}

fn generator() -> Generator {
    Generator { name: "test".into(), version: env!("CARGO_PKG_VERSION").into(), binary_sha256: Digest::default() }
}

/// The container of these files, with a manifest that fits.
pub(crate) fn packed(files: &[(String, Vec<u8>)], from: &Provenance) -> Vec<u8> {
    let listed = files.iter().map(|(path, bytes)| Listed {
        path: path.clone(),
        bytes: bytes.len() as u64,
        sha256: digest(bytes),
    });
    let manifest = Manifest::new(from, generator(), listed.collect()).json().into_bytes();
    let note = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed").sign_text(&manifest_text(&manifest));
    let note = note.expect("no head").into_bytes();
    let mut out = Vec::new();
    for (path, bytes) in [(MANIFEST, &manifest), (MANIFEST_NOTE, &note)]
        .into_iter()
        .chain(files.iter().map(|(path, bytes)| (path.as_str(), bytes)))
    {
        out.extend_from_slice(&header(path, bytes.len() as u64).expect("a path"));
        out.extend_from_slice(bytes);
        out.resize(out.len() + padding(bytes.len() as u64), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}
