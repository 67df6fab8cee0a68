//! How the API says no: RFC 9457 problem documents. Built on purpose; no internal error converts into one.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chancery_policy::approval::ApprovalError;
use chancery_store::{CatalogError, Stall};

use crate::view;

/// A refusal of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    hint: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: None }
    }
    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }
    pub(crate) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "a valid bearer token is needed").hint("get a new token: chancery token")
    }
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }
    /// The same words whether it is not there or may not be seen.
    pub(crate) fn absent() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such thing")
    }
    /// Whether somebody who knows of the thing was told no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.status, StatusCode::FORBIDDEN | StatusCode::CONFLICT)
    }
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
    /// The ledger does not take the entry; so nothing is done.
    pub(crate) fn unrecorded(stall: &Stall) -> Self {
        tracing::error!(reason = %stall, "api change refused: record unavailable");
        Self::unavailable("record unavailable: nothing was done")
    }
    /// The catalog failed. A conflict and a limit are the caller's; the rest goes to the operator's log.
    pub(crate) fn catalog(error: &CatalogError) -> Self {
        match error {
            CatalogError::Conflict(what) => Self::conflict(*what),
            CatalogError::NotFound(_) => Self::absent(),
            CatalogError::Limit { what, max } => Self::conflict(format!("limit reached: {what}, at most {max}")),
            CatalogError::Busy => Self::unavailable("the catalog is busy").hint("try again"),
            error => {
                tracing::error!(%error, "catalog failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the catalog cannot be used")
            }
        }
    }
    pub(crate) fn approval(error: &ApprovalError) -> Self {
        let detail = error.to_string();
        match error {
            ApprovalError::NotOpen(_) | ApprovalError::Expired | ApprovalError::RulesChanged => Self::conflict(detail),
            ApprovalError::NotNeeded | ApprovalError::Unsigned => Self::bad(detail),
            ApprovalError::TooWeak { .. } => Self::forbidden(detail).hint("chancery review approve ID --key KEY"),
            _ => Self::forbidden(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = view::Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            hint: self.hint.map(str::to_owned),
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
