//! The directory: which principal and which actors stand behind a chain id. Ledger entries name the chain id alone.

use chancery_model::{Delegation, PrincipalKind, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, CatalogError, bounded, forms, limits};

/// A chain as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRecord {
    /// The id by which ledger entries name it.
    pub chain_id: [u8; 16],
    /// The whole chain.
    pub chain: Delegation,
    /// When it was first seen.
    pub first_seen: Timestamp,
}

/// Whether somebody is the principal of a chain, or one of its actors.
pub(crate) fn names(chain: &Delegation, issuer: &str, subject: &str) -> bool {
    let principal = (chain.principal.issuer.as_str(), chain.principal.subject.as_str());
    let actors = chain.actors.iter().map(|actor| (actor.issuer.as_str(), actor.subject.as_str()));
    actors.chain([principal]).any(|link| link == (issuer, subject))
}

/// A principal as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRecord {
    /// Issuer's URL.
    pub issuer: String,
    /// Subject at that issuer.
    pub subject: String,
    /// User, service or agent.
    pub kind: PrincipalKind,
    /// For people.
    pub display: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
}

impl Catalog {
    /// Remembers a chain under the caller's id. Returns whether it was new. Errors: `Conflict` if the id is taken by
    /// another chain.
    pub async fn remember_chain(&self, id: [u8; 16], chain: &Delegation, now: Timestamp) -> Result<bool, CatalogError> {
        bounded("the bytes of a chain", chain.canonical().len(), limits::CHAIN_BYTES)?;
        bounded("the bytes of a display name", chain.principal.display.len(), limits::WORD_BYTES)?;
        // Most calls are of a chain that is known: those take no write lock.
        if let Some(known) = self.chain(id).await? {
            return same_chain(&known, chain);
        }
        let mut transaction = self.begin().await?;
        let query = "INSERT INTO chains (chain_id, chain, issuer, subject, first_seen)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
        let inserted = sqlx::query(query)
            .bind(id.to_vec())
            .bind(forms::chain_to_json(chain)?)
            .bind(chain.principal.issuer.as_str())
            .bind(chain.principal.subject.as_str())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if inserted == 0 {
            drop(transaction);
            let known = self.chain(id).await?.ok_or(CatalogError::NotFound("chain"))?;
            return same_chain(&known, chain);
        }
        let query = "INSERT INTO principals (issuer, subject, kind, display, first_seen) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET kind = excluded.kind, display = excluded.display";
        sqlx::query(query)
            .bind(chain.principal.issuer.as_str())
            .bind(chain.principal.subject.as_str())
            .bind(forms::kind_word(chain.principal.kind))
            .bind(chain.principal.display.as_str())
            .bind(now.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }
    /// The chain behind an id.
    pub async fn chain(&self, id: [u8; 16]) -> Result<Option<ChainRecord>, CatalogError> {
        let query = "SELECT chain_id, chain, first_seen FROM chains WHERE chain_id = ?1";
        let row = sqlx::query(query).bind(id.to_vec()).fetch_optional(&mut *self.reader().await?).await?;
        row.map(|row| {
            Ok(ChainRecord {
                chain_id: forms::sixteen(&row, "chain_id")?,
                chain: forms::chain_from_json(row.try_get("chain")?)?,
                first_seen: Timestamp(row.try_get("first_seen")?),
            })
        })
        .transpose()
    }
    /// One principal.
    pub async fn principal(&self, issuer: &str, subject: &str) -> Result<Option<PrincipalRecord>, CatalogError> {
        let query = "SELECT * FROM principals WHERE issuer = ?1 AND subject = ?2";
        let query = sqlx::query(query).bind(issuer).bind(subject);
        query.fetch_optional(&mut *self.reader().await?).await?.as_ref().map(record).transpose()
    }
    /// Principals, ordered by issuer and subject, after the one given; at most `limit` and [`limits::LISTING`].
    pub async fn list_principals(
        &self,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<PrincipalRecord>, CatalogError> {
        let (issuer, subject) = after.unwrap_or_default();
        let query = "SELECT * FROM principals WHERE (issuer, subject) > (?1, ?2) ORDER BY issuer, subject LIMIT ?3";
        let query = sqlx::query(query).bind(issuer).bind(subject).bind(limit.min(limits::LISTING));
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(record).collect()
    }
}

/// An id means one chain for ever: its display name may change, its authority not.
fn same_chain(known: &ChainRecord, chain: &Delegation) -> Result<bool, CatalogError> {
    if known.chain.canonical() != chain.canonical() {
        return Err(CatalogError::Conflict("the chain id stands for another chain"));
    }
    Ok(false)
}

fn record(row: &SqliteRow) -> Result<PrincipalRecord, CatalogError> {
    Ok(PrincipalRecord {
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        kind: forms::kind(row.try_get("kind")?)?,
        display: row.try_get("display")?,
        first_seen: Timestamp(row.try_get("first_seen")?),
    })
}
