//! What the masker and the rules must know of a PostgreSQL database: its relations and how values travel between them.
//!
//! Read over a connection of the gateway's own, shared by all sessions of the resource, read again when something
//! changed. It holds names, numbers and dependencies; never a value.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use chancery_mask::{
    AttributeRow, Catalog, CatalogInput, GeneratedColumn, MaskRules, RelationRow, ViewColumn, ViewDependency,
};
use chancery_model::TableName;
use chancery_wire_pg::{Fetch, FetchError, FetchLimits, FetchStep, Row, frame};

use crate::dial::{DialFailure, dial};
use crate::gateway::Shared;
use crate::settings::ResourceSettings;
use crate::stream::Stream;

/// Changes that nobody told us of are seen after this time at the latest, by new sessions.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long a lock on a relation may keep the reading of view definitions.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '2s'";
/// SQLSTATE of a lock that was not to be had in that time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Relations that statements of our sessions filled with tagged values.
const TAINTED_MAX: usize = 100_000;

/// OIDs from here on are of the database's own objects (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16_384;
/// Views whose columns are traced; further ones carry the tags of everything they use.
const VIEWS_MAX: usize = 5_000;
const DESCRIPTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogFailure {
    #[error("{0}")]
    Dial(#[from] DialFailure),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("a catalog row is not as expected")]
    Row,
    #[error("a query text cannot be sent")]
    Query,
    #[error("no answer in time")]
    Timeout,
}

/// The catalog of one resource, kept up to date.
pub(crate) struct Lineage {
    /// How long a reading may take.
    wait: Duration,
    state: Mutex<State>,
    /// Held while it is read, so that those who come meanwhile share one reading.
    reading: tokio::sync::Mutex<()>,
    /// Grows with every catalog, so that a session sees without a lock that there is a newer one.
    version: AtomicU64,
    /// Grows with every definition that a session made.
    definitions: AtomicU64,
}

#[derive(Default)]
struct State {
    catalog: Option<Arc<Catalog>>,
    /// What it was made from.
    input: Option<Arc<CatalogInput>>,
    /// When the last reading began.
    begun: Option<Instant>,
    /// How many definitions were made before it began.
    definitions: u64,
    tainted: HashSet<TableName>,
}

/// Which catalog a session was given or promised: one after the other, and the definitions it covers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Version {
    catalog: u64,
    definitions: u64,
}

/// What a session finds when it looks for another catalog.
pub(crate) enum Found {
    Newer(Arc<Catalog>),
    /// None covers a definition that was made since.
    Outdated,
}

impl Lineage {
    /// A catalog that was not read yet.
    pub(crate) fn new(wait: Duration) -> Self {
        Self {
            wait,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            version: AtomicU64::new(0),
            definitions: AtomicU64::new(0),
        }
    }

    /// The catalog as last read, if that is not too long ago; reads it otherwise.
    pub(crate) async fn current(
        &self,
        shared: &Arc<Shared>,
        resource: &ResourceSettings,
    ) -> Result<Arc<Catalog>, CatalogFailure> {
        {
            let state = self.lock();
            if let (Some(catalog), Some(begun)) = (&state.catalog, state.begun)
                && begun.elapsed() < AGE_MAX
                && state.definitions >= self.definitions.load(Ordering::Acquire)
            {
                return Ok(catalog.clone());
            }
        }
        self.refresh(shared, resource).await
    }

    /// Reads it, unless a reading that began after this call was made has already ended.
    pub(crate) async fn refresh(
        &self,
        shared: &Arc<Shared>,
        resource: &ResourceSettings,
    ) -> Result<Arc<Catalog>, CatalogFailure> {
        let asked = Instant::now();
        self.read_unless(shared, resource, |state| state.begun.is_some_and(|begun| begun > asked)).await
    }

    /// The catalog as last read, if every definition so far was made before that; reads it otherwise.
    pub(crate) async fn renew(
        &self,
        shared: &Arc<Shared>,
        resource: &ResourceSettings,
    ) -> Result<Arc<Catalog>, CatalogFailure> {
        let wanted = self.definitions.load(Ordering::Acquire);
        self.read_unless(shared, resource, |state| state.definitions >= wanted).await
    }

    /// Those who come while it is read share that reading, if what it gives will do.
    async fn read_unless(
        &self,
        shared: &Arc<Shared>,
        resource: &ResourceSettings,
        will_do: impl Fn(&State) -> bool,
    ) -> Result<Arc<Catalog>, CatalogFailure> {
        let _reading = self.reading.lock().await;
        let read = {
            let state = self.lock();
            state.catalog.clone().filter(|_| will_do(&state))
        };
        match read {
            Some(catalog) => Ok(catalog),
            None => self.read(shared, resource).await,
        }
    }

    /// Reads it. One at a time.
    async fn read(&self, shared: &Arc<Shared>, resource: &ResourceSettings) -> Result<Arc<Catalog>, CatalogFailure> {
        let (begun, definitions) = (Instant::now(), self.definitions.load(Ordering::Acquire));
        let reading = tokio::time::timeout(self.wait, read(shared, resource, &resource.mask));
        let input = reading.await.unwrap_or(Err(CatalogFailure::Timeout))?;
        let mut state = self.lock();
        state.input = Some(Arc::new(input));
        state.begun = Some(begun);
        state.definitions = definitions;
        Ok(self.build(&mut state, &resource.mask))
    }

    /// Makes the catalog out of what was read and what was noted.
    fn build(&self, state: &mut State, rules: &MaskRules) -> Arc<Catalog> {
        let mut input = state.input.as_deref().cloned().unwrap_or_default();
        input.tainted = state.tainted.iter().cloned().collect();
        input.earlier = state.catalog.take();
        let catalog = Arc::new(Catalog::build(input, rules));
        state.catalog = Some(catalog.clone());
        self.version.fetch_add(1, Ordering::Release);
        catalog
    }

    /// A session's definition is done: a catalog whose reading began before this is outdated for everybody.
    /// The session that made it, whose version this is, sees to it by itself that it reads another.
    pub(crate) fn outdate(&self, own: &mut Version) {
        let before = self.definitions.fetch_add(1, Ordering::AcqRel);
        if own.definitions == before {
            own.definitions = before + 1;
        }
    }

    /// Whether there is another catalog than that of this version, or should be.
    pub(crate) fn newer(&self, than: &mut Version) -> Option<Found> {
        let catalog = self.version.load(Ordering::Acquire);
        let definitions = self.definitions.load(Ordering::Acquire);
        if (catalog, definitions) == (than.catalog, than.definitions) {
            return None;
        }
        let state = self.lock();
        if than.definitions != definitions && state.definitions < definitions {
            than.definitions = definitions;
            return Some(Found::Outdated);
        }
        *than = Version { catalog, definitions };
        state.catalog.clone().map(Found::Newer)
    }

    /// Notes relations that are filled with values of tagged ones, and tells all sessions. The notes only grow until the
    /// gateway is started again; past their bound the relation is noted no more.
    pub(crate) fn taint(&self, tables: Vec<TableName>, rules: &MaskRules) {
        let mut state = self.lock();
        let before = state.tainted.len();
        for table in tables {
            if state.tainted.len() < TAINTED_MAX {
                state.tainted.insert(table);
            }
        }
        if state.tainted.len() > before && state.catalog.is_some() {
            self.build(&mut state, rules);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RELATIONS: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','v','m','f','p','S','t')";
const ATTRIBUTES: &str = "SELECT a.attrelid, a.attnum, a.attname, a.atttypid FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r','v','m','f','p','S','t')";
const DEFINITIONS: &str = "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c \
     WHERE c.oid >= 16384 AND c.relkind IN ('v','m')";
const INHERITS: &str = "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits";
const DEPENDS: &str = "SELECT DISTINCT r.ev_class, d.refobjid, d.refobjsubid FROM pg_catalog.pg_depend d \
     JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
     WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class";
const OPAQUE: &str = "SELECT DISTINCT r.ev_class FROM pg_catalog.pg_depend d \
     JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid \
     WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
     AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
     AND p.oid >= 16384 \
     UNION SELECT r.ev_class FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
     WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
     AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.refobjid >= 16384";
// Deferred constraints are triggers, too: a unique or exclusion constraint's own, and those of a foreign key on either side.
const DEFERRING: &str = "SELECT DISTINCT t.tgrelid FROM pg_catalog.pg_trigger t WHERE t.tgdeferrable";
// Objects of the database's own have OIDs from 16384 on (`FirstNormalObjectId`), whatever schema they are in.
// The functions of `information_schema` can be dropped, unlike those of `pg_catalog`, and others put in their place.
const CUSTOM_CALLS: &str = "SELECT p.proname FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 \
     AND (p.proname IN (SELECT b.proname FROM pg_catalog.pg_proc b WHERE b.oid < 16384) OR p.pronamespace IN \
     (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'information_schema')) \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
     AND d.objid = p.oid AND d.deptype = 'e') \
     UNION SELECT o.oprname FROM pg_catalog.pg_operator o WHERE o.oid >= 16384 \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass \
     AND d.objid = o.oid AND d.deptype = 'e')";
const CUSTOM_FIELDS: &str = "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0] WHERE p.oid >= 16384 AND t.typtype IN ('c', 'd', 'p') \
     AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1 \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
     AND d.objid = p.oid AND d.deptype = 'e')";
const CUSTOM_CASTS: &str = "SELECT c.oid FROM pg_catalog.pg_cast c WHERE c.oid >= 16384 AND c.castfunc >= 16384 \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass \
     AND d.objid = c.oid AND d.deptype = 'e') LIMIT 1";
// A generated column whose expression calls a function of the database's own, however immutable it says it is.
const OPAQUE_GENERATED: &str = "SELECT DISTINCT a.attrelid FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid \
     AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384 \
     WHERE a.attgenerated <> '' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e \
     WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')";
// Up to PostgreSQL 14 the dependency is the column's own, since then it is its default's.
const GENERATED: &str = "SELECT a.attrelid, a.attnum, d.refobjsubid FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid \
     AND d.objsubid = a.attnum AND d.refclassid = d.classid AND d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum \
     WHERE a.attgenerated <> '' \
     UNION SELECT a.attrelid, a.attnum, d.refobjsubid FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid \
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid \
     AND d.refobjsubid <> a.attnum WHERE a.attgenerated <> ''";

/// Reads everything in one snapshot.
async fn read(
    shared: &Arc<Shared>,
    resource: &ResourceSettings,
    rules: &MaskRules,
) -> Result<CatalogInput, CatalogFailure> {
    let parameters = vec![("application_name".to_owned(), "chancery catalog".to_owned())];
    let (mut stream, _ready) = dial(shared, resource, parameters).await?;
    fetch(&mut stream, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut input = CatalogInput::default();
    for row in fetch(&mut stream, RELATIONS).await? {
        let kind = text(&row, 3)?.chars().next().ok_or(CatalogFailure::Row)?;
        let (schema, name) = (text(&row, 1)?.to_owned(), text(&row, 2)?.to_owned());
        input.relations.push(RelationRow { oid: number(&row, 0)?, schema, name, kind });
    }
    for row in fetch(&mut stream, ATTRIBUTES).await? {
        let name = text(&row, 2)?.to_owned();
        let (relation, number_, type_oid) = (number(&row, 0)?, number(&row, 1)?, number(&row, 3)?);
        input.attributes.push(AttributeRow { relation, number: number_, name, type_oid });
    }
    for row in fetch(&mut stream, INHERITS).await? {
        input.inherits.push((number(&row, 0)?, number(&row, 1)?));
    }
    for row in fetch(&mut stream, DEPENDS).await? {
        let (view, base) = (number(&row, 0)?, number(&row, 1)?);
        input.depends.push(ViewDependency { view, base, number: number(&row, 2)? });
    }
    for row in fetch(&mut stream, OPAQUE).await? {
        input.opaque.push(number(&row, 0)?);
    }
    for row in fetch(&mut stream, OPAQUE_GENERATED).await? {
        input.opaque.push(number(&row, 0)?);
    }
    for row in fetch(&mut stream, DEFERRING).await? {
        input.deferring.push(number(&row, 0)?);
    }
    for row in fetch(&mut stream, CUSTOM_CALLS).await? {
        input.customs.calls.push(text(&row, 0)?.to_owned());
    }
    for row in fetch(&mut stream, CUSTOM_FIELDS).await? {
        input.customs.fields.push(text(&row, 0)?.to_owned());
    }
    input.customs.casts = !fetch(&mut stream, CUSTOM_CASTS).await?.is_empty();
    for row in fetch(&mut stream, GENERATED).await? {
        let relation = number(&row, 0)?;
        input.generated.push(GeneratedColumn { relation, number: number(&row, 1)?, base: number(&row, 2)? });
    }
    views(&mut stream, &mut input, rules).await?;
    stream.shutdown().await;
    Ok(input)
}

/// Reads what views are made of. The server does not list dependencies on its own relations, so these are read from the
/// text. For columns of tagged views that are plain copies of a base column, the server analyses the view's own query,
/// without running it, and describes where the columns come from; what it cannot trace stays with the tags of everything
/// that the view uses.
async fn views(stream: &mut Stream, input: &mut CatalogInput, rules: &MaskRules) -> Result<(), CatalogFailure> {
    if !rules.tags_columns() {
        return Ok(());
    }
    let mut definitions = Vec::new();
    // The server locks what a view reads to spell it out. Somebody who has a table for himself for long must not keep
    // everybody out: nothing is known of any view then, until the catalog is read again.
    fetch(stream, LOCK_WAIT).await?;
    let rows = match fetch(stream, DEFINITIONS).await {
        Err(CatalogFailure::Fetch(FetchError::Server(report))) if report.sqlstate.as_str() == LOCK_NOT_AVAILABLE => {
            let views = input.relations.iter().filter(|one| one.oid >= FIRST_NORMAL_OID && "vm".contains(one.kind));
            input.opaque.extend(views.map(|view| view.oid));
            return Ok(());
        }
        rows => rows?,
    };
    for row in rows {
        definitions.push((number::<u32>(&row, 0)?, text(&row, 1)?.trim_end().trim_end_matches(';').to_owned()));
    }
    let of_system = input.relations.iter().filter(|relation| relation.oid < FIRST_NORMAL_OID);
    let of_system: HashMap<&str, u32> = of_system.map(|relation| (relation.name.as_str(), relation.oid)).collect();
    for (view, definition) in &definitions {
        let facts = chancery_sql::read(definition, &chancery_model::Settings::default());
        if facts.why_unreadable().is_some() || facts.is_opaque() {
            input.opaque.push(*view);
        }
        let bases = facts.tables().filter_map(|table| of_system.get(table.name.as_str()));
        input.depends.extend(bases.map(|base| ViewDependency { view: *view, base: *base, number: 0 }));
    }
    let tagged = Catalog::build(input.clone(), rules);
    definitions.retain(|(view, _)| tagged.is_tagged(*view));
    for (view, definition) in definitions.iter().take(VIEWS_MAX) {
        // A failed analysis ends the transaction; what was found so far holds.
        let Some(origins) = describe(stream, definition).await? else { return Ok(()) };
        for (column, (base, base_number)) in origins.into_iter().enumerate() {
            if let (true, Ok(number)) = (base > 0 && base_number > 0, i16::try_from(column + 1)) {
                input.view_columns.push(ViewColumn { view: *view, number, base, base_number });
            }
        }
    }
    Ok(())
}

/// The origins (relation, attribute) of a query's columns, as the server tells them; `None` if it cannot be analysed.
async fn describe(stream: &mut Stream, sql: &str) -> Result<Option<Vec<(u32, i16)>>, CatalogFailure> {
    let mut out = BytesMut::new();
    frame::parse(&mut out, "", sql);
    frame::describe(&mut out, b'S', b"");
    frame::sync(&mut out);
    stream.write_all(&out).await?;
    let mut pending = BytesMut::new();
    let mut origins = None;
    loop {
        while let Some(found) = frame::next_frame(&pending, DESCRIPTION_BYTES_MAX).map_err(|_| CatalogFailure::Row)? {
            let body = found.body(&pending);
            match found.tag {
                b'T' => origins = Some(row_origins(body).ok_or(CatalogFailure::Row)?),
                b'E' => origins = None,
                b'Z' => return Ok(origins),
                _ => {}
            }
            drop(pending.split_to(found.range.end));
        }
        let chunk = stream.chunk().await?;
        if chunk.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        pending.extend_from_slice(&chunk);
    }
}

/// The origins in a RowDescription (protocol manual, message formats): name, relation, attribute, type, size, modifier,
/// format.
fn row_origins(body: &[u8]) -> Option<Vec<(u32, i16)>> {
    let mut cursor = frame::Cursor::new(body);
    let count = cursor.count16().ok()?;
    let mut origins = Vec::new();
    for _ in 0..count {
        cursor.string().ok()?;
        origins.push((cursor.int32().ok()?.cast_unsigned(), cursor.int16().ok()?));
        cursor.take(12).ok()?;
    }
    cursor.finish().ok()?;
    Some(origins)
}

async fn fetch(stream: &mut Stream, sql: &str) -> Result<Vec<Row>, CatalogFailure> {
    let limits = FetchLimits { rows_max: 2_000_000, bytes_max: 256 * 1024 * 1024 };
    let (mut fetch, bytes) = Fetch::new(sql, limits).map_err(|_| CatalogFailure::Query)?;
    stream.write_all(&bytes).await?;
    loop {
        let chunk = stream.chunk().await?;
        if chunk.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        match fetch.receive(&chunk) {
            FetchStep::Wait => {}
            FetchStep::Done(fetched) => return Ok(fetched.rows),
            FetchStep::Failed(error) => return Err(error.into()),
        }
    }
}

fn text(row: &Row, column: usize) -> Result<&str, CatalogFailure> {
    let value = row.get(column).and_then(Option::as_ref).ok_or(CatalogFailure::Row)?;
    std::str::from_utf8(value).map_err(|_| CatalogFailure::Row)
}

fn number<T: std::str::FromStr>(row: &Row, column: usize) -> Result<T, CatalogFailure> {
    text(row, column)?.parse().map_err(|_| CatalogFailure::Row)
}
