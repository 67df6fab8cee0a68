//! The demo's OpenID Connect issuer: discovery, key set, and a token endpoint with client credentials (RFC 6749 §4.4)
//! and token exchange (RFC 8693).
//!
//! It speaks real HTTP and signs real tokens, so that the demo shows the gateway as it is. It is no identity provider
//! for anything else: it listens on loopback only, makes up its key and secrets anew at each start, keeps nothing, and
//! has neither logins nor revocation. `serve` has no way to start it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use aws_lc_rs::{constant_time, digest, rand};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chancery_identity::{Algorithm, Identity, Issuer, IssuerRules, KeySet, authenticate};
use chancery_model::{Actor, PrincipalKind, ResourceName, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::oauth::{self, FORM, GRANT_EXCHANGE, Login, TYPE_ACCESS_TOKEN, Wishes};

/// The audience of every token that this issuer makes.
pub(crate) const AUDIENCE: &str = "chancery";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The life of a token, unless less is asked for or its parent ends earlier.
const TTL_SECONDS: i64 = 3_600;
const CHAIN_MAX: usize = 8;
/// Two tokens of the longest accepted length and the rest of the form.
const BODY_BYTES_MAX: usize = 48 * 1024;
const PARAMETERS_MAX: usize = 32;

/// Someone whom the demo issuer knows, with a secret made up at start.
#[derive(Clone)]
pub(crate) struct Account {
    /// `client_id` and `sub`.
    pub(crate) name: String,
    /// `client_secret`: 128 random bits.
    pub(crate) secret: String,
    /// User, service or agent.
    pub(crate) kind: PrincipalKind,
    /// Groups.
    pub(crate) groups: Vec<String>,
}

impl Account {
    /// Makes an account with a new secret.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) fn new(name: &str, kind: PrincipalKind, groups: &[&str]) -> io::Result<Self> {
        let secret = URL_SAFE_NO_PAD.encode(random::<16>()?);
        Ok(Self {
            name: name.to_owned(),
            secret,
            kind,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        })
    }
    /// The login of its client.
    pub(crate) fn login(&self) -> Login {
        Login { id: self.name.clone(), secret: self.secret.clone() }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The demo's cast: alice (analysts, oncall), the reviewer dana (dba), the pipeline ci, and two agents.
///
/// # Errors
/// There is no randomness.
pub(crate) fn cast() -> io::Result<Vec<Account>> {
    Ok(vec![
        Account::new("alice", PrincipalKind::User, &["analysts", "oncall"])?,
        Account::new("dana", PrincipalKind::User, &["dba"])?,
        Account::new("ci", PrincipalKind::Service, &[])?,
        Account::new("report-agent", PrincipalKind::Agent, &[])?,
        Account::new("sql-helper", PrincipalKind::Agent, &[])?,
    ])
}

/// A running issuer. Stops when dropped.
#[derive(Debug)]
pub(crate) struct DemoIssuer {
    url: String,
    accounts: Vec<Account>,
    task: JoinHandle<()>,
}

impl DemoIssuer {
    /// Listens on `address`, which must be of loopback (port 0: any free one), with a new key. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address is not of loopback or cannot be had, or there is no randomness.
    pub(crate) async fn start(address: SocketAddr, accounts: Vec<Account>) -> io::Result<Self> {
        Self::start_with_clock(address, accounts, Arc::new(system_clock)).await
    }

    async fn start_with_clock(address: SocketAddr, accounts: Vec<Account>, clock: Arc<Clock>) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the demo issuer listens on loopback only"));
        }
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let desk = Arc::new(Desk::new(url.clone(), accounts.clone(), clock)?);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(desk);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the demo issuer stopped");
            }
        });
        Ok(Self { url, accounts, task })
    }

    /// Its URL, which is also `iss`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// Whom it knows.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }
    /// The account of this name.
    pub(crate) fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
    }
    /// The rules by which a gateway accepts its tokens.
    #[cfg(test)]
    pub(crate) fn rules(&self) -> IssuerRules {
        rules(&self.url)
    }
}

impl Drop for DemoIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Gets, through the issuer's endpoints, a token of `principal` that was handed down through `agents` in this order,
/// narrowed by `wishes` at the last step.
///
/// # Errors
/// [`oauth::Error`].
pub(crate) async fn mint(
    issuer: &str,
    principal: &Login,
    agents: &[Login],
    wishes: &Wishes,
) -> Result<String, oauth::Error> {
    let client = oauth::Client::discover(issuer, None).await?;
    let all = Wishes::default();
    let at = |step: usize| if step == agents.len() { wishes } else { &all };
    let mut token = client.client_credentials(principal, at(0)).await?.access_token;
    for (step, agent) in agents.iter().enumerate() {
        let own = client.client_credentials(agent, &all).await?.access_token;
        token = client.exchange(agent, &token, Some(&own), at(step + 1)).await?.access_token;
    }
    Ok(token)
}

type Clock = dyn Fn() -> Timestamp + Send + Sync;

fn system_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(bytes)
}

fn rules(url: &str) -> IssuerRules {
    let mut rules = IssuerRules::new(url, vec![AUDIENCE.to_owned()]);
    rules.algorithms = vec![Algorithm::Es256];
    rules.max_chain = CHAIN_MAX;
    rules.method = "demo";
    rules
}

/// What the endpoints share.
struct Desk {
    url: String,
    accounts: Vec<Account>,
    clock: Arc<Clock>,
    pair: EcdsaKeyPair,
    kid: String,
    jwks: Value,
    /// Judges the tokens that come back for exchange, as the gateway would but without leeway.
    own: Issuer,
}

/// An OAuth error (RFC 6749 §5.2): code and a sentence.
type No = (&'static str, &'static str);

impl Desk {
    fn new(url: String, accounts: Vec<Account>, clock: Arc<Clock>) -> io::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(io::Error::other)?;
        // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(io::Error::other("no point of P-256"));
        };
        let kid = URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, point).as_ref()[..12]);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwks = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y}
        ]});
        let mut strict = rules(&url);
        strict.leeway = 0;
        let keys = KeySet::parse(jwks.to_string().as_bytes()).map_err(io::Error::other)?;
        let own = Issuer::new(strict, keys).map_err(io::Error::other)?;
        Ok(Self { url, accounts, clock, pair, kid, jwks, own })
    }

    fn issue(&self, headers: &HeaderMap, body: &[u8]) -> Result<Value, No> {
        let form = Form::read(headers, body)?;
        let account = self.client(headers, &form)?;
        if form.get("audience").is_some_and(|audience| audience != AUDIENCE) {
            return Err(("invalid_target", "the only audience is chancery"));
        }
        if form.get("resource").is_some() {
            return Err(("invalid_target", "resources are named by chancery_resource"));
        }
        if form.get("scope").is_some_and(|scope| !scope.is_empty()) {
            return Err(("invalid_scope", "there are no scopes; use chancery_resource and chancery_only"));
        }
        let mut answer = match form.get("grant_type") {
            Some("client_credentials") => self.for_itself(account, &form)?,
            Some(GRANT_EXCHANGE) => self.exchange(account, &form)?,
            Some(_) => return Err(("unsupported_grant_type", "client_credentials or token exchange")),
            None => return Err(("invalid_request", "grant_type is missing")),
        };
        answer["token_type"] = json!("Bearer");
        Ok(answer)
    }

    /// Who asks, by exactly one of HTTP Basic and form parameters (RFC 6749 §2.3).
    fn client(&self, headers: &HeaderMap, form: &Form) -> Result<&Account, No> {
        const NO: No = ("invalid_client", "unknown client or wrong secret");
        let posted = form.get("client_secret");
        let (id, secret) = match (headers.get(AUTHORIZATION), posted) {
            (Some(_), Some(_)) => return Err(("invalid_request", "two ways of client authentication")),
            (Some(basic), None) => basic.to_str().ok().and_then(read_basic).ok_or(NO)?,
            (None, Some(secret)) => (form.get("client_id").ok_or(NO)?.to_owned(), secret.to_owned()),
            (None, None) => return Err(NO),
        };
        if form.get("client_id").is_some_and(|named| named != id) {
            return Err(("invalid_request", "client_id is of somebody else"));
        }
        let account = self.accounts.iter().find(|account| account.name == id);
        // Digests have one length, so that the comparison tells nothing of the secret's; unknown names take as long.
        let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        let expected = hash(account.map_or("", |account| &account.secret));
        let same = constant_time::verify_slices_are_equal(expected.as_ref(), hash(&secret).as_ref()).is_ok();
        account.filter(|_| same && !secret.is_empty()).ok_or(NO)
    }

    fn for_itself(&self, account: &Account, form: &Form) -> Result<Value, No> {
        let now = (self.clock)().seconds();
        let narrow = Narrow::read(form)?;
        let expires = now + narrow.ttl.unwrap_or(TTL_SECONDS);
        let mut claims = json!({
            "sub": account.name,
            "preferred_username": account.name,
            "chancery_kind": kind_word(account.kind),
            "auth_time": now,
        });
        if !account.groups.is_empty() {
            claims["groups"] = json!(account.groups);
        }
        self.answer(claims, narrow.resources, narrow.read_only, now, expires)
    }

    /// RFC 8693: the client becomes the current actor of the subject's chain. Nothing of the new token exceeds the old.
    fn exchange(&self, account: &Account, form: &Form) -> Result<Value, No> {
        if account.kind == PrincipalKind::User {
            return Err(("unauthorized_client", "only services and agents act for others"));
        }
        let is_known = |name: &str| form.get(name).is_none_or(|value| value == TYPE_ACCESS_TOKEN || value == TYPE_JWT);
        if form.get("subject_token_type").is_none()
            || !["subject_token_type", "requested_token_type"].iter().all(|n| is_known(n))
        {
            return Err(("invalid_request", "token types must be access_token or jwt"));
        }
        let now = (self.clock)();
        let subject = form.get("subject_token").ok_or(("invalid_request", "subject_token is missing"))?;
        let subject =
            authenticate(subject, &self.own, now).map_err(|_| ("invalid_request", "subject_token does not hold"))?;
        self.check_actor_token(account, form, now)?;
        let parent = subject.get();
        let actors = self.with_actor(parent, account)?;
        let narrow = Narrow::read(form)?;
        let resources = match (&parent.resources, narrow.resources) {
            (Some(had), Some(wanted)) if !wanted.is_subset(had) => {
                return Err(("invalid_target", "chancery_resource exceeds the subject token's"));
            }
            (had, wanted) => wanted.or_else(|| had.clone()),
        };
        let left = parent.authentication.expires_at.seconds();
        let expires = left.min(now.seconds() + narrow.ttl.unwrap_or(TTL_SECONDS));
        let principal = &parent.chain.principal;
        let mut claims = json!({
            "sub": principal.subject,
            "preferred_username": principal.display,
            "chancery_kind": kind_word(principal.kind),
            "auth_time": parent.authentication.authenticated_at.seconds(),
            "act": nest(&actors),
        });
        if !principal.groups.is_empty() {
            claims["groups"] = json!(principal.groups);
        }
        let read_only = parent.read_only || narrow.read_only;
        let mut answer = self.answer(claims, resources, read_only, now.seconds(), expires)?;
        answer["issued_token_type"] = json!(TYPE_ACCESS_TOKEN);
        Ok(answer)
    }

    /// The actor's token, where there is one, must be the client's own: nobody acts with a borrowed name.
    fn check_actor_token(&self, account: &Account, form: &Form, now: Timestamp) -> Result<(), No> {
        let (token, kind) = (form.get("actor_token"), form.get("actor_token_type"));
        let (Some(token), Some(TYPE_ACCESS_TOKEN | TYPE_JWT)) = (token, kind) else {
            let none = token.is_none() && kind.is_none();
            return if none { Ok(()) } else { Err(("invalid_request", "actor_token and its type go together")) };
        };
        match authenticate(token, &self.own, now) {
            Ok(actor) if actor.chain.actors.is_empty() && actor.chain.principal.subject == account.name => Ok(()),
            Ok(_) => Err(("invalid_request", "actor_token is not the client's own")),
            Err(_) => Err(("invalid_request", "actor_token does not hold")),
        }
    }

    fn with_actor(&self, parent: &Identity, account: &Account) -> Result<Vec<Actor>, No> {
        let mut actors = parent.chain.actors.clone();
        // The current actor narrows its own token: no new link.
        if actors.last().is_some_and(|last| last.issuer == self.url && last.subject == account.name) {
            return Ok(actors);
        }
        if parent.chain.involves(&self.url, &account.name) {
            return Err(("invalid_request", "the client stands in the chain already"));
        }
        if actors.len() >= CHAIN_MAX {
            return Err(("invalid_request", "the chain is as long as it may be"));
        }
        actors.push(Actor { issuer: self.url.clone(), subject: account.name.clone(), kind: account.kind });
        Ok(actors)
    }

    fn answer(
        &self,
        claims: Value,
        resources: Option<BTreeSet<ResourceName>>,
        read_only: bool,
        now: i64,
        expires: i64,
    ) -> Result<Value, No> {
        const NO: No = ("server_error", "the token cannot be signed");
        let mut claims = claims;
        claims["iss"] = json!(self.url);
        claims["aud"] = json!(AUDIENCE);
        claims["iat"] = json!(now);
        claims["exp"] = json!(expires);
        claims["jti"] = json!(URL_SAFE_NO_PAD.encode(random::<16>().map_err(|_| NO)?));
        if let Some(resources) = resources {
            claims["chancery_resource"] = resources.iter().map(ResourceName::as_str).collect();
        }
        if read_only {
            claims["chancery_only"] = json!("read");
        }
        let header = json!({"alg": "ES256", "kid": self.kid, "typ": "at+jwt"}).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| NO)?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok(json!({"access_token": token, "expires_in": expires - now}))
    }
}

fn kind_word(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Agent => "agent",
    }
}

/// The last actor outermost (RFC 8693 §4.1).
fn nest(actors: &[Actor]) -> Value {
    actors.iter().fold(Value::Null, |inner, actor| {
        let mut act = json!({"iss": actor.issuer, "sub": actor.subject, "chancery_kind": kind_word(actor.kind)});
        if !inner.is_null() {
            act["act"] = inner;
        }
        act
    })
}

/// What the form asks to be narrower.
struct Narrow {
    resources: Option<BTreeSet<ResourceName>>,
    read_only: bool,
    ttl: Option<i64>,
}

impl Narrow {
    fn read(form: &Form) -> Result<Self, No> {
        let names = |text: &str| text.split(' ').map(ResourceName::parse).collect::<Option<_>>();
        let resources = form.get("chancery_resource").map(|text| names(text).ok_or(("invalid_target", "no such name")));
        let read_only = match form.get("chancery_only") {
            None => false,
            Some("read") => true,
            Some(_) => return Err(("invalid_request", "chancery_only is read or absent")),
        };
        let seconds = |text: &str| text.parse().ok().filter(|ttl| (1..=TTL_SECONDS).contains(ttl));
        let ttl =
            form.get("chancery_ttl").map(|text| seconds(text).ok_or(("invalid_request", "chancery_ttl is 1 to 3600")));
        Ok(Self { resources: resources.transpose()?, read_only, ttl: ttl.transpose()? })
    }
}

/// The parameters of a request; none stands twice (RFC 6749 §3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, No> {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (kind, parameter) = kind.split_once(';').unwrap_or((kind, "charset=utf-8"));
        if !kind.trim().eq_ignore_ascii_case(FORM) || !parameter.trim().eq_ignore_ascii_case("charset=utf-8") {
            return Err(("invalid_request", "the body must be application/x-www-form-urlencoded"));
        }
        Self::parse(body).ok_or(("invalid_request", "the form cannot be read"))
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut all: Vec<(String, String)> = Vec::new();
        for pair in std::str::from_utf8(body).ok()?.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (form_decode(name)?, form_decode(value)?);
            if all.len() == PARAMETERS_MAX || all.iter().any(|(known, _)| *known == name) {
                return None;
            }
            all.push((name, value));
        }
        Some(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn form_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

fn read_basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

async fn discovery(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let url = &desk.url;
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "token_endpoint": format!("{url}/token"),
        "grant_types_supported": ["client_credentials", GRANT_EXCHANGE],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn keys(State(desk): State<Arc<Desk>>) -> Json<Value> {
    Json(desk.jwks.clone())
}

async fn token(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let uncached = [(CACHE_CONTROL, "no-store")];
    match desk.issue(&headers, &body) {
        Ok(answer) => (uncached, Json(answer)).into_response(),
        Err((error, description)) => {
            let answer = Json(json!({"error": error, "error_description": description}));
            match error {
                "invalid_client" => {
                    let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"demo issuer\"")];
                    (StatusCode::UNAUTHORIZED, uncached, challenge, answer).into_response()
                }
                "server_error" => (StatusCode::INTERNAL_SERVER_ERROR, uncached, answer).into_response(),
                _ => (StatusCode::BAD_REQUEST, uncached, answer).into_response(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use chancery_gateway::issuers::{IssuerSource, Issuers};

    use super::*;

    const START: i64 = 1_800_000_000;

    struct Stage {
        issuer: DemoIssuer,
        seconds: Arc<AtomicI64>,
        client: oauth::Client,
    }

    impl Stage {
        async fn set() -> Self {
            let seconds = Arc::new(AtomicI64::new(START));
            let told = Arc::clone(&seconds);
            let clock: Arc<Clock> = Arc::new(move || Timestamp(told.load(Ordering::SeqCst) * 1_000_000));
            let address = "127.0.0.1:0".parse().expect("an address");
            let mut accounts = cast().expect("randomness is there");
            for n in 0..9 {
                accounts.push(Account::new(&format!("agent-{n}"), PrincipalKind::Agent, &[]).expect("randomness"));
            }
            let issuer = DemoIssuer::start_with_clock(address, accounts, clock).await.expect("loopback has ports");
            let client = oauth::Client::discover(issuer.url(), None).await.expect("it is discovered");
            Self { issuer, seconds, client }
        }

        fn login(&self, name: &str) -> Login {
            self.issuer.account(name).expect("in the cast").login()
        }

        async fn own(&self, name: &str) -> String {
            self.client.client_credentials(&self.login(name), &Wishes::default()).await.expect("issued").access_token
        }

        async fn hand(&self, token: &str, to: &str, wishes: &Wishes) -> Result<String, oauth::Error> {
            let own = self.own(to).await;
            self.client.exchange(&self.login(to), token, Some(&own), wishes).await.map(|token| token.access_token)
        }

        /// What a gateway makes of the token, having found the keys by discovery.
        async fn judge(&self, token: &str) -> Identity {
            let issuers = Issuers::new(vec![IssuerSource::new(self.issuer.rules())], &[], None).expect("in order");
            let now = Timestamp(self.seconds.load(Ordering::SeqCst) * 1_000_000);
            issuers.authenticate(token, now).await.expect("the gateway accepts it").into_inner()
        }

        /// Posts a raw body to the token endpoint: status and `error`.
        async fn post(&self, headers: &[(&str, String)], body: String) -> (u16, String) {
            let mut request = reqwest::Client::new().post(format!("{}/token", self.issuer.url())).body(body);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let response = request.send().await.expect("answered");
            let status = response.status().as_u16();
            let body = response.bytes().await.expect("a body");
            let error =
                serde_json::from_slice(&body).map(|body: Value| body["error"].as_str().unwrap_or("").to_owned());
            (status, error.unwrap_or_default())
        }
    }

    fn refused(result: Result<impl fmt::Debug, oauth::Error>) -> String {
        match result {
            Err(oauth::Error::Refused { error, .. }) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn resources(names: &[&str]) -> Wishes {
        Wishes { resources: names.iter().map(|name| (*name).to_owned()).collect(), ..Wishes::default() }
    }

    #[tokio::test]
    async fn a_chain_of_two_links_is_minted_and_accepted_by_a_gateway() {
        let stage = Stage::set().await;
        let agents = [stage.login("report-agent"), stage.login("sql-helper")];
        let wishes = Wishes { read_only: true, ttl: Some(60), ..resources(&["shop"]) };
        let token = mint(stage.issuer.url(), &stage.login("alice"), &agents, &wishes).await.expect("minted");
        let identity = stage.judge(&token).await;
        assert_eq!(identity.chain.to_string(), "alice → report-agent → sql-helper");
        assert_eq!(identity.chain.principal.groups, ["analysts", "oncall"]);
        assert_eq!(identity.chain.principal.kind, PrincipalKind::User);
        assert!(identity.chain.actors.iter().all(|actor| actor.kind == PrincipalKind::Agent));
        assert!(identity.read_only);
        assert!(identity.is_for(&ResourceName::parse("shop").expect("a name")));
        assert!(!identity.is_for(&ResourceName::parse("mail").expect("a name")));
        assert_eq!(identity.authentication.method, "demo");
        assert_eq!(identity.authentication.expires_at.seconds(), START + 60);
    }

    #[tokio::test]
    async fn everybody_of_the_cast_gets_a_token_of_their_own() {
        let stage = Stage::set().await;
        for account in cast().expect("randomness is there") {
            let identity = stage.judge(&stage.own(&account.name).await).await;
            let principal = identity.chain.principal;
            assert_eq!((&principal.subject, principal.kind), (&account.name, account.kind));
            assert_eq!(principal.groups, account.groups);
            assert!(identity.chain.actors.is_empty() && identity.resources.is_none() && !identity.read_only);
        }
    }

    #[tokio::test]
    async fn b12_a_child_never_has_more_than_its_parent() {
        let stage = Stage::set().await;
        let alice = stage.login("alice");
        let wishes = Wishes { read_only: true, ttl: Some(100), ..resources(&["shop", "mail"]) };
        let parent = stage.client.client_credentials(&alice, &wishes).await.expect("issued").access_token;
        stage.seconds.store(START + 40, Ordering::SeqCst);
        let child = stage.hand(&parent, "report-agent", &Wishes::default()).await.expect("issued");
        let (was, is) = (stage.judge(&parent).await, stage.judge(&child).await);
        assert_eq!(is.resources, was.resources);
        assert!(is.read_only);
        assert_eq!(is.authentication.expires_at, was.authentication.expires_at);
        assert_eq!(is.authentication.authenticated_at, was.authentication.authenticated_at);
        assert_ne!(is.authentication.token_id, was.authentication.token_id);
        assert_eq!(refused(stage.hand(&parent, "report-agent", &resources(&["other"])).await), "invalid_target");
        assert_eq!(
            refused(stage.hand(&parent, "report-agent", &resources(&["shop", "other"])).await),
            "invalid_target"
        );
        let narrow = stage.hand(&parent, "report-agent", &resources(&["shop"])).await.expect("issued");
        assert_eq!(refused(stage.hand(&narrow, "sql-helper", &resources(&["mail"])).await), "invalid_target");
        let scope = Wishes { scope: Some("admin".into()), ..Wishes::default() };
        assert_eq!(refused(stage.hand(&parent, "report-agent", &scope).await), "invalid_scope");
        let audience = Wishes { audience: Some("other".into()), ..Wishes::default() };
        assert_eq!(refused(stage.hand(&parent, "report-agent", &audience).await), "invalid_target");
        stage.seconds.store(START + 100, Ordering::SeqCst);
        assert_eq!(refused(stage.hand(&parent, "report-agent", &Wishes::default()).await), "invalid_request");
    }

    #[tokio::test]
    async fn b12_chains_neither_loop_nor_grow_without_end() {
        let stage = Stage::set().await;
        let mut token = stage.own("alice").await;
        for n in 0..CHAIN_MAX {
            token = stage.hand(&token, &format!("agent-{n}"), &Wishes::default()).await.expect("issued");
        }
        assert_eq!(stage.judge(&token).await.chain.depth(), CHAIN_MAX);
        assert_eq!(refused(stage.hand(&token, "agent-8", &Wishes::default()).await), "invalid_request");
        assert_eq!(refused(stage.hand(&token, "agent-0", &Wishes::default()).await), "invalid_request");
        // The current actor narrows its own token without a link more.
        let narrower = stage.hand(&token, "agent-7", &resources(&["shop"])).await.expect("issued");
        assert_eq!(stage.judge(&narrower).await.chain.depth(), CHAIN_MAX);
        let own = stage.own("ci").await;
        assert_eq!(refused(stage.hand(&own, "ci", &Wishes::default()).await), "invalid_request");
    }

    #[tokio::test]
    async fn b12_nobody_acts_with_a_borrowed_name() {
        let stage = Stage::set().await;
        let alice = stage.own("alice").await;
        let helper = stage.own("sql-helper").await;
        let agent = stage.login("report-agent");
        let all = Wishes::default();
        let exchange = |subject: String, actor: Option<String>| {
            let (client, agent, all) = (stage.client.clone(), agent.clone(), all.clone());
            async move { client.exchange(&agent, &subject, actor.as_deref(), &all).await }
        };
        assert_eq!(refused(exchange(alice.clone(), Some(helper)).await), "invalid_request");
        assert_eq!(refused(exchange(alice.clone(), Some(alice.clone())).await), "invalid_request");
        assert_eq!(refused(exchange(alice.clone(), Some("x.y.z".into())).await), "invalid_request");
        assert_eq!(refused(exchange(format!("{alice}A"), None).await), "invalid_request");
        let other = Stage::set().await;
        assert_eq!(refused(exchange(other.own("alice").await, None).await), "invalid_request");
        // Without an actor token the client's login says who acts.
        let child = exchange(alice.clone(), None).await.expect("issued").access_token;
        assert_eq!(stage.judge(&child).await.chain.to_string(), "alice → report-agent");
        assert_eq!(refused(stage.hand(&alice, "dana", &all).await), "unauthorized_client");
    }

    #[tokio::test]
    async fn the_token_endpoint_is_strict() {
        let stage = Stage::set().await;
        let ci = stage.login("ci");
        let form = ("content-type", FORM.to_owned());
        let body = format!("grant_type=client_credentials&client_id=ci&client_secret={}", ci.secret);
        assert_eq!(stage.post(std::slice::from_ref(&form), body.clone()).await.0, 200);
        let basic = |text: String| ("authorization", format!("Basic {}", STANDARD.encode(text)));
        let good = basic(format!("ci:{}", ci.secret));
        let grant = "grant_type=client_credentials".to_owned();
        assert_eq!(stage.post(&[form.clone(), good.clone()], grant.clone()).await.0, 200);
        let no = |status: u16, error: &str| (status, error.to_owned());
        for (headers, body, answer) in [
            (vec![], body.clone(), no(400, "invalid_request")),
            (vec![("content-type", "application/json".into())], "{}".into(), no(400, "invalid_request")),
            (vec![form.clone()], format!("{body}&grant_type=x"), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], body.clone(), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], format!("{grant}&client_id=alice"), no(400, "invalid_request")),
            (vec![form.clone()], grant.clone(), no(401, "invalid_client")),
            (vec![form.clone()], format!("{grant}&client_id=ci&client_secret="), no(401, "invalid_client")),
            (vec![form.clone()], format!("{grant}&client_id=nobody&client_secret="), no(401, "invalid_client")),
            (vec![form.clone(), basic("ci:wrong".into())], grant.clone(), no(401, "invalid_client")),
            (vec![form.clone(), basic(format!("alice:{}", ci.secret))], grant.clone(), no(401, "invalid_client")),
            (vec![form.clone(), ("authorization", "Bearer x".into())], grant.clone(), no(401, "invalid_client")),
            (vec![form.clone(), good.clone()], String::new(), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], "grant_type=password".into(), no(400, "unsupported_grant_type")),
            (vec![form.clone(), good.clone()], format!("{grant}&chancery_only=all"), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], format!("{grant}&chancery_ttl=3601"), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], format!("{grant}&chancery_resource="), no(400, "invalid_target")),
            (vec![form.clone(), good.clone()], "grant_type=%zz".into(), no(400, "invalid_request")),
            (vec![form.clone(), good.clone()], format!("x={}", "a".repeat(BODY_BYTES_MAX)), no(413, "")),
        ] {
            assert_eq!(stage.post(&headers, body.clone()).await, answer, "{body:.80}");
        }
    }

    #[tokio::test]
    async fn it_listens_on_loopback_only() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let started = DemoIssuer::start(address.parse().expect("an address"), Vec::new()).await;
            assert_eq!(started.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput), "{address}");
        }
    }

    #[test]
    fn forms_are_read_strictly() {
        let read = |text: &str| Form::parse(text.as_bytes()).map(|form| form.0);
        assert_eq!(read("a=b+c%26&d="), Some(vec![("a".into(), "b c&".into()), ("d".into(), String::new())]));
        for bad in ["a", "a=%", "a=%4", "a=%g0", "a=%ff", "a=1&a=1", "a=1&%61=2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(read(&(0..33).map(|n| format!("{n}=&")).collect::<String>()).is_none());
    }
}
