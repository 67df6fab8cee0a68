//! `chancery evidence shred`: destroys the sealed originals of a session. What the ledger says of them stays.

use chancery_model::SessionId;
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::local::{Deed, NewShred};
use crate::output::{Done, Exit, Failure, Out, clean};

pub(super) async fn run(args: args::Shred, out: Out) -> Done {
    let session = session(&args.session)?;
    if args.authority.trim().is_empty() {
        return Err(Failure::usage("--authority is empty").hint("name the order or request that demands it"));
    }
    let (_, local) = check::open(&args.config).await?;
    let shred = NewShred { session: session.to_string(), authority: args.authority.clone() };
    let done = local.do_it(&Deed::Shred(shred)).await;
    local.close().await;
    done?;
    out.line(format!(
        "the originals of session {session} are destroyed; what was recorded masked, and the ledger, stay"
    ));
    out.document(&json!({ "session": session.to_string(), "shredded": true }));
    Ok(Exit::Yes)
}

pub(super) fn session(text: &str) -> Result<SessionId, Failure> {
    SessionId::parse(text).ok_or_else(|| {
        Failure::usage(format!("`{}` is not the id of a session", clean(text)))
            .hint("`chancery session list` shows them")
    })
}
