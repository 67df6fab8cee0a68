//! A row of a table, and its two renderings. Not here: which columns a table has.

use std::fmt::Write;

/// What stands in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// As JSON.
    pub fn json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Text(text) => json_text(text, out),
            Self::Texts(texts) => {
                out.push('[');
                for (at, text) in texts.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    json_text(text, out);
                }
                out.push(']');
            }
        }
    }

    /// As a field of CSV (RFC 4180). A spreadsheet takes some texts for formulas, and texts come from clients: an
    /// apostrophe in front makes them texts again.
    fn csv(&self, out: &mut String) {
        let joined;
        let text = match self {
            Self::Null => return,
            Self::Number(number) => return out.push_str(&number.to_string()),
            Self::Text(text) => text,
            Self::Texts(texts) => {
                joined = texts.join("; ");
                &joined
            }
        };
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if !formula && !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n' | b';')) {
            return out.push_str(text);
        }
        out.push('"');
        if formula {
            out.push('\'');
        }
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    }
}

/// A text as JSON.
pub fn json_text(text: &str, out: &mut String) {
    out.push('"');
    // Nearly every text has nothing to escape.
    if !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\' | 0x7f)) {
        out.push_str(text);
        return out.push('"');
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A table's columns, and the order in which JSON has them.
#[derive(Debug)]
pub struct Columns {
    names: &'static [&'static str],
    sorted: Vec<usize>,
}

impl Columns {
    /// Of these names.
    pub fn new(names: &'static [&'static str]) -> Self {
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by_key(|at| names[*at]);
        Self { names, sorted }
    }
    /// In the order of the table.
    pub fn names(&self) -> &'static [&'static str] {
        self.names
    }
    /// A row as a line of JSON: every column, keys sorted. A row that is too short ends in nulls.
    pub fn json(&self, row: &[Value], out: &mut String) {
        for (at, column) in self.sorted.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            json_text(self.names[*column], out);
            out.push(':');
            row.get(*column).unwrap_or(&Value::Null).json(out);
        }
        out.push_str("}\n");
    }
    /// The header of the CSV.
    pub fn csv_header(&self, out: &mut String) {
        out.push_str(&self.names.join(","));
        out.push_str("\r\n");
    }
    /// A row as a line of CSV.
    pub fn csv(&self, row: &[Value], out: &mut String) {
        for at in 0..self.names.len() {
            if at > 0 {
                out.push(',');
            }
            row.get(at).unwrap_or(&Value::Null).csv(out);
        }
        out.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(row: &[Value]) -> (String, String) {
        let columns = Columns::new(&["entry", "at", "text"]);
        let (mut json, mut csv) = (String::new(), String::new());
        columns.json(row, &mut json);
        columns.csv(row, &mut csv);
        (json, csv)
    }

    #[test]
    fn a_row_is_a_line_of_json_with_sorted_keys_and_one_of_csv() {
        let row = [Value::from(7), "2026".into(), vec!["a".to_owned(), "b\"c".to_owned()].into()];
        let (json, csv) = rendered(&row);
        assert_eq!(json, "{\"at\":\"2026\",\"entry\":7,\"text\":[\"a\",\"b\\\"c\"]}\n");
        assert_eq!(csv, "7,2026,\"a; b\"\"c\"\r\n");
        assert_eq!(rendered(&[Value::Null]).0, "{\"at\":null,\"entry\":null,\"text\":null}\n");
    }

    #[test]
    fn formulas_are_disarmed_in_csv_and_exact_in_json() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=x"] {
            let (json, csv) = rendered(&[1.into(), "t".into(), text.into()]);
            assert!(csv.starts_with("1,t,\"'"), "{csv}");
            let back: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(back["text"], text);
        }
    }
}
