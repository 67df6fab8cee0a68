//! Legal holds: what is not to be deleted, whatever its age. That there is a hold stands in the ledger; what it is about,
//! and why, stands here alone.

use chancery_model::{SessionId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, CatalogError, bounded, forms, limits, room};

/// What a hold is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldScope {
    /// One session.
    Session(SessionId),
    /// Sessions in whose chain this principal or actor is.
    Principal {
        /// Issuer's URL.
        issuer: String,
        /// Subject at that issuer.
        subject: String,
    },
    /// Sessions that lived at some time from the first instant on and before the second.
    Period(Timestamp, Timestamp),
}

impl HoldScope {
    /// Lower-case word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Principal { .. } => "principal",
            Self::Period(..) => "period",
        }
    }
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    /// When.
    pub at: Timestamp,
    /// By whom, for people.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What makes the commitment in the ledger unguessable.
    pub salt: [u8; 32],
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegalHold {
    /// Its id.
    pub id: [u8; 16],
    /// What it is about.
    pub scope: HoldScope,
    /// Why: an order, a ticket.
    pub reason: String,
    /// What makes the commitment in the ledger unguessable.
    pub salt: [u8; 32],
    /// When it was set.
    pub set_at: Timestamp,
    /// By whom, for people.
    pub set_by: String,
    /// Its end; `None` while it is in force.
    pub lifted: Option<Lift>,
}

impl Catalog {
    /// Keeps a hold that is in force. Errors: `Conflict` if the id is taken; `Limit`.
    pub async fn put_hold(&self, hold: &LegalHold) -> Result<(), CatalogError> {
        bounded("the bytes of a reason", hold.reason.len(), limits::SENTENCE_BYTES)?;
        let (session, issuer, subject, since, until) = match &hold.scope {
            HoldScope::Session(session) => (Some(session.0.to_vec()), None, None, None, None),
            HoldScope::Principal { issuer, subject } => {
                bounded("the bytes of a principal", issuer.len() + subject.len(), limits::WORD_BYTES)?;
                (None, Some(issuer.as_str()), Some(subject.as_str()), None, None)
            }
            HoldScope::Period(from, to) => (None, None, None, Some(from.0), Some(to.0)),
        };
        let mut transaction = self.begin().await?;
        let count = "SELECT count(*) FROM holds WHERE lifted_at IS NULL";
        room(&mut transaction, count, "holds in force", limits::HOLDS).await?;
        let query = "INSERT INTO holds (id, session, issuer, subject, since, until, reason, salt, set_at, set_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        sqlx::query(query)
            .bind(hold.id.to_vec())
            .bind(session)
            .bind(issuer)
            .bind(subject)
            .bind(since)
            .bind(until)
            .bind(hold.reason.as_str())
            .bind(hold.salt.to_vec())
            .bind(hold.set_at.0)
            .bind(hold.set_by.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
    /// Ends a hold. Returns `false` if there is no such hold in force.
    pub async fn lift_hold(&self, id: [u8; 16], lift: &Lift) -> Result<bool, CatalogError> {
        bounded("the bytes of a reason", lift.reason.len(), limits::SENTENCE_BYTES)?;
        let query = "UPDATE holds SET lifted_at = ?2, lifted_by = ?3, lift_reason = ?4, lift_salt = ?5
             WHERE id = ?1 AND lifted_at IS NULL";
        let query = sqlx::query(query).bind(id.to_vec()).bind(lift.at.0).bind(lift.by.as_str());
        let query = query.bind(lift.reason.as_str()).bind(lift.salt.to_vec());
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
    /// How many holds are in force.
    pub async fn count_holds(&self) -> Result<u64, CatalogError> {
        let query = sqlx::query("SELECT count(*) FROM holds WHERE lifted_at IS NULL");
        forms::count(query.fetch_one(&mut *self.reader().await?).await?.try_get(0)?)
    }
    /// The holds in force; all of them.
    pub async fn holds_in_force(&self) -> Result<Vec<LegalHold>, CatalogError> {
        let query = sqlx::query("SELECT * FROM holds WHERE lifted_at IS NULL ORDER BY set_at, id");
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(record).collect()
    }
    /// Holds, in force or lifted, newest first; at most `limit` and [`limits::LISTING`].
    pub async fn list_holds(&self, limit: u32) -> Result<Vec<LegalHold>, CatalogError> {
        let query = sqlx::query("SELECT * FROM holds ORDER BY set_at DESC, id LIMIT ?1");
        let query = query.bind(limit.min(limits::LISTING));
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(record).collect()
    }
}

fn record(row: &SqliteRow) -> Result<LegalHold, CatalogError> {
    const SALT: CatalogError = CatalogError::Corrupt("the salt of a hold");
    let salt = |column| row.try_get::<Option<Vec<u8>>, _>(column);
    let whole = |salt: Vec<u8>| salt.try_into().map_err(|_| SALT);
    let scope = match (
        row.try_get::<Option<Vec<u8>>, _>("session")?,
        row.try_get::<Option<String>, _>("issuer")?.zip(row.try_get::<Option<String>, _>("subject")?),
        row.try_get::<Option<i64>, _>("since")?.zip(row.try_get::<Option<i64>, _>("until")?),
    ) {
        (Some(_), None, None) => HoldScope::Session(forms::session_id(row, "session")?),
        (None, Some((issuer, subject)), None) => HoldScope::Principal { issuer, subject },
        (None, None, Some((from, to))) => HoldScope::Period(Timestamp(from), Timestamp(to)),
        _ => return Err(CatalogError::Corrupt("the scope of a hold")),
    };
    let lifted = match (row.try_get::<Option<i64>, _>("lifted_at")?, salt("lift_salt")?) {
        (Some(at), Some(salt)) => Some(Lift {
            at: Timestamp(at),
            by: row.try_get("lifted_by")?,
            reason: row.try_get("lift_reason")?,
            salt: whole(salt)?,
        }),
        _ => None,
    };
    Ok(LegalHold {
        id: forms::sixteen(row, "id")?,
        scope,
        reason: row.try_get("reason")?,
        salt: whole(salt("salt")?.ok_or(SALT)?)?,
        set_at: Timestamp(row.try_get("set_at")?),
        set_by: row.try_get("set_by")?,
        lifted,
    })
}
