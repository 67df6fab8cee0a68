//! The issuers whose tokens are accepted: their keys are fetched, kept fresh, and kept through an outage.
//!
//! OpenID Connect Discovery 1.0 §4 leads to the key set. Tokens are judged by the `identity` crate; nothing here
//! believes a token, which can at most make us look at the keys of an issuer that the operator configured, and that
//! at a bounded rate. Keys are served from memory; the network is waited for only when there are no keys, when they
//! are more than an hour old, or when a token names a key that is not among them.
//!
//! How long keys are used is ours to say: `Cache-Control` is not obeyed, since it could only make them older.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chancery_identity::{
    Authenticated, Failure, Identity, Issuer, IssuerRules, JWKS_BYTES_MAX, KeySet, RulesFailure, peek,
};
use chancery_model::Timestamp;
use reqwest::{Certificate, Client, Url};
use tokio::sync::watch;

use crate::outbound::{self, Trust, is_loopback};

/// Between two fetches that tokens with unknown keys force, and after a failed one.
const FORCED_GAP: Duration = Duration::from_secs(30);
/// Between two fetches while there are no keys at all and every token is refused.
const EMPTY_GAP: Duration = Duration::from_secs(5);
/// For one fetch: discovery and key set together.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys older than this are not used without having tried to fetch newer ones.
const WAIT_AGE: Duration = Duration::from_secs(3_600);
const REFRESH_MIN: Duration = Duration::from_secs(30);
/// How long a key id that a fetch did not find forces no other fetch.
const MISSING_TTL: Duration = Duration::from_secs(300);
const MISSING_MAX: usize = 256;
/// A discovery document is a few KiB; the bound is that of key sets.
const BODY_BYTES_MAX: usize = JWKS_BYTES_MAX;

/// Called after each successful fetch with the issuer's URL, its key set as it came, and when, so that it outlives a
/// restart. It must not block: it runs on a thread of the runtime.
pub type Save = dyn Fn(&str, &[u8], Timestamp) + Send + Sync;

/// One issuer as configured.
#[derive(Clone, Debug)]
pub struct IssuerSource {
    /// How its tokens are judged; `url` is also where discovery starts.
    pub rules: IssuerRules,
    /// Certificates (PEM) that its TLS is checked against, and no others; `None`: those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// Keys older than this are fetched anew; held between 30 seconds and one hour.
    pub refresh: Duration,
    /// For how long keys are used while the issuer cannot be reached.
    pub keep: Duration,
}

impl IssuerSource {
    /// Refreshed every five minutes, kept for 24 hours, checked against the certificates of the system.
    pub fn new(rules: IssuerRules) -> Self {
        Self { rules, ca_pem: None, refresh: Duration::from_secs(300), keep: Duration::from_secs(86_400) }
    }
}

/// A key set from an earlier run.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The issuer's URL.
    pub issuer: String,
    /// The key set as it came.
    pub jwks: Vec<u8>,
    /// When it came.
    pub fetched_at: Timestamp,
}

/// Why the configured issuers cannot be used. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The rules of an issuer.
    #[error("issuer {url}: {source}")]
    Rules {
        /// The issuer.
        url: String,
        /// What is wrong.
        source: RulesFailure,
    },
    /// Neither https, nor http on loopback; or with a user, query or fragment.
    #[error("issuer {url}: must be an https URL (http only on loopback) without user, query or fragment")]
    Url {
        /// The issuer.
        url: String,
    },
    /// Two issuers of the same URL.
    #[error("issuer {url}: is there twice")]
    Twice {
        /// The issuer.
        url: String,
    },
    /// The certificates cannot be read or used.
    #[error("issuer {url}: its CA certificates cannot be used")]
    Certificates {
        /// The issuer.
        url: String,
    },
}

/// Why a token is not accepted. `Display` says nothing of the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticateError {
    /// The token is at fault.
    #[error("{0}")]
    Refused(Failure),
    /// We have no keys of the issuer that are young enough; the issuer or the network is at fault.
    #[error("the token is not accepted")]
    KeysUnavailable {
        /// The issuer's URL.
        issuer: String,
    },
}

impl AuthenticateError {
    /// The word for entries and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(failure) => failure.reason(),
            Self::KeysUnavailable { .. } => "keys-unavailable",
        }
    }
}

impl From<Failure> for AuthenticateError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// What an operator sees of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerStatus {
    /// Its URL.
    pub issuer: String,
    /// Whether its tokens can be judged now.
    pub usable: bool,
    /// Usable keys, 0 if there are none.
    pub keys: usize,
    /// When they were fetched.
    pub fetched_at: Option<Timestamp>,
    /// When a fetch last began.
    pub attempted_at: Option<Timestamp>,
    /// Why the last fetch failed; `None` if it did not.
    pub last_error: Option<String>,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the {0} cannot be fetched: {1}")]
    Transport(&'static str, String),
    #[error("the {0} was answered with status {1}")]
    Status(&'static str, u16),
    #[error("the {0} is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge(&'static str),
    #[error("the discovery document is not JSON with the strings issuer and jwks_uri")]
    Discovery,
    #[error("the discovery document is of another issuer")]
    OtherIssuer,
    #[error("the discovery document names a jwks_uri that is not allowed")]
    KeysUrl,
    #[error("{0}")]
    Keys(chancery_identity::KeyFailure),
    #[error("no answer within {} seconds", FETCH_TIMEOUT.as_secs())]
    Timeout,
}

/// All issuers. Cheap to share behind an `Arc`; must be used within a tokio runtime.
pub struct Issuers {
    entries: Vec<Arc<Entry>>,
}

impl Issuers {
    /// Prepares the issuers without touching the network. Seeds of unknown issuers or that cannot be read are ignored.
    /// Installs the process's TLS provider (aws-lc) if there is none.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(sources: Vec<IssuerSource>, seeds: &[Seed], save: Option<Arc<Save>>) -> Result<Self, ConfigError> {
        let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(sources.len());
        for source in sources {
            if entries.iter().any(|entry| entry.rules.url == source.rules.url) {
                return Err(ConfigError::Twice { url: source.rules.url });
            }
            let entry = Entry::new(source, save.clone())?;
            seeds.iter().filter(|seed| seed.issuer == entry.rules.url).for_each(|seed| entry.plant(seed));
            entries.push(Arc::new(entry));
        }
        Ok(Self { entries })
    }

    /// Judges a token at the time `now`, fetching keys of its issuer where that is needed and allowed.
    ///
    /// # Errors
    /// [`AuthenticateError`].
    pub async fn authenticate(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Authenticated<Identity>, AuthenticateError> {
        let named = peek(token)?.issuer;
        let entry = self.entries.iter().find(|entry| entry.rules.url == named).ok_or(Failure::UnknownIssuer)?;
        entry.keep_fresh(now).await;
        let failure = match chancery_identity::authenticate(token, &entry.usable(now)?.issuer, now) {
            Ok(identity) => return Ok(identity),
            Err(failure) => failure,
        };
        let Failure::UnknownKey { kid } = &failure else {
            return Err(failure.into());
        };
        if entry.is_missing(kid, now) || !entry.fetch(now, FORCED_GAP).await {
            return Err(failure.into());
        }
        let current = entry.usable(now)?;
        let again = chancery_identity::authenticate(token, &current.issuer, now);
        // A failed fetch says nothing about the key.
        if matches!(again, Err(Failure::UnknownKey { .. })) && entry.status(now).last_error.is_none() {
            entry.note_missing(kid, now);
        }
        Ok(again?)
    }

    /// Fetches the keys of every issuer that has none or old ones, and waits. For start-up and a slow timer.
    pub async fn refresh(&self, now: Timestamp) {
        let fetches: Vec<_> = self.entries.iter().filter_map(|entry| entry.refresh_if_due(now)).collect();
        for fetch in fetches {
            finished(fetch).await;
        }
    }

    /// What stands where, for `doctor`.
    pub fn status(&self, now: Timestamp) -> Vec<IssuerStatus> {
        self.entries.iter().map(|entry| entry.status(now)).collect()
    }

    /// The keys as they are, to be handed to the successor when the configuration changes.
    pub fn seeds(&self) -> Vec<Seed> {
        let seed = |entry: &Arc<Entry>| {
            let current = entry.current.load_full()?;
            let issuer = entry.rules.url.clone();
            Some(Seed { issuer, jwks: current.jwks.clone(), fetched_at: current.fetched_at })
        };
        self.entries.iter().filter_map(seed).collect()
    }
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.rules.url)).finish()
    }
}

struct Entry {
    rules: IssuerRules,
    discovery: Url,
    client: Client,
    refresh: Duration,
    keep: Duration,
    save: Option<Arc<Save>>,
    current: ArcSwapOption<Current>,
    book: Mutex<Book>,
}

/// Keys in use.
struct Current {
    issuer: Issuer,
    jwks: Vec<u8>,
    fetched_at: Timestamp,
}

#[derive(Default)]
struct Book {
    attempted_at: Option<Timestamp>,
    last_error: Option<String>,
    /// Closed when the fetch under way ends. At most one is.
    under_way: Option<watch::Receiver<()>>,
    /// Key ids that a successful fetch did not find, oldest first.
    missing: VecDeque<(String, Timestamp)>,
}

impl Entry {
    fn new(source: IssuerSource, save: Option<Arc<Save>>) -> Result<Self, ConfigError> {
        let IssuerSource { rules, ca_pem, refresh, keep } = source;
        let url = rules.url.clone();
        rules.check().map_err(|source| ConfigError::Rules { url: url.clone(), source })?;
        let bad_url = || ConfigError::Url { url: url.clone() };
        let discovery = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
        let discovery = Url::parse(&discovery).map_err(|_| bad_url())?;
        let bare = discovery.query().is_none() && discovery.fragment().is_none();
        if !bare || !is_allowed(&discovery) {
            return Err(bad_url());
        }
        let client = client(&discovery, ca_pem.as_deref()).ok_or(ConfigError::Certificates { url })?;
        let refresh = refresh.clamp(REFRESH_MIN, WAIT_AGE);
        let (current, book) = (ArcSwapOption::empty(), Mutex::default());
        Ok(Self { rules, discovery, client, refresh, keep, save, current, book })
    }

    /// Takes over keys of an earlier run. They stay bounded by their age.
    fn plant(&self, seed: &Seed) {
        if let Ok(current) = self.read(seed.jwks.clone(), seed.fetched_at) {
            self.current.store(Some(Arc::new(current)));
        }
    }

    fn read(&self, jwks: Vec<u8>, fetched_at: Timestamp) -> Result<Current, FetchError> {
        let keys = KeySet::parse(&jwks).map_err(FetchError::Keys)?;
        let issuer = Issuer::new(self.rules.clone(), keys).map_err(|_| FetchError::Discovery)?;
        Ok(Current { issuer, jwks, fetched_at })
    }

    /// The keys, if they are young enough to be used.
    fn usable(&self, now: Timestamp) -> Result<Arc<Current>, AuthenticateError> {
        let unavailable = || AuthenticateError::KeysUnavailable { issuer: self.rules.url.clone() };
        let young = |current: &Arc<Current>| between(current.fetched_at, now) <= self.keep;
        self.current.load_full().filter(young).ok_or_else(unavailable)
    }

    /// Waits for a fetch if there is nothing, or nothing recent, to judge by; starts one if it is time.
    async fn keep_fresh(self: &Arc<Self>, now: Timestamp) {
        let age = self.current.load().as_ref().map(|current| between(current.fetched_at, now));
        let Some(fetch) = self.refresh_if_due(now) else {
            return;
        };
        if age.is_none_or(|age| age > WAIT_AGE.min(self.keep)) {
            finished(fetch).await;
        }
    }

    fn refresh_if_due(self: &Arc<Self>, now: Timestamp) -> Option<watch::Receiver<()>> {
        match self.current.load().as_ref().map(|current| between(current.fetched_at, now)) {
            None => self.start(now, EMPTY_GAP),
            Some(age) if age > self.keep => self.start(now, EMPTY_GAP),
            Some(age) if age > self.refresh => self.start(now, FORCED_GAP),
            Some(_) => None,
        }
    }

    /// Waits for a fetch that is under way or that may begin now; `false` if none may.
    async fn fetch(self: &Arc<Self>, now: Timestamp, gap: Duration) -> bool {
        match self.start(now, gap) {
            Some(fetch) => {
                finished(fetch).await;
                true
            }
            None => false,
        }
    }

    /// Joins the fetch under way, or begins one unless the last began less than `gap` ago. It runs on its own, so that
    /// a client that goes away does not take the fetch, and with it the next ones' chance, along.
    fn start(self: &Arc<Self>, now: Timestamp, gap: Duration) -> Option<watch::Receiver<()>> {
        let mut book = self.book();
        if let Some(under_way) = book.under_way.as_ref().filter(|fetch| fetch.has_changed().is_ok()) {
            return Some(under_way.clone());
        }
        if book.attempted_at.is_some_and(|last| between(last, now) < gap) {
            return None;
        }
        let (end, under_way) = watch::channel(());
        book.attempted_at = Some(now);
        book.under_way = Some(under_way.clone());
        let entry = Arc::clone(self);
        tokio::spawn(async move {
            entry.fetch_now(now).await;
            drop(end);
        });
        Some(under_way)
    }

    async fn fetch_now(&self, now: Timestamp) {
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.download()).await;
        let outcome = fetched.unwrap_or(Err(FetchError::Timeout)).and_then(|jwks| self.read(jwks, now));
        match outcome {
            Ok(current) => {
                tracing::debug!(issuer = %self.rules.url, keys = current.issuer.keys().count(), "issuer keys fetched");
                let current = Arc::new(current);
                self.current.store(Some(Arc::clone(&current)));
                self.book().last_error = None;
                if let Some(save) = &self.save {
                    save(&self.rules.url, &current.jwks, now);
                }
            }
            Err(error) => {
                tracing::warn!(issuer = %self.rules.url, %error, "issuer keys could not be fetched");
                self.book().last_error = Some(error.to_string());
            }
        }
    }

    async fn download(&self) -> Result<Vec<u8>, FetchError> {
        let document = self.get(self.discovery.clone(), "discovery document").await?;
        let document: Discovery = serde_json::from_slice(&document).map_err(|_| FetchError::Discovery)?;
        // OpenID Connect Discovery §4.3: exactly the URL that was asked.
        if document.issuer != self.rules.url {
            return Err(FetchError::OtherIssuer);
        }
        let keys = Url::parse(&document.jwks_uri).map_err(|_| FetchError::KeysUrl)?;
        if !is_allowed(&keys) || !is_no_way_inside(&self.discovery, &keys) {
            return Err(FetchError::KeysUrl);
        }
        self.get(keys, "key set").await
    }

    async fn get(&self, url: Url, what: &'static str) -> Result<Vec<u8>, FetchError> {
        let transport = |error: reqwest::Error| FetchError::Transport(what, brief(error));
        let mut response = self.client.get(url).send().await.map_err(transport)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(what, response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(FetchError::TooLarge(what));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn is_missing(&self, kid: &str, now: Timestamp) -> bool {
        let mut book = self.book();
        book.missing.retain(|(_, since)| between(*since, now) < MISSING_TTL);
        book.missing.iter().any(|(missing, _)| missing == kid)
    }

    fn note_missing(&self, kid: &str, now: Timestamp) {
        let mut book = self.book();
        if book.missing.len() == MISSING_MAX {
            book.missing.pop_front();
        }
        book.missing.push_back((kid.to_owned(), now));
    }

    fn status(&self, now: Timestamp) -> IssuerStatus {
        let current = self.current.load_full();
        let book = self.book();
        IssuerStatus {
            issuer: self.rules.url.clone(),
            usable: self.usable(now).is_ok(),
            keys: current.as_ref().map_or(0, |current| current.issuer.keys().count()),
            fetched_at: current.map(|current| current.fetched_at),
            attempted_at: book.attempted_at,
            last_error: book.last_error.clone(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing under the lock can panic half-way through a change.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(serde::Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Waits until the sender is gone, which is when the fetch has ended in whatever way.
async fn finished(mut fetch: watch::Receiver<()>) {
    while fetch.changed().await.is_ok() {}
}

/// The distance of two instants. A clock that was set back makes keys and attempts old, not young for ever.
fn between(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_micros(one.0.abs_diff(other.0))
}

fn client(discovery: &Url, ca_pem: Option<&[u8]>) -> Option<Client> {
    if ca_pem.is_some_and(|pem| Certificate::from_pem_bundle(pem).is_ok_and(|all| all.is_empty())) {
        return None;
    }
    let client = outbound::client(FETCH_TIMEOUT, Trust::of(discovery.as_str(), ca_pem)).ok()?;
    let client = client.connect_timeout(FETCH_TIMEOUT).pool_max_idle_per_host(0);
    client.https_only(discovery.scheme() == "https").build().ok()
}

/// https anywhere, http on loopback; no user names in it.
fn is_allowed(url: &Url) -> bool {
    let plain = url.username().is_empty() && url.password().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    plain && safe && url.host_str().is_some_and(|host| !host.is_empty())
}

/// Keys may stand on another host than the issuer, but an issuer elsewhere may not make us call inside addresses.
fn is_no_way_inside(issuer: &Url, keys: &Url) -> bool {
    let same_host = issuer.host_str() == keys.host_str();
    let (scheme_kept, inside) = (keys.scheme() == "https" || issuer.scheme() == "http", is_inside(keys));
    scheme_kept && (same_host || !inside || is_loopback(issuer))
}

fn is_inside(url: &Url) -> bool {
    match address(url) {
        Some(IpAddr::V4(v4)) => is_inside_v4(v4),
        Some(IpAddr::V6(v6)) => {
            let unique_local = v6.segments()[0] & 0xfe00 == 0xfc00;
            let link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            let mapped = v6.to_ipv4_mapped().is_some_and(is_inside_v4);
            v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || unique_local || link_local || mapped
        }
        None => url.host_str().is_none_or(|host| host == "localhost" || host.ends_with(".localhost")),
    }
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || shared
}

fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// What went wrong, innermost cause, without the URL.
fn brief(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp((START + seconds) * 1_000_000)
    }

    fn b64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |value: u32| char::from(ALPHABET[value as usize & 63]);
        let encode = |chunk: &[u8]| {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..=chunk.len()).map(move |n| digit(bits >> (18 - 6 * n))).collect::<String>()
        };
        bytes.chunks(3).map(encode).collect()
    }

    /// How the server answers the key set.
    #[derive(Clone)]
    enum Mood {
        Well,
        Down,
        Status(u16),
        Redirect,
        Oversized,
        Endless,
        Garbage,
        OtherIssuer,
        KeysAt(String),
        /// Answers only once told to.
        Slow(watch::Receiver<bool>),
    }

    struct Server {
        url: String,
        mood: Mutex<Mood>,
        keys: Mutex<Vec<(String, Ed25519KeyPair)>>,
        fetches: AtomicUsize,
        elsewhere: AtomicUsize,
    }

    impl Server {
        async fn start() -> Arc<Self> {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let server = Arc::new(Self {
                url,
                mood: Mutex::new(Mood::Well),
                keys: Mutex::default(),
                fetches: AtomicUsize::new(0),
                elsewhere: AtomicUsize::new(0),
            });
            server.rotate("one");
            let shared = Arc::clone(&server);
            tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let server = Arc::clone(&shared);
                    tokio::spawn(async move {
                        let mut request = Vec::new();
                        while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                        let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or("").to_owned();
                        let answer = server.answer(&path).await;
                        let _ = socket.write_all(&answer).await;
                    });
                }
            });
            server
        }

        fn mood(&self, mood: Mood) {
            *self.mood.lock().expect("no test panicked") = mood;
        }

        /// From now on signs with a new key of this id, and publishes only that.
        fn rotate(&self, kid: &str) {
            let pair = Ed25519KeyPair::generate().expect("randomness is there");
            *self.keys.lock().expect("no test panicked") = vec![(kid.to_owned(), pair)];
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }

        async fn answer(&self, path: &str) -> Vec<u8> {
            let mood = self.mood.lock().expect("no test panicked").clone();
            let issuer = if matches!(mood, Mood::OtherIssuer) { "https://other.example" } else { self.url.as_str() };
            let keys_at = if let Mood::KeysAt(url) = &mood { url.clone() } else { format!("{}/keys", self.url) };
            match path {
                "/.well-known/openid-configuration" => {
                    self.fetches.fetch_add(1, Ordering::SeqCst);
                    if matches!(mood, Mood::Down) {
                        return Vec::new();
                    }
                    ok(&json!({"issuer": issuer, "jwks_uri": keys_at}).to_string())
                }
                "/keys" => self.answer_keys(mood).await,
                _ => {
                    self.elsewhere.fetch_add(1, Ordering::SeqCst);
                    ok(&self.jwks().to_string())
                }
            }
        }

        async fn answer_keys(&self, mood: Mood) -> Vec<u8> {
            match mood {
                Mood::Status(status) => format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").into_bytes(),
                Mood::Redirect => {
                    let to = format!("location: {}/elsewhere", self.url);
                    format!("HTTP/1.1 302 Found\r\n{to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
                }
                Mood::Oversized => ok(&" ".repeat(BODY_BYTES_MAX + 1)),
                Mood::Endless => {
                    let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
                    answer.resize(4 * BODY_BYTES_MAX, b' ');
                    answer
                }
                Mood::Garbage => ok("<html>sign in</html>"),
                Mood::Slow(mut go) => {
                    let _ = go.wait_for(|go| *go).await;
                    ok(&self.jwks().to_string())
                }
                _ => ok(&self.jwks().to_string()),
            }
        }

        fn jwks(&self) -> Value {
            let keys = self.keys.lock().expect("no test panicked");
            let jwk = |(kid, pair): &(String, Ed25519KeyPair)| {
                let x = b64(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x})
            };
            json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()})
        }

        /// A token signed by the present key, under its id or another.
        fn token(&self, kid: Option<&str>) -> String {
            let keys = self.keys.lock().expect("no test panicked");
            let (own, pair) = &keys[0];
            let header = json!({"alg": "EdDSA", "kid": kid.unwrap_or(own)}).to_string();
            let claims =
                json!({"iss": self.url, "sub": "alice", "aud": "chancery", "iat": START - 1, "exp": START + 900_000});
            let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.to_string().as_bytes()));
            let signature = b64(pair.sign(signed.as_bytes()).as_ref());
            format!("{signed}.{signature}")
        }

        fn source(&self) -> IssuerSource {
            IssuerSource::new(IssuerRules::new(self.url.clone(), vec!["chancery".into()]))
        }

        fn issuers(&self) -> Issuers {
            Issuers::new(vec![self.source()], &[], None).expect("the source is in order")
        }
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn reason(result: Result<Authenticated<Identity>, AuthenticateError>) -> &'static str {
        result.err().map_or("accepted", |error| error.reason())
    }

    #[tokio::test]
    async fn keys_are_found_by_discovery_once_and_then_served_from_memory() {
        let server = Server::start().await;
        let issuers = server.issuers();
        for second in 0..10 {
            let identity = issuers.authenticate(&server.token(None), at(second)).await.expect("holds");
            assert_eq!(identity.chain.principal.subject, "alice");
        }
        assert_eq!(server.fetches(), 1);
        let status = &issuers.status(at(10))[0];
        assert_eq!((status.usable, status.keys, status.fetched_at, &status.last_error), (true, 1, Some(at(0)), &None));
    }

    #[tokio::test]
    async fn b11_a_rotated_key_is_fetched_when_a_token_names_it() {
        let server = Server::start().await;
        let issuers = server.issuers();
        let old = server.token(None);
        assert_eq!(reason(issuers.authenticate(&old, at(0)).await), "accepted");
        server.rotate("two");
        // Not before the gap has passed.
        assert_eq!(reason(issuers.authenticate(&server.token(None), at(29)).await), "key-unknown");
        assert_eq!(reason(issuers.authenticate(&server.token(None), at(30)).await), "accepted");
        assert_eq!(reason(issuers.authenticate(&old, at(31)).await), "key-unknown");
        assert_eq!(server.fetches(), 2);
    }

    #[tokio::test]
    async fn b11_a_flood_of_unknown_keys_costs_the_issuer_little() {
        let server = Server::start().await;
        let issuers = server.issuers();
        assert_eq!(reason(issuers.authenticate(&server.token(None), at(0)).await), "accepted");
        for n in 0..600 {
            let token = server.token(Some(&format!("made-up-{n}")));
            assert_eq!(reason(issuers.authenticate(&token, at(n / 10)).await), "key-unknown");
        }
        // Within a minute: the first, and one forced.
        assert_eq!(server.fetches(), 2);
        // The same made-up key again and again forces one fetch, not one each gap.
        let token = server.token(Some("again"));
        for second in [60, 90, 120, 150] {
            assert_eq!(reason(issuers.authenticate(&token, at(second)).await), "key-unknown");
        }
        assert_eq!(server.fetches(), 3);
        assert!(issuers.entries[0].book().missing.len() <= MISSING_MAX);
    }

    #[tokio::test]
    async fn the_memory_of_missing_keys_is_bounded_and_fades() {
        let server = Server::start().await;
        let issuers = server.issuers();
        let entry = &issuers.entries[0];
        (0..2 * MISSING_MAX).for_each(|n| entry.note_missing(&n.to_string(), at(0)));
        assert_eq!(entry.book().missing.len(), MISSING_MAX);
        assert!(entry.is_missing(&(2 * MISSING_MAX - 1).to_string(), at(299)) && !entry.is_missing("0", at(0)));
        assert!(!entry.is_missing(&(2 * MISSING_MAX - 1).to_string(), at(300)));
        assert_eq!(entry.book().missing.len(), 0);
    }

    #[tokio::test]
    async fn b20_keys_outlive_an_outage_but_not_for_ever() {
        let server = Server::start().await;
        let issuers = server.issuers();
        let token = server.token(None);
        assert_eq!(reason(issuers.authenticate(&token, at(0)).await), "accepted");
        server.mood(Mood::Down);
        for hours in [1, 2, 12, 24] {
            assert_eq!(reason(issuers.authenticate(&token, at(hours * 3_600)).await), "accepted", "{hours} h");
        }
        let status = issuers.status(at(86_400)).remove(0);
        assert!(status.usable && status.last_error.is_some_and(|error| error.contains("discovery document")));
        assert_eq!(reason(issuers.authenticate(&token, at(86_401)).await), "keys-unavailable");
        assert!(!issuers.status(at(86_401))[0].usable);
        server.mood(Mood::Well);
        assert_eq!(reason(issuers.authenticate(&token, at(86_403)).await), "keys-unavailable");
        assert_eq!(reason(issuers.authenticate(&token, at(86_406)).await), "accepted");
    }

    #[tokio::test]
    async fn b20_a_withdrawn_key_stops_being_used_within_the_refresh() {
        let server = Server::start().await;
        let issuers = server.issuers();
        let old = server.token(None);
        assert_eq!(reason(issuers.authenticate(&old, at(0)).await), "accepted");
        server.rotate("two");
        issuers.refresh(at(299)).await;
        assert_eq!(server.fetches(), 1);
        issuers.refresh(at(301)).await;
        assert_eq!(server.fetches(), 2);
        assert_eq!(reason(issuers.authenticate(&old, at(302)).await), "key-unknown");
        // And without a timer: keys older than an hour are not used unasked.
        let newer = server.token(None);
        server.rotate("three");
        assert_eq!(reason(issuers.authenticate(&newer, at(301 + 3_601)).await), "key-unknown");
    }

    #[tokio::test]
    async fn bad_answers_never_replace_good_keys() {
        let server = Server::start().await;
        let issuers = server.issuers();
        let token = server.token(None);
        assert_eq!(reason(issuers.authenticate(&token, at(0)).await), "accepted");
        let moods = [
            (Mood::Status(500), "status 500"),
            (Mood::Status(204), "status 204"),
            (Mood::Redirect, "status 302"),
            (Mood::Oversized, "larger than"),
            (Mood::Endless, "larger than"),
            (Mood::Garbage, "not a JSON Web Key Set"),
            (Mood::OtherIssuer, "another issuer"),
            (Mood::KeysAt("http://192.0.2.1/keys".into()), "jwks_uri"),
            (Mood::KeysAt("file:///etc/passwd".into()), "jwks_uri"),
            (Mood::KeysAt("keys".into()), "jwks_uri"),
            (Mood::KeysAt("https://user:secret@127.0.0.1/keys".into()), "jwks_uri"),
        ];
        for (n, (mood, says)) in moods.into_iter().enumerate() {
            server.mood(mood);
            let now = at(400 * (n as i64 + 1));
            issuers.refresh(now).await;
            let status = issuers.status(now).remove(0);
            assert!(status.last_error.as_deref().is_some_and(|error| error.contains(says)), "{says}: {status:?}");
            assert_eq!((status.keys, status.fetched_at), (1, Some(at(0))));
            assert_eq!(reason(issuers.authenticate(&token, now).await), "accepted");
        }
        assert_eq!(server.elsewhere.load(Ordering::SeqCst), 0, "no redirect was followed");
    }

    #[tokio::test]
    async fn one_fetch_serves_all_who_wait_and_survives_those_who_leave() {
        let server = Server::start().await;
        let (go, wait) = watch::channel(false);
        server.mood(Mood::Slow(wait));
        let issuers = Arc::new(server.issuers());
        let token = server.token(None);
        let ask = || {
            let (issuers, token) = (Arc::clone(&issuers), token.clone());
            tokio::spawn(async move { reason(issuers.authenticate(&token, at(0)).await) })
        };
        let leaver = ask();
        while server.fetches() == 0 {
            tokio::task::yield_now().await;
        }
        let waiting: Vec<_> = (0..20).map(|_| ask()).collect();
        leaver.abort();
        let _ = leaver.await;
        go.send(true).expect("the server waits");
        for answer in waiting {
            assert_eq!(answer.await.expect("no panic"), "accepted");
        }
        assert_eq!(server.fetches(), 1);
    }

    #[tokio::test]
    async fn keys_survive_a_restart_within_their_age() {
        let server = Server::start().await;
        let saved: Arc<Mutex<Vec<Seed>>> = Arc::default();
        let save: Arc<Save> = {
            let saved = Arc::clone(&saved);
            Arc::new(move |issuer, jwks, fetched_at| {
                let seed = Seed { issuer: issuer.to_owned(), jwks: jwks.to_vec(), fetched_at };
                saved.lock().expect("no test panicked").push(seed);
            })
        };
        let first = Issuers::new(vec![server.source()], &[], Some(save)).expect("in order");
        let token = server.token(None);
        assert_eq!(reason(first.authenticate(&token, at(0)).await), "accepted");
        server.mood(Mood::Down);
        let seeds = saved.lock().expect("no test panicked").clone();
        assert_eq!(seeds.len(), 1);
        let second = Issuers::new(vec![server.source()], &seeds, None).expect("in order");
        assert_eq!(reason(second.authenticate(&token, at(7_200)).await), "accepted");
        assert_eq!(second.seeds()[0].fetched_at, at(0));
        let late = Issuers::new(vec![server.source()], &seeds, None).expect("in order");
        assert_eq!(reason(late.authenticate(&token, at(90_000)).await), "keys-unavailable");
        // Keys from the future are as old as they are far away.
        let early = Issuers::new(vec![server.source()], &seeds, None).expect("in order");
        assert_eq!(reason(early.authenticate(&token, at(-90_000)).await), "keys-unavailable");
        let foreign = [Seed { issuer: "https://other.example".into(), ..seeds[0].clone() }];
        let third = Issuers::new(vec![server.source()], &foreign, None).expect("in order");
        assert_eq!(reason(third.authenticate(&token, at(1)).await), "keys-unavailable");
    }

    /// An issuer behind TLS on `localhost`, with a certificate for `name`; its URL and the certificate.
    async fn start_tls(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("the key fits");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
        let pair = Ed25519KeyPair::generate().expect("randomness is there");
        let document = ok(&json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string());
        let x = b64(pair.public_key().as_ref());
        let jwks = ok(&json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]}).to_string());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                let answer = if request.starts_with(b"GET /keys ") { &jwks } else { &document };
                let _ = socket.write_all(answer).await;
                let _ = socket.shutdown().await;
            }
        });
        (url, made.cert.pem())
    }

    #[tokio::test]
    async fn tls_is_checked_against_the_configured_certificates_and_the_name() {
        let (url, certificate) = start_tls("localhost").await;
        let (misnamed_url, misnamed) = start_tls("idp.example").await;
        let keys = |url: &str, pem: Option<&str>| {
            let mut source = IssuerSource::new(IssuerRules::new(url, vec!["chancery".into()]));
            source.ca_pem = pem.map(|pem| pem.as_bytes().to_vec());
            async move {
                let issuers = Issuers::new(vec![source], &[], None).expect("in order");
                issuers.refresh(at(0)).await;
                issuers.status(at(0)).remove(0).keys
            }
        };
        assert_eq!(keys(&url, Some(&certificate)).await, 1);
        assert_eq!(keys(&url, Some(&misnamed)).await, 0, "another certificate");
        assert_eq!(keys(&misnamed_url, Some(&misnamed)).await, 0, "another name");
    }

    #[tokio::test]
    async fn an_unknown_issuer_is_never_asked() {
        let (ours, theirs) = (Server::start().await, Server::start().await);
        assert_eq!(reason(ours.issuers().authenticate(&theirs.token(None), at(0)).await), "issuer-unknown");
        assert_eq!(reason(ours.issuers().authenticate("not a token", at(0)).await), "token-malformed");
        assert_eq!((ours.fetches(), theirs.fetches()), (0, 0));
    }

    #[test]
    fn issuers_that_cannot_be_trusted_are_refused() {
        let with = |url: &str| {
            let rules = IssuerRules::new(url, vec!["chancery".into()]);
            Issuers::new(vec![IssuerSource::new(rules)], &[], None).err()
        };
        for bad in [
            "http://idp.example",
            "ftp://idp.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "https://user@idp.example",
            "https://idp.example?x=1",
            "https://idp.example#x",
            "idp.example",
        ] {
            assert!(matches!(with(bad), Some(ConfigError::Url { .. })), "{bad}");
        }
        for good in ["http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000/realm"] {
            assert!(with(good).is_none(), "{good}");
        }
        let one = IssuerSource::new(IssuerRules::new("http://127.0.0.1", vec!["chancery".into()]));
        let twice = Issuers::new(vec![one.clone(), one.clone()], &[], None);
        assert!(matches!(twice.err(), Some(ConfigError::Twice { .. })));
        let mut pem = one.clone();
        pem.ca_pem = Some(b"no certificate".to_vec());
        assert!(matches!(Issuers::new(vec![pem], &[], None).err(), Some(ConfigError::Certificates { .. })));
        let mut audience = one;
        audience.rules.audience.clear();
        assert!(matches!(Issuers::new(vec![audience], &[], None).err(), Some(ConfigError::Rules { .. })));
    }

    #[test]
    fn b16_an_issuer_elsewhere_makes_no_calls_inside() {
        let allowed = |issuer: &str, keys: &str| {
            let (issuer, keys) = (Url::parse(issuer).expect("a URL"), Url::parse(keys).expect("a URL"));
            is_allowed(&keys) && is_no_way_inside(&issuer, &keys)
        };
        for keys in [
            "https://127.0.0.1/k",
            "http://127.0.0.1/k",
            "https://localhost/k",
            "https://10.0.0.1/k",
            "https://169.254.169.254/latest",
            "https://100.64.0.1/k",
            "https://[::1]/k",
            "https://[fd00::1]/k",
            "https://[fe80::1]/k",
            "https://[::ffff:10.0.0.1]/k",
            "https://0x7f000001/k",
            "http://idp.example/k",
        ] {
            assert!(!allowed("https://idp.example", keys), "{keys}");
        }
        assert!(allowed("https://idp.example", "https://keys.example/k"));
        assert!(allowed("https://10.0.0.1", "https://10.0.0.1:8443/k"));
        assert!(!allowed("https://10.0.0.1", "https://10.0.0.2/k"));
    }
}
