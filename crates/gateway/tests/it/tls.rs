//! TLS on both legs, with real certificates and a real server (bug class B4).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use chancery_gateway::{Gateway, OpenError, Settings, TlsIdentity, UpstreamTls};
use chancery_ledger::EntryKind;
use chancery_model::Digest;
use chancery_store::{Catalog, StateDir};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as CertificateIssuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use crate::rig::{Message, Raw, complaint, field, finish, listen, log, of, sqlstate, tags, values};
use crate::world::{Postgres, Setup, World};
use crate::{ALLOW_ALL, err, out};

/// A certificate authority of the test's own.
struct Authority {
    pem: String,
    issuer: CertificateIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Self { pem, issuer: CertificateIssuer::new(params, key) }
    }

    /// Certificate and key of a server with these names, PEM.
    fn server(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        (params.signed_by(&key, &self.issuer).expect("it signs").pem(), key.serialize_pem())
    }

    fn identity(&self, names: &[&str]) -> TlsIdentity {
        let (certificate, key) = self.server(names);
        TlsIdentity { certificate: certificate.into_bytes(), key: key.into_bytes() }
    }
}

fn connector(authority: &Authority, alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn socket(port: u16) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens")
}

fn ssl_request() -> Vec<u8> {
    [8_i32.to_be_bytes(), 80_877_103_i32.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_inside_tls() {
    listen();
    let authority = Authority::new("listener authority");
    let setup = Setup { tls: Some(authority.identity(&["localhost", "127.0.0.1"])), ..Setup::new("tls", ALLOW_ALL) };
    let Some(world) = World::with(setup).await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let root = world.state.join("root.pem");
    std::fs::write(&root, &authority.pem).expect("own file");
    for mode in ["require", "verify-ca", "verify-full"] {
        let sql = "select 'inside', count(*) from generate_series(1, 100000)";
        let mut command = world.psql_command(&token, &["-c", sql]);
        command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", &root);
        let done = command.output().await.expect("psql runs");
        assert_eq!(out(&done), "inside|100000", "{mode}: {}", err(&done));
    }
    // A large answer and a large question cross the record layer.
    let mut command = world.psql_command(&token, &["-c", "select repeat('x', 3000000)"]);
    let done = command.env("PGSSLMODE", "require").output().await.expect("psql runs");
    assert_eq!(out(&done).len(), 3_000_000, "{}", err(&done));
    let long = format!("select length('{}')", "y".repeat(100_000));
    let mut command = world.psql_command(&token, &["-c", &long]);
    let done = command.env("PGSSLMODE", "require").output().await.expect("psql runs");
    assert_eq!(out(&done), "100000", "{}", err(&done));

    // Without asking first, as libpq 17 does with sslnegotiation=direct.
    let name = || ServerName::try_from("localhost").expect("a name");
    let direct = connector(&authority, &[b"postgresql"]).connect(name(), socket(world.port).await).await;
    let mut raw = Raw::over(direct.expect("a handshake"));
    assert_eq!(raw.log_in(&token, &[]).await.tag, 'Z');
    assert_eq!(values(&raw.query("select 'direct'").await), ["direct"]);
    Raw::cancel(world.port, &raw.key).await;
    drop(raw);
    // Direct, and not for us: no protocol named, or another one.
    for alpn in [&[][..], &[b"http/1.1".as_slice()]] {
        if let Ok(stream) = connector(&authority, alpn).connect(name(), socket(world.port).await).await {
            let mut raw = Raw::over(stream);
            raw.startup(&[]).await;
            assert_eq!(raw.next().await, None, "{alpn:?}");
        }
    }
    // Bytes in clear behind the request for TLS (CVE-2021-23214): nothing of them is served.
    let mut raw = Raw::connect(world.port).await;
    let mut startup = 196_608_i32.to_be_bytes().to_vec();
    startup.extend(b"user\0a\0database\0shop\0\0");
    let startup = [((startup.len() + 4) as i32).to_be_bytes().to_vec(), startup].concat();
    raw.bytes(&[ssl_request(), startup].concat()).await;
    let first = raw.byte().await;
    assert_ne!(first, Some(b'S'));
    while raw.byte().await.is_some() {}
    // A second request inside.
    let mut plain = socket(world.port).await;
    tokio::io::AsyncWriteExt::write_all(&mut plain, &ssl_request()).await.expect("sent");
    let mut yes = [0];
    tokio::io::AsyncReadExt::read_exact(&mut plain, &mut yes).await.expect("an answer");
    assert_eq!(yes, *b"S");
    let stream = connector(&authority, &[b"postgresql"]).connect(name(), plain).await.expect("a handshake");
    let mut raw = Raw::over(stream);
    raw.bytes(&ssl_request()).await;
    assert_eq!(raw.next().await.expect("an answer").field('C'), "08P01");

    let started = of(&world, EntryKind::SessionOpen).len();
    assert_eq!(started, 6);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_for_others_needs_tls() {
    listen();
    let state = std::env::temp_dir().join(format!("chancery-clear-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&state);
    let authority = Authority::new("listener authority");
    for (tls, clear_text) in [(false, false), (false, true), (true, false)] {
        let _ = std::fs::remove_dir_all(&state);
        let directory = StateDir::create(&state, "gw.test/a").expect("a state directory");
        Catalog::create(&directory.catalog()).await.expect("a catalog").close().await;
        let source = chancery_policy::Source { path: "test.cedar".into(), text: ALLOW_ALL.into() };
        let rules = chancery_policy::RuleSet::load(vec![source], Vec::new(), &[]).expect("rules");
        let port = crate::world::free_port();
        let settings = Settings {
            name: "a".into(),
            tls: tls.then(|| authority.identity(&["localhost"])),
            postgres: Some(([0, 0, 0, 0], port).into()),
            clear_text,
            issuers: Vec::new(),
            resources: Vec::new(),
            witnesses: None,
            witness_ca: None,
            max_unwitnessed: std::time::Duration::from_secs(900),
            archive: None,
            retention: chancery_store::RetentionLimits::default(),
            rules: Arc::new(rules),
            config: Digest::default(),
            dangerous: Vec::new(),
            version: "test",
        };
        let gateway = Gateway::open(directory, settings).await.expect("it opens");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = gateway.clone();
        let served = tokio::spawn(async move { serving.serve(async move { drop(stopped.await) }).await });
        if !tls && !clear_text {
            let refused = served.await.expect("it ends").expect_err("tokens in clear text from other hosts");
            assert!(matches!(refused, OpenError::ClearText(_)), "{refused}");
            continue;
        }
        crate::rig::until("a listener", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        let mut raw = Raw::connect(port).await;
        raw.startup(&[]).await;
        let answer = raw.next().await.expect("an answer");
        if tls {
            assert_eq!((answer.tag, answer.field('C').as_str()), ('E', "28000"), "{}", answer.text());
            assert!(answer.field('M').contains("TLS"), "{}", answer.text());
        } else {
            assert_eq!(answer.tag, 'R', "{}", answer.text());
        }
        drop(stop);
        served.await.expect("it ends").expect("in order");
    }
    let _ = std::fs::remove_dir_all(&state);
}

/// A server with TLS whose certificate names `localhost`, and which wants SCRAM of the role `app` and TLS of everybody.
fn secured(name: &str, authority: &Authority) -> Option<Postgres> {
    let (certificate, key) = authority.server(&["localhost"]);
    let prepare = |data: &Path| {
        std::fs::write(data.join("server.crt"), certificate).expect("own file");
        std::fs::write(data.join("server.key"), key).expect("own file");
        let hba = "hostssl all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), hba).expect("own file");
        let owned = Command::new("sh")
            .arg("-c")
            .arg("chmod 600 server.key && { [ $(id -u) != 0 ] || chown postgres server.key server.crt; }")
            .current_dir(data)
            .status();
        assert!(owned.expect("sh runs").success());
    };
    let postgres = Postgres::start_with(name, "-c ssl=on -c log_connections=on", prepare)?;
    postgres.direct("create role app login password 'app-secret-9c27'");
    Some(postgres)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_are_dialled_inside_tls_as_their_mode_says() {
    listen();
    let (authority, stranger) = (Authority::new("resource authority"), Authority::new("another authority"));
    let ours = || authority.pem.clone().into_bytes();
    let theirs = || stranger.pem.clone().into_bytes();
    let Some(mut server) = secured("upstream", &authority) else { return };
    let cases: [(&str, UpstreamTls, &str, bool); 10] = [
        ("require", UpstreamTls::Require, "127.0.0.1", true),
        ("prefer", UpstreamTls::Prefer, "127.0.0.1", true),
        ("disable", UpstreamTls::Disable, "127.0.0.1", false),
        ("verify-ca", UpstreamTls::VerifyCa(ours()), "localhost", true),
        ("verify-ca-other-name", UpstreamTls::VerifyCa(ours()), "127.0.0.1", true),
        ("verify-ca-stranger", UpstreamTls::VerifyCa(theirs()), "localhost", false),
        ("verify-full", UpstreamTls::VerifyFull(ours()), "localhost", true),
        ("verify-full-other-name", UpstreamTls::VerifyFull(ours()), "127.0.0.1", false),
        ("verify-full-stranger", UpstreamTls::VerifyFull(theirs()), "localhost", false),
        ("require-again", UpstreamTls::Require, "localhost", true),
    ];
    for (name, upstream, host, works) in cases {
        let setup = Setup {
            upstream,
            upstream_host: host.into(),
            user: "app".into(),
            password: "app-secret-9c27".into(),
            postgres: Some(server),
            ..Setup::new(&format!("up-{name}"), ALLOW_ALL)
        };
        let world = World::with(setup).await.expect("the server is there");
        let token = world.issuer.token("alice", &[], &[]);
        let sql = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()";
        let mut raw = Raw::connect(world.port).await;
        let answer: Message = raw.log_in(&token, &[]).await;
        if works {
            assert_eq!(answer.tag, 'Z', "{name}: {}", answer.text());
            assert_eq!(values(&raw.query(sql).await), ["t", "TLSv1.3"], "{name}");
            // A second login uses the keys kept from the first.
            assert_eq!(out(&world.psql(&token, &["-c", "select 2"]).await), "2");
        } else {
            assert_eq!((answer.tag, answer.field('C').as_str()), ('E', "08006"), "{name}: {}", answer.text());
        }
        drop(raw);
        server = release(world).await;
    }
    let lines = log();
    assert!(lines.iter().all(|line| !line.contains("app-secret-9c27")), "no secret in the log");
}

/// Ends a world and hands its server on.
async fn release(mut world: World) -> Postgres {
    world.end().await;
    let World { postgres, .. } = world;
    postgres
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_binds_to_the_channel() {
    listen();
    let authority = Authority::new("resource authority");
    let Some(server) = secured("scram", &authority) else { return };
    let setup = Setup {
        upstream: UpstreamTls::VerifyFull(authority.pem.clone().into_bytes()),
        upstream_host: "localhost".into(),
        user: "app".into(),
        password: "app-secret-9c27".into(),
        postgres: Some(server),
        ..Setup::new("scram", ALLOW_ALL)
    };
    let world = World::with(setup).await.expect("the server is there");
    let token = world.issuer.token("alice", &[], &[]);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let answer = raw.query("select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()").await;
    assert_eq!(values(&answer), ["app", "t"], "{}", complaint(&answer));
    // A cancel reaches a server that speaks TLS, too.
    raw.ask("select pg_sleep(30)").await;
    let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and pid <> pg_backend_pid()";
    crate::rig::until("a sleep", async || (world.postgres.direct(sql) == "1").then_some(())).await;
    Raw::cancel(world.port, &raw.key).await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).chars().last(), sqlstate(&answer).as_str()), (Some('Z'), "57014"));
    drop(raw);
    let leaves = finish(world).await;
    let ends: Vec<_> = leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::ActDone)).collect();
    assert_eq!(ends.iter().map(|leaf| field(leaf, "out")).collect::<Vec<_>>(), ["completed", "cancelled"]);
}

/// Somebody in between, with a certificate of their own: TLS to the gateway, TLS to the server, everything passed on.
async fn between(authority: &Authority, server: u16) -> u16 {
    let (certificate, key) = authority.server(&["localhost"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("an identity");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // The server's own certificate is the other authority's; somebody in between does not care.
    let trusting = connector(authority, &[]);
    tokio::spawn(async move {
        while let Ok((mut victim, _)) = listener.accept().await {
            let mut request = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut victim, &mut request).await.expect("a request for TLS");
            tokio::io::AsyncWriteExt::write_all(&mut victim, b"S").await.expect("sent");
            let Ok(mut victim) = acceptor.accept(victim).await else { continue };
            let mut onward = socket(server).await;
            tokio::io::AsyncWriteExt::write_all(&mut onward, &request).await.expect("sent");
            let mut yes = [0];
            tokio::io::AsyncReadExt::read_exact(&mut onward, &mut yes).await.expect("an answer");
            let name = ServerName::try_from("localhost").expect("a name");
            let mut onward = trusting.connect(name, onward).await.expect("a handshake");
            // Either may hang up.
            let _ = tokio::io::copy_bidirectional(&mut victim, &mut onward).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_in_between_is_found_out_by_the_channel_binding() {
    listen();
    let authority = Authority::new("resource authority");
    let Some(server) = secured("between", &authority) else { return };
    let port = between(&authority, server.port).await;
    let mut server = Some(server);
    for (name, upstream_port) in [("between-them", Some(port)), ("between-none", None)] {
        let setup = Setup {
            // The mode that asks for no identity: only the binding is left to tell.
            upstream: UpstreamTls::Require,
            upstream_port,
            user: "app".into(),
            password: "app-secret-9c27".into(),
            postgres: server.take(),
            ..Setup::new(name, ALLOW_ALL)
        };
        let world = World::with(setup).await.expect("the server is there");
        let mut raw = Raw::connect(world.port).await;
        let answer = raw.log_in(&world.issuer.token("alice", &[], &[]), &[]).await;
        assert_eq!(answer.tag, if upstream_port.is_some() { 'E' } else { 'Z' }, "{}", answer.text());
        drop(raw);
        server = Some(release(world).await);
    }
    let said = server.expect("it came back").log();
    assert!(said.contains("SCRAM channel binding check failed"), "{said}");
}
