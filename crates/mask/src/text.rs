//! Errors and notices, and the escapes of COPY's text format.

use bytes::Bytes;
use chancery_model::{Cell, CommandId, Part};

use crate::Context;
use crate::masker::Walk;
use crate::operator::Outcome;

/// What stands in place of a message that could repeat a masked value.
pub(crate) fn sentence(command: CommandId) -> Bytes {
    Bytes::from(format!("The message is withheld because the statement can reach masked data (reference {command})."))
}

/// SQLSTATEs that pass as they are when the message is withheld (PostgreSQL manual, appendix A): those that clients act
/// on and that data does not choose. A function can raise any code, so an unknown one could spell out a value.
const CODES: &[&[u8]] = &[
    b"00000", b"01000", b"02000", b"08000", b"08003", b"08006", b"08P01", b"0A000", b"25000", b"25001", b"25006",
    b"25P01", b"25P02", b"25P03", b"26000", b"28000", b"28P01", b"34000", b"3D000", b"3F000", b"40000", b"40001",
    b"40003", b"40P01", b"42000", b"42501", b"42601", b"42602", b"42622", b"42701", b"42702", b"42703", b"42704",
    b"42710", b"42723", b"42725", b"42803", b"42804", b"42809", b"42830", b"42846", b"42883", b"42P01", b"42P02",
    b"42P03", b"42P05", b"42P06", b"42P07", b"42P08", b"42P10", b"42P18", b"42P20", b"53000", b"53100", b"53200",
    b"53300", b"53400", b"54000", b"54001", b"55000", b"55006", b"55P03", b"57000", b"57014", b"57P01", b"57P02",
    b"57P03", b"57P04", b"57P05", b"58000", b"58030", b"P0000", b"P0001", b"XX000", b"XX001", b"XX002",
];

const SEVERITIES: &[&[u8]] = &[b"ERROR", b"FATAL", b"PANIC", b"WARNING", b"NOTICE", b"DEBUG", b"INFO", b"LOG"];

impl Walk<'_> {
    /// A field of an error or notice that nothing tagged can have reached: searched.
    pub(crate) fn searched_field(&mut self, cell: &Cell) -> Option<()> {
        if cell.range.is_none() || matches!(cell.part, Part::Field(b'S' | b'V' | b'C' | b'P' | b'p' | b'L')) {
            return Some(());
        }
        let value = self.value(cell)?;
        match self.finder.replace(self.rules, value, Context::default(), true, &mut self.report) {
            Some(outcome) => self.edit(cell, outcome),
            None => Some(()),
        }
    }

    /// A field of an error or notice that a masked value can have reached: kept if its form leaves no room for one.
    pub(crate) fn replaced_field(&mut self, cell: &Cell, sentence: &Bytes) -> Option<()> {
        if cell.range.is_none() {
            return Some(());
        }
        let value = self.value(cell)?;
        let Part::Field(tag) = cell.part else {
            self.report.texts += 1;
            return self.edit(cell, Outcome::Text(Bytes::new()));
        };
        let outcome = match tag {
            b'S' | b'V' if SEVERITIES.contains(&value) => return Some(()),
            b'S' | b'V' => Bytes::from_static(b"ERROR"),
            b'C' if CODES.contains(&value) => return Some(()),
            // Which data exception or which constraint it was depends on the values; the class alone is told.
            b'C' if value.starts_with(b"22") => Bytes::from_static(b"22000"),
            b'C' if value.starts_with(b"23") => Bytes::from_static(b"23000"),
            b'C' => Bytes::from_static(b"XX000"),
            b'P' | b'p' | b'L' if value.len() <= 9 && value.iter().all(u8::is_ascii_digit) => return Some(()),
            b'F' | b'R' if is_symbol(value) => return Some(()),
            b'M' => sentence.clone(),
            _ => Bytes::new(),
        };
        if outcome == value {
            return Some(());
        }
        self.report.texts += 1;
        self.edit(cell, Outcome::Text(outcome))
    }
}

/// A file or a routine of the server's source; SQL cannot set these fields.
fn is_symbol(value: &[u8]) -> bool {
    value.len() <= 64 && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/'))
}

/// Undoes the backslash escapes of COPY's text format (manual of COPY, "Text Format").
pub(crate) fn copy_unescape(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.iter().copied().peekable();
    while let Some(b) = rest.next() {
        if b != b'\\' {
            plain.push(b);
            continue;
        }
        match rest.next() {
            Some(b'b') => plain.push(8),
            Some(b'f') => plain.push(12),
            Some(b'n') => plain.push(b'\n'),
            Some(b'r') => plain.push(b'\r'),
            Some(b't') => plain.push(b'\t'),
            Some(b'v') => plain.push(11),
            Some(other) => plain.push(other),
            None => plain.push(b'\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_escapes_are_undone() {
        assert_eq!(copy_unescape(b"a\\\\b\\tc\\nd\\re\\x"), b"a\\b\tc\nd\rex");
        assert_eq!(copy_unescape(b"x\\"), b"x\\");
    }

    #[test]
    fn the_list_of_codes_holds_no_data_exception() {
        assert!(CODES.iter().all(|c| c.len() == 5 && !c.starts_with(b"22") && !c.starts_with(b"23")));
    }
}
