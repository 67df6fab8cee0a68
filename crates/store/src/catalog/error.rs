//! What the catalog answers when it cannot do what was asked. No variant carries a value from a row.

use std::io;

/// Why the catalog could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Another process or task held the file for too long. Worth another try.
    #[error("the catalog is busy")]
    Busy,
    /// The file is not a catalog, or damaged: what was found wrong.
    #[error("the catalog is damaged: {0}")]
    Corrupt(&'static str),
    /// A newer release wrote the file.
    #[error("the catalog has schema version {found}, this build knows up to {known}")]
    Version {
        /// What the file says.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// No such thing.
    #[error("not found: {0}")]
    NotFound(&'static str),
    /// The thing is not in the state that the change needs: which need was not met.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// A bound of [`crate::catalog_limits`] was reached.
    #[error("limit reached: {what}, at most {max}")]
    Limit {
        /// Of what there is too much.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The operating system or the disk failed.
    #[error("the catalog cannot be read or written")]
    Io(#[from] io::Error),
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                // SQLite's extended result code; its low byte is the primary one.
                let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
                match code & 0xff {
                    5 | 6 => Self::Busy,
                    11 | 26 => Self::Corrupt("SQLite cannot read the file"),
                    19 => Self::Conflict("a row like this is there already, or its values are not admitted"),
                    _ => Self::Io(io::Error::other(format!("SQLite result code {code}"))),
                }
            }
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Io(io::Error::new(io::ErrorKind::NotConnected, "the catalog is closed"))
            }
            sqlx::Error::Io(error) => Self::Io(error),
            sqlx::Error::RowNotFound => Self::NotFound("row"),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Corrupt("a row has not the form it was written in")
            }
            _ => Self::Io(io::Error::other("the database library failed")),
        }
    }
}
