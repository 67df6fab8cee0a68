//! How a review moves and ends. Every move is a compare-and-set in one transaction: of two who try, one wins.
//!
//! A review that ended keeps its complete text only until the caller hands in the masked form with `finish`. If the
//! process dies in between, `ended_unmasked` finds what is left to do.

use chancery_model::{Principal, Review, ReviewId, ReviewState, SessionId, Timestamp};
use sqlx::Row;

use super::reviews::{answerable, bytes_of, load, mark_changed, preview};
use super::{Catalog, CatalogError, Denial, bounded, forms, limits};

/// Which open reviews end together.
enum Which {
    Due(Timestamp),
    PendingOf(SessionId),
    AllPending,
}

impl Catalog {
    /// Moves a review from one state to another. Returns `false` if it was not in `from`, or if it was to be approved
    /// and has expired. Errors: `Conflict` for a move that no review makes: only pending and approved ones move, and
    /// only `consume` makes one used.
    pub async fn set_state(
        &self,
        id: ReviewId,
        from: ReviewState,
        to: ReviewState,
        now: Timestamp,
    ) -> Result<bool, CatalogError> {
        if !may_move(from, to) {
            return Err(CatalogError::Conflict("no review moves from this state to that"));
        }
        let mut transaction = self.begin().await?;
        let query = "UPDATE reviews SET state = ?3, ended_at = CASE WHEN ?3 = 'approved' THEN NULL ELSE ?4 END
             WHERE id = ?1 AND state = ?2 AND (?3 <> 'approved' OR expires_at > ?4)";
        let query = sqlx::query(query).bind(id.0.to_vec()).bind(from.as_str()).bind(to.as_str()).bind(now.0);
        if query.execute(&mut *transaction).await?.rows_affected() != 1 {
            return Ok(false);
        }
        mark_changed(&mut transaction, id).await?;
        transaction.commit().await?;
        self.announce([id]);
        Ok(true)
    }
    /// A reviewer's no: ends a pending review. Errors: `NotFound`; `Conflict` if it is not pending or has expired.
    pub async fn deny(
        &self,
        id: ReviewId,
        by: &Principal,
        reason: &str,
        now: Timestamp,
    ) -> Result<Review, CatalogError> {
        bounded("the bytes of a reason", reason.len(), limits::SENTENCE_BYTES)?;
        let reviewer = forms::principal_to_json(by)?;
        bounded("the bytes of a reviewer", reviewer.len(), limits::CHAIN_BYTES)?;
        let mut transaction = self.begin().await?;
        let mut review = load(&mut transaction, id).await?.ok_or(CatalogError::NotFound("review"))?;
        answerable(&review, now)?;
        let query = "UPDATE reviews SET state = 'denied', ended_at = ?2, denied_by = ?3, denied_why = ?4 WHERE id = ?1";
        let query = sqlx::query(query).bind(id.0.to_vec()).bind(now.0).bind(reviewer).bind(reason);
        query.execute(&mut *transaction).await?;
        mark_changed(&mut transaction, id).await?;
        transaction.commit().await?;
        self.announce([id]);
        review.state = ReviewState::Denied;
        Ok(review)
    }
    /// Who said no, and why.
    pub async fn denial(&self, id: ReviewId) -> Result<Option<Denial>, CatalogError> {
        let query = "SELECT denied_by, denied_why, ended_at FROM reviews WHERE id = ?1 AND denied_by IS NOT NULL";
        let query = sqlx::query(query).bind(id.0.to_vec());
        let Some(row) = query.fetch_optional(&mut *self.reader().await?).await? else { return Ok(None) };
        Ok(Some(Denial {
            by: forms::principal_from_json(row.try_get("denied_by")?)?,
            reason: row.try_get("denied_why")?,
            at: Timestamp(row.try_get("ended_at")?),
        }))
    }
    /// Takes one use of an approval; the last one makes the review used. Returns whether the caller got it: exactly one
    /// caller gets each use, among all tasks and processes. It is on disk when this returns, so that no crash gives the
    /// use back.
    pub async fn consume(&self, id: ReviewId, now: Timestamp) -> Result<bool, CatalogError> {
        let mut transaction = self.begin().await?;
        let query = "UPDATE reviews SET uses = uses - 1, state = CASE WHEN uses = 1 THEN 'used' ELSE state END,
               ended_at = CASE WHEN uses = 1 THEN ?2 END
             WHERE id = ?1 AND state = 'approved' AND uses > 0 AND expires_at > ?2";
        let query = sqlx::query(query).bind(id.0.to_vec()).bind(now.0);
        if query.execute(&mut *transaction).await?.rows_affected() != 1 {
            return Ok(false);
        }
        mark_changed(&mut transaction, id).await?;
        transaction.commit().await?;
        self.announce([id]);
        Ok(true)
    }
    /// Ends what is open and past its time, and returns it. The caller writes the entries and calls `finish`.
    pub async fn expire_due(&self, now: Timestamp) -> Result<Vec<ReviewId>, CatalogError> {
        self.end_all(&Which::Due(now), ReviewState::Expired, now).await
    }
    /// Withdraws what a session left pending: its client cancelled or went away.
    pub async fn withdraw_pending_of(&self, session: SessionId, now: Timestamp) -> Result<Vec<ReviewId>, CatalogError> {
        self.end_all(&Which::PendingOf(session), ReviewState::Withdrawn, now).await
    }
    /// Withdraws every pending review of a command: the gateway starts, and no client waits any more. Approved ones stay,
    /// and those of command 0, which nobody waits for.
    pub async fn withdraw_all_pending(&self, now: Timestamp) -> Result<Vec<ReviewId>, CatalogError> {
        self.end_all(&Which::AllPending, ReviewState::Withdrawn, now).await
    }
    /// Ends a review and puts the masked form in the place of its complete text and parameters. A review that is in
    /// `to` already gets the masked form only. Returns `false` if that was done before. Errors: `NotFound`; `Conflict`
    /// if it ended otherwise, or if `to` is not an end that it can come to (only `consume` makes a review `Used`).
    pub async fn finish(
        &self,
        id: ReviewId,
        to: ReviewState,
        masked_text: &str,
        masked_parameters: &[String],
        now: Timestamp,
    ) -> Result<bool, CatalogError> {
        let bytes = bytes_of(masked_text, masked_parameters);
        bounded("the bytes of a command under review", bytes, limits::REVIEW_BYTES)?;
        bounded("parameters of a command under review", masked_parameters.len(), usize::from(u16::MAX))?;
        let mut transaction = self.begin().await?;
        let query = sqlx::query("SELECT state, masked FROM reviews WHERE id = ?1").bind(id.0.to_vec());
        let row = query.fetch_optional(&mut *transaction).await?.ok_or(CatalogError::NotFound("review"))?;
        let state = ReviewState::parse(row.try_get("state")?).ok_or(CatalogError::Corrupt("the state of a review"))?;
        if !is_end(to) || (state != to && !may_move(state, to)) {
            return Err(CatalogError::Conflict("the review cannot end like this"));
        }
        if state == to && row.try_get::<bool, _>("masked")? {
            return Ok(false);
        }
        let query = "UPDATE reviews SET state = ?2, ended_at = coalesce(ended_at, ?3), masked = 1, bytes = ?4,
               preview = ?5, parameters = ?6, text = ?7 WHERE id = ?1";
        sqlx::query(query)
            .bind(id.0.to_vec())
            .bind(to.as_str())
            .bind(now.0)
            .bind(forms::column(bytes as u64)?)
            .bind(preview(masked_text))
            .bind(forms::words_to_json(masked_parameters)?)
            .bind(masked_text)
            .execute(&mut *transaction)
            .await?;
        mark_changed(&mut transaction, id).await?;
        transaction.commit().await?;
        self.announce([id]);
        Ok(true)
    }
    /// Reviews that ended but still hold their complete text; at most [`limits::LISTING`]. Empty but for what other
    /// processes ended a moment ago, and after a crash.
    pub async fn ended_unmasked(&self) -> Result<Vec<ReviewId>, CatalogError> {
        let query = "SELECT id FROM reviews WHERE masked = 0 AND state NOT IN ('pending', 'approved') LIMIT ?1";
        let query = sqlx::query(query).bind(limits::LISTING);
        query.fetch_all(&mut *self.reader().await?).await?.iter().map(forms::review_id).collect()
    }
    /// Forgets masked reviews that ended before an instant, a batch at most. Returns how many; zero means done. What
    /// was approved and done stands in the ledger.
    pub async fn prune_reviews(&self, before: Timestamp) -> Result<u64, CatalogError> {
        let query = "DELETE FROM reviews WHERE id IN (SELECT id FROM reviews WHERE masked = 1 AND ended_at < ?1
               AND state NOT IN ('pending', 'approved') LIMIT ?2)";
        let query = sqlx::query(query).bind(before.0).bind(limits::BATCH);
        Ok(query.execute(&self.writer).await?.rows_affected())
    }

    async fn end_all(&self, which: &Which, to: ReviewState, now: Timestamp) -> Result<Vec<ReviewId>, CatalogError> {
        let mut ended = Vec::new();
        loop {
            let mut transaction = self.begin().await?;
            let query = match which {
                Which::Due(at) => {
                    let due =
                        "SELECT id FROM reviews WHERE state IN ('pending', 'approved') AND expires_at <= ?2 LIMIT ?1";
                    sqlx::query(due).bind(limits::BATCH).bind(at.0)
                }
                Which::PendingOf(session) => {
                    let of = "SELECT id FROM reviews WHERE session = ?2 AND state = 'pending' LIMIT ?1";
                    sqlx::query(of).bind(limits::BATCH).bind(session.0.to_vec())
                }
                Which::AllPending => {
                    sqlx::query("SELECT id FROM reviews WHERE state = 'pending' AND command > 0 LIMIT ?1")
                        .bind(limits::BATCH)
                }
            };
            let rows = query.fetch_all(&mut *transaction).await?;
            let batch = rows.iter().map(forms::review_id).collect::<Result<Vec<_>, _>>()?;
            for id in &batch {
                let query = sqlx::query("UPDATE reviews SET state = ?2, ended_at = ?3 WHERE id = ?1");
                let query = query.bind(id.0.to_vec()).bind(to.as_str()).bind(now.0);
                query.execute(&mut *transaction).await?;
                mark_changed(&mut transaction, *id).await?;
            }
            transaction.commit().await?;
            self.announce(batch.iter().copied());
            let full = batch.len() as i64 == limits::BATCH;
            ended.extend(batch);
            if !full {
                return Ok(ended);
            }
        }
    }
}

fn is_end(state: ReviewState) -> bool {
    !matches!(state, ReviewState::Pending | ReviewState::Approved)
}

/// The moves that callers may ask for. `Used` is not among them: it is reached by `consume` alone.
fn may_move(from: ReviewState, to: ReviewState) -> bool {
    use ReviewState::{Approved, Denied, Expired, Pending, Used, Withdrawn};
    match from {
        Pending => matches!(to, Approved | Denied | Expired | Withdrawn),
        Approved => matches!(to, Expired | Withdrawn),
        Denied | Expired | Withdrawn | Used => false,
    }
}
