//! What a result's columns are, as the server describes them.

use std::sync::Arc;

use chancery_model::{CellFormat, Column, Columns, Origin};

use crate::frame::{Cursor, FrameFault};

/// Descriptions remembered at once.
const REMEMBERED: usize = 4;
/// Bytes of all descriptions remembered.
const REMEMBERED_BYTES: usize = 384;

/// The last few short descriptions as they were written and as they were read. A statement that runs again is described
/// again, in the same words.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    /// The oldest first.
    last: Vec<(Box<[u8]>, Arc<Columns>)>,
}

impl Descriptions {
    /// The columns that the body of a RowDescription describes.
    pub(super) fn read(&mut self, body: &[u8]) -> Result<Arc<Columns>, FrameFault> {
        if let Some((_, columns)) = self.last.iter().rev().find(|(written, _)| **written == *body) {
            return Ok(columns.clone());
        }
        let columns = Arc::new(read_columns(body)?);
        if body.len() <= REMEMBERED_BYTES {
            let room = REMEMBERED_BYTES - body.len();
            while self.last.len() >= REMEMBERED || self.bytes() > room {
                self.last.remove(0);
            }
            self.last.push((body.into(), columns.clone()));
        }
        Ok(columns)
    }

    fn bytes(&self) -> usize {
        self.last.iter().map(|(written, _)| written.len()).sum()
    }
}

/// Reads a RowDescription ("Message Formats" in the manual).
fn read_columns(body: &[u8]) -> Result<Columns, FrameFault> {
    let mut cursor = Cursor::new(body);
    let count = cursor.count16()?;
    // A column takes at least 19 bytes, so the body bounds the allocation.
    let mut columns = Vec::with_capacity(count.min(body.len() / 19));
    for _ in 0..count {
        let name = String::from_utf8_lossy(cursor.string()?).into_owned();
        let relation = cursor.int32()?.cast_unsigned();
        let attribute = cursor.int16()?;
        let type_id = cursor.int32()?.cast_unsigned();
        cursor.int16()?;
        cursor.int32()?;
        let format = if cursor.int16()? == 0 { CellFormat::Text } else { CellFormat::Binary };
        let origin = match (relation, attribute) {
            (0, _) => Origin::Lost,
            (relation, 0) => Origin::WholeRow(relation),
            // System columns (ctid, xmin, tableoid) have negative numbers.
            (relation, attribute) => Origin::Attribute(relation, attribute),
        };
        columns.push(Column { name, origin, type_id, format });
    }
    cursor.finish()?;
    Ok(Columns { columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, relation: u8) -> Vec<u8> {
        let column = [0, 0, 0, relation, 0, 3, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 1];
        [&[0, 1], name.as_bytes(), &[0], &column].concat()
    }

    #[test]
    fn the_same_words_are_read_once_and_others_anew() {
        let mut descriptions = Descriptions::default();
        let read = |descriptions: &mut Descriptions, body: &[u8]| descriptions.read(body).expect("well-formed");
        let first = read(&mut descriptions, &description("a", 7));
        assert_eq!(first.columns[0].origin, Origin::Attribute(7, 3));
        assert!(Arc::ptr_eq(&first, &read(&mut descriptions, &description("a", 7))));
        let other = read(&mut descriptions, &description("a", 0));
        assert_eq!(other.columns[0].origin, Origin::Lost);
        assert!(Arc::ptr_eq(&first, &read(&mut descriptions, &description("a", 7))), "both are remembered");
        for name in ["b", "c", "d", "e"] {
            assert_eq!(read(&mut descriptions, &description(name, 7)).columns[0].name, name);
        }
        assert!(!Arc::ptr_eq(&first, &read(&mut descriptions, &description("a", 7))), "the oldest is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_well_formed() {
        let mut descriptions = Descriptions::default();
        for length in [300, 10, 80, 400, 200] {
            let body = description(&"n".repeat(length), 7);
            assert_eq!(descriptions.read(&body).expect("well-formed").columns[0].name.len(), length);
            assert!(descriptions.bytes() <= REMEMBERED_BYTES && descriptions.last.len() <= REMEMBERED);
        }
        let mut body = description("a", 7);
        body.push(0);
        let before = descriptions.last.len();
        for _ in 0..2 {
            assert_eq!(descriptions.read(&body), Err(FrameFault::TrailingBytes));
        }
        assert_eq!(descriptions.last.len(), before);
    }
}
