//! The catalog: who asked, which sessions there are, which reviews wait, sealed secrets, public keys.
//!
//! One SQLite file. The gateway and the CLI open the same file from different processes, so every change is one short
//! `BEGIN IMMEDIATE` transaction and nothing here is cached in memory. The catalog is working state, not evidence: what
//! happened stands in the ledger, and a catalog that is lost loses open reviews and sealed secrets, no record.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use chancery_model::ReviewId;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::broadcast;

mod directory;
mod error;
mod forms;
mod holds;
mod keys;
mod lifecycle;
mod recordings;
mod reviews;
mod schema;
mod seal_keys;
mod secrets;
mod sessions;

pub(crate) use directory::names;
pub use directory::{ChainRecord, PrincipalRecord};
pub use error::CatalogError;
pub use holds::{HoldScope, LegalHold, Lift};
pub use keys::{CachedJwks, ReviewerKey};
pub use recordings::{FileFacts, PrunedFile, RecordingFile, RunRecord};
pub use reviews::{Denial, ReviewLine};
pub use seal_keys::SealKeyRecord;
pub use secrets::{SecretLine, SecretState, SecretVersion};
pub use sessions::{SessionFilter, SessionNote, SessionRecord};

/// Every bound of the catalog, each with its reason.
pub mod limits {
    /// Command text and parameters of one review, bytes: the largest statement the gateway holds.
    pub const REVIEW_BYTES: usize = 16 << 20;
    /// Open reviews of one chain: a looping agent must not fill the reviewers' queue.
    pub const OPEN_REVIEWS_PER_CHAIN: u64 = 64;
    /// Open reviews in all.
    pub const OPEN_REVIEWS: u64 = 10_000;
    /// Text of all open reviews of one chain, bytes.
    pub const OPEN_REVIEW_BYTES_PER_CHAIN: u64 = 64 << 20;
    /// Text of all open reviews, bytes: what a flood of reviews may take of the disk.
    pub const OPEN_REVIEW_BYTES: u64 = 1 << 30;
    /// Approvals of one review.
    pub const APPROVALS: u64 = 64;
    /// Review rules that one review names.
    pub const NEEDED_RULES: usize = 64;
    /// Canonical form of a chain, bytes; groups are most of it.
    pub const CHAIN_BYTES: usize = 64 << 10;
    /// Names, subjects, addresses and other words, bytes.
    pub const WORD_BYTES: usize = 1024;
    /// Sentences: summaries, reasons, key lines, signatures; bytes.
    pub const SENTENCE_BYTES: usize = 64 << 10;
    /// Enrolled keys of one reviewer.
    pub const KEYS_PER_REVIEWER: u64 = 16;
    /// Enrolled keys in all.
    pub const KEYS: u64 = 10_000;
    /// One sealed secret, bytes; above what `chancery-secrets` makes.
    pub const ENVELOPE_BYTES: usize = 128 << 10;
    /// Versions of all secrets together.
    pub const SECRET_VERSIONS: u64 = 10_000;
    /// One issuer's key set, bytes.
    pub const JWKS_BYTES: usize = 1 << 20;
    /// Issuers whose key sets are kept.
    pub const ISSUERS: u64 = 256;
    /// Holds in force: each is a question about every file that is past its time.
    pub const HOLDS: u64 = 1_000;
    /// Rows that one listing returns at most, whatever the caller asks.
    pub const LISTING: u32 = 1_000;
    /// Rows that one transaction changes at most, so that other processes wait milliseconds.
    pub const BATCH: i64 = 500;
}

/// How long a process waits for another one's transaction before it says [`CatalogError::Busy`].
const BUSY: Duration = Duration::from_secs(5);
/// Wake-ups kept for a slow receiver; one that lags reads the catalog again.
const WAKE_UPS: usize = 1024;

/// The catalog, open. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Catalog {
    /// One connection: writers of this process queue here, in memory, and not on the file's lock.
    writer: SqlitePool,
    readers: SqlitePool,
    changes: broadcast::Sender<ReviewId>,
}

impl Catalog {
    /// Makes a new catalog file of mode 0600 and opens it. Errors: `Conflict` if there is a catalog already.
    ///
    /// If we crash here, an empty file may be left; `create` takes such a file over, `open` refuses it.
    pub async fn create(path: &Path) -> Result<Self, CatalogError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => {
                file.sync_all()?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        check_file(path)?;
        schema::initialise(&mut options(path).connect().await?).await?;
        Self::open(path).await
    }
    /// Opens an existing catalog and brings its schema up to date. Errors: `Io` if there is no such file, or if others
    /// than its owner may read or write it; `Corrupt` if it is not a catalog; `Version` if a newer release wrote it.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        check_file(path)?;
        schema::migrate(&mut options(path).connect().await?).await?;
        let pool = |size| PoolOptions::<Sqlite>::new().max_connections(size).acquire_timeout(2 * BUSY);
        let writer = pool(1).connect_with(options(path)).await?;
        let readers = pool(2).connect_with(base(path).read_only(true)).await?;
        Ok(Self { writer, readers, changes: broadcast::channel(WAKE_UPS).0 })
    }
    /// Closes all connections; the last process to do so folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
    /// Folds the write-ahead log into the file and empties it, so that replaced texts do not linger there. Returns
    /// `false` if a reader of another process was in the way; then it is worth another try later.
    pub async fn fold(&self) -> Result<bool, CatalogError> {
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await?;
        Ok(row.try_get::<i64, _>(0)? == 0)
    }
    /// Reads the whole file and says `Corrupt` if SQLite finds it damaged. Slow on large files.
    pub async fn check(&self) -> Result<(), CatalogError> {
        let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(&self.readers).await?;
        match row.try_get::<String, _>(0)?.as_str() {
            "ok" => Ok(()),
            _ => Err(CatalogError::Corrupt("SQLite's own check of the file")),
        }
    }
    /// Hears of reviews that this handle changed. A receiver that lags reads the catalog again; changes made by other
    /// processes are found with `changed_since`.
    pub fn subscribe(&self) -> broadcast::Receiver<ReviewId> {
        self.changes.subscribe()
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
    async fn reader(&self) -> Result<sqlx::pool::PoolConnection<Sqlite>, CatalogError> {
        Ok(self.readers.acquire().await?)
    }
    /// Wakes whoever listens. Nobody listening is no error.
    fn announce(&self, reviews: impl IntoIterator<Item = ReviewId>) {
        reviews.into_iter().for_each(|review| drop(self.changes.send(review)));
    }
}

fn base(path: &Path) -> SqliteConnectOptions {
    // Statement logging is off: it would put texts of queries, and slow ones at warn, into the operator's log.
    SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY).disable_statement_logging()
}

fn options(path: &Path) -> SqliteConnectOptions {
    // FULL: an approval that was used must stay used after a loss of power. secure_delete: replaced texts are
    // overwritten in the file, not only unlinked.
    base(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
        .pragma("journal_size_limit", "67108864")
}

/// The file must be a plain file that its owner alone may touch. SQLite gives its `-wal` and `-shm` the same mode.
fn check_file(path: &Path) -> Result<(), CatalogError> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the catalog is not a plain file").into());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let problem = "others than its owner may access the catalog file; its mode must be 0600";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem).into());
    }
    Ok(())
}

/// Refuses what is longer than `max` bytes.
fn bounded(what: &'static str, length: usize, max: usize) -> Result<(), CatalogError> {
    if length > max {
        return Err(CatalogError::Limit { what, max: max as u64 });
    }
    Ok(())
}

/// Refuses another row where a single number, counted by `query`, has reached `max`.
async fn room(
    connection: &mut SqliteConnection,
    query: &'static str,
    what: &'static str,
    max: u64,
) -> Result<(), CatalogError> {
    let count: i64 = sqlx::query(query).fetch_one(connection).await?.try_get(0)?;
    if forms::count(count)? >= max {
        return Err(CatalogError::Limit { what, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
