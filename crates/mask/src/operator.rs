//! Operators on one value: every result is legal for the type's decoder, and masking twice changes nothing.

use aws_lc_rs::hmac;
use bytes::Bytes;
use chancery_model::CellFormat;

use crate::{Operator, TokenKey};

pub(crate) const REDACTED: &[u8] = b"***";

/// How a type's values can be written and searched. OIDs are those of PostgreSQL's built-in types (`pg_type.dat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text is legal, and the binary form is the text.
    Text,
    /// Text with a grammar: json, and jsonb behind a version byte in binary.
    Json,
    /// int2, int4, int8: their width in bytes.
    Integer(u8),
    Numeric,
    Date,
    Timestamp,
    Timestamptz,
    Bytea,
    /// Cannot carry what detectors look for: bool, float, uuid, time, interval, oid, bit strings, network and geometric types.
    Plain,
    /// Everything else: arrays, composites, ranges, enums, extension types. Searched as text, masked to NULL.
    Other,
}

impl Kind {
    /// The words of mask maps.
    const WORDS: [(Self, &str); 12] = [
        (Self::Text, "text"),
        (Self::Json, "json"),
        (Self::Integer(2), "int2"),
        (Self::Integer(4), "int4"),
        (Self::Integer(8), "int8"),
        (Self::Numeric, "numeric"),
        (Self::Date, "date"),
        (Self::Timestamp, "timestamp"),
        (Self::Timestamptz, "timestamptz"),
        (Self::Bytea, "bytea"),
        (Self::Plain, "plain"),
        (Self::Other, "other"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, word)| word)
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, other)| *other == word).map(|(kind, _)| *kind)
    }

    pub(crate) fn of(type_id: u32) -> Self {
        match type_id {
            19 | 25 | 705 | 1042 | 1043 => Self::Text,
            114 | 3802 => Self::Json,
            21 => Self::Integer(2),
            23 => Self::Integer(4),
            20 => Self::Integer(8),
            1700 => Self::Numeric,
            1082 => Self::Date,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            17 => Self::Bytea,
            16
            | 18
            | 26
            | 27
            | 28
            | 29
            | 700
            | 701
            | 1083
            | 1266
            | 1186
            | 2950
            | 3220
            | 600..=604
            | 628
            | 718
            | 650
            | 829
            | 774
            | 869 => Self::Plain,
            _ => Self::Other,
        }
    }
}

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Null,
    Text(Bytes),
}

impl Outcome {
    pub(crate) fn redacted() -> Self {
        Self::Text(Bytes::from_static(REDACTED))
    }
}

/// Masks a whole value. `tag` separates the tokens of different tags.
pub(crate) fn apply(
    operator: Operator,
    key: Option<&TokenKey>,
    tag: &str,
    kind: Kind,
    format: CellFormat,
    value: &[u8],
) -> Outcome {
    match (operator, kind) {
        (Operator::Null, _) => Outcome::Null,
        (Operator::Generalise, Kind::Text) => generalise_text(value),
        (Operator::Generalise, _) => {
            generalise(kind, format, value).map_or(Outcome::Null, |v| Outcome::Text(Bytes::from(v)))
        }
        (_, Kind::Text) => text(operator, key, tag, value),
        _ => Outcome::Null,
    }
}

/// Masks text where any text is legal. `Generalise` redacts: a text in the middle of others has no year.
pub(crate) fn text(operator: Operator, key: Option<&TokenKey>, tag: &str, value: &[u8]) -> Outcome {
    match operator {
        Operator::Null => Outcome::Null,
        Operator::Redact | Operator::Generalise => Outcome::redacted(),
        Operator::Partial => partial(value).map_or_else(Outcome::redacted, |v| Outcome::Text(Bytes::from(v))),
        Operator::Token => key.map_or_else(Outcome::redacted, |key| token(key, tag, value)),
    }
}

fn partial(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    if let Some((local, domain)) = text.split_once('@')
        && !domain.is_empty()
        && !domain.contains(|c: char| c == '@' || c.is_whitespace())
        && !local.contains(char::is_whitespace)
    {
        // A local part of one or two characters would be shown in full or nearly so.
        let first = local.chars().next().filter(|c| *c != '*' && local.chars().nth(2).is_some());
        return Some(format!("{}***@{domain}", first.map(String::from).unwrap_or_default()).into_bytes());
    }
    let tail: Vec<char> = text.chars().rev().take(4).collect();
    let hidden = text.chars().count().checked_sub(4)?;
    let stars = text.chars().take(hidden).filter(|c| c.is_alphanumeric() || *c == '*').count();
    // Twelve stars whatever the length, so that the length is not told and masking again gives the same.
    (stars >= 12 && tail.iter().all(|c| c.is_alphanumeric()))
        .then(|| format!("************{}", tail.iter().rev().collect::<String>()).into_bytes())
}

/// What stands for a token where its key is not known: as long as one, and none.
pub(crate) const SOME_TOKEN: &[u8] = b"tok_????????????????????????????????";

const TOKEN_BYTES: usize = 10;
const CHECK_BYTES: usize = 6;

/// `tok_`, 80 bits that stand for the value and 48 bits by which we know our own tokens: those are left as they are,
/// and nobody without the key can write a value that passes for one.
fn token(key: &TokenKey, tag: &str, value: &[u8]) -> Outcome {
    let Some(key) = key.bytes() else { return Outcome::Text(Bytes::from_static(SOME_TOKEN)) };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    if is_token(&key, value) {
        return Outcome::Text(Bytes::copy_from_slice(value));
    }
    let mut context = hmac::Context::with_key(&key);
    context.update(b"token\0");
    context.update(&(tag.len() as u64).to_be_bytes());
    context.update(tag.as_bytes());
    context.update(value);
    let body = hex(&context.sign().as_ref()[..TOKEN_BYTES]);
    let check = check(&key, body.as_bytes());
    Outcome::Text(Bytes::from(format!("tok_{body}{check}")))
}

fn is_token(key: &hmac::Key, value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"tok_") else { return false };
    if rest.len() != 2 * (TOKEN_BYTES + CHECK_BYTES) {
        return false;
    }
    let (body, sum) = rest.split_at(2 * TOKEN_BYTES);
    aws_lc_rs::constant_time::verify_slices_are_equal(check(key, body).as_bytes(), sum).is_ok()
}

fn check(key: &hmac::Key, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(b"check\0");
    context.update(body);
    hex(&context.sign().as_ref()[..CHECK_BYTES])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from_digit(u32::from(n), 16).unwrap_or('0')).collect()
}

fn generalise_text(value: &[u8]) -> Outcome {
    let dated = year_of(value).map(|year| format!("{year}-01-01").into_bytes());
    let number = || bucket(value).map(String::into_bytes);
    dated.or_else(number).map_or_else(Outcome::redacted, |v| Outcome::Text(Bytes::from(v)))
}

fn generalise(kind: Kind, format: CellFormat, value: &[u8]) -> Option<Vec<u8>> {
    match (kind, format) {
        (Kind::Integer(_) | Kind::Numeric, CellFormat::Text) => bucket(value).map(String::into_bytes),
        (Kind::Integer(2), CellFormat::Binary) => {
            let n = i16::from_be_bytes(value.try_into().ok()?);
            i16::try_from(leading(i64::from(n))).ok().map(|n| n.to_be_bytes().to_vec())
        }
        (Kind::Integer(4), CellFormat::Binary) => {
            let n = i32::from_be_bytes(value.try_into().ok()?);
            i32::try_from(leading(i64::from(n))).ok().map(|n| n.to_be_bytes().to_vec())
        }
        (Kind::Integer(8), CellFormat::Binary) => {
            Some(leading(i64::from_be_bytes(value.try_into().ok()?)).to_be_bytes().to_vec())
        }
        (Kind::Date, CellFormat::Text) => year_of(value).map(|y| format!("{y}-01-01").into_bytes()),
        (Kind::Timestamp, CellFormat::Text) => year_of(value).map(|y| format!("{y}-01-01 00:00:00").into_bytes()),
        (Kind::Timestamptz, CellFormat::Text) => year_of(value).map(|y| format!("{y}-01-01 00:00:00+00").into_bytes()),
        (Kind::Date, CellFormat::Binary) => {
            let days = i32::from_be_bytes(value.try_into().ok()?);
            let days = i32::try_from(year_start(i64::from(days))?).ok()?;
            Some(days.to_be_bytes().to_vec())
        }
        (Kind::Timestamp | Kind::Timestamptz, CellFormat::Binary) => {
            let micros = i64::from_be_bytes(value.try_into().ok()?);
            let days = year_start(micros.div_euclid(DAY_MICROS))?;
            Some(days.checked_mul(DAY_MICROS)?.to_be_bytes().to_vec())
        }
        _ => None,
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// The year of an ISO date of the years 0000 to 9999; other DateStyles and eras are not generalised.
fn year_of(value: &[u8]) -> Option<&str> {
    let shape = value.len() >= 10
        && value[..10].iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    let clock = |b: &u8| b.is_ascii_digit() || matches!(b, b' ' | b'T' | b'Z' | b':' | b'.' | b'+' | b'-');
    if !shape || value.len() > 40 || !value[10..].iter().all(clock) {
        return None;
    }
    std::str::from_utf8(&value[..4]).ok()
}

/// The first day of the year, both in days since 2000-01-01; `None` outside the years 1 to 9999 (and for infinity).
fn year_start(days: i64) -> Option<i64> {
    if !(-730_119..=2_921_939).contains(&days) {
        return None;
    }
    let first = |year: i64| {
        let y = year - 1;
        y * 365 + y / 4 - y / 100 + y / 400 - 730_119
    };
    let guess = (days + 730_119) / 366 + 1;
    (guess..guess + 30).take_while(|year| first(*year) <= days).map(first).last()
}

/// A decimal number to its leading digit, towards zero.
fn bucket(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimal = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 40 || !decimal(whole) || !decimal(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() < 2 {
        return Some("0".to_owned());
    }
    Some(format!("{sign}{}{}", &whole[..1], "0".repeat(whole.len() - 1)))
}

fn leading(n: i64) -> i64 {
    let mut unit = 1i64;
    while (n / unit).unsigned_abs() >= 10 {
        unit *= 10;
    }
    if unit == 1 { 0 } else { n / unit * unit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::new([7; 32])
    }

    fn masked(operator: Operator, type_id: u32, format: CellFormat, value: &[u8]) -> Option<Vec<u8>> {
        let kind = Kind::of(type_id);
        let once = apply(operator, Some(&key()), "pii", kind, format, value);
        match once {
            Outcome::Null => None,
            Outcome::Text(v) => {
                let twice = apply(operator, Some(&key()), "pii", kind, format, &v);
                assert_eq!(twice, Outcome::Text(v.clone()), "not idempotent: {operator:?} {type_id}");
                Some(v.to_vec())
            }
        }
    }

    fn as_text(operator: Operator, type_id: u32, value: &str) -> Option<String> {
        masked(operator, type_id, CellFormat::Text, value.as_bytes()).map(|v| String::from_utf8_lossy(&v).into_owned())
    }

    #[test]
    fn texts() {
        for (operator, value, want) in [
            (Operator::Redact, "anything", "***"),
            (Operator::Redact, "", "***"),
            (Operator::Partial, "4111 1111 1111 1234", "************1234"),
            (Operator::Partial, "378282246310005", "***"),
            (Operator::Partial, "123-45-6789", "***"),
            (Operator::Partial, "alice@example.com", "a***@example.com"),
            (Operator::Partial, "al@example.com", "***@example.com"),
            (Operator::Partial, "****@example.com", "***@example.com"),
            (Operator::Partial, "a@b@c", "***"),
            (Operator::Partial, "----------------", "***"),
            (Operator::Generalise, "1984-03-07", "1984-01-01"),
            (Operator::Generalise, "48213.5", "40000"),
            (Operator::Generalise, "Paris", "***"),
        ] {
            assert_eq!(as_text(operator, 25, value).as_deref(), Some(want), "{operator:?} {value}");
        }
        assert_eq!(as_text(Operator::Null, 25, "x"), None);
    }

    #[test]
    fn tokens_are_keyed_by_tag_and_cannot_be_forged() {
        let a = as_text(Operator::Token, 25, "alice").unwrap_or_default();
        assert!(a.starts_with("tok_") && a.len() == 36, "{a}");
        assert_eq!(Some(a.clone()), as_text(Operator::Token, 1043, "alice"));
        let other = text(Operator::Token, Some(&key()), "pci", b"alice");
        assert_ne!(other, Outcome::Text(Bytes::from(a.clone())));
        let forged = format!("tok_{}", "a".repeat(32));
        assert_ne!(as_text(Operator::Token, 25, &forged), Some(forged));
        assert_eq!(text(Operator::Token, None, "pii", b"alice"), Outcome::redacted());
    }

    #[test]
    fn other_types_are_null_or_legal() {
        for type_id in [16, 17, 20, 23, 114, 1082, 1700, 2950, 3802, 1009, 99_999] {
            for operator in [Operator::Redact, Operator::Partial, Operator::Token, Operator::Null] {
                for format in [CellFormat::Text, CellFormat::Binary] {
                    assert_eq!(masked(operator, type_id, format, b"1234567890"), None, "{type_id} {operator:?}");
                }
            }
        }
        for (type_id, value, want) in [
            (1082, "1984-03-07", Some("1984-01-01")),
            (1114, "1984-03-07 10:11:12.5", Some("1984-01-01 00:00:00")),
            (1184, "1984-03-07 10:11:12+02", Some("1984-01-01 00:00:00+00")),
            (1082, "07/03/1984", None),
            (1082, "0044-03-15 BC", None),
            (1082, "infinity", None),
            (23, "4821", Some("4000")),
            (23, "-37", Some("-30")),
            (20, "7", Some("0")),
            (1700, "0099.99", Some("90")),
            (1700, "NaN", None),
            (2950, "c0ffee00-0000-0000-0000-000000000000", None),
        ] {
            assert_eq!(as_text(Operator::Generalise, type_id, value).as_deref(), want, "{type_id} {value}");
        }
    }

    #[test]
    fn binary_generalisation() {
        let date = |days: i32| {
            masked(Operator::Generalise, 1082, CellFormat::Binary, &days.to_be_bytes())
                .map(|v| i32::from_be_bytes(v.try_into().unwrap_or_default()))
        };
        assert_eq!(date(0), Some(0));
        assert_eq!(date(365), Some(0), "2000 was a leap year");
        assert_eq!(date(366), Some(366));
        assert_eq!(date(-1), Some(-365));
        assert_eq!(date(-730_119), Some(-730_119));
        assert_eq!(date(2_921_939), Some(2_921_575));
        assert_eq!(date(i32::MAX), None);
        let stamp = masked(Operator::Generalise, 1114, CellFormat::Binary, &(-1i64).to_be_bytes());
        assert_eq!(stamp, Some((-365 * DAY_MICROS).to_be_bytes().to_vec()));
        assert_eq!(masked(Operator::Generalise, 1114, CellFormat::Binary, &i64::MIN.to_be_bytes()), None);
        let four = masked(Operator::Generalise, 23, CellFormat::Binary, &i32::MIN.to_be_bytes());
        assert_eq!(four, Some((-2_000_000_000i32).to_be_bytes().to_vec()));
        let eight = masked(Operator::Generalise, 20, CellFormat::Binary, &i64::MAX.to_be_bytes());
        assert_eq!(eight, Some(9_000_000_000_000_000_000i64.to_be_bytes().to_vec()));
        assert_eq!(masked(Operator::Generalise, 23, CellFormat::Binary, b"123"), None);
    }
}
