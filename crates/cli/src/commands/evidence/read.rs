//! Where the bytes of a pack are: one file, parts of it, or the directory that it was unpacked to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chancery_evidence::{
    MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, NoPack, PackVerifier, Preface, RegistryCopy, is_path,
};

use crate::output::{Exit, Failure};

const PIECE_BYTES: usize = 1 << 20;
/// Files below a directory that are looked at; a pack of ten thousand million entries has fewer.
const SEEN_MAX: usize = 50_000_000;

/// Reads all of a pack into a verifier.
pub(super) fn feed(pack: &Path, into: &mut PackVerifier) -> Result<(), Failure> {
    if pack.is_dir() {
        return directory(&unpacked(pack), into);
    }
    pieces(pack, |bytes| into.feed(bytes).map(|()| true))
}

/// The log that a pack says it is of, and the copy of the registry in it, if there is one.
pub(super) fn preface(pack: &Path) -> Result<(String, Option<RegistryCopy>), Failure> {
    let mut preface = Preface::default();
    if pack.is_dir() {
        let root = unpacked(pack);
        front(&root, MANIFEST, &mut preface)?;
        let listed = preface.manifest().into_iter().flat_map(|manifest| &manifest.files);
        let mine = listed.map(|file| file.path.clone()).take_while(|path| Preface::limit(path).is_some());
        for path in mine.collect::<Vec<_>>() {
            front(&root, &path, &mut preface)?;
        }
    } else {
        pieces(pack, |bytes| preface.feed(bytes))?;
    }
    preface.finish().map_err(malformed)
}

/// Where the files of a directory are.
fn unpacked(pack: &Path) -> PathBuf {
    let inner = pack.join("pack");
    if inner.is_dir() { inner } else { pack.to_owned() }
}

/// The bytes of a container and its parts, as long as they are wanted.
fn pieces(pack: &Path, mut take: impl FnMut(&[u8]) -> Result<bool, NoPack>) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE_BYTES];
    for part in parts(pack) {
        let mut file = File::open(&part).map_err(|error| unreadable(&part, &error))?;
        loop {
            let n = file.read(&mut buffer).map_err(|error| unreadable(&part, &error))?;
            if n == 0 {
                break;
            }
            if !take(buffer.get(..n).unwrap_or_default()).map_err(malformed)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A file that stands in front. One that is missing is found when the whole is read.
fn front(root: &Path, path: &str, into: &mut Preface) -> Result<(), Failure> {
    let (Some(file), Some(max)) = (plain(root, path), Preface::limit(path)) else { return Ok(()) };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&root.join(path), &error))?;
    if bytes.len() as u64 > max {
        return Err(malformed(NoPack(format!("{path} has more than {max} bytes"))));
    }
    into.file(path, bytes).map_err(malformed)
}

/// A file below the directory; no link, which could lead anywhere.
fn plain(root: &Path, path: &str) -> Option<File> {
    let place = root.join(path);
    let plain = is_path(path) && fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file());
    if plain { File::open(&place).ok() } else { None }
}

/// `FILE.001`, `FILE.002`, … for the first of them, else the file alone.
pub(super) fn parts(pack: &Path) -> Vec<PathBuf> {
    let name = pack.to_string_lossy();
    let Some(stem) = name.strip_suffix(".001") else { return vec![pack.to_owned()] };
    let numbered = (1..).map(|number| PathBuf::from(format!("{stem}.{number:03}")));
    numbered.take_while(|part| part.is_file()).collect()
}

fn directory(root: &Path, into: &mut PackVerifier) -> Result<(), Failure> {
    one(root, MANIFEST, into)?;
    one(root, MANIFEST_NOTE, into)?;
    let Some(manifest) = into.manifest() else {
        return Err(malformed(NoPack("there is no MANIFEST.json".to_owned())));
    };
    let listed: Vec<String> = manifest.files.iter().map(|file| file.path.clone()).collect();
    for path in &listed {
        one(root, path, into)?;
    }
    let listed: BTreeSet<&str> = listed.iter().map(String::as_str).chain([MANIFEST, MANIFEST_NOTE]).collect();
    let mut seen = 0;
    surplus(root, "", &listed, &mut seen, into)
}

fn one(root: &Path, path: &str, into: &mut PackVerifier) -> Result<(), Failure> {
    let place = root.join(path);
    let Some(mut file) = plain(root, path) else { return into.absent(path).map_err(malformed) };
    let size = file.metadata().map_err(|error| unreadable(&place, &error))?.len();
    if path == MANIFEST && size > MANIFEST_BYTES_MAX as u64 {
        return Err(malformed(NoPack("the manifest is longer than 64 MiB".to_owned())));
    }
    into.begin(path, size).map_err(malformed)?;
    let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(size).unwrap_or(PIECE_BYTES).max(1))];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => into.bytes(buffer.get(..n).unwrap_or_default()).map_err(malformed)?,
            Err(error) => return Err(unreadable(&place, &error)),
        }
    }
    into.end().map_err(malformed)
}

/// Whatever is below the directory besides what is listed.
fn surplus(
    root: &Path,
    below: &str,
    listed: &BTreeSet<&str>,
    seen: &mut usize,
    into: &mut PackVerifier,
) -> Result<(), Failure> {
    let place = root.join(below);
    for entry in fs::read_dir(&place).map_err(|error| unreadable(&place, &error))? {
        let entry = entry.map_err(|error| unreadable(&place, &error))?;
        *seen += 1;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if *seen > SEEN_MAX || path.len() > 4096 {
            return Err(malformed(NoPack("the directory has too many files, or too deep ones".to_owned())));
        }
        if is_directory {
            surplus(root, &path, listed, seen, into)?;
        } else if !listed.contains(path.as_str()) {
            into.surplus(&path);
        }
    }
    Ok(())
}

pub(super) fn malformed(error: NoPack) -> Failure {
    Failure { exit: Exit::Malformed, ..Failure::no(format!("this is no evidence pack of version 1: {error}")) }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::unsure(format!("{}: {error}", path.display()))
}
