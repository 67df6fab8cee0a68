//! Masking again what a map says was masked: the same comes out, and anything else is noticed.

use std::sync::Arc;

use bytes::Bytes;
use chancery_mask::{
    Again, Catalog, ColumnRule, Compared, Detector, Exposure, Lifted, MaskRules, Masker, Operator, Plan, Report,
    WhenUnknown,
};
use chancery_model::{
    CellFormat, Column, CopyDirection, CopyFact, MaskMap, Origin, Output, OutputKind, Part, TableName,
};

use crate::fake::{FakeAnatomy, catalog_input, column, columns, rules, run};

fn all_rules(detect: Operator) -> MaskRules {
    let note = ColumnRule {
        schema: "public".into(),
        table: "orders".into(),
        column: "id".into(),
        tag: "order".into(),
        with: Operator::Token,
    };
    let columns = rules().columns.into_iter().chain([note]).collect();
    MaskRules { columns, detect: Detector::ALL.map(|d| (d, detect)).to_vec(), ..rules() }
}

/// Masks outputs as a session does, and tells the map.
fn masked(rules: &MaskRules, plan: &Plan, originals: &[Output]) -> (Vec<Bytes>, MaskMap) {
    let mut masker = Masker::new(Arc::new(rules.clone()));
    let (mut report, mut asides) = (Report::default(), 0);
    let mask = |original: &Output| {
        let masked = masker.mask(&FakeAnatomy, plan, original.clone());
        if matches!(original.kind, OutputKind::Aside) {
            asides += u64::from(masked.inner().bytes != original.bytes);
        } else if let Some(found) = masked.report() {
            report.add(found);
        }
        masked.into_inner().bytes
    };
    let recorded = originals.iter().map(mask).collect();
    (recorded, masker.map(Some(plan), Some(plan.text_word()), &report, asides))
}

/// How many tokens there were; `None` if anything differed.
fn again(map: &MaskMap, originals: &[Output], recorded: &[Bytes]) -> Option<u64> {
    let mut again = Again::new(map).expect("of this version");
    let compared = originals.iter().zip(recorded).map(|(original, recorded)| {
        match again.compare(&FakeAnatomy, original.clone(), recorded) {
            Compared::Same(tokens) => Some(tokens),
            Compared::Other => None,
        }
    });
    let tokens = compared.sum::<Option<u64>>();
    tokens.filter(|_| again.counted(map))
}

fn rows_plan(rules: &MaskRules, described: Vec<Column>) -> Plan {
    let catalog = Catalog::build(catalog_input(), rules);
    let exposure = Exposure { touches_tagged: true, ..Exposure::none() };
    Plan::rows(&catalog, rules, &Lifted::none(), &exposure, &columns(described), WhenUnknown::Ask).expect("known")
}

fn copy_plan(rules: &MaskRules, table: &str, format: &str) -> Plan {
    let fact = CopyFact {
        direction: CopyDirection::Out,
        table: Some(TableName { schema: None, name: table.into() }),
        columns: Vec::new(),
        format: format.into(),
        has_options: false,
    };
    let count = if table == "person" { 4 } else { 2 };
    let catalog = Catalog::build(catalog_input(), rules);
    Plan::copy(&catalog, rules, &Lifted::none(), &Exposure::none(), &fact, format == "binary", count)
}

fn row(kind: OutputKind, values: &[&[u8]]) -> Output {
    let part = |at: usize| Part::Column(u16::try_from(at).expect("few"));
    let cells: Vec<_> = values.iter().enumerate().map(|(at, value)| (part(at), Some(*value))).collect();
    run(kind, &cells)
}

/// A plan, outputs that it is for, and how many tokens there are.
fn cases(rules: &MaskRules) -> Vec<(Plan, Vec<Output>, u64)> {
    let described = vec![
        column("id", Origin::Attribute(20, 1), 25),
        column("email", Origin::Attribute(10, 2), 25),
        Column { format: CellFormat::Binary, ..column("born", Origin::Attribute(10, 4), 1082) },
        column("f", Origin::Lost, 1700),
        column("note", Origin::Attribute(20, 2), 25),
        column("doc", Origin::Attribute(20, 2), 3802),
    ];
    let rows = [
        row(
            OutputKind::Rows,
            &[b"1", b"alice@example.com", &400i32.to_be_bytes(), b"7", b"a 4111111111111111 b", b"{}"],
        ),
        row(OutputKind::Rows, &[b"2", b"x", &(-1i32).to_be_bytes(), b"8", b"nothing", br#"{"a":"b@c.de","d":1}"#]),
    ];
    let text: [(Part, Option<&[u8]>); 3] = [
        (Part::Field(b'C'), Some(b"23505")),
        (Part::Field(b'M'), Some(b"duplicate key 4111111111111111")),
        (Part::Field(b'D'), Some(b"Key (ssn)=(123-45-6789) exists.")),
    ];
    let parameter =
        |name: &[u8], value: &[u8]| run(OutputKind::Aside, &[(Part::Name, Some(name)), (Part::Value, Some(value))]);
    let asides = vec![
        run(OutputKind::Text, &text),
        parameter(b"TimeZone", b"Europe/Berlin"),
        parameter(b"application_name", b"Alice Smith"),
        parameter(b"some_channel", b"a@b.com"),
        parameter(b"no name", b"***"),
        parameter(b"server_version", b"17 of a@b.com"),
    ];
    let bulk = |binary| OutputKind::Bulk { binary };
    let tainted = Exposure { touches_tagged: true, ..Exposure::none() };
    let catalog = Catalog::build(catalog_input(), rules);
    let texts = |exposure: &Exposure| Plan::text(&catalog, rules, &Lifted::none(), exposure);
    let person: [&[u8]; 4] = [b"1", b"al\\\\ice@example.com", b"\\N", b"1984-03-07"];
    let binary: [&[u8]; 4] = [b"1", b"alice@example.com", b"123-45-6789", &400i32.to_be_bytes()];
    let token = u64::from(rules.key.is_some());
    vec![
        (rows_plan(rules, described), rows.to_vec(), 2 * token),
        (copy_plan(rules, "person", "text"), vec![row(bulk(false), &person)], 0),
        (copy_plan(rules, "person", "binary"), vec![row(bulk(true), &binary)], 0),
        (copy_plan(rules, "orders", "text"), vec![row(bulk(false), &[b"1", b"\\f4111111111111111"])], 0),
        (texts(&tainted), asides.clone(), 0),
        (texts(&Exposure::none()), asides, 0),
    ]
}

#[test]
fn the_same_comes_out() {
    for detect in [Operator::Redact, Operator::Null, Operator::Partial] {
        for key in [rules().key, None] {
            let rules = MaskRules { key, ..all_rules(detect) };
            for (at, (plan, originals, tokens)) in cases(&rules).into_iter().enumerate() {
                let (recorded, map) = masked(&rules, &plan, &originals);
                assert!(
                    originals.iter().zip(&recorded).any(|(one, other)| one.bytes != *other),
                    "{at} masks something"
                );
                assert_eq!(again(&map, &originals, &recorded), Some(tokens), "{at}: {map:?}");
            }
        }
    }
}

#[test]
fn tokens_in_texts_are_left_open() {
    let rules = all_rules(Operator::Token);
    for (plan, originals, least) in cases(&rules) {
        let (recorded, map) = masked(&rules, &plan, &originals);
        let tokens = again(&map, &originals, &recorded);
        assert!(tokens.is_some_and(|tokens| tokens >= least), "{map:?}");
    }
}

#[test]
fn anything_else_is_noticed() {
    let rules = all_rules(Operator::Redact);
    for (at, (plan, originals, tokens)) in cases(&rules).into_iter().enumerate() {
        let (recorded, map) = masked(&rules, &plan, &originals);
        // A byte of the recording. Those of tokens are not known here.
        for (which, bytes) in recorded.iter().enumerate() {
            for byte in 0..bytes.len() {
                let mut other = recorded.clone();
                let mut changed = bytes.to_vec();
                changed[byte] ^= 0x20;
                other[which] = changed.into();
                let unknown = tokens > 0 && bytes[..byte].windows(4).any(|window| window == b"tok_");
                assert!(unknown || again(&map, &originals, &other).is_none(), "{at}: byte {byte} of {which}");
            }
        }
        // What the map says.
        let mut wrong = vec![MaskMap { texts: map.texts + 1, ..map.clone() }];
        wrong.push(MaskMap { asides: map.asides + 1, ..map.clone() });
        wrong.push(MaskMap { hits: vec![("card", 99)], ..map.clone() });
        for column in 0..map.columns.len() {
            let mut other = map.clone();
            other.columns[column].cells += 1;
            wrong.push(other);
            // Without a treatment the column would pass; of one in which nothing was found that is no difference.
            if map.columns[column].cells > 0 {
                let mut other = map.clone();
                other.columns.remove(column);
                wrong.push(other);
            }
        }
        for map in wrong {
            assert_eq!(again(&map, &originals, &recorded), None, "{at}: {map:?}");
        }
    }
}

#[test]
fn what_cannot_be_done_again_is_said() {
    let map = MaskMap { detectors: chancery_mask::DETECTORS_VERSION, ..MaskMap::default() };
    assert!(Again::new(&map).is_some());
    assert!(Again::new(&MaskMap { cut: true, ..map.clone() }).is_none());
    assert!(Again::new(&MaskMap { detectors: map.detectors + 1, ..map }).is_none());
}
