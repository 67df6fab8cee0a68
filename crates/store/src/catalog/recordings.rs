//! Which sessions have blocks in which closed file of recordings, and which files were pruned. Made from the files
//! themselves, once for each; what is lost of it is made again. Runs of retention, too, for those who ask how it went.

use std::collections::BTreeSet;

use chancery_model::{Digest, SessionId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, CatalogError, HoldScope, LegalHold, forms, limits, names};

/// A closed file of recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// Its number.
    pub file: u64,
    /// Its length, without what a crash left behind the last whole block.
    pub bytes: u64,
    /// SHA-256 over that.
    pub digest: Digest,
    /// The first instant that it speaks of.
    pub first_at: Timestamp,
    /// The last one.
    pub last_at: Timestamp,
    /// The entry that says that it is pruned, if it is or is about to be.
    pub pruned: Option<u64>,
}

/// A file that a session had blocks in and that was pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrunedFile {
    /// Its number.
    pub file: u64,
    /// The entry that says so.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
}

/// What the catalog knows of the sessions in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Sessions that are open.
    pub open: u64,
    /// Sessions that it knows nothing of.
    pub unknown: u64,
    /// When the last of the others ended.
    pub ended: Option<Timestamp>,
}

/// A run of retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The index of its `retention.run` entry.
    pub entry: u64,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended, and how; `None`: it runs, or its process died.
    pub ended: Option<(Timestamp, String)>,
    /// Files past their time when it began.
    pub due: u64,
    /// Files deleted.
    pub pruned: u64,
    /// Files past their time and kept.
    pub refused: u64,
    /// Bytes deleted.
    pub bytes: u64,
}

impl Catalog {
    /// Keeps what a closed file holds. Of a file that is known nothing changes.
    pub async fn put_recording_file(
        &self,
        file: &RecordingFile,
        sessions: &BTreeSet<SessionId>,
    ) -> Result<(), CatalogError> {
        let number = forms::column(file.file)?;
        let query = "INSERT INTO recording_files (file, bytes, digest, first_at, last_at, whole)
             VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT DO NOTHING";
        sqlx::query(query)
            .bind(number)
            .bind(forms::column(file.bytes)?)
            .bind(file.digest.0.to_vec())
            .bind(file.first_at.0)
            .bind(file.last_at.0)
            .execute(&self.writer)
            .await?;
        let sessions: Vec<&SessionId> = sessions.iter().collect();
        for batch in sessions.chunks(limits::BATCH as usize) {
            let mut transaction = self.begin().await?;
            for session in batch {
                let query = "INSERT INTO recording_sessions (session, file) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                sqlx::query(query).bind(session.0.to_vec()).bind(number).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
        }
        // If we crash before this, the file is not known and is read again.
        let query = sqlx::query("UPDATE recording_files SET whole = 1 WHERE file = ?1").bind(number);
        query.execute(&self.writer).await?;
        Ok(())
    }
    /// The file of this number, if it is known.
    pub async fn recording_file(&self, file: u64) -> Result<Option<RecordingFile>, CatalogError> {
        let query =
            sqlx::query("SELECT * FROM recording_files WHERE file = ?1 AND whole = 1").bind(forms::column(file)?);
        query.fetch_optional(&mut *self.reader().await?).await?.as_ref().map(record).transpose()
    }
    /// What is known of the sessions in a file.
    pub async fn file_facts(&self, file: u64) -> Result<FileFacts, CatalogError> {
        let query = "SELECT count(*) FILTER (WHERE s.id IS NULL) AS unknown,
               count(*) FILTER (WHERE s.id IS NOT NULL AND s.ended_at IS NULL) AS open, max(s.ended_at) AS ended
             FROM recording_sessions r LEFT JOIN sessions s ON s.id = r.session WHERE r.file = ?1";
        let row = sqlx::query(query).bind(forms::column(file)?).fetch_one(&mut *self.reader().await?).await?;
        Ok(FileFacts {
            open: forms::count(row.try_get("open")?)?,
            unknown: forms::count(row.try_get("unknown")?)?,
            ended: row.try_get::<Option<i64>, _>("ended")?.map(Timestamp),
        })
    }
    /// Whether a hold pins a session that has a block in a file, as far as the catalog knows the sessions.
    pub async fn is_held(&self, hold: &LegalHold, file: u64) -> Result<bool, CatalogError> {
        let file = forms::column(file)?;
        let mut reader = self.reader().await?;
        let row = match &hold.scope {
            HoldScope::Session(session) => {
                let query = "SELECT EXISTS (SELECT 1 FROM recording_sessions WHERE file = ?1 AND session = ?2)";
                sqlx::query(query).bind(file).bind(session.0.to_vec()).fetch_one(&mut *reader).await?
            }
            HoldScope::Period(from, to) => {
                let query = "SELECT EXISTS (SELECT 1 FROM recording_sessions r JOIN sessions s ON s.id = r.session
                     WHERE r.file = ?1 AND s.started_at < ?3 AND (s.ended_at IS NULL OR s.ended_at >= ?2))";
                sqlx::query(query).bind(file).bind(from.0).bind(to.0).fetch_one(&mut *reader).await?
            }
            HoldScope::Principal { issuer, subject } => {
                let query = "SELECT DISTINCT s.chain_id AS id, c.chain FROM recording_sessions r
                     JOIN sessions s ON s.id = r.session LEFT JOIN chains c USING (chain_id) WHERE r.file = ?1";
                for row in sqlx::query(query).bind(file).fetch_all(&mut *reader).await? {
                    // A chain that the directory does not know may be anybody's.
                    let Some(chain) = row.try_get::<Option<String>, _>("chain")? else { return Ok(true) };
                    let chain = forms::chain_from_json(&chain)?;
                    if names(&chain, issuer, subject) {
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
        };
        Ok(row.try_get(0)?)
    }
    /// Notes that a file is pruned, by which entry. The first entry stands.
    pub async fn note_pruned(&self, file: u64, entry: u64, at: Timestamp) -> Result<(), CatalogError> {
        let query = "UPDATE recording_files SET pruned_entry = ?2, pruned_at = ?3
             WHERE file = ?1 AND pruned_entry IS NULL";
        let query = sqlx::query(query).bind(forms::column(file)?).bind(forms::column(entry)?).bind(at.0);
        query.execute(&self.writer).await?;
        Ok(())
    }
    /// The pruned files that a session had blocks in, by number; at most [`limits::LISTING`].
    pub async fn pruned_of(&self, session: SessionId) -> Result<Vec<PrunedFile>, CatalogError> {
        let query = "SELECT file, pruned_entry, pruned_at FROM recording_sessions JOIN recording_files USING (file)
             WHERE session = ?1 AND pruned_entry IS NOT NULL ORDER BY file LIMIT ?2";
        let query = sqlx::query(query).bind(session.0.to_vec()).bind(limits::LISTING);
        let rows = query.fetch_all(&mut *self.reader().await?).await?;
        let pruned = |row: &SqliteRow| {
            Ok(PrunedFile {
                file: forms::count(row.try_get("file")?)?,
                entry: forms::count(row.try_get("pruned_entry")?)?,
                at: Timestamp(row.try_get("pruned_at")?),
            })
        };
        rows.iter().map(pruned).collect()
    }
    /// What is remembered of a closed segment of the ledger: the time of its last entry, and whether a run may find
    /// something to drop in it.
    pub async fn ledger_segment(&self, first: u64) -> Result<Option<(Timestamp, bool)>, CatalogError> {
        let query = sqlx::query("SELECT last_at, rest FROM ledger_segments WHERE first = ?1");
        let query = query.bind(forms::column(first)?);
        let Some(row) = query.fetch_optional(&mut *self.reader().await?).await? else { return Ok(None) };
        Ok(Some((Timestamp(row.try_get("last_at")?), row.try_get("rest")?)))
    }
    /// Remembers a closed segment of the ledger.
    pub async fn note_segment(&self, first: u64, last_at: Timestamp, rest: bool) -> Result<(), CatalogError> {
        let query = "INSERT INTO ledger_segments (first, last_at, rest) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET rest = excluded.rest";
        sqlx::query(query).bind(forms::column(first)?).bind(last_at.0).bind(rest).execute(&self.writer).await?;
        Ok(())
    }
    /// Forgets sessions that ended before an instant and of which no recording is left, a batch at most. Returns how many;
    /// zero means done.
    pub async fn prune_unrecorded_sessions(&self, before: Timestamp) -> Result<u64, CatalogError> {
        let query = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended_at < ?1 AND NOT EXISTS
               (SELECT 1 FROM recording_sessions JOIN recording_files USING (file)
                WHERE session = sessions.id AND pruned_entry IS NULL) LIMIT ?2)";
        let query = sqlx::query(query).bind(before.0).bind(limits::BATCH);
        Ok(query.execute(&self.writer).await?.rows_affected())
    }
    /// Notes that a run began, or how far it came.
    pub async fn note_run(&self, run: &RunRecord) -> Result<(), CatalogError> {
        let query = "INSERT INTO retention_runs (entry, began_at, ended_at, how, due, pruned, refused, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at, how = excluded.how, pruned = excluded.pruned,
               refused = excluded.refused, bytes = excluded.bytes";
        sqlx::query(query)
            .bind(forms::column(run.entry)?)
            .bind(run.began_at.0)
            .bind(run.ended.as_ref().map(|(at, _)| at.0))
            .bind(run.ended.as_ref().map(|(_, how)| how.as_str()))
            .bind(forms::column(run.due)?)
            .bind(forms::column(run.pruned)?)
            .bind(forms::column(run.refused)?)
            .bind(forms::column(run.bytes)?)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
    /// The last run.
    pub async fn last_run(&self) -> Result<Option<RunRecord>, CatalogError> {
        let query = sqlx::query("SELECT * FROM retention_runs ORDER BY entry DESC LIMIT 1");
        let Some(row) = query.fetch_optional(&mut *self.reader().await?).await? else { return Ok(None) };
        let count = |column| forms::count(row.try_get(column)?);
        let ended = row.try_get::<Option<i64>, _>("ended_at")?.zip(row.try_get::<Option<String>, _>("how")?);
        Ok(Some(RunRecord {
            entry: count("entry")?,
            began_at: Timestamp(row.try_get("began_at")?),
            ended: ended.map(|(at, how)| (Timestamp(at), how)),
            due: count("due")?,
            pruned: count("pruned")?,
            refused: count("refused")?,
            bytes: count("bytes")?,
        }))
    }
}

fn record(row: &SqliteRow) -> Result<RecordingFile, CatalogError> {
    Ok(RecordingFile {
        file: forms::count(row.try_get("file")?)?,
        bytes: forms::count(row.try_get("bytes")?)?,
        digest: forms::digest(row, "digest")?,
        first_at: Timestamp(row.try_get("first_at")?),
        last_at: Timestamp(row.try_get("last_at")?),
        pruned: row.try_get::<Option<i64>, _>("pruned_entry")?.map(forms::count).transpose()?,
    })
}
