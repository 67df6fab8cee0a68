//! What a statement means to the rules and to the masker, remembered by its shape.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use chancery_mask::{Catalog, Exposure};
use chancery_model::{
    Action, Digest, Effect, Facts, Need, Object, Refusal, RefusalCode, Setting, Statement, StatementFacts, TableName,
};
use chancery_policy::{Permit, RuleSet, Standing};
use foldhash::HashMap;

use crate::context::Context;

/// The schema of a relation that the catalog does not know. No rule about a schema covers it.
const UNKNOWN_SCHEMA: &str = "?";

/// Between the text of an EXECUTE and the text of the PREPARE that it runs, in records and for reviewers.
pub(crate) const RUNS: &str = "\n-- runs: ";

/// Everything that is known about a statement and does not depend on its literals or parameters.
pub(crate) struct Known {
    pub(crate) facts: Facts,
    pub(crate) needs: Vec<Need>,
    pub(crate) effect: Effect,
    pub(crate) exposure: Exposure,
    /// The statement without literals and comments, for the recording.
    pub(crate) redacted: Bytes,
    pub(crate) fingerprint: Digest,
    /// Nothing after it is ruled on before it ended: it can change how later text is read or decided.
    pub(crate) barrier: bool,
    /// Relations that it fills with values of tagged relations.
    pub(crate) taints: Vec<TableName>,
    /// It can change the catalog.
    pub(crate) defines: bool,
    /// It changes what other sessions' catalogs are read from, for its text says so.
    pub(crate) redefines: bool,
    /// It can put a tagged value into a setting or the last value of a sequence.
    pub(crate) stirs: bool,
    /// It shows settings or the last value of a sequence.
    pub(crate) dips: bool,
    /// It runs code that nobody can read.
    pub(crate) obscure: bool,
    /// It does nothing but give a name to a statement (SQL PREPARE): the name, and itself.
    pub(crate) names: Option<(String, Statement)>,
    /// It runs a statement by its name: the text that gave the name.
    pub(crate) runs: Option<Statement>,
    pub(crate) standing: Option<Standing>,
}

/// Remembered readings. Valid for one rule set and one catalog; cleared when either changes.
#[derive(Default)]
pub(crate) struct Readings {
    /// The texts of prepared statements that were looked up last, found again without their shape.
    recent: [Option<Recent>; RECENT],
    oldest: usize,
    by_shape: HashMap<Box<[u8]>, Arc<Known>>,
    key: Vec<u8>,
}

/// A text and what it means.
struct Recent {
    text: Box<[u8]>,
    known: Arc<Known>,
}

/// Texts remembered beside the shapes, and how long one may be.
const RECENT: usize = 4;
const RECENT_BYTES_MAX: usize = 1024;

/// The result of looking a statement up.
pub(crate) enum Looked {
    Found(Arc<Known>),
    /// Not remembered; the key under which it may be.
    New {
        shaped: bool,
    },
}

impl Readings {
    pub(crate) fn clear(&mut self) {
        self.by_shape.clear();
        self.recent = Default::default();
    }

    /// Looks up a statement that was prepared: the same text comes again and again.
    pub(crate) fn look_prepared(&mut self, statement: &Statement, text_max: usize) -> Looked {
        let same = |recent: &&Recent| *recent.text == *statement.text;
        if let Some(recent) = self.recent.iter().flatten().find(same) {
            return Looked::Found(recent.known.clone());
        }
        let looked = self.look(statement, text_max);
        if let Looked::Found(known) = &looked
            && statement.text.len() <= RECENT_BYTES_MAX
        {
            self.recent[self.oldest] = Some(Recent { text: statement.text[..].into(), known: known.clone() });
            self.oldest = (self.oldest + 1) % RECENT;
        }
        looked
    }

    /// Looks a statement up by its shape, or by its text where it has none.
    pub(crate) fn look(&mut self, statement: &Statement, text_max: usize) -> Looked {
        self.key.clear();
        self.key.push(b's');
        let shaped = chancery_sql::shape(statement.as_str(), &mut self.key);
        if !shaped {
            self.key.clear();
            if statement.text.len() > text_max {
                return Looked::New { shaped };
            }
            self.key.push(b't');
            self.key.extend_from_slice(&statement.text);
        }
        match self.by_shape.get(&self.key[..]) {
            Some(known) => Looked::Found(known.clone()),
            None => Looked::New { shaped },
        }
    }

    /// Remembers what `look` did not find, if the ruling may be used again.
    pub(crate) fn remember(&mut self, known: &Arc<Known>, shaped: bool, shapes_max: usize) {
        if self.key.is_empty() || known.standing.is_none() || (shaped && !known.facts.literal_free) {
            return;
        }
        // What a name stands for is not in the text.
        if known.facts.statements.iter().any(|statement| statement.prepared.is_some()) {
            return;
        }
        if self.by_shape.len() >= shapes_max {
            self.clear();
        }
        self.by_shape.insert(self.key.as_slice().into(), known.clone());
    }
}

/// Reads a statement: facts, needs with every name resolved, exposure. `defined` says what a name stands for that SQL's
/// PREPARE gave.
pub(crate) fn read<'a>(
    statement: &Statement,
    context: &Context,
    catalog: &Catalog,
    defined: impl FnOnce(&str) -> Option<&'a Statement>,
) -> Known {
    let mut facts = chancery_sql::read(statement.as_str(), &statement.settings);
    let mut redacted = chancery_sql::redact(statement.as_str());
    let runs = executed(&facts).and_then(defined).cloned();
    if let Some(prepared) = &runs {
        // Its relations, functions and the catalog are those of now: so are the server's, which plans it again when
        // `search_path` or a definition changed.
        facts = chancery_sql::read_execute(statement.as_str(), &statement.settings, prepared);
        redacted = format!("{redacted}{RUNS}{}", chancery_sql::redact(prepared.as_str()));
    }
    let mut needs: Vec<Need> =
        facts.statements.iter().flat_map(|s| &s.needs).flat_map(|n| resolve(n, catalog)).collect();
    needs.sort();
    needs.dedup();
    let exposure = Exposure::of(catalog, &facts);
    let redefines = facts.statements.iter().any(redefines);
    let opaque_code = |s: &StatementFacts| matches!(s.kind.as_str(), "do" | "call" | "execute");
    let has_definition = |s: &StatementFacts| s.needs.iter().any(|need| need.action == Action::Define);
    let defines = redefines || facts.statements.iter().any(|s| has_definition(s) || opaque_code(s));
    let taints = taints(&facts, catalog);
    let computed = facts.statements.iter().flat_map(|s| &s.settings).any(|setting| setting.value.is_none());
    let stirs = exposure.opaque || !taints.is_empty() || (computed && exposure.touches_tagged);
    let obscure = facts.is_opaque() || facts.statements.iter().any(|statement| catalog.runs_custom_code(statement));
    let names = match facts.statements.as_slice() {
        [one] if one.kind == "prepare" => one.prepared.clone().map(|name| (name, statement.clone())),
        _ => None,
    };
    let barrier =
        facts.is_opaque() || defines || facts.statements.iter().any(|s| !s.settings.is_empty() || s.prepared.is_some());
    Known {
        effect: facts.effect(),
        exposure,
        fingerprint: context.fingerprint(&redacted),
        redacted: Bytes::from(redacted),
        barrier,
        taints,
        defines,
        redefines,
        stirs,
        dips: facts.statements.iter().any(dips),
        obscure,
        names,
        runs,
        standing: None,
        needs,
        facts,
    }
}

/// Definitions of which a catalog says nothing, and which run often.
const WITHOUT_TRACE: [&str; 6] = ["vacuum", "analyze", "reindex", "cluster", "comment", "create index"];

fn redefines(statement: &StatementFacts) -> bool {
    let kind = statement.kind.as_str();
    let defines = statement.needs.iter().any(|need| need.action == Action::Define) && !WITHOUT_TRACE.contains(&kind);
    // What it makes last was defined earlier, perhaps by another session.
    defines || kind == "commit prepared"
}

/// The name of the prepared statement that a command runs, if it does nothing else.
fn executed(facts: &Facts) -> Option<&str> {
    match facts.statements.as_slice() {
        [one] if !renames(one) => one.prepared.as_deref(),
        _ => None,
    }
}

/// Whether a statement makes or drops the names of prepared statements, rather than using them.
pub(crate) fn renames(statement: &StatementFacts) -> bool {
    statement.prepared.is_some() && matches!(statement.kind.as_str(), "prepare" | "deallocate" | "discard all")
}

/// One need for each relation that an unqualified name could mean: whatever `search_path` says, all must pass.
fn resolve(need: &Need, catalog: &Catalog) -> Vec<Need> {
    let Object::Table(TableName { schema: None, name }) = &need.object else { return vec![need.clone()] };
    let in_schema = |schema: &str| Need {
        action: need.action,
        object: Object::Table(TableName { schema: Some(schema.to_owned()), name: name.clone() }),
    };
    let found: Vec<Need> = catalog.schemas_of(name).map(in_schema).collect();
    if found.is_empty() { vec![in_schema(UNKNOWN_SCHEMA)] } else { found }
}

/// What a statement writes while it reads tagged values from elsewhere, or values that nobody can tell. A trigger brings
/// its table under code that can write anything into it.
fn taints(facts: &Facts, catalog: &Catalog) -> Vec<TableName> {
    let mut tainted = Vec::new();
    if !catalog.tags_columns() {
        return tainted;
    }
    for statement in &facts.statements {
        let from_server = statement.kind == "copy from" && statement.copy.is_none();
        let custom = !statement.calls.is_empty() && catalog.runs_custom_code(statement);
        let any = statement.opaque || custom || from_server || statement.kind == "create trigger";
        let written = statement.needs.iter().filter(|need| matches!(need.action, Action::Write | Action::Define));
        for need in written {
            let Object::Table(table) = &need.object else { continue };
            let elsewhere = |other: &&TableName| other.name != table.name && catalog.touches_tagged(other);
            let within = || statement.moves.iter().any(|each| catalog.moves_tagged(table, each));
            if any || within() || statement.tables.iter().any(|other| elsewhere(&other)) {
                tainted.push(table.clone());
            }
        }
    }
    tainted
}

/// Whether a statement shows what the session itself keeps: settings, the last value of a sequence.
fn dips(statement: &StatementFacts) -> bool {
    let shows = |call: &String| matches!(call.as_str(), "current_setting" | "lastval" | "currval");
    let lists = |table: &TableName| matches!(table.name.as_str(), "pg_settings" | "pg_stat_activity");
    statement.kind == "show" || statement.calls.iter().any(shows) || statement.tables.iter().any(lists)
}

/// Refuses settings that change how statement text is read. The text was parsed as the server reads it now.
pub(crate) fn misreads(facts: &Facts) -> Option<&'static str> {
    facts.statements.iter().flat_map(|s| &s.settings).find_map(misreading)
}

fn misreading(setting: &Setting) -> Option<&'static str> {
    let value = setting.value.as_deref().map(str::to_ascii_lowercase);
    match setting.name.as_str() {
        "client_encoding" | "names" => {
            let utf8 = matches!(value.as_deref(), Some("utf8" | "utf-8" | "unicode"));
            (!utf8).then_some("client_encoding other than UTF8")
        }
        "standard_conforming_strings" => {
            let on = matches!(value.as_deref(), Some("on" | "true" | "yes" | "1"));
            (!on).then_some("standard_conforming_strings other than on")
        }
        _ => None,
    }
}

/// A refusal for what cannot be read.
pub(crate) fn unreadable(context: &Context, command: chancery_model::CommandId, why: &str) -> Refusal {
    context
        .refusal(RefusalCode::Unreadable, command, format!("the statement cannot be read: {why}"))
        .hint("rewrite it so that it can be read; what cannot be read is never forwarded")
}

impl Known {
    /// A permit for a command of the same shape, if these rules gave one for it.
    pub(crate) fn permit(&self, rules: &RuleSet, digest: Digest) -> Option<Permit> {
        self.standing.as_ref()?.permit(rules, digest)
    }

    /// What a digest of the command covers: the text and, behind a NUL that no text has, the text that it runs by name.
    pub(crate) fn covered<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.runs {
            Some(prepared) => Cow::Owned([text, b"\0", &prepared.text].concat()),
            None => Cow::Borrowed(text),
        }
    }

    /// What is known of the statement, for a reviewer: kinds, relations, what is missing.
    pub(crate) fn summary(&self) -> String {
        let mut lines = Vec::new();
        for statement in &self.facts.statements {
            let mut line = statement.kind.clone();
            let tables: Vec<String> = statement.tables.iter().map(table_name).collect();
            if !tables.is_empty() {
                line += &format!(" on {}", tables.join(", "));
            }
            if statement.has_filter == Some(false) {
                line += ", WITHOUT a restricting WHERE";
            }
            if statement.opaque {
                line += ", with effects that cannot be told from the text";
            }
            lines.push(line);
        }
        lines.join("; ")
    }
}

fn table_name(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{schema}.{}", table.name),
        None => table.name.clone(),
    }
}
