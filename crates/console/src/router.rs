//! All endpoints, in one list. What is under `/api` goes through the door; the list is what the tests walk.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use crate::desk::Desk;
use crate::problem::Problem;
use crate::{door, general, reviews, sessions, unseal};

/// Signatures are less than 16 KiB, reasons less than 4; nothing else is sent.
const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) type Endpoint = (&'static str, &'static str, MethodRouter<Arc<Desk>>);

/// Method, path and handler of every endpoint that needs a token.
pub(crate) fn guarded() -> Vec<Endpoint> {
    vec![
        ("GET", "/api/v1/whoami", get(general::whoami)),
        ("GET", "/api/v1/resources", get(general::resources)),
        ("GET", "/api/v1/reviews", get(reviews::list)),
        ("GET", "/api/v1/reviews/{id}", get(reviews::show)),
        ("POST", "/api/v1/reviews/{id}/approve", post(reviews::approve)),
        ("POST", "/api/v1/reviews/{id}/deny", post(reviews::deny)),
        ("GET", "/api/v1/sessions", get(sessions::list)),
        ("POST", "/api/v1/sessions/{id}/end", post(sessions::end)),
        ("POST", "/api/v1/sessions/{id}/unseal", post(unseal::request)),
    ]
}

/// Those that answer everybody: they name nobody and nothing.
fn open() -> Vec<Endpoint> {
    vec![
        ("GET", "/health/live", get(general::live)),
        ("GET", "/health/ready", get(general::ready)),
        ("GET", "/metrics", get(general::metrics)),
    ]
}

/// The API over these handles. Requests must carry `ConnectInfo<SocketAddr>` of their peer (as
/// `into_make_service_with_connect_info` adds it); without it everything under `/api` answers 500.
pub fn router(desk: Arc<Desk>) -> Router {
    let add = |router: Router<Arc<Desk>>, (_, path, handler): Endpoint| router.route(path, handler);
    let guarded = guarded()
        .into_iter()
        .fold(Router::new(), add)
        .route_layer(from_fn_with_state(Arc::clone(&desk), door::authenticate));
    open()
        .into_iter()
        .fold(guarded, add)
        .fallback(|| async { Problem::absent() })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this is not done with this method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&desk), door::dress))
        .with_state(desk)
}
