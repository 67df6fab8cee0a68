//! `chancery session`: what was recorded, for the operator on the gateway's host. Each look is itself recorded before
//! anything is shown.

mod replay;
mod transcript;

use std::ops::ControlFlow;
use std::sync::Arc;

use chancery_model::{ResourceName, SessionId, Timestamp};
use chancery_store::{Directory, LedgerItem, LedgerReader, SessionFilter, SessionRecord};
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::config::Configuration;
use crate::local::{Deed, Local, NewView};
use crate::output::{Done, Exit, Failure, Out, clean};

pub(crate) async fn run(args: args::Session, out: Out) -> Done {
    match args {
        args::Session::List(args) => list(args, out).await,
        args::Session::Show(args) => {
            let (configuration, local, record) = find(&args.config, &args.id, "entries").await?;
            let shown = show(&configuration, &local, &record, out).await;
            local.close().await;
            shown
        }
        args::Session::Replay(args) => {
            if args.speed.is_some_and(|speed| !(speed.is_finite() && speed > 0.0)) {
                return Err(
                    Failure::usage("--speed must be above 0").hint("1 is as it happened, 10 is ten times faster")
                );
            }
            let (configuration, local, record) = find(&args.config, &args.id, "recording").await?;
            let pruned = local.catalog.pruned_of(record.id).await;
            local.close().await;
            let pruned = pruned.map_err(|error| Failure::no(error.to_string()))?;
            let recordings = configuration.state.join("recordings");
            tokio::task::block_in_place(|| replay::play(&recordings, &record, &pruned, args.speed, out))
        }
    }
}

/// The session, once the look at it is on record.
async fn find(config: &args::Config, id: &str, what: &str) -> Result<(Configuration, Local, SessionRecord), Failure> {
    let id = SessionId::parse(id).ok_or_else(|| {
        Failure::usage(format!("`{}` is not the id of a session", clean(id))).hint("`chancery session list` shows them")
    })?;
    let (configuration, local) = check::open(config).await?;
    let found = async {
        let record = local.catalog.session(id).await.map_err(|error| Failure::no(error.to_string()))?;
        let record = record.ok_or_else(|| Failure::no(format!("there is no session {id}")))?;
        let view = NewView { what: what.to_owned(), session: Some(id.to_string()) };
        local.do_it(&Deed::View(view)).await?;
        Ok(record)
    };
    match found.await {
        Ok(record) => Ok((configuration, local, record)),
        Err(failure) => {
            local.close().await;
            Err(failure)
        }
    }
}

async fn list(args: args::SessionList, out: Out) -> Done {
    let resource = args.resource.as_deref().map(|name| {
        ResourceName::parse(name).ok_or_else(|| Failure::usage(format!("`{}` cannot name a resource", clean(name))))
    });
    let filter =
        SessionFilter { open: args.open.then_some(true), resource: resource.transpose()?, ..Default::default() };
    let (_, local) = check::open(&args.config).await?;
    let found = async {
        local.do_it(&Deed::View(NewView { what: "entries".to_owned(), session: None })).await?;
        local.catalog.list_sessions(&filter, args.limit).await.map_err(|error| Failure::no(error.to_string()))
    };
    let found = found.await;
    local.close().await;
    let sessions = found?;
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|one| {
            vec![
                one.id.to_string(),
                one.started_at.to_string(),
                state(one),
                one.resource.to_string(),
                one.chain.clone(),
                one.client.clone(),
                one.commands.to_string(),
            ]
        })
        .collect();
    out.table(&["SESSION", "STARTED", "STATE", "RESOURCE", "WHO", "FROM", "COMMANDS"], &rows);
    out.document(&sessions.iter().map(document).collect::<Vec<_>>());
    Ok(Exit::Yes)
}

fn state(session: &SessionRecord) -> String {
    match (&session.ended_at, &session.ending) {
        (None, _) => "open".to_owned(),
        (Some(_), Some(ending)) => ending.clone(),
        (Some(_), None) => "ended".to_owned(),
    }
}

fn document(session: &SessionRecord) -> serde_json::Value {
    json!({
        "session": session.id.to_string(),
        "resource": session.resource.as_str(),
        "chain": session.chain,
        "client": session.client,
        "started_at": session.started_at.to_string(),
        "ended_at": session.ended_at.map(|at| at.to_string()),
        "state": state(session),
        "commands": session.commands,
    })
}

/// One entry of the session, for people: its short fields. Digests stay in the JSON.
struct Line {
    index: u64,
    at: Timestamp,
    kind: &'static str,
    command: Option<u64>,
    rest: serde_json::Map<String, serde_json::Value>,
}

async fn show(configuration: &Configuration, local: &Local, session: &SessionRecord, out: Out) -> Done {
    let chain = local.catalog.chain(session.chain_id).await.map_err(|error| Failure::no(error.to_string()))?;
    let lines = tokio::task::block_in_place(|| entries(configuration, session.id))?;
    out.line(format!("session   {}", session.id));
    out.line(format!("resource  {}", session.resource));
    out.line(format!("who       {}", clean(&session.chain)));
    if let Some(chain) = &chain {
        let principal = &chain.chain.principal;
        out.line(format!("identity  {} at {}", clean(&principal.subject), clean(&principal.issuer)));
    }
    out.line(format!("from      {}", clean(&session.client)));
    out.line(format!("started   {}", session.started_at));
    out.line(format!("ended     {}", session.ended_at.map_or("-".to_owned(), |at| at.to_string())));
    out.line(format!("state     {}\n", clean(&state(session))));
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let command = line.command.map_or(String::new(), |command| command.to_string());
            vec![line.index.to_string(), line.at.to_string(), command, line.kind.to_owned(), short(&line.rest)]
        })
        .collect();
    out.table(&["ENTRY", "TIME", "COMMAND", "KIND", "FIELDS"], &rows);
    let documents: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({ "entry": line.index, "at": line.at.to_string(), "kind": line.kind, "command": line.command,
                    "fields": line.rest })
        })
        .collect();
    out.document(&json!({ "session": document(session), "entries": documents }));
    Ok(Exit::Yes)
}

fn short(fields: &serde_json::Map<String, serde_json::Value>) -> String {
    let shown = fields.iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(text) if text.len() <= 32 => Some(format!("{name}={text}")),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Some(format!("{name}={value}")),
        serde_json::Value::Array(_) => Some(format!("{name}={value}")).filter(|text| text.len() <= 80),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The ledger's entries about the session. Reads the whole ledger.
fn entries(configuration: &Configuration, session: SessionId) -> Result<Vec<Line>, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::unsure(format!("the ledger cannot be read: {error}"));
    let volume = Directory::shared(&configuration.state.join("ledger")).map_err(|error| unreadable(&error))?;
    let mut lines = Vec::new();
    let visited = LedgerReader::new(Arc::new(volume)).visit(0, |index, item| {
        if let LedgerItem::Entry(bytes) = item
            && let Ok(leaf) = chancery_ledger::Leaf::parse(bytes, index)
            && leaf.session == Some(session)
        {
            let kind = leaf.kind.map_or("unknown", chancery_ledger::EntryKind::as_str);
            let (at, rest) = (Timestamp(leaf.wall), leaf.rest.into_iter().collect());
            lines.push(Line { index, at, kind, command: leaf.command, rest });
        }
        ControlFlow::Continue(())
    });
    visited.map_err(|error| unreadable(&error))?;
    Ok(lines)
}
