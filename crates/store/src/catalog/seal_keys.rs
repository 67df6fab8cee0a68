//! The keys of sealed originals, one a session, themselves sealed. To delete one is to destroy the originals.

use chancery_model::{ResourceName, SessionId, Timestamp};
use sqlx::Row;

use super::{Catalog, CatalogError, bounded, forms, limits};

/// The key of a session's originals.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKeyRecord {
    /// What the session used.
    pub resource: ResourceName,
    /// The key, sealed for this session.
    pub envelope: Vec<u8>,
    /// Since when.
    pub created_at: Timestamp,
}

impl Catalog {
    /// Keeps the key of a session before anything is sealed under it. Errors: `Conflict` if the session has one.
    pub async fn put_seal_key(
        &self,
        session: SessionId,
        resource: &ResourceName,
        envelope: &[u8],
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        bounded("the bytes of a sealed key", envelope.len(), limits::ENVELOPE_BYTES)?;
        let query = "INSERT INTO seal_keys (session, resource, envelope, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING";
        let query = sqlx::query(query).bind(session.0.to_vec()).bind(resource.as_str()).bind(envelope).bind(now.0);
        match query.execute(&self.writer).await?.rows_affected() {
            1 => Ok(()),
            _ => Err(CatalogError::Conflict("the session has a key for its originals already")),
        }
    }
    /// The key of a session; `None` if nothing of it was sealed, or its key was destroyed.
    pub async fn seal_key(&self, session: SessionId) -> Result<Option<SealKeyRecord>, CatalogError> {
        let query = sqlx::query("SELECT resource, envelope, created_at FROM seal_keys WHERE session = ?1");
        let row = query.bind(session.0.to_vec()).fetch_optional(&mut *self.reader().await?).await?;
        let Some(row) = row else { return Ok(None) };
        let resource = ResourceName::parse(row.try_get("resource")?);
        Ok(Some(SealKeyRecord {
            resource: resource.ok_or(CatalogError::Corrupt("the name of a resource"))?,
            envelope: row.try_get("envelope")?,
            created_at: Timestamp(row.try_get("created_at")?),
        }))
    }
    /// Sessions behind `after` whose keys were made before an instant, and when: in the order of their ids, at most
    /// [`limits::LISTING`].
    pub async fn seal_keys_made_before(
        &self,
        before: Timestamp,
        after: Option<SessionId>,
    ) -> Result<Vec<(SessionId, Timestamp)>, CatalogError> {
        let query = "SELECT session, created_at FROM seal_keys WHERE created_at < ?1 AND session > ?2
             ORDER BY session LIMIT ?3";
        let after = after.map_or(Vec::new(), |session| session.0.to_vec());
        let query = sqlx::query(query).bind(before.0).bind(after).bind(limits::LISTING);
        let rows = query.fetch_all(&mut *self.reader().await?).await?;
        let key = |row| Ok((forms::session_id(row, "session")?, Timestamp(row.try_get("created_at")?)));
        rows.iter().map(key).collect()
    }
    /// Destroys the key of a session: it is overwritten in the file, and the write-ahead log, which may hold a copy, is
    /// folded. Returns whether that was done; if not, a reader was in the way of folding, and it is to be called again.
    pub async fn destroy_seal_key(&self, session: SessionId) -> Result<bool, CatalogError> {
        // `secure_delete` is on for every connection: see `options`.
        let query = sqlx::query("DELETE FROM seal_keys WHERE session = ?1").bind(session.0.to_vec());
        query.execute(&self.writer).await?;
        self.fold().await
    }
}
