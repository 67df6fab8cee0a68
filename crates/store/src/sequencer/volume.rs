//! A directory as the sequencer and the recorder see it, so that tests can make it fail. Not here: any format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory. Names are relative and use `/`.
pub trait Volume: Send + Sync + 'static {
    /// Names of the files in a sub-directory, sorted.
    fn list(&self, under: &str) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>>;
    /// Makes a new file; an error if it exists. Its name is on disk when this returns.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Blob>>;
    /// Puts a file in place of another, or of none: after a crash there is the old or the new, whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file; no error if there is none. Its name is off the disk when this returns.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free(&self) -> io::Result<u64>;
}

/// An open file.
pub trait Blob: Send + Sync + 'static {
    /// Reads up to `into.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it or fails.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written is on disk. After an error nothing is known and nothing may be retried.
    fn sync(&self) -> io::Result<()>;
    /// The length.
    fn length(&self) -> io::Result<u64>;
}

/// Reads a whole file of at most `max` bytes.
pub(crate) fn read_whole(blob: &dyn Blob, max: u64) -> io::Result<Vec<u8>> {
    let length = blob.length()?;
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file longer than its limit"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut at = 0;
    while at < bytes.len() {
        match blob.read_at(at as u64, &mut bytes[at..])? {
            0 => break,
            n => at += n,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// A real directory. The writer holds an exclusive lock on it as long as it lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: Option<File>,
}

impl Directory {
    /// Opens `path` (made if absent) for the one writer; an error of kind `WouldBlock` if there is one already.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }
    /// Opens `path` for reading beside a writer.
    pub fn shared(path: &Path) -> io::Result<Self> {
        fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), _lock: None })
    }
    /// The same; `None` if there is no such directory.
    pub fn shared_if_there(path: &Path) -> io::Result<Option<Self>> {
        match Self::shared(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }
    fn parent_synced(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        File::open(path.parent().unwrap_or(&self.path))?.sync_all()
    }
    fn with_parent(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent)?;
            File::open(&self.path)?.sync_all()?;
        }
        Ok(path)
    }
}

impl Volume for Directory {
    fn list(&self, under: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path.join(under)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let writable = self._lock.is_some();
        Ok(Arc::new(OpenOptions::new().read(true).write(writable).open(self.path.join(name))?))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let path = self.with_parent(name)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.sync_all()?;
        self.parent_synced(name)?;
        Ok(Arc::new(file))
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.with_parent(name)?;
        let temporary = self.path.join(format!("{name}.tmp"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        // If we crash here, the old file stands and the temporary one is overwritten next time.
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        self.parent_synced(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.and_then(|()| self.parent_synced(name)),
        }
    }
    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl Blob for File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
