//! The copy of the registry of logs that goes into a pack: what its last checkpoint covers, and nothing that needs its key. Not
//! here: whether it is the right registry, which only says who has its key from elsewhere.

use std::path::Path;

use chancery_evidence::Output;
use chancery_ledger::{Checkpoint, Handed, Registry, Roots};
use chancery_store::RegistryFiles;

use crate::commands::registry::failure;
use crate::output::{Failure, clean};

pub(super) struct RegistryCopy {
    pub(super) head: Checkpoint,
    files: Vec<(String, Vec<u8>)>,
}

impl RegistryCopy {
    /// Reads it beside its writer. A registry that does not hold, or beside which a pack of this log up to `head` would fail, is
    /// refused: it is better known before the pack is handed over.
    pub(super) fn read(directory: &Path, head: &Checkpoint, roots: &str) -> Result<Self, Failure> {
        let files = RegistryFiles::read(directory).map_err(|error| failure(&error))?;
        let bad = |what: &dyn std::fmt::Display| {
            Failure::no(format!("the registry does not hold: {what}")).hint("`chancery registry verify` says more")
        };
        let note = files.checkpoints.last().ok_or_else(|| bad(&"it has no checkpoint"))?;
        let signed = stated(note).ok_or_else(|| bad(&"its checkpoint is malformed"))?;
        let mut registry = Registry::new(&files.name).map_err(|error| bad(&error))?;
        let mut entries = Vec::new();
        while registry.head().size < signed.size {
            let rest = files.entries.get(entries.len()..).unwrap_or_default();
            let line = rest.split_inclusive(|byte| *byte == b'\n').next().and_then(|line| line.strip_suffix(b"\n"));
            let line = line.ok_or_else(|| bad(&"entries of which its checkpoint speaks are missing"))?;
            registry.push(line).map_err(|error| bad(&error))?;
            entries.extend_from_slice(line);
            entries.push(b'\n');
        }
        if registry.head() != signed {
            return Err(bad(&"its entries are not those of its checkpoint"));
        }
        fits(&registry, head, roots)?;
        let mut found = vec![
            ("chancery-registry".to_owned(), b"1\n".to_vec()),
            ("checkpoint".to_owned(), note.clone().into_bytes()),
            ("entries".to_owned(), entries),
            ("name".to_owned(), format!("{}\n", files.name).into_bytes()),
        ];
        let mut stamps = files.stamps.iter().filter_map(|stamp| Some((stated(&stamp.note)?.size, stamp)));
        // One that was made while this was read is of a later head.
        if let Some((size, stamp)) = stamps.rfind(|(size, _)| *size <= signed.size) {
            for (end, bytes) in
                [("note", stamp.note.as_bytes()), ("tsq", stamp.request.as_slice()), ("tsr", stamp.response.as_slice())]
            {
                found.push((format!("stamps/{size:020}.{end}"), bytes.to_vec()));
            }
        }
        if let [witnessed, _] = files.checkpoints.as_slice() {
            found.push(("witnessed".to_owned(), witnessed.clone().into_bytes()));
        }
        Ok(Self { head: signed, files: found })
    }

    pub(super) fn put(&self, out: &mut impl Output) {
        for (name, bytes) in &self.files {
            out.append(&format!("registry/{name}"), bytes);
        }
    }
}

fn stated(note: &str) -> Option<Checkpoint> {
    let body = note.rfind("\n\n").and_then(|at| note.get(..=at))?;
    Checkpoint::parse(body).ok()
}

/// The log is registered, and the head is not older than what is known of it.
fn fits(registry: &Registry, head: &Checkpoint, roots: &str) -> Result<(), Failure> {
    let origin = clean(&head.origin);
    let known = registry.origin(&head.origin).ok_or_else(|| {
        Failure::no(format!("{origin} has not joined the registry")).hint("chancery registry join DIR ROOTS")
    })?;
    let key = Roots::parse(roots).ok().map(|roots| roots.log().clone());
    let handed = Handed { origin: head.origin.clone(), key, size: head.size, root: head.root };
    match known.misses(&handed) {
        Some(what) => Err(Failure::no(format!("{origin} {what}"))
            .hint("beside this registry the pack would fail; `chancery ledger verify --registry` says more")),
        None => Ok(()),
    }
}
