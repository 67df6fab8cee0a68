//! The ledger's part of a pack: entries, tiles, head; and what is derived from entries as they pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::approvals::Approvals;
use super::recordings::Recordings;
use super::{Hashes, Notes, PackCheck, Rederived, Trusted};
use crate::derive::{Deriver, is_for_people};
use crate::fields::text;
use crate::kept::{KEPT, Kept, kept_path, read_bundle};
use crate::pack::Provenance;
use crate::{Directory, Manifest, Seen};
use chancery_ledger::{EntryKind, Leaf, Missing, Tile, TileBuilder, Verifier, bundle_path, leaf_hash};

pub(super) struct LedgerPart {
    verifier: Verifier,
    deriver: Deriver<Hashes>,
    directory: Arc<Directory>,
    period: crate::Period,
    tiles: TileBuilder,
    /// Tiles that were made from entries, and not yet met in the pack.
    made: BTreeMap<String, Vec<u8>>,
    /// The tile of level 0 that came before its entries.
    met: Option<(String, Vec<u8>)>,
    bundles: u64,
    last_wall: i64,
    /// Rule sets whose text is there.
    rules: Vec<String>,
    unknown_rules: Option<u64>,
    /// Rule sets whose text is there and that were not put in force so far.
    idle_rules: BTreeSet<String>,
    /// Rows of the directory whose entry was met.
    met_rows: usize,
}

impl LedgerPart {
    pub(super) fn new(
        trusted: &Trusted,
        directory: Arc<Directory>,
        from: &Provenance,
        rules: Vec<String>,
        seen: Option<Vec<Seen>>,
    ) -> Self {
        let mut verifier = Verifier::new(trusted.roots.clone());
        if let Some(policy) = &trusted.witnesses {
            verifier.with_witnesses(policy.clone());
        }
        trusted.checkpoints.iter().for_each(|note| verifier.checkpoint(note));
        let mut deriver = Deriver::new(directory.clone(), from.period, rules.clone(), Hashes::default());
        seen.into_iter().for_each(|seen| deriver.compare(seen));
        Self {
            verifier,
            deriver,
            directory,
            period: from.period,
            tiles: TileBuilder::default(),
            made: BTreeMap::new(),
            met: None,
            bundles: 0,
            last_wall: 0,
            idle_rules: rules.iter().cloned().collect(),
            met_rows: 0,
            rules,
            unknown_rules: None,
        }
    }

    pub(super) fn checkpoint(&mut self, note: &[u8], manifest: &Manifest, notes: &mut Notes) {
        let Ok(note) = std::str::from_utf8(note) else {
            return notes.fail(PackCheck::Manifest, None, "ledger/checkpoint is not text");
        };
        self.verifier.checkpoint(note);
        let body = note.rfind("\n\n").and_then(|at| note.get(..=at)).unwrap_or_default();
        let head = chancery_ledger::Checkpoint::parse(body).ok();
        if head.as_ref() != Some(&manifest.head) {
            notes.fail(PackCheck::Manifest, None, "the head of the manifest is not that of ledger/checkpoint");
        }
    }

    pub(super) fn tile(&mut self, path: &str, bytes: &[u8], notes: &mut Notes) {
        if path.starts_with("tile/0/") {
            // Behind it comes the bundle of its entries: a changed one is named exactly.
            self.verifier.leaves(self.bundles * chancery_ledger::BUNDLE_ENTRIES as u64, bytes);
            if let Some((before, _)) = self.met.replace((path.to_owned(), bytes.to_vec())) {
                notes.fail(PackCheck::Tiles, None, format!("{before} has no entries behind it"));
            }
            return;
        }
        if self.made.is_empty() || !self.made.contains_key(path) {
            self.partial();
        }
        match self.made.remove(path) {
            Some(made) if made == bytes => {}
            _ => notes.fail(PackCheck::Tiles, None, format!("{path} is not the tile of the entries")),
        }
    }

    pub(super) fn bundle(
        &mut self,
        path: &str,
        bytes: &[u8],
        (approvals, recordings): (&mut Approvals, &mut Recordings),
        notes: &mut Notes,
    ) {
        let Some(entries) = read_bundle(path, bytes) else {
            self.verifier.damaged("a bundle of entries cannot be taken apart");
            return;
        };
        let place = if path.starts_with(KEPT) { kept_path } else { bundle_path };
        if path != place(self.bundles, entries.len()) {
            notes.fail(PackCheck::Tiles, None, format!("{path} is not the bundle that follows"));
        }
        self.bundles += 1;
        let mut whole = Vec::new();
        for entry in entries {
            match entry {
                Kept::Entry(line) => {
                    let index = self.tiles.size();
                    self.verifier.entry(line);
                    self.tiles.push(leaf_hash(line), &mut whole);
                    // What is no entry was found by the verifier.
                    if let Ok(leaf) = Leaf::parse(line, index) {
                        self.entry(&leaf, approvals, recordings, notes);
                    }
                }
                Kept::Pruned(hash, segment) => {
                    self.verifier.pruned(hash, segment);
                    self.tiles.push(hash, &mut whole);
                }
            }
        }
        self.made.extend(whole.into_iter().map(named));
        self.meet(notes);
    }

    /// The tile of level 0 that came before its bundle.
    fn meet(&mut self, notes: &mut Notes) {
        let Some((path, bytes)) = self.met.take() else { return };
        let made = self.made.remove(&path).or_else(|| {
            let partial = self.tiles.partial().into_iter().find(|tile| tile.level == 0);
            partial.map(named).filter(|(name, _)| *name == path).map(|(_, bytes)| bytes)
        });
        if made.as_ref() != Some(&bytes) {
            notes.fail(PackCheck::Tiles, None, format!("{path} is not the tile of the entries"));
        }
    }

    fn entry(&mut self, leaf: &Leaf, approvals: &mut Approvals, recordings: &mut Recordings, notes: &mut Notes) {
        self.last_wall = leaf.wall;
        self.deriver.entry(leaf);
        recordings.entry(leaf, self.period, notes);
        approvals.entry(leaf, notes);
        match leaf.kind {
            Some(EntryKind::Principal) => self.principal(leaf, notes),
            Some(EntryKind::PolicyApply) => {
                if let Some(rules) = text(leaf, "p") {
                    self.idle_rules.remove(&rules);
                }
            }
            Some(EntryKind::ActStart | EntryKind::ActDeny | EntryKind::SessionOpen)
                if self.period.contains(leaf.wall) && self.unknown_rules.is_none() =>
            {
                let known = text(leaf, "p").is_some_and(|rules| self.rules.contains(&rules));
                self.unknown_rules = (!known).then_some(leaf.index);
            }
            _ => {}
        }
    }

    fn principal(&mut self, leaf: &Leaf, notes: &mut Notes) {
        let Some(chain) = text(leaf, "a") else { return };
        let Some(row) = self.directory.row(&chain) else { return };
        if self.directory.ids().get(self.met_rows) == Some(&chain) {
            self.met_rows += 1;
        }
        if leaf.digest("com") != Some(row.commitment()) {
            notes.fail(
                PackCheck::Directory,
                Some(leaf.index),
                "the directory's row is not the one that was committed to",
            );
        }
    }

    fn partial(&mut self) {
        let partial = self.tiles.partial().into_iter().filter(|tile| tile.level > 0);
        self.made.extend(partial.map(named));
    }

    pub(super) fn finish(mut self, manifest: &Manifest, from: &Provenance, notes: &mut Notes) -> Rederived {
        let size = self.tiles.size();
        if size != manifest.head.size {
            let what = format!("there are {size} entries, and {} in the manifest", manifest.head.size);
            notes.fail(PackCheck::Manifest, None, what);
        }
        if self.last_wall != from.created_at.0 {
            notes.fail(PackCheck::Manifest, None, "created_at is not the time of the last entry");
        }
        if let Some(entry) = self.unknown_rules {
            notes.doubt(PackCheck::Rules, Some(entry), "the text of its rule set is not in the pack");
        }
        if let Some(rules) = self.idle_rules.first() {
            notes.fail(PackCheck::Rules, None, format!("rule set {rules} was never put in force"));
        }
        if let Some(chain) = self.directory.ids().get(self.met_rows) {
            let what = format!("the row of chain {chain} has no entry in its place");
            notes.fail(PackCheck::Directory, None, what);
        }
        self.partial();
        self.made.retain(|path, _| !path.starts_with("tile/0/"));
        if let Some(path) = self.made.keys().next().filter(|_| size > 0) {
            let listed = manifest.files.iter().any(|file| file.path.strip_prefix("ledger/") == Some(path));
            if !listed {
                notes.fail(PackCheck::Tiles, None, format!("{path} is not in the pack"));
            }
        }
        let pruned = self.verifier.missing(self.period.from);
        if let Some(Missing { entries, until }) = pruned {
            let what = format!(
                "{entries} entries, written up to {until}, were pruned: what of the period they said is missing"
            );
            notes.doubt(PackCheck::Populations, None, what);
        }
        let from = &Provenance { pruned, ..from.clone() };
        let (mut hashes, derived) = self.deriver.finish(from, &manifest.generator);
        if manifest.generator.version != env!("CARGO_PKG_VERSION") {
            hashes.0.retain(|path, _| !is_for_people(path));
        }
        let hashes = hashes.0.into_iter().map(|(path, (hasher, bytes))| (path, (hasher.finish(), bytes)));
        Rederived { hashes: hashes.collect(), findings: derived.findings, report: self.verifier.finish() }
    }
}

fn named(tile: Tile) -> (String, Vec<u8>) {
    (tile.path(), tile.hashes)
}
