//! Public keys: those enrolled for reviewers, and those that issuers publish.

use chancery_model::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, CatalogError, bounded, limits, room};

/// A public key enrolled for a reviewer. The caller has parsed the line and computed the fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewerKey {
    /// Issuer of the reviewer's identity.
    pub issuer: String,
    /// Subject at that issuer.
    pub subject: String,
    /// The OpenSSH public key line.
    pub line: String,
    /// `SHA256:…`, as OpenSSH writes it.
    pub fingerprint: String,
    /// When it was enrolled.
    pub added_at: Timestamp,
    /// Who enrolled it, for people.
    pub added_by: String,
}

/// An issuer's key set as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedJwks {
    /// The JSON document.
    pub json: String,
    /// When it was fetched.
    pub fetched_at: Timestamp,
}

impl Catalog {
    /// Enrols a key. Errors: `Conflict` if the same key is enrolled already, for whomever: a key that two people hold
    /// proves neither.
    pub async fn add_reviewer_key(&self, key: &ReviewerKey) -> Result<(), CatalogError> {
        for word in [&key.issuer, &key.subject, &key.fingerprint, &key.added_by] {
            bounded("the bytes of a reviewer key's fields", word.len(), limits::WORD_BYTES)?;
        }
        bounded("the bytes of a key line", key.line.len(), limits::SENTENCE_BYTES)?;
        let mut transaction = self.begin().await?;
        room(&mut transaction, "SELECT count(*) FROM reviewer_keys", "reviewer keys", limits::KEYS).await?;
        let query = "INSERT INTO reviewer_keys (fingerprint, issuer, subject, line, added_at, added_by)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE (SELECT count(*) FROM reviewer_keys WHERE issuer = ?2 AND subject = ?3) < ?7";
        let inserted = sqlx::query(query)
            .bind(key.fingerprint.as_str())
            .bind(key.issuer.as_str())
            .bind(key.subject.as_str())
            .bind(key.line.as_str())
            .bind(key.added_at.0)
            .bind(key.added_by.as_str())
            .bind(limits::KEYS_PER_REVIEWER as i64)
            .execute(&mut *transaction)
            .await?;
        if inserted.rows_affected() != 1 {
            return Err(CatalogError::Limit { what: "keys of one reviewer", max: limits::KEYS_PER_REVIEWER });
        }
        transaction.commit().await?;
        Ok(())
    }
    /// Removes a key. Returns `false` if the reviewer has no such key.
    pub async fn remove_reviewer_key(
        &self,
        issuer: &str,
        subject: &str,
        fingerprint: &str,
    ) -> Result<bool, CatalogError> {
        let query = "DELETE FROM reviewer_keys WHERE fingerprint = ?1 AND issuer = ?2 AND subject = ?3";
        let query = sqlx::query(query).bind(fingerprint).bind(issuer).bind(subject);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
    /// The keys of one reviewer.
    pub async fn reviewer_keys(&self, issuer: &str, subject: &str) -> Result<Vec<ReviewerKey>, CatalogError> {
        let query = "SELECT * FROM reviewer_keys WHERE issuer = ?1 AND subject = ?2 ORDER BY added_at, fingerprint";
        let query = sqlx::query(query).bind(issuer).bind(subject);
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(key).collect()
    }
    /// All keys, at most [`limits::KEYS`].
    pub async fn list_reviewer_keys(&self) -> Result<Vec<ReviewerKey>, CatalogError> {
        let query = sqlx::query("SELECT * FROM reviewer_keys ORDER BY issuer, subject, added_at, fingerprint");
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(key).collect()
    }
    /// Keeps an issuer's key set, unless a newer one is there. Returns whether it was kept.
    pub async fn put_jwks(&self, issuer: &str, json: &str, fetched_at: Timestamp) -> Result<bool, CatalogError> {
        bounded("the bytes of an issuer's name", issuer.len(), limits::WORD_BYTES)?;
        bounded("the bytes of a key set", json.len(), limits::JWKS_BYTES)?;
        let mut transaction = self.begin().await?;
        let query = "UPDATE issuers SET jwks = ?2, fetched_at = ?3 WHERE issuer = ?1 AND fetched_at <= ?3";
        let query = sqlx::query(query).bind(issuer).bind(json).bind(fetched_at.0);
        let mut kept = query.execute(&mut *transaction).await?.rows_affected();
        let query = sqlx::query("SELECT 1 FROM issuers WHERE issuer = ?1").bind(issuer);
        if query.fetch_optional(&mut *transaction).await?.is_none() {
            room(&mut transaction, "SELECT count(*) FROM issuers", "issuers", limits::ISSUERS).await?;
            let query = sqlx::query("INSERT INTO issuers (issuer, jwks, fetched_at) VALUES (?1, ?2, ?3)");
            let query = query.bind(issuer).bind(json).bind(fetched_at.0);
            kept = query.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(kept == 1)
    }
    /// The key set kept for an issuer. How old one may be is the caller's rule.
    pub async fn jwks(&self, issuer: &str) -> Result<Option<CachedJwks>, CatalogError> {
        let query = sqlx::query("SELECT jwks, fetched_at FROM issuers WHERE issuer = ?1").bind(issuer);
        let Some(row) = query.fetch_optional(&mut *self.reader().await?).await? else { return Ok(None) };
        Ok(Some(CachedJwks { json: row.try_get("jwks")?, fetched_at: Timestamp(row.try_get("fetched_at")?) }))
    }
    /// Forgets an issuer's key set. Returns `false` if there was none.
    pub async fn forget_jwks(&self, issuer: &str) -> Result<bool, CatalogError> {
        let query = sqlx::query("DELETE FROM issuers WHERE issuer = ?1").bind(issuer);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
}

fn key(row: &SqliteRow) -> Result<ReviewerKey, CatalogError> {
    Ok(ReviewerKey {
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        line: row.try_get("line")?,
        fingerprint: row.try_get("fingerprint")?,
        added_at: Timestamp(row.try_get("added_at")?),
        added_by: row.try_get("added_by")?,
    })
}
