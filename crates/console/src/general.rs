//! Who am I, what may I reach, and how is the gateway.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chancery_model::{Facts, Need, ReviewState};
use chancery_policy::{CommandDigests, Request, Verdict, decide};
use chancery_store::{SessionFilter, catalog_limits};

use crate::desk::{Desk, Number};
use crate::door::Caller;
use crate::problem::Problem;
use crate::view;

pub(crate) async fn whoami(Extension(caller): Extension<Caller>) -> Json<view::Whoami> {
    let identity = &caller.identity;
    let resources = identity.resources.as_ref();
    Json(view::Whoami {
        chain: view::Chain::of(&identity.chain),
        method: identity.authentication.method.to_owned(),
        expires_at: identity.authentication.expires_at.to_string(),
        resources: resources.map(|names| names.iter().map(ToString::to_string).collect()),
        read_only: identity.read_only,
    })
}

/// Lists what the rules let the caller connect to now, at once or after a review. The rest is not there.
pub(crate) async fn resources(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<view::Resource>> {
    let shown = |of: &crate::ResourceView| {
        let resource = &of.resource;
        Some(view::Resource {
            name: resource.name.to_string(),
            protocol: resource.protocol.to_string(),
            host: of.host.clone(),
            port: of.port,
            database: of.database.clone(),
            tls: of.tls,
            labels: resource.labels.clone(),
            needs: connect(&desk, &caller, of)?,
        })
    };
    Json(desk.resources.iter().filter_map(shown).collect())
}

/// The reviews that a session on the resource needs; `None` if it is denied.
fn connect(desk: &Desk, caller: &Caller, of: &crate::ResourceView) -> Option<Vec<String>> {
    let (subject, _) = caller.at(desk, &of.resource.name)?;
    let rules = &caller.rules;
    let facts = Facts::connect();
    let needs: Vec<Need> = facts.statements.iter().flat_map(|statement| statement.needs.clone()).collect();
    let protocol = of.resource.protocol.to_string();
    let salt = (desk.command_salt)(subject.chain());
    let digests = CommandDigests::new(&salt, &of.resource.name, &protocol, subject.chain(), &rules.digest());
    let digest = digests.of("connect", &[], &[]);
    let request = Request { subject: &subject, digest, facts: &facts, needs: &needs, reviews: &[], connect: true };
    match decide(&request, rules, caller.now) {
        Verdict::Allow(_) => Some(Vec::new()),
        Verdict::Hold(hold) => Some(hold.needed().to_vec()),
        Verdict::Deny(_) => None,
    }
}

pub(crate) async fn live() -> Json<view::Health> {
    Json(view::Health { status: "live".to_owned(), reasons: Vec::new() })
}

pub(crate) async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let health = (desk.health)();
    let mut reasons = health.reasons;
    let stalled = desk.sequencer.stalled();
    reasons.extend(stalled.iter().map(ToString::to_string));
    let ready = health.ready && stalled.is_none();
    let (code, status) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not-ready") };
    (code, Json(view::Health { status: status.to_owned(), reasons })).into_response()
}

pub(crate) async fn metrics(State(desk): State<Arc<Desk>>) -> Result<Response, Problem> {
    let health = (desk.health)();
    let open = SessionFilter { open: Some(true), ..SessionFilter::default() };
    let limit = catalog_limits::LISTING;
    let failed = |error| Problem::catalog(&error);
    let sessions = desk.catalog.list_sessions(&open, limit).await.map_err(failed)?.len();
    let reviews = desk.catalog.list_reviews(Some(ReviewState::Pending), limit).await.map_err(failed)?.len();
    let gauge = |name: &str, help, value| Number { name: name.to_owned(), kind: "gauge", help, value };
    let stalled = desk.sequencer.stalled().is_some();
    let mut numbers = vec![
        gauge("chancery_ready", "1 if the gateway is ready.", u64::from(health.ready && !stalled)),
        gauge("chancery_ledger_stalled", "1 if the ledger takes no new entries.", u64::from(stalled)),
        gauge("chancery_ledger_entries", "Entries in the ledger.", desk.sequencer.size()),
        gauge("chancery_ledger_entries_durable", "Entries that are on disk.", desk.sequencer.durable()),
        gauge("chancery_sessions_open", "Open sessions; counted up to 1000.", sessions as u64),
        gauge("chancery_reviews_pending", "Reviews that wait; counted up to 1000.", reviews as u64),
    ];
    // The gateway knows its own numbers best; a family stands once.
    numbers.retain(|ours| health.numbers.iter().all(|theirs| family(theirs) != family(ours)));
    numbers.extend(health.numbers);
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, exposition(&numbers)).into_response())
}

fn family(number: &Number) -> &str {
    number.name.split('{').next().unwrap_or_default()
}

/// Prometheus' text format. Numbers of one name with several labels share their head lines.
fn exposition(numbers: &[Number]) -> String {
    let mut text = String::new();
    let mut last = "";
    for number in numbers {
        let family = family(number);
        if family != last {
            let _ = writeln!(text, "# HELP {family} {}\n# TYPE {family} {}", number.help, number.kind);
            last = family;
        }
        let _ = writeln!(text, "{} {}", number.name, number.value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_metrics_have_one_head() {
        let number = |name: &str| Number { name: name.to_owned(), kind: "counter", help: "Commands.", value: 3 };
        let text = exposition(&[number("c{verdict=\"allow\"}"), number("c{verdict=\"deny\"}")]);
        let expected = "# HELP c Commands.\n# TYPE c counter\nc{verdict=\"allow\"} 3\nc{verdict=\"deny\"} 3\n";
        assert_eq!(text, expected);
    }
}
