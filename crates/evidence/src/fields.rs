//! Fields of an entry, as columns want them.

use chancery_ledger::Leaf;
use chancery_model::Timestamp;
use serde_json::Value as Json;

use crate::Value;

/// A text field.
pub(crate) fn text(leaf: &Leaf, name: &str) -> Option<String> {
    leaf.rest.get(name).and_then(Json::as_str).map(str::to_owned)
}

/// A number field.
pub(crate) fn number(leaf: &Leaf, name: &str) -> Option<u64> {
    leaf.rest.get(name).and_then(Json::as_u64)
}

/// A field of several texts.
pub(crate) fn texts(leaf: &Leaf, name: &str) -> Vec<String> {
    let items = leaf.rest.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// The decision's word, and the rules behind it.
pub(crate) fn decision(leaf: &Leaf) -> (Option<String>, Vec<String>) {
    let mut texts = texts(leaf, "d").into_iter();
    (texts.next(), texts.collect())
}

/// The session's id, without its prefix.
pub(crate) fn session(leaf: &Leaf) -> Option<String> {
    leaf.session.map(|session| {
        let mut out = String::with_capacity(32);
        crate::directory::hex(&session.0, &mut out);
        out
    })
}

/// A time of the wall clock, as a column.
pub(crate) fn time(micros: i64) -> Value {
    Value::Text(Timestamp(micros).to_string())
}
