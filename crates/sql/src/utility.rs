//! Statements that steer a session or a transaction, move data in bulk, or wrap other statements.

use chancery_model::{Action, CopyDirection, CopyFact, Effect, Object, Transaction};
use pg_query::{NodeEnum, NodeRef, protobuf as p};

use crate::reader::{Reader, Top, Walk, string};
use crate::tree::children;

impl Reader {
    /// Walks a utility statement; `None` if it is not one.
    pub(crate) fn utility(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let top = match node {
            NodeRef::TransactionStmt(s) => self.transaction(s)?,
            NodeRef::VariableSetStmt(s) => self.set(s)?,
            NodeRef::VariableShowStmt(_) => self.session("show"),
            NodeRef::DiscardStmt(s) => self.discard(s),
            NodeRef::ListenStmt(_) => self.session("listen"),
            NodeRef::UnlistenStmt(_) => self.session("unlisten"),
            NodeRef::DeallocateStmt(s) => {
                self.prepared = Some(if s.isall { String::new() } else { s.name.clone() });
                self.session("deallocate")
            }
            NodeRef::ClosePortalStmt(_) => self.session("close"),
            NodeRef::FetchStmt(s) => {
                self.opaque = true;
                self.session(if s.ismove { "move" } else { "fetch" })
            }
            NodeRef::NotifyStmt(_) => self.act(node, "notify", &[Action::Write], Vec::new())?,
            NodeRef::LockStmt(_) => self.act(node, "lock table", &[Action::Write], Vec::new())?,
            NodeRef::TruncateStmt(_) => self.act(node, "truncate", &[Action::Write], Vec::new())?,
            NodeRef::ConstraintsSetStmt(s) => {
                for constraint in &s.constraints {
                    // Names a constraint, not a relation.
                    if !matches!(constraint.node, Some(NodeEnum::RangeVar(_))) {
                        self.visit_one(Some(constraint))?;
                    }
                }
                self.need_resource(Action::Write);
                Top::of("set constraints")
            }
            _ => return self.wrapping(node),
        };
        Ok(Some(top))
    }

    /// Statements around other statements, or around what is not in the text; and those on the server.
    fn wrapping(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let top = match node {
            NodeRef::ExplainStmt(s) => self.explain(s)?,
            NodeRef::PrepareStmt(s) => {
                self.prepared = Some(s.name.clone());
                self.wrapped("prepare", s.query.as_deref())?
            }
            NodeRef::DeclareCursorStmt(s) => self.wrapped("declare cursor", s.query.as_deref())?,
            NodeRef::ExecuteStmt(s) => {
                self.prepared = Some(s.name.clone());
                let top = match self.runs.take_if(|runs| runs.name == s.name) {
                    Some(runs) => Top { plain: false, ..self.statement(runs.query.to_ref())? },
                    None => {
                        self.unknown_effects();
                        Top::of("execute")
                    }
                };
                self.visit_children(node)?;
                top
            }
            NodeRef::DoStmt(_) => {
                self.unknown_effects();
                Top::of("do")
            }
            NodeRef::CallStmt(_) => {
                self.unknown_effects();
                self.visit_children(node)?;
                Top::of("call")
            }
            NodeRef::CopyStmt(s) => self.copy(s)?,
            NodeRef::CheckPointStmt(_) => self.act(node, "checkpoint", &[Action::Administer], Vec::new())?,
            NodeRef::LoadStmt(_) => self.act(node, "load", &[Action::Administer], Vec::new())?,
            NodeRef::AlterSystemStmt(_) => {
                self.need_resource(Action::Administer);
                Top::of("alter system")
            }
            _ => return Ok(None),
        };
        Ok(Some(top))
    }

    /// A statement that does `actions` to the relations directly below it and to `objects`; to the resource if it
    /// names none of either.
    pub(crate) fn act(
        &mut self,
        node: NodeRef<'_>,
        kind: impl Into<String>,
        actions: &[Action],
        objects: Vec<Object>,
    ) -> Walk<Top> {
        let mut named = !objects.is_empty();
        for object in objects {
            if let Object::Table(table) = &object {
                self.tables.insert(table.clone());
            }
            actions.iter().for_each(|action| self.need(*action, object.clone()));
        }
        children(node, &mut |child| match child {
            NodeRef::RangeVar(relation) => {
                named = true;
                actions.iter().for_each(|action| {
                    self.table(relation, *action);
                });
                Ok(())
            }
            other => self.visit(other),
        })?;
        if !named {
            actions.iter().for_each(|action| self.need_resource(*action));
        }
        self.effect = Effect::Write;
        Ok(Top::of(kind))
    }

    fn session(&mut self, kind: &str) -> Top {
        self.need_resource(Action::Read);
        Top::of(kind)
    }

    fn transaction(&mut self, statement: &p::TransactionStmt) -> Walk<Top> {
        use p::TransactionStmtKind as Kind;
        let (kind, transaction, effect) = match Kind::try_from(statement.kind) {
            Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => ("begin", Transaction::Begin, Effect::Read),
            Ok(Kind::TransStmtCommit) => ("commit", Transaction::Commit, Effect::Write),
            Ok(Kind::TransStmtPrepare) => ("prepare transaction", Transaction::Commit, Effect::Write),
            Ok(Kind::TransStmtCommitPrepared) => ("commit prepared", Transaction::Commit, Effect::Write),
            Ok(Kind::TransStmtRollback) => ("rollback", Transaction::Rollback, Effect::Read),
            Ok(Kind::TransStmtRollbackTo) => ("rollback to savepoint", Transaction::Rollback, Effect::Read),
            Ok(Kind::TransStmtRollbackPrepared) => ("rollback prepared", Transaction::Rollback, Effect::Write),
            Ok(Kind::TransStmtSavepoint) => ("savepoint", Transaction::Savepoint, Effect::Read),
            Ok(Kind::TransStmtRelease) => ("release savepoint", Transaction::Savepoint, Effect::Read),
            Ok(Kind::Undefined) | Err(_) => return Err(crate::reader::Unreadable("unknown transaction control")),
        };
        self.settings_of(&statement.options);
        self.need_resource(Action::Read);
        self.effect = self.effect.max(effect);
        Ok(Top { transaction: Some(transaction), plain: statement.gid.is_empty(), ..Top::of(kind) })
    }

    /// Transaction modes are settings too.
    fn settings_of(&mut self, modes: &[p::Node]) {
        for mode in modes {
            if let Some(NodeEnum::DefElem(option)) = &mode.node {
                let value = option.arg.as_deref().and_then(constant_text);
                self.setting(&option.defname, value);
            }
        }
    }

    fn set(&mut self, statement: &p::VariableSetStmt) -> Walk<Top> {
        use p::VariableSetKind as Kind;
        let kind = match Kind::try_from(statement.kind) {
            Ok(Kind::VarSetValue) => {
                let parts: Option<Vec<String>> = statement.args.iter().map(constant_text).collect();
                self.setting(&statement.name, parts.map(|parts| parts.join(", ")));
                "set"
            }
            Ok(Kind::VarSetDefault | Kind::VarSetCurrent) => {
                self.setting(&statement.name, None);
                "set"
            }
            Ok(Kind::VarSetMulti) => {
                if statement.args.iter().any(|arg| !matches!(arg.node, Some(NodeEnum::DefElem(_)))) {
                    self.setting(&statement.name, None);
                }
                self.settings_of(&statement.args);
                "set"
            }
            Ok(Kind::VarReset) => {
                self.setting(&statement.name, None);
                "reset"
            }
            Ok(Kind::VarResetAll) => {
                self.setting("all", None);
                "reset"
            }
            Ok(Kind::Undefined) | Err(_) => return Err(crate::reader::Unreadable("unknown form of SET")),
        };
        self.visit_all(&statement.args)?;
        Ok(Top::of(kind))
    }

    fn discard(&mut self, statement: &p::DiscardStmt) -> Top {
        match p::DiscardMode::try_from(statement.target) {
            Ok(p::DiscardMode::DiscardPlans) => self.session("discard plans"),
            Ok(p::DiscardMode::DiscardSequences) => self.session("discard sequences"),
            Ok(p::DiscardMode::DiscardTemp) => {
                // Drops tables, if only the session's own.
                self.effect = Effect::Write;
                self.session("discard temp")
            }
            _ => {
                self.setting("all", None);
                self.prepared = Some(String::new());
                self.effect = Effect::Write;
                self.session("discard all")
            }
        }
    }

    fn wrapped(&mut self, kind: &str, query: Option<&p::Node>) -> Walk<Top> {
        let inner = self.inner(query)?;
        Ok(Top { kind: kind.to_owned(), row_limit: inner.row_limit, ..Top::default() })
    }

    fn inner(&mut self, query: Option<&p::Node>) -> Walk<Top> {
        match query.and_then(|node| node.node.as_ref()) {
            Some(node) => self.statement(node.to_ref()),
            None => Err(crate::reader::Unreadable("a statement is missing")),
        }
    }

    fn explain(&mut self, statement: &p::ExplainStmt) -> Walk<Top> {
        let before = self.effect;
        let inner = self.inner(statement.query.as_deref())?;
        self.visit_all(&statement.options)?;
        let runs = statement.options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => option.defname == "analyze" && !is_off(option.arg.as_deref()),
            _ => true,
        });
        if runs {
            // A literal among the options can decide whether it runs.
            return Ok(Top { kind: "explain analyze".to_owned(), plain: false, counts: Vec::new(), ..inner });
        }
        // Planning evaluates what it can, so an unknown function may run even here.
        if !self.opaque {
            self.effect = before;
        }
        self.settings.clear();
        Ok(Top::of("explain"))
    }

    fn copy(&mut self, statement: &p::CopyStmt) -> Walk<Top> {
        let on_server = statement.is_program || !statement.filename.is_empty();
        let (kind, bulk, plain) = match statement.is_from {
            true => ("copy from", Action::Import, Action::Write),
            false => ("copy to", Action::Export, Action::Read),
        };
        self.visit_one(statement.query.as_deref())?;
        self.visit_one(statement.where_clause.as_deref())?;
        self.visit_all(&statement.options)?;
        self.column_names(&statement.attlist);
        let table = statement.relation.as_ref().map(|relation| {
            self.table(relation, plain);
            self.table(relation, bulk)
        });
        if table.is_some() && statement.attlist.is_empty() {
            self.columns.insert("*".to_owned());
        }
        if statement.query.is_some() {
            let read = self.needs.iter().filter(|need| need.action == Action::Read).map(|need| need.object.clone());
            let read: Vec<Object> = read.collect();
            read.iter().for_each(|object| self.need(bulk, object.clone()));
            if read.is_empty() {
                self.need_resource(bulk);
            }
        }
        if on_server {
            self.need_resource(Action::Administer);
            return Ok(Top::of(kind));
        }
        let (format, has_options) = copy_options(&statement.options);
        let copy = CopyFact {
            direction: if statement.is_from { CopyDirection::In } else { CopyDirection::Out },
            table,
            columns: crate::reader::strings(&statement.attlist).into_iter().map(str::to_owned).collect(),
            format,
            has_options,
        };
        Ok(Top { copy: Some(copy), ..Top::of(kind) })
    }
}

/// The format, and whether there are other options.
fn copy_options(options: &[p::Node]) -> (String, bool) {
    let mut format = "text".to_owned();
    let mut others = false;
    for option in options {
        match &option.node {
            Some(NodeEnum::DefElem(option)) if option.defname == "format" => {
                format = option.arg.as_deref().and_then(constant_text).unwrap_or_default();
            }
            _ => others = true,
        }
    }
    (format, others)
}

/// The text of a constant: of a string, a number, a boolean or a bare word.
pub(crate) fn constant_text(node: &p::Node) -> Option<String> {
    if let Some(text) = string(node) {
        return Some(text.to_owned());
    }
    match node.node.as_ref()? {
        NodeEnum::Integer(number) => Some(number.ival.to_string()),
        NodeEnum::Float(number) => Some(number.fval.clone()),
        NodeEnum::Boolean(value) => Some(value.boolval.to_string()),
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            p::a_const::Val::Ival(number) => Some(number.ival.to_string()),
            p::a_const::Val::Fval(number) => Some(number.fval.clone()),
            p::a_const::Val::Boolval(value) => Some(value.boolval.to_string()),
            p::a_const::Val::Sval(text) => Some(text.sval.clone()),
            p::a_const::Val::Bsval(_) => None,
        },
        _ => None,
    }
}

/// Whether an option is switched off, as the server reads booleans; anything else may be on.
fn is_off(argument: Option<&p::Node>) -> bool {
    let text = argument.and_then(constant_text).map(|text| text.to_ascii_lowercase());
    matches!(text.as_deref(), Some("false" | "off" | "0"))
}
