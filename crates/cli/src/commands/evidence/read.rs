//! Where the bytes of a pack are: one file, parts of it, or the directory that it was unpacked to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chancery_evidence::{
    MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, Malformed, Manifest, NoPack, PackVerifier, Piece, Preface, Reader,
    RegistryCopy, is_path,
};

use crate::local::read_small;
use crate::output::{Exit, Failure};

const PIECE_BYTES: usize = 1 << 20;
/// Files below a directory that are looked at; a pack of ten thousand million entries has fewer.
const SEEN_MAX: usize = 50_000_000;

/// Reads all of a pack into a verifier.
pub(super) fn feed(pack: &Path, into: &mut PackVerifier) -> Result<(), Failure> {
    if pack.is_dir() {
        return directory(&unpacked(pack), into);
    }
    pieces(pack, |bytes| into.feed(bytes).map(|()| true).map_err(malformed))
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
        pieces(pack, |bytes| preface.feed(bytes).map_err(malformed))?;
    }
    preface.finish().map_err(malformed)
}

/// Hands over the members that are wanted, in the order of the pack and in pieces; `None` ends one. Nothing is verified.
pub(super) fn members(
    pack: &Path,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, Option<&[u8]>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if pack.is_dir() {
        let root = unpacked(pack);
        let bytes = read_small(&root.join(MANIFEST), MANIFEST_BYTES_MAX as u64);
        let bytes = bytes.map_err(|error| unreadable(&root.join(MANIFEST), &error))?;
        let manifest = Manifest::parse(&bytes).map_err(|what| malformed(NoPack(what.to_owned())))?;
        for path in manifest.files.iter().map(|file| &file.path).filter(|path| wanted(path)) {
            let place = root.join(path);
            let mut file = plain(&root, path).ok_or_else(|| unreadable(&place, &io::Error::other("no file")))?;
            pieces_of(&mut file, &place, &mut |bytes| take(path, Some(bytes)).map(|()| true))?;
            take(path, None)?;
        }
        return Ok(());
    }
    let (mut reader, mut member) = (Reader::default(), None);
    let mut say = |piece: Piece<'_>| match (piece, &member) {
        (Piece::Member(path, _), _) => {
            member = wanted(path).then(|| path.to_owned());
            Ok(())
        }
        (Piece::Bytes(bytes), Some(path)) => take(path, Some(bytes)),
        (Piece::End, Some(path)) => take(path, None),
        _ => Ok(()),
    };
    pieces(pack, |bytes| reader.feed(bytes, &mut say).map(|()| true))?;
    Ok(reader.finish()?)
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        malformed(error.into())
    }
}

/// Where the files of a directory are.
fn unpacked(pack: &Path) -> PathBuf {
    let inner = pack.join("pack");
    if inner.is_dir() { inner } else { pack.to_owned() }
}

/// The bytes of a container and its parts, as long as they are wanted.
fn pieces(pack: &Path, mut take: impl FnMut(&[u8]) -> Result<bool, Failure>) -> Result<(), Failure> {
    for part in parts(pack) {
        let mut file = File::open(&part).map_err(|error| unreadable(&part, &error))?;
        if !pieces_of(&mut file, &part, &mut take)? {
            break;
        }
    }
    Ok(())
}

/// Those of one file; false: no more are wanted.
fn pieces_of(
    file: &mut File,
    place: &Path,
    take: &mut impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let n = file.read(&mut buffer).map_err(|error| unreadable(place, &error))?;
        if n == 0 {
            return Ok(true);
        }
        if !take(buffer.get(..n).unwrap_or_default())? {
            return Ok(false);
        }
    }
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
