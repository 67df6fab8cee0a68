//! [`Dial`] and [`Fetch`] against a PostgreSQL server started for the test; skipped by name when there is none.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test against a server has a socket")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bytes::BytesMut;
use chancery_wire_pg::{
    Dial, DialConfig, DialError, DialReady, DialStep, DialTls, Fetch, FetchError, FetchLimits, FetchStep, Fetched,
};
use zeroize::Zeroizing;

const WANTED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where the server's programs are, or what is missing.
fn programs() -> Result<PathBuf, String> {
    let mut places: Vec<PathBuf> = std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort();
    places.extend(installed.into_iter().rev());
    places
        .into_iter()
        .find(|place| WANTED.iter().all(|program| place.join(program).is_file()))
        .ok_or_else(|| format!("{WANTED:?} in PG_BIN or /usr/lib/postgresql/*/bin"))
}

/// Runs a program as somebody a server may run as: root must become `postgres`.
fn run(program: &Path, arguments: &[&str]) -> Result<Output, String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let mut command = if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).current_dir("/").output().map_err(|error| format!("{}: {error}", program.display()))
}

/// A server in a directory of its own; stopped and removed at the end.
struct Server {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
}

impl Server {
    /// `None`, with the reason printed, when this machine has no server.
    fn start(name: &str) -> Option<Self> {
        let programs = match programs() {
            Ok(programs) => programs,
            Err(missing) => {
                eprintln!("skipped: no PostgreSQL server found; missing {missing}");
                return None;
            }
        };
        let directory = std::env::temp_dir().join(format!("chancery-wire-pg-{name}-{}", std::process::id()));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let server = Self { programs, directory, port };
        server.initialise();
        Some(server)
    }

    fn data(&self) -> String {
        self.directory.join("data").display().to_string()
    }

    fn initialise(&self) {
        // The directory is made by whoever the server runs as, so that it can write there.
        let made = run(Path::new("mkdir"), &["-p", &self.directory.display().to_string()]).expect("mkdir");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let data = self.data();
        let arguments = ["-D", &data, "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"];
        let made = run(&self.programs.join("initdb"), &arguments).expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let rules = "host all admin 127.0.0.1/32 trust\nhost all by_scram 127.0.0.1/32 scram-sha-256\n\
                     host all by_md5 127.0.0.1/32 md5\nhost all by_password 127.0.0.1/32 password\n";
        let script = format!("printf '%s' '{rules}' > {data}/pg_hba.conf");
        assert!(run(Path::new("/bin/sh"), &["-c", &script]).expect("sh").status.success());
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= -c fsync=off -c ssl=off",
            self.port
        );
        let log = self.directory.join("log").display().to_string();
        let arguments = ["-D", &data, "-l", &log, "-o", &options, "-w", "start"];
        let started = run(&self.programs.join("pg_ctl"), &arguments).expect("pg_ctl");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stdout));
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _stopped = run(&self.programs.join("pg_ctl"), &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
        let _removed = run(Path::new("rm"), &["-rf", &self.directory.display().to_string()]);
    }
}

fn config(user: &str, password: &[u8]) -> DialConfig {
    let password = Zeroizing::new(password.to_vec());
    DialConfig {
        tls: DialTls::Prefer,
        clear_password_allowed: true,
        ..DialConfig::new(user.to_owned(), "postgres".to_owned(), password, [3; 18])
    }
}

/// What a driver does, in a few lines.
fn dial(server: &Server, config: DialConfig) -> Result<(TcpStream, DialReady, u32), DialError> {
    let mut socket = server.connect();
    let mut dial = Dial::new(config)?;
    let mut buffer = [0; 4096];
    let mut derivations = 0;
    let mut step = DialStep::Wait;
    loop {
        if let Some(bytes) = dial.transmit() {
            socket.write_all(&bytes).expect("the server reads");
        }
        step = match step {
            DialStep::Wait => {
                let count = socket.read(&mut buffer).expect("the server answers");
                assert_ne!(count, 0, "the server closed");
                dial.receive(&buffer[..count])
            }
            DialStep::Derive(work) => {
                derivations += 1;
                dial.derived(work.run())
            }
            DialStep::Ready(ready) => return Ok((socket, *ready, derivations)),
            DialStep::Failed(error) => return Err(error),
            DialStep::StartTls => panic!("this server has no TLS"),
        };
    }
}

fn fetch(socket: &mut TcpStream, sql: &str, limits: FetchLimits) -> Result<Fetched, FetchError> {
    let (mut fetch, question) = Fetch::new(sql, limits).expect("no zero byte");
    socket.write_all(&question).expect("the server reads");
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).expect("the server answers");
        assert_ne!(count, 0, "the server closed");
        match fetch.receive(&buffer[..count]) {
            FetchStep::Wait => {}
            FetchStep::Done(fetched) => return Ok(fetched),
            FetchStep::Failed(error) => return Err(error),
        }
    }
}

fn one(fetched: &Fetched) -> String {
    let value = fetched.rows.first().and_then(|row| row.first()).and_then(Option::as_ref).expect("one value");
    String::from_utf8(value.to_vec()).expect("UTF-8")
}

#[test]
fn a_real_server_lets_us_in_by_every_method() {
    let Some(server) = Server::start("dial") else { return };
    let (mut admin, ready, _) = dial(&server, config("admin", b"")).expect("trusted");
    assert!(ready.parameters.iter().any(|(name, _)| name == "server_version") && ready.key.is_some());
    let roles = "set password_encryption = 'scram-sha-256'; create role by_scram login password 'I\u{ad}X pencil';
        create role by_password login password 'pencil'; set password_encryption = 'md5';
        create role by_md5 login password 'pencil'";
    fetch(&mut admin, roles, FetchLimits::default()).expect("roles are made");

    let (mut socket, ready, derivations) =
        dial(&server, config("by_scram", "I\u{ad}X pencil".as_bytes())).expect("SCRAM");
    assert_eq!((derivations, ready.minor, ready.secure, ready.tx_status), (1, 0, false, b'I'));
    assert_eq!(one(&fetch(&mut socket, "select current_user", FetchLimits::default()).expect("a row")), "by_scram");
    // SASLprep makes both spellings one password, and the keys are good for the next login.
    let again = DialConfig { scram_keys: ready.scram_keys, ..config("by_scram", b"IX pencil") };
    let (_, ready, derivations) = dial(&server, again).expect("SCRAM with kept keys");
    assert_eq!((derivations, ready.scram_keys.is_some()), (0, true));
    assert!(dial(&server, config("by_scram", b"IX pencil")).is_ok());

    for user in ["by_md5", "by_password"] {
        assert!(dial(&server, config(user, b"pencil")).is_ok(), "{user}");
    }
    for user in ["by_scram", "by_md5", "by_password"] {
        let Err(DialError::Server(report)) = dial(&server, config(user, b"wrong")) else { panic!("{user} got in") };
        assert_eq!((report.sqlstate.as_str(), report.fatal), ("28P01", true), "{user}");
    }
    let required = DialConfig { tls: DialTls::Require, ..config("admin", b"") };
    assert_eq!(dial(&server, required).err(), Some(DialError::TlsRefused));
    let guarded = DialConfig { clear_password_allowed: false, ..config("by_password", b"pencil") };
    assert_eq!(dial(&server, guarded).err(), Some(DialError::ClearPasswordRefused));
}

#[test]
fn a_real_server_answers_negotiates_and_cancels() {
    let Some(server) = Server::start("fetch") else { return };
    let newer = DialConfig {
        minor: 2,
        parameters: vec![("application_name".to_owned(), "chancery".to_owned())],
        ..config("admin", b"")
    };
    let (mut socket, ready, _) = dial(&server, newer).expect("trusted");
    let version = ready.parameters.iter().find(|(name, _)| name == "server_version").map(|(_, v)| v.as_str());
    let major: u32 = version.and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok()).expect("a version");
    assert_eq!(ready.minor, if major >= 18 { 2 } else { 0 }, "PostgreSQL {major}");
    let key = ready.key.expect("a key");

    let limits = FetchLimits::default();
    assert_eq!(one(&fetch(&mut socket, "show application_name", limits).expect("a row")), "chancery");
    let fetched = fetch(&mut socket, "select n, null from generate_series(1, 5000) n", limits).expect("rows");
    assert_eq!((fetched.rows.len(), fetched.rows[4999][1].as_ref()), (5000, None));
    let Err(FetchError::Server(report)) = fetch(&mut socket, "select * from nowhere", limits) else {
        panic!("there is no such table")
    };
    assert_eq!(report.sqlstate.as_str(), "42P01");

    // A cancel on another connection ends what runs on this one.
    let (mut waiting, question) = Fetch::new("select pg_sleep(60)", limits).expect("no zero byte");
    socket.write_all(&question).expect("the server reads");
    let (mut observer, ..) = dial(&server, config("admin", b"")).expect("trusted");
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'";
    while one(&fetch(&mut observer, running, limits).expect("a row")) != "1" {}
    let mut request = BytesMut::new();
    key.write_request(&mut request);
    server.connect().write_all(&request).expect("the server reads");
    let mut buffer = [0; 4096];
    let step = loop {
        let count = socket.read(&mut buffer).expect("the server answers");
        match waiting.receive(&buffer[..count]) {
            FetchStep::Wait => assert_ne!(count, 0, "the server closed"),
            other => break other,
        }
    };
    let FetchStep::Failed(FetchError::Server(report)) = step else { panic!("{step:?}") };
    assert_eq!(report.sqlstate.as_str(), "57014");

    let few = FetchLimits { rows_max: 10, ..limits };
    assert!(matches!(
        fetch(&mut socket, "select generate_series(1, 100)", few),
        Err(FetchError::Wire(chancery_wire::WireError::LimitReached(..)))
    ));
}
