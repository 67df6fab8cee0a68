//! What the masker does to whole outputs: rows, bulk data, errors, asides.

use std::sync::Arc;

use bytes::Bytes;
use chancery_mask::{
    Catalog, Detector, Exposure, Lifted, MaskRules, Masked, Masker, Operator, Plan, Report, WhenUnknown,
};
use chancery_model::{
    CellFormat, Column, CommandId, CopyDirection, CopyFact, Origin, Output, OutputKind, Part, TableName,
};

use crate::fake::{FakeAnatomy, catalog_input, column, columns, rules, run, values};

fn with_detectors() -> MaskRules {
    MaskRules { detect: Detector::ALL.map(|d| (d, Operator::Redact)).to_vec(), ..rules() }
}

fn only_detectors(with: Operator) -> MaskRules {
    MaskRules { columns: Vec::new(), detect: Detector::ALL.map(|d| (d, with)).to_vec(), ..rules() }
}

fn masked(rules: &MaskRules, exposure: &Exposure, described: Vec<Column>, output: Output) -> Masked<Output> {
    let catalog = Catalog::build(catalog_input(), rules);
    let described = columns(described);
    let plan =
        Plan::rows(&catalog, rules, &Lifted::none(), exposure, &described, WhenUnknown::Ask).expect("all are known");
    Masker::new(Arc::new(rules.clone())).mask(&FakeAnatomy, &plan, output)
}

/// One cell of a lost column, found by detectors only.
fn found(with: Operator, type_id: u32, format: CellFormat, value: &[u8]) -> String {
    let described = Column { format, ..column("c", Origin::Lost, type_id) };
    let output = run(OutputKind::Rows, &[(Part::Column(0), Some(value))]);
    let rules = only_detectors(with);
    let once = masked(&rules, &Exposure::none(), vec![described.clone()], output);
    let first = values(once.inner()).concat();
    let twice = masked(&rules, &Exposure::none(), vec![described], once.into_inner());
    assert_eq!(values(twice.inner()).concat(), first, "masking twice");
    first
}

#[test]
fn rows_and_reports() {
    let described = vec![
        column("id", Origin::Attribute(10, 1), 20),
        column("email", Origin::Attribute(10, 2), 25),
        column("ssn", Origin::Attribute(10, 3), 25),
        column("f", Origin::Lost, 25),
        column("note", Origin::Attribute(20, 2), 25),
    ];
    let cells: [(Part, Option<&[u8]>); 5] = [
        (Part::Column(0), Some(b"1")),
        (Part::Column(1), Some(b"alice@example.com")),
        (Part::Column(2), None),
        (Part::Column(3), Some(b"computed")),
        (Part::Column(4), Some(b"paid with 4111 1111 1111 1111, thanks")),
    ];
    let exposure = Exposure { touches_tagged: true, ..Exposure::none() };
    let result = masked(&with_detectors(), &exposure, described, run(OutputKind::Rows, &cells));
    assert_eq!(values(result.inner()), ["1", "a***@example.com", "<null>", "***", "paid with ***, thanks"]);
    let want = Report { tags: vec![("contact".into(), 1)], lost: 1, detected: [1, 0, 0, 0], ..Report::default() };
    assert_eq!(result.report(), Some(&want));
    assert!(!result.is_withheld());
}

#[test]
fn clear_rows_keep_their_bytes() {
    let output = run(OutputKind::Rows, &[(Part::Column(0), Some(b"x"))]);
    let at = output.bytes.as_ptr();
    let result = masked(&rules(), &Exposure::none(), vec![column("n", Origin::Attribute(20, 2), 25)], output);
    assert_eq!(result.inner().bytes.as_ptr(), at, "neither opened nor copied");
}

#[test]
fn what_cannot_be_opened_is_withheld() {
    let tagged = || vec![column("ssn", Origin::Attribute(10, 3), 25)];
    let broken = Output { command: CommandId(1), kind: OutputKind::Rows, bytes: Bytes::from_static(b"?"), rows: 3 };
    let result = masked(&rules(), &Exposure::none(), tagged(), broken);
    assert!(result.is_withheld() && result.inner().bytes.is_empty());
    let surplus = run(OutputKind::Rows, &[(Part::Column(0), Some(b"x")), (Part::Column(1), Some(b"secret"))]);
    assert!(masked(&rules(), &Exposure::none(), tagged(), surplus).is_withheld(), "more columns than described");
    let whole = run(OutputKind::Rows, &[(Part::Whole, Some(b"secret"))]);
    assert!(masked(&rules(), &Exposure::none(), tagged(), whole).is_withheld());
    let bulk = run(OutputKind::Bulk { binary: false }, &[(Part::Column(0), Some(b"secret"))]);
    assert!(masked(&rules(), &Exposure::none(), tagged(), bulk).is_withheld(), "a plan for rows is none for bulk");
}

#[test]
fn detectors_by_type_and_format() {
    use CellFormat::{Binary, Text};
    let card = b"4111111111111111".as_slice();
    let number = 4_111_111_111_111_111i64;
    // numeric_send of the same number: four groups of four digits, weight 3.
    let numeric: Vec<u8> = [4u16, 3, 0, 0, 4111, 1111, 1111, 1111].iter().flat_map(|w| w.to_be_bytes()).collect();
    for (type_id, format, value, want) in [
        (25, Text, card, "***"),
        (1043, Binary, card, "***"),
        (20, Text, card, "<null>"),
        (20, Binary, &number.to_be_bytes(), "<null>"),
        (20, Text, b"4111111111111112", "4111111111111112"),
        (1700, Text, b"4111111111111111.00", "<null>"),
        (1700, Binary, &numeric, "<null>"),
        (114, Text, br#"{"c": "4111111111111111"}"#, r#"{"c": "***"}"#),
        (3802, Text, br#"{"c": 4111111111111111}"#, "<null>"),
        (3802, Binary, b"\x01{\"c\": \"a@b.com\"}", "\x01{\"c\": \"***\"}"),
        (17, Text, b"\\x34313131313131313131313131313131", "<null>"),
        (17, Binary, card, "<null>"),
        (1009, Text, b"{x,4111111111111111}", "<null>"),
        (99_999, Text, card, "<null>"),
        (2950, Text, card, "4111111111111111"),
        (25, Text, b"nothing to see", "nothing to see"),
    ] {
        assert_eq!(found(Operator::Redact, type_id, format, value), want, "{type_id} {format:?}");
    }
}

#[test]
fn detectors_by_operator() {
    let text = |with, value: &str| found(with, 25, CellFormat::Text, value.as_bytes());
    assert_eq!(text(Operator::Null, "x 4111111111111111 y"), "<null>");
    assert_eq!(text(Operator::Partial, "x 4111111111111111 y"), "x ************1111 y");
    assert_eq!(text(Operator::Partial, "to alice@example.com"), "to a***@example.com");
    assert_eq!(text(Operator::Generalise, "x 4111111111111111 y"), "x *** y");
    assert_eq!(text(Operator::Redact, "a@b.com, DE89370400440532013000"), "***, ***");
    let token = text(Operator::Token, "x 4111111111111111");
    assert!(token.starts_with("x tok_") && token.len() == 38, "{token}");
}

fn copy_plan(rules: &MaskRules, table: &str, format: &str, binary: bool, count: u16) -> Plan {
    let catalog = Catalog::build(catalog_input(), rules);
    let fact = CopyFact {
        direction: CopyDirection::Out,
        table: Some(TableName { schema: None, name: table.into() }),
        columns: Vec::new(),
        format: format.into(),
        has_options: false,
    };
    Plan::copy(&catalog, rules, &Lifted::none(), &Exposure::none(), &fact, binary, count)
}

#[test]
fn bulk_data() {
    let rules = with_detectors();
    let mut masker = Masker::new(Arc::new(rules.clone()));
    let row: [(Part, Option<&[u8]>); 4] = [
        (Part::Column(0), Some(b"1")),
        (Part::Column(1), Some(b"al\\\\ice@example.com")),
        (Part::Column(2), Some(b"\\N")),
        (Part::Column(3), Some(b"1984-03-07")),
    ];
    let text = OutputKind::Bulk { binary: false };
    let result = masker.mask(&FakeAnatomy, &copy_plan(&rules, "person", "text", false, 4), run(text.clone(), &row));
    assert_eq!(values(result.inner()), ["1", "a***@example.com", "\\N", "1984-01-01"]);
    // Escapes are undone before the search: the form feed is no letter in front of the number.
    let note: [(Part, Option<&[u8]>); 2] =
        [(Part::Column(0), Some(b"1")), (Part::Column(1), Some(b"\\f4111111111111111"))];
    let result = masker.mask(&FakeAnatomy, &copy_plan(&rules, "orders", "text", false, 2), run(text.clone(), &note));
    assert_eq!(values(result.inner()), ["1", "\u{c}***"]);
    let binary = OutputKind::Bulk { binary: true };
    let plan = copy_plan(&rules, "person", "binary", true, 4);
    let row: [(Part, Option<&[u8]>); 2] =
        [(Part::Column(2), Some(b"s")), (Part::Column(3), Some(&366i32.to_be_bytes()))];
    let result = masker.mask(&FakeAnatomy, &plan, run(binary, &row));
    assert_eq!(values(result.inner())[0], "***");
    let plan = copy_plan(&rules, "person", "csv", false, 4);
    let piece: [(Part, Option<&[u8]>); 1] = [(Part::Column(0), Some(b"1,alice@example.com"))];
    assert!(masker.mask(&FakeAnatomy, &plan, run(text.clone(), &piece)).is_withheld());
    let plan = copy_plan(&rules, "orders", "csv", false, 2);
    let piece: [(Part, Option<&[u8]>); 1] = [(Part::Column(0), Some(b"1,\"a\\b 4111111111111111\",a@b.co"))];
    let result = masker.mask(&FakeAnatomy, &plan, run(text, &piece));
    assert_eq!(values(result.inner()), ["1,\"a\\b ****************\",******"]);
}

fn error(plan_exposure: &Exposure, rules: &MaskRules, fields: &[(u8, &str)]) -> Vec<String> {
    let catalog = Catalog::build(catalog_input(), rules);
    let plan = Plan::text(&catalog, rules, &Lifted::none(), plan_exposure);
    let cells: Vec<_> = fields.iter().map(|(f, v)| (Part::Field(*f), Some(v.as_bytes()))).collect();
    let mut masker = Masker::new(Arc::new(rules.clone()));
    let once = masker.mask(&FakeAnatomy, &plan, run(OutputKind::Text, &cells));
    let first = values(once.inner());
    let twice = masker.mask(&FakeAnatomy, &plan, once.into_inner());
    assert_eq!(values(twice.inner()), first, "masking twice");
    first
}

#[test]
fn errors() {
    let fields = [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "23505"),
        (b'M', "duplicate key"),
        (b'D', "Key (ssn)=(123-45-6789) exists."),
        (b'P', "17"),
        (b'n', "078-05-1120"),
        (b'F', "nbtinsert.c"),
        (b'L', "664"),
        (b'R', "_bt_check_unique"),
        (b'X', "future"),
    ];
    let sentence = "The message is withheld because the statement can reach masked data (reference 7).";
    let tainted = Exposure { touches_tagged: true, ..Exposure::none() };
    for exposure in [&tainted, &Exposure::opaque()] {
        let got = error(exposure, &rules(), &fields);
        let want = ["ERROR", "ERROR", "23000", sentence, "", "17", "", "nbtinsert.c", "664", "_bt_check_unique", ""];
        assert_eq!(got, want);
    }
    let searched = error(&Exposure::none(), &with_detectors(), &fields);
    assert_eq!(searched[4], "Key (ssn)=(***) exists.");
    assert_eq!((searched[2].as_str(), searched[3].as_str(), searched[6].as_str()), ("23505", "duplicate key", "***"));
    assert_eq!(error(&Exposure::none(), &rules(), &fields)[4], fields[4].1);
    let forged = [(b'S', "12345"), (b'C', "12345"), (b'C', "40001"), (b'P', "1234567890"), (b'F', "a b")];
    assert_eq!(error(&tainted, &rules(), &forged), ["ERROR", "XX000", "40001", "", ""]);
}

fn aside(masker: &mut Masker, name: &str, value: &str) -> String {
    let catalog = Catalog::build(catalog_input(), &rules());
    let plan = Plan::text(&catalog, &rules(), &Lifted::none(), &Exposure::none());
    let cells: [(Part, Option<&[u8]>); 2] =
        [(Part::Name, Some(name.as_bytes())), (Part::Value, Some(value.as_bytes()))];
    values(masker.mask(&FakeAnatomy, &plan, run(OutputKind::Aside, &cells)).inner()).swap_remove(1)
}

#[test]
fn asides() {
    let mut masker = Masker::new(Arc::new(with_detectors()));
    masker.client_said("Application_Name", "psql");
    for (name, value, want) in [
        ("server_version", "17.2 (Debian 17.2-1)", "17.2 (Debian 17.2-1)"),
        ("server_version", "123-45-6789", "***"),
        ("TimeZone", "Europe/Berlin", "Europe/Berlin"),
        ("TimeZone", "A123456789", "***"),
        ("DateStyle", "ISO, MDY", "ISO, MDY"),
        ("is_superuser", "off", "off"),
        ("is_superuser", "123-45-6789", "***"),
        ("client_encoding", "UTF8", "UTF8"),
        ("application_name", "psql", "psql"),
        ("application_name", "Alice Smith", "***"),
        ("application_name", "", ""),
        ("search_path", "alice", "***"),
        ("some_channel", "payload", "***"),
    ] {
        assert_eq!(aside(&mut masker, name, value), want, "{name} {value}");
    }
    let mut masker = Masker::new(Arc::new(only_detectors(Operator::Redact)));
    assert_eq!(aside(&mut masker, "some_channel", "payload"), "payload");
    assert_eq!(aside(&mut masker, "some_channel", "a@b.com"), "***");
    let mut masker = Masker::new(Arc::new(MaskRules::none()));
    assert_eq!(aside(&mut masker, "some_channel", "a@b.com"), "a@b.com");
}

#[test]
fn texts_for_records() {
    let mut masker = Masker::new(Arc::new(with_detectors()));
    let masked = masker.text("call 4111-1111-1111-1111 or a@b.com");
    assert_eq!(masked.inner(), "call *** or ***");
    assert_eq!(masked.report().map(|report| report.detected), Some([1, 0, 1, 0]));
}

#[test]
fn no_trace_of_a_tagged_value_is_left() {
    let canary = "98765-canary-43210";
    for operator in [Operator::Redact, Operator::Null, Operator::Token, Operator::Partial, Operator::Generalise] {
        let mut rules = with_detectors();
        rules.columns.iter_mut().for_each(|rule| rule.with = operator);
        for type_id in [16, 17, 20, 21, 23, 25, 114, 700, 1042, 1043, 1082, 1114, 1184, 1700, 2249, 2950, 3802, 1009, 7]
        {
            for format in [CellFormat::Text, CellFormat::Binary] {
                let described = Column { format, ..column("c", Origin::Attribute(10, 3), type_id) };
                let cell = run(OutputKind::Rows, &[(Part::Column(0), Some(canary.as_bytes()))]);
                let result = masked(&rules, &Exposure::none(), vec![described], cell);
                let shown = values(result.inner()).concat();
                assert!(!shown.contains("98765") && !shown.contains("canary"), "{operator:?} {type_id}: {shown}");
                assert_eq!(result.report().map(Report::masked), Some(1));
            }
        }
    }
}

#[test]
fn an_idle_plan_is_for_idle_rules_alone() {
    assert!(Plan::idle(&rules()).is_none());
    let plan = Plan::idle(&MaskRules::none()).expect("no rules are idle");
    let output = || run(OutputKind::Rows, &[(Part::Column(0), Some(b"x"))]);
    let mut idle = Masker::new(Arc::new(MaskRules::none()));
    assert_eq!(values(idle.mask(&FakeAnatomy, &plan, output()).inner()), ["x"]);
    let mut busy = Masker::new(Arc::new(rules()));
    assert!(busy.mask(&FakeAnatomy, &plan, output()).is_withheld());
}
