//! `chancery evidence export`: reads the ledger twice, first for what is needed of the catalog and the recordings, then to
//! write entries and what follows from them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chancery_evidence::{
    ApprovalRow, ChainRow, Derived, Deriver, Directory as People, Generator, Kept, Listed, Manifest, Output,
    Provenance, Seen, is_control, kept_bundle, kept_path, manifest_text,
};
use chancery_ledger::{BUNDLE_ENTRIES, Checkpoint, Hasher, Leaf, Tile, TileBuilder, bundle, bundle_path, leaf_hash};
use chancery_model::{Digest, Timestamp};
use chancery_store::{Directory, LedgerItem, LedgerReader, RecordingReader};
use serde_json::json;

use super::postgres;
use super::registry_copy::RegistryCopy;
use super::staging::{Staging, part, split};
use super::survey::Survey;
use crate::args;
use crate::commands::check;
use crate::commands::ledger::ROOTS_FILE;
use crate::config::Configuration;
use crate::local::{Deed, Local, NewExport, read_small, salt};
use crate::output::{Done, Exit, Failure, Out, clean};

const NOTE_BYTES_MAX: u64 = 64 * 1024;
const ROOTS_BYTES_MAX: u64 = 4096;

pub(super) async fn run(args: args::ExportPack, out: Out) -> Done {
    for control in &args.controls {
        if !is_control(control) {
            let known: Vec<&str> = chancery_evidence::CONTROLS.iter().map(|control| control.id).collect();
            return Err(Failure::usage(format!("there is no control `{}`", clean(control))).hint(known.join(", ")));
        }
    }
    let mine = [args.out.clone(), part(&args.out, 1)];
    if let Some(there) = mine.iter().find(|path| path.exists()) {
        return Err(Failure::no(format!("{} exists", there.display())).hint("name a file that is not there yet"));
    }
    let (configuration, local) = check::open(&args.config).await?;
    let made = make(&args, &configuration, &local, out).await;
    local.close().await;
    made
}

async fn make(args: &args::ExportPack, configuration: &Configuration, local: &Local, out: Out) -> Done {
    let source = Source::open(configuration, args.checkpoint.as_deref())?;
    let registry = args.registry.as_deref();
    let registry = registry
        .map(|directory| tokio::task::block_in_place(|| RegistryCopy::read(directory, &source.head, &source.roots)));
    let registry = registry.transpose()?;
    let first = tokio::task::block_in_place(|| Survey::of(&source, args.from.0, args.to.map(|to| to.0)))?;
    let people = people(local, &first).await?;
    let approvals = approvals(local, &first).await?;
    let logs = args.postgres_logs.as_slice();
    let seen = if logs.is_empty() { None } else { Some(tokio::task::block_in_place(|| postgres::read(logs))?) };
    let mut staging = Staging::new(&args.out)
        .map_err(|error| Failure::unsure(format!("{}.parts cannot be made: {error}", args.out.display())))
        .map_err(|failure| failure.hint("an export that was cut off leaves that directory: remove it"))?;
    let from = Provenance {
        head: source.head.clone(),
        created_at: Timestamp(first.last),
        period: first.period,
        controls: args.controls.clone(),
        pruned: first.missing,
        registry: registry.is_some(),
    };
    let (derived, manifest) = tokio::task::block_in_place(|| {
        let catalog = FromCatalog { people, approvals, seen };
        let generator = generator()?;
        registry.iter().for_each(|registry| registry.put(&mut staging));
        if let Some(page) = &args.page {
            let bytes = fs::read(page).map_err(|error| Failure::usage(format!("{}: {error}", page.display())))?;
            staging.put("verify.html", &bytes);
        }
        let derived = source.write(&first, catalog, (&from, &generator), &mut staging)?;
        let files = staging.listed(rank).map_err(unwritable)?;
        let manifest = sealed(&from, generator, files, &mut staging)?;
        Ok::<_, Failure>((derived, manifest))
    })?;
    // Evidence is on record as leaving before it can leave.
    let mut hasher = Hasher::default();
    hasher.update(manifest.json().as_bytes());
    let digest = hasher.finish();
    let export = NewExport { from: first.period.from, to: first.period.to, manifest: digest.to_string() };
    local.do_it(&Deed::Export(export)).await?;
    let signed = local.log_signer()?.sign_text(&manifest_text(manifest.json().as_bytes()));
    let note = signed.map_err(|error| Failure::no(format!("the manifest is not signed: {error}")))?;
    let (bytes, parts) = tokio::task::block_in_place(|| {
        let bytes = staging.pack(&manifest, &note, &args.out)?;
        let parts = args.split.filter(|size| *size < bytes).map(|size| split(&args.out, size)).transpose()?;
        Ok((bytes, parts.unwrap_or_else(|| vec![args.out.clone()])))
    })
    .map_err(unwritable)?;
    told(&derived, &manifest, &digest, (bytes, &parts), registry.as_ref(), out);
    Ok(Exit::Yes)
}

fn told(
    derived: &Derived,
    manifest: &Manifest,
    digest: &Digest,
    (bytes, parts): (u64, &[std::path::PathBuf]),
    registry: Option<&RegistryCopy>,
    out: Out,
) {
    let head = &manifest.head;
    out.line(format!("period    {} to {}", manifest.period.0, manifest.period.1));
    out.line(format!("head      {} entries of {}, root {}", head.size, clean(&head.origin), head.root));
    let registry = registry.map(|registry| &registry.head);
    out.line(registry.map_or(
        "registry  none: packs alone will not tell whether that of another gateway is missing".to_owned(),
        |head| format!("registry  {} entries of {}", head.size, clean(&head.origin)),
    ));
    for (population, rows) in derived.rows.iter().filter(|(population, _)| population.about().absent.is_none()) {
        out.line(format!("{}       {rows:>8}  {}", population.about().id, population.about().title));
    }
    let found = derived.findings.all();
    let exceptions = found.filter(|(_, found)| found.result() == "exceptions").count();
    out.line(format!("controls  {} of {} with exceptions", exceptions, chancery_evidence::CONTROLS.len()));
    for part in parts {
        out.line(format!("pack      {}", part.display()));
    }
    out.line(format!("manifest  {digest} ({} files, {bytes} bytes)", manifest.files.len()));
    let rows: BTreeMap<&str, u64> = derived.rows.iter().map(|(one, rows)| (one.about().id, *rows)).collect();
    out.document(&json!({
        "from": manifest.period.0, "to": manifest.period.1, "entries": head.size, "root": head.root.to_string(),
        "populations": rows, "parts": parts, "manifest": digest.to_string(), "bytes": bytes,
        "exceptions": exceptions, "registry": registry.map(|head| &head.origin),
    }));
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::unsure(format!("the pack cannot be written: {error}"))
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::unsure(format!("the state cannot be read: {error}"))
}

/// What is not in the ledger.
struct FromCatalog {
    people: Vec<ChainRow>,
    approvals: Vec<ApprovalRow>,
    seen: Option<Vec<Seen>>,
}

/// What is met below the head.
pub(super) enum Met<'a> {
    /// An entry, as it is stored and as it is read.
    Entry(&'a [u8], &'a Leaf),
    /// The hash of one that was pruned, and the first entry of its segment.
    Pruned(Digest, u64),
}

pub(super) struct Source {
    ledger: LedgerReader,
    recordings: RecordingReader,
    rules: std::path::PathBuf,
    note: String,
    head: Checkpoint,
    roots: String,
}

impl Source {
    fn open(configuration: &Configuration, checkpoint: Option<&Path>) -> Result<Self, Failure> {
        let state = &configuration.state;
        let shared = |path: std::path::PathBuf| Directory::shared(&path).map(Arc::new).map_err(unreadable);
        let ledger = LedgerReader::new(shared(state.join("ledger"))?);
        let roots = read_small(&state.join(ROOTS_FILE), ROOTS_BYTES_MAX).map_err(unreadable)?;
        let note = match checkpoint {
            Some(path) => text(path)?,
            None => newest(&ledger)?,
        };
        let body = note.rfind("\n\n").and_then(|at| note.get(..=at)).unwrap_or_default();
        let head = Checkpoint::parse(body).map_err(|error| Failure::no(format!("the checkpoint: {error}")))?;
        if head.size == 0 {
            return Err(Failure::unsure("the ledger has no entries yet"));
        }
        Ok(Self {
            ledger,
            recordings: RecordingReader::new(shared(state.join("recordings"))?),
            rules: state.join("rules"),
            note,
            head,
            roots: String::from_utf8_lossy(&roots).trim_end().to_owned() + "\n",
        })
    }

    /// Visits what there is below the head: entries, and hashes of those that were pruned.
    pub(super) fn visit(&self, mut visit: impl FnMut(u64, Met<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let (mut result, mut next) = (Ok(()), 0);
        let visited = self.ledger.visit(0, |index, item| {
            result = match item {
                _ if index >= self.head.size => return ControlFlow::Break(()),
                LedgerItem::Damaged(_) => return ControlFlow::Break(()),
                LedgerItem::Pruned(hash, segment) => visit(index, Met::Pruned(hash, segment)),
                LedgerItem::Entry(line) => match Leaf::parse(line, index) {
                    Ok(leaf) => visit(index, Met::Entry(line, &leaf)),
                    Err(error) => Err(Failure::no(format!("the ledger: {error}"))),
                },
            };
            next = index + 1;
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        visited.map_err(unreadable)?;
        result?;
        if next == self.head.size {
            return Ok(());
        }
        let what = format!("the ledger ends at entry {next}, and its checkpoint speaks of {}", self.head.size);
        Err(Failure::no(what).hint("`chancery ledger verify` says where it is wrong"))
    }

    /// Writes everything but the manifest.
    fn write(
        &self,
        first: &Survey,
        FromCatalog { people, approvals, seen }: FromCatalog,
        from: (&Provenance, &Generator),
        staging: &mut Staging,
    ) -> Result<Derived, Failure> {
        let (mut lines, mut directory) = (String::new(), People::default());
        people.iter().for_each(|row| row.line(&mut lines));
        staging.put("directory/chains.jsonl", lines.as_bytes());
        for row in people {
            directory.add(row);
        }
        let mut lines = String::new();
        approvals.iter().for_each(|row| row.line(&mut lines));
        staging.put("reviews/approvals.jsonl", lines.as_bytes());
        if let Some(seen) = &seen {
            let mut lines = String::new();
            seen.iter().for_each(|one| one.line(&mut lines));
            staging.put("reconciliation/postgres.jsonl", lines.as_bytes());
        }
        let mut rules = Vec::new();
        for digest in &first.rules {
            // A text that was not kept is an exception of the control rule-texts.
            if let Ok(text) = fs::read(self.rules.join(format!("{digest}.rules"))) {
                staging.put(&format!("rules/{digest}.rules"), &text);
                rules.push(digest.clone());
            }
        }
        self.recordings(first, staging)?;
        staging.put("ledger/checkpoint", self.note.as_bytes());
        staging.put("trust/roots.txt", self.roots.as_bytes());
        self.entries((directory, rules, seen), first.hashes, from, staging)
    }

    fn recordings(&self, first: &Survey, staging: &mut Staging) -> Result<(), Failure> {
        let mut left = first.sessions.clone();
        let copied = self.recordings.blocks(|block| {
            let session = block.header.session;
            let Some(last) = left.get(&session).copied() else { return };
            let mut name = String::from("recordings/");
            session.0.iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
            name.push_str(".rec");
            staging.append(&name, &block.header.encode());
            staging.append(&name, block.stored);
            // What came after it belongs to no entry below the head.
            if block.header.hash(block.stored) == last {
                left.remove(&session);
            }
        });
        copied.map_err(unreadable)?;
        match left.keys().find(|session| !first.excused.contains(session)) {
            None => Ok(()),
            Some(session) => Err(Failure::no(format!("the recording of {session} is not whole"))
                .hint("`chancery ledger verify` says what is missing")),
        }
    }

    fn entries(
        &self,
        (people, rules, seen): (People, Vec<String>, Option<Vec<Seen>>),
        hashes: u64,
        from: (&Provenance, &Generator),
        staging: &mut Staging,
    ) -> Result<Derived, Failure> {
        let mut deriver = Deriver::new(Arc::new(people), from.0.period, rules, &mut *staging);
        seen.into_iter().for_each(|seen| deriver.compare(seen));
        let mut log = Bundles::default();
        self.visit(|index, met| {
            if let Met::Entry(_, leaf) = met {
                deriver.entry(leaf);
            }
            log.push(met);
            if log.entries.len() == BUNDLE_ENTRIES {
                log.flush(index / BUNDLE_ENTRIES as u64, deriver.output())?;
            }
            Ok(())
        })?;
        if log.builder.range().root() != self.head.root {
            return Err(Failure::no("the entries have another root than the checkpoint says")
                .hint("`chancery ledger verify` says where they are wrong"));
        }
        if log.hashes != hashes {
            return Err(Failure::unsure("entries were pruned while they were read").hint("do it again"));
        }
        if !log.entries.is_empty() {
            log.flush(self.head.size / BUNDLE_ENTRIES as u64, deriver.output())?;
        }
        for tile in log.builder.partial() {
            deriver.output().append(&format!("ledger/{}", tile.path()), &tile.hashes);
        }
        let (_, derived) = deriver.finish(from.0, from.1);
        Ok(derived)
    }
}

/// Entries and tiles on their way into files.
#[derive(Default)]
struct Bundles {
    builder: TileBuilder,
    whole: Vec<Tile>,
    /// The bundle so far. Of a pruned entry: the hash, and the first entry of its segment.
    entries: Vec<Result<Vec<u8>, (Digest, u64)>>,
    /// Pruned entries in all, and in this bundle.
    hashes: u64,
    pruned: usize,
}

impl Bundles {
    fn push(&mut self, met: Met<'_>) {
        let (hash, entry) = match met {
            Met::Entry(line, _) => (leaf_hash(line), Ok(line.to_vec())),
            Met::Pruned(hash, segment) => (hash, Err((hash, segment))),
        };
        self.hashes += u64::from(entry.is_err());
        self.pruned += usize::from(entry.is_err());
        self.builder.push(hash, &mut self.whole);
        self.entries.push(entry);
    }

    fn flush(&mut self, number: u64, out: &mut impl Output) -> Result<(), Failure> {
        let width = self.entries.len();
        let (path, bytes) = if std::mem::take(&mut self.pruned) == 0 {
            (bundle_path(number, width), bundle(self.entries.iter().flatten().map(Vec::as_slice)))
        } else {
            let entries = self.entries.iter().map(|entry| match entry {
                Ok(line) => Kept::Entry(line),
                Err((hash, segment)) => Kept::Pruned(*hash, *segment),
            });
            (kept_path(number, width), kept_bundle(entries))
        };
        let bytes = bytes.map_err(|error| Failure::no(format!("the ledger: {error}")))?;
        out.append(&format!("ledger/{path}"), &bytes);
        self.entries.clear();
        for tile in self.whole.drain(..) {
            out.append(&format!("ledger/{}", tile.path()), &tile.hashes);
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, NOTE_BYTES_MAX);
    let bytes = bytes.map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Failure::unsure(format!("{}: not text", path.display())))
}

/// The last checkpoint; with the cosignatures, if witnesses saw that very head.
fn newest(ledger: &LedgerReader) -> Result<String, Failure> {
    let note = ledger.checkpoint().map_err(unreadable)?;
    let note = note.ok_or_else(|| {
        Failure::unsure("the ledger has no checkpoint yet").hint("a running gateway signs one within a second")
    })?;
    let body = |note: &str| note.rfind("\n\n").and_then(|at| note.get(..=at)).map(str::to_owned);
    let witnessed = ledger.witnessed().map_err(unreadable)?;
    Ok(witnessed.filter(|witnessed| body(witnessed) == body(&note)).unwrap_or(note))
}

async fn people(local: &Local, first: &Survey) -> Result<Vec<ChainRow>, Failure> {
    let key = local.fingerprint_key()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
    let mut rows = Vec::new();
    for id in &first.chains {
        let known = local.catalog.chain(*id).await.map_err(|error| Failure::no(format!("the directory: {error}")))?;
        if let Some(known) = known {
            let mut delegation = known.chain;
            delegation.principal.display.clear();
            rows.push(ChainRow { chain: *id, salt: salt(&key, *id), delegation });
        }
    }
    Ok(rows)
}

/// The signatures that the catalog still has, by the digests in the entries.
async fn approvals(local: &Local, first: &Survey) -> Result<Vec<ApprovalRow>, Failure> {
    let mut rows = Vec::new();
    for (entry, review, digest) in &first.signed {
        let review =
            local.catalog.review(*review).await.map_err(|error| Failure::no(format!("the catalog: {error}")))?;
        let Some(review) = review else { continue };
        for approval in &review.approvals {
            let (Some(key), Some(signature)) = (&approval.key, &approval.signature) else { continue };
            let mut hasher = Hasher::default();
            hasher.update(signature.as_bytes());
            if hasher.finish() == *digest {
                rows.push(ApprovalRow { entry: *entry, key: key.clone(), signature: signature.clone() });
            }
        }
    }
    Ok(rows)
}

/// The manifest, and the file that says the same for `sha256sum`.
fn sealed(
    from: &Provenance,
    generator: Generator,
    mut files: Vec<Listed>,
    staging: &mut Staging,
) -> Result<Manifest, Failure> {
    let sums: String = files.iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect();
    staging.put("SHA256SUMS", sums.as_bytes());
    files.extend(staging.listed(rank).map_err(unwritable)?);
    Ok(Manifest::new(from, generator, files))
}

/// This program.
fn generator() -> Result<Generator, Failure> {
    let unreadable = |error| Failure::unsure(format!("this program cannot be read: {error}"));
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 16]);
    let mut own = std::env::current_exe().and_then(fs::File::open).map_err(unreadable)?;
    loop {
        match std::io::Read::read(&mut own, &mut buffer).map_err(unreadable)? {
            0 => break,
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Generator { name: "chancery".to_owned(), version, binary_sha256: hasher.finish() })
}

/// The place of a file in a pack: `docs/spec/pack.md`.
fn rank(path: &str) -> (u8, String) {
    const LAST: [&str; 14] = [
        "controls/results.jsonl",
        "controls/control-matrix.csv",
        "controls/exceptions.csv",
        "controls/results.oscal.json",
        "controls/findings.ocsf.jsonl",
        "report.html",
        "README.txt",
        "cuec.md",
        "verify.py",
        "lists.py",
        "origins.py",
        "verify.html",
        "trust/roots.txt",
        "SHA256SUMS",
    ];
    let place = LAST.iter().position(|last| *last == path).unwrap_or(LAST.len());
    match path.split_once('/') {
        Some(("registry", _)) => (0, path.to_owned()),
        Some(("directory" | "rules", _)) => (1, path.to_owned()),
        Some(("reconciliation" | "reviews", _)) => (2, path.to_owned()),
        Some(("recordings", _)) => (3, path.to_owned()),
        Some(("ledger", "checkpoint")) => (4, String::new()),
        Some(("ledger", tile)) => tile_rank(tile),
        Some(("populations", file)) => {
            let extension = ["jsonl", "csv", "ipe.json"].iter().position(|one| file.ends_with(one)).unwrap_or(3);
            (7, format!("{}{extension}", file.get(..3).unwrap_or_default()))
        }
        _ => (8, format!("{place:02}{path}")),
    }
}

/// `tile/<level>/<number>`: those of level 0 each before its bundle, which may be `kept/<number>`, the others behind.
fn tile_rank(path: &str) -> (u8, String) {
    let mut parts = path.splitn(3, '/').skip(1);
    let (level, number) = match path.strip_prefix("kept/") {
        Some(number) => ("entries", number),
        None => (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()),
    };
    let number = number.split_once(".p/").map_or(number, |(number, _)| number);
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    match level {
        "0" => (5, format!("{digits:0>20}0")),
        "entries" => (5, format!("{digits:0>20}1")),
        level => (6, format!("{level:0>3}{digits:0>20}")),
    }
}
