//! Reviews: writing them down, reading them, and collecting approvals. How they end is in `lifecycle`.

use chancery_model::{
    Approval, CommandId, Delegation, Digest, EntryRef, Principal, ResourceName, Review, ReviewId, ReviewState,
    SessionId, Timestamp,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Catalog, CatalogError, bounded, forms, limits};

/// Characters of the command that a listing shows.
const PREVIEW: usize = 200;

/// The query of a listing with its last clauses.
macro_rules! lines {
    ($clauses:literal) => {
        concat!(
            "SELECT id, session, command, resource, chain, digest, needed, preview, bytes, summary, asked_at,
               expires_at, ended_at, uses, state,
               (SELECT count(*) FROM approvals WHERE review = reviews.id) AS approvals
             FROM reviews ",
            $clauses
        )
    };
}

/// A review in a listing: everything but the complete text, which may be megabytes. `review` has that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewLine {
    /// Its id.
    pub id: ReviewId,
    /// Which session asked.
    pub session: SessionId,
    /// The command's number there.
    pub command: CommandId,
    /// The resource.
    pub resource: ResourceName,
    /// The chain that asked.
    pub chain: Delegation,
    /// What approvals bind to.
    pub digest: Digest,
    /// Names of the review rules that are needed.
    pub needed: Vec<String>,
    /// The first characters of the command. Never enough to approve on.
    pub preview: String,
    /// Length of the complete text and parameters, bytes.
    pub bytes: u64,
    /// Why it was held.
    pub summary: String,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When the request ends.
    pub expires_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Executions still covered.
    pub uses: u32,
    /// Where it stands.
    pub state: ReviewState,
    /// Answers so far.
    pub approvals: u64,
}

/// A reviewer's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Who.
    pub by: Principal,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Catalog {
    /// Writes down a new review. Errors: `Conflict` if the id is taken or the review is not new (pending, without
    /// approvals, with uses, not yet expired at `asked_at`); `Limit` by size, by open reviews of the same chain and in
    /// all.
    pub async fn create_review(&self, review: &Review) -> Result<(), CatalogError> {
        let chain_key = review.chain.canonical();
        check_new(review, &chain_key)?;
        let bytes = bytes_of(&review.text, &review.parameters);
        let mut transaction = self.begin().await?;
        open_room(&mut transaction, &chain_key, bytes as u64).await?;
        let changed = next_change(&mut transaction).await?;
        let query =
            "INSERT INTO reviews (id, session, command, resource, chain, chain_key, digest, rules, needed, summary,
               asked_at, expires_at, uses, state, changed, masked, bytes, preview, parameters, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'pending', ?14, 0, ?15, ?16, ?17, ?18)";
        sqlx::query(query)
            .bind(review.id.0.to_vec())
            .bind(review.session.0.to_vec())
            .bind(forms::column(review.command.0)?)
            .bind(review.resource.as_str())
            .bind(forms::chain_to_json(&review.chain)?)
            .bind(chain_key)
            .bind(review.digest.0.to_vec())
            .bind(review.rules.0.to_vec())
            .bind(forms::words_to_json(&review.needed)?)
            .bind(review.summary.as_str())
            .bind(review.asked_at.0)
            .bind(review.expires_at.0)
            .bind(i64::from(review.uses))
            .bind(changed)
            .bind(forms::column(bytes as u64)?)
            .bind(preview(&review.text))
            .bind(forms::words_to_json(&review.parameters)?)
            .bind(review.text.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.announce([review.id]);
        Ok(())
    }
    /// One review with its approvals. After it ended, text and parameters may be the masked form.
    pub async fn review(&self, id: ReviewId) -> Result<Option<Review>, CatalogError> {
        // One read transaction, so that state and approvals are of the same instant.
        let mut transaction = self.readers.begin().await?;
        load(&mut transaction, id).await
    }
    /// Reviews, oldest first where they are open, newest first otherwise; at most `limit` and [`limits::LISTING`].
    pub async fn list_reviews(&self, state: Option<ReviewState>, limit: u32) -> Result<Vec<ReviewLine>, CatalogError> {
        // Three texts, not one with conditions, so that each is answered in the order of an index.
        let query = match state {
            Some(state @ (ReviewState::Pending | ReviewState::Approved)) => {
                sqlx::query(lines!("WHERE state = ?2 ORDER BY asked_at LIMIT ?1"))
                    .bind(limit.min(limits::LISTING))
                    .bind(state.as_str())
            }
            Some(state) => sqlx::query(lines!("WHERE state = ?2 ORDER BY asked_at DESC LIMIT ?1"))
                .bind(limit.min(limits::LISTING))
                .bind(state.as_str()),
            None => sqlx::query(lines!("ORDER BY asked_at DESC LIMIT ?1")).bind(limit.min(limits::LISTING)),
        };
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(line).collect()
    }
    /// Adds a reviewer's yes and returns the review with it; the state stays pending until the caller, who knows the
    /// rules, moves it. Errors: `Conflict` if the review is not pending, has expired, does not need this rule, or the
    /// reviewer answered for this rule already.
    pub async fn add_approval(&self, id: ReviewId, approval: &Approval) -> Result<Review, CatalogError> {
        let mut sentences = [&approval.key, &approval.signature].into_iter().flatten();
        sentences
            .try_for_each(|text| bounded("the bytes of a key or signature", text.len(), limits::SENTENCE_BYTES))?;
        let reviewer = forms::principal_to_json(&approval.reviewer)?;
        bounded("the bytes of a reviewer", reviewer.len(), limits::CHAIN_BYTES)?;
        let mut transaction = self.begin().await?;
        let mut review = load(&mut transaction, id).await?.ok_or(CatalogError::NotFound("review"))?;
        answerable(&review, approval.at)?;
        if !review.needed.contains(&approval.rule) {
            return Err(CatalogError::Conflict("the review does not need this rule"));
        }
        let same = |other: &Approval| {
            other.rule == approval.rule
                && other.reviewer.issuer == approval.reviewer.issuer
                && other.reviewer.subject == approval.reviewer.subject
        };
        if review.approvals.iter().any(same) {
            return Err(CatalogError::Conflict("this reviewer has answered for this rule already"));
        }
        if review.approvals.len() as u64 >= limits::APPROVALS {
            return Err(CatalogError::Limit { what: "approvals of a review", max: limits::APPROVALS });
        }
        let query = "INSERT INTO approvals (review, rule, issuer, subject, reviewer, assurance, key, signature, at,
               entry, leaf) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        sqlx::query(query)
            .bind(id.0.to_vec())
            .bind(approval.rule.as_str())
            .bind(approval.reviewer.issuer.as_str())
            .bind(approval.reviewer.subject.as_str())
            .bind(reviewer)
            .bind(approval.assurance.as_str())
            .bind(approval.key.as_deref())
            .bind(approval.signature.as_deref())
            .bind(approval.at.0)
            .bind(approval.entry.and_then(|at| i64::try_from(at.index).ok()))
            .bind(approval.entry.map(|at| at.leaf.0.to_vec()))
            .execute(&mut *transaction)
            .await?;
        mark_changed(&mut transaction, id).await?;
        transaction.commit().await?;
        self.announce([id]);
        review.approvals.push(approval.clone());
        Ok(review)
    }
    /// An approved review that has uses left for exactly this digest and chain, for a client that did not wait. The
    /// caller settles it and then calls `consume`, which alone decides who gets it.
    pub async fn find_approved(
        &self,
        digest: Digest,
        chain: &Delegation,
        now: Timestamp,
    ) -> Result<Option<Review>, CatalogError> {
        let mut transaction = self.readers.begin().await?;
        let query = "SELECT id FROM reviews WHERE digest = ?1 AND chain_key = ?2 AND state = 'approved' AND uses > 0
               AND expires_at > ?3 ORDER BY asked_at, id LIMIT 1";
        let query = sqlx::query(query).bind(digest.0.to_vec()).bind(chain.canonical()).bind(now.0);
        match query.fetch_optional(&mut *transaction).await? {
            Some(row) => load(&mut transaction, forms::review_id(&row)?).await,
            None => Ok(None),
        }
    }
    /// An open review for exactly this digest and chain, so that a client that asks again is shown the one that waits.
    pub async fn find_pending(
        &self,
        digest: Digest,
        chain: &Delegation,
        now: Timestamp,
    ) -> Result<Option<ReviewId>, CatalogError> {
        let query = "SELECT id FROM reviews WHERE digest = ?1 AND chain_key = ?2 AND state = 'pending'
               AND expires_at > ?3 ORDER BY asked_at, id LIMIT 1";
        let query = sqlx::query(query).bind(digest.0.to_vec()).bind(chain.canonical()).bind(now.0);
        query.fetch_optional(&mut *self.reader().await?).await?.as_ref().map(forms::review_id).transpose()
    }
    /// Reviews that changed after `seq`, in whatever process, and the `seq` to ask with next time. At most
    /// [`limits::LISTING`] at once: ask again until none come. Start with `change_seq`.
    pub async fn changed_since(&self, seq: u64) -> Result<(u64, Vec<ReviewId>), CatalogError> {
        let query = "SELECT id, changed FROM reviews WHERE changed > ?1 ORDER BY changed LIMIT ?2";
        let query = sqlx::query(query).bind(forms::column(seq)?).bind(limits::LISTING);
        let mut latest = seq;
        let mut ids = Vec::new();
        for row in query.fetch_all(&mut *self.reader().await?).await? {
            latest = forms::count(row.try_get("changed")?)?;
            ids.push(forms::review_id(&row)?);
        }
        Ok((latest, ids))
    }
    /// The number of the latest change so far.
    pub async fn change_seq(&self) -> Result<u64, CatalogError> {
        let query = sqlx::query("SELECT value FROM counters WHERE name = 'reviews'");
        forms::count(query.fetch_one(&mut *self.reader().await?).await?.try_get(0)?)
    }
}

/// Whether a reviewer may still answer.
pub(super) fn answerable(review: &Review, now: Timestamp) -> Result<(), CatalogError> {
    if review.state != ReviewState::Pending {
        return Err(CatalogError::Conflict("the review is not pending"));
    }
    if review.expires_at <= now {
        return Err(CatalogError::Conflict("the review has expired"));
    }
    Ok(())
}

/// Gives the review the next change number, inside the caller's transaction.
pub(super) async fn mark_changed(connection: &mut SqliteConnection, id: ReviewId) -> Result<(), CatalogError> {
    let changed = next_change(connection).await?;
    let query = sqlx::query("UPDATE reviews SET changed = ?2 WHERE id = ?1").bind(id.0.to_vec()).bind(changed);
    query.execute(connection).await?;
    Ok(())
}

pub(super) async fn next_change(connection: &mut SqliteConnection) -> Result<i64, CatalogError> {
    let query = sqlx::query("UPDATE counters SET value = value + 1 WHERE name = 'reviews' RETURNING value");
    Ok(query.fetch_one(connection).await?.try_get(0)?)
}

pub(super) fn preview(text: &str) -> String {
    text.chars().take(PREVIEW).collect()
}

pub(super) fn bytes_of(text: &str, parameters: &[String]) -> usize {
    parameters.iter().fold(text.len(), |sum, parameter| sum.saturating_add(parameter.len()))
}

pub(super) async fn load(connection: &mut SqliteConnection, id: ReviewId) -> Result<Option<Review>, CatalogError> {
    let query = sqlx::query("SELECT * FROM reviews WHERE id = ?1").bind(id.0.to_vec());
    let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let query = sqlx::query("SELECT * FROM approvals WHERE review = ?1 ORDER BY at, rule, issuer, subject");
    let approvals = query.bind(id.0.to_vec()).fetch_all(connection).await?;
    Ok(Some(Review {
        id,
        session: forms::session_id(&row, "session")?,
        command: CommandId(forms::count(row.try_get("command")?)?),
        resource: resource(&row)?,
        chain: forms::chain_from_json(row.try_get("chain")?)?,
        digest: forms::digest(&row, "digest")?,
        rules: forms::digest(&row, "rules")?,
        needed: forms::words_from_json(row.try_get("needed")?)?,
        text: row.try_get("text")?,
        parameters: forms::words_from_json(row.try_get("parameters")?)?,
        summary: row.try_get("summary")?,
        asked_at: Timestamp(row.try_get("asked_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
        uses: row.try_get("uses")?,
        state: state(&row)?,
        approvals: approvals.iter().map(approval).collect::<Result<_, _>>()?,
    }))
}

fn check_new(review: &Review, chain_key: &[u8]) -> Result<(), CatalogError> {
    if review.state != ReviewState::Pending || !review.approvals.is_empty() || review.uses == 0 {
        return Err(CatalogError::Conflict("a new review is pending, without approvals, for one use or more"));
    }
    if review.expires_at <= review.asked_at {
        return Err(CatalogError::Conflict("a new review expires after it is asked"));
    }
    let bytes = bytes_of(&review.text, &review.parameters);
    bounded("the bytes of a command under review", bytes, limits::REVIEW_BYTES)?;
    bounded("parameters of a command under review", review.parameters.len(), usize::from(u16::MAX))?;
    bounded("the bytes of a chain", chain_key.len(), limits::CHAIN_BYTES)?;
    bounded("the bytes of a display name", review.chain.principal.display.len(), limits::WORD_BYTES)?;
    bounded("the bytes of a summary", review.summary.len(), limits::SENTENCE_BYTES)?;
    bounded("rules of one review", review.needed.len(), limits::NEEDED_RULES)?;
    review.needed.iter().try_for_each(|rule| bounded("the bytes of a rule's name", rule.len(), limits::WORD_BYTES))
}

/// Refuses a review for which there is no room. Approved reviews count until they are used or expire: they, too, keep
/// the complete text.
async fn open_room(connection: &mut SqliteConnection, chain_key: &[u8], bytes: u64) -> Result<(), CatalogError> {
    let query = "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(chain_key = ?1), 0),
           coalesce(sum(CASE WHEN chain_key = ?1 THEN bytes ELSE 0 END), 0)
         FROM reviews WHERE state IN ('pending', 'approved')";
    let row = sqlx::query(query).bind(chain_key).fetch_one(connection).await?;
    let number = |column: usize| forms::count(row.try_get::<i64, _>(column)?);
    let checks = [
        ("open reviews", number(0)?.saturating_add(1), limits::OPEN_REVIEWS),
        ("bytes of open reviews", number(1)?.saturating_add(bytes), limits::OPEN_REVIEW_BYTES),
        ("open reviews of a chain", number(2)?.saturating_add(1), limits::OPEN_REVIEWS_PER_CHAIN),
        ("bytes of open reviews of a chain", number(3)?.saturating_add(bytes), limits::OPEN_REVIEW_BYTES_PER_CHAIN),
    ];
    match checks.into_iter().find(|(_, wanted, max)| wanted > max) {
        Some((what, _, max)) => Err(CatalogError::Limit { what, max }),
        None => Ok(()),
    }
}

fn line(row: &SqliteRow) -> Result<ReviewLine, CatalogError> {
    Ok(ReviewLine {
        id: forms::review_id(row)?,
        session: forms::session_id(row, "session")?,
        command: CommandId(forms::count(row.try_get("command")?)?),
        resource: resource(row)?,
        chain: forms::chain_from_json(row.try_get("chain")?)?,
        digest: forms::digest(row, "digest")?,
        needed: forms::words_from_json(row.try_get("needed")?)?,
        preview: row.try_get("preview")?,
        bytes: forms::count(row.try_get("bytes")?)?,
        summary: row.try_get("summary")?,
        asked_at: Timestamp(row.try_get("asked_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp),
        uses: row.try_get("uses")?,
        state: state(row)?,
        approvals: forms::count(row.try_get("approvals")?)?,
    })
}

fn approval(row: &SqliteRow) -> Result<Approval, CatalogError> {
    Ok(Approval {
        rule: row.try_get("rule")?,
        reviewer: forms::principal_from_json(row.try_get("reviewer")?)?,
        assurance: forms::assurance(row.try_get("assurance")?)?,
        key: row.try_get("key")?,
        signature: row.try_get("signature")?,
        at: Timestamp(row.try_get("at")?),
        entry: entry(row)?,
    })
}

fn entry(row: &SqliteRow) -> Result<Option<EntryRef>, CatalogError> {
    let (index, leaf): (Option<i64>, Option<Vec<u8>>) = (row.try_get("entry")?, row.try_get("leaf")?);
    let (Some(index), Some(leaf)) = (index, leaf) else { return Ok(None) };
    let damaged = CatalogError::Corrupt("the entry of an approval");
    let (Ok(index), Ok(leaf)) = (u64::try_from(index), <[u8; 32]>::try_from(leaf)) else { return Err(damaged) };
    Ok(Some(EntryRef { index, leaf: Digest(leaf) }))
}

fn resource(row: &SqliteRow) -> Result<ResourceName, CatalogError> {
    ResourceName::parse(row.try_get("resource")?).ok_or(CatalogError::Corrupt("the name of a resource"))
}

fn state(row: &SqliteRow) -> Result<ReviewState, CatalogError> {
    ReviewState::parse(row.try_get("state")?).ok_or(CatalogError::Corrupt("the state of a review"))
}
