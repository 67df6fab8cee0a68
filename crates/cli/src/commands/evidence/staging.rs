//! The files of a pack while they are made: in a directory beside the pack, hashed as they are written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chancery_evidence::{BLOCK, Listed, MANIFEST, MANIFEST_NOTE, Manifest, Output, header, padding};
use chancery_ledger::Hasher;

/// Files open at once; a process may have a thousand.
const OPEN_MAX: usize = 200;

/// A directory that is removed when it is dropped.
pub(super) struct Staging {
    path: PathBuf,
    files: BTreeMap<String, (Hasher, u64)>,
    open: BTreeMap<String, io::BufWriter<File>>,
    /// The first write that failed.
    failed: Option<io::Error>,
}

impl Staging {
    pub(super) fn new(pack: &Path) -> io::Result<Self> {
        let mut name = pack.as_os_str().to_owned();
        name.push(".parts");
        let path = PathBuf::from(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, files: BTreeMap::new(), open: BTreeMap::new(), failed: None })
    }

    /// Writes a file as a whole.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) {
        self.append(path, bytes);
        if let Some(file) = self.open.remove(path) {
            self.close(file);
        }
    }

    fn close(&mut self, mut file: io::BufWriter<File>) {
        if let Err(error) = file.flush() {
            self.failed.get_or_insert(error);
        }
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(path) {
            if self.open.len() >= OPEN_MAX {
                for (_, file) in std::mem::take(&mut self.open) {
                    self.close(file);
                }
            }
            let whole = self.path.join(path);
            if let Some(parent) = whole.parent() {
                fs::create_dir_all(parent)?;
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(whole)?;
            self.open.insert(path.to_owned(), io::BufWriter::new(file));
        }
        self.open.get_mut(path).map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// Nothing more is written: the files as the manifest lists them, in this order of paths. What `order` leaves out
    /// follows by path.
    pub(super) fn listed(&mut self, rank: impl Fn(&str) -> (u8, String)) -> io::Result<Vec<Listed>> {
        for (_, file) in std::mem::take(&mut self.open) {
            self.close(file);
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let files = std::mem::take(&mut self.files).into_iter();
        let mut listed: Vec<Listed> =
            files.map(|(path, (hasher, bytes))| Listed { path, bytes, sha256: hasher.finish() }).collect();
        listed.sort_by_cached_key(|file| rank(&file.path));
        Ok(listed)
    }

    /// Writes the container. It has its name only once it is whole and on disk.
    pub(super) fn pack(&self, manifest: &Manifest, note: &str, out: &Path) -> io::Result<u64> {
        let mut name = out.as_os_str().to_owned();
        name.push(".draft");
        let draft = PathBuf::from(name);
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        let mut writer = Counted { inner: io::BufWriter::with_capacity(1 << 20, file), bytes: 0 };
        let json = manifest.json();
        member(&mut writer, MANIFEST, json.len() as u64, &mut json.as_bytes())?;
        member(&mut writer, MANIFEST_NOTE, note.len() as u64, &mut note.as_bytes())?;
        for listed in &manifest.files {
            member(&mut writer, &listed.path, listed.bytes, &mut File::open(self.path.join(&listed.path))?)?;
        }
        writer.write_all(&[0; 2 * BLOCK])?;
        let bytes = writer.bytes;
        writer.inner.into_inner()?.sync_all()?;
        fs::rename(draft, out)?;
        Ok(bytes)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "the parts of a pack were not removed");
        }
    }
}

impl Output for Staging {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        if !self.files.contains_key(path) {
            self.files.insert(path.to_owned(), (Hasher::default(), 0));
        }
        if let Some((hasher, length)) = self.files.get_mut(path) {
            hasher.update(bytes);
            *length += bytes.len() as u64;
        }
        if let Err(error) = self.write(path, bytes) {
            self.failed.get_or_insert(error);
        }
    }
}

struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn member(out: &mut impl Write, path: &str, size: u64, from: &mut impl Read) -> io::Result<()> {
    let unfit = || io::Error::other(format!("{path} cannot stand in a pack"));
    out.write_all(&header(path, size).ok_or_else(unfit)?)?;
    let copied = io::copy(&mut from.take(size), out)?;
    if copied != size {
        return Err(io::Error::other(format!("{path} became shorter")));
    }
    out.write_all(&[0; BLOCK][..padding(size)])
}

/// The name of a part, from 1.
pub(super) fn part(pack: &Path, number: usize) -> PathBuf {
    let mut name = pack.as_os_str().to_owned();
    name.push(format!(".{number:03}"));
    PathBuf::from(name)
}

/// Cuts a pack into parts and removes it. Returns their names.
pub(super) fn split(pack: &Path, size: u64) -> io::Result<Vec<PathBuf>> {
    let mut from = File::open(pack)?;
    let mut left = from.metadata()?.len();
    let mut parts = Vec::new();
    while left > 0 {
        let path = part(pack, parts.len() + 1);
        let mut to = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        let copied = io::copy(&mut (&mut from).take(size), &mut to)?;
        to.sync_all()?;
        left = left.saturating_sub(copied);
        parts.push(path);
        if copied == 0 {
            return Err(io::Error::other("the pack became shorter"));
        }
    }
    fs::remove_file(pack)?;
    Ok(parts)
}
