//! What reading a command taught us.

/// The words that rules use for what a command does; the same on every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Open a session.
    Connect,
    /// Look at data or state.
    Read,
    /// Change data.
    Write,
    /// Change structure (DDL).
    Define,
    /// Change privileges (DCL).
    Grant,
    /// Bulk out.
    Export,
    /// Bulk in.
    Import,
    /// Run a procedure, anonymous block or function with unknown effects.
    Execute,
    /// An interactive shell.
    Shell,
    /// Forward a port or socket.
    Forward,
    /// Change the server or the session's identity.
    Administer,
    /// See values unmasked.
    Unmask,
}

impl Action {
    /// Every action, in the order of the product's list.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::Read,
        Self::Write,
        Self::Define,
        Self::Grant,
        Self::Export,
        Self::Import,
        Self::Execute,
        Self::Shell,
        Self::Forward,
        Self::Administer,
        Self::Unmask,
    ];
    /// The Cedar action id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Grant => "grant",
            Self::Export => "export",
            Self::Import => "import",
            Self::Execute => "execute",
            Self::Shell => "shell",
            Self::Forward => "forward",
            Self::Administer => "administer",
            Self::Unmask => "unmask",
        }
    }
}

/// A table-like relation as the statement names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema, if the statement names one; `None` is resolved against the catalog.
    pub schema: Option<String>,
    /// The relation, folded as the server folds it.
    pub name: String,
}

/// What an action is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The resource as a whole (its database).
    Resource,
    /// A schema.
    Schema(String),
    /// A table, view, sequence or other relation.
    Table(TableName),
}

/// One pair that must pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// What is done.
    pub action: Action,
    /// On what.
    pub object: Object,
}

/// Whether a command could change anything, here or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Proven to only read.
    Read,
    /// Can change something, or cannot be proven not to.
    Write,
}

/// Transaction control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END, PREPARE TRANSACTION, COMMIT PREPARED.
    Commit,
    /// ROLLBACK, ABORT, ROLLBACK TO, ROLLBACK PREPARED.
    Rollback,
    /// SAVEPOINT, RELEASE.
    Savepoint,
}

/// `SET name = value` and its relatives. `value` is `None` where it is a reset or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Folded to lower case.
    pub name: String,
    /// The literal value.
    pub value: Option<String>,
}

/// Direction of a COPY, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyDirection {
    /// TO STDOUT.
    Out,
    /// FROM STDIN.
    In,
}

/// What a COPY statement says about the shape of its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CopyFact {
    /// Out or in.
    pub direction: CopyDirection,
    /// The table, or `None` for `COPY (query)`.
    pub table: Option<TableName>,
    /// The column list, empty for all.
    pub columns: Vec<String>,
    /// `text`, `csv` or `binary`.
    pub format: String,
    /// True if any option but FORMAT stands there (DELIMITER, NULL, QUOTE, HEADER …).
    pub has_options: bool,
}

/// An assignment: the column, and all columns that have a say in its new value (`*` for a whole row).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The column assigned to; `None` for any of them.
    pub to: Option<String>,
    /// Names of columns that the value is computed from, sorted.
    pub from: Vec<String>,
}

/// Facts of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementFacts {
    /// `select`, `delete`, `create table` … : lower case, for rules, entries and people.
    pub kind: String,
    /// Read or Write.
    pub effect: Effect,
    /// Pairs of action and object, sorted, without duplicates; at least one.
    pub needs: Vec<Need>,
    /// Every relation named anywhere in the statement (CTE names left out), sorted, without duplicates.
    pub tables: Vec<TableName>,
    /// Every column name mentioned (last part, folded), sorted; `*` if a star is there.
    pub columns: Vec<String>,
    /// For UPDATE and DELETE: whether a WHERE that mentions a column restricts it. `None` for others.
    pub has_filter: Option<bool>,
    /// A literal LIMIT or FETCH FIRST.
    pub row_limit: Option<u64>,
    /// Functions called that are not on the list of harmless built-ins: (schema.)name, folded, sorted.
    pub unlisted_functions: Vec<String>,
    /// Last parts of the names of all functions called and of all operators used, sorted; `::` for casts. A database can have its own
    /// function or operator of a built-in name.
    pub calls: Vec<String>,
    /// Output positions, from 0, that are a call of `count` and nothing else.
    pub counts: Vec<u16>,
    /// What columns of the changed relation are assigned from, where that is more than constants.
    pub moves: Vec<Move>,
    /// True if what the statement does cannot be told from its text (DO, CALL, FETCH, EXECUTE of a name that is not known, unlisted functions):
    /// the masker then treats every value without proven origin as sensitive.
    pub opaque: bool,
    /// Why the statement cannot be read at all; then nothing else here counts.
    pub unreadable: Option<String>,
    /// SET, RESET, `set_config()` with literals, DISCARD.
    pub settings: Vec<Setting>,
    /// Transaction control, if it is that.
    pub transaction: Option<Transaction>,
    /// COPY, if it is that.
    pub copy: Option<CopyFact>,
    /// SQL-level PREPARE, EXECUTE, DEALLOCATE or DISCARD: the statement name it makes, runs or drops (folded);
    /// empty for all of them. They share one name space with the protocol's prepared statements.
    pub prepared: Option<String>,
}

/// Facts of a whole command: one or more statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// In the order of the text. Empty for an empty query.
    pub statements: Vec<StatementFacts>,
    /// True if no literal of the text had a say in these facts: another text of the same shape has the same facts.
    pub literal_free: bool,
}

impl StatementFacts {
    /// A statement of which nothing is known but its kind and its effect.
    fn bare(kind: &str, effect: Effect) -> Self {
        Self {
            kind: kind.to_owned(),
            effect,
            needs: Vec::new(),
            tables: Vec::new(),
            columns: Vec::new(),
            has_filter: None,
            row_limit: None,
            unlisted_functions: Vec::new(),
            calls: Vec::new(),
            counts: Vec::new(),
            moves: Vec::new(),
            opaque: false,
            unreadable: None,
            settings: Vec::new(),
            transaction: None,
            copy: None,
            prepared: None,
        }
    }
}

impl Facts {
    /// Facts of something that cannot be read.
    pub fn unreadable(why: impl Into<String>) -> Self {
        let bare = StatementFacts::bare("unreadable", Effect::Write);
        let statement = StatementFacts { opaque: true, unreadable: Some(why.into()), ..bare };
        Self { statements: vec![statement], literal_free: false }
    }
    /// Facts of the opening of a session.
    pub fn connect() -> Self {
        let needs = vec![Need { action: Action::Connect, object: Object::Resource }];
        let statement = StatementFacts { needs, ..StatementFacts::bare("connect", Effect::Read) };
        Self { statements: vec![statement], literal_free: true }
    }
    /// The strongest effect of any statement; `Read` for an empty query.
    pub fn effect(&self) -> Effect {
        self.statements.iter().map(|s| s.effect).max().unwrap_or(Effect::Read)
    }
    /// The first reason why something cannot be read.
    pub fn why_unreadable(&self) -> Option<&str> {
        self.statements.iter().find_map(|s| s.unreadable.as_deref())
    }
    /// Whether any statement is opaque.
    pub fn is_opaque(&self) -> bool {
        self.statements.iter().any(|s| s.opaque)
    }
    /// All relations of all statements.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.statements.iter().flat_map(|s| &s.tables)
    }
}
