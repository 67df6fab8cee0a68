//! The client side of OAuth 2.0: tokens for a client itself (RFC 6749 §4.4) and for an actor on somebody's behalf
//! (token exchange, RFC 8693). Speaks to any issuer over https, and over plain http only on loopback.
//!
//! It is not a login in a browser, and it does not judge tokens: the gateway does.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_gateway::outbound::{self, Trust, is_loopback};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The grant type of token exchange (RFC 8693 §2.1).
pub(crate) const GRANT_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The token type of an access token (RFC 8693 §3).
pub(crate) const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The media type of requests to a token endpoint.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why no token was had.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Neither https, nor http on loopback.
    Url,
    /// The CA certificates cannot be used.
    Certificates,
    /// The issuer cannot be reached; the cause, without the URL.
    Transport(String),
    /// The issuer said no: `error` and `error_description` of RFC 6749 §5.2.
    Refused {
        /// From the registry of OAuth errors.
        error: String,
        /// For people.
        description: String,
    },
    /// The answer is too large, not JSON, of another issuer, or lacks what it must have; says which.
    Answer(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the issuer must be an https URL (http only on loopback)"),
            Self::Certificates => f.write_str("the issuer's CA certificates cannot be used"),
            Self::Transport(cause) => write!(f, "the issuer cannot be reached: {cause}"),
            Self::Refused { error, description } if description.is_empty() => write!(f, "the issuer refuses: {error}"),
            Self::Refused { error, description } => write!(f, "the issuer refuses: {error} ({description})"),
            Self::Answer(what) => write!(f, "the issuer's answer cannot be used: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// A client's name and secret.
#[derive(Clone)]
pub(crate) struct Login {
    /// `client_id`.
    pub(crate) id: String,
    /// `client_secret`.
    pub(crate) secret: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is asked of a token beyond its subject. Everything can only make it narrower.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// `audience`, where the issuer wants it said.
    pub(crate) audience: Option<String>,
    /// `scope`, where the issuer knows any.
    pub(crate) scope: Option<String>,
    /// Only these resources (`chancery_resource`, as the demo issuer understands it).
    pub(crate) resources: Vec<String>,
    /// Only commands proven to only read (`chancery_only`).
    pub(crate) read_only: bool,
    /// A shorter life, in seconds (`chancery_ttl`).
    pub(crate) ttl: Option<u32>,
}

/// A token that was issued. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Token {
    /// The bearer token.
    pub(crate) access_token: String,
    /// Its life in seconds, if the issuer says.
    pub(crate) expires_in: Option<u64>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// A client of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    token_endpoint: Url,
}

impl Client {
    /// Finds the issuer's token endpoint (OpenID Connect Discovery §4). `ca_pem`: its TLS is checked against these
    /// certificates and no others. Installs the process's TLS provider (aws-lc) if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn discover(issuer: &str, ca_pem: Option<&[u8]>) -> Result<Self, Error> {
        let url = checked(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        let http = http(&url, ca_pem)?;
        let document: Discovery = answer(http.get(url.clone())).await?;
        if document.issuer != issuer {
            return Err(Error::Answer("the discovery document is of another issuer"));
        }
        let token_endpoint = checked(&document.token_endpoint)?;
        if token_endpoint.scheme() != url.scheme() {
            return Err(Error::Answer("the token endpoint has another scheme than the issuer"));
        }
        Ok(Self { http, token_endpoint })
    }

    /// A token for the client itself.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn client_credentials(&self, login: &Login, wishes: &Wishes) -> Result<Token, Error> {
        self.ask(login, vec![("grant_type", "client_credentials".to_owned())], wishes).await
    }

    /// A token for the client as an actor on behalf of the subject of `subject_token`: one link more in its chain.
    /// `actor_token` is the client's own token, where the issuer wants it.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn exchange(
        &self,
        login: &Login,
        subject_token: &str,
        actor_token: Option<&str>,
        wishes: &Wishes,
    ) -> Result<Token, Error> {
        let mut form = vec![
            ("grant_type", GRANT_EXCHANGE.to_owned()),
            ("subject_token", subject_token.to_owned()),
            ("subject_token_type", TYPE_ACCESS_TOKEN.to_owned()),
            ("requested_token_type", TYPE_ACCESS_TOKEN.to_owned()),
        ];
        if let Some(actor_token) = actor_token {
            form.push(("actor_token", actor_token.to_owned()));
            form.push(("actor_token_type", TYPE_ACCESS_TOKEN.to_owned()));
        }
        self.ask(login, form, wishes).await
    }

    async fn ask(&self, login: &Login, form: Vec<(&str, String)>, wishes: &Wishes) -> Result<Token, Error> {
        let mut form = form;
        form.extend(wishes.audience.iter().map(|audience| ("audience", audience.clone())));
        form.extend(wishes.scope.iter().map(|scope| ("scope", scope.clone())));
        if !wishes.resources.is_empty() {
            form.push(("chancery_resource", wishes.resources.join(" ")));
        }
        if wishes.read_only {
            form.push(("chancery_only", "read".to_owned()));
        }
        form.extend(wishes.ttl.iter().map(|ttl| ("chancery_ttl", ttl.to_string())));
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", form_encode(value))).collect();
        // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
        let basic = STANDARD.encode(format!("{}:{}", form_encode(&login.id), form_encode(&login.secret)));
        let request = self.http.post(self.token_endpoint.clone()).header(CONTENT_TYPE, FORM);
        let request = request.header(AUTHORIZATION, format!("Basic {basic}")).body(body.join("&"));
        let issued: Issued = answer(request).await?;
        if !issued.token_type.eq_ignore_ascii_case("bearer") {
            return Err(Error::Answer("the token is no bearer token"));
        }
        Ok(Token { access_token: issued.access_token, expires_in: issued.expires_in })
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// https anywhere, http on loopback; no user names in it.
pub(crate) fn checked(url: &str) -> Result<Url, Error> {
    let url = Url::parse(url).map_err(|_| Error::Url)?;
    let plain = url.username().is_empty() && url.password().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if plain && safe { Ok(url) } else { Err(Error::Url) }
}

fn http(issuer: &Url, ca_pem: Option<&[u8]>) -> Result<reqwest::Client, Error> {
    let client = outbound::client(TIMEOUT, Trust::of(issuer.as_str(), ca_pem)).map_err(|_| Error::Certificates)?;
    client.https_only(issuer.scheme() == "https").build().map_err(|_| Error::Certificates)
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    let transport = |error: reqwest::Error| Error::Transport(error.without_url().to_string());
    let mut response = request.send().await.map_err(transport)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Answer("larger than 256 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    if response.status() == reqwest::StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| Error::Answer("not the JSON that was expected"));
    }
    let refusal: Refusal = serde_json::from_slice(&body).map_err(|_| Error::Answer("an error without a reason"))?;
    let shown = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(Error::Refused { error: shown(refusal.error), description: shown(refusal.error_description) })
}

/// Writes a value of an `application/x-www-form-urlencoded` body (URL Standard §5.2).
pub(crate) fn form_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_values_are_encoded() {
        assert_eq!(form_encode("a b&c=d%é~"), "a+b%26c%3Dd%25%C3%A9%7E");
    }

    #[test]
    fn secrets_and_tokens_are_not_shown() {
        let login = Login { id: "ci".into(), secret: "hush".into() };
        let token = Token { access_token: "hush".into(), expires_in: Some(1) };
        assert!(!format!("{login:?}{token:?}").contains("hush"));
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for bad in ["http://idp.example", "http://127.0.0.1.evil.example", "ftp://127.0.0.1", "https://u:p@idp", "x"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        for good in ["https://idp.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(checked(good).is_ok(), "{good}");
        }
    }
}
