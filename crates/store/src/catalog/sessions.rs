//! Sessions, open and ended.

use chancery_model::{ResourceName, SessionId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{Catalog, CatalogError, bounded, forms, limits};

/// A session as the catalog knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// What it uses.
    pub resource: ResourceName,
    /// The chain that uses it.
    pub chain_id: [u8; 16],
    /// The chain for people.
    pub chain: String,
    /// The client's address.
    pub client: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it is open.
    pub ended_at: Option<Timestamp>,
    /// One word for how it ended.
    pub ending: Option<String>,
    /// Commands so far.
    pub commands: u64,
    /// When the client last asked something.
    pub last_activity: Timestamp,
}

/// Something about a session that is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionNote {
    /// It began. `ended_at` and `ending` are not looked at.
    Opened(SessionRecord),
    /// It ended.
    Closed {
        /// The session.
        id: SessionId,
        /// One word for how.
        ending: &'static str,
        /// Commands in all.
        commands: u64,
        /// When.
        at: Timestamp,
    },
}

/// Which sessions to list. The default is all.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Open ones only, or ended ones only.
    pub open: Option<bool>,
    /// On this resource.
    pub resource: Option<ResourceName>,
    /// Of this chain.
    pub chain_id: Option<[u8; 16]>,
    /// Older than this one: the last of the page before.
    pub before: Option<SessionId>,
}

impl Catalog {
    /// Writes down beginnings and ends of sessions in one transaction: one sync of the disk for all. A note that does not
    /// fit is left out, and its error returned, the first of several; the others stand. Errors: `Conflict` if a session
    /// that begins is there already. The end of a session that is not open changes nothing.
    pub async fn note_sessions(&self, notes: &[SessionNote]) -> Result<(), CatalogError> {
        let mut transaction = self.begin().await?;
        let mut noted = Ok(());
        for note in notes {
            let result = match note {
                SessionNote::Opened(record) => insert(&mut transaction, record).await,
                SessionNote::Closed { id, ending, commands, at } => {
                    end(&mut transaction, *id, ending, *commands, *at).await
                }
            };
            noted = noted.and(result);
        }
        transaction.commit().await?;
        noted
    }
    /// Notes how far an open session got. Returns `false` if there is no such open session. Meant for every few
    /// seconds, not for every command.
    pub async fn touch_session(&self, id: SessionId, commands: u64, now: Timestamp) -> Result<bool, CatalogError> {
        let query = "UPDATE sessions SET commands = ?2, last_activity = ?3 WHERE id = ?1 AND ended_at IS NULL";
        let query = sqlx::query(query).bind(id.0.to_vec()).bind(forms::column(commands)?).bind(now.0);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
    /// Ends every open session as `abandoned` and returns them as they were, open. Called by the one gateway when it
    /// starts: nobody else has sessions on this catalog.
    pub async fn close_abandoned(&self, now: Timestamp) -> Result<Vec<SessionRecord>, CatalogError> {
        let mut abandoned = Vec::new();
        loop {
            let mut transaction = self.begin().await?;
            let query = "SELECT * FROM sessions WHERE ended_at IS NULL ORDER BY id LIMIT ?1";
            let rows = sqlx::query(query).bind(limits::BATCH).fetch_all(&mut *transaction).await?;
            for row in &rows {
                let session = record(row)?;
                sqlx::query("UPDATE sessions SET ended_at = ?2, ending = 'abandoned' WHERE id = ?1")
                    .bind(session.id.0.to_vec())
                    .bind(now.0)
                    .execute(&mut *transaction)
                    .await?;
                abandoned.push(session);
            }
            transaction.commit().await?;
            if rows.is_empty() {
                return Ok(abandoned);
            }
        }
    }
    /// Sessions, newest first; at most `limit` and [`limits::LISTING`].
    pub async fn list_sessions(&self, filter: &SessionFilter, limit: u32) -> Result<Vec<SessionRecord>, CatalogError> {
        // Ids are ordered by time of start, so the primary key gives the order.
        let query = "SELECT * FROM sessions
             WHERE (?1 IS NULL OR (ended_at IS NULL) = ?1) AND (?2 IS NULL OR resource = ?2)
               AND (?3 IS NULL OR chain_id = ?3) AND (?4 IS NULL OR id < ?4)
             ORDER BY id DESC LIMIT ?5";
        let query = sqlx::query(query)
            .bind(filter.open)
            .bind(filter.resource.as_ref().map(ResourceName::as_str))
            .bind(filter.chain_id.map(|id| id.to_vec()))
            .bind(filter.before.map(|id| id.0.to_vec()))
            .bind(limit.min(limits::LISTING));
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(record).collect()
    }
    /// One session.
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, CatalogError> {
        let query = sqlx::query("SELECT * FROM sessions WHERE id = ?1").bind(id.0.to_vec());
        query.fetch_optional(&mut *self.reader().await?).await?.as_ref().map(record).transpose()
    }
    /// Forgets sessions that ended before an instant, a batch at most. Returns how many; zero means done. What they did
    /// stands in the ledger.
    pub async fn prune_sessions(&self, before: Timestamp) -> Result<u64, CatalogError> {
        let query = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended_at < ?1 LIMIT ?2)";
        let query = sqlx::query(query).bind(before.0).bind(limits::BATCH);
        Ok(query.execute(&self.writer).await?.rows_affected())
    }
}

async fn insert(to: &mut SqliteConnection, record: &SessionRecord) -> Result<(), CatalogError> {
    bounded("the bytes of a chain", record.chain.len(), limits::CHAIN_BYTES)?;
    bounded("the bytes of a client address", record.client.len(), limits::WORD_BYTES)?;
    let query = "INSERT INTO sessions (id, resource, chain_id, chain, client, started_at, commands, last_activity)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    sqlx::query(query)
        .bind(record.id.0.to_vec())
        .bind(record.resource.as_str())
        .bind(record.chain_id.to_vec())
        .bind(record.chain.as_str())
        .bind(record.client.as_str())
        .bind(record.started_at.0)
        .bind(forms::column(record.commands)?)
        .bind(record.last_activity.0)
        .execute(to)
        .await?;
    Ok(())
}

async fn end(
    at: &mut SqliteConnection,
    id: SessionId,
    ending: &str,
    commands: u64,
    now: Timestamp,
) -> Result<(), CatalogError> {
    bounded("the bytes of an ending", ending.len(), limits::WORD_BYTES)?;
    let query = "UPDATE sessions SET ended_at = ?2, ending = ?3, commands = ?4, last_activity = ?2
         WHERE id = ?1 AND ended_at IS NULL";
    let query = sqlx::query(query).bind(id.0.to_vec()).bind(now.0).bind(ending).bind(forms::column(commands)?);
    query.execute(at).await?;
    Ok(())
}

fn record(row: &SqliteRow) -> Result<SessionRecord, CatalogError> {
    let resource = ResourceName::parse(row.try_get("resource")?);
    Ok(SessionRecord {
        id: forms::session_id(row, "id")?,
        resource: resource.ok_or(CatalogError::Corrupt("the name of a resource"))?,
        chain_id: forms::sixteen(row, "chain_id")?,
        chain: row.try_get("chain")?,
        client: row.try_get("client")?,
        started_at: Timestamp(row.try_get("started_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp),
        ending: row.try_get("ending")?,
        commands: forms::count(row.try_get("commands")?)?,
        last_activity: Timestamp(row.try_get("last_activity")?),
    })
}
