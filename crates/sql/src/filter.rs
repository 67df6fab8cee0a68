//! Whether a WHERE restricts anything.

use pg_query::{NodeEnum, NodeRef, protobuf as p};

use crate::tree::{UnknownNode, children};

/// Whether the condition mentions a column in every branch that could let all rows through.
///
/// `true`, `1 = 1`, `id = id` and `id = 1 OR true` do not filter. This is a net for mistakes, not a proof: a condition
/// can always be written that is true of every row.
pub(crate) fn filters(condition: Option<&p::Node>) -> bool {
    let Some(node) = condition.and_then(|n| n.node.as_ref()) else { return false };
    match node {
        NodeEnum::CurrentOfExpr(_) => true,
        NodeEnum::BoolExpr(expression) => match p::BoolExprType::try_from(expression.boolop) {
            Ok(p::BoolExprType::AndExpr) => expression.args.iter().any(|arg| filters(Some(arg))),
            Ok(p::BoolExprType::OrExpr) => expression.args.iter().all(|arg| filters(Some(arg))),
            _ => mentions_column(node.to_ref()),
        },
        NodeEnum::AExpr(expression) => !same_column(expression) && mentions_column(node.to_ref()),
        _ => mentions_column(node.to_ref()),
    }
}

/// Whether a column is mentioned anywhere below.
fn mentions_column(node: NodeRef<'_>) -> bool {
    /// Why the search ended early.
    enum End {
        Found,
        Unknown,
    }
    impl From<UnknownNode> for End {
        fn from(_: UnknownNode) -> Self {
            Self::Unknown
        }
    }
    fn search(node: NodeRef<'_>) -> Result<(), End> {
        match node {
            NodeRef::ColumnRef(_) | NodeRef::CurrentOfExpr(_) => Err(End::Found),
            other => children(other, &mut |child| search(child)),
        }
    }
    matches!(search(node), Err(End::Found))
}

/// Whether both sides are the same column.
fn same_column(expression: &p::AExpr) -> bool {
    let side = |node: &Option<Box<p::Node>>| match node.as_deref().and_then(|n| n.node.as_ref()) {
        Some(NodeEnum::ColumnRef(column)) => Some(crate::reader::strings(&column.fields).join("\0")),
        _ => None,
    };
    side(&expression.lexpr).is_some_and(|left| Some(left) == side(&expression.rexpr))
}
