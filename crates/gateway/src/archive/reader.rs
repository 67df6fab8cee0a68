//! Reads an archive: how far it is, and all of it, back to a disk.

use bytes::Bytes;
use chancery_ledger::{BUNDLE_ENTRIES, LogVerifier, SignedCheckpoint, bundle_path, tile_path};
use chancery_model::Timestamp;
use chancery_store::{RecordingMark, Restore, RestoreError, RestoreReport};
use futures_util::{StreamExt, stream};

use super::bucket::Bucket;
use super::{ArchiveFault, ArchivePlace};

/// Bundles that are fetched at once.
const TOGETHER: usize = 8;
/// Checkpoints that may be no checkpoints before the search ends.
const SKIPPED_MAX: usize = 100;

/// An archive, for reading.
pub struct Archive {
    bucket: Bucket,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

/// The last checkpoint of an archive.
#[derive(Clone, Debug)]
pub struct Archived {
    /// What the log signed.
    pub signed: SignedCheckpoint,
    /// When it was archived, by the store's clock.
    pub at: Timestamp,
    /// Larger numbers in `checkpoints/` that name nothing that the log signed.
    pub skipped: Vec<u64>,
}

impl Archive {
    /// Opens it; nothing is asked yet.
    pub fn open(place: &ArchivePlace) -> Result<Self, ArchiveFault> {
        Ok(Self { bucket: Bucket::open(place)? })
    }

    #[cfg(test)]
    pub(super) fn of(bucket: Bucket) -> Self {
        Self { bucket }
    }

    /// The roots that the archive names for itself; those kept elsewhere prove more.
    pub async fn roots(&self) -> Result<String, ArchiveFault> {
        let key = "ledger.vkey";
        let (bytes, _) = self.bucket.get(key).await?.ok_or_else(|| ArchiveFault::Missing(key.into()))?;
        let text = String::from_utf8(bytes.to_vec());
        text.map_err(|_| ArchiveFault::Malformed(key.into(), "it is not text".into()))
    }

    /// The largest checkpoint that the log signed; `None` if there is none.
    pub async fn last(&self, log: &LogVerifier) -> Result<Option<Archived>, ArchiveFault> {
        let (mut bound, mut skipped) = (u64::MAX, Vec::new());
        while skipped.len() < SKIPPED_MAX {
            let Some(size) = self.bucket.largest("checkpoints", bound).await? else { return Ok(None) };
            let found = self.bucket.get(&format!("checkpoints/{size:020}")).await?;
            let signed = found.as_ref().and_then(|(bytes, _)| log.open(std::str::from_utf8(bytes).ok()?).ok());
            match (signed.filter(|signed| signed.checkpoint.size == size), found) {
                (Some(signed), Some((_, at))) => return Ok(Some(Archived { signed, at, skipped })),
                _ => skipped.push(size),
            }
            bound = size;
        }
        Err(ArchiveFault::Malformed("checkpoints/".into(), "too many of them are no checkpoints of this log".into()))
    }

    /// The last note that enough witnesses cosigned, of at most so many entries.
    pub async fn witnessed(&self, log: &LogVerifier, most: u64) -> Result<Option<String>, ArchiveFault> {
        let Some(size) = self.bucket.largest("witnessed", most.saturating_add(1)).await? else { return Ok(None) };
        let found = self.bucket.get(&format!("witnessed/{size:020}")).await?;
        let note = found.and_then(|(bytes, _)| String::from_utf8(bytes.to_vec()).ok());
        Ok(note.filter(|note| log.open(note).is_ok_and(|signed| signed.checkpoint.size == size)))
    }

    /// How far the recordings are.
    pub async fn recorded(&self) -> Result<RecordingMark, ArchiveFault> {
        let Some(file) = self.bucket.recordings().await?.pop() else { return Ok(RecordingMark::default()) };
        let mut mark = RecordingMark { file, offset: 0 };
        for (piece, length) in self.bucket.pieces(file).await? {
            if piece != mark {
                break;
            }
            mark.offset = mark.offset.saturating_add(length);
        }
        Ok(mark)
    }

    /// Fills a restore.
    pub async fn restore(
        &self,
        mut restore: Restore,
        size: u64,
        witnessed: Option<&str>,
    ) -> Result<RestoreReport, ArchiveFault> {
        const WIDTH: u64 = BUNDLE_ENTRIES as u64;
        let numbers = stream::iter(0..size.div_ceil(WIDTH));
        let fetch = |number: u64| async move {
            let width = usize::try_from((size - number * WIDTH).min(WIDTH)).unwrap_or(BUNDLE_ENTRIES);
            let bundle = self.whole_or_partial(|width| bundle_path(number, width), width).await?;
            let bundle =
                bundle.ok_or_else(|| ArchiveFault::Missing(format!("ledger/{}", bundle_path(number, width))))?;
            let tile = self.whole_or_partial(|width| tile_path("0", number, width), width).await?;
            Ok::<_, ArchiveFault>((bundle, tile))
        };
        let mut fetched = std::pin::pin!(numbers.map(fetch).buffered(TOGETHER));
        while let Some(one) = fetched.next().await {
            let (bundle, tile) = one?;
            tokio::task::block_in_place(|| restore.bundle(&bundle, tile.as_deref()))?;
        }
        tokio::task::block_in_place(|| restore.finish_entries(witnessed))?;
        for file in self.bucket.recordings().await? {
            self.recording(&mut restore, file).await?;
        }
        Ok(tokio::task::block_in_place(|| restore.finish())?)
    }

    /// A partial object that is gone is the beginning of the whole one.
    async fn whole_or_partial(
        &self,
        path: impl Fn(usize) -> String,
        width: usize,
    ) -> Result<Option<Bytes>, ArchiveFault> {
        let first = self.bucket.get(&format!("ledger/{}", path(width))).await?;
        let found = match first {
            None if width < BUNDLE_ENTRIES => self.bucket.get(&format!("ledger/{}", path(BUNDLE_ENTRIES))).await?,
            found => found,
        };
        Ok(found.map(|(bytes, _)| bytes))
    }

    /// The pieces of a file, as far as they meet. What is missing of it is found by what entries say of it.
    async fn recording(&self, restore: &mut Restore, file: u64) -> Result<(), ArchiveFault> {
        for (mark, _) in self.bucket.pieces(file).await? {
            let (bytes, _) = self.bucket.get(&mark.key()).await?.ok_or_else(|| ArchiveFault::Missing(mark.key()))?;
            match tokio::task::block_in_place(|| restore.piece(mark, &bytes)) {
                Err(RestoreError::Pieces { .. }) => return Ok(()),
                done => done?,
            }
        }
        Ok(())
    }
}
