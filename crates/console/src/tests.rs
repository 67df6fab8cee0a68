//! The API over a real catalog and a real sequencer, through a real socket. Tokens come from a fake issuer, named so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chancery_identity::{Issuer, IssuerRules, KeySet, authenticate};
use chancery_ledger::LogSigner;
use chancery_model::*;
use chancery_policy::approval::{NAMESPACE, payload};
use chancery_policy::{ReviewRule, RuleSet, Source};
use chancery_store::{
    Catalog, LedgerItem, LedgerReader, MemoryVolume, Options, ReviewerKey, Sequencer, SessionNote, SessionRecord,
    system_clock,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::router::guarded;
use crate::{Desk, Health, ResourceView, SealView, router};

const IDP: &str = "https://idp.example";
const ORIGIN: &str = "test.example/log";
const START: i64 = 1_800_000_000;
const REVIEW: ReviewId = ReviewId([7; 16]);
const SESSION: SessionId = SessionId([9; 16]);
const CHAIN: [u8; 16] = [3; 16];

const RULES: &str = r#"
@id("connect") permit (principal in Group::"analysts", action == Action::"connect", resource == Resource::"shop");
@id("reviewed") permit (principal, action == Action::"write", resource in Resource::"shop")
    when { context.reviews.contains("dba") };
@id("two") permit (principal, action == Action::"define", resource in Resource::"shop")
    when { context.reviews.contains("pair") };
@id("operators") permit (principal in Group::"operators", action == Action::"administer", resource == Resource::"shop");
"#;

struct World {
    directory: PathBuf,
    address: SocketAddr,
    catalog: Catalog,
    volume: MemoryVolume,
    rules: Arc<RuleSet>,
    seconds: Arc<AtomicI64>,
    fake_issuer: Arc<FakeIssuer>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Signs whatever a test says. The tokens are judged as real ones are.
struct FakeIssuer {
    pair: EcdsaKeyPair,
    judge: Issuer,
}

impl FakeIssuer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness");
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y, "use": "sig"}]});
        let keys = KeySet::parse(keys.to_string().as_bytes()).expect("keys");
        let judge = Issuer::new(IssuerRules::new(IDP, vec!["chancery".into()]), keys).expect("rules");
        Self { pair, judge }
    }
    fn token(&self, subject: &str, groups: &[&str], over: Value) -> String {
        let mut claims = json!({"iss": IDP, "sub": subject, "aud": "chancery", "iat": START - 10, "exp": START + 9_000,
            "groups": groups, "chancery_kind": "user"});
        let more = over.as_object().expect("an object").clone();
        claims.as_object_mut().expect("an object").extend(more);
        let header = json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"}).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A reviewer's key that signs as `ssh-keygen -Y sign` does (PROTOCOL.sshsig).
struct SshKey(Ed25519KeyPair);

impl SshKey {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("randomness"))
    }
    fn blob(&self) -> Vec<u8> {
        [string(b"ssh-ed25519"), string(self.0.public_key().as_ref())].concat()
    }
    fn line(&self) -> String {
        format!("ssh-ed25519 {} somebody", STANDARD.encode(self.blob()))
    }
    fn sign(&self, message: &[u8]) -> String {
        let head = [string(NAMESPACE.as_bytes()), string(b""), string(b"sha512")].concat();
        let hash = digest(&SHA512, message);
        let signed = [&b"SSHSIG"[..], &head, &string(hash.as_ref())].concat();
        let signature = [string(b"ssh-ed25519"), string(self.0.sign(&signed).as_ref())].concat();
        let whole = [&b"SSHSIG\0\0\0\x01"[..], &string(&self.blob()), &head, &string(&signature)].concat();
        let text = STANDARD.encode(whole);
        let lines: Vec<_> = text.as_bytes().chunks(70).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[..], bytes].concat()
}

fn shop() -> Resource {
    Resource {
        name: ResourceName::parse("shop").expect("a name"),
        protocol: Protocol::Postgres,
        database: "main".into(),
        labels: BTreeMap::from([("env".into(), "test".into())]),
        durability: Durability::Balanced,
    }
}

fn review_rule(name: &str, quorum: u32, assurance: Assurance) -> ReviewRule {
    ReviewRule {
        name: name.into(),
        reviewers: vec!["Group::\"dba\"".into()],
        quorum,
        expires_micros: 900_000_000,
        lasts_micros: None,
        assurance,
    }
}

/// alice → report-agent.
fn chain() -> Delegation {
    Delegation {
        principal: Principal {
            issuer: IDP.into(),
            subject: "alice".into(),
            kind: PrincipalKind::User,
            display: "alice".into(),
            groups: vec!["analysts".into()],
        },
        actors: vec![Actor { issuer: IDP.into(), subject: "report-agent".into(), kind: PrincipalKind::Agent }],
    }
}

impl World {
    async fn new() -> Self {
        Self::with(true).await
    }
    async fn with(ready: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("chancery-console-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).expect("a directory");
        let catalog = Catalog::create(&directory.join("catalog.sqlite")).await.expect("a catalog");
        let volume = MemoryVolume::new();
        let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a signer");
        let options = Options::new(system_clock(), [2; 16]);
        let (sequencer, _) =
            Sequencer::open(Arc::new(volume.clone()), Arc::new(volume.clone()), signer, ORIGIN, options)
                .expect("a new ledger opens");
        let source = Source { path: "a.cedar".into(), text: RULES.into() };
        let reviews = vec![review_rule("dba", 1, Assurance::Signed), review_rule("pair", 2, Assurance::Clicked)];
        let rules = Arc::new(RuleSet::load(vec![source], reviews, &[shop()]).expect("the rules load"));
        let seconds = Arc::new(AtomicI64::new(START));
        let fake_issuer = Arc::new(FakeIssuer::new());
        let clock = Arc::clone(&seconds);
        let now = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst) * 1_000_000));
        let (issuer, at, in_force) = (Arc::clone(&fake_issuer), now.clone(), Arc::clone(&rules));
        let desk = Desk {
            catalog: catalog.clone(),
            sequencer,
            rules: Arc::new(move || Arc::clone(&in_force)),
            authenticate: Arc::new(move |token| {
                let identity = authenticate(&token, &issuer.judge, at()).map_err(drop);
                Box::pin(async move { identity })
            }),
            chain_id: Arc::new(|_| Box::pin(async { Ok([5; 16]) })),
            command_salt: Arc::new(|_| [8; 32]),
            resources: vec![ResourceView {
                resource: Arc::new(shop()),
                host: String::new(),
                port: 5432,
                database: "shop".into(),
                tls: true,
                seal: Some(SealView { review: "dba".into(), purpose: "fraud".into() }),
            }],
            end_session: Arc::new(|id| Box::pin(async move { id == SESSION })),
            now,
            health: Arc::new(move || Health {
                ready,
                reasons: if ready { vec![] } else { vec!["the rules were rejected".into()] },
                numbers: vec![],
            }),
            public_url: "https://gw.example".into(),
        };
        let service = router(Arc::new(desk)).into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, service).await });
        let world = Self { directory, address, catalog, volume, rules, seconds, fake_issuer };
        world.fill().await;
        world
    }
    async fn fill(&self) {
        let now = Timestamp(START * 1_000_000);
        self.catalog.remember_chain(CHAIN, &chain(), now).await.expect("kept");
        self.catalog.create_review(&self.review(REVIEW, "dba")).await.expect("kept");
        let record = SessionRecord {
            id: SESSION,
            resource: shop().name,
            chain_id: CHAIN,
            chain: chain().to_string(),
            client: "192.0.2.1:5".into(),
            started_at: now,
            ended_at: None,
            ending: None,
            commands: 2,
            last_activity: now,
        };
        self.catalog.note_sessions(&[SessionNote::Opened(record)]).await.expect("kept");
        self.catalog.put_seal_key(SESSION, &shop().name, b"sealed", now).await.expect("kept");
    }
    fn review(&self, id: ReviewId, needed: &str) -> Review {
        Review {
            id,
            session: SESSION,
            command: CommandId(4),
            resource: shop().name,
            chain: chain(),
            digest: Digest([id.0[0]; 32]),
            rules: self.rules.digest(),
            needed: vec![needed.into()],
            text: "DELETE FROM orders -- \u{202e} \x1b[2J".into(),
            parameters: vec![],
            summary: "delete on public.orders".into(),
            asked_at: Timestamp((START - 5) * 1_000_000),
            expires_at: Timestamp((START + 600) * 1_000_000),
            uses: 1,
            state: ReviewState::Pending,
            approvals: vec![],
        }
    }
    fn dana(&self) -> String {
        self.fake_issuer.token("dana", &["dba"], json!({}))
    }
    async fn enrol(&self, subject: &str, key: &SshKey) {
        let key = ReviewerKey {
            issuer: IDP.into(),
            subject: subject.into(),
            line: key.line(),
            fingerprint: format!("SHA256:{}", STANDARD.encode(key.blob())),
            added_at: Timestamp(0),
            added_by: "test".into(),
        };
        self.catalog.add_reviewer_key(&key).await.expect("enrolled");
    }
    async fn state(&self, id: ReviewId) -> ReviewState {
        self.catalog.review(id).await.expect("read").expect("there").state
    }
    /// Kinds of the entries so far.
    /// The kinds of all entries but the one that every ledger begins with.
    fn entries(&self) -> Vec<String> {
        let mut kinds = Vec::new();
        let reader = LedgerReader::new(Arc::new(self.volume.clone()));
        let visit = reader.visit(1, |_, item| {
            if let LedgerItem::Entry(line) = item {
                let entry: Value = serde_json::from_slice(line).expect("entries are JSON");
                kinds.push(entry["k"].as_str().expect("a kind").to_owned());
            }
            ControlFlow::Continue(())
        });
        visit.expect("the ledger is read");
        kinds
    }
    fn count(&self, kind: &str) -> usize {
        self.entries().iter().filter(|one| *one == kind).count()
    }

    async fn raw(&self, text: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(self.address).await.expect("connects");
        socket.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // A server that refuses a long body may close before it is sent.
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }
    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n{token}");
        let (status, head, body) = self.raw(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        assert!(head.contains("cache-control: no-store") && head.contains("x-content-type-options: nosniff"), "{head}");
        if status >= 400 {
            assert!(head.contains("content-type: application/problem+json"), "{head}");
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.ask("GET", path, Some(token), "").await
    }
    async fn post(&self, path: &str, token: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, Some(token), &body.to_string()).await
    }
    async fn approve(&self, id: ReviewId, token: &str, rule: &str, signed: Option<(&SshKey, &[u8])>) -> (u16, Value) {
        let body = match signed {
            None => json!({"rule": rule, "assurance": "clicked"}),
            Some((key, message)) => {
                json!({"rule": rule, "assurance": "signed", "key": key.line(), "signature": key.sign(message)})
            }
        };
        self.post(&format!("/api/v1/reviews/{id}/approve"), token, body).await
    }
}

/// What a stranger (a valid token, no groups) gets at each endpoint, and which entry the endpoint leaves when it is used
/// by somebody who may.
const CASES: [(&str, &str, u16, Option<&str>); 9] = [
    ("GET", "/api/v1/whoami", 200, None),
    ("GET", "/api/v1/resources", 200, None),
    ("GET", "/api/v1/reviews", 200, None),
    ("GET", "/api/v1/reviews/{id}", 404, Some("view")),
    ("POST", "/api/v1/reviews/{id}/approve", 404, Some("approval.decide")),
    ("POST", "/api/v1/reviews/{id}/deny", 404, Some("approval.decide")),
    ("GET", "/api/v1/sessions", 200, None),
    ("POST", "/api/v1/sessions/{id}/end", 404, Some("view")),
    ("POST", "/api/v1/sessions/{id}/unseal", 404, Some("approval.request")),
];

fn concrete(path: &str) -> String {
    let id = if path.contains("sessions") { SESSION.to_string() } else { REVIEW.to_string() };
    path.replace("{id}", &id)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_lists_of_what_is_missing_are_right() {
    let named = |method: &str, path: &str| format!("{method} {path}");
    let endpoints: Vec<_> = guarded().iter().map(|(method, path, _)| named(method, path)).collect();
    let tested: Vec<_> = CASES.iter().map(|(method, path, ..)| named(method, path)).collect();
    let untested: Vec<_> = endpoints.iter().filter(|one| !tested.contains(one)).cloned().collect();
    assert_eq!(untested, lines(include_str!("../endpoints-without-authorization-test.txt")));
    // Whatever shows one thing in full, or changes anything, leaves an entry.
    let telling = |method: &str, path: &str| method != "GET" || path.contains("{id}");
    let silent: Vec<_> = CASES
        .iter()
        .filter(|(method, path, _, entry)| telling(method, path) && entry.is_none())
        .map(|(method, path, ..)| named(method, path))
        .collect();
    assert_eq!(silent, lines(include_str!("../endpoints-without-audit-entry.txt")));
}

#[tokio::test]
async fn nobody_passes_the_door_without_a_token() {
    let world = World::new().await;
    let late = world.fake_issuer.token("dana", &["dba"], json!({"exp": START - 100}));
    for (method, path, _) in guarded() {
        let path = concrete(path);
        for token in [None, Some("x"), Some(""), Some(late.as_str()), Some("a.b.c")] {
            let (status, problem) = world.ask(method, &path, token, "{}").await;
            assert_eq!((status, problem["status"].as_u64()), (401, Some(401)), "{method} {path}");
        }
        let dana = world.dana();
        let twice = format!("Authorization: Bearer {dana}\r\nAuthorization: Bearer {dana}\r\n");
        for odd in [twice, format!("Authorization: Basic {dana}\r\n"), format!("Cookie: token={dana}\r\n")] {
            let text =
                format!("{method} {path}?access_token={dana} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n{odd}");
            assert_eq!(world.raw(&format!("{text}\r\n")).await.0, 401, "{method} {path}");
        }
    }
    assert_eq!(world.entries(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stranger_sees_and_changes_nothing() {
    let world = World::new().await;
    let stranger = world.fake_issuer.token("eve", &["none"], json!({}));
    for (method, path, expected, _) in CASES {
        let (status, body) = world.ask(method, &concrete(path), Some(&stranger), "{}").await;
        assert_eq!(status, expected, "{method} {path}");
        if status == 200 && !path.ends_with("whoami") {
            assert_eq!(body, json!([]), "{path}");
        }
        let absent = concrete(path).replace("0707", "0708").replace("0909", "090a");
        let (other, same) = world.ask(method, &absent, Some(&stranger), "{}").await;
        assert_eq!((other, same), (status, body), "what is not there reads as what may not be seen");
    }
    assert_eq!(world.entries(), Vec::<String>::new());
    assert_eq!(world.state(REVIEW).await, ReviewState::Pending);
}

#[tokio::test]
async fn every_telling_endpoint_leaves_its_entry() {
    let world = World::new().await;
    let key = SshKey::new();
    world.enrol("dana", &key).await;
    let other = ReviewId([8; 16]);
    world.catalog.create_review(&world.review(other, "dba")).await.expect("kept");
    let operator = world.fake_issuer.token("olga", &["operators"], json!({}));
    for (method, path, _, entry) in CASES {
        let Some(kind) = entry else { continue };
        let before = world.count(kind);
        let (status, body) = match path.rsplit('/').next() {
            Some("approve") => {
                let message = payload(&world.review(REVIEW, "dba"), "dba");
                world.approve(REVIEW, &world.dana(), "dba", Some((&key, &message))).await
            }
            Some("deny") => {
                let path = format!("/api/v1/reviews/{other}/deny");
                world.post(&path, &world.dana(), json!({"reason": "not now"})).await
            }
            Some("unseal") => world.post(&concrete(path), &operator, json!({"reason": "case 7"})).await,
            Some("end") => world.ask(method, &concrete(path), Some(&operator), "").await,
            _ => world.get(&concrete(path), &world.dana()).await,
        };
        assert_eq!(status, 200, "{method} {path}: {body}");
        assert_eq!(world.count(kind), before + 1, "{method} {path}");
    }
    assert_eq!(world.state(other).await, ReviewState::Denied);
    let denial = world.catalog.denial(other).await.expect("read").expect("there");
    assert_eq!((denial.by.subject.as_str(), denial.reason.as_str()), ("dana", "not now"));
}

#[tokio::test]
async fn a_signed_approval_releases_the_command() {
    let world = World::new().await;
    let key = SshKey::new();
    world.enrol("dana", &key).await;
    let (_, listed) = world.get("/api/v1/reviews?state=pending", &world.dana()).await;
    assert_eq!(
        (listed[0]["id"].as_str(), listed[0]["yours"].as_bool()),
        (Some(REVIEW.to_string().as_str()), Some(true))
    );
    assert!(!listed.to_string().contains("DELETE"), "lists do not show commands: {listed}");
    let (status, review) = world.get(&format!("/api/v1/reviews/{REVIEW}"), &world.dana()).await;
    assert_eq!(status, 200);
    let expected = world.review(REVIEW, "dba");
    assert_eq!(review["text"].as_str(), Some(expected.text.as_str()));
    assert_eq!(review["salt"].as_str(), Some("08".repeat(32).as_str()), "whoever reads the text can check its digest");
    let message = payload(&expected, "dba");
    assert_eq!(review["needed"][0]["payload"].as_str(), Some(STANDARD.encode(&message).as_str()));
    let (status, decided) = world.approve(REVIEW, &world.dana(), "dba", Some((&key, &message))).await;
    assert_eq!((status, decided["state"].as_str()), (200, Some("approved")), "{decided}");
    assert_eq!(decided["assurance"].as_str(), Some("signed"));
    assert_eq!(world.entries(), ["view", "approval.decide"]);
    let review = world.catalog.review(REVIEW).await.expect("read").expect("there");
    assert_eq!(review.state, ReviewState::Approved);
    assert_eq!(review.approvals[0].key.as_deref(), Some(key.line().as_str()));
    let (status, _) = world.approve(REVIEW, &world.dana(), "dba", Some((&key, &message))).await;
    assert_eq!(status, 409, "an approval is given once");
}

#[tokio::test]
async fn approvals_that_do_not_count_leave_nothing() {
    let world = World::new().await;
    let (key, stolen) = (SshKey::new(), SshKey::new());
    world.enrol("dana", &key).await;
    world.enrol("alice", &stolen).await;
    let right = payload(&world.review(REVIEW, "dba"), "dba");
    let mut longer = world.review(REVIEW, "dba");
    longer.expires_at = longer.expires_at.plus_micros(1);
    let wrong = payload(&longer, "dba");
    let token = |subject: &str, over: Value| world.fake_issuer.token(subject, &["dba", "analysts"], over);
    let agent = json!({"act": {"sub": "helper"}});
    let dana = world.dana();
    let cases = [
        ("too weak", dana.clone(), "dba", None, 403),
        ("another message", dana.clone(), "dba", Some((&key, &wrong)), 403),
        ("another's key", dana.clone(), "dba", Some((&stolen, &right)), 403),
        ("another rule", dana.clone(), "pair", Some((&key, &right)), 400),
        ("her own request", token("alice", json!({})), "dba", Some((&stolen, &right)), 403),
        ("an actor of the chain", token("report-agent", json!({})), "dba", None, 404),
        ("her agent", token("dana", agent), "dba", Some((&key, &right)), 404),
        ("for reading only", token("dana", json!({"chancery_only": "read"})), "dba", Some((&key, &right)), 403),
        (
            "for another resource",
            token("dana", json!({"chancery_resource": ["mail"]})),
            "dba",
            Some((&key, &right)),
            404,
        ),
    ];
    for (what, token, rule, signed, expected) in cases {
        let (status, body) = world.approve(REVIEW, &token, rule, signed.map(|(key, text)| (key, &text[..]))).await;
        assert_eq!(status, expected, "{what}: {body}");
    }
    let path = format!("/api/v1/reviews/{REVIEW}/approve");
    for body in [
        json!({"rule": "dba", "assurance": "signed"}),
        json!({"rule": "dba", "assurance": "stepped-up"}),
        json!({"rule": "dba", "assurance": "clicked", "reviewer": "bob"}),
        json!([]),
    ] {
        assert_eq!(world.post(&path, &dana, body).await.0, 400);
    }
    world.seconds.store(START + 601, Ordering::SeqCst);
    assert_eq!(world.approve(REVIEW, &dana, "dba", Some((&key, &right))).await.0, 409, "its time is over");
    assert_eq!(world.post(&path.replace("approve", "deny"), &dana, json!({"reason": ""})).await.0, 409);
    // Whoever knows of the review and is refused is on record as that; a malformed request and a stranger's are not.
    assert_eq!(world.entries(), vec!["alert"; 6]);
    let review = world.catalog.review(REVIEW).await.expect("read").expect("there");
    assert_eq!((review.state, review.approvals.len()), (ReviewState::Pending, 0));
}

#[tokio::test]
async fn a_quorum_is_of_distinct_people() {
    let world = World::new().await;
    let id = ReviewId([6; 16]);
    world.catalog.create_review(&world.review(id, "pair")).await.expect("kept");
    let dora = world.fake_issuer.token("dora", &["dba"], json!({}));
    let (status, first) = world.approve(id, &world.dana(), "pair", None).await;
    assert_eq!((status, first["state"].as_str()), (200, Some("pending")));
    assert_eq!(world.approve(id, &world.dana(), "pair", None).await.0, 409);
    assert_eq!(world.state(id).await, ReviewState::Pending);
    let (status, second) = world.approve(id, &dora, "pair", None).await;
    assert_eq!((status, second["state"].as_str()), (200, Some("approved")));
    assert_eq!(world.count("approval.decide"), 2);
}

#[tokio::test]
async fn nothing_changes_that_cannot_be_recorded() {
    let world = World::new().await;
    let key = SshKey::new();
    world.enrol("dana", &key).await;
    world.volume.fail_syncs(true);
    let message = payload(&world.review(REVIEW, "dba"), "dba");
    let (status, problem) = world.approve(REVIEW, &world.dana(), "dba", Some((&key, &message))).await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(world.get(&format!("/api/v1/reviews/{REVIEW}"), &world.dana()).await.0, 503, "nor is anything shown");
    let review = world.catalog.review(REVIEW).await.expect("read").expect("there");
    assert_eq!((review.state, review.approvals.len()), (ReviewState::Pending, 0));
    let (status, body) = world.ask("GET", "/metrics", None, "").await;
    assert_eq!((status, body), (200, Value::Null));
    let (status, _, why) = world.raw("GET /health/ready HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n").await;
    assert!(status == 503 && why.contains("cannot be written"), "{why}");
}

#[tokio::test]
async fn a_chain_sees_its_own_and_operators_see_all() {
    let world = World::new().await;
    let alice = world.fake_issuer.token("alice", &["analysts"], json!({}));
    let agent = world.fake_issuer.token("alice", &["analysts"], json!({"act": {"sub": "other-agent"}}));
    let operator = world.fake_issuer.token("olga", &["operators"], json!({}));
    for (token, seen) in [(&alice, 1), (&agent, 0), (&operator, 1)] {
        for path in ["/api/v1/sessions?open=true", "/api/v1/reviews"] {
            let (_, listed) = world.get(path, token).await;
            assert_eq!(listed.as_array().map(Vec::len), Some(seen), "{path}");
        }
    }
    let (_, resources) = world.get("/api/v1/resources", &alice).await;
    assert_eq!((resources[0]["name"].as_str(), resources[0]["port"].as_u64()), (Some("shop"), Some(5432)));
    let (_, who) = world.get("/api/v1/whoami", &agent).await;
    assert_eq!(who["chain"]["text"].as_str(), Some("alice → other-agent"));
    let read_only = world.fake_issuer.token("olga", &["operators"], json!({"chancery_only": "read"}));
    let end = format!("/api/v1/sessions/{SESSION}/end");
    assert_eq!(world.post(&end, &read_only, json!({})).await.0, 403);
    assert_eq!(world.post(&end, &alice, json!({})).await.0, 200, "who is above may end it");
    assert_eq!(world.entries(), ["view"]);
}

#[tokio::test]
async fn odd_requests_get_problems() {
    let world = World::with(false).await;
    let dana = world.dana();
    assert_eq!(world.get("/api/v1/nothing", &dana).await.0, 404);
    assert_eq!(world.get("/", &dana).await.0, 404);
    assert_eq!(world.ask("DELETE", "/api/v1/whoami", Some(&dana), "").await.0, 405);
    assert_eq!(world.get("/api/v1/reviews?state=odd", &dana).await.0, 400);
    assert_eq!(world.get("/api/v1/sessions?offset=3", &dana).await.0, 400);
    for id in ["x", "rev-00", "..", "%00", "%ff"] {
        let (status, _) = world.get(&format!("/api/v1/reviews/{id}"), &dana).await;
        assert!((400..500).contains(&status), "{id}: {status}");
    }
    let path = format!("/api/v1/reviews/{REVIEW}/deny");
    assert_eq!(world.post(&path, &dana, json!({"reason": "x".repeat(5_000)})).await.0, 400);
    let head = format!("POST {path} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nAuthorization: Bearer {dana}\r\n");
    let (status, ..) = world.raw(&format!("{head}Content-Length: 70000\r\n\r\n{}", "x".repeat(70_000))).await;
    assert_eq!(status, 413);
    let (status, ready) = world.ask("GET", "/health/live", None, "").await;
    assert_eq!((status, ready["status"].as_str()), (200, Some("live")));
    let (status, _, why) = world.raw("GET /health/ready HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n").await;
    assert!(status == 503 && why.contains("the rules were rejected"), "{why}");
    assert_eq!(world.state(REVIEW).await, ReviewState::Pending);
    assert_eq!(world.post(&path, &dana, json!({"reason": "no"})).await.0, 200);
    let (_, ended) = world.get(&format!("/api/v1/reviews/{REVIEW}"), &dana).await;
    assert_eq!((ended["state"].as_str(), ended["salt"].as_str()), (Some("denied"), Some("")), "the text is masked now");
}

#[tokio::test]
async fn originals_are_asked_for_by_those_who_may_and_approved_by_others() {
    let world = World::new().await;
    let key = SshKey::new();
    world.enrol("dana", &key).await;
    let path = format!("/api/v1/sessions/{SESSION}/unseal");
    let ask = json!({"reason": "case 7: who saw the account?"});
    // Not the one whose session it is, nor her agent: it is what was masked from them.
    let alice = world.fake_issuer.token("alice", &["analysts"], json!({}));
    assert_eq!(world.post(&path, &alice, ask.clone()).await.0, 404);
    assert_eq!(world.post(&path, &world.dana(), ask.clone()).await.0, 404);
    // Somebody who may ask and may review: not both at once.
    let both = world.fake_issuer.token("dana", &["operators", "dba"], json!({}));
    assert_eq!(world.post(&path, &both, json!({"reason": " "})).await.0, 400);
    assert_eq!(world.entries(), Vec::<String>::new());
    let (status, own) = world.post(&path, &both, ask.clone()).await;
    assert_eq!((status, own["needed"].as_str()), (200, Some("dba")), "{own}");
    let id = |requested: &Value| ReviewId::parse(requested["id"].as_str().expect("an id")).expect("an id");
    let review = world.catalog.review(id(&own)).await.expect("read").expect("there");
    let message = payload(&review, "dba");
    assert_eq!(world.approve(review.id, &both, "dba", Some((&key, &message))).await.0, 403, "her own request");
    assert_eq!(review.digest, chancery_policy::unseal_digest(&SESSION, &review.text, &review.chain));
    // Asked by another, she may.
    let operator = world.fake_issuer.token("olga", &["operators"], json!({}));
    let (_, asked) = world.post(&path, &operator, ask).await;
    let review = world.catalog.review(id(&asked)).await.expect("read").expect("there");
    let message = payload(&review, "dba");
    let (status, decided) = world.approve(review.id, &world.dana(), "dba", Some((&key, &message))).await;
    assert_eq!((status, decided["state"].as_str()), (200, Some("approved")), "{decided}");
    // A start of the gateway ends what clients waited for, and nothing else.
    let withdrawn = world.catalog.withdraw_all_pending(Timestamp(START * 1_000_000)).await.expect("withdrawn");
    assert_eq!((withdrawn, world.state(id(&own)).await), (vec![REVIEW], ReviewState::Pending));
    // Without a key there is nothing to hand out.
    world.catalog.destroy_seal_key(SESSION).await.expect("destroyed");
    assert_eq!(world.post(&path, &operator, json!({"reason": "again"})).await.0, 409);
}
