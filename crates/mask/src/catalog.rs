//! The relations of a resource with their tags: the rules' own, and those that travel along views, generated columns,
//! partitions and inheritance.
//!
//! Tags only grow: what the catalog cannot tell per column it gives to the whole relation.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chancery_model::{Move, StatementFacts, TableName, Transaction};

use crate::{MaskRules, Operator, Tags};

/// What the caller read from the resource's system catalogs, in one snapshot. It must hold *all* relations, those of
/// `pg_catalog`, `information_schema` and `pg_toast` too: a relation that is missing counts as tagged.
#[derive(Clone, Debug, Default)]
pub struct CatalogInput {
    /// `pg_class` with the schema's name.
    pub relations: Vec<RelationRow>,
    /// `pg_attribute` without dropped columns; numbers below 1 are ignored.
    pub attributes: Vec<AttributeRow>,
    /// `pg_inherits`: (child, parent); partitions are in there too.
    pub inherits: Vec<(u32, u32)>,
    /// `pg_depend` from the rewrite rules of views to what they use.
    pub depends: Vec<ViewDependency>,
    /// View columns proven to be plain copies of a base column; they take that column's tags alone. May be empty.
    pub view_columns: Vec<ViewColumn>,
    /// Generated columns and what they are computed from (`pg_depend` of their `pg_attrdef`).
    pub generated: Vec<GeneratedColumn>,
    /// Relations whose definition cannot be followed by dependencies: views that call functions outside `pg_catalog`,
    /// and views over system relations that `pg_depend` does not list (pinned ones such as `pg_statistic`).
    pub opaque: Vec<u32>,
    /// Relations with constraints or triggers that can wait for the end of the transaction (`tgdeferrable`).
    pub deferring: Vec<u32>,
    /// Relations that a statement wrote while it touched tagged values or was opaque (CREATE TABLE AS, INSERT … SELECT
    /// and the like). The caller remembers them.
    pub tainted: Vec<TableName>,
    /// What the database has of its own and a statement can reach without naming it as such.
    pub customs: Customs,
    /// The catalog before this one, under the same rules. A relation or column that it tagged by its name or for what was
    /// written into it keeps those tags under any other name.
    pub earlier: Option<Arc<Catalog>>,
}

/// Functions, operators and casts of the database's own, those of extensions left out. Their code can read any table.
#[derive(Clone, Debug, Default)]
pub struct Customs {
    /// Names of functions and aggregates that `pg_catalog` has too, and symbols of operators.
    pub calls: Vec<String>,
    /// Names of functions that can be written like a column of a relation: one argument that is a row.
    pub fields: Vec<String>,
    /// There are casts with a function.
    pub casts: bool,
}

/// Operators that the server uses where the text has none: joins by USING, DISTINCT, IN, CASE and the like.
const SILENT: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// One relation.
#[derive(Clone, Debug)]
pub struct RelationRow {
    /// Its OID.
    pub oid: u32,
    /// Its schema's name.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: char,
}

/// One column.
#[derive(Clone, Debug)]
pub struct AttributeRow {
    /// The relation's OID.
    pub relation: u32,
    /// `attnum`, from 1.
    pub number: i16,
    /// `attname`.
    pub name: String,
    /// `atttypid`.
    pub type_oid: u32,
}

/// A view uses a column of a relation.
#[derive(Clone, Copy, Debug)]
pub struct ViewDependency {
    /// The view or materialised view.
    pub view: u32,
    /// What it uses.
    pub base: u32,
    /// The column it uses; 0 for the relation as a whole.
    pub number: i16,
}

/// A view column that is a plain copy of a base column.
#[derive(Clone, Copy, Debug)]
pub struct ViewColumn {
    /// The view.
    pub view: u32,
    /// Its column.
    pub number: i16,
    /// The relation copied from.
    pub base: u32,
    /// The column copied.
    pub base_number: i16,
}

/// A generated column and one column it is computed from.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedColumn {
    /// The relation.
    pub relation: u32,
    /// The generated column.
    pub number: i16,
    /// The column used; 0 for all of them.
    pub base: i16,
}

/// The tags of a column: for each the operator, the strictest of all ways by which the tag arrived.
pub(crate) type Marks = BTreeMap<usize, Operator>;

/// System relations that show values of other tables, with the columns concerned (none named: all of them).
const REVEALING: [(&str, &[&str]); 11] = [
    ("pg_statistic", &[]),
    ("pg_statistic_ext_data", &[]),
    ("pg_stats", &[]),
    ("pg_stats_ext", &[]),
    ("pg_stats_ext_exprs", &[]),
    ("pg_largeobject", &[]),
    ("pg_stat_activity", &["query", "application_name"]),
    ("pg_locks", &["classid", "objid", "objsubid"]),
    ("pg_sequences", &["last_value"]),
    ("pg_stat_statements", &["query"]),
    ("pg_prepared_xacts", &["gid"]),
];

/// The relations of one database with their tags.
pub struct Catalog {
    relations: HashMap<u32, Relation>,
    by_name: HashMap<String, Vec<u32>>,
    tags: Arc<[Arc<str>]>,
    tagging: bool,
    custom_calls: HashSet<String>,
    custom_fields: HashSet<String>,
    /// Any statement can run code of the database's own.
    murky: bool,
    /// What a check that waited for the end of the transaction can quote.
    deferred: Tags,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("relations", &self.relations.len()).finish_non_exhaustive()
    }
}

struct Relation {
    schema: String,
    name: String,
    /// Sorted by number.
    columns: Vec<ColumnEntry>,
    /// True if statements filled it with tagged values.
    tainted: bool,
    /// True if the relation carries every tag, columns unknown to the catalog included.
    entire: bool,
}

struct ColumnEntry {
    number: i16,
    name: String,
    type_oid: u32,
    marks: Marks,
    /// Those of the marks that rules gave to this very column, now or under an earlier name.
    own: Marks,
}

impl Catalog {
    /// Tags the relations by the rules and lets the tags travel.
    pub fn build(input: CatalogInput, rules: &MaskRules) -> Self {
        let mut names: Vec<Arc<str>> = Vec::new();
        for rule in &rules.columns {
            if !names.iter().any(|n| **n == *rule.tag) {
                names.push(Arc::from(rule.tag.as_str()));
            }
        }
        let mut catalog = Self {
            relations: HashMap::with_capacity(input.relations.len()),
            by_name: HashMap::new(),
            tags: names.into(),
            tagging: rules.tags_columns(),
            murky: input.customs.casts || input.customs.calls.iter().any(|call| SILENT.contains(&call.as_str())),
            custom_calls: input.customs.calls.iter().cloned().collect(),
            custom_fields: input.customs.fields.iter().cloned().collect(),
            deferred: Tags::none(),
        };
        catalog.load(&input);
        if catalog.tagging {
            catalog.tag_by_rules(rules);
            if let Some(earlier) = &input.earlier {
                catalog.tag_by_history(earlier);
            }
            catalog.tag_whole_relations(&input);
            catalog.propagate(&input);
            let deferring = input.deferring.iter().filter_map(|oid| catalog.whole_marks(*oid));
            for tag in deferring.flat_map(Marks::into_keys).collect::<Vec<_>>() {
                catalog.deferred.insert(tag);
            }
        }
        catalog
    }

    /// A catalog of nothing, for a resource that has no column rules.
    pub fn empty() -> Self {
        Self::build(CatalogInput::default(), &MaskRules::none())
    }

    /// Whether the relation is in the snapshot.
    pub fn knows(&self, oid: u32) -> bool {
        self.relations.contains_key(&oid)
    }

    /// The schemas that have a relation of this name.
    pub fn schemas_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.named(name).map(|r| r.schema.as_str())
    }

    /// Whether reading this table could yield a tagged value. True for a table that is not in the snapshot.
    /// Without a schema it is true if the table of that name in *any* schema is tagged.
    pub fn touches_tagged(&self, table: &TableName) -> bool {
        !self.tags_of(table).is_empty()
    }

    /// Whether no relation of the snapshot fits this name, so that a refresh could tell more.
    pub fn is_missing(&self, table: &TableName) -> bool {
        self.candidates(table).next().is_none()
    }

    /// The tags that reading this table could yield; all tags for a table that is not in the snapshot.
    pub fn tags_of(&self, table: &TableName) -> Tags {
        let mut tags = Tags::none();
        let mut seen = false;
        for relation in self.candidates(table) {
            seen = true;
            if relation.entire {
                return self.every_tag();
            }
            for tag in relation.columns.iter().flat_map(|c| c.marks.keys()) {
                tags.insert(*tag);
            }
        }
        if seen { tags } else { self.every_tag() }
    }

    /// The columns of a table in order: (number, name, type OID). Empty if the table is unknown or, without a schema,
    /// if more than one has that name.
    pub fn columns_of(&self, table: &TableName) -> Vec<(i16, &str, u32)> {
        self.only(table)
            .map_or_else(Vec::new, |(_, r)| r.columns.iter().map(|c| (c.number, c.name.as_str(), c.type_oid)).collect())
    }

    /// The names of a column's tags; `None` if the column is not in the snapshot.
    pub fn tag_of(&self, oid: u32, number: i16) -> Option<Vec<&str>> {
        self.marks(oid, number).map(|marks| marks.keys().filter_map(|t| self.tag_name(*t)).map(|t| &**t).collect())
    }

    /// Whether any column of the relation is tagged.
    pub fn is_tagged(&self, oid: u32) -> bool {
        self.whole_marks(oid).is_none_or(|marks| !marks.is_empty())
    }

    /// Whether an assignment within a table puts a tagged value into a column that does not have the tag.
    pub fn moves_tagged(&self, table: &TableName, assignment: &Move) -> bool {
        let named = |name: &str| assignment.from.binary_search_by(|from| from.as_str().cmp(name)).is_ok();
        let all = named("*");
        self.candidates(table).filter(|relation| !relation.entire).any(|relation| {
            let sources = relation.columns.iter().filter(|column| all || named(&column.name));
            let tags: Vec<usize> = sources.flat_map(|column| column.marks.keys().copied()).collect();
            let mut targets =
                relation.columns.iter().filter(|column| assignment.to.as_ref().is_none_or(|to| *to == column.name));
            targets.any(|column| tags.iter().any(|tag| !column.marks.contains_key(tag)))
        })
    }

    /// Whether a statement that looks harmless can run code of the database's own: a function or operator with a
    /// built-in's name, a function written as a column, a cast.
    pub fn runs_custom_code(&self, statement: &StatementFacts) -> bool {
        let computes = !(statement.calls.is_empty() && statement.tables.is_empty());
        self.murky && computes
            || statement.calls.iter().any(|call| self.custom_calls.contains(call))
            || statement.columns.iter().any(|column| self.custom_fields.contains(column))
    }

    /// The tags of what a statement makes the server check only now: values that statements before it wrote.
    pub(crate) fn tags_checked_by(&self, statement: &StatementFacts) -> Tags {
        let checks = statement.transaction == Some(Transaction::Commit) || statement.kind == "set constraints";
        if checks { self.deferred.clone() } else { Tags::none() }
    }

    /// Whether there are column rules at all.
    pub fn tags_columns(&self) -> bool {
        self.tagging
    }

    pub(crate) fn every_tag(&self) -> Tags {
        Tags::first(self.tags.len())
    }

    pub(crate) fn tag_name(&self, tag: usize) -> Option<&Arc<str>> {
        self.tags.get(tag)
    }

    /// The marks of a column; `None` if it is not in the snapshot. System columns (below 0) carry no values.
    pub(crate) fn marks(&self, oid: u32, number: i16) -> Option<Marks> {
        let relation = self.relations.get(&oid)?;
        if relation.entire {
            return Some(self.all_marks());
        }
        if number < 0 {
            return Some(Marks::new());
        }
        relation.column(number).map(|c| c.marks.clone())
    }

    /// The marks of a relation as a whole.
    pub(crate) fn whole_marks(&self, oid: u32) -> Option<Marks> {
        let relation = self.relations.get(&oid)?;
        if relation.entire {
            return Some(self.all_marks());
        }
        let mut marks = Marks::new();
        for column in &relation.columns {
            join(&mut marks, &column.marks, true);
        }
        Some(marks)
    }

    /// The name of a column as the catalog spells it.
    pub(crate) fn column_name(&self, oid: u32, number: i16) -> Option<&str> {
        self.relations.get(&oid)?.column(number).map(|c| c.name.as_str())
    }

    /// The one relation that a name means.
    pub(crate) fn relation_of(&self, table: &TableName) -> Option<u32> {
        self.only(table).map(|(oid, _)| oid)
    }

    fn all_marks(&self) -> Marks {
        (0..self.tags.len()).map(|t| (t, Operator::Redact)).collect()
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Relation> {
        self.by_name.get(name).into_iter().flatten().filter_map(|oid| self.relations.get(oid))
    }

    fn candidates<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a Relation> {
        self.named(&table.name).filter(|r| table.schema.as_ref().is_none_or(|s| *s == r.schema))
    }

    fn only(&self, table: &TableName) -> Option<(u32, &Relation)> {
        let mut fitting =
            self.by_name.get(&table.name)?.iter().filter_map(|oid| Some((*oid, self.relations.get(oid)?)));
        let fits = |(_, r): &(u32, &Relation)| table.schema.as_ref().is_none_or(|s| *s == r.schema);
        let first = fitting.by_ref().find(fits)?;
        (!fitting.any(|r| fits(&r))).then_some(first)
    }

    fn load(&mut self, input: &CatalogInput) {
        for row in &input.relations {
            let (schema, name) = (row.schema.clone(), row.name.clone());
            let known = self
                .relations
                .insert(row.oid, Relation { schema, name, columns: Vec::new(), tainted: false, entire: false });
            if known.is_none() {
                self.by_name.entry(row.name.clone()).or_default().push(row.oid);
            }
        }
        for row in input.attributes.iter().filter(|row| row.number > 0) {
            if let Some(relation) = self.relations.get_mut(&row.relation) {
                relation.columns.push(ColumnEntry {
                    number: row.number,
                    name: row.name.clone(),
                    type_oid: row.type_oid,
                    marks: Marks::new(),
                    own: Marks::new(),
                });
            }
        }
        for relation in self.relations.values_mut() {
            relation.columns.sort_by_key(|c| c.number);
            relation.columns.dedup_by_key(|c| c.number);
        }
    }

    fn tag_by_rules(&mut self, rules: &MaskRules) {
        let numbers: Vec<usize> = rules
            .columns
            .iter()
            .map(|rule| self.tags.iter().position(|t| **t == *rule.tag).unwrap_or_default())
            .collect();
        for relation in self.relations.values_mut() {
            // A pattern over all schemas means the user's: introspection would be of no use otherwise.
            let system = matches!(relation.schema.as_str(), "pg_catalog" | "information_schema");
            for (rule, tag) in rules.columns.iter().zip(&numbers) {
                if system && rule.schema == "*" {
                    continue;
                }
                for column in &mut relation.columns {
                    if rule.covers(&relation.schema, &relation.name, &column.name) {
                        mark(&mut column.marks, *tag, rule.with);
                        mark(&mut column.own, *tag, rule.with);
                    }
                }
            }
        }
    }

    /// What an earlier catalog knew of a relation or column under another name. Tags are numbered alike: same rules.
    fn tag_by_history(&mut self, earlier: &Self) {
        if self.tags != earlier.tags {
            return;
        }
        let all = self.all_marks();
        for (oid, relation) in &mut self.relations {
            let Some(before) = earlier.relations.get(oid) else { continue };
            for column in &mut relation.columns {
                let Some(known) = before.column(column.number) else { continue };
                join(&mut column.marks, &known.own, false);
                join(&mut column.own, &known.own, false);
            }
            if before.tainted {
                relation.tainted = true;
                relation.entire = true;
                for column in &mut relation.columns {
                    join(&mut column.marks, &all, true);
                }
            }
        }
    }

    fn tag_whole_relations(&mut self, input: &CatalogInput) {
        let all = self.all_marks();
        for row in &input.relations {
            // A TOAST table holds the long values of some table in pieces.
            if row.kind == 't' {
                self.taint(row.oid);
            }
            let extension = row.name == "pg_stat_statements";
            let Some((_, columns)) = REVEALING.iter().find(|(name, _)| *name == row.name) else { continue };
            if row.schema != "pg_catalog" && !extension {
                continue;
            }
            let Some(relation) = self.relations.get_mut(&row.oid) else { continue };
            for column in &mut relation.columns {
                if columns.is_empty() || columns.contains(&column.name.as_str()) {
                    join(&mut column.marks, &all, true);
                }
            }
        }
        for oid in &input.opaque {
            self.taint(*oid);
        }
        for table in &input.tainted {
            let oids = self.by_name.get(&table.name).cloned().unwrap_or_default();
            for oid in oids {
                let fits = |r: &Relation| table.schema.as_ref().is_none_or(|s| *s == r.schema);
                if self.relations.get(&oid).is_some_and(fits) {
                    self.taint(oid);
                    self.relations.get_mut(&oid).into_iter().for_each(|relation| relation.tainted = true);
                }
            }
        }
    }

    /// Gives a relation every tag.
    fn taint(&mut self, oid: u32) {
        let all = self.all_marks();
        if let Some(relation) = self.relations.get_mut(&oid) {
            relation.entire = true;
            for column in &mut relation.columns {
                join(&mut column.marks, &all, true);
            }
        }
    }

    /// Lets marks travel until nothing changes. Marks and strictness only grow, so this ends.
    fn propagate(&mut self, input: &CatalogInput) {
        let edges = Edges::of(input);
        let mut waiting: VecDeque<u32> = edges.sources().collect();
        let mut queued: HashSet<u32> = waiting.iter().copied().collect();
        while let Some(source) = waiting.pop_front() {
            queued.remove(&source);
            for target in edges.from.get(&source).into_iter().flatten() {
                if self.flow(source, target) && queued.insert(target.relation) {
                    waiting.push_back(target.relation);
                }
            }
        }
    }

    /// Lets marks travel along one edge; whether anything changed.
    fn flow(&mut self, source: u32, edge: &Edge) -> bool {
        if !self.relations.contains_key(&edge.relation) {
            return false;
        }
        match edge.how {
            How::Use { number } => {
                let marks = if number == 0 { self.whole_marks(source) } else { self.marks(source, number) };
                // What a view uses and the snapshot lacks may be anything.
                let marks = marks.unwrap_or_else(|| self.all_marks());
                let Some(target) = self.relations.get_mut(&edge.relation) else { return false };
                let mut changed = false;
                for column in target.columns.iter_mut().filter(|c| !edge.proven.contains(&c.number)) {
                    changed |= join(&mut column.marks, &marks, true);
                }
                changed
            }
            How::Copy { number, from } => {
                let marks = self.marks(source, from).unwrap_or_else(|| self.all_marks());
                self.relations
                    .get_mut(&edge.relation)
                    .and_then(|r| r.column_mut(number))
                    .is_some_and(|c| join(&mut c.marks, &marks, false))
            }
            How::Generated { number, from } => {
                let marks = if from == 0 { self.whole_marks(source) } else { self.marks(source, from) };
                let marks = marks.unwrap_or_else(|| self.all_marks());
                self.relations
                    .get_mut(&edge.relation)
                    .and_then(|r| r.column_mut(number))
                    .is_some_and(|c| join(&mut c.marks, &marks, true))
            }
            How::Kin => self.flow_to_kin(source, edge.relation),
        }
    }

    /// Parent and child share rows: a column's marks are those of its namesake.
    fn flow_to_kin(&mut self, source: u32, target: u32) -> bool {
        let Some(relation) = self.relations.get(&source) else { return false };
        let entire = relation.entire;
        let marks: HashMap<String, Marks> =
            relation.columns.iter().map(|c| (c.name.clone(), c.marks.clone())).collect();
        let Some(target) = self.relations.get_mut(&target) else { return false };
        let mut changed = entire && !target.entire;
        target.entire |= entire;
        for column in &mut target.columns {
            if let Some(marks) = marks.get(&column.name) {
                changed |= join(&mut column.marks, marks, false);
            }
        }
        changed
    }
}

impl Relation {
    fn column(&self, number: i16) -> Option<&ColumnEntry> {
        self.columns.binary_search_by_key(&number, |c| c.number).ok().and_then(|i| self.columns.get(i))
    }

    fn column_mut(&mut self, number: i16) -> Option<&mut ColumnEntry> {
        self.columns.binary_search_by_key(&number, |c| c.number).ok().and_then(|i| self.columns.get_mut(i))
    }
}

/// Which relation's marks travel to which.
struct Edges {
    from: HashMap<u32, Vec<Edge>>,
}

struct Edge {
    relation: u32,
    how: How,
    /// Columns of the target that are proven copies and do not take part in a `Use`.
    proven: Arc<[i16]>,
}

enum How {
    Use { number: i16 },
    Copy { number: i16, from: i16 },
    Generated { number: i16, from: i16 },
    Kin,
}

impl Edges {
    fn of(input: &CatalogInput) -> Self {
        let mut proven: HashMap<u32, Vec<i16>> = HashMap::new();
        for column in &input.view_columns {
            proven.entry(column.view).or_default().push(column.number);
        }
        let proven: HashMap<u32, Arc<[i16]>> = proven.into_iter().map(|(v, c)| (v, c.into())).collect();
        let none: Arc<[i16]> = Arc::from([]);
        let mut edges = Self { from: HashMap::new() };
        for d in input.depends.iter().filter(|d| d.view != d.base) {
            let proven = proven.get(&d.view).unwrap_or(&none).clone();
            edges.add(d.base, d.view, How::Use { number: d.number }, proven);
        }
        for c in &input.view_columns {
            edges.add(c.base, c.view, How::Copy { number: c.number, from: c.base_number }, none.clone());
        }
        for g in &input.generated {
            edges.add(g.relation, g.relation, How::Generated { number: g.number, from: g.base }, none.clone());
        }
        for (child, parent) in &input.inherits {
            edges.add(*parent, *child, How::Kin, none.clone());
            edges.add(*child, *parent, How::Kin, none.clone());
        }
        edges
    }

    fn add(&mut self, source: u32, relation: u32, how: How, proven: Arc<[i16]>) {
        self.from.entry(source).or_default().push(Edge { relation, how, proven });
    }

    fn sources(&self) -> impl Iterator<Item = u32> + '_ {
        self.from.keys().copied()
    }
}

fn mark(marks: &mut Marks, tag: usize, with: Operator) -> bool {
    match marks.get_mut(&tag) {
        Some(known) => {
            let stricter = known.stricter(with);
            std::mem::replace(known, stricter) != stricter
        }
        None => marks.insert(tag, with).is_none(),
    }
}

/// Adds marks. `derived`: the value is computed, so what an operator would leave visible may be anything; it is redacted.
fn join(marks: &mut Marks, others: &Marks, derived: bool) -> bool {
    let mut changed = false;
    for (tag, with) in others {
        let with = if derived { with.stricter(Operator::Redact) } else { *with };
        changed |= mark(marks, *tag, with);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColumnRule;

    fn rules() -> MaskRules {
        let rule = |table: &str, column: &str, tag: &str, with| ColumnRule {
            schema: "public".into(),
            table: table.into(),
            column: column.into(),
            tag: tag.into(),
            with,
        };
        MaskRules {
            columns: vec![
                rule("person", "ssn", "pii", Operator::Partial),
                rule("part_2", "note", "pci", Operator::Token),
            ],
            ..MaskRules::none()
        }
    }

    fn input() -> CatalogInput {
        let mut input = CatalogInput::default();
        for (oid, schema, name, kind, columns) in [
            (10, "public", "person", 'r', &["id", "ssn", "gen"][..]),
            (11, "public", "v", 'v', &["a", "b"]),
            (12, "public", "vv", 'v', &["x"]),
            (13, "public", "part", 'p', &["note", "id"]),
            (14, "public", "part_2", 'r', &["id", "note"]),
            (15, "public", "plain", 'r', &["id"]),
            (16, "pg_catalog", "pg_stats", 'v', &["tablename", "most_common_vals"]),
            (17, "pg_catalog", "pg_stat_activity", 'v', &["pid", "query"]),
            (18, "other", "person", 'r', &["id"]),
            (19, "pg_toast", "pg_toast_10", 't', &["chunk_data"]),
            (20, "public", "copy", 'r', &["id"]),
            (21, "public", "over_function", 'v', &["id"]),
        ] {
            input.relations.push(RelationRow { oid, schema: schema.into(), name: name.into(), kind });
            for (i, name) in columns.iter().enumerate() {
                let number = i as i16 + 1;
                input.attributes.push(AttributeRow { relation: oid, number, name: (*name).into(), type_oid: 25 });
            }
        }
        input.depends = vec![
            ViewDependency { view: 12, base: 11, number: 2 },
            ViewDependency { view: 11, base: 10, number: 2 },
            ViewDependency { view: 11, base: 10, number: 1 },
        ];
        input.generated = vec![GeneratedColumn { relation: 10, number: 3, base: 2 }];
        input.inherits = vec![(14, 13)];
        input.tainted = vec![TableName { schema: None, name: "copy".into() }];
        input.opaque = vec![21];
        input
    }

    fn table(schema: Option<&str>, name: &str) -> TableName {
        TableName { schema: schema.map(Into::into), name: name.into() }
    }

    #[test]
    fn tags_travel() {
        let catalog = Catalog::build(input(), &rules());
        let pii = Some(vec!["pii"]);
        let clear = Some(vec![]);
        let both = Some(vec!["pii", "pci"]);
        for (oid, number, tags) in [
            (10, 1, &clear),
            (10, 2, &pii),
            (10, 3, &pii),
            (10, -1, &clear),
            (11, 1, &pii),
            (11, 2, &pii),
            (12, 1, &pii),
            (13, 1, &Some(vec!["pci"])),
            (13, 2, &clear),
            (14, 2, &Some(vec!["pci"])),
            (15, 1, &clear),
            (15, 2, &None),
            (16, 2, &both),
            (17, 1, &clear),
            (17, 2, &both),
            (19, 1, &both),
            (20, 1, &both),
            (21, 1, &both),
            (99, 1, &None),
        ] {
            assert_eq!(&catalog.tag_of(oid, number), tags, "{oid}.{number}");
        }
        assert_eq!(catalog.marks(10, 2), Some(Marks::from([(0, Operator::Partial)])));
        assert_eq!(catalog.marks(11, 1), Some(Marks::from([(0, Operator::Redact)])), "derived values are redacted");
        assert_eq!(catalog.marks(13, 1), Some(Marks::from([(1, Operator::Token)])), "kin keep the operator");
    }

    #[test]
    fn proven_view_columns_take_their_base_alone() {
        let mut input = input();
        input.view_columns = vec![
            ViewColumn { view: 11, number: 1, base: 10, base_number: 1 },
            ViewColumn { view: 11, number: 2, base: 10, base_number: 2 },
        ];
        let catalog = Catalog::build(input, &rules());
        assert_eq!(catalog.tag_of(11, 1), Some(vec![]));
        assert_eq!(catalog.marks(11, 2), Some(Marks::from([(0, Operator::Partial)])));
        assert_eq!(catalog.marks(12, 1), Some(Marks::from([(0, Operator::Redact)])));
    }

    #[test]
    fn names() {
        let catalog = Catalog::build(input(), &rules());
        for (schema, name, touches) in [
            (Some("public"), "person", true),
            (Some("other"), "person", false),
            (None, "person", true),
            (None, "plain", false),
            (None, "no_such", true),
            (Some("nowhere"), "plain", true),
            (None, "vv", true),
            (None, "copy", true),
        ] {
            assert_eq!(catalog.touches_tagged(&table(schema, name)), touches, "{schema:?}.{name}");
        }
        assert_eq!(catalog.schemas_of("person").collect::<Vec<_>>(), ["public", "other"]);
        assert!(catalog.columns_of(&table(None, "person")).is_empty(), "ambiguous");
        assert_eq!(catalog.columns_of(&table(None, "plain")), [(1, "id", 25)]);
        assert!(catalog.knows(10) && !catalog.knows(99));
        assert!(catalog.is_missing(&table(None, "no_such")) && catalog.is_missing(&table(Some("nowhere"), "plain")));
        assert!(!catalog.is_missing(&table(None, "plain")));
    }

    #[test]
    fn patterns_spare_the_system_catalogs() {
        let rules = MaskRules {
            columns: vec![ColumnRule {
                schema: "*".into(),
                table: "*".into(),
                column: "*".into(),
                tag: "all".into(),
                with: Operator::Null,
            }],
            ..MaskRules::none()
        };
        let catalog = Catalog::build(input(), &rules);
        assert_eq!(catalog.tag_of(17, 1), Some(vec![]));
        assert_eq!(catalog.tag_of(15, 1), Some(vec!["all"]));
    }

    #[test]
    fn without_rules_nothing_is_tagged() {
        let catalog = Catalog::build(input(), &MaskRules::none());
        assert!(!catalog.touches_tagged(&table(None, "person")) && !catalog.touches_tagged(&table(None, "no_such")));
        assert!(!catalog.tags_columns());
    }

    #[test]
    fn views_in_a_circle_end() {
        let mut input = input();
        input.depends.push(ViewDependency { view: 11, base: 12, number: 0 });
        input.depends.push(ViewDependency { view: 12, base: 12, number: 0 });
        input.depends.push(ViewDependency { view: 15, base: 4242, number: 1 });
        let catalog = Catalog::build(input, &rules());
        assert_eq!(catalog.tag_of(12, 1), Some(vec!["pii"]));
        assert_eq!(catalog.tag_of(15, 1), Some(vec!["pii", "pci"]), "a base outside the snapshot may be anything");
    }
}
