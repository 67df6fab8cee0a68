//! `evidence unseal request`: asks for a session's sealed originals, as oneself.

use chancery_console::view;
use chancery_model::SessionId;

use super::api::Api;
use crate::args;
use crate::output::{Done, Exit, Failure, Out, clean};

/// Puts a request before the reviewers.
pub(crate) async fn request(args: &args::UnsealRequest, out: Out) -> Done {
    let session = SessionId::parse(&args.session)
        .ok_or_else(|| Failure::usage(format!("`{}` is not the id of a session", clean(&args.session))))?;
    let body = view::RequestUnseal { reason: args.reason.clone() };
    let requested: view::Requested = Api::new(&args.remote)?.post(&format!("sessions/{session}/unseal"), &body).await?;
    out.document(&requested);
    let (id, needed, until) = (clean(&requested.id), clean(&requested.needed), clean(&requested.expires_at));
    out.line(format!("review {id} waits for {needed} until {until}"));
    out.line(format!("when it is approved: chancery evidence unseal {session} --review {id} --out DIR"));
    Ok(Exit::Yes)
}
