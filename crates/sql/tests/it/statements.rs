//! The table of statements: each line of SQL is followed by the facts expected of it.

use chancery_model::{Effect, Facts, Object, Settings, StatementFacts, TableName};

/// Statement, then an indented line: kind, effect (R or W), needs and what else is set.
const TABLE: &str = include_str!("statements.txt");

fn table_name(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{schema}.{}", table.name),
        None => table.name.clone(),
    }
}

fn describe_one(facts: &StatementFacts) -> String {
    if let Some(why) = &facts.unreadable {
        return format!("unreadable: {why}");
    }
    let mut parts = vec![facts.kind.clone(), if facts.effect == Effect::Read { "R" } else { "W" }.to_owned()];
    let needs = facts.needs.iter().map(|need| {
        let object = match &need.object {
            Object::Resource => "*".to_owned(),
            Object::Schema(name) => format!("schema:{name}"),
            Object::Table(table) => table_name(table),
        };
        format!("{} {object}", need.action.as_str())
    });
    parts.push(needs.collect::<Vec<_>>().join(", "));
    let needed = facts.needs.iter().filter_map(|need| match &need.object {
        Object::Table(table) => Some(table.clone()),
        _ => None,
    });
    let needed: std::collections::BTreeSet<_> = needed.collect();
    assert_eq!(needed.into_iter().collect::<Vec<_>>(), facts.tables, "tables and needs tell the same");
    if !facts.columns.is_empty() {
        parts.push(format!("columns {}", facts.columns.join(" ")));
    }
    if let Some(filter) = facts.has_filter {
        parts.push(if filter { "filtered" } else { "unfiltered" }.to_owned());
    }
    parts.extend(facts.row_limit.map(|limit| format!("limit {limit}")));
    if !facts.unlisted_functions.is_empty() {
        parts.push(format!("calls {}", facts.unlisted_functions.join(" ")));
    }
    parts.extend(facts.opaque.then(|| "opaque".to_owned()));
    for setting in &facts.settings {
        parts.push(format!("sets {}={}", setting.name, setting.value.as_deref().unwrap_or("?")));
    }
    parts.extend(facts.transaction.map(|t| format!("{t:?}").to_lowercase()));
    if let Some(copy) = &facts.copy {
        let table = copy.table.as_ref().map_or("query".to_owned(), table_name);
        let options = if copy.has_options { " with options" } else { "" };
        parts.push(format!("{:?} {table}({}) {}{options}", copy.direction, copy.columns.join(" "), copy.format));
    }
    parts.extend(facts.prepared.as_ref().map(|name| format!("prepared '{name}'")));
    parts.join("; ")
}

fn describe(facts: &Facts) -> String {
    let mut parts: Vec<_> = facts.statements.iter().map(describe_one).collect();
    if facts.literal_free {
        parts.push("free".to_owned());
    }
    parts.join(" | ")
}

#[test]
fn statements_have_the_facts_of_the_table() {
    let mut actual = String::new();
    let mut count = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with("    ")) {
        actual.push_str(line);
        actual.push('\n');
        if !line.is_empty() && !line.starts_with("# ") {
            count += 1;
            actual.push_str("    ");
            actual.push_str(&describe(&chancery_sql::read(line, &Settings::default())));
            actual.push('\n');
        }
    }
    assert!(count >= 200, "{count} statements");
    let wrong: Vec<_> = TABLE.lines().zip(actual.lines()).filter(|(expected, actual)| expected != actual).collect();
    let list: String = wrong.iter().take(20).map(|(e, a)| format!("expected {e}\n  actual {a}\n")).collect();
    assert_eq!(TABLE.lines().count(), actual.lines().count(), "every statement has its line of facts:\n{actual}");
    assert!(wrong.is_empty(), "{list}");
}
