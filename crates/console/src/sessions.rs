//! Sessions: who uses what, and ending it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use chancery_model::{Delegation, ResourceName, SessionId};
use chancery_policy::{ApiAction, Authorized, authorize_api};
use chancery_store::{SessionFilter, SessionRecord};
use serde::Deserialize;

use crate::desk::Desk;
use crate::door::{Caller, PathId};
use crate::problem::Problem;
use crate::{record, view};

/// Sessions that one answer looks through.
const LISTED_MAX: u32 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    open: Option<bool>,
    resource: Option<String>,
    before: Option<String>,
}

/// Lists, among the newest [`LISTED_MAX`] sessions of the filter, those that the caller may see.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<view::Session>>, Problem> {
    let Query(filter) = filter.map_err(|_| Problem::bad("the query has open, resource and before"))?;
    let resource = filter.resource.map(|name| ResourceName::parse(&name).ok_or_else(Problem::absent)).transpose()?;
    let before = filter.before.map(|id| SessionId::parse(&id).ok_or_else(Problem::absent)).transpose()?;
    let filter = SessionFilter { open: filter.open, resource, chain_id: None, before };
    let failed = |error| Problem::catalog(&error);
    let records = desk.catalog.list_sessions(&filter, LISTED_MAX).await.map_err(failed)?;
    // Many sessions are of few chains on few resources; each pair is judged once.
    let mut judged: HashMap<([u8; 16], ResourceName), Option<Delegation>> = HashMap::new();
    let mut shown = Vec::new();
    for session in records {
        let key = (session.chain_id, session.resource.clone());
        let chain = match judged.get(&key) {
            Some(known) => known.clone(),
            None => {
                let chain = visible(&desk, &caller, &session).await?;
                judged.insert(key, chain.clone());
                chain
            }
        };
        shown.extend(chain.map(|chain| line(&session, &chain)));
    }
    Ok(Json(shown))
}

/// Ends a session. Order: authorized, written down by whom and on disk, then ended; if we crash in between, the session
/// ends with the process and the entry says that somebody wanted it ended.
pub(crate) async fn end(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
) -> Result<Json<view::Ended>, Problem> {
    let id = SessionId::parse(&id).ok_or_else(Problem::absent)?;
    let session = desk.catalog.session(id).await.map_err(|error| Problem::catalog(&error))?;
    let session = session.ok_or_else(Problem::absent)?;
    let chain = visible(&desk, &caller, &session).await?.ok_or_else(Problem::absent)?;
    let (subject, _) = caller.at(&desk, &session.resource).ok_or_else(Problem::absent)?;
    caller.may_change()?;
    let denied = |_| Problem::forbidden("the rules do not let you end this session");
    let action = ApiAction::EndSession(&chain);
    let authorized: Authorized<SessionId> =
        authorize_api(&subject, action, id, &caller.rules, caller.now).map_err(denied)?;
    if session.ended_at.is_some() {
        return Err(Problem::conflict("the session has ended"));
    }
    record::view(&desk, &caller.identity.chain, "session-end", *authorized.get()).await?;
    if !(desk.end_session)(authorized.into_inner()).await {
        return Err(Problem::conflict("the session has ended"));
    }
    Ok(Json(view::Ended { id: id.to_string() }))
}

/// The session's chain if the caller may see the session.
async fn visible(desk: &Desk, caller: &Caller, session: &SessionRecord) -> Result<Option<Delegation>, Problem> {
    let Some((subject, _)) = caller.at(desk, &session.resource) else { return Ok(None) };
    let chain = desk.catalog.chain(session.chain_id).await.map_err(|error| Problem::catalog(&error))?;
    let Some(chain) = chain.map(|record| record.chain) else { return Ok(None) };
    let seen = authorize_api(&subject, ApiAction::ShowSession(&chain), (), &caller.rules, caller.now).is_ok();
    Ok(seen.then_some(chain))
}

fn line(session: &SessionRecord, chain: &Delegation) -> view::Session {
    view::Session {
        id: session.id.to_string(),
        resource: session.resource.to_string(),
        chain: view::Chain::of(chain),
        client: session.client.clone(),
        started_at: session.started_at.to_string(),
        ended_at: session.ended_at.map(|at| at.to_string()),
        ending: session.ending.clone(),
        commands: session.commands,
    }
}
