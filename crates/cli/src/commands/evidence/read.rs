//! Where the bytes of a pack are: one file, parts of it, or the directory that it was unpacked to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chancery_evidence::{
    MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, Malformed, Manifest, NoPack, PackVerifier, Piece, Reader, is_path,
};

use crate::local::read_small;
use crate::output::{Exit, Failure};

const PIECE_BYTES: usize = 1 << 20;
/// Files below a directory that are looked at; a pack of ten thousand million entries has fewer.
const SEEN_MAX: usize = 50_000_000;

/// Reads all of a pack into a verifier.
pub(super) fn feed(pack: &Path, into: &mut PackVerifier) -> Result<(), Failure> {
    if pack.is_dir() {
        let inner = pack.join("pack");
        return directory(if inner.is_dir() { &inner } else { pack }, into);
    }
    for part in parts(pack) {
        let mut file = File::open(&part).map_err(|error| unreadable(&part, &error))?;
        pieces(&mut file, |bytes| into.feed(bytes).map_err(malformed), |error| unreadable(&part, &error))?;
    }
    Ok(())
}

/// Hands over the members that are wanted, in the order of the pack and in pieces; `None` ends one. Nothing is verified.
pub(super) fn members(
    pack: &Path,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, Option<&[u8]>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if pack.is_dir() {
        let inner = pack.join("pack");
        let root = if inner.is_dir() { inner } else { pack.to_owned() };
        let bytes = read_small(&root.join(MANIFEST), MANIFEST_BYTES_MAX as u64);
        let bytes = bytes.map_err(|error| unreadable(&root.join(MANIFEST), &error))?;
        let manifest = Manifest::parse(&bytes).map_err(|what| malformed(NoPack(what.to_owned())))?;
        for path in manifest.files.iter().map(|file| &file.path).filter(|path| wanted(path)) {
            let place = root.join(path);
            let mut file = plain(&root, path).map_err(|error| unreadable(&place, &error))?;
            pieces(&mut file, |bytes| take(path, Some(bytes)), |error| unreadable(&place, &error))?;
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
    for part in parts(pack) {
        let mut file = File::open(&part).map_err(|error| unreadable(&part, &error))?;
        pieces(&mut file, |bytes| reader.feed(bytes, &mut say), |error| unreadable(&part, &error))?;
    }
    Ok(reader.finish()?)
}

fn pieces(
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer).map_err(&failed)? {
            0 => return Ok(()),
            n => take(buffer.get(..n).unwrap_or_default())?,
        }
    }
}

/// Opens a file of an unpacked pack. A link could lead anywhere.
fn plain(root: &Path, path: &str) -> io::Result<File> {
    let place = root.join(path);
    if is_path(path) && fs::symlink_metadata(&place)?.is_file() {
        return File::open(place);
    }
    Err(io::Error::other("no file"))
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        malformed(error.into())
    }
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
    let Ok(mut file) = plain(root, path) else {
        return into.absent(path).map_err(malformed);
    };
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
