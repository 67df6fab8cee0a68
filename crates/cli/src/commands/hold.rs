//! `chancery hold`: what is not to be deleted, whatever its age. Scope and reason stay in the catalog of this host.

use std::fmt::Write;

use chancery_model::SessionId;
use chancery_store::{HoldScope, LegalHold};
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::local::{Deed, EndHold, NewHold, digits};
use crate::output::{Done, Exit, Failure, Out, clean};

const SHOWN: u32 = 1_000;
const REASON_BYTES_MAX: usize = 4 * 1024;

pub(crate) async fn run(args: args::Hold, out: Out) -> Done {
    match args {
        args::Hold::Set(args) => set(args, out).await,
        args::Hold::List(args) => list(args, out).await,
        args::Hold::Lift(args) => lift(args, out).await,
    }
}

async fn set(args: args::HoldSet, out: Out) -> Done {
    let session = args.session.as_deref().map(|id| {
        SessionId::parse(id).map(|id| id.to_string()).ok_or_else(|| {
            Failure::usage(format!("`{}` is not the id of a session", clean(id)))
                .hint("`chancery session list` shows them")
        })
    });
    let principal = match args.principal.as_deref() {
        None => None,
        Some([issuer, subject]) => Some((issuer.clone(), subject.clone())),
        Some(_) => return Err(Failure::usage("a principal is an issuer's URL and a subject")),
    };
    let period = args.from.zip(args.to).map(|(from, to)| (from.0, to.0));
    if period.is_some_and(|(from, to)| from >= to) {
        return Err(Failure::usage("the period ends before it begins").hint("--from is the earlier one"));
    }
    let reason = reason(args.reason)?;
    let (id, salt) = (random::<16>()?, random::<32>()?);
    let (_, local) = check::open(&args.config).await?;
    let hold = NewHold { id: id.clone(), salt, session: session.transpose()?, principal, period, reason };
    let done = local.do_it(&Deed::Hold(hold)).await;
    local.close().await;
    done?;
    out.line(format!("hold {id} is in force"));
    out.document(&json!({ "hold": id }));
    Ok(Exit::Yes)
}

async fn lift(args: args::HoldLift, out: Out) -> Done {
    let id = digits::<16>(&args.id).map(|id| hex(&id)).ok_or_else(|| {
        Failure::usage(format!("`{}` is not the id of a hold", clean(&args.id))).hint("`chancery hold list` shows them")
    })?;
    let lift = EndHold { id: id.clone(), salt: random::<32>()?, reason: reason(args.reason)? };
    let (_, local) = check::open(&args.config).await?;
    let done = local.do_it(&Deed::Lift(lift)).await;
    local.close().await;
    done?;
    out.line(format!("hold {id} is lifted"));
    out.document(&json!({ "hold": id, "lifted": true }));
    Ok(Exit::Yes)
}

async fn list(args: args::HoldList, out: Out) -> Done {
    let (_, local) = check::open(&args.config).await?;
    let holds =
        if args.in_force { local.catalog.holds_in_force().await } else { local.catalog.list_holds(SHOWN).await };
    local.close().await;
    let holds = holds.map_err(|error| Failure::no(error.to_string()))?;
    let rows: Vec<Vec<String>> = holds
        .iter()
        .map(|hold| {
            let lifted = hold.lifted.as_ref().map_or("-".to_owned(), |lift| lift.at.to_string());
            let scope = scope(&hold.scope);
            vec![hex(&hold.id), scope, hold.set_at.to_string(), hold.set_by.clone(), lifted, hold.reason.clone()]
        })
        .collect();
    out.table(&["HOLD", "SCOPE", "SET", "BY", "LIFTED", "REASON"], &rows);
    out.document(&holds.iter().map(document).collect::<Vec<_>>());
    Ok(Exit::Yes)
}

fn scope(scope: &HoldScope) -> String {
    match scope {
        HoldScope::Session(session) => format!("session {session}"),
        HoldScope::Principal { issuer, subject } => format!("principal {subject} at {issuer}"),
        HoldScope::Period(from, to) => format!("from {from} to {to}"),
    }
}

fn document(hold: &LegalHold) -> serde_json::Value {
    let scope = match &hold.scope {
        HoldScope::Session(session) => json!({ "session": session.to_string() }),
        HoldScope::Principal { issuer, subject } => json!({ "issuer": issuer, "subject": subject }),
        HoldScope::Period(from, to) => json!({ "from": from.to_string(), "to": to.to_string() }),
    };
    let lifted = hold.lifted.as_ref();
    let lifted = lifted.map(|lift| json!({ "at": lift.at.to_string(), "by": lift.by, "reason": lift.reason }));
    json!({ "hold": hex(&hold.id), "scope": scope, "reason": hold.reason, "set_at": hold.set_at.to_string(),
            "set_by": hold.set_by, "lifted": lifted })
}

fn reason(reason: String) -> Result<String, Failure> {
    match reason.trim() {
        "" => Err(Failure::usage("the reason is empty").hint("name an order or a ticket")),
        reason if reason.len() > REASON_BYTES_MAX => Err(Failure::usage("the reason is longer than 4 KiB")),
        reason => Ok(reason.to_owned()),
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn random<const N: usize>() -> Result<String, Failure> {
    let mut bytes = [0; N];
    chancery_store::random(&mut bytes).map_err(|error| Failure::unsure(format!("no randomness: {error}")))?;
    Ok(hex(&bytes))
}
