//! The HTTP side of the client commands: one gateway, one token, JSON.

use std::time::Duration;

use chancery_console::view;
use chancery_gateway::outbound::{self, Trust, is_loopback};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args;
use crate::output::Failure;

const TIMEOUT: Duration = Duration::from_secs(30);
/// A review holds a command of up to 16 MiB, which JSON may write six times as long.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// A gateway's API.
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Api {
    /// # Errors
    /// The address is neither https nor http on loopback; the token or the certificates cannot be read.
    pub(super) fn new(remote: &args::Remote) -> Result<Self, Failure> {
        let wrong = || Failure::usage("the gateway must be an https address (http only on loopback)");
        let base = Url::parse(&remote.gateway).map_err(|_| wrong())?;
        let plain = base.username().is_empty() && base.password().is_none() && base.host().is_some();
        let safe = base.scheme() == "https" || (base.scheme() == "http" && is_loopback(&base));
        if !plain || !safe {
            return Err(wrong());
        }
        let token = super::secret(remote.token_file.as_deref(), "CHANCERY_TOKEN", "the access token")?;
        let ca = remote.ca.as_deref().map(super::certificates).transpose()?;
        let http = http(&base, ca.as_deref())
            .map_err(|error| Failure::usage(format!("the certificates cannot be used: {error}")))?;
        Ok(Self { http, base, token })
    }
    /// The gateway's host, as clients name it.
    pub(super) fn host(&self) -> &str {
        let host = self.base.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
    pub(super) fn token(&self) -> &str {
        &self.token
    }
    /// # Errors
    /// The gateway's no, with its reason; or that it cannot be reached or understood.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.http.get(url)).await
    }
    /// # Errors
    /// As [`Api::get`].
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.http.post(self.url(path)?).json(body)).await
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(&format!("/api/v1/{path}")).map_err(|_| Failure::usage("this cannot stand in an address"))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token))
            .map_err(|_| Failure::usage("the access token has characters that no token has"))?;
        bearer.set_sensitive(true);
        let transport = |error: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            Failure::unsure(format!("the gateway at {} cannot be reached: {cause}", self.base))
                .hint("--gateway or CHANCERY_GATEWAY says where it is, --ca which certificates it is checked against")
        };
        let mut response = request.header(AUTHORIZATION, bearer).send().await.map_err(transport)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::unsure("the gateway's answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| Failure::unsure("the gateway's answer cannot be read"));
        }
        Err(failure(status, &body))
    }
}

fn failure(status: StatusCode, body: &[u8]) -> Failure {
    let Ok(problem) = serde_json::from_slice::<view::Problem>(body) else {
        return Failure::unsure(format!("the gateway answers {status} without a reason"));
    };
    let message = format!("{} ({})", problem.detail, status.as_u16());
    let failure = if status.is_client_error() { Failure::no(message) } else { Failure::unsure(message) };
    match problem.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn http(base: &Url, ca: Option<&[u8]>) -> reqwest::Result<reqwest::Client> {
    outbound::client(TIMEOUT, Trust::of(base.as_str(), ca))?.https_only(base.scheme() == "https").build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_https_or_loopback_only() {
        let remote = |gateway: &str| args::Remote { gateway: gateway.to_owned(), ca: None, token_file: None };
        for bad in ["http://gw.example", "http://127.0.0.1.evil.example", "ftp://127.0.0.1", "https://u:p@gw", "x"] {
            let failure = Api::new(&remote(bad)).err().map(|failure| failure.message).unwrap_or_default();
            assert!(failure.contains("https"), "{bad}: {failure}");
        }
    }

    #[test]
    fn a_gateways_no_is_a_no_and_its_failure_is_none() {
        let body = br#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"not yours","hint":"ask"}"#;
        let no = failure(StatusCode::FORBIDDEN, body);
        assert_eq!((no.exit.code(), no.message.as_str(), no.hint.as_deref()), (1, "not yours (403)", Some("ask")));
        assert_eq!(failure(StatusCode::SERVICE_UNAVAILABLE, body).exit.code(), 2);
        assert_eq!(failure(StatusCode::FORBIDDEN, b"<html>").exit.code(), 2);
    }
}
