//! Sealed secrets by name and version. The envelopes are opaque here; `chancery-secrets` makes and opens them.

use chancery_model::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, CatalogError, bounded, limits, room};

/// Whether a version may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// May be used; the newest active version is the current one.
    Active,
    /// Kept, not used any more.
    Retired,
}

/// A version without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretLine {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// When it was put here.
    pub created_at: Timestamp,
    /// Whether it may be used.
    pub state: SecretState,
}

/// A version with its envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// Its version, from 1.
    pub version: u32,
    /// The envelope, sealed for this name and version.
    pub envelope: Vec<u8>,
}

impl Catalog {
    /// The version that the next `put_secret` of this name will have. The envelope is sealed for it.
    pub async fn next_secret_version(&self, name: &str) -> Result<u32, CatalogError> {
        let query = sqlx::query("SELECT coalesce(max(version), 0) + 1 FROM secrets WHERE name = ?1").bind(name);
        Ok(query.fetch_one(&mut *self.reader().await?).await?.try_get(0)?)
    }
    /// Keeps a new version. `version` is what the envelope was sealed for; errors: `Conflict` if it is not the next
    /// one, because somebody else put one in between.
    pub async fn put_secret(
        &self,
        name: &str,
        version: u32,
        envelope: &[u8],
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        bounded("the bytes of a secret's name", name.len(), limits::WORD_BYTES)?;
        bounded("the bytes of a sealed secret", envelope.len(), limits::ENVELOPE_BYTES)?;
        let mut transaction = self.begin().await?;
        room(&mut transaction, "SELECT count(*) FROM secrets", "versions of secrets", limits::SECRET_VERSIONS).await?;
        let query = "INSERT INTO secrets (name, version, envelope, created_at, state) SELECT ?1, ?2, ?3, ?4, 'active'
             WHERE ?2 = (SELECT coalesce(max(version), 0) + 1 FROM secrets WHERE name = ?1)";
        let query = sqlx::query(query).bind(name).bind(version).bind(envelope).bind(now.0);
        if query.execute(&mut *transaction).await?.rows_affected() != 1 {
            return Err(CatalogError::Conflict("this is not the next version of the secret"));
        }
        transaction.commit().await?;
        Ok(())
    }
    /// The newest active version.
    pub async fn current_secret(&self, name: &str) -> Result<Option<SecretVersion>, CatalogError> {
        let query =
            "SELECT version, envelope FROM secrets WHERE name = ?1 AND state = 'active' ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(query).bind(name).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(version_of).transpose()
    }
    /// One version, active or retired.
    pub async fn secret(&self, name: &str, version: u32) -> Result<Option<SecretVersion>, CatalogError> {
        let query = sqlx::query("SELECT version, envelope FROM secrets WHERE name = ?1 AND version = ?2");
        let row = query.bind(name).bind(version).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(version_of).transpose()
    }
    /// All versions of all secrets, without values, by name and version; at most [`limits::SECRET_VERSIONS`].
    pub async fn list_secrets(&self) -> Result<Vec<SecretLine>, CatalogError> {
        let query = sqlx::query("SELECT name, version, created_at, state FROM secrets ORDER BY name, version");
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(line).collect()
    }
    /// Retires a version. Returns `false` if it was not active.
    pub async fn retire_secret(&self, name: &str, version: u32) -> Result<bool, CatalogError> {
        let query = "UPDATE secrets SET state = 'retired' WHERE name = ?1 AND version = ?2 AND state = 'active'";
        let query = sqlx::query(query).bind(name).bind(version);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
    /// Puts a rewrapped envelope in the place of the old one. Returns `false` if the old one is not there any more.
    pub async fn replace_envelope(
        &self,
        name: &str,
        version: u32,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, CatalogError> {
        bounded("the bytes of a sealed secret", new.len(), limits::ENVELOPE_BYTES)?;
        let query = "UPDATE secrets SET envelope = ?4 WHERE name = ?1 AND version = ?2 AND envelope = ?3";
        let query = sqlx::query(query).bind(name).bind(version).bind(old).bind(new);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
}

fn version_of(row: &SqliteRow) -> Result<SecretVersion, CatalogError> {
    Ok(SecretVersion { version: row.try_get("version")?, envelope: row.try_get("envelope")? })
}

fn line(row: &SqliteRow) -> Result<SecretLine, CatalogError> {
    Ok(SecretLine {
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        created_at: Timestamp(row.try_get("created_at")?),
        state: match row.try_get("state")? {
            "active" => SecretState::Active,
            "retired" => SecretState::Retired,
            _ => return Err(CatalogError::Corrupt("the state of a secret")),
        },
    })
}
