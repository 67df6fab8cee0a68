//! A gateway in this process before a real PostgreSQL, with an issuer that is only a key (its key set is planted in the
//! catalog, as after a fetch; the drivers' suite uses a real provider).
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_gateway::issuers::IssuerSource;
use chancery_gateway::{Bounds, Gateway, ResourceSettings, Settings, TlsIdentity, UpstreamTls};
use chancery_identity::IssuerRules;
use chancery_ledger::WitnessPolicy;
use chancery_mask::MaskRules;
use chancery_model::{Assurance, Digest, Durability, Protocol, Resource, ResourceName, Timestamp};
use chancery_policy::{ReviewRule, RuleSet, Source};
use chancery_secrets::{Credential, Kek, Purpose, Secret, seal};
use chancery_store::{Catalog, StateDir};
use serde_json::json;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub(crate) const ISSUER: &str = "https://issuer.test";
/// A second one, trusted as well.
pub(crate) const OTHER_ISSUER: &str = "https://other.test";

/// A PostgreSQL server of the test's own.
pub(crate) struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    pub(crate) port: u16,
}

fn programs() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    let installed = std::fs::read_dir("/usr/lib/postgresql").ok();
    places.extend(installed.into_iter().flatten().flatten().map(|entry| entry.path().join("bin")));
    places.into_iter().find(|place| ["initdb", "pg_ctl", "psql"].iter().all(|program| place.join(program).is_file()))
}

fn as_postgres(program: &Path, arguments: &[&str]) -> Output {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let output = command.args(arguments).current_dir("/").output().expect("the program runs");
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    output
}

/// A port below the ephemeral range, so that no outgoing connection takes it in between; each is given once.
pub(crate) fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 600) as u16 * 20;
    (0..600)
        .map(|_| start + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("loopback has ports")
}

impl Postgres {
    /// `None`, and why, when this machine has no server.
    pub(crate) fn start(name: &str) -> Option<Self> {
        Self::start_with(name, "", |_| {})
    }

    /// The same, with more server options and a data directory that `prepare` saw before the start.
    pub(crate) fn start_with(name: &str, more: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: no PostgreSQL server found in PG_BIN or /usr/lib/postgresql/*/bin");
            return None;
        };
        let directory = std::env::temp_dir().join(format!("chancery-gateway-{name}-{}", std::process::id()));
        as_postgres(Path::new("mkdir"), &["-p", &directory.display().to_string()]);
        let data = directory.join("data").display().to_string();
        as_postgres(&programs.join("initdb"), &["-D", &data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]);
        prepare(&directory.join("data"));
        let port = free_port();
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off {more}");
        let log = directory.join("log").display().to_string();
        as_postgres(&programs.join("pg_ctl"), &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        Some(Self { programs, directory, port })
    }

    /// Stops the server; `resume` starts it again.
    pub(crate) fn pause(&self) {
        let data = self.directory.join("data").display().to_string();
        as_postgres(&self.programs.join("pg_ctl"), &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }

    pub(crate) fn resume(&self) {
        let data = self.directory.join("data").display().to_string();
        let log = self.directory.join("log").display().to_string();
        let options =
            format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off", self.port);
        as_postgres(&self.programs.join("pg_ctl"), &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub(crate) fn psql_program(&self) -> PathBuf {
        self.programs.join("psql")
    }

    /// The path of one of the server's programs.
    #[allow(dead_code)]
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub(crate) fn direct(&self, sql: &str) -> String {
        let port = self.port.to_string();
        let psql = self.programs.join("psql");
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql];
        let output = Command::new(psql).args(arguments).arg("postgres").output().expect("psql runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.directory.join("data").display().to_string();
        if self.directory.join("data/postmaster.pid").exists() {
            as_postgres(&self.programs.join("pg_ctl"), &["-D", &data, "-m", "immediate", "stop"]);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A key that signs tokens.
pub(crate) struct Issuer(EcdsaKeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig", "x": x, "y": y}]})
            .to_string()
    }

    pub(crate) fn token(&self, subject: &str, groups: &[&str], actors: &[&str]) -> String {
        self.sign(self.claims(subject, groups, actors))
    }

    /// What a token of [`Issuer::token`] says, to be changed before it is signed.
    pub(crate) fn claims(&self, subject: &str, groups: &[&str], actors: &[&str]) -> serde_json::Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = json!({"iss": ISSUER, "aud": "chancery", "sub": subject, "iat": now, "exp": now + 600,
            "groups": groups, "preferred_username": subject});
        let act = actors.iter().fold(serde_json::Value::Null, |inner, actor| match inner {
            serde_json::Value::Null => json!({"sub": actor}),
            inner => json!({"sub": actor, "act": inner}),
        });
        if !act.is_null() {
            claims["act"] = act;
        }
        claims
    }

    pub(crate) fn sign(&self, claims: serde_json::Value) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "k", "typ": "JWT"})), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// What a world may be made of. `new` gives what most tests need.
pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) rules: String,
    pub(crate) reviews: Vec<ReviewRule>,
    pub(crate) mask: MaskRules,
    pub(crate) durability: Durability,
    pub(crate) tls: Option<TlsIdentity>,
    /// Certificates and mode towards the resource, and the name under which it is dialled.
    pub(crate) upstream: UpstreamTls,
    pub(crate) upstream_host: String,
    /// Another port than the server's.
    pub(crate) upstream_port: Option<u16>,
    pub(crate) user: String,
    pub(crate) password: String,
    /// A server of the test's own making.
    pub(crate) postgres: Option<Postgres>,
    /// Whether [`OTHER_ISSUER`] is trusted, too.
    pub(crate) two_issuers: bool,
    /// Where the state directory is made.
    pub(crate) state: Option<PathBuf>,
    pub(crate) reserve_bytes: Option<u64>,
    pub(crate) token_leeway: Option<u32>,
    pub(crate) catalog_wait: Option<std::time::Duration>,
    pub(crate) witnesses: Option<Arc<WitnessPolicy>>,
    pub(crate) max_unwitnessed: std::time::Duration,
}

impl Setup {
    pub(crate) fn new(name: &str, rules: &str) -> Self {
        Self {
            name: name.to_owned(),
            rules: rules.to_owned(),
            reviews: vec![review_rule("dba", Assurance::Clicked, 60_000_000)],
            mask: MaskRules::none(),
            durability: Durability::Balanced,
            tls: None,
            upstream: UpstreamTls::Disable,
            upstream_host: "127.0.0.1".to_owned(),
            upstream_port: None,
            user: "postgres".to_owned(),
            password: "unused".to_owned(),
            postgres: None,
            two_issuers: false,
            state: None,
            reserve_bytes: None,
            token_leeway: None,
            catalog_wait: None,
            witnesses: None,
            max_unwitnessed: std::time::Duration::from_secs(900),
        }
    }
}

/// A review rule whose reviewers are the group `dba`.
pub(crate) fn review_rule(name: &str, assurance: Assurance, expires_micros: i64) -> ReviewRule {
    let reviewers = vec!["Group::\"dba\"".to_owned()];
    ReviewRule { name: name.to_owned(), reviewers, quorum: 1, expires_micros, lasts_micros: None, assurance }
}

/// A state directory that goes with its owner.
struct Swept(PathBuf);

impl Drop for Swept {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gateway that serves.
pub(crate) struct World {
    pub(crate) postgres: Postgres,
    pub(crate) issuer: Issuer,
    pub(crate) other: Issuer,
    pub(crate) gateway: Gateway,
    pub(crate) port: u16,
    pub(crate) state: PathBuf,
    swept: Swept,
    resource: Arc<Resource>,
    reviews: Vec<ReviewRule>,
    issuers: Vec<String>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    pub(crate) async fn start(name: &str, rules: &str, mask: MaskRules, durability: Durability) -> Option<Self> {
        Self::with(Setup { mask, durability, ..Setup::new(name, rules) }).await
    }

    pub(crate) async fn with(setup: Setup) -> Option<Self> {
        let Setup { name, rules, reviews, mask, durability, tls, upstream, upstream_host, user, password, .. } = setup;
        let postgres = match setup.postgres {
            Some(postgres) => postgres,
            None => Postgres::start(&name)?,
        };
        let (issuer, other) = (Issuer::new(), Issuer::new());
        let state = setup
            .state
            .unwrap_or_else(|| std::env::temp_dir().join(format!("chancery-state-{name}-{}", std::process::id())));
        let _ = std::fs::remove_dir_all(&state);
        let directory = StateDir::create(&state, "gw.test/a").expect("a state directory");
        let catalog = Catalog::create(&directory.catalog()).await.expect("a catalog");
        let at = Timestamp(1_000_000);
        let fetched =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
        catalog.put_jwks(ISSUER, &issuer.jwks(), Timestamp(fetched as i64)).await.expect("keys are planted");
        catalog.put_jwks(OTHER_ISSUER, &other.jwks(), Timestamp(fetched as i64)).await.expect("keys are planted");
        let kek = Kek::new(Zeroizing::new(directory.wrap_key().expect("a key"))).expect("a key");
        let credential = Credential { username: user, password: Secret::new(password.into_bytes()) };
        let mut random = Zeroizing::new([0; chancery_secrets::SEAL_RANDOM_BYTES]);
        chancery_store::random(random.as_mut_slice()).expect("randomness");
        let plain = credential.encode().expect("it encodes");
        let sealed = seal(&kek, "db", 1, Purpose::BackendCredential, &plain, random).expect("it seals");
        catalog.put_secret("db", 1, &sealed.encode(), at).await.expect("it is stored");
        catalog.close().await;

        let port = free_port();
        let resource = Arc::new(Resource {
            name: ResourceName::parse("shop").expect("a name"),
            protocol: Protocol::Postgres,
            database: "postgres".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            durability,
        });
        let mut issuers = vec![ISSUER.to_owned()];
        if setup.two_issuers {
            issuers.push(OTHER_ISSUER.to_owned());
        }
        let rules = rule_set(&rules, &reviews, &resource, &issuers);
        let settings = Settings {
            name: "a".into(),
            tls,
            postgres: Some(([127, 0, 0, 1], port).into()),
            clear_text: false,
            issuers: issuers.iter().map(|url| issuer_source(url, setup.token_leeway)).collect(),
            resources: vec![ResourceSettings {
                resource: resource.clone(),
                host: upstream_host,
                port: setup.upstream_port.unwrap_or(postgres.port),
                tls: upstream,
                secret: "db".into(),
                listen: None,
                mask: Arc::new(mask),
                seal: None,
            }],
            witnesses: setup.witnesses.clone(),
            witness_ca: None,
            max_unwitnessed: setup.max_unwitnessed,
            archive: None,
            retention: chancery_store::RetentionLimits::default(),
            rules,
            config: Digest::default(),
            dangerous: Vec::new(),
            version: "test",
        };
        let bounds = Bounds::default();
        let catalog_wait = setup.catalog_wait.unwrap_or(bounds.catalog_wait);
        let bounds = Bounds { reserve_bytes: setup.reserve_bytes, catalog_wait };
        let opened = Gateway::open_within(directory, settings, bounds);
        let gateway = opened.await.expect("it opens");
        let (stop, served) = serve(&gateway, port).await;
        let swept = Swept(state.clone());
        Some(Self { postgres, issuer, other, gateway, port, state, swept, resource, reviews, issuers, stop, served })
    }

    /// Another rule set for this world's resource, reviews and issuers.
    pub(crate) fn rule_set(&self, rules: &str) -> Arc<RuleSet> {
        rule_set(rules, &self.reviews, &self.resource, &self.issuers)
    }

    /// Stops the gateway in order and opens it again over the same state.
    pub(crate) async fn restart(mut self) -> Self {
        self.end().await;
        let Self { postgres, issuer, other, gateway, port, state, swept, resource, reviews, issuers, .. } = self;
        let old = gateway.settings();
        let settings = Settings {
            name: old.name.clone(),
            tls: old.tls.clone(),
            postgres: old.postgres,
            clear_text: old.clear_text,
            issuers: old.issuers.clone(),
            resources: old.resources.clone(),
            witnesses: old.witnesses.clone(),
            witness_ca: old.witness_ca.clone(),
            max_unwitnessed: old.max_unwitnessed,
            archive: old.archive.clone(),
            retention: chancery_store::RetentionLimits::default(),
            rules: gateway.rules(),
            config: old.config,
            dangerous: old.dangerous.clone(),
            version: old.version,
        };
        gateway.catalog().close().await;
        drop(gateway);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let directory = loop {
            match StateDir::open(&state) {
                Ok(directory) => break directory,
                Err(error) if std::time::Instant::now() > patience => panic!("{error}"),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        let gateway = Gateway::open(directory, settings).await.expect("it opens again");
        let (stop, served) = serve(&gateway, port).await;
        Self { postgres, issuer, other, gateway, port, state, swept, resource, reviews, issuers, stop, served }
    }

    /// psql through the gateway, not started yet.
    pub(crate) fn psql_command(&self, token: &str, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.postgres.programs.join("psql"));
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "anybody", "-XAt", "-d", "shop"])
            .args(arguments)
            .env("PGPASSWORD", token)
            .env("PGSSLMODE", "disable")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs psql through the gateway.
    pub(crate) async fn psql(&self, token: &str, arguments: &[&str]) -> Output {
        let run = self.psql_command(token, arguments).output();
        let run = tokio::time::timeout(std::time::Duration::from_secs(30), run);
        run.await.expect("psql ends").expect("psql runs")
    }

    /// Stops the gateway in order. The state stays as long as the world.
    pub(crate) async fn end(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.await.expect("it ends");
        }
    }

    pub(crate) async fn stop(mut self) -> PathBuf {
        self.end().await;
        self.state.clone()
    }
}

fn issuer_source(url: &str, leeway: Option<u32>) -> IssuerSource {
    let mut rules = IssuerRules::new(url, vec!["chancery".into()]);
    rules.leeway = leeway.unwrap_or(rules.leeway);
    IssuerSource::new(rules)
}

fn rule_set(rules: &str, reviews: &[ReviewRule], resource: &Resource, issuers: &[String]) -> Arc<RuleSet> {
    let source = Source { path: "test.cedar".into(), text: rules.into() };
    let rules = RuleSet::load_for_issuers(vec![source], reviews.to_vec(), std::slice::from_ref(resource), issuers);
    Arc::new(rules.unwrap_or_else(|problems| panic!("{problems:?}")))
}

async fn serve(gateway: &Gateway, port: u16) -> (Option<oneshot::Sender<()>>, Option<tokio::task::JoinHandle<()>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = gateway.clone();
    let served = tokio::spawn(async move {
        serving.serve(async move { drop(stopped.await) }).await.expect("it serves");
    });
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    (Some(stop), Some(served))
}
