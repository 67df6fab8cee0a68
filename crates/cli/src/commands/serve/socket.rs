//! The control socket: what the operator's commands ask of a gateway that runs.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use chancery_gateway::Gateway;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::local::{
    Deed, EndHold, Ground, NewExport, NewHold, NewKey, NewSecret, NewShred, NewUnseal, NewView, Refused, RetentionStep,
    operator, perform,
};
use crate::output::{Exit, Failure};

use super::http;

/// An envelope in base64 is the largest thing that is asked.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Who is at the other end, by the kernel's word.
#[derive(Clone, Copy)]
struct Peer(u32);

/// Accepts connections of this user and of root until the end.
pub(super) async fn serve(listener: UnixListener, gateway: Gateway, mut ended: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/local/secrets", post(secrets))
        .route("/local/reviewer-keys", post(keys))
        .route("/local/views", post(views))
        .route("/local/exports", post(exports))
        .route("/local/unseals", post(unseals))
        .route("/local/shreds", post(shreds))
        .route("/local/holds", post(holds))
        .route("/local/holds/lift", post(lifts))
        .route("/local/retention/run", post(run_retention))
        .route("/local/retention/progress", post(progress))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(gateway);
    let own = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::end(&mut ended) => return,
        };
        let peer = accepted.and_then(|(stream, _)| stream.peer_cred().map(|peer| (stream, peer.uid())));
        match peer {
            Ok((stream, uid)) if uid == own || uid == 0 => {
                let router = router.clone().layer(Extension(Peer(uid)));
                tokio::spawn(http::connection(stream, router, ended.clone()));
            }
            Ok((_, uid)) => tracing::warn!(uid, "another user was turned away from the control socket"),
            Err(error) => {
                tracing::warn!(%error, "a control connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn secrets(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(secret): Json<NewSecret>,
) -> Response {
    answer(&gateway, peer, &Deed::Secret(secret)).await
}

async fn keys(State(gateway): State<Gateway>, Extension(peer): Extension<Peer>, Json(key): Json<NewKey>) -> Response {
    answer(&gateway, peer, &Deed::Key(key)).await
}

async fn views(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(view): Json<NewView>,
) -> Response {
    answer(&gateway, peer, &Deed::View(view)).await
}

async fn exports(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(export): Json<NewExport>,
) -> Response {
    answer(&gateway, peer, &Deed::Export(export)).await
}

async fn unseals(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(unseal): Json<NewUnseal>,
) -> Response {
    let rules = gateway.rules();
    answer(&gateway, peer, &Deed::Unseal(unseal, Some(rules))).await
}

async fn shreds(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(shred): Json<NewShred>,
) -> Response {
    answer(&gateway, peer, &Deed::Shred(shred)).await
}

async fn holds(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(hold): Json<NewHold>,
) -> Response {
    answer(&gateway, peer, &Deed::Hold(hold)).await
}

async fn lifts(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<Peer>,
    Json(lift): Json<EndHold>,
) -> Response {
    answer(&gateway, peer, &Deed::Lift(lift)).await
}

/// Begins a run, whose end is not waited for; answers how far the gateway was before.
async fn run_retention(State(gateway): State<Gateway>, Extension(Peer(uid)): Extension<Peer>) -> Response {
    let before = RetentionStep::of(&gateway.retention().progress().borrow());
    match gateway.chain_id(&operator(uid)).await {
        Ok(by) => {
            tokio::spawn(async move { gateway.run_retention(by).await });
            Json(before).into_response()
        }
        Err(error) => refused(uid, Failure::no(format!("the directory: {error}"))),
    }
}

async fn progress(State(gateway): State<Gateway>) -> Response {
    Json(RetentionStep::of(&gateway.retention().progress().borrow())).into_response()
}

async fn answer(gateway: &Gateway, Peer(uid): Peer, deed: &Deed) -> Response {
    let operator = operator(uid);
    let done = match gateway.chain_id(&operator).await {
        Ok(by) => {
            let (catalog, sequencer, state) = (gateway.catalog(), gateway.sequencer(), gateway.state());
            let ground = Ground { catalog, sequencer, retention: gateway.retention(), state };
            perform(deed, &ground, by, &operator).await
        }
        Err(error) => Err(Failure::no(format!("the directory: {error}"))),
    };
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => refused(uid, failure),
    }
}

fn refused(uid: u32, failure: Failure) -> Response {
    tracing::warn!(uid, error = %failure, "an operator's request was refused");
    let status = if failure.exit == Exit::Unsure { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
    (status, Json(Refused { error: failure.message, hint: failure.hint })).into_response()
}
