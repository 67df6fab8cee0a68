//! The form of mask maps in a recording (`docs/spec/recording.md`, Mask map). Not here: what they say.

use std::sync::Arc;

use chancery_model::{CellFormat, MappedColumn, MaskMap, Treated};
use serde_json::{Map, Value};

use crate::block::BlockError;
use crate::line::{string, unsigned};

/// The longest map: one piece of a frame. That is room for more columns than PostgreSQL gives a result (1,664), if tags
/// have names of a usual length.
pub const MASK_MAP_BYTES_MAX: usize = 262_123;

/// More columns no protocol announces: their number has 16 bits.
const WIDTH_MAX: usize = u16::MAX as usize;

/// Writes a map; without its columns if they do not fit.
pub fn mask_map(map: &MaskMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + 80 * map.columns.len());
    write(map, &mut out);
    if out.len() > MASK_MAP_BYTES_MAX {
        out.clear();
        write(&MaskMap { columns: Vec::new(), cut: true, ..map.clone() }, &mut out);
    }
    out
}

/// Reads a map. An error if it is not, to the byte, what [`mask_map`] writes.
pub fn parse_mask_map(bytes: &[u8]) -> Result<MaskMap, BlockError> {
    let malformed = BlockError("mask map of another form");
    if bytes.len() > MASK_MAP_BYTES_MAX {
        return Err(malformed);
    }
    let map = serde_json::from_slice(bytes).ok().and_then(|value: Value| read(value.as_object()?)).ok_or(malformed)?;
    let ascending = map.columns.is_sorted_by(|one, next| one.position < next.position);
    let inside = map.width <= WIDTH_MAX && map.columns.last().is_none_or(|last| last.position < map.width);
    let mut again = Vec::with_capacity(bytes.len());
    write(&map, &mut again);
    if ascending && inside && again == bytes { Ok(map) } else { Err(malformed) }
}

fn write(map: &MaskMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"asides\":");
    unsigned(out, map.asides);
    out.extend_from_slice(b",\"columns\":[");
    for (at, column) in map.columns.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b"," } else { b"" });
        write_column(column, out);
    }
    out.extend_from_slice(if map.cut { b"],\"cut\":true,\"detect\":{" } else { b"],\"detect\":{" });
    for (at, (detector, operator)) in map.detect.iter().enumerate() {
        key(at, detector, out);
        string(out, operator);
    }
    out.extend_from_slice(b"},\"detectors\":");
    unsigned(out, map.detectors);
    out.extend_from_slice(b",\"hits\":{");
    for (at, (detector, hits)) in map.hits.iter().enumerate() {
        key(at, detector, out);
        unsigned(out, *hits);
    }
    out.push(b'}');
    for (name, word) in [("shape", map.shape), ("text", map.text)] {
        if let Some(word) = word {
            key(1, name, out);
            string(out, word);
        }
    }
    for (name, number) in [("texts", map.texts), ("v", 1), ("width", map.width as u64)] {
        key(1, name, out);
        unsigned(out, number);
    }
    out.extend_from_slice(if map.withheld { b",\"withheld\":true}" } else { b"}" });
}

fn write_column(column: &MappedColumn, out: &mut Vec<u8>) {
    let (operator, ssn, tag, why) = match &column.treated {
        Treated::Tagged(operator, tag) => (Some(*operator), false, Some(tag), "tag"),
        Treated::Lost(operator) => (Some(*operator), false, None, "lost"),
        Treated::Unresolved(operator) => (Some(*operator), false, None, "unresolved"),
        Treated::Searched { ssn } => (None, *ssn, None, "search"),
    };
    out.extend_from_slice(b"{\"c\":");
    unsigned(out, column.position as u64);
    out.extend_from_slice(match column.format {
        CellFormat::Text => b",\"f\":\"text\",\"k\":",
        CellFormat::Binary => b",\"f\":\"binary\",\"k\":",
    });
    string(out, column.kind);
    key(1, "n", out);
    unsigned(out, column.cells);
    if let Some(operator) = operator {
        key(1, "op", out);
        string(out, operator);
    }
    out.extend_from_slice(if ssn { b",\"ssn\":true" } else { b"" });
    if let Some(tag) = tag {
        key(1, "tag", out);
        string(out, tag);
    }
    key(1, "why", out);
    string(out, why);
    out.push(b'}');
}

/// A key; with a comma in front of all but the first.
fn key(at: usize, name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(if at > 0 { b"," } else { b"" });
    string(out, name);
    out.push(b':');
}

/// What an object says. What it should not have is found by writing the map again.
fn read(object: &Map<String, Value>) -> Option<MaskMap> {
    let number = |name: &str| object.get(name)?.as_u64();
    let word =
        |name: &str, words: &[&'static str]| object.get(name).map_or(Some(None), |value| known(value, words).map(Some));
    let named = |name: &str| Some((object.get(name)?.as_object()?, MaskMap::DETECTORS.into_iter()));
    let (detect, detectors) = named("detect")?;
    let detect = detectors.filter_map(|name| Some((name, known(detect.get(name)?, &MaskMap::OPERATORS)?))).collect();
    let (hits, detectors) = named("hits")?;
    let hits = detectors.filter_map(|name| Some((name, hits.get(name)?.as_u64()?))).collect();
    Some(MaskMap {
        shape: word("shape", &MaskMap::SHAPES)?,
        width: usize::try_from(number("width")?).ok()?,
        columns: object.get("columns")?.as_array()?.iter().map(read_column).collect::<Option<_>>()?,
        cut: object.contains_key("cut"),
        text: word("text", &MaskMap::TEXTS)?,
        texts: number("texts")?,
        asides: number("asides")?,
        detect,
        hits,
        detectors: number("detectors")?,
        withheld: object.contains_key("withheld"),
    })
}

fn read_column(value: &Value) -> Option<MappedColumn> {
    let operator = || known(value.get("op")?, &MaskMap::OPERATORS);
    let treated = match value.get("why")?.as_str()? {
        "tag" => Treated::Tagged(operator()?, Arc::from(value.get("tag")?.as_str()?)),
        "lost" => Treated::Lost(operator()?),
        "unresolved" => Treated::Unresolved(operator()?),
        "search" => Treated::Searched { ssn: value.get("ssn").is_some() },
        _ => return None,
    };
    Some(MappedColumn {
        position: usize::try_from(value.get("c")?.as_u64()?).ok()?,
        format: if value.get("f")? == "binary" { CellFormat::Binary } else { CellFormat::Text },
        kind: known(value.get("k")?, &MaskMap::KINDS)?,
        treated,
        cells: value.get("n")?.as_u64()?,
    })
}

/// The word of the list that a value is.
fn known(value: &Value, words: &[&'static str]) -> Option<&'static str> {
    let text = value.as_str()?;
    words.iter().find(|word| **word == text).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vec<&'static str> {
        let spec = include_str!("../../../docs/spec/recording.md");
        let fenced = spec.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        fenced.lines().collect()
    }

    #[test]
    fn the_maps_of_the_specification_are_read_and_written() {
        let maps: Vec<_> = vectors().iter().map(|line| parse_mask_map(line.as_bytes()).expect("of the form")).collect();
        let column = |position, format, kind, treated, cells| MappedColumn { position, format, kind, treated, cells };
        let (text, binary) = (CellFormat::Text, CellFormat::Binary);
        let first = MaskMap {
            shape: Some("rows"),
            width: 3,
            columns: vec![
                column(1, text, "text", Treated::Tagged("partial", "pii".into()), 3),
                column(2, text, "text", Treated::Searched { ssn: false }, 1),
            ],
            detect: vec![("card", "redact"), ("email", "partial")],
            hits: vec![("card", 2)],
            detectors: 1,
            ..MaskMap::default()
        };
        let second = MaskMap {
            shape: Some("copy-binary"),
            width: 2,
            columns: vec![
                column(0, binary, "int4", Treated::Searched { ssn: true }, 0),
                column(1, binary, "other", Treated::Lost("redact"), 7),
            ],
            text: Some("replace"),
            texts: 2,
            asides: 1,
            detect: vec![("ssn", "null")],
            detectors: 1,
            withheld: true,
            ..MaskMap::default()
        };
        assert_eq!(maps, [first, second]);
        for (line, map) in vectors().iter().zip(&maps) {
            assert_eq!(String::from_utf8_lossy(&mask_map(map)), *line);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let line = vectors()[0];
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1,\"w\":1"),
            ("\"width\":3", "\"width\":2"),
            ("\"width\":3", "\"width\":65536"),
            ("\"c\":2", "\"c\":1"),
            ("\"c\":2", "\"c\":02"),
            ("\"n\":3", "\"n\":3.0"),
            ("\"n\":3", "\"n\":-3"),
            ("\"op\":\"partial\",\"tag\"", "\"op\":\"forget\",\"tag\""),
            ("\"op\":\"partial\",\"tag\":\"pii\",", "\"op\":\"partial\","),
            ("\"why\":\"search\"", "\"op\":\"null\",\"why\":\"search\""),
            ("\"why\":\"search\"", "\"why\":\"guess\""),
            ("\"f\":\"text\"", "\"f\":\"utf8\""),
            ("{\"card\":2}", "{\"card\":2,\"name\":1}"),
            ("\"shape\":\"rows\"", "\"shape\":\"table\""),
            ("\"texts\":0,\"v\":1", "\"v\":1,\"texts\":0"),
            ("],\"detect\"", "],\"cut\":false,\"detect\""),
            ("{", " {"),
        ] {
            let other = line.replacen(from, to, 1);
            assert_ne!(other, line, "{from}");
            assert!(parse_mask_map(other.as_bytes()).is_err(), "{to}");
        }
        for cut in 0..line.len() {
            assert!(parse_mask_map(&line.as_bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn a_map_is_bounded_and_tags_are_escaped() {
        let column = |position| MappedColumn {
            position,
            format: CellFormat::Binary,
            kind: "timestamptz",
            treated: Treated::Tagged("generalise", "a \"tag\"\n".into()),
            cells: u64::MAX,
        };
        let wide = |width| MaskMap { width, columns: (0..width).map(column).collect(), ..MaskMap::default() };
        for width in [1, 1664] {
            let bytes = mask_map(&wide(width));
            assert!(bytes.len() <= MASK_MAP_BYTES_MAX);
            assert_eq!(parse_mask_map(&bytes), Ok(wide(width)));
        }
        let bytes = mask_map(&wide(65_535));
        assert_eq!(parse_mask_map(&bytes), Ok(MaskMap { columns: Vec::new(), cut: true, ..wide(65_535) }));
        assert!(parse_mask_map(&vec![b' '; MASK_MAP_BYTES_MAX + 1]).is_err());
    }
}
