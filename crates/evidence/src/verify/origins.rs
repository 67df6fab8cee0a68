//! Packs of several logs, and the registry of which they hold copies: whether there is a pack of each log, as far as each was
//! registered. Not here: what else is in a pack, and where its bytes are.

use chancery_ledger::{
    Checkpoint, Handed, LogVerifier, REGISTRY_BYTES_MAX, Registry, Roots, Verdict, WitnessPolicy, read_registry,
};
use chancery_model::Timestamp;

use super::{NoPack, PackFinding, PackReport, pass};
use crate::instant;
use crate::manifest::{Listed, MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, Manifest};
use crate::tar::{Piece, Reader};

/// The check's word.
const ORIGINS: &str = "origins";
/// Where the copy is in a pack.
const DIRECTORY: &str = "registry/";
/// Of its files besides the entries.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// A copy of a registry as it was handed in. Nothing of it is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryCopy {
    /// The bytes of its entries.
    pub entries: Vec<u8>,
    /// Its checkpoints, those of stamps among them: notes.
    pub checkpoints: Vec<String>,
}

impl RegistryCopy {
    /// How many entries its checkpoints speak of, if they are any.
    fn stated(&self) -> u64 {
        let head = |note: &String| {
            let body = note.rfind("\n\n").and_then(|at| note.get(..=at))?;
            Checkpoint::parse(body).ok()
        };
        self.checkpoints.iter().filter_map(head).map(|head| head.size).max().unwrap_or(0)
    }
    /// The bytes of these entries, and whether they are there.
    fn covered(&self) -> (&[u8], bool) {
        let stated = self.stated();
        let ends = self.entries.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let stated = usize::try_from(stated).unwrap_or(usize::MAX);
        let (count, end) = ends.take(stated).fold((0, 0), |(count, _), end| (count + 1, end));
        (self.entries.get(..end).unwrap_or_default(), count == stated)
    }
}

/// The place of a file of the copy among the others, and how long it may be.
fn place(path: &str) -> Option<(usize, u64)> {
    let name = path.strip_prefix(DIRECTORY)?;
    let place = match name {
        "chancery-registry" => 0,
        "checkpoint" => 1,
        "entries" => return Some((2, REGISTRY_BYTES_MAX)),
        "name" => 3,
        "witnessed" => 7,
        _ => {
            let (number, end) = name.strip_prefix("stamps/")?.split_once('.')?;
            let number = number.len() == 20 && number.bytes().all(|digit| digit.is_ascii_digit());
            4 + ["note", "tsq", "tsr"].iter().position(|known| *known == end).filter(|_| number)?
        }
    };
    Some((place, SMALL_BYTES_MAX))
}

/// The files of a registry in a manifest must be those that there can be, in front of all others.
pub(super) fn in_place(manifest: &Manifest) -> Result<(), NoPack> {
    let mine = |file: &&Listed| file.path.starts_with(DIRECTORY);
    let front: Vec<&Listed> = manifest.files.iter().take_while(mine).collect();
    let places: Vec<_> = front.iter().map(|file| place(&file.path)).collect();
    let behind = manifest.files.iter().skip(front.len()).any(|file| mine(&file));
    if places.iter().all(Option::is_some) && places.is_sorted_by(|one, next| one < next) && !behind {
        return Ok(());
    }
    Err(NoPack("the files of a registry are not those that there can be, or not in their place".to_owned()))
}

/// Reads what stands in front of a pack: the manifest, and the copy of a registry. Nothing is checked but that it can be read;
/// [`super::PackVerifier`] reads it again.
#[derive(Debug, Default)]
pub struct Preface {
    container: Reader,
    front: Front,
}

#[derive(Debug, Default)]
struct Front {
    manifest: Option<Manifest>,
    /// Files of the copy that were begun.
    read: usize,
    copy: Option<RegistryCopy>,
    member: Option<(String, Vec<u8>)>,
    ended: bool,
}

impl Preface {
    /// Takes the next bytes of the container. Whether more of them are needed.
    ///
    /// # Errors
    /// It is no container of a pack, or its manifest is none.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool, NoPack> {
        let front = &mut self.front;
        self.container.feed(bytes, &mut |piece| match piece {
            _ if front.ended => Ok(()),
            Piece::Member(path, size) => front.begin(path, size),
            Piece::Bytes(bytes) => {
                if let Some((_, taken)) = &mut front.member {
                    taken.extend_from_slice(bytes);
                }
                Ok(())
            }
            Piece::End => front.member.take().map_or(Ok(()), |(path, bytes)| front.take(&path, bytes)),
        })?;
        Ok(!self.front.ended)
    }

    /// How many bytes of a file of a directory are read; `None`: it is no part of this.
    pub fn limit(path: &str) -> Option<u64> {
        match path {
            MANIFEST => Some(MANIFEST_BYTES_MAX as u64),
            path => place(path).map(|(_, max)| max),
        }
    }
    /// Takes a file of a directory, the manifest first.
    ///
    /// # Errors
    /// It is the manifest, and none.
    pub fn file(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), NoPack> {
        self.front.take(path, bytes)
    }
    /// The manifest, once it was read.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.front.manifest.as_ref()
    }

    /// The log that the pack says it is of, and the copy.
    ///
    /// # Errors
    /// There was no manifest.
    pub fn finish(self) -> Result<(String, Option<RegistryCopy>), NoPack> {
        let manifest = self.front.manifest.ok_or_else(|| NoPack("there is no manifest".to_owned()))?;
        Ok((manifest.head.origin, self.front.copy))
    }
}

impl Front {
    fn begin(&mut self, path: &str, size: u64) -> Result<(), NoPack> {
        match &self.manifest {
            None if path == MANIFEST => {}
            None => return Err(NoPack("the first file is not the manifest".to_owned())),
            Some(_) if path == MANIFEST_NOTE => return Ok(()),
            Some(_) if place(path).is_none() => {
                self.ended = true;
                return Ok(());
            }
            // No more of them than the manifest can list: what is read is held in memory.
            Some(manifest) if manifest.files.get(self.read).is_none_or(|listed| listed.path != path) => {
                return Err(NoPack(format!("{path} is not the file that the manifest has in this place")));
            }
            Some(_) => self.read += 1,
        }
        match Preface::limit(path) {
            Some(max) if size <= max => self.member = Some((path.to_owned(), Vec::new())),
            max => return Err(NoPack(format!("{path} has {size} bytes, and {} is the limit", max.unwrap_or(0)))),
        }
        Ok(())
    }

    fn take(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), NoPack> {
        if path == MANIFEST {
            let manifest = Manifest::parse(&bytes).map_err(|what| NoPack(what.to_owned()))?;
            in_place(&manifest)?;
            self.manifest = Some(manifest);
            return Ok(());
        }
        let copy = self.copy.get_or_insert_default();
        match place(path) {
            Some((2, _)) => copy.entries = bytes,
            // What is not text is no checkpoint, and is found as such.
            Some((1 | 4 | 7, _)) => copy.checkpoints.push(String::from_utf8_lossy(&bytes).into_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// What copies of one registry come to.
#[derive(Debug)]
pub struct Origins {
    registry: Option<Registry>,
    wrong: Vec<PackFinding>,
}

impl Origins {
    /// Reads copies, each with a name for people, by the registry's key from outside. `notes`: checkpoints of it from elsewhere.
    pub fn read(
        key: &LogVerifier,
        copies: &[(String, RegistryCopy)],
        notes: &[String],
        policy: Option<&WitnessPolicy>,
    ) -> Self {
        let Some((first, longest)) = copies.iter().rev().max_by_key(|(_, copy)| copy.covered().0.len()) else {
            let what = "no pack has a copy of the registry, and none was handed in";
            return Self { registry: None, wrong: vec![finding(Verdict::Inconclusive, what.to_owned())] };
        };
        let all = copies.iter().flat_map(|(_, copy)| &copy.checkpoints).chain(notes).cloned();
        let (registry, report) = read_registry(key, &longest.entries, &all.collect::<Vec<_>>(), policy);
        let mut wrong: Vec<PackFinding> = Vec::new();
        for found in report.findings.iter().filter(|found| found.verdict != Verdict::Pass) {
            wrong.push(finding(found.verdict, format!("the registry: {}: {}", found.check.as_str(), found.what)));
        }
        let (whole, _) = longest.covered();
        for (name, copy) in copies {
            let (covered, is_there) = copy.covered();
            if !is_there {
                let what = format!("the registry in {name} lacks entries of which its checkpoints speak");
                wrong.push(finding(Verdict::Fail, what));
            }
            if !whole.starts_with(covered) {
                let what = format!("the registry in {name} is not the beginning of that in {first}");
                wrong.push(finding(Verdict::Fail, what));
            }
        }
        Self { registry: Some(registry), wrong }
    }

    /// The registry, as far as its checkpoints cover it.
    pub fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }
    /// Why it does not hold, if it does not.
    pub fn failure(&self) -> Option<&str> {
        self.wrong.iter().find(|one| one.verdict == Verdict::Fail).map(|one| one.what.as_str())
    }

    /// Whether these packs, each with the roots by which it was verified, are those of all logs: what is wrong, or one pass.
    pub fn check(&self, packs: &[(&PackReport, &Roots)]) -> Vec<PackFinding> {
        let mut found = self.wrong.clone();
        match &self.registry {
            Some(registry) => {
                let handed: Vec<Handed> = packs.iter().map(|(report, roots)| handed(report, roots)).collect();
                let since = packs.iter().filter_map(|(report, _)| period(report)).map(|(from, ..)| from).min();
                let logs = registry.check(&handed, Timestamp(since.unwrap_or(i64::MIN))).into_iter();
                found.extend(logs.filter(|one| one.verdict != Verdict::Pass).map(|one| finding(one.verdict, one.what)));
            }
            None => found.extend(Self::twice(packs)),
        }
        found.extend(uneven(packs));
        if found.is_empty() { vec![pass(ORIGINS)] } else { found }
    }

    /// What is wrong with packs whatever a registry says: that there are two of one log.
    pub fn twice(packs: &[(&PackReport, &Roots)]) -> Vec<PackFinding> {
        let mut origins: Vec<&str> = packs.iter().map(|(report, _)| report.manifest.head.origin.as_str()).collect();
        origins.sort_unstable();
        let mut again: Vec<&str> = origins.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        again.dedup();
        again.into_iter().map(|origin| finding(Verdict::Fail, format!("{origin} was handed in twice"))).collect()
    }
}

fn handed(report: &PackReport, roots: &Roots) -> Handed {
    let origin = report.manifest.head.origin.clone();
    Handed { origin, key: Some(roots.log().clone()), size: report.size, root: report.root }
}

/// Where the period of a pack begins and ends, and the time of its last entry.
fn period(report: &PackReport) -> Option<(i64, i64, i64)> {
    let period = report.manifest.times()?;
    Some((period.from, period.to, instant(&report.manifest.created_at)?))
}

/// Lists that leave out what those of other packs have.
fn uneven(packs: &[(&PackReport, &Roots)]) -> Option<PackFinding> {
    let periods: Vec<_> = packs.iter().filter_map(|(report, _)| period(report)).collect();
    let from = periods.iter().map(|(from, ..)| *from).min()?;
    let to = periods.iter().map(|(_, to, _)| *to).max()?;
    let short = |(begins, ends, last): (i64, i64, i64)| begins != from || (ends < to && ends <= last);
    let (report, _) = packs.iter().find(|(report, _)| period(report).is_some_and(short))?;
    let what = format!("the period of {} is shorter than that of other packs", report.manifest.head.origin);
    Some(finding(Verdict::Inconclusive, what))
}

fn finding(verdict: Verdict, what: String) -> PackFinding {
    PackFinding { check: ORIGINS, verdict, entry: None, what, failures: u64::from(verdict == Verdict::Fail) }
}
