//! Finds the literals of a text, for records and for the masker's detectors.
//!
//! This lexer knows every form of literal and comment of PostgreSQL. Where two readings are possible (a backslash
//! before a quote depends on a setting) it gives up, and the caller must treat the whole text as sensitive.

use std::ops::Range;

/// What a literal is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiteralKind {
    /// `'…'`, also with a type or `N` in front: two quotes stand for one.
    Plain,
    /// `E'…'` and `U&'…'`: the content has escapes, so what it says is not what it looks like.
    Escaped,
    /// `$tag$…$tag$`.
    Dollar,
    /// `B'…'` and `X'…'`.
    Bits,
    /// Any number.
    Number,
}

/// A literal, as ranges of bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The whole token, with prefix and quotes.
    pub token: Range<usize>,
    /// What stands between the quotes; the same as `token` for a number.
    pub content: Range<usize>,
    /// Its kind.
    pub kind: LiteralKind,
}

/// Finds the literals of a text, in order.
///
/// `None` if the text cannot be lexed with certainty: unterminated literals or comments, NUL, a quote after a
/// backslash in a plain string.
pub fn literals(text: &str) -> Option<Vec<Literal>> {
    let mut found = Vec::new();
    let mut lexer = Lexer { text: text.as_bytes(), at: 0 };
    while let Some(token) = lexer.next().ok()? {
        if let Token::Literal(literal) = token {
            found.push(literal);
        }
    }
    Some(found)
}

/// What stands for something that was replaced.
const REPLACED: &str = "‹…›";

/// Writes the text with the content of every literal and comment replaced, for records.
///
/// `SELECT * FROM t WHERE a = 'x' AND id = 7` becomes `SELECT * FROM t WHERE a = '‹…›' AND id = ‹…›`. Of a text that
/// cannot be lexed with certainty only the length is told.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lexer = Lexer { text: text.as_bytes(), at: 0 };
    let mut kept = 0;
    loop {
        let content = match lexer.next() {
            Ok(Some(Token::Literal(literal))) => literal.content,
            Ok(Some(Token::Comment(content))) => content,
            Ok(None) => break,
            Err(Unsure) => return format!("‹text that cannot be read, {} bytes›", text.len()),
        };
        let (Some(before), true) = (text.get(kept..content.start), text.is_char_boundary(content.end)) else {
            return format!("‹text that cannot be read, {} bytes›", text.len());
        };
        out.push_str(before);
        out.push_str(REPLACED);
        kept = content.end;
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    out
}

/// The text has more than one reading, or none.
#[derive(Debug)]
struct Unsure;

/// What is cut out of a text.
#[derive(Debug)]
enum Token {
    Literal(Literal),
    /// The range between the marks of a comment.
    Comment(Range<usize>),
}

struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at.checked_add(ahead)?).copied()
    }

    /// The next literal or comment; names, operators and marks are skipped.
    fn next(&mut self) -> Result<Option<Token>, Unsure> {
        while let Some(byte) = self.peek(0) {
            let start = self.at;
            match byte {
                0 => return Err(Unsure),
                b'\'' => return self.quoted(start, LiteralKind::Plain).map(Some),
                b'"' => self.quoted_name()?,
                b'$' => {
                    if let Some(token) = self.dollar()? {
                        return Ok(Some(token));
                    }
                }
                b'-' if self.peek(1) == Some(b'-') => {
                    let end = self.find(|b| b == b'\n' || b == b'\r').unwrap_or(self.text.len());
                    self.at = end;
                    return Ok(Some(Token::Comment(start + 2..end)));
                }
                b'/' if self.peek(1) == Some(b'*') => return self.comment().map(Some),
                b'0'..=b'9' => return self.number().map(Some),
                b'.' if self.peek(1).is_some_and(|b| b.is_ascii_digit()) => return self.number().map(Some),
                _ if is_name_start(byte) => {
                    if let Some(token) = self.name()? {
                        return Ok(Some(token));
                    }
                }
                _ => self.at += 1,
            }
        }
        Ok(None)
    }

    fn find(&self, end: impl Fn(u8) -> bool) -> Option<usize> {
        let rest = self.text.get(self.at..)?;
        rest.iter().position(|b| end(*b)).map(|n| self.at + n)
    }

    /// A string that begins at the quote under the cursor; `start` is that of the token.
    fn quoted(&mut self, start: usize, kind: LiteralKind) -> Result<Token, Unsure> {
        self.at += 1;
        let first = self.at;
        loop {
            match self.peek(0).ok_or(Unsure)? {
                0 => return Err(Unsure),
                b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                b'\'' => break,
                b'\\' if kind == LiteralKind::Escaped => {
                    self.peek(1).filter(|b| *b != 0).ok_or(Unsure)?;
                    self.at += 2;
                }
                // Ordinary or escaping: `standard_conforming_strings` decides, and this function is not told.
                b'\\' if matches!(self.peek(1), Some(b'\'' | b'\\')) => return Err(Unsure),
                _ => self.at += 1,
            }
        }
        let content = first..self.at;
        self.at += 1;
        Ok(Token::Literal(Literal { token: start..self.at, content, kind }))
    }

    fn quoted_name(&mut self) -> Result<(), Unsure> {
        self.at += 1;
        loop {
            match self.peek(0).ok_or(Unsure)? {
                0 => return Err(Unsure),
                b'"' if self.peek(1) == Some(b'"') => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A name, or the literal that a one-letter prefix announces.
    fn name(&mut self) -> Result<Option<Token>, Unsure> {
        let start = self.at;
        let end = self.find(|b| !is_name(b)).unwrap_or(self.text.len());
        let prefix = if end - start == 1 { self.peek(0).map(|b| b.to_ascii_lowercase()) } else { None };
        self.at = end;
        match (prefix, self.peek(0), self.peek(1)) {
            (Some(b'e'), Some(b'\''), _) => self.quoted(start, LiteralKind::Escaped).map(Some),
            (Some(b'b' | b'x'), Some(b'\''), _) => self.quoted(start, LiteralKind::Bits).map(Some),
            // In `U&` strings the escape character is free (`UESCAPE`) and a quote is never escaped by it; the
            // backslash rule of plain strings applies.
            (Some(b'u'), Some(b'&'), Some(b'\'')) => {
                self.at += 1;
                let Token::Literal(literal) = self.quoted(start, LiteralKind::Plain)? else { return Err(Unsure) };
                Ok(Some(Token::Literal(Literal { kind: LiteralKind::Escaped, ..literal })))
            }
            _ => Ok(None),
        }
    }

    /// A dollar quote, or a parameter, or a stray sign.
    fn dollar(&mut self) -> Result<Option<Token>, Unsure> {
        let start = self.at;
        if self.peek(1).is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
            self.at = self.find(|b| !b.is_ascii_digit()).unwrap_or(self.text.len());
            // A parameter with letters behind it is an error to some versions and two tokens to others.
            return if self.peek(0).is_some_and(is_name) { Err(Unsure) } else { Ok(None) };
        }
        self.at += 1;
        let tag_end = self.find(|b| b == b'$' || !is_name(b)).ok_or(Unsure)?;
        if self.text.get(tag_end) != Some(&b'$') {
            return Err(Unsure);
        }
        let mark = self.text.get(start..=tag_end).ok_or(Unsure)?;
        let first = tag_end + 1;
        let rest = self.text.get(first..).ok_or(Unsure)?;
        let length = memchr::memmem::find(rest, mark).ok_or(Unsure)?;
        if memchr::memchr(0, rest.get(..length).ok_or(Unsure)?).is_some() {
            return Err(Unsure);
        }
        let content = first..first + length;
        self.at = content.end + mark.len();
        Ok(Some(Token::Literal(Literal { token: start..self.at, content, kind: LiteralKind::Dollar })))
    }

    /// A block comment; they nest.
    fn comment(&mut self) -> Result<Token, Unsure> {
        self.at += 2;
        let first = self.at;
        let mut depth = 1_usize;
        loop {
            match (self.peek(0).ok_or(Unsure)?, self.peek(1)) {
                (0, _) => return Err(Unsure),
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let content = first..self.at;
        self.at += 2;
        Ok(Token::Comment(content))
    }

    /// A number, with whatever letters hang on to it: in doubt more is replaced.
    fn number(&mut self) -> Result<Token, Unsure> {
        let start = self.at;
        let (mut last, mut letters) = (0, false);
        while let Some(byte) = self.peek(0) {
            let exponent_sign = matches!(byte, b'+' | b'-')
                && matches!(last, b'e' | b'E')
                && self.peek(1).is_some_and(|b| b.is_ascii_digit());
            let range = byte == b'.' && self.peek(1) == Some(b'.');
            if range || byte == b'$' || !(is_name(byte) || byte == b'.' || exponent_sign) {
                break;
            }
            last = byte;
            letters |= is_name_start(byte);
            self.at += 1;
        }
        // Versions differ on whether the letters are a name that goes on with the dollar.
        if letters && self.peek(0) == Some(b'$') {
            return Err(Unsure);
        }
        let token = start..self.at;
        Ok(Token::Literal(Literal { content: token.clone(), token, kind: LiteralKind::Number }))
    }
}

/// Bytes that begin a name; all of UTF-8 beyond ASCII counts, as in the server.
pub(crate) fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Bytes that continue a name.
pub(crate) fn is_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_every_form_of_literal() {
        for (text, expected) in [
            ("SELECT * FROM t WHERE a = 'x''y' AND id = 7", "SELECT * FROM t WHERE a = '‹…›' AND id = ‹…›"),
            ("SELECT E'a\\'b', e'' , N'n', b'01',X'ff'", "SELECT E'‹…›', e'‹…›' , N'‹…›', b'‹…›',X'‹…›'"),
            ("SELECT U&'d\\0061t' UESCAPE '!'", "SELECT U&'‹…›' UESCAPE '‹…›'"),
            ("DO $$ secret $$", "DO $$‹…›$$"),
            ("DO $a$ $$ secret $b$ $a$;", "DO $a$‹…›$a$;"),
            ("SELECT 1 -- secret\n, 2", "SELECT ‹…› --‹…›\n, ‹…›"),
            ("SELECT /* a /* secret */ b */ 1.5e-3", "SELECT /*‹…›*/ ‹…›"),
            ("SELECT a$1, $1, \"x'y\", t1.c2, .5, 0x1F, 1_000", "SELECT a$1, $1, \"x'y\", t1.c2, ‹…›, ‹…›, ‹…›"),
            ("SELECT a[1:2] - 1-2", "SELECT a[‹…›:‹…›] - ‹…›-‹…›"),
            ("SELECT 1$$sec ret$$, a[1..2]", "SELECT ‹…›$$‹…›$$, a[‹…›.‹…›]"),
            ("SELECT 'ünï' FROM tä", "SELECT '‹…›' FROM tä"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn tells_only_the_length_when_unsure() {
        for text in [
            "SELECT 'open",
            "SELECT \"open",
            "/* open",
            "$$ open",
            "$a open",
            "SELECT 'a\\' or 'secret'",
            "a\0b",
            "$1a",
            "1a$$b$$",
        ] {
            assert_eq!(redact(text), format!("‹text that cannot be read, {} bytes›", text.len()), "{text}");
            assert_eq!(literals(text), None);
        }
    }

    #[test]
    fn gives_ranges_of_contents() {
        let text = "SELECT 'ab', 12, $x$c$x$";
        let found = literals(text).expect("it lexes");
        let contents: Vec<_> = found.iter().map(|l| (&text[l.content.clone()], l.kind)).collect();
        let expected = [("ab", LiteralKind::Plain), ("12", LiteralKind::Number), ("c", LiteralKind::Dollar)];
        assert_eq!(contents, expected);
    }
}
