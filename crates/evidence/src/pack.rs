//! Writes down what was derived: tables, their provenance, the controls' results. Not here: the deriving, and where files go.

use std::collections::BTreeMap;
use std::fmt::Write;

use chancery_ledger::{Checkpoint, Hasher, Missing};
use chancery_model::{Digest, Timestamp};

use crate::collect::{Period, Sink};
use crate::control::CONTROLS;
use crate::row::{Columns, json_text};
use crate::{Control, Findings, Population, Value};

/// Rows are gathered up to so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Takes the bytes of files of a pack, in pieces; several files grow at once.
pub trait Output {
    /// More bytes of the file at `path`, which begins with the first piece.
    fn append(&mut self, path: &str, bytes: &[u8]);
}

/// What every derived file says of where it comes from.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The head up to which entries were read.
    pub head: Checkpoint,
    /// Time of the last entry below it.
    pub created_at: Timestamp,
    /// The period asked for.
    pub period: Period,
    /// Ids of the controls asked for; empty: all.
    pub controls: Vec<String>,
    /// Entries that can be of the period and were pruned.
    pub pruned: Option<Missing>,
    /// Whether a copy of the registry of logs is in the pack.
    pub registry: bool,
}

impl Provenance {
    /// Whether a control was asked for.
    pub fn wants(&self, control: &Control) -> bool {
        self.controls.is_empty() || self.controls.iter().any(|id| id == control.id)
    }
}

/// One population as it grows.
struct Table {
    columns: Columns,
    rows: u64,
    left_out: u64,
    first: Option<u64>,
    last: Option<u64>,
    hasher: Hasher,
    json: String,
    csv: String,
}

impl<O: Output> Output for &mut O {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        (**self).append(path, bytes);
    }
}

/// Writes populations.
pub struct Tables<O> {
    out: O,
    tables: BTreeMap<Population, Table>,
}

impl<O> std::fmt::Debug for Tables<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

/// The path of a population's file.
pub fn population_path(population: Population, extension: &str) -> String {
    format!("populations/{}.{extension}", population.about().id)
}

impl<O: Output> Tables<O> {
    /// Begins all of them.
    pub fn new(out: O) -> Self {
        let table = |population: Population| {
            let columns = Columns::new(population.about().columns);
            let mut csv = String::new();
            columns.csv_header(&mut csv);
            let (rows, left_out, hasher) = (0, 0, Hasher::default());
            Table { columns, rows, left_out, first: None, last: None, hasher, json: String::new(), csv }
        };
        Self { out, tables: Population::ALL.into_iter().map(|one| (one, table(one))).collect() }
    }

    /// Where the files go.
    pub fn output(&mut self) -> &mut O {
        &mut self.out
    }

    /// Ends all of them; gives the files back, and how many rows each has.
    pub fn finish(mut self, from: &Provenance) -> (O, BTreeMap<Population, u64>) {
        let mut rows = BTreeMap::new();
        for (population, mut table) in std::mem::take(&mut self.tables) {
            flush(&mut self.out, population, &mut table);
            rows.insert(population, table.rows);
            let ipe = ipe(population, table, from);
            self.out.append(&population_path(population, "ipe.json"), ipe.as_bytes());
        }
        (self.out, rows)
    }
}

impl<O: Output> Sink for Tables<O> {
    fn row(&mut self, population: Population, row: &[Value]) {
        let Some(table) = self.tables.get_mut(&population) else { return };
        table.rows += 1;
        if let Some(Value::Number(entry)) = row.first() {
            table.first.get_or_insert(*entry);
            table.last = Some(*entry);
        }
        table.columns.json(row, &mut table.json);
        table.columns.csv(row, &mut table.csv);
        if table.json.len() >= PIECE_BYTES {
            flush(&mut self.out, population, table);
        }
    }
    fn left_out(&mut self, population: Population) {
        if let Some(table) = self.tables.get_mut(&population) {
            table.left_out += 1;
        }
    }
}

/// A file that stays empty is there, too.
fn flush(out: &mut impl Output, population: Population, table: &mut Table) {
    table.hasher.update(table.json.as_bytes());
    out.append(&population_path(population, "jsonl"), table.json.as_bytes());
    out.append(&population_path(population, "csv"), table.csv.as_bytes());
    table.json.clear();
    table.csv.clear();
}

fn texts(items: &[&str]) -> Value {
    items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>().into()
}

/// `*.ipe.json`: information produced by the entity, and how.
fn ipe(population: Population, table: Table, from: &Provenance) -> String {
    let about = population.about();
    let head = &from.head;
    let digest = |digest: Digest| Value::Text(digest.to_string());
    let fields = [
        ("absent", Value::from(about.absent)),
        ("columns", texts(about.columns)),
        ("criteria", texts(about.criteria)),
        ("first_key", table.first.into()),
        ("generated_at", from.created_at.to_string().into()),
        ("last_key", table.last.into()),
        ("period_from", Timestamp(from.period.from).to_string().into()),
        ("period_to", Timestamp(from.period.to).to_string().into()),
        ("population_id", about.id.into()),
        ("query", about.query.into()),
        ("row_count", table.rows.into()),
        ("sha256", digest(table.hasher.finish())),
        ("system", head.origin.as_str().into()),
        ("timezone", "UTC".into()),
        ("title", about.title.into()),
    ];
    let mut excluded = String::new();
    let _ = write!(excluded, "[{{\"count\":{},\"reason\":\"outside the period\"}}", table.left_out);
    if let Some(Missing { entries, until }) = from.pruned {
        let reason = format!("pruned: entries of unknown kind, written up to {until}");
        let _ = write!(excluded, ",{{\"count\":{entries},\"reason\":\"{reason}\"}}");
    }
    excluded.push(']');
    let mut origins = String::from("[{\"origin\":");
    json_text(&head.origin, &mut origins);
    let _ = write!(origins, ",\"root\":\"{}\",\"size_from\":0,\"size_to\":{}}}]", head.root, head.size);
    let mut all: BTreeMap<&str, String> = fields.iter().map(|(name, value)| (*name, json(value))).collect();
    all.extend([("excluded", excluded), ("origins", origins)]);
    object(&all)
}

fn json(value: &Value) -> String {
    let mut out = String::new();
    value.json(&mut out);
    out
}

/// An object of values that are JSON already.
pub(crate) fn object(fields: &BTreeMap<&str, String>) -> String {
    let mut out = String::from("{");
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        json_text(name, &mut out);
        out.push(':');
        out.push_str(value);
    }
    out.push_str("}\n");
    out
}

const RESULTS: &[&str] =
    &["control", "title", "criteria", "populations", "predicate", "result", "tested", "exceptions", "untested"];
const EXCEPTIONS: &[&str] = &["control", "entry", "at", "what", "disposition", "disposed_by", "disposed_at"];
const MATRIX: &[&str] = &["criterion", "control", "title", "populations", "result", "tested", "exceptions"];

/// `controls/results.jsonl`, `exceptions.csv` and `control-matrix.csv`.
pub fn write_controls(findings: &Findings, from: &Provenance, out: &mut impl Output) {
    let (results, exceptions, matrix) = (Columns::new(RESULTS), Columns::new(EXCEPTIONS), Columns::new(MATRIX));
    let (mut lines, mut sheet, mut table) = (String::new(), String::new(), String::new());
    exceptions.csv_header(&mut sheet);
    matrix.csv_header(&mut table);
    for (control, found) in findings.all().filter(|(control, _)| from.wants(control)) {
        let populations: Vec<&str> = control.populations.iter().map(|one| one.about().id).collect();
        let mut row = vec![control.id.into(), control.title.into(), texts(control.criteria), texts(&populations)];
        row.push(control.predicate.into());
        row.extend(found.columns());
        results.json(&row, &mut lines);
        for one in &found.exceptions {
            let at = one.at.map(|at| Timestamp(at).to_string());
            let row = [control.id.into(), one.entry.into(), at.into(), one.what.as_str().into()];
            exceptions.csv(&row, &mut sheet);
        }
        for criterion in control.criteria {
            let [result, tested, count, _] = found.columns();
            let row = [
                (*criterion).into(),
                control.id.into(),
                control.title.into(),
                texts(&populations),
                result,
                tested,
                count,
            ];
            matrix.csv(&row, &mut table);
        }
    }
    out.append("controls/results.jsonl", lines.as_bytes());
    out.append("controls/control-matrix.csv", table.as_bytes());
    out.append("controls/exceptions.csv", sheet.as_bytes());
}

/// Whether an id names a control.
pub fn is_control(id: &str) -> bool {
    CONTROLS.iter().any(|control| control.id == id)
}
