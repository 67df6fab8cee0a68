//! The tables, and how an older file becomes a newer one.

use sqlx::{Connection, Row, SqliteConnection};

use super::CatalogError;

/// `CHCR`: tells a catalog from any other SQLite file.
const APPLICATION: i64 = 0x4348_4352;

/// Step `n` brings a file from version `n` to `n + 1`. Steps that were released never change; new ones are appended.
const STEPS: [&str; 4] = [FIRST, DECISIONS, SEAL_KEYS, RETENTION];

const FIRST: &str = "
CREATE TABLE chains (
    chain_id BLOB PRIMARY KEY CHECK (length(chain_id) = 16),
    chain TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE principals (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    display TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    resource TEXT NOT NULL,
    chain_id BLOB NOT NULL CHECK (length(chain_id) = 16),
    chain TEXT NOT NULL,
    client TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    ending TEXT,
    commands INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    CHECK ((ended_at IS NULL) = (ending IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_open ON sessions (id) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE reviews (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    session BLOB NOT NULL CHECK (length(session) = 16),
    command INTEGER NOT NULL,
    resource TEXT NOT NULL,
    chain TEXT NOT NULL,
    chain_key BLOB NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    rules BLOB NOT NULL CHECK (length(rules) = 32),
    needed TEXT NOT NULL,
    summary TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    uses INTEGER NOT NULL CHECK (uses >= 0),
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'withdrawn', 'used')),
    changed INTEGER NOT NULL,
    masked INTEGER NOT NULL CHECK (masked IN (0, 1)),
    ended_at INTEGER,
    denied_by TEXT,
    denied_why TEXT,
    bytes INTEGER NOT NULL,
    preview TEXT NOT NULL,
    parameters TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX reviews_open ON reviews (expires_at) WHERE state IN ('pending', 'approved');
CREATE INDEX reviews_state ON reviews (state, asked_at);
CREATE INDEX reviews_asked ON reviews (asked_at);
CREATE INDEX reviews_session ON reviews (session);
CREATE INDEX reviews_digest ON reviews (digest);
CREATE INDEX reviews_changed ON reviews (changed);
CREATE INDEX reviews_unmasked ON reviews (id) WHERE masked = 0;
CREATE TABLE approvals (
    review BLOB NOT NULL REFERENCES reviews (id) ON DELETE CASCADE,
    rule TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    assurance TEXT NOT NULL,
    key TEXT,
    signature TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (review, rule, issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('reviews', 0);
CREATE TABLE reviewer_keys (
    fingerprint TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    line TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    added_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reviewer_keys_of ON reviewer_keys (issuer, subject);
CREATE TABLE secrets (
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    envelope BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'retired')),
    PRIMARY KEY (name, version)
) STRICT;
CREATE TABLE issuers (
    issuer TEXT PRIMARY KEY,
    jwks TEXT NOT NULL,
    fetched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id = 1128809298;
PRAGMA user_version = 1;
";

/// Where the decisions of reviewers stand in the ledger.
const DECISIONS: &str = "
ALTER TABLE approvals ADD COLUMN entry INTEGER;
ALTER TABLE approvals ADD COLUMN leaf BLOB CHECK (leaf IS NULL OR length(leaf) = 32);
PRAGMA user_version = 2;
";

/// The keys without which sealed originals cannot be opened by anybody.
const SEAL_KEYS: &str = "
CREATE TABLE seal_keys (
    session BLOB PRIMARY KEY CHECK (length(session) = 16),
    resource TEXT NOT NULL,
    envelope BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
";

const RETENTION: &str = "
CREATE TABLE recording_files (
    file INTEGER PRIMARY KEY CHECK (file >= 0),
    bytes INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    whole INTEGER NOT NULL CHECK (whole IN (0, 1)),
    pruned_entry INTEGER,
    pruned_at INTEGER,
    CHECK ((pruned_entry IS NULL) = (pruned_at IS NULL))
) STRICT;
CREATE TABLE recording_sessions (
    session BLOB NOT NULL CHECK (length(session) = 16),
    file INTEGER NOT NULL REFERENCES recording_files (file) ON DELETE CASCADE,
    PRIMARY KEY (session, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX recording_sessions_in ON recording_sessions (file);
CREATE TABLE holds (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    session BLOB CHECK (length(session) = 16),
    issuer TEXT,
    subject TEXT,
    since INTEGER,
    until INTEGER,
    reason TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    set_at INTEGER NOT NULL,
    set_by TEXT NOT NULL,
    lifted_at INTEGER,
    lifted_by TEXT,
    lift_reason TEXT,
    lift_salt BLOB CHECK (length(lift_salt) = 32),
    CHECK ((session IS NOT NULL) + (subject IS NOT NULL) + (since IS NOT NULL) = 1),
    CHECK ((issuer IS NULL) = (subject IS NULL) AND (since IS NULL) = (until IS NULL)),
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL) AND (lifted_at IS NULL) = (lift_reason IS NULL)
       AND (lifted_at IS NULL) = (lift_salt IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX holds_in_force ON holds (id) WHERE lifted_at IS NULL;
CREATE TABLE ledger_segments (
    first INTEGER PRIMARY KEY CHECK (first >= 0),
    last_at INTEGER NOT NULL,
    rest INTEGER NOT NULL CHECK (rest IN (0, 1))
) STRICT;
CREATE TABLE retention_runs (
    entry INTEGER PRIMARY KEY,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    how TEXT,
    due INTEGER NOT NULL,
    pruned INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 4;
";

/// Makes the tables in a file that has none.
pub(super) async fn initialise(connection: &mut SqliteConnection) -> Result<(), CatalogError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let tables = number(&mut transaction, "SELECT count(*) FROM sqlite_schema").await?;
    if tables != 0 || number(&mut transaction, "PRAGMA application_id").await? != 0 {
        return Err(CatalogError::Conflict("there is a catalog, or another database, already"));
    }
    for step in STEPS {
        sqlx::raw_sql(step).execute(&mut *transaction).await?;
    }
    // If we crash before this commit, the file is still empty and `create` may be repeated.
    transaction.commit().await?;
    Ok(())
}

/// Brings a catalog up to date, all steps in one transaction. Two processes may try at once: the second finds it done.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), CatalogError> {
    let known = STEPS.len() as i64;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if number(&mut transaction, "PRAGMA application_id").await? != APPLICATION {
        return Err(CatalogError::Corrupt("the file is not a catalog"));
    }
    let found = number(&mut transaction, "PRAGMA user_version").await?;
    if found > known {
        return Err(CatalogError::Version { found, known });
    }
    let done = usize::try_from(found).ok().filter(|done| *done > 0);
    let done = done.ok_or(CatalogError::Corrupt("the file has no schema version"))?;
    for step in STEPS.into_iter().skip(done) {
        sqlx::raw_sql(step).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn number(connection: &mut SqliteConnection, query: &'static str) -> Result<i64, CatalogError> {
    Ok(sqlx::query(query).fetch_one(connection).await?.try_get(0)?)
}
