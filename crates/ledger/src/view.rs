//! What a reader of a whole log needs of each line, without copying it. The lines that this house writes have a plain form
//! (no escapes, no nested objects), which is walked in place; any other line goes through [`Leaf::parse`], which has the
//! last word on what is well-formed.

use std::collections::BTreeMap;

use chancery_model::{Digest, SessionId};
use serde_json::Value;

use crate::{ENTRY_BYTES_MAX, EntryKind, KeyEpoch, Leaf};

/// Keys of the longest kind, and some.
const FIELDS_MAX: usize = 32;

/// The fields of a line.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) kind: Option<EntryKind>,
    pub(crate) index: u64,
    pub(crate) wall: i64,
    pub(crate) mono: i64,
    pub(crate) boot: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) session: Option<SessionId>,
    pub(crate) command: Option<u64>,
    rest: Rest<'a>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one line; nearly every one is the largest")]
enum Rest<'a> {
    /// Keys and values as they stand in the line; texts without their quotes.
    Plain([(&'a str, Plain<'a>); FIELDS_MAX], usize),
    Parsed(&'a BTreeMap<String, Value>),
}

#[derive(Clone, Copy, Debug)]
enum Plain<'a> {
    Text(&'a str),
    Number(i64),
    Texts,
}

impl<'a> From<&'a Leaf> for View<'a> {
    fn from(leaf: &'a Leaf) -> Self {
        Self {
            kind: leaf.kind,
            index: leaf.index,
            wall: leaf.wall,
            mono: leaf.mono,
            boot: &leaf.boot,
            origin: &leaf.origin,
            session: leaf.session,
            command: leaf.command,
            rest: Rest::Parsed(&leaf.rest),
        }
    }
}

impl<'a> View<'a> {
    /// A line in the plain form at `index`. `None`: it has another form, right or wrong.
    pub(crate) fn plain(line: &'a [u8], index: u64) -> Option<Self> {
        if line.len() > ENTRY_BYTES_MAX {
            return None;
        }
        // One pass for the whole line: what is walked below is printable ASCII without escapes.
        let plain = line.iter().fold(true, |plain, byte| plain & (*byte >= b' ') & (*byte < 0x7f) & (*byte != b'\\'));
        let text = std::str::from_utf8(line).ok().filter(|_| plain)?;
        let mut walk = Walk { rest: text.strip_prefix('{')? };
        let (mut fields, mut count) = ([("", Plain::Texts); FIELDS_MAX], 0);
        let (mut boot, mut kind, mut mono, mut number, mut origin) = (None, None, None, None, None);
        let (mut command, mut session, mut wall, mut version, mut last) = (None, None, None, None, "");
        loop {
            let key = walk.text()?;
            walk.take(b':')?;
            let value = walk.value()?;
            // The first letters decide nearly always.
            if last.as_bytes().first() >= key.as_bytes().first() && last >= key {
                return None;
            }
            last = key;
            match (key, value) {
                ("b", Plain::Text(text)) => boot = Some(text),
                ("k", Plain::Text(text)) => kind = Some(EntryKind::parse(text)),
                ("m", Plain::Number(number)) => mono = Some(number),
                ("n", Plain::Number(at)) => number = u64::try_from(at).ok(),
                ("o", Plain::Text(text)) => origin = Some(text),
                ("q", Plain::Number(at)) => command = Some(u64::try_from(at).ok()?),
                ("s", Plain::Text(text)) => session = Some(SessionId(hexadecimal(text)?)),
                ("t", Plain::Number(number)) => wall = Some(number),
                ("v", Plain::Number(number)) => version = Some(number),
                ("b" | "k" | "m" | "n" | "o" | "q" | "s" | "t" | "v", _) => return None,
                other => {
                    *fields.get_mut(count)? = other;
                    count += 1;
                }
            }
            match walk.byte()? {
                b',' => {}
                b'}' if walk.rest.is_empty() => break,
                _ => return None,
            }
        }
        if version != Some(1) || number != Some(index) {
            return None;
        }
        let rest = Rest::Plain(fields, count);
        Some(Self {
            kind: kind?,
            index,
            wall: wall?,
            mono: mono?,
            boot: boot?,
            origin: origin?,
            session,
            command,
            rest,
        })
    }

    pub(crate) fn digest(&self, name: &str) -> Option<Digest> {
        self.rest.text(name).and_then(hexadecimal).map(Digest)
    }
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.rest.number(name)
    }
    /// A time in microseconds.
    pub(crate) fn micros(&self, name: &str) -> Option<i64> {
        match &self.rest {
            Rest::Plain(..) => match self.rest.plain(name)? {
                Plain::Number(micros) => Some(micros),
                _ => None,
            },
            Rest::Parsed(fields) => fields.get(name).and_then(Value::as_i64),
        }
    }
    /// What a `key.epoch` entry states: `None` for another kind, `Some(None)` if a field is missing or not what it is.
    pub(crate) fn epoch(&self) -> Option<Option<KeyEpoch>> {
        (self.kind == Some(EntryKind::KeyEpoch)).then(|| {
            Some(KeyEpoch {
                number: self.number("e")?,
                key: hexadecimal(self.rest.text("key")?)?,
                life_ms: self.number("life_ms")?,
                size: self.number("size")?,
                root: self.digest("root")?,
                signature: hexadecimal(self.rest.text("sig")?)?,
            })
        })
    }
}

impl<'a> Rest<'a> {
    fn plain(&self, name: &str) -> Option<Plain<'a>> {
        match self {
            Self::Plain(fields, count) => {
                fields[..*count].iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
            }
            Self::Parsed(_) => None,
        }
    }
    fn text(&self, name: &str) -> Option<&'a str> {
        match self {
            Self::Plain(..) => match self.plain(name)? {
                Plain::Text(text) => Some(text),
                _ => None,
            },
            Self::Parsed(fields) => fields.get(name).and_then(Value::as_str),
        }
    }
    fn number(&self, name: &str) -> Option<u64> {
        match self {
            Self::Plain(..) => match self.plain(name)? {
                Plain::Number(number) => u64::try_from(number).ok(),
                _ => None,
            },
            Self::Parsed(fields) => fields.get(name).and_then(Value::as_u64),
        }
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
pub(crate) fn hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => 0xff,
    };
    let text = text.as_bytes();
    let (mut bytes, mut seen) = ([0; N], 0);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (digit(pair[0]), digit(pair[1]));
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen < 16).then_some(bytes)
}

/// What is left of a line.
struct Walk<'a> {
    rest: &'a str,
}

impl<'a> Walk<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.rest.as_bytes().first()?;
        self.rest = self.rest.get(1..)?;
        Some(byte)
    }
    fn take(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then_some(())
    }
    /// A text with its quotes. There is no escape in the line.
    fn text(&mut self) -> Option<&'a str> {
        let inside = self.rest.strip_prefix('"')?;
        let end = inside.bytes().position(|byte| byte == b'"')?;
        let (text, rest) = inside.split_at_checked(end)?;
        self.rest = rest.get(1..)?;
        Some(text)
    }
    fn value(&mut self) -> Option<Plain<'a>> {
        match self.rest.as_bytes().first()? {
            b'"' => self.text().map(Plain::Text),
            b'[' => self.texts(),
            _ => self.number().map(Plain::Number),
        }
    }
    fn texts(&mut self) -> Option<Plain<'a>> {
        self.take(b'[')?;
        if self.rest.starts_with(']') {
            self.byte();
            return Some(Plain::Texts);
        }
        loop {
            self.text()?;
            match self.byte()? {
                b',' => {}
                b']' => return Some(Plain::Texts),
                _ => return None,
            }
        }
    }
    /// An integer of at most 18 digits without sign or leading zero.
    fn number(&mut self) -> Option<i64> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at_checked(digits)?;
        if !(1..=18).contains(&digits) || (digits > 1 && number.starts_with('0')) {
            return None;
        }
        self.rest = rest;
        Some(number.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"b":"7b0f","bytes":12,"d":["allow","r#1"],"k":"act.done","m":136616132,"n":7,"o":"gw/a","#,
        r#""q":1860,"roll":"00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff","#,
        r#""s":"01a224976fad7e2ea94cf40387ae2e8e","t":1795910236843051,"v":1}"#
    );

    /// Whatever the fast way reads, the slow way reads as the same; what it does not, the slow way may.
    fn agree(line: &[u8], index: u64) -> bool {
        let Some(view) = View::plain(line, index) else { return false };
        let leaf =
            Leaf::parse(line, index).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
        let slow = View::from(&leaf);
        assert_eq!((view.kind, view.index, view.wall, view.mono), (slow.kind, slow.index, slow.wall, slow.mono));
        assert_eq!(
            (view.boot, view.origin, view.session, view.command),
            (slow.boot, slow.origin, slow.session, slow.command)
        );
        for name in ["acts", "bytes", "roll", "d", "cm", "leaves"] {
            assert_eq!(view.digest(name), slow.digest(name), "{name}");
            assert_eq!(view.number(name), slow.number(name), "{name}");
            assert_eq!(view.micros(name), slow.micros(name), "{name}");
        }
        true
    }

    #[test]
    fn the_fast_way_reads_what_the_slow_way_reads() {
        assert!(agree(LINE.as_bytes(), 7));
        assert!(!agree(LINE.as_bytes(), 8));
        // Every changed byte and every cut: never another meaning.
        for at in 0..LINE.len() {
            for bit in 0..8 {
                let mut line = LINE.as_bytes().to_vec();
                line[at] ^= 1 << bit;
                agree(&line, 7);
            }
            assert!(!agree(&LINE.as_bytes()[..at], 7));
        }
        for (from, to) in [
            (r#""bytes":12"#, r#""bytes":012"#),
            (r#""bytes":12"#, r#""bytes":-12"#),
            (r#""bytes":12"#, r#""bytes":1.5"#),
            (r#""bytes":12"#, r#""bytes":1234567890123456789"#),
            (r#""bytes":12"#, r#""bytes":null"#),
            (r#""bytes":12"#, r#""bytes":{"a":1}"#),
            (r#"["allow","r#1"]"#, r#"[]"#),
            (r#"["allow","r#1"]"#, r#"["allow",]"#),
            (r#"["allow","r#1"]"#, r#"["allow" "r"]"#),
            (r#""o":"gw/a""#, r#""o":"gw\/a""#),
            (r#""o":"gw/a","#, r#""o":"gw/a","o":"gw/b","#),
            (r#""k":"act.done","#, r#""k":"else","#),
            (r#""s":"01a2"#, r#""s":"01A2"#),
            (r#"{"b""#, r#"{ "b""#),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert_ne!(line, LINE);
            agree(line.as_bytes(), 7);
        }
    }
}
