//! The shape of a text: the text itself with runs of white space made one space and plain constants replaced.
//!
//! The key is again a text of the same grammar, with `''` for every string and `0` or `0.0` for numbers. Anything out
//! of the ordinary (escapes, comments, dollar quotes, odd numbers, bytes beyond ASCII outside quotes) has no shape.

use crate::lexer::{is_name, is_name_start};

/// Appends the shape of `text` to `out`; two texts of the same shape have parse trees that differ only in constants.
///
/// Numbers after LIMIT, OFFSET, FETCH and FLOAT are kept, since they have a say in facts or types. Returns false when
/// the lexer is unsure; then `out` is as it was, and nothing may be cached by shape. A text with a backslash has no
/// shape, so the answer does not depend on `standard_conforming_strings`.
pub fn shape(text: &str, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let sure = write(text.as_bytes(), out).is_some();
    if !sure {
        out.truncate(before);
    }
    sure
}

/// What a byte begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Unsure,
    Space,
    Name,
    Digit,
    Quote,
    NameQuote,
    Dollar,
    Operator,
    Dot,
    Mark,
}

/// The class of every byte.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Unsure; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Class::Name,
            b'0'..=b'9' => Class::Digit,
            b'\'' => Class::Quote,
            b'"' => Class::NameQuote,
            b'$' => Class::Dollar,
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|'
            | b'`' | b'?' => Class::Operator,
            b'.' => Class::Dot,
            b'(' | b')' | b'[' | b']' | b',' | b';' | b':' => Class::Mark,
            _ => Class::Unsure,
        };
        byte += 1;
    }
    classes
};

/// Whether a byte goes on with a name.
static CONTINUES_NAME: [bool; 256] = {
    let mut continues = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        continues[byte] = matches!(CLASSES[byte], Class::Name | Class::Digit | Class::Dollar);
        byte += 1;
    }
    continues
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Writes the shape; `None` when unsure. What is kept is copied in long pieces, up to the next replacement.
fn write(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.reserve(text.len());
    let (mut at, mut copied) = (0, 0);
    let mut keep_numbers = false;
    // Whether the last token was a string: two in a row may be one, depending on the white space between.
    let mut after_string = false;
    while let Some(&byte) = text.get(at) {
        let start = at;
        let kind = class(byte);
        let mut replacement: Option<&[u8]> = None;
        at = match kind {
            Class::Unsure => return None,
            Class::Space => {
                let end = skip(text, at + 1, |b| class(b) == Class::Space);
                if end > at + 1 || byte != b' ' {
                    replacement = Some(b" ");
                }
                end
            }
            Class::Name => name(text, at)?,
            Class::Digit => {
                let (end, written) = number(text, at)?;
                replacement = if keep_numbers { None } else { Some(written) };
                end
            }
            Class::Quote if after_string => return None,
            Class::Quote => {
                replacement = Some(b"''");
                string(text, at)?
            }
            Class::NameQuote => quoted_name(text, at)?,
            Class::Dollar => parameter(text, at)?,
            Class::Operator => operator(text, at)?,
            // A number may begin with a dot.
            Class::Dot if text.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
            Class::Dot | Class::Mark => at + 1,
        };
        if let Some(replacement) = replacement {
            out.extend_from_slice(text.get(copied..start)?);
            out.extend_from_slice(replacement);
            copied = at;
        }
        match kind {
            Class::Space => continue,
            Class::Name => keep_numbers = says_number(text.get(start..at)?, keep_numbers),
            Class::Quote | Class::NameQuote => keep_numbers = false,
            _ => {}
        }
        after_string = kind == Class::Quote;
    }
    out.extend_from_slice(text.get(copied..)?);
    Some(())
}

/// The first position from `at` on whose byte is not in the set.
fn skip(text: &[u8], at: usize, set: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !set(*b)).unwrap_or(rest.len())
}

/// A name; unsure if it is the prefix of a special literal, or goes on beyond ASCII.
fn name(text: &[u8], at: usize) -> Option<usize> {
    let end = skip(text, at + 1, |b| CONTINUES_NAME[usize::from(b)]);
    match text.get(end) {
        Some(b'\'') if end - at == 1 && matches!(text.get(at)?.to_ascii_lowercase(), b'e' | b'b' | b'x' | b'n') => None,
        Some(b'&') if end - at == 1 && matches!(text.get(at)?, b'u' | b'U') => None,
        Some(128..) => None,
        _ => Some(end),
    }
}

/// Whether the numbers from here on stay in the key: behind the words that give them a say, up to another word.
fn says_number(word: &[u8], keeps: bool) -> bool {
    if !keeps && !matches!(word.first(), Some(b'l' | b'L' | b'o' | b'O' | b'f' | b'F')) {
        return false;
    }
    let is = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()));
    match word.len() {
        5 | 6 if is(&["limit", "offset", "fetch", "float"]) => true,
        3..=5 if keeps => is(&["first", "next", "row", "rows"]),
        _ => false,
    }
}

/// The end of a number and what stands for it: `0` for what fits the grammar's integers, `0.0` for the rest.
fn number(text: &[u8], at: usize) -> Option<(usize, &'static [u8])> {
    let digits = |at| skip(text, at, |b| b.is_ascii_digit());
    let mut end = digits(at);
    let mut integer = true;
    if text.get(end) == Some(&b'.') {
        integer = false;
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        integer = false;
        let exponent = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = digits(exponent);
        if end == exponent {
            return None;
        }
    }
    if text.get(end).is_some_and(|b| is_name(*b) || *b == b'.') {
        return None;
    }
    let written = text.get(at..end)?;
    let fits = || std::str::from_utf8(written).is_ok_and(|digits| digits.parse::<i32>().is_ok());
    Some((end, if integer && (written.len() < 10 || fits()) { b"0" } else { b"0.0" }))
}

/// The end of a plain string; unsure at a backslash, whose meaning is a setting.
fn string(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let rest = text.get(from..)?;
        let length = memchr::memchr3(b'\'', b'\\', 0, rest)?;
        if rest.get(length) != Some(&b'\'') {
            return None;
        }
        from += length + 1;
        if text.get(from) != Some(&b'\'') {
            return Some(from);
        }
        from += 1;
    }
}

/// The end of a quoted name, which stays in the key.
fn quoted_name(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let rest = text.get(from..)?;
        let length = memchr::memchr(b'"', rest)?;
        if memchr::memchr(0, rest.get(..length)?).is_some() {
            return None;
        }
        from += length + 1;
        if text.get(from) != Some(&b'"') {
            return Some(from);
        }
        from += 1;
    }
}

/// `$1`; other dollars begin a quote.
fn parameter(text: &[u8], at: usize) -> Option<usize> {
    let end = skip(text, at + 1, |b| b.is_ascii_digit());
    let junk = text.get(end).is_some_and(|b| is_name(*b) || is_name_start(*b));
    if end == at + 1 || junk { None } else { Some(end) }
}

/// A run of operator characters; how it is cut into operators depends on nothing but the run.
fn operator(text: &[u8], at: usize) -> Option<usize> {
    let end = skip(text, at, |b| class(b) == Class::Operator);
    let run = text.get(at..end)?;
    let comment = run.windows(2).any(|pair| pair == b"--" || pair == b"/*");
    if comment { None } else { Some(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let sure = shape(text, &mut out);
        let rest = String::from_utf8(out.split_off(6)).expect("keys of texts are texts");
        assert_eq!(out, b"before");
        assert!(sure || rest.is_empty());
        sure.then_some(rest)
    }

    #[test]
    fn replaces_plain_constants() {
        for (text, expected) in [
            ("SELECT  *\n FROM t WHERE a = 'x' AND id=7", "SELECT * FROM t WHERE a = '' AND id=0"),
            ("select 'it''s', 1.5, 2e10, 2147483647, 2147483648", "select '', 0.0, 0.0, 0, 0.0"),
            ("SELECT $1, \"a'b\", a.b[1], -1", "SELECT $1, \"a'b\", a.b[0], -0"),
            ("SELECT 1 LIMIT 10 OFFSET 5", "SELECT 0 LIMIT 10 OFFSET 5"),
            ("SELECT 1 FETCH FIRST 3 ROWS ONLY", "SELECT 0 FETCH FIRST 3 ROWS ONLY"),
            ("(SELECT 1 LIMIT (7)) UNION SELECT 2", "(SELECT 0 LIMIT (7)) UNION SELECT 0"),
            ("SELECT x::float(30), 4 FROM t WHERE b=1", "SELECT x::float(30), 4 FROM t WHERE b=0"),
            ("SELECT 'ü', date '2020-01-01'", "SELECT '', date ''"),
        ] {
            assert_eq!(key(text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn gives_up_when_unsure() {
        for text in [
            "SELECT E'a'",
            "SELECT b'0'",
            "SELECT x'0'",
            "SELECT N'a'",
            "SELECT U&'a'",
            "SELECT u&\"a\"",
            "SELECT $$a$$",
            "SELECT $a$b$a$",
            "SELECT 1 -- c",
            "SELECT 1 /* c */",
            "SELECT é",
            "SELECT aé",
            "SELECT 'a\\b'",
            "SELECT \\d",
            "SELECT 'a",
            "SELECT \"a",
            "SELECT 'a\0'",
            "SELECT \0",
            "SELECT 'a'\n'b'",
            "SELECT 'a' 'b'",
            "SELECT .5",
            "SELECT 1.",
            "SELECT 1.e5",
            "SELECT 1e",
            "SELECT 0x1F",
            "SELECT 1_000",
            "SELECT 1a",
            "SELECT a[1..2]",
            "SELECT $1a",
            "SELECT 1é",
            "SELECT a+--1\n2",
            "SELECT {",
        ] {
            assert_eq!(key(text), None, "{text}");
        }
    }
}
