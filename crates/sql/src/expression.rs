//! Expressions, relations and the names in them.

use chancery_model::{Action, Object, Setting, TableName};
use pg_query::{NodeEnum, NodeRef, protobuf as p};

use crate::functions::{Class, class, is_builtin_operator, is_of_information_schema};
use crate::reader::{Reader, Walk, string, strings};
use crate::utility::constant_text;

impl Reader {
    /// Walks a node that is not a statement.
    pub(crate) fn expression(&mut self, node: NodeRef<'_>) -> Walk {
        match node {
            NodeRef::RangeVar(relation) => return self.relation(relation),
            NodeRef::ColumnRef(column) => return self.column(column),
            NodeRef::FuncCall(call) => return self.call(call),
            NodeRef::IntoClause(into) => {
                if let Some(relation) = &into.rel {
                    self.table(relation, Action::Define);
                }
                return self.visit_all(&into.options);
            }
            // Names a relation of the FROM clause, by alias.
            NodeRef::LockingClause(_) => return Ok(()),
            NodeRef::AExpr(expression) => self.operator_of(expression),
            NodeRef::SubLink(link) => self.operator(&link.oper_name),
            NodeRef::SortBy(sort) => self.operator(&sort.use_op),
            NodeRef::TypeCast(cast) => self.cast(cast),
            NodeRef::RangeTableSample(sample) => self.sampling(sample),
            NodeRef::Alias(alias) => {
                self.row_names.insert(alias.aliasname.clone());
            }
            NodeRef::JoinExpr(join) => {
                if join.is_natural {
                    self.columns.insert("*".to_owned());
                }
                self.column_names(&join.using_clause);
            }
            NodeRef::AIndirection(indirection) => self.indirection(&indirection.indirection),
            NodeRef::ResTarget(target) => self.indirection(&target.indirection),
            NodeRef::PartitionCmd(command) => {
                if let Some(relation) = &command.name {
                    self.table(relation, Action::Define);
                }
                return match &command.bound {
                    Some(bound) => self.visit(NodeRef::PartitionBoundSpec(bound)),
                    None => Ok(()),
                };
            }
            NodeRef::AlterTableCmd(command) => return self.alteration(command),
            NodeRef::ColumnDef(column) if !column.colname.is_empty() => {
                self.columns.insert(column.colname.clone());
            }
            NodeRef::IndexElem(element) if !element.name.is_empty() => {
                self.columns.insert(element.name.clone());
            }
            NodeRef::Constraint(constraint) => {
                self.column_names(&constraint.keys);
                self.column_names(&constraint.fk_attrs);
                self.column_names(&constraint.pk_attrs);
            }
            NodeRef::CtesearchClause(clause) => self.column_names(&clause.search_col_list),
            NodeRef::CtecycleClause(clause) => self.column_names(&clause.cycle_col_list),
            NodeRef::AccessPriv(privilege) => self.column_names(&privilege.cols),
            NodeRef::MergeWhenClause(clause) => self.target_names(&clause.target_list),
            NodeRef::OnConflictClause(clause) => self.target_names(&clause.target_list),
            _ => {}
        }
        self.visit_children(node)
    }

    /// Puts the names of a WITH clause in scope and walks its queries. Returns the scope to go back to.
    pub(crate) fn enter(&mut self, with: Option<&p::WithClause>) -> Walk<usize> {
        let outer = self.scope.open();
        let Some(with) = with else { return Ok(outer) };
        let tables = || {
            with.ctes.iter().filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(table)) => Some(table),
                _ => None,
            })
        };
        if with.recursive {
            tables().for_each(|table| self.scope.add(&table.ctename));
        }
        for table in tables() {
            self.visit_children(NodeRef::CommonTableExpr(table))?;
            if !with.recursive {
                self.scope.add(&table.ctename);
            }
        }
        Ok(outer)
    }

    /// Goes back to an outer scope.
    pub(crate) fn leave(&mut self, outer: usize) {
        self.scope.close(outer);
    }

    /// Notes names of columns.
    pub(crate) fn column_names(&mut self, names: &[p::Node]) {
        self.columns.extend(names.iter().filter_map(string).map(str::to_owned));
    }

    /// Notes the columns that are assigned to.
    pub(crate) fn target_names(&mut self, targets: &[p::Node]) {
        for target in targets {
            if let Some(NodeEnum::ResTarget(target)) = &target.node
                && !target.name.is_empty()
            {
                self.columns.insert(target.name.clone());
            }
        }
    }

    /// One change of an ALTER TABLE. A relation directly in it (INHERIT) is changed too.
    fn alteration(&mut self, command: &p::AlterTableCmd) -> Walk {
        let subtype = p::AlterTableType::try_from(command.subtype).map(|subtype| subtype.as_str_name());
        let on_column = subtype.is_ok_and(|name| name.contains("Column") || name.contains("NotNull"));
        if on_column && !command.name.is_empty() {
            self.columns.insert(command.name.clone());
        }
        if let Some(NodeEnum::RangeVar(relation)) = command.def.as_deref().and_then(|def| def.node.as_ref()) {
            self.table(relation, Action::Define);
            return Ok(());
        }
        self.visit_children(NodeRef::AlterTableCmd(command))
    }

    fn relation(&mut self, relation: &p::RangeVar) -> Walk {
        if !self.is_common_table(relation) {
            let role = self.role;
            self.table(relation, role);
            if self.locked {
                self.table(relation, Action::Write);
            }
            return Ok(());
        }
        self.row_names.insert(relation.relname.clone());
        match &relation.alias {
            Some(alias) => self.visit(NodeRef::Alias(alias)),
            None => Ok(()),
        }
    }

    fn column(&mut self, column: &p::ColumnRef) -> Walk {
        match column.fields.last().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::String(name)) => self.columns.insert(name.sval.clone()),
            _ => self.columns.insert("*".to_owned()),
        };
        Ok(())
    }

    fn indirection(&mut self, steps: &[p::Node]) {
        self.column_names(steps);
        if steps.iter().any(|step| matches!(step.node, Some(NodeEnum::AStar(_)))) {
            self.columns.insert("*".to_owned());
        }
    }

    fn call(&mut self, call: &p::FuncCall) -> Walk {
        let parts = strings(&call.funcname);
        self.calls.extend(parts.last().map(|name| (*name).to_owned()));
        let known = match parts.as_slice() {
            [name] | ["pg_catalog", name] => class(name),
            ["information_schema", name] if is_of_information_schema(name) => Class::Harmless,
            _ => Class::Unlisted,
        };
        if known == Class::Harmless {
            self.literal_said |= parts.last().is_some_and(|name| looks_up(name));
            return self.visit_children(NodeRef::FuncCall(call));
        }
        self.functions.insert(parts.join("."));
        match known {
            Class::Special { actions, opaque } => {
                self.opaque |= opaque;
                actions.iter().for_each(|action| self.need_resource(*action));
                // Reading a file or a slot is not proven to leave everything as it was.
                self.effect = chancery_model::Effect::Write;
            }
            Class::SetConfig => self.set_config(&call.args),
            Class::Sequence => self.sequence(&call.args),
            Class::Harmless | Class::Unlisted => self.unknown_effects(),
        }
        self.visit_children(NodeRef::FuncCall(call))
    }

    fn set_config(&mut self, args: &[p::Node]) {
        match (args.first().and_then(constant_text), args.get(1).and_then(constant_text)) {
            (Some(name), Some(value)) => self.setting(&name, Some(value)),
            // The client's own value, as a literal is.
            (Some(name), None) if args.get(1).is_some_and(is_parameter) && !decides(&name) => self.setting(&name, None),
            // A value that is computed can be data, on its way out as a parameter status.
            (Some(name), None) => {
                self.setting(&name, None);
                self.unknown_effects();
            }
            _ => {
                self.settings.push(Setting { name: "all".to_owned(), value: None });
                self.need_resource(Action::Administer);
                self.unknown_effects();
            }
        }
    }

    fn sequence(&mut self, args: &[p::Node]) {
        let name = args.first().and_then(|node| match &node.node {
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().and_then(constant_text),
            _ => constant_text(node),
        });
        match name.as_deref().and_then(relation_of_text) {
            Some(name) => self.named_table(name, Action::Write),
            None => self.need_resource(Action::Write),
        }
    }

    fn operator_of(&mut self, expression: &p::AExpr) {
        use p::AExprKind as Kind;
        match Kind::try_from(expression.kind) {
            Ok(Kind::AexprBetween | Kind::AexprNotBetween | Kind::AexprBetweenSym | Kind::AexprNotBetweenSym) => {}
            _ => self.operator(&expression.name),
        }
    }

    /// An operator is a function call too: harmless only with a built-in symbol, in no schema but `pg_catalog`.
    fn operator(&mut self, name: &[p::Node]) {
        let parts = strings(name);
        self.calls.extend(parts.last().map(|symbol| (*symbol).to_owned()));
        let harmless = match parts.as_slice() {
            [] => true,
            [symbol] | ["pg_catalog", symbol] => is_builtin_operator(symbol),
            _ => false,
        };
        if !harmless {
            self.functions.insert(format!("operator {}", parts.join(".")));
            self.unknown_effects();
        }
    }

    fn cast(&mut self, cast: &p::TypeCast) {
        let Some(target) = &cast.type_name else { return };
        self.calls.insert("::".to_owned());
        self.literal_said |= strings(&target.names).last().is_some_and(|name| looks_up(name));
    }

    fn sampling(&mut self, sample: &p::RangeTableSample) {
        let method = strings(&sample.method);
        if !matches!(method.as_slice(), ["system" | "bernoulli"] | ["pg_catalog", "system" | "bernoulli"]) {
            self.functions.insert(method.join("."));
            self.unknown_effects();
        }
    }

    /// Notes a change of a session setting.
    pub(crate) fn setting(&mut self, name: &str, value: Option<String>) {
        let name = name.to_lowercase();
        let action = if STRONG_SETTINGS.contains(&name.as_str()) { Action::Administer } else { Action::Read };
        self.need(action, Object::Resource);
        self.settings.push(Setting { name, value });
    }
}

/// Whether a type or function finds an object of the catalog by a name in a literal.
fn looks_up(name: &str) -> bool {
    let name = name.strip_prefix("to_").unwrap_or(name);
    name.starts_with("reg") && !name.starts_with("regexp_") && !name.starts_with("regr_")
}

/// Whether an argument is a parameter and nothing else, cast or not to a type that only takes it as text.
fn is_parameter(node: &p::Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => {
            let target = cast.type_name.as_ref().map(|name| strings(&name.names)).unwrap_or_default();
            let plain = matches!(target.as_slice(), ["text" | "varchar"] | ["pg_catalog", "text" | "varchar"]);
            plain && cast.arg.as_deref().is_some_and(is_parameter)
        }
        _ => false,
    }
}

/// Whether a setting has a say in what statements mean, so that its value must be known.
fn decides(name: &str) -> bool {
    let name = name.to_lowercase();
    STRONG_SETTINGS.contains(&name.as_str()) || READING_SETTINGS.contains(&name.as_str())
}

/// Settings that change how the text of later statements is read, or what its names mean.
const READING_SETTINGS: &[&str] = &[
    "backslash_quote",
    "client_encoding",
    "names",
    "search_path",
    "standard_conforming_strings",
    "transform_null_equals",
];

/// Settings that change who the session is, what code it loads, or which safeguards of the server are off.
const STRONG_SETTINGS: &[&str] = &[
    "allow_system_table_mods",
    "dynamic_library_path",
    "extension_control_path",
    "ignore_system_indexes",
    "local_preload_libraries",
    "role",
    "session_authorization",
    "session_preload_libraries",
    "session_replication_role",
    "zero_damaged_pages",
];

/// Reads a relation out of a literal, if it is written in the plainest way.
fn relation_of_text(text: &str) -> Option<TableName> {
    let fold = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) if !quoted.is_empty() && !quoted.contains(['"', '.']) => Some(quoted.to_owned()),
            None if plain => Some(part.to_ascii_lowercase()),
            _ => None,
        }
    };
    let mut parts = text.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => Some(TableName { schema: None, name: fold(name)? }),
        (Some(schema), Some(name), None) => Some(TableName { schema: Some(fold(schema)?), name: fold(name)? }),
        _ => None,
    }
}
