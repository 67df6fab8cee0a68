//! Statement texts for records: literals are values, and values of a statement that touches tagged data are masked.

use crate::masker::Masker;
use crate::{Exposure, Masked, Report};

/// Numbers of up to this many digits stay: limits, positions, small keys.
const SHORT_NUMBER: usize = 3;

impl Masker {
    /// Masks the text of a statement for a record. If it touches tagged data or is opaque, every string literal and
    /// every number longer than three digits becomes `***`; detectors search the rest. In an opaque statement the
    /// dollar-quoted parts are code, so their literals are masked and the code stays.
    pub fn statement(&mut self, text: &str, exposure: &Exposure) -> Masked<String> {
        if !self.rules.tags_columns() || !(exposure.opaque || exposure.touches_tagged) {
            return self.text(text);
        }
        let mut report = Report::default();
        let mut masked = String::with_capacity(text.len());
        without_literals(text, exposure.opaque, 0, &mut masked, &mut report.texts);
        let searched = self.text(&masked);
        if let Some(found) = searched.report() {
            report.add(found);
        }
        Masked::new(searched.into_inner(), report)
    }

    /// Masks a parameter value for a record: all of it if the statement touches tagged data or is opaque; otherwise
    /// detectors search it. The value is given as text, whatever its format on the wire.
    pub fn parameter(&mut self, text: &str, exposure: &Exposure) -> Masked<String> {
        if self.rules.tags_columns() && (exposure.opaque || exposure.touches_tagged) {
            return Masked::new("***".to_owned(), Report { texts: 1, ..Report::default() });
        }
        self.text(text)
    }
}

/// Nested dollar quotes deeper than this are masked whole.
const DEPTH_MAX: u8 = 4;

/// Copies a statement without its literals. Where the lexing is unsure (an open quote) the rest is masked.
fn without_literals(text: &str, code: bool, depth: u8, into: &mut String, count: &mut u64) {
    let mut rest = text;
    let mut word = false;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\'' => {
                let escapes = into.ends_with(['e', 'E']) && !ends_with_longer_word(into);
                mask(into, count, "'***'");
                quoted(rest, '\'', escapes)
            }
            '"' => copy(into, rest, quoted(rest, '"', false)),
            '-' if rest.starts_with("--") => {
                let end = rest.find('\n').unwrap_or(rest.len());
                mask(into, count, "--***");
                end
            }
            '/' if rest.starts_with("/*") => {
                mask(into, count, "/****/");
                comment(rest)
            }
            '$' if !word => match dollar(rest) {
                Some((tag, body)) => {
                    let end = body.find(tag).map_or(body.len(), |n| n);
                    if code && depth < DEPTH_MAX {
                        into.push_str(tag);
                        without_literals(&body[..end], code, depth + 1, into, count);
                        into.push_str(tag);
                    } else {
                        mask(into, count, "'***'");
                    }
                    (tag.len() + end + tag.len()).min(rest.len())
                }
                None => copy(into, rest, 1),
            },
            '0'..='9' if !word => {
                let number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
                let end = rest.find(|c| !number(c)).unwrap_or(rest.len());
                if end > SHORT_NUMBER {
                    mask(into, count, "***");
                    end
                } else {
                    copy(into, rest, end)
                }
            }
            _ => copy(into, rest, c.len_utf8()),
        };
        word = c.is_alphanumeric() || c == '_' || c == '$' && word;
        rest = &rest[taken..];
    }
}

fn mask(into: &mut String, count: &mut u64, with: &str) {
    into.push_str(with);
    *count += 1;
}

fn copy(into: &mut String, rest: &str, length: usize) -> usize {
    into.push_str(&rest[..length]);
    length
}

/// Whether the last letter belongs to a longer word, so that it is no `E` before a string.
fn ends_with_longer_word(text: &str) -> bool {
    text.chars().rev().nth(1).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
}

/// The length of a quoted thing, quotes included; to the end of the text if it is not closed.
fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + quote.len_utf8(),
            }
        }
    }
    rest.len()
}

/// The length of a block comment; they nest.
fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The opening tag of a dollar quote and what follows it.
fn dollar(rest: &str) -> Option<(&str, &str)> {
    let end = rest[1..].find('$')? + 2;
    let (tag, body) = rest.split_at(end);
    let name = &tag[1..end - 1];
    let starts_well = name.chars().next().is_none_or(|c| c.is_alphabetic() || c == '_');
    (starts_well && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some((tag, body))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ColumnRule, Detector, MaskRules, Operator};

    fn masker() -> Masker {
        Masker::new(Arc::new(MaskRules {
            columns: vec![ColumnRule {
                schema: "*".into(),
                table: "person".into(),
                column: "ssn".into(),
                tag: "pii".into(),
                with: Operator::Redact,
            }],
            detect: vec![(Detector::Email, Operator::Redact)],
            key: None,
        }))
    }

    #[test]
    fn literals_of_touching_statements() {
        let touching = Exposure { touches_tagged: true, ..Exposure::none() };
        for (text, want) in [
            ("SELECT * FROM p WHERE ssn = '123-45-6789' LIMIT 5", "SELECT * FROM p WHERE ssn = '***' LIMIT 5"),
            ("SELECT 'it''s', E'a\\'b', 123456789, t1.c2", "SELECT '***', E'***', ***, t1.c2"),
            (
                "SELECT \"a'b\" -- 078-05-1120\n, $$x$$, $1 /* 1 /* 2 */ 3 */",
                "SELECT \"a'b\" --***\n, '***', $1 /****/",
            ),
            ("SELECT 'open 123", "SELECT '***'"),
            ("SELECT type'x\\' , 'secret'", "SELECT type'***' , '***'"),
            ("SELECT $a$ x $b$ y $a$, 1.5e10", "SELECT '***', ***"),
        ] {
            assert_eq!(masker().statement(text, &touching).inner(), want, "{text}");
        }
        let opaque = Exposure::opaque();
        let code = masker().statement("DO $$ BEGIN DELETE FROM p WHERE n = 'Jo'; END $$", &opaque);
        assert_eq!(code.inner(), "DO $$ BEGIN DELETE FROM p WHERE n = '***'; END $$");
        assert_eq!(code.report().map_or(0, |report| report.texts), 1);
    }

    #[test]
    fn other_statements_are_searched() {
        let masked = masker().statement("SELECT 'jo@example.com', 'x'", &Exposure::none());
        assert_eq!(masked.inner(), "SELECT '***', 'x'");
        assert_eq!(masker().parameter("jo", &Exposure::none()).inner(), "jo");
        assert_eq!(masker().parameter("jo", &Exposure::opaque()).inner(), "***");
    }
}
