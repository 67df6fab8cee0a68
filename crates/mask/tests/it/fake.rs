//! A fake protocol for tests: a run is a list of cells, each a part, a length and a value. Not PostgreSQL's framing.

use bytes::{BufMut, Bytes, BytesMut};
use chancery_mask::{AttributeRow, CatalogInput, ColumnRule, MaskRules, Operator, RelationRow, TokenKey};
use chancery_model::{Anatomy, Cell, CellFormat, Column, Columns, CommandId, Edit, Origin, Output, OutputKind, Part};

/// Opens the runs that [`run`] makes.
pub(crate) struct FakeAnatomy;

impl Anatomy for FakeAnatomy {
    fn cells(&self, output: &Output, visit: &mut dyn FnMut(Cell)) -> bool {
        match parse(&output.bytes) {
            Some(cells) => {
                for (part, range) in cells {
                    visit(Cell { part, range });
                }
                true
            }
            None => false,
        }
    }

    fn splice(&self, output: &Output, edits: &[Edit]) -> Bytes {
        let cells = parse(&output.bytes).expect("spliced runs were opened before");
        let mut edits = edits.iter().peekable();
        let mut values = Vec::new();
        for (part, range) in cells {
            let Some(range) = range else {
                values.push((part, None));
                continue;
            };
            let mut value = Some(output.bytes[range.clone()].to_vec());
            let mut shift = 0isize;
            while let Some(edit) = edits.next_if(|e| e.range.start < range.end || e.range == range) {
                assert!(edit.range.start >= range.start && edit.range.end <= range.end, "an edit beyond its cell");
                match &edit.with {
                    None => value = None,
                    Some(with) => {
                        let mut old = value.take().expect("an edit after NULL");
                        let from = (edit.range.start - range.start) as isize + shift;
                        let to = (edit.range.end - range.start) as isize + shift;
                        shift += with.len() as isize - edit.range.len() as isize;
                        old.splice(from as usize..to as usize, with.iter().copied());
                        value = Some(old);
                    }
                }
            }
            values.push((part, value));
        }
        assert!(edits.next().is_none(), "edits are ascending and lie in cells");
        encode(&values)
    }
}

fn parse(mut bytes: &[u8]) -> Option<Vec<(Part, Option<std::ops::Range<usize>>)>> {
    let whole = bytes.len();
    let mut cells = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(7)?;
        let n = u16::from_be_bytes([head[1], head[2]]);
        let part = match head[0] {
            b'c' => Part::Column(n),
            b'f' => Part::Field(head[2]),
            b'n' => Part::Name,
            b'v' => Part::Value,
            b'w' => Part::Whole,
            _ => return None,
        };
        let length = i32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let start = whole - rest.len();
        if length < 0 {
            cells.push((part, None));
            bytes = rest;
            continue;
        }
        let (_, rest) = rest.split_at_checked(length as usize)?;
        cells.push((part, Some(start..start + length as usize)));
        bytes = rest;
    }
    Some(cells)
}

fn encode(cells: &[(Part, Option<Vec<u8>>)]) -> Bytes {
    let mut out = BytesMut::new();
    for (part, value) in cells {
        let (tag, n) = match part {
            Part::Column(n) => (b'c', *n),
            Part::Field(f) => (b'f', u16::from(*f)),
            Part::Name => (b'n', 0),
            Part::Value => (b'v', 0),
            Part::Whole => (b'w', 0),
        };
        out.put_u8(tag);
        out.put_u16(n);
        match value {
            None => out.put_i32(-1),
            Some(value) => {
                out.put_i32(value.len() as i32);
                out.extend_from_slice(value);
            }
        }
    }
    out.freeze()
}

/// A run of these cells.
pub(crate) fn run(kind: OutputKind, cells: &[(Part, Option<&[u8]>)]) -> Output {
    let cells: Vec<_> = cells.iter().map(|(p, v)| (*p, v.map(<[u8]>::to_vec))).collect();
    Output { command: CommandId(7), kind, bytes: encode(&cells), rows: 1 }
}

/// The values of a run; NULL is `<null>`.
pub(crate) fn values(output: &Output) -> Vec<String> {
    let cells = parse(&output.bytes).expect("a run of this protocol");
    cells
        .into_iter()
        .map(|(_, r)| r.map_or("<null>".to_owned(), |r| String::from_utf8_lossy(&output.bytes[r]).into_owned()))
        .collect()
}

/// A column description.
pub(crate) fn column(name: &str, origin: Origin, type_id: u32) -> Column {
    Column { name: name.into(), origin, type_id, format: CellFormat::Text }
}

/// Columns.
pub(crate) fn columns(columns: Vec<Column>) -> Columns {
    Columns { columns }
}

/// `person(id int8, email text, ssn text, born date)` is 10, tagged but for id; `orders(id int8, note text)` is 20.
pub(crate) fn catalog_input() -> CatalogInput {
    let mut input = CatalogInput::default();
    type Table<'a> = (u32, &'a str, &'a [(&'a str, u32)]);
    let tables: [Table<'_>; 2] = [
        (10, "person", &[("id", 20), ("email", 25), ("ssn", 25), ("born", 1082)]),
        (20, "orders", &[("id", 20), ("note", 25)]),
    ];
    for (oid, name, attributes) in tables {
        input.relations.push(RelationRow { oid, schema: "public".into(), name: name.into(), kind: 'r' });
        for (i, (name, type_oid)) in attributes.iter().enumerate() {
            let number = i as i16 + 1;
            input.attributes.push(AttributeRow { relation: oid, number, name: (*name).into(), type_oid: *type_oid });
        }
    }
    input
}

/// Rules for [`catalog_input`], without detectors.
pub(crate) fn rules() -> MaskRules {
    let rule = |column: &str, tag: &str, with| ColumnRule {
        schema: "public".into(),
        table: "person".into(),
        column: column.into(),
        tag: tag.into(),
        with,
    };
    MaskRules {
        columns: vec![
            rule("email", "contact", Operator::Partial),
            rule("ssn", "pii", Operator::Redact),
            rule("born", "pii", Operator::Generalise),
        ],
        detect: Vec::new(),
        key: Some(TokenKey::new([9; 32])),
    }
}
