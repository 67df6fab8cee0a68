//! A gateway in this process before a real PostgreSQL, with an issuer that is only a key (its key set is planted in the
//! catalog, as after a fetch; the drivers' suite uses a real provider).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_gateway::issuers::IssuerSource;
use chancery_gateway::{Gateway, ResourceSettings, Settings, UpstreamTls};
use chancery_identity::IssuerRules;
use chancery_mask::MaskRules;
use chancery_model::{Assurance, Digest, Durability, Protocol, Resource, ResourceName, Timestamp};
use chancery_policy::{ReviewRule, RuleSet, Source};
use chancery_secrets::{Credential, Kek, Purpose, Secret, seal};
use chancery_store::{Catalog, StateDir};
use serde_json::json;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub(crate) const ISSUER: &str = "https://issuer.test";

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
        let Some(programs) = programs() else {
            eprintln!("skipped: no PostgreSQL server found in PG_BIN or /usr/lib/postgresql/*/bin");
            return None;
        };
        let directory = std::env::temp_dir().join(format!("chancery-gateway-{name}-{}", std::process::id()));
        as_postgres(Path::new("mkdir"), &["-p", &directory.display().to_string()]);
        let data = directory.join("data").display().to_string();
        as_postgres(&programs.join("initdb"), &["-D", &data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]);
        let port = free_port();
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off");
        let log = directory.join("log").display().to_string();
        as_postgres(&programs.join("pg_ctl"), &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        Some(Self { programs, directory, port })
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
        as_postgres(&self.programs.join("pg_ctl"), &["-D", &data, "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A key that signs tokens.
pub(crate) struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig", "x": x, "y": y}]})
            .to_string()
    }

    pub(crate) fn token(&self, subject: &str, groups: &[&str], actors: &[&str]) -> String {
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
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "k", "typ": "JWT"})), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A gateway that serves.
pub(crate) struct World {
    pub(crate) postgres: Postgres,
    pub(crate) issuer: Issuer,
    pub(crate) gateway: Gateway,
    pub(crate) port: u16,
    pub(crate) state: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    pub(crate) async fn start(name: &str, rules: &str, mask: MaskRules, durability: Durability) -> Option<Self> {
        let postgres = Postgres::start(name)?;
        let issuer = Issuer::new();
        let state = std::env::temp_dir().join(format!("chancery-state-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        let directory = StateDir::create(&state, "gw.test/a").expect("a state directory");
        let catalog = Catalog::create(&directory.catalog()).await.expect("a catalog");
        let at = Timestamp(1_000_000);
        let fetched =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
        catalog.put_jwks(ISSUER, &issuer.jwks(), Timestamp(fetched as i64)).await.expect("keys are planted");
        let kek = Kek::new(Zeroizing::new(directory.wrap_key().expect("a key"))).expect("a key");
        let credential = Credential { username: "postgres".into(), password: Secret::new(b"unused".to_vec()) };
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
        let source = Source { path: "test.cedar".into(), text: rules.into() };
        let review = ReviewRule {
            name: "dba".into(),
            reviewers: vec!["Group::\"dba\"".into()],
            quorum: 1,
            expires_micros: 60_000_000,
            lasts_micros: None,
            assurance: Assurance::Clicked,
        };
        let issuers = [ISSUER.to_owned()];
        let rules = RuleSet::load_for_issuers(vec![source], vec![review], &[(*resource).clone()], &issuers);
        let rules = Arc::new(rules.unwrap_or_else(|problems| panic!("{problems:?}")));
        let settings = Settings {
            name: "a".into(),
            tls: None,
            postgres: Some(([127, 0, 0, 1], port).into()),
            clear_text: false,
            issuers: vec![IssuerSource::new(IssuerRules::new(ISSUER, vec!["chancery".into()]))],
            resources: vec![ResourceSettings {
                resource,
                host: "127.0.0.1".into(),
                port: postgres.port,
                tls: UpstreamTls::Disable,
                secret: "db".into(),
                listen: None,
                mask: Arc::new(mask),
            }],
            rules,
            config: Digest::default(),
            dangerous: Vec::new(),
            version: "test",
        };
        let gateway = Gateway::open(directory, settings).await.expect("it opens");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = gateway.clone();
        let served = tokio::spawn(async move {
            serving.serve(async move { drop(stopped.await) }).await.expect("it serves");
        });
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        Some(Self { postgres, issuer, gateway, port, state, stop: Some(stop), served: Some(served) })
    }

    /// Runs psql through the gateway.
    pub(crate) async fn psql(&self, token: &str, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(self.postgres.programs.join("psql"));
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "anybody", "-XAt", "-d", "shop"])
            .args(arguments)
            .env("PGPASSWORD", token)
            .env("PGSSLMODE", "disable")
            .kill_on_drop(true);
        let run = tokio::time::timeout(std::time::Duration::from_secs(30), command.output());
        run.await.expect("psql ends").expect("psql runs")
    }

    pub(crate) async fn stop(mut self) -> PathBuf {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.await.expect("it ends");
        }
        self.state.clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
    }
}
