//! What a rule reads of the context, found in its syntax tree before it ever runs.
//!
//! Reviews must be used in a form whose effect can be foretold: `context.reviews.contains("dba")` and its two
//! relatives with literals. The context as a whole must not be used as a value, or a rule could read time and
//! reviews unseen.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What one rule reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Review names asked for.
    pub(crate) reviews: BTreeSet<String>,
    /// Whether the answer can change with nothing but the clock.
    pub(crate) time: bool,
    /// Whether `context.tables` is read.
    pub(crate) tables: bool,
}

/// Reads the JSON form of a policy. The error is a sentence for the rule's author.
pub(crate) fn scan(policy: &Value) -> Result<Reads, &'static str> {
    let mut reads = Reads::default();
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        walk(condition.get("body").unwrap_or(&Value::Null), &mut reads)?;
    }
    Ok(reads)
}

const REVIEWS_FORM: &str =
    "context.reviews may only be asked contains(\"name\"), containsAny([\"name\", …]) or containsAll([\"name\", …])";
const CONTEXT_FORM: &str = "the context may only be used through its attributes (context.name, context has name)";

fn walk(node: &Value, reads: &mut Reads) -> Result<(), &'static str> {
    match node {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, reads)),
        Value::Object(fields) => {
            for word in ["contains", "containsAny", "containsAll"] {
                if let Some(Value::Object(call)) = fields.get(word)
                    && call.get("left").and_then(path).is_some_and(|path| path == ["reviews"])
                {
                    return names(call.get("right").unwrap_or(&Value::Null), reads);
                }
            }
            if let Some(path) = path(node) {
                return note(&path, reads);
            }
            if fields.get("Var").and_then(Value::as_str) == Some("context") {
                return Err(CONTEXT_FORM);
            }
            // A literal is data, whatever it looks like.
            if fields.contains_key("Value") {
                return Ok(());
            }
            fields.values().try_for_each(|value| walk(value, reads))
        }
        _ => Ok(()),
    }
}

/// `context.a.b` and `context has a.b` as `[a, b]`.
fn path(node: &Value) -> Option<Vec<&str>> {
    let fields = node.as_object()?;
    let access = fields.get(".").or_else(|| fields.get("has"))?.as_object()?;
    let left = access.get("left")?;
    let mut path = if is_context(left.as_object()?) { Vec::new() } else { path(left)? };
    match access.get("attr")? {
        Value::String(attr) => path.push(attr),
        Value::Array(attrs) => path.extend(attrs.iter().filter_map(Value::as_str)),
        _ => return None,
    }
    Some(path)
}

fn is_context(fields: &Map<String, Value>) -> bool {
    fields.get("Var").and_then(Value::as_str) == Some("context")
}

fn note(path: &[&str], reads: &mut Reads) -> Result<(), &'static str> {
    match path {
        ["reviews", ..] => return Err(REVIEWS_FORM),
        ["time", ..] | ["authentication"] | ["authentication", "age", ..] => reads.time = true,
        ["tables", ..] => reads.tables = true,
        _ => {}
    }
    Ok(())
}

/// A literal string, or a set of them.
fn names(node: &Value, reads: &mut Reads) -> Result<(), &'static str> {
    if let Some(Value::String(name)) = node.get("Value") {
        reads.reviews.insert(name.clone());
        return Ok(());
    }
    let items = node.get("Set").or_else(|| node.get("Value")).and_then(Value::as_array).ok_or(REVIEWS_FORM)?;
    for item in items {
        let name = item.get("Value").unwrap_or(item).as_str().ok_or(REVIEWS_FORM)?;
        reads.reviews.insert(name.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Result<Reads, &'static str> {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy = cedar_policy::Policy::parse(None, text).expect("parses");
        scan(&policy.to_json().expect("has a JSON form"))
    }

    #[test]
    fn reviews_are_found_in_every_allowed_form() {
        for condition in [
            r#"context.reviews.contains("dba")"#,
            r#"context["reviews"].contains("dba")"#,
            r#"context.reviews.containsAll(["dba"])"#,
            r#"!(context.reviews.containsAny(["dba"])) || principal.x"#,
            r#"if principal.x then context.reviews.contains("dba") else false"#,
        ] {
            let found = reads(condition).unwrap_or_else(|why| panic!("{condition}: {why}"));
            assert_eq!(found.reviews.into_iter().collect::<Vec<_>>(), ["dba"], "{condition}");
        }
    }

    #[test]
    fn reviews_in_any_other_form_are_refused() {
        for condition in [
            "context.reviews.isEmpty()",
            r#"context.reviews == ["dba"]"#,
            "context.reviews.contains(principal.subject)",
            r#"["dba"].containsAll(context.reviews)"#,
            r#"(if principal.x then context else context).reviews.contains("dba")"#,
            "context == resource.x",
            r#"{"a": context}.a.reviews.contains("dba")"#,
        ] {
            assert!(reads(condition).is_err(), "{condition}");
        }
    }

    #[test]
    fn time_is_found() {
        for condition in [
            "context.time.hour < 9",
            r#"context["time"]["unix"] > 3"#,
            "context.authentication.age > 60",
            "context.authentication == principal.x",
            "context has time",
        ] {
            assert!(reads(condition).expect("allowed").time, "{condition}");
        }
        for condition in [r#"context.authentication.method == "oidc""#, "context.opaque", "principal.time"] {
            assert!(!reads(condition).expect("allowed").time, "{condition}");
        }
        assert!(reads(r#"context.tables.contains("a")"#).expect("allowed").tables);
    }
}
