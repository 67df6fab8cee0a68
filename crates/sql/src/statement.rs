//! Statements that query and change data, and the way to all others.

use std::collections::BTreeSet;

use chancery_model::{Action, Effect, Move};
use pg_query::{NodeEnum, NodeRef, protobuf as p};

use crate::filter::filters;
use crate::reader::{Reader, Top, Unreadable, Walk, strings};
use crate::tree::children;

/// Assignments that are told apart.
const ASSIGNMENTS_MAX: usize = 64;

impl Reader {
    /// Walks a statement, outermost or nested, and says what it is.
    pub(crate) fn statement(&mut self, node: NodeRef<'_>) -> Walk<Top> {
        match node {
            NodeRef::SelectStmt(select) => self.select(select),
            NodeRef::InsertStmt(insert) => self.insert(insert),
            NodeRef::UpdateStmt(update) => self.update(update),
            NodeRef::DeleteStmt(delete) => self.delete(delete),
            NodeRef::MergeStmt(merge) => self.merge(merge),
            _ => match self.utility(node)? {
                Some(top) => Ok(top),
                None => self.definition(node)?.ok_or(Unreadable("the statement is of an unknown kind")),
            },
        }
    }

    fn select(&mut self, select: &p::SelectStmt) -> Walk<Top> {
        // Without `..`, so that no part of a query can be forgotten.
        let p::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        let outer = self.enter(with_clause.as_ref())?;
        if let Some(into) = into_clause {
            self.visit(NodeRef::IntoClause(into))?;
        }
        for branch in [larg, rarg].into_iter().flatten() {
            self.visit(NodeRef::SelectStmt(branch))?;
        }
        for list in [distinct_clause, target_list, group_clause, window_clause, values_lists, sort_clause] {
            self.visit_all(list)?;
        }
        for node in [where_clause, having_clause, limit_offset, limit_count] {
            self.visit_one(node.as_deref())?;
        }
        // FOR UPDATE names relations by alias, or means all of them, also inside subqueries of FROM.
        let locked = self.locked;
        self.locked |= !locking_clause.is_empty();
        self.visit_all(from_clause)?;
        self.locked = locked;
        if !locking_clause.is_empty() {
            self.effect = Effect::Write;
        }
        self.leave(outer);
        let kind = if makes_table(select) { "select into" } else { "select" };
        let row_limit = match p::LimitOption::try_from(*limit_option) {
            Ok(p::LimitOption::WithTies) => None,
            _ => limit_count.as_deref().and_then(count),
        };
        let counts = if kind == "select" { counts(select) } else { Vec::new() };
        Ok(Top { row_limit, counts, plain: kind == "select", ..Top::of(kind) })
    }

    fn insert(&mut self, insert: &p::InsertStmt) -> Walk<Top> {
        let outer = self.enter(insert.with_clause.as_ref())?;
        let target = insert.relation.as_ref().map(|relation| self.table(relation, Action::Write));
        self.target_names(&insert.cols);
        let with = insert.with_clause.as_ref().map(NodeRef::WithClause);
        let query = insert.select_stmt.as_deref().and_then(|node| node.node.as_ref()).map(NodeEnum::to_ref);
        self.moves(&insert.cols, &[], with.into_iter().chain(query))?;
        if let Some(conflict) = &insert.on_conflict_clause {
            self.assignments(&conflict.target_list, with)?;
        }
        self.children_but_with(NodeRef::InsertStmt(insert))?;
        self.leave(outer);
        // ON CONFLICT DO UPDATE and RETURNING show rows that are there.
        let updates = insert
            .on_conflict_clause
            .as_ref()
            .is_some_and(|c| c.action == p::OnConflictAction::OnconflictUpdate as i32);
        if let Some(target) = target
            && (updates || insert.returning_clause.is_some())
        {
            self.named_table(target, Action::Read);
        }
        Ok(Top { plain: true, ..Top::of("insert") })
    }

    fn update(&mut self, update: &p::UpdateStmt) -> Walk<Top> {
        let outer = self.enter(update.with_clause.as_ref())?;
        let others = std::mem::take(&mut self.columns);
        self.children_but_with(NodeRef::UpdateStmt(update))?;
        self.leave(outer);
        let mine = std::mem::replace(&mut self.columns, others);
        let mentions = !mine.is_empty();
        self.columns.extend(mine);
        self.target_names(&update.target_list);
        let with = update.with_clause.as_ref().map(NodeRef::WithClause);
        let sources = update.from_clause.iter().filter_map(|node| node.node.as_ref()).map(NodeEnum::to_ref);
        self.assignments(&update.target_list, with.into_iter().chain(sources))?;
        let reads = update.where_clause.is_some()
            || update.returning_clause.is_some()
            || !update.from_clause.is_empty()
            || mentions;
        self.target(update.relation.as_ref(), reads);
        self.note_filter(filters(update.where_clause.as_deref()));
        Ok(Top { plain: true, ..Top::of("update") })
    }

    fn delete(&mut self, delete: &p::DeleteStmt) -> Walk<Top> {
        let outer = self.enter(delete.with_clause.as_ref())?;
        self.children_but_with(NodeRef::DeleteStmt(delete))?;
        self.leave(outer);
        let reads =
            delete.where_clause.is_some() || delete.returning_clause.is_some() || !delete.using_clause.is_empty();
        self.target(delete.relation.as_ref(), reads);
        self.note_filter(filters(delete.where_clause.as_deref()));
        Ok(Top { plain: true, ..Top::of("delete") })
    }

    fn merge(&mut self, merge: &p::MergeStmt) -> Walk<Top> {
        let outer = self.enter(merge.with_clause.as_ref())?;
        self.children_but_with(NodeRef::MergeStmt(merge))?;
        self.leave(outer);
        self.target(merge.relation.as_ref(), true);
        let with = merge.with_clause.as_ref().map(NodeRef::WithClause);
        let source = merge.source_relation.as_deref().and_then(|node| node.node.as_ref()).map(NodeEnum::to_ref);
        for node in &merge.merge_when_clauses {
            if let Some(NodeEnum::MergeWhenClause(clause)) = &node.node {
                self.moves(&clause.target_list, &clause.values, with.into_iter().chain(source))?;
            }
        }
        let changes_rows = merge.merge_when_clauses.iter().any(|node| match &node.node {
            Some(NodeEnum::MergeWhenClause(clause)) => {
                matches!(p::CmdType::try_from(clause.command_type), Ok(p::CmdType::CmdUpdate | p::CmdType::CmdDelete))
            }
            _ => true,
        });
        if changes_rows {
            self.note_filter(filters(merge.join_condition.as_deref()));
        }
        Ok(Top::of("merge"))
    }

    /// Notes what each target of `SET a = …, b = …` is assigned from; `sources` have a say in all of them.
    fn assignments<'a>(&mut self, targets: &[p::Node], sources: impl IntoIterator<Item = NodeRef<'a>>) -> Walk {
        if targets.len() > ASSIGNMENTS_MAX {
            return self.moves(&[], targets, sources);
        }
        let sources: Vec<NodeRef<'a>> = sources.into_iter().collect();
        for target in targets {
            self.moves(std::slice::from_ref(target), &[], sources.iter().copied())?;
        }
        Ok(())
    }

    /// Notes that every one of the targets (none: any column) is assigned from everything that is mentioned.
    fn moves<'a>(
        &mut self,
        targets: &[p::Node],
        values: &[p::Node],
        sources: impl IntoIterator<Item = NodeRef<'a>>,
    ) -> Walk {
        let mut from = BTreeSet::new();
        for node in sources {
            mentioned(node, &mut from)?;
        }
        for node in targets.iter().chain(values).filter_map(|node| node.node.as_ref()) {
            mentioned(node.to_ref(), &mut from)?;
        }
        if from.is_empty() {
            return Ok(());
        }
        let from: Vec<String> = from.into_iter().collect();
        let names = targets.iter().map(|target| match &target.node {
            Some(NodeEnum::ResTarget(target)) if !target.name.is_empty() => Some(target.name.clone()),
            _ => None,
        });
        if targets.is_empty() || targets.len() > ASSIGNMENTS_MAX {
            self.moves.push(Move { to: None, from });
        } else {
            self.moves.extend(names.map(|to| Move { to, from: from.clone() }));
        }
        Ok(())
    }

    /// The relation that is changed; never a common table expression.
    fn target(&mut self, relation: Option<&p::RangeVar>, reads: bool) {
        let Some(relation) = relation else { return };
        self.table(relation, Action::Write);
        if reads {
            self.table(relation, Action::Read);
        }
    }

    /// Walks all but the WITH clause, which came first, and the relation that is changed.
    fn children_but_with(&mut self, node: NodeRef<'_>) -> Walk {
        let target = match node {
            NodeRef::InsertStmt(s) => s.relation.as_ref(),
            NodeRef::UpdateStmt(s) => s.relation.as_ref(),
            NodeRef::DeleteStmt(s) => s.relation.as_ref(),
            NodeRef::MergeStmt(s) => s.relation.as_ref(),
            _ => None,
        };
        children(node, &mut |child| match child {
            NodeRef::WithClause(_) => Ok(()),
            NodeRef::RangeVar(relation) if target.is_some_and(|target| std::ptr::eq(target, relation)) => Ok(()),
            other => self.visit(other),
        })
    }
}

/// Adds the names of all columns that a tree mentions.
fn mentioned(node: NodeRef<'_>, names: &mut BTreeSet<String>) -> Walk {
    let steps = match node {
        NodeRef::ColumnRef(column) => column.fields.as_slice(),
        NodeRef::AIndirection(indirection) => indirection.indirection.as_slice(),
        _ => &[],
    };
    if let Some(last) = steps.last() {
        names.insert(crate::reader::string(last).unwrap_or("*").to_owned());
    }
    if let NodeRef::JoinExpr(join) = node {
        names.extend(strings(&join.using_clause).into_iter().map(str::to_owned));
    }
    children(node, &mut |child| mentioned(child, names))
}

/// Output positions that are `count(*)` or `count(column)`. None where a star makes positions uncertain.
fn counts(select: &p::SelectStmt) -> Vec<u16> {
    let columns: Vec<_> = select.target_list.iter().map(output).collect();
    if columns.iter().any(Option::is_none) {
        return Vec::new();
    }
    let counted = columns.into_iter().enumerate().filter(|(_, node)| node.is_some_and(is_count));
    counted.filter_map(|(position, _)| u16::try_from(position).ok()).collect()
}

/// The expression of one output column; `None` if it can be several.
fn output(node: &p::Node) -> Option<&NodeEnum> {
    let Some(NodeEnum::ResTarget(target)) = &node.node else { return None };
    let value = target.val.as_deref()?.node.as_ref()?;
    let steps = match value {
        NodeEnum::ColumnRef(column) => &column.fields,
        NodeEnum::AIndirection(indirection) => &indirection.indirection,
        _ => return Some(value),
    };
    let star = steps.iter().any(|step| matches!(step.node, Some(NodeEnum::AStar(_))));
    (!star).then_some(value)
}

fn is_count(node: &NodeEnum) -> bool {
    let NodeEnum::FuncCall(call) = node else { return false };
    let named = matches!(strings(&call.funcname).as_slice(), ["count"] | ["pg_catalog", "count"]);
    let of_column = matches!(call.args.as_slice(), [p::Node { node: Some(NodeEnum::ColumnRef(_)) }]);
    named && (call.agg_star || of_column)
}

/// Whether the query makes a table: the clause stands in the leftmost branch.
fn makes_table(select: &p::SelectStmt) -> bool {
    let mut branch = select;
    loop {
        if branch.into_clause.is_some() {
            return true;
        }
        match branch.larg.as_deref() {
            Some(left) => branch = left,
            None => return false,
        }
    }
}

/// A literal number of rows.
fn count(node: &p::Node) -> Option<u64> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) if !constant.isnull => match constant.val.as_ref()? {
            p::a_const::Val::Ival(number) => u64::try_from(number.ival).ok(),
            p::a_const::Val::Fval(number) => number.fval.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
