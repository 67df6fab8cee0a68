//! A directory in memory that fails on demand: for the simulation and the tests of everything that must not lose data.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::volume::{Blob, Volume};

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Default)]
pub struct MemoryVolume {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Arc<Memory>>>,
    faults: Arc<Faults>,
}

/// What goes wrong from now on.
#[derive(Default)]
struct Faults {
    write: AtomicBool,
    sync: AtomicBool,
    full: AtomicBool,
    free: AtomicU64,
}

struct Memory {
    faults: Arc<Faults>,
    /// As the kernel sees it, and as the disk would have it after a loss of power.
    bytes: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for MemoryVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryVolume").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryVolume {
    /// An empty directory with plenty of space.
    pub fn new() -> Self {
        let volume = Self::default();
        volume.shared.faults.free.store(u64::MAX, Ordering::SeqCst);
        volume
    }
    /// Every write fails with EIO from now on, or no longer.
    pub fn fail_writes(&self, on: bool) {
        self.shared.faults.write.store(on, Ordering::SeqCst);
    }
    /// Every sync fails with EIO from now on, or no longer.
    pub fn fail_syncs(&self, on: bool) {
        self.shared.faults.sync.store(on, Ordering::SeqCst);
    }
    /// Every write that makes a file longer fails with ENOSPC from now on, or no longer; `free` answers 0 meanwhile.
    pub fn fill(&self, on: bool) {
        self.shared.faults.full.store(on, Ordering::SeqCst);
    }
    /// What is there now, as another directory: the state after the death of the process.
    pub fn after_kill(&self) -> Self {
        self.copy(|(kernel, _)| kernel.clone())
    }
    /// What was synced, as another directory: the state after the loss of power.
    pub fn after_power_loss(&self) -> Self {
        self.copy(|(_, disk)| disk.clone())
    }
    /// Changes the bytes of a file behind everybody's back; `false` if there is no such file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let files = lock(&self.shared.files);
        let Some(file) = files.get(name) else { return false };
        let mut bytes = lock(&file.bytes);
        change(&mut bytes.0);
        bytes.1 = bytes.0.clone();
        true
    }
    fn copy(&self, which: impl Fn(&(Vec<u8>, Vec<u8>)) -> Vec<u8>) -> Self {
        let copy = Self::new();
        let mut files = lock(&copy.shared.files);
        for (name, file) in lock(&self.shared.files).iter() {
            let bytes = which(&lock(&file.bytes));
            let faults = copy.shared.faults.clone();
            files.insert(name.clone(), Arc::new(Memory { faults, bytes: Mutex::new((bytes.clone(), bytes)) }));
        }
        drop(files);
        copy
    }
    fn make(&self) -> Arc<Memory> {
        Arc::new(Memory { faults: self.shared.faults.clone(), bytes: Mutex::default() })
    }
}

impl Volume for MemoryVolume {
    fn list(&self, under: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{under}/");
        let files = lock(&self.shared.files);
        let names = files.keys().filter_map(|name| name.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let file = lock(&self.shared.files).get(name).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let mut files = lock(&self.shared.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.shared.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.make();
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.make();
        file.write_at(0, bytes)?;
        file.sync()?;
        lock(&self.shared.files).insert(name.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.shared.files).remove(name);
        Ok(())
    }
    fn free(&self) -> io::Result<u64> {
        let faults = &self.shared.faults;
        Ok(if faults.full.load(Ordering::SeqCst) { 0 } else { faults.free.load(Ordering::SeqCst) })
    }
}

impl Blob for Memory {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_at(&self, offset: u64, with: &[u8]) -> io::Result<()> {
        if self.faults.write.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut bytes = lock(&self.bytes);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + with.len();
        if bytes.0.len() < end {
            if self.faults.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.0.resize(end, 0);
        }
        bytes.0[start..end].copy_from_slice(with);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        if self.faults.sync.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut bytes = lock(&self.bytes);
        bytes.1 = bytes.0.clone();
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).0.len() as u64)
    }
}
