//! The collector of facts: one per statement, filled by the walk over its tree.

use std::collections::{BTreeSet, HashMap};

use chancery_model::{Action, CopyFact, Effect, Move, Need, Object, Setting, StatementFacts, TableName, Transaction};
use pg_query::{NodeRef, protobuf as p};

use crate::tree::{UnknownNode, children};

/// Why a statement cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable(pub(crate) &'static str);

impl From<UnknownNode> for Unreadable {
    fn from(_: UnknownNode) -> Self {
        Self("the statement has a part that is not known")
    }
}

/// The result of a step of the walk.
pub(crate) type Walk<T = ()> = Result<T, Unreadable>;

/// Levels of the tree that are walked; the decoder of the tree stops at a hundred.
const LEVELS_MAX: usize = 200;

/// What the outermost statement is.
#[derive(Debug, Default)]
pub(crate) struct Top {
    /// The kind, in lower case.
    pub(crate) kind: String,
    /// A literal limit on rows.
    pub(crate) row_limit: Option<u64>,
    /// Transaction control.
    pub(crate) transaction: Option<Transaction>,
    /// A copy from or to the client.
    pub(crate) copy: Option<CopyFact>,
    /// Output positions that are a count and nothing else.
    pub(crate) counts: Vec<u16>,
    /// Whether it is one of the kinds whose facts can be free of literals.
    pub(crate) plain: bool,
}

impl Top {
    /// A statement of this kind, with nothing more to say.
    pub(crate) fn of(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

/// Names in scope, counted, so that a long list of them costs no more than a short one.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    names: Vec<String>,
    counts: HashMap<String, usize>,
}

impl Scope {
    /// Opens a scope within; the mark closes it.
    pub(crate) fn open(&self) -> usize {
        self.names.len()
    }

    /// Adds a name to the innermost scope.
    pub(crate) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    /// Goes back to where the mark was made.
    pub(crate) fn close(&mut self, mark: usize) {
        for name in self.names.drain(mark.min(self.names.len())..) {
            if let Some(count) = self.counts.get_mut(&name) {
                *count -= 1;
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.counts.get(name).is_some_and(|count| *count > 0)
    }
}

/// What the name of a prepared statement stands for.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) name: String,
    pub(crate) query: pg_query::NodeEnum,
}

/// Facts in the making.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) effect: Effect,
    pub(crate) opaque: bool,
    /// Whether a literal decided something.
    pub(crate) literal_said: bool,
    pub(crate) needs: BTreeSet<Need>,
    pub(crate) tables: BTreeSet<TableName>,
    pub(crate) columns: BTreeSet<String>,
    pub(crate) functions: BTreeSet<String>,
    /// Names of all functions and operators, listed or not.
    pub(crate) calls: BTreeSet<String>,
    pub(crate) settings: Vec<Setting>,
    /// Assignments met so far.
    pub(crate) moves: Vec<Move>,
    /// The SQL-level prepared statement that is made, run or dropped.
    pub(crate) prepared: Option<String>,
    /// What that name stands for, if that is known.
    pub(crate) runs: Option<Runs>,
    /// Whether every UPDATE and DELETE met so far is filtered.
    pub(crate) filtered: Option<bool>,
    /// Names of common table expressions in scope.
    pub(crate) scope: Scope,
    /// What a relation met by the walk is used for.
    pub(crate) role: Action,
    /// Whether the rows of relations met by the walk are locked.
    pub(crate) locked: bool,
    /// Names and aliases of relations: a column reference to one of them is a whole row.
    pub(crate) row_names: BTreeSet<String>,
    levels: usize,
}

/// Reads one statement; the boolean says that no literal had a say in the facts.
pub(crate) fn read_statement(node: NodeRef<'_>, runs: Option<Runs>) -> Walk<(StatementFacts, bool)> {
    let mut reader = Reader {
        effect: Effect::Read,
        opaque: false,
        literal_said: false,
        needs: BTreeSet::new(),
        tables: BTreeSet::new(),
        columns: BTreeSet::new(),
        functions: BTreeSet::new(),
        calls: BTreeSet::new(),
        moves: Vec::new(),
        settings: Vec::new(),
        prepared: None,
        runs,
        filtered: None,
        scope: Scope::default(),
        role: Action::Read,
        locked: false,
        row_names: BTreeSet::new(),
        levels: 0,
    };
    let top = reader.statement(node)?;
    Ok(reader.finish(top))
}

impl Reader {
    /// Walks a node: statements and expressions with a meaning of their own are told apart, the rest is passed through.
    pub(crate) fn visit(&mut self, node: NodeRef<'_>) -> Walk {
        self.levels += 1;
        if self.levels > LEVELS_MAX {
            return Err(Unreadable("nested too deeply"));
        }
        if crate::tree::is_statement(node) {
            self.statement(node)?;
        } else {
            self.expression(node)?;
        }
        self.levels -= 1;
        Ok(())
    }

    /// Walks the children of a node.
    pub(crate) fn visit_children(&mut self, node: NodeRef<'_>) -> Walk {
        children(node, &mut |child| self.visit(child))
    }

    /// Walks a list of nodes.
    pub(crate) fn visit_all(&mut self, nodes: &[p::Node]) -> Walk {
        nodes.iter().try_for_each(|node| self.visit_one(Some(node)))
    }

    /// Walks a node that may be absent.
    pub(crate) fn visit_one(&mut self, node: Option<&p::Node>) -> Walk {
        match node.and_then(|n| n.node.as_ref()) {
            Some(inner) => self.visit(inner.to_ref()),
            None => Ok(()),
        }
    }

    /// Notes that `action` on `object` must be allowed, and what follows for the effect.
    pub(crate) fn need(&mut self, action: Action, object: Object) {
        if !matches!(action, Action::Read | Action::Export) {
            self.effect = Effect::Write;
        }
        self.needs.insert(Need { action, object });
    }

    /// Notes that `action` on the resource as a whole must be allowed.
    pub(crate) fn need_resource(&mut self, action: Action) {
        self.need(action, Object::Resource);
    }

    /// Notes that what happens cannot be told.
    pub(crate) fn unknown_effects(&mut self) {
        self.opaque = true;
        self.need_resource(Action::Execute);
    }

    /// Notes a relation and what is done to it.
    pub(crate) fn table(&mut self, relation: &p::RangeVar, action: Action) -> TableName {
        let name = table_name(relation);
        self.row_names.insert(name.name.clone());
        if let Some(alias) = &relation.alias {
            self.row_names.insert(alias.aliasname.clone());
        }
        self.named_table(name.clone(), action);
        name
    }

    /// Notes a relation given by its name.
    pub(crate) fn named_table(&mut self, name: TableName, action: Action) {
        self.tables.insert(name.clone());
        // The server has a rule that turns an UPDATE of this view into `set_config()`, with data as the name.
        let of_catalog = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if action == Action::Write && of_catalog && name.name == "pg_settings" {
            self.settings.push(Setting { name: "all".to_owned(), value: None });
            self.need_resource(Action::Administer);
            self.opaque = true;
        }
        self.need(action, Object::Table(name));
    }

    /// Whether the relation is a common table expression in scope.
    pub(crate) fn is_common_table(&self, relation: &p::RangeVar) -> bool {
        relation.schemaname.is_empty() && relation.catalogname.is_empty() && self.scope.has(&relation.relname)
    }

    /// Adds one UPDATE or DELETE to the answer on filters: one without a filter is enough.
    pub(crate) fn note_filter(&mut self, filtered: bool) {
        self.filtered = Some(self.filtered.unwrap_or(true) && filtered);
    }

    fn finish(mut self, top: Top) -> (StatementFacts, bool) {
        if self.needs.is_empty() {
            self.need_resource(Action::Read);
        }
        if self.columns.iter().any(|column| self.row_names.contains(column)) {
            self.columns.insert("*".to_owned());
        }
        for each in &mut self.moves {
            if each.from.iter().any(|name| self.row_names.contains(name)) && !each.from.iter().any(|name| name == "*") {
                each.from.push("*".to_owned());
                each.from.sort();
            }
        }
        let free = top.plain && !self.literal_said && self.settings.is_empty() && self.functions.is_empty();
        let facts = StatementFacts {
            kind: top.kind,
            effect: self.effect,
            needs: self.needs.into_iter().collect(),
            tables: self.tables.into_iter().collect(),
            columns: self.columns.into_iter().collect(),
            has_filter: self.filtered,
            row_limit: top.row_limit,
            unlisted_functions: self.functions.into_iter().collect(),
            calls: self.calls.into_iter().collect(),
            counts: top.counts,
            moves: self.moves,
            opaque: self.opaque,
            unreadable: None,
            settings: self.settings,
            transaction: top.transaction,
            copy: top.copy,
            prepared: self.prepared,
        };
        (facts, free)
    }
}

/// The name of a relation as the statement has it. A database name in front can only be the current one.
pub(crate) fn table_name(relation: &p::RangeVar) -> TableName {
    let schema = (!relation.schemaname.is_empty()).then(|| relation.schemaname.clone());
    TableName { schema, name: relation.relname.clone() }
}

/// The strings of a list of name parts.
pub(crate) fn strings(nodes: &[p::Node]) -> Vec<&str> {
    nodes.iter().filter_map(string).collect()
}

/// The string a node is.
pub(crate) fn string(node: &p::Node) -> Option<&str> {
    match &node.node {
        Some(pg_query::NodeEnum::String(s)) => Some(&s.sval),
        _ => None,
    }
}
