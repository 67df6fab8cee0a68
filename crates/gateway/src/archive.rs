//! Copies the ledger and its recordings into an object store, and reads them back (`docs/spec/archive.md`). Not here: what
//! is due and in which order, which is `chancery-store`'s.

mod bucket;
mod http;
mod reader;
#[cfg(test)]
mod tests;
mod uploads;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chancery_store::RestoreError;

pub use reader::{Archive, Archived};
pub(crate) use uploads::Uploads;

/// From this lag on, besides three rounds, readiness speaks of it.
const BEHIND_WARN: Duration = Duration::from_secs(60);

/// Where an archive is, and how it is reached. Credentials come from the environment, in the variables that AWS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePlace {
    /// The bucket or the directory.
    pub url: ArchiveUrl,
    /// The S3-compatible server; `None`: AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// Certificates (PEM) that the server's TLS is checked against; `None`: the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// What `archive` in the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveUrl {
    /// `s3://bucket/prefix`
    Bucket {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes around it; may be empty.
        prefix: String,
    },
    /// `file:///path`: a directory that is there, such as a mounted volume.
    Directory(PathBuf),
}

impl ArchiveUrl {
    /// Reads it; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Directory(path.into()))
            } else {
                Err("after file:// comes an absolute path")
            };
        }
        let rest = text.strip_prefix("s3://").ok_or("it must begin with s3:// or file://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(named) {
            return Err("a bucket's name is 3 to 63 of a-z 0-9 - .");
        }
        let prefix = prefix.trim_end_matches('/');
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(safe);
        if prefix.len() > 512 || !(prefix.is_empty() || prefix.split('/').all(part)) {
            return Err("a prefix is made of parts of A-Z a-z 0-9 - _ . with a slash between them");
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// What a gateway does about its archive.
#[derive(Clone, Debug)]
pub struct ArchiveSettings {
    /// Where it is.
    pub place: ArchivePlace,
    /// How often what is new goes there.
    pub every: Duration,
}

/// How far an archive is, as the gateway that writes it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Entries that the last archived checkpoint covers.
    pub size: u64,
    /// When all that was signed by then was in the archive.
    pub all: Option<Instant>,
    /// Rounds that failed since the start.
    pub failures: u64,
    /// Why the last round failed, if it did: a sentence without names, for whoever may ask. The log has the rest.
    pub problem: Option<&'static str>,
    /// Nothing more will be written there: what is in the archive is not what should be.
    pub ended: bool,
}

impl ArchiveStatus {
    /// How long ago all that was signed was in the archive.
    pub fn age(&self) -> Duration {
        self.all.map_or(Duration::ZERO, |all| all.elapsed())
    }

    /// All that was signed before `at` is in the archive.
    fn is_all(&mut self, at: Instant) {
        (self.all, self.problem) = (Some(at), None);
    }

    /// What is wrong for long enough to be spoken of, without names: everybody who reaches the port may read it.
    pub(crate) fn behind(&self, began: Instant, now: Instant, every: Duration) -> Option<String> {
        if self.ended {
            return Some(format!("nothing more is archived: {}", self.problem.unwrap_or("the log says why")));
        }
        let lag = now.saturating_duration_since(self.all.unwrap_or(began));
        let why = self.problem.unwrap_or("a round takes long");
        (lag > every * 3 + BEHIND_WARN).then(|| format!("nothing was archived in the last {} s: {why}", lag.as_secs()))
    }
}

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// The store does not answer, or says no.
    #[error("the store: {0}")]
    Store(String),
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The store does not refuse to create what is there.
    #[error("the store ignores conditions (If-None-Match): it would overwrite what is archived")]
    Unconditional,
    /// An object has other bytes than it should.
    #[error("{0} is in the archive with other content")]
    Conflict(String),
    /// The archive is of a ledger that has more entries, or others.
    #[error(
        "the archive's {archived} entries are not the beginning of this ledger: it was put back to an earlier state, or is another"
    )]
    Ahead {
        /// Entries of the archived checkpoint.
        archived: u64,
    },
    /// An object that should be there is not.
    #[error("{0} is not in the archive")]
    Missing(String),
    /// An object is larger than it can be, or its form is wrong.
    #[error("{0} in the archive is not what it should be: {1}")]
    Malformed(String, String),
    /// The ledger or the recordings cannot be archived.
    #[error(transparent)]
    Ledger(#[from] chancery_store::ArchiveError),
    /// It cannot be put back on a disk.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl ArchiveFault {
    /// The same without names.
    fn outside(&self) -> &'static str {
        match self {
            Self::Store(_) => "the store does not answer, or says no",
            Self::Settings(_) => "it cannot be reached as it is configured",
            Self::Unconditional => "the store overwrites",
            Self::Conflict(_) => "the archive has other content",
            Self::Ahead { .. } => "the archive has entries that this ledger has not",
            Self::Missing(_) | Self::Malformed(..) => "the archive is not as it was left",
            Self::Ledger(_) | Self::Restore(_) => "the ledger or the recordings cannot be read",
        }
    }
    /// Whether trying again could help.
    fn passes(&self) -> bool {
        !matches!(self, Self::Unconditional | Self::Conflict(_) | Self::Ahead { .. } | Self::Settings(_))
    }
}
