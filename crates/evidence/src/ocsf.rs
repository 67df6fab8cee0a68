//! Events in the form of OCSF 1.8.0 (Open Cybersecurity Schema Framework), for tools that gather events of many systems. Not
//! here: where they are sent.
//!
//! Which class an entry becomes is listed in `docs/guide/siem.md`. Whatever a class has no place for stands in `unmapped`,
//! so that nothing of an entry is lost but its form.

mod act;
mod common;
mod events;

use chancery_model::Timestamp;
use serde_json::json;

use crate::uuid::Ids;
use crate::{Control, Found, Provenance, json, population_path};
pub use events::Events;

/// The version that events state.
const VERSION: &str = "1.8.0";
/// Entries of exceptions named in one finding.
const NAMED_MAX: usize = 50;

/// A control's result as a Compliance Finding (2003), one line of `controls/findings.ocsf.jsonl`.
pub fn ocsf_finding(control: &Control, found: &Found, from: &Provenance) -> String {
    let (status_id, status, severity) = match (found.untested, found.count) {
        (Some(_), _) => (99, "Not tested", 2),
        (None, 0) => (1, "Pass", 1),
        (None, _) => (3, "Fail", 3),
    };
    let uid = Ids::new(from).of(&format!("finding/{}", control.id));
    let at = from.created_at.0.div_euclid(1000);
    let files: Vec<String> = control.populations.iter().map(|one| population_path(*one, "jsonl")).collect();
    let entries: Vec<u64> = found.exceptions.iter().filter_map(|one| one.entry).take(NAMED_MAX).collect();
    let detail = match found.untested {
        Some(why) => format!("not tested: {why}"),
        None => format!("tested: {}, exceptions: {}", found.tested, found.count),
    };
    let event = json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "class_uid": 2003,
        "type_uid": 200_301,
        "severity_id": severity,
        "time": at,
        "message": format!("{}: {}", control.title, found.result()),
        "metadata": {
            "version": VERSION,
            "product": common::product(),
            "uid": uid,
            "log_name": from.head.origin,
            "original_time": from.created_at.to_string(),
        },
        "compliance": {
            "control": control.id,
            "desc": control.predicate,
            "requirements": control.criteria,
            "standards": ["AICPA Trust Services Criteria 2017"],
            "status": status,
            "status_id": status_id,
            "status_detail": detail,
        },
        "finding_info": {
            "uid": uid,
            "title": control.title,
            "desc": control.predicate,
            "created_time": at,
            "data_sources": files,
            "related_events_count": found.count,
        },
        "unmapped": {
            "entries": entries,
            "exceptions": found.count,
            "period_from": Timestamp(from.period.from).to_string(),
            "period_to": Timestamp(from.period.to).to_string(),
            "result": found.result(),
            "root": from.head.root.to_string(),
            "size": from.head.size,
            "tested": found.tested,
        },
    });
    let mut line = String::new();
    json::line(&event, &mut line);
    line
}
