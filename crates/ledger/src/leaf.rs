//! Reads the fields of a stored line that bind it to its place. Not here: its hash, which is over the bytes as stored.

use std::collections::BTreeMap;

use chancery_model::{Digest, SessionId};
use serde_json::Value;

use crate::view::View;
use crate::{ENTRY_BYTES_MAX, EntryKind, KeyEpoch, LedgerError};

/// A decoded line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its kind; `None` for a kind this version does not know (hashed and counted, not judged).
    pub kind: Option<EntryKind>,
    /// Field `n`.
    pub index: u64,
    /// Field `t`: microseconds of the wall clock.
    pub wall: i64,
    /// Field `m`: microseconds since boot of the process.
    pub mono: i64,
    /// Field `b`.
    pub boot: String,
    /// Field `o`.
    pub origin: String,
    /// Field `s`.
    pub session: Option<SessionId>,
    /// Field `q`.
    pub command: Option<u64>,
    /// Every other field, as JSON.
    pub rest: BTreeMap<String, Value>,
}

impl Leaf {
    /// Decodes a line at `index`. Refuses what this format cannot have written: a field twice, a float, unsorted keys.
    pub fn parse(line: &[u8], index: u64) -> Result<Self, LedgerError> {
        let bad = |what| LedgerError::Corrupt(index, what);
        if line.len() > ENTRY_BYTES_MAX {
            return Err(bad("line longer than 60 KiB"));
        }
        let Fields(mut fields) =
            serde_json::from_slice(line).map_err(|_| bad("not one JSON object with sorted keys"))?;
        let mut take = |name: &'static str| fields.remove(name);
        let integer = |value: Option<Value>| value.as_ref().and_then(Value::as_i64);
        if take("v").as_ref().and_then(Value::as_u64) != Some(1) {
            return Err(bad("version is not 1"));
        }
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let kind = text(take("k")).ok_or(bad("no kind"))?;
        let session = match take("s") {
            None => None,
            Some(value) => {
                let id = value.as_str().and_then(SessionId::parse).ok_or(bad("session is not an id"))?;
                Some(id)
            }
        };
        let command = match take("q") {
            None => None,
            Some(value) => Some(value.as_u64().ok_or(bad("command is not a number"))?),
        };
        let leaf = Self {
            kind: EntryKind::parse(&kind),
            index: take("n").as_ref().and_then(Value::as_u64).ok_or(bad("no index"))?,
            wall: integer(take("t")).ok_or(bad("no time"))?,
            mono: integer(take("m")).ok_or(bad("no monotonic time"))?,
            boot: text(take("b")).ok_or(bad("no boot id"))?,
            origin: text(take("o")).ok_or(bad("no origin"))?,
            session,
            command,
            rest: fields,
        };
        if leaf.index != index {
            return Err(bad("its index is not its position"));
        }
        Ok(leaf)
    }
    /// A field of `rest` that holds a digest.
    pub fn digest(&self, name: &str) -> Option<Digest> {
        self.rest.get(name).and_then(Value::as_str).and_then(Digest::from_hex)
    }
    /// What a `key.epoch` entry states: `None` for another kind, `Some(None)` if a field is missing or not what it is.
    pub fn epoch(&self) -> Option<Option<KeyEpoch>> {
        View::from(self).epoch()
    }
    /// A field of `rest` that holds a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.rest.get(name).and_then(Value::as_u64)
    }
}

/// The fields of one object. Refuses a key that does not sort after the one before it, hence duplicates too.
pub(crate) struct Fields(pub(crate) BTreeMap<String, Value>);

impl<'de> serde::Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> serde::de::Visitor<'de> for FieldsVisitor {
    type Value = Fields;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with sorted keys")
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        use serde::de::Error;
        let mut fields = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if fields.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(A::Error::custom("keys are not sorted"));
            }
            if value.is_f64() {
                return Err(A::Error::custom("a float"));
            }
            fields.insert(key, value);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"b":"00","k":"heartbeat","m":1,"n":7,"o":"gw","t":2,"v":1}"#;

    #[test]
    fn a_line_is_read() {
        let leaf = Leaf::parse(LINE.as_bytes(), 7).expect("well-formed");
        assert_eq!((leaf.kind, leaf.wall, leaf.mono), (Some(EntryKind::Heartbeat), 2, 1));
    }

    #[test]
    fn what_this_format_does_not_write_is_refused() {
        for (from, to) in [
            (r#""n":7"#, r#""n":8"#),
            (r#""n":7"#, r#""n":7.0"#),
            (r#""v":1"#, r#""v":2"#),
            (r#""t":2"#, r#""n":7"#),
            (r#""m":1,"n":7"#, r#""n":7,"m":1"#),
            (r#"}"#, r#"} {}"#),
            (r#""b":"00","#, ""),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert!(Leaf::parse(line.as_bytes(), 7).is_err(), "{line}");
        }
    }
}
