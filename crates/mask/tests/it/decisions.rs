//! The table of decisions: lineage on the wire × what the statement said → what becomes of the cell.

use std::sync::Arc;

use chancery_mask::{Catalog, Exposure, Lifted, MaskRules, Masker, Plan, Unknown, WhenUnknown};
use chancery_model::{CopyDirection, CopyFact, Facts, Origin, OutputKind, Part, TableName};

use crate::fake::{FakeAnatomy, catalog_input, column, columns, rules, run, values};

fn exposure(touches: bool, opaque: bool) -> Exposure {
    Exposure { touches_tagged: touches, opaque, ..Exposure::none() }
}

/// One text cell of this origin, through the masker.
fn one(origin: Origin, type_id: u32, value: &str, exposure: &Exposure, lifted: &Lifted) -> String {
    let rules = rules();
    let catalog = Catalog::build(catalog_input(), &rules);
    let described = columns(vec![column("x", origin, type_id)]);
    let plan = Plan::rows(&catalog, &rules, lifted, exposure, &described, WhenUnknown::TreatAsTagged)
        .expect("unknown relations are treated as tagged");
    let output = run(OutputKind::Rows, &[(Part::Column(0), Some(value.as_bytes()))]);
    let masked = Masker::new(Arc::new(rules)).mask(&FakeAnatomy, &plan, output);
    values(masked.inner()).concat()
}

#[test]
fn decisions() {
    use Origin::{Attribute, Lost, WholeRow};
    let clear = exposure(false, false);
    let touching = exposure(true, false);
    let opaque = exposure(false, true);
    let rows: &[(Origin, u32, &Exposure, &str, &str)] = &[
        // A tagged base column: its operator, whatever the statement.
        (Attribute(10, 2), 25, &clear, "alice@example.com", "a***@example.com"),
        (Attribute(10, 3), 25, &touching, "123-45-6789", "***"),
        (Attribute(10, 4), 1082, &opaque, "1984-03-07", "1984-01-01"),
        // An untagged one: released.
        (Attribute(10, 1), 20, &touching, "17", "17"),
        (Attribute(20, 2), 25, &opaque, "hello", "hello"),
        (Attribute(10, -1), 27, &touching, "(0,1)", "(0,1)"),
        // A whole row with tagged columns, and one without.
        (WholeRow(10), 2249, &clear, "(1,a@b.co,x,)", "<null>"),
        (WholeRow(10), 25, &clear, "(1,a@b.co,x,)", "***"),
        (WholeRow(20), 2249, &opaque, "(1,x)", "(1,x)"),
        // Lost lineage.
        (Lost, 25, &clear, "x", "x"),
        (Lost, 25, &touching, "x", "***"),
        (Lost, 25, &opaque, "x", "***"),
        (Lost, 20, &touching, "5", "<null>"),
        (Lost, 2950, &opaque, "c0ffee00-0000-0000-0000-000000000000", "<null>"),
        // Not in the catalog, even after a refresh.
        (Attribute(99, 1), 25, &clear, "x", "***"),
        (Attribute(10, 99), 25, &clear, "x", "***"),
        (WholeRow(99), 2249, &clear, "(x)", "<null>"),
    ];
    for (origin, type_id, exposure, value, want) in rows {
        assert_eq!(
            one(*origin, *type_id, value, exposure, &Lifted::none()),
            *want,
            "{origin:?} {type_id} {exposure:?}"
        );
    }
}

#[test]
fn lifting() {
    let touching = exposure(true, false);
    let pii = Lifted::of(["pii"]);
    let both = Lifted::of(["pii", "contact"]);
    assert_eq!(one(Origin::Attribute(10, 3), 25, "s", &touching, &pii), "s");
    assert_eq!(one(Origin::Attribute(10, 2), 25, "s", &touching, &pii), "***", "another tag");
    assert_eq!(one(Origin::Lost, 25, "s", &touching, &pii), "***", "one of two tags could flow");
    assert_eq!(one(Origin::Lost, 25, "s", &touching, &both), "s");
    assert_eq!(one(Origin::Attribute(99, 1), 25, "s", &touching, &pii), "***");
    assert_eq!(one(Origin::Attribute(99, 1), 25, "s", &touching, &both), "s");
}

#[test]
fn only_flowing_tags_must_be_lifted() {
    let mut input = catalog_input();
    let rules = MaskRules {
        columns: vec![
            chancery_mask::ColumnRule { table: "orders".into(), column: "note".into(), ..rules().columns[1].clone() },
            rules().columns[0].clone(),
        ],
        ..rules()
    };
    input.depends.clear();
    let catalog = Catalog::build(input, &rules);
    let mut facts = Facts::unreadable("");
    facts.statements[0].unreadable = None;
    facts.statements[0].opaque = false;
    facts.statements[0].tables = vec![TableName { schema: None, name: "orders".into() }];
    let described = columns(vec![column("x", Origin::Lost, 25)]);
    let clear = |facts: &Facts, lifted: Lifted| {
        let exposure = Exposure::of(&catalog, facts);
        Plan::rows(&catalog, &rules, &lifted, &exposure, &described, WhenUnknown::Ask).expect("all known").is_clear()
    };
    assert!(!clear(&facts, Lifted::none()));
    assert!(clear(&facts, Lifted::of(["pii"])), "orders carries pii only");
    assert!(!clear(&facts, Lifted::of(["contact"])));
    facts.statements[0].opaque = true;
    assert!(!clear(&facts, Lifted::of(["pii"])), "an opaque statement reaches every tag");
    assert!(!clear(&Facts::unreadable("x"), Lifted::of(["pii"])));
}

#[test]
fn counts_proven_by_the_parser_are_released() {
    let mut exposure = Exposure { declassified: vec![0], ..exposure(true, false) };
    assert_eq!(one(Origin::Lost, 20, "5", &exposure, &Lifted::none()), "5");
    assert_eq!(one(Origin::Lost, 25, "5", &exposure, &Lifted::none()), "***", "a count is an int8");
    exposure.opaque = true;
    assert_eq!(one(Origin::Lost, 20, "5", &exposure, &Lifted::none()), "<null>");
}

#[test]
fn unknown_relations_ask_for_a_refresh() {
    let rules = rules();
    let catalog = Catalog::build(catalog_input(), &rules);
    let described = columns(vec![
        column("a", Origin::Attribute(99, 1), 25),
        column("b", Origin::Attribute(99, 2), 25),
        column("c", Origin::Attribute(10, 77), 25),
        column("d", Origin::Attribute(10, 1), 25),
    ]);
    let asked = Plan::rows(&catalog, &rules, &Lifted::none(), &Exposure::none(), &described, WhenUnknown::Ask);
    assert_eq!(asked.err(), Some(Unknown { relations: vec![99, 10] }));
}

#[test]
fn without_column_rules_lineage_is_irrelevant() {
    let rules = MaskRules { columns: Vec::new(), ..rules() };
    let catalog = Catalog::build(catalog_input(), &rules);
    let described = columns(vec![column("a", Origin::Lost, 25), column("b", Origin::Attribute(99, 1), 25)]);
    let plan = Plan::rows(&catalog, &rules, &Lifted::none(), &Exposure::opaque(), &described, WhenUnknown::Ask)
        .expect("nothing to ask");
    assert!(plan.is_clear());
}

fn copy(table: Option<&str>, columns: &[&str], format: &str, has_options: bool) -> CopyFact {
    CopyFact {
        direction: CopyDirection::Out,
        table: table.map(|name| TableName { schema: None, name: name.into() }),
        columns: columns.iter().map(|c| (*c).into()).collect(),
        format: format.into(),
        has_options,
    }
}

#[test]
fn copies() {
    let rules = rules();
    let catalog = Catalog::build(catalog_input(), &rules);
    let touching = exposure(true, false);
    let plan = |fact: &CopyFact, exposure: &Exposure, binary, count| {
        Plan::copy(&catalog, &rules, &Lifted::none(), exposure, fact, binary, count)
    };
    let masked = |plan: Plan| plan.masked_columns().collect::<Vec<_>>();
    let all = copy(Some("person"), &[], "text", false);
    assert_eq!(masked(plan(&all, &touching, false, 4)), [1, 2, 3]);
    assert_eq!(masked(plan(&all, &touching, false, 3)), [0, 1, 2], "which is which is not certain");
    let two = copy(Some("person"), &["ssn", "id"], "text", false);
    assert_eq!(masked(plan(&two, &touching, false, 2)), [0]);
    assert_eq!(masked(plan(&copy(Some("orders"), &[], "text", false), &exposure(false, false), false, 2)), []);
    assert_eq!(masked(plan(&copy(Some("nowhere"), &[], "text", false), &touching, false, 2)), [0, 1]);
    let query = copy(None, &[], "text", false);
    assert_eq!(masked(plan(&query, &touching, false, 2)), [0, 1]);
    assert_eq!(masked(plan(&query, &exposure(false, false), false, 2)), []);
    assert!(plan(&copy(Some("person"), &[], "csv", false), &touching, false, 4).is_impossible());
    assert!(plan(&copy(Some("person"), &[], "text", true), &touching, false, 4).is_impossible());
    assert!(!plan(&copy(Some("orders"), &[], "csv", true), &exposure(false, false), false, 2).is_impossible());
    assert!(!plan(&copy(Some("person"), &[], "binary", false), &touching, true, 4).is_impossible());
    assert!(plan(&copy(Some("person"), &[], "text", false), &touching, true, 4).is_impossible(), "not what was said");
}
