//! `controls/results.oscal.json`: what the controls found, as assessment results of OSCAL 1.2.2. Not here: the finding.
//!
//! OSCAL wants an assessment plan; there is none, and a resource says so. Its findings know two states only, so that a
//! control which was not tested is not satisfied, with a remark. Criteria are named by their ids: their texts belong to
//! their publisher.

use std::collections::BTreeSet;

use chancery_model::Timestamp;
use serde_json::{Value, json};

use crate::uuid::Ids;
use crate::{Control, Exception, Findings, Found, Provenance, json, population_path};

const VERSION: &str = "1.2.2";
/// Properties that OSCAL does not define are in this namespace.
const NAMESPACE: &str = "https://github.com/chancery/chancery/ns/oscal";
/// Exceptions named in an observation; all that were kept are in `exceptions.csv`.
const NAMED_MAX: usize = 50;

/// The document: one result, in it an observation and a finding of each control that was asked for.
pub fn oscal_results(findings: &Findings, from: &Provenance) -> String {
    let ids = Ids::new(from);
    let asked: Vec<(&Control, &Found)> = findings.all().filter(|(control, _)| from.wants(control)).collect();
    let plan = ids.of("plan");
    let document = json!({
        "assessment-results": {
            "uuid": ids.of("document"),
            "metadata": {
                "title": "Results of Chancery's controls",
                "last-modified": from.created_at.to_string(),
                "version": format!("{}-{}", from.head.size, short(from)),
                "oscal-version": VERSION,
                "remarks": "Times are those of ledger entries. The same ledger, period and choice of controls give the \
                    same document, ids included.",
            },
            "import-ap": {
                "href": format!("#{plan}"),
                "remarks": "Continuous collection, no plan.",
            },
            "local-definitions": { "objectives-and-methods": objectives(&asked) },
            "results": [result(&asked, from, &ids)],
            "back-matter": { "resources": resources(from, &ids, &plan) },
        }
    });
    let mut out = String::new();
    json::line(&document, &mut out);
    out
}

fn short(from: &Provenance) -> String {
    from.head.root.to_string().chars().take(16).collect()
}

fn property(name: &str, value: impl Into<String>) -> Value {
    let value: String = value.into();
    json!({"name": name, "ns": NAMESPACE, "value": value})
}

/// Each control is an objective of the first criterion that it serves.
fn objectives(asked: &[(&Control, &Found)]) -> Vec<Value> {
    let objective = |control: &Control| {
        let criteria: Vec<Value> = control.criteria.iter().map(|id| property("criterion", *id)).collect();
        json!({
            "control-id": control.criteria.first().copied().unwrap_or("none"),
            "description": control.title,
            "props": criteria,
            "parts": [{
                "id": control.id,
                "name": "assessment-objective",
                "title": control.title,
                "prose": control.predicate,
            }],
        })
    };
    asked.iter().map(|(control, _)| objective(control)).collect()
}

fn result(asked: &[(&Control, &Found)], from: &Provenance, ids: &Ids) -> Value {
    let head = &from.head;
    let criteria: BTreeSet<&str> = asked.iter().flat_map(|(control, _)| control.criteria).copied().collect();
    let criteria: Vec<Value> = criteria.into_iter().map(|id| json!({ "control-id": id })).collect();
    let chosen: Vec<Value> = asked.iter().map(|(control, _)| json!({ "objective-id": control.id })).collect();
    let tool = ids.of("tool");
    json!({
        "uuid": ids.of("result"),
        "title": format!("Controls over the ledger of {}", plain(&head.origin)),
        "description": format!(
            "Each control is a predicate over all entries of the period, evaluated on the ledger of {} up to its {} \
            entries with root {}. No sample was drawn.",
            plain(&head.origin), head.size, head.root,
        ),
        "start": Timestamp(from.period.from).to_string(),
        "end": Timestamp(from.period.to).to_string(),
        "props": [
            property("ledger-origin", plain(&head.origin)),
            property("ledger-root", head.root.to_string()),
            property("ledger-size", head.size.to_string()),
        ],
        "local-definitions": { "assessment-assets": assets(&tool, ids) },
        "reviewed-controls": {
            "description": "Ids are those of the 2017 Trust Services Criteria of the AICPA, whose texts are not \
                part of this document.",
            "control-selections": [{ "include-controls": criteria }],
            "control-objective-selections": [{ "include-objectives": chosen }],
        },
        "observations": asked.iter().map(|one| observation(*one, from, ids, &tool)).collect::<Vec<_>>(),
        "findings": asked.iter().map(|one| finding(*one, ids, &tool)).collect::<Vec<_>>(),
    })
}

fn assets(tool: &str, ids: &Ids) -> Value {
    json!({
        "components": [{
            "uuid": tool,
            "type": "software",
            "title": "Chancery",
            "description": "Derives populations and controls from a ledger. Its version and the hash of its file are in \
                MANIFEST.json.",
            "status": { "state": "operational" },
        }],
        "assessment-platforms": [{
            "uuid": ids.of("platform"),
            "title": "chancery evidence",
            "uses-components": [{ "component-uuid": tool }],
        }],
    })
}

fn origins(tool: &str) -> Value {
    json!([{ "actors": [{ "type": "tool", "actor-uuid": tool }] }])
}

fn observation((control, found): (&Control, &Found), from: &Provenance, ids: &Ids, tool: &str) -> Value {
    let mut evidence: Vec<Value> = control
        .populations
        .iter()
        .map(|population| {
            json!({
                "href": format!("../{}", population_path(*population, "jsonl")),
                "description": format!("Population {}: {}", population.about().id, population.about().title),
            })
        })
        .collect();
    if found.count > 0 {
        evidence.push(json!({ "href": "exceptions.csv", "description": "Exceptions of all controls" }));
    }
    json!({
        "uuid": ids.of(&format!("observation/{}", control.id)),
        "title": control.title,
        "description": control.predicate,
        "methods": ["TEST"],
        "types": ["control-objective"],
        "origins": origins(tool),
        "props": [
            property("control", control.id),
            property("exceptions", found.count.to_string()),
            property("result", found.result()),
            property("tested", found.tested.to_string()),
        ],
        "relevant-evidence": evidence,
        "collected": from.created_at.to_string(),
        "remarks": observed(found),
    })
}

fn observed(found: &Found) -> String {
    let mut text = match found.untested {
        Some(why) => return format!("Not tested: {}.", plain(why)),
        None => format!("Tested: {}. Exceptions: {}.", found.tested, found.count),
    };
    for exception in found.exceptions.iter().take(NAMED_MAX) {
        text.push_str("\n\n");
        text.push_str(&named(exception));
    }
    if found.count > NAMED_MAX as u64 {
        text.push_str(&format!("\n\nand {} more.", found.count - NAMED_MAX as u64));
    }
    text
}

fn named(exception: &Exception) -> String {
    let place = exception.entry.map_or("outside the ledger".to_owned(), |entry| format!("entry {entry}"));
    format!("{place}: {}", plain(&exception.what))
}

fn finding((control, found): (&Control, &Found), ids: &Ids, tool: &str) -> Value {
    let (state, reason) = match (found.untested, found.count) {
        (Some(_), _) => ("not-satisfied", "other"),
        (None, 0) => ("satisfied", "pass"),
        (None, _) => ("not-satisfied", "fail"),
    };
    let remarks = match found.untested {
        Some(why) => {
            format!("Not tested: {}. OSCAL has no third state: this does not say that the control failed.", plain(why))
        }
        None if found.tested == 0 => "There was nothing to test.".to_owned(),
        None => format!("Tested: {}. Exceptions: {}.", found.tested, found.count),
    };
    json!({
        "uuid": ids.of(&format!("finding/{}", control.id)),
        "title": control.title,
        "description": control.predicate,
        "origins": origins(tool),
        "target": {
            "type": "objective-id",
            "target-id": control.id,
            "title": control.title,
            "status": { "state": state, "reason": reason, "remarks": remarks },
        },
        "related-observations": [{ "observation-uuid": ids.of(&format!("observation/{}", control.id)) }],
    })
}

fn resources(from: &Provenance, ids: &Ids, plan: &str) -> Value {
    json!([
        {
            "uuid": plan,
            "title": "Continuous collection, no plan",
            "description": "There was no assessment plan. The gateway writes every ruling and outcome into its ledger \
                as it happens; the controls are evaluated over all of it. Their wording stands in this document's \
                objectives.",
        },
        {
            "uuid": ids.of("head"),
            "title": "Head of the ledger",
            "description": "The signed head up to which entries were read. The keys to check it with come from elsewhere. \
                The pack's manifest is not named by its hash: it states the hash of this document.",
            "props": [
                property("ledger-root", from.head.root.to_string()),
                property("ledger-size", from.head.size.to_string()),
            ],
            "rlinks": [{ "href": "../ledger/checkpoint" }, { "href": "../MANIFEST.json" }],
        },
    ])
}

/// A text that may stand where OSCAL wants one line of markup: no ends of lines, and nothing that its Markdown would take
/// for more than text.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            c if c.is_control() => out.push('\u{fffd}'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Sample};

    fn found() -> (Findings, Provenance) {
        let Sample { leaves, directory, from, rules } = sample::sample();
        let mut deriver = crate::Deriver::new(directory, from.period, rules, Nowhere);
        leaves.iter().for_each(|leaf| deriver.entry(leaf));
        (deriver.finish(&from, &sample::generator()).1.findings, from)
    }

    struct Nowhere;

    impl crate::Output for Nowhere {
        fn append(&mut self, _: &str, _: &[u8]) {}
    }

    fn result(findings: &Findings, from: &Provenance) -> Value {
        let document: Value = serde_json::from_str(&oscal_results(findings, from)).expect("JSON");
        document["assessment-results"]["results"][0].clone()
    }

    #[test]
    fn each_control_has_an_observation_and_a_finding() {
        let (findings, from) = found();
        let result = result(&findings, &from);
        assert_eq!(result["observations"].as_array().map(Vec::len), Some(crate::CONTROLS.len()));
        let all = result["findings"].as_array().expect("an array");
        assert_eq!(all.len(), crate::CONTROLS.len());
        let status = |id: &str| {
            let one = all.iter().find(|one| one["target"]["target-id"] == id).expect("each control");
            one["target"]["status"].clone()
        };
        assert_eq!(status("refused-not-run")["state"], "satisfied");
        assert_eq!(status("segregation")["state"], "not-satisfied");
        assert_eq!(status("no-bypass")["state"], "not-satisfied");
        assert!(status("no-bypass")["remarks"].as_str().is_some_and(|text| text.starts_with("Not tested")));
    }

    #[test]
    fn the_same_head_gives_the_same_bytes_and_another_one_other_ids() {
        let (findings, mut from) = found();
        let first = oscal_results(&findings, &from);
        assert_eq!(oscal_results(&findings, &from), first);
        let id = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["assessment-results"]["uuid"].clone();
        from.head.size += 1;
        assert_ne!(id(&oscal_results(&findings, &from)), id(&first));
    }

    #[test]
    fn only_what_was_asked_for_is_told() {
        let (findings, mut from) = found();
        from.controls = vec!["segregation".into()];
        assert_eq!(result(&findings, &from)["findings"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(plain(" a\n<b>`c`\u{1b}[1m "), "a\u{fffd}\\<b\\>\\`c\\`\u{fffd}\\[1m");
    }
}
