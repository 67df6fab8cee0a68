//! The context of one command, as the schema's `Facts` describes it.

use std::collections::BTreeSet;

use cedar_policy::{Context, RestrictedExpression};
use chancery_model::{CopyDirection, Effect, Facts, Need, Object, TableName, Timestamp};

use crate::names::part;
use crate::subject::{Inner, record};

/// What is being decided.
#[derive(Clone, Copy)]
pub(crate) enum Matter<'a> {
    Connect,
    Command { facts: &'a Facts, needs: &'a [Need] },
    Unmask,
    Api(&'a str),
}

/// Builds the context. `None` if a value of it cannot be built; then nothing can be allowed.
pub(crate) fn build<'a>(
    subject: &Inner,
    matter: Matter<'_>,
    reviews: impl IntoIterator<Item = &'a str>,
    now: Timestamp,
) -> Option<Context> {
    let mut pairs = match matter {
        Matter::Command { facts, needs } => command(facts, needs),
        Matter::Connect => plain("connect"),
        Matter::Unmask => plain("unmask"),
        Matter::Api(word) => {
            let mut pairs = plain("api");
            pairs.push(("api", text(word)));
            pairs
        }
    };
    let age = now.0.saturating_sub(subject.authenticated_at.0).max(0) / 1_000_000;
    let seconds = now.seconds();
    // 1970-01-01 was a Thursday, the fourth day.
    let weekday = (seconds.div_euclid(86_400) + 3).rem_euclid(7) + 1;
    let time = record([
        ("unix", long(seconds)),
        ("hour", long(seconds.div_euclid(3_600).rem_euclid(24))),
        ("minute", long(seconds.div_euclid(60).rem_euclid(60))),
        ("weekday", long(weekday)),
    ]);
    let authentication =
        record([("issuer", text(&subject.issuer)), ("method", text(subject.method)), ("age", long(age))]);
    pairs.extend([
        ("chain", subject.chain_fact.clone()),
        ("address", subject.address_fact.clone()),
        ("authentication", authentication),
        ("time", time),
        ("reviews", strings(reviews)),
    ]);
    Context::from_pairs(pairs.into_iter().map(|(key, value)| (key.to_owned(), value))).ok()
}

type Pairs = Vec<(&'static str, RestrictedExpression)>;

fn plain(kind: &str) -> Pairs {
    vec![
        ("kinds", strings([kind])),
        ("effect", text("read")),
        ("statements", long(0)),
        ("tables", strings([])),
        ("columns", strings([])),
        ("unfiltered", RestrictedExpression::new_bool(false)),
        ("opaque", RestrictedExpression::new_bool(false)),
        ("functions", strings([])),
        ("settings", strings([])),
    ]
}

fn command(facts: &Facts, needs: &[Need]) -> Pairs {
    let statements = &facts.statements;
    let all = |of: fn(&chancery_model::StatementFacts) -> Vec<&str>| -> RestrictedExpression {
        let distinct: BTreeSet<&str> = statements.iter().flat_map(of).collect();
        strings(distinct)
    };
    let unfiltered = statements.iter().any(|statement| statement.has_filter == Some(false));
    let tables: BTreeSet<String> = tables(facts, needs).map(|(schema, name)| dotted(schema, name)).collect();
    let mut pairs = vec![
        ("kinds", all(|statement| vec![statement.kind.as_str()])),
        ("effect", text(if facts.effect() == Effect::Read { "read" } else { "write" })),
        ("statements", long(i64::try_from(statements.len()).unwrap_or(i64::MAX))),
        ("tables", strings(tables.iter().map(String::as_str))),
        ("columns", all(|statement| statement.columns.iter().map(String::as_str).collect())),
        ("unfiltered", RestrictedExpression::new_bool(unfiltered)),
        ("opaque", RestrictedExpression::new_bool(facts.is_opaque())),
        ("functions", all(|statement| statement.unlisted_functions.iter().map(String::as_str).collect())),
        ("settings", all(|statement| statement.settings.iter().map(|setting| setting.name.as_str()).collect())),
    ];
    if statements.iter().any(|statement| statement.has_filter.is_some()) {
        pairs.push(("has_filter", RestrictedExpression::new_bool(!unfiltered)));
    }
    let limits: Option<Vec<u64>> = statements.iter().map(|statement| statement.row_limit).collect();
    if let Some(limit) = limits.and_then(|limits| limits.into_iter().max()) {
        pairs.push(("row_limit", long(i64::try_from(limit).unwrap_or(i64::MAX))));
    }
    let copies: BTreeSet<&str> = statements
        .iter()
        .filter_map(|statement| statement.copy.as_ref())
        .map(|copy| match copy.direction {
            CopyDirection::In => "in",
            CopyDirection::Out => "out",
        })
        .collect();
    match copies.len() {
        0 => {}
        1 => pairs.extend(copies.first().map(|word| ("copy", text(word)))),
        _ => pairs.push(("copy", text("both"))),
    }
    pairs
}

/// Every relation that is named: those of the needs with their schemas, and those of the facts.
fn tables<'a>(facts: &'a Facts, needs: &'a [Need]) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
    let needed = needs.iter().filter_map(|need| match &need.object {
        Object::Table(table) => Some((table.schema.as_deref(), table.name.as_str())),
        _ => None,
    });
    let named = facts
        .tables()
        .filter(|table| table.schema.is_some() || unresolved(table, needs))
        .map(|table| (table.schema.as_deref(), table.name.as_str()));
    needed.chain(named)
}

/// Whether some relation is named of which no need tells the schema.
pub(crate) fn has_unresolved(facts: &Facts, needs: &[Need]) -> bool {
    facts.tables().any(|table| table.schema.is_none() && unresolved(table, needs))
}

fn unresolved(table: &TableName, needs: &[Need]) -> bool {
    !needs
        .iter()
        .any(|need| matches!(&need.object, Object::Table(known) if known.schema.is_some() && known.name == table.name))
}

fn dotted(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{}.{}", part(schema), part(name)),
        None => part(name).into_owned(),
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: i64) -> RestrictedExpression {
    RestrictedExpression::new_long(value)
}

fn strings<'a>(values: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(text))
}
