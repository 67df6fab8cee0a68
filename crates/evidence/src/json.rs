//! Writes JSON in the form of a pack: keys sorted by bytes, no spaces. Not here: what is written.
//!
//! `serde_json` sorts keys only as long as no crate of the build asks it to keep their order, and one does.

use serde_json::Value;

use crate::row::json_text;

/// A value, without a line end.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => json_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_bytes());
            out.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json_text(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A value as one line.
pub(crate) fn line(value: &Value, out: &mut String) {
    write(value, out);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_texts_escaped() {
        let value = serde_json::json!({"b": [1, null, true], "a": {"z": "\u{7f}\"", "é": -1}});
        let mut out = String::new();
        line(&value, &mut out);
        assert_eq!(out, "{\"a\":{\"z\":\"\\u007f\\\"\",\"é\":-1},\"b\":[1,null,true]}\n");
    }
}
