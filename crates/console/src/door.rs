//! The door of the API: bearer tokens in, security headers out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Request, State};
use axum::http::header::{self, AUTHORIZATION, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chancery_identity::{Identity, TOKEN_BYTES_MAX};
use chancery_model::{ResourceName, Timestamp};
use chancery_policy::{RuleSet, Subject};

use crate::desk::{Desk, ResourceView};
use crate::problem::Problem;

/// A request takes no longer, body and all: a slow peer must not hold a task for ever.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Who asks, proven for this one request.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) identity: Arc<Identity>,
    pub(crate) address: IpAddr,
    /// Read once for the request.
    pub(crate) now: Timestamp,
    pub(crate) rules: Arc<RuleSet>,
}

impl Caller {
    /// The caller before a resource. `None`: there is none of this name, or the token is not for it.
    pub(crate) fn at<'d>(&self, desk: &'d Desk, name: &ResourceName) -> Option<(Subject, &'d ResourceView)> {
        let view = desk.resource(name).filter(|view| self.identity.is_for(&view.resource.name))?;
        let Identity { chain, authentication, .. } = &*self.identity;
        Some((Subject::new(&self.rules, chain, authentication, &view.resource, self.address), view))
    }
    /// A token for reading only changes nothing.
    pub(crate) fn may_change(&self) -> Result<(), Problem> {
        if self.identity.read_only { Err(Problem::forbidden("this token is for reading only")) } else { Ok(()) }
    }
}

/// The `{id}` of a path, as it stands there.
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is no text names nothing.
        let Path(id) = Path::from_request_parts(parts, state).await.map_err(|_| Problem::absent())?;
        Ok(Self(id))
    }
}

/// Lets nobody through without a valid token.
pub(crate) async fn authenticate(State(desk): State<Arc<Desk>>, mut request: Request, next: Next) -> Response {
    let Some(&ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        // Rules may ask for the address, so a guess could permit. Whoever serves the router must say it.
        tracing::error!("api request without the address of its peer");
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server does not know who asks").into_response();
    };
    let Some(token) = bearer(request.headers()) else { return Problem::unauthenticated().into_response() };
    let Ok(identity) = (desk.authenticate)(token).await else { return Problem::unauthenticated().into_response() };
    request.extensions_mut().insert(Caller {
        identity: Arc::new(identity.into_inner()),
        address: peer.ip(),
        now: (desk.now)(),
        rules: (desk.rules)(),
    });
    next.run(request).await
}

/// The one token of the one `Authorization` header (RFC 6750 §2.1). Tokens in forms and queries are not looked for.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let fits = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    fits.then(|| token.to_owned())
}

/// Bounds the time and adds the headers that every answer has.
pub(crate) async fn dress(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long").into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if desk.public_url.starts_with("https://") {
        let value = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}
