//! What the story needs: a directory, a PostgreSQL, an issuer, a gateway, tokens and a reviewer's key.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::issuer::{self, AUDIENCE, DemoIssuer};
use super::postgres::{self, Programs, Server};
use super::process;
use super::tell::Teller;
use crate::commands::ledger::ROOTS_FILE;
use crate::oauth::{Login, Wishes};
use crate::output::Failure;

/// Ports below those that the kernel hands out by itself, so that no outgoing connection takes one in between.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const START_TRIES: u32 = 300;

const RULES: &str = r#"// The demo's rules. Nothing passes that no rule permits.

@id("analysts-connect")
permit (principal in Group::"analysts", action == Action::"connect", resource == Resource::"shop");

@id("analysts-read")
permit (principal in Group::"analysts", action == Action::"read", resource in Resource::"shop");

// Held until a reviewer of the review rule "dba" approves this very command.
@id("writes-are-reviewed")
permit (principal in Group::"analysts", action == Action::"write", resource in Resource::"shop")
when { context.reviews.contains("dba") };

@id("no-ddl")
forbid (principal, action == Action::"define", resource in Resource::"shop");
"#;

/// Everything, running. Dropped, its children are killed and its directory is removed.
pub(super) struct Stage {
    gateway: Child,
    pub(super) database: Server,
    issuer: DemoIssuer,
    /// The gateway's port for PostgreSQL.
    pub(super) port: u16,
    /// The API's.
    https: u16,
    pub(super) psql: PathBuf,
    program: PathBuf,
    /// The log's roots, as they were before anything happened.
    pub(super) roots: String,
    pub(super) directory: Directory,
}

/// The demo's directory; removed when dropped, unless the user named it.
pub(super) struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn make(named: Option<&Path>) -> Result<Self, Failure> {
        let (path, keep) = match named {
            Some(path) => (std::path::absolute(path).map_err(Failure::usage)?, true),
            None => (std::env::temp_dir().join(format!("chancery-demo-{}", word()?)), false),
        };
        // Others may pass through, not look: PostgreSQL's account needs to reach its own part.
        let made = fs::DirBuilder::new().mode(0o711).create(&path);
        made.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let directory = Self { path, keep };
        let private = directory.file("files");
        fs::DirBuilder::new().mode(0o700).create(&private).map_err(Failure::unsure)?;
        Ok(directory)
    }
    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("warning: {} is left behind: {error}", self.path.display());
        }
    }
}

impl Stage {
    /// Builds and starts everything.
    pub(super) async fn set(named: Option<&Path>, tell: &Teller) -> Result<Self, Failure> {
        let programs = Programs::find()?;
        let program = std::env::current_exe().map_err(Failure::unsure)?;
        let directory = Directory::make(named)?;
        tell.line("Chancery demo: a private PostgreSQL, an issuer and a gateway, all on loopback.");
        let role_password = word()?;
        let home = directory.file("postgres");
        let database = Server::start(&programs, &home, free_port()?, word()?, &role_password).await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let cast = issuer::cast().map_err(Failure::unsure)?;
        let issuer = DemoIssuer::start(address, cast).await.map_err(Failure::unsure)?;
        let (port, https) = (free_port()?, free_port()?);

        let gateway = directory.file("files/gateway");
        let chancery = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments);
            command
        };
        let path = gateway.display().to_string();
        process::must(&mut chancery(&["init", &path]), "chancery init").await?;
        certificates(&gateway)?;
        write(&gateway.join("chancery.toml"), &configuration(&database, issuer.url(), port, https))?;
        clear_rules(&gateway.join("policies"))?;
        write(&gateway.join("policies/demo.cedar"), RULES)?;
        let roots = roots(&gateway.join("state"), &directory.file("files/auditor.roots"))?;
        let config = gateway.join("chancery.toml").display().to_string();

        let secret = directory.file("files/shop-password");
        write(&secret, &role_password)?;
        let secret = secret.display().to_string();
        let set = ["secret", "set", "shop", "--username", postgres::ROLE, "--file", &secret, "--config", &config];
        process::must(&mut chancery(&set), "chancery secret set").await?;
        let key = directory.file("files/dana-key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "dana", "-f"]).arg(&key);
        process::must(&mut keygen, "ssh-keygen").await?;
        let public = format!("{}.pub", key.display());
        let enrol = ["reviewer", "add-key", "dana", &public, "--config", &config];
        process::must(&mut chancery(&enrol), "chancery reviewer add-key").await?;

        let mut serve = chancery(&["serve", "--config", &config]);
        let gateway = process::start(&mut serve, &directory.file("files/gateway.log"), "chancery serve")?;
        let psql = programs.psql;
        let mut stage = Self { gateway, database, issuer, port, https, psql, program, roots, directory };
        stage.ready(tell).await?;
        stage.write_secrets()?;
        stage.write_tokens().await?;
        tell.say(&format!(
            "PostgreSQL on port {}, issuer {}, gateway on ports {port} (psql) and {https} (API)",
            stage.database.port,
            stage.issuer.url()
        ));
        Ok(stage)
    }

    async fn ready(&mut self, tell: &Teller) -> Result<(), Failure> {
        for _ in 0..START_TRIES {
            let ports = [self.port, self.https].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            if tokio::net::TcpStream::connect(ports[0]).await.is_ok()
                && tokio::net::TcpStream::connect(ports[1]).await.is_ok()
            {
                return Ok(());
            }
            if self.gateway.try_wait().map_err(Failure::unsure)?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.show_log(tell);
        Err(Failure::unsure("the gateway does not start"))
    }

    /// A file among the demo's private ones.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.file("files").join(name)
    }
    pub(super) fn config(&self) -> PathBuf {
        self.file("gateway/chancery.toml")
    }
    pub(super) fn ca(&self) -> PathBuf {
        self.file("gateway/ca.pem")
    }
    pub(super) fn api(&self) -> String {
        format!("https://localhost:{}", self.https)
    }
    pub(super) fn issuer(&self) -> &str {
        self.issuer.url()
    }

    /// Writes the secrets that the cast has at the issuer, for `chancery token` by hand.
    fn write_secrets(&self) -> Result<(), Failure> {
        let mut cast = self.issuer.accounts().iter();
        cast.try_for_each(|of| write(&self.file(&format!("{}.secret", of.name)), &of.secret))
    }
    /// Gets tokens from the issuer, by its endpoints, and writes them to files.
    pub(super) async fn write_tokens(&self) -> Result<(), Failure> {
        let login = |name: &str| -> Result<Login, Failure> {
            let account = self.issuer.account(name).ok_or_else(|| Failure::unsure("the cast is not complete"))?;
            Ok(account.login())
        };
        let chain = [login("report-agent")?, login("sql-helper")?];
        for (name, principal, agents) in
            [("agent.token", "alice", &chain[..]), ("alice.token", "alice", &[]), ("dana.token", "dana", &[])]
        {
            let token = issuer::mint(self.issuer.url(), &login(principal)?, agents, &Wishes::default()).await;
            write(&self.file(name), &token.map_err(Failure::unsure)?)?;
        }
        Ok(())
    }
    /// The program itself, with these arguments.
    pub(super) fn chancery(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }
    /// The same as somebody who speaks with the API.
    pub(super) fn remote(&self, arguments: &[&str], token: &str) -> Command {
        let mut command = self.chancery(arguments);
        command.env("CHANCERY_GATEWAY", self.api()).env("CHANCERY_CA", self.ca());
        command.env("CHANCERY_TOKEN_FILE", self.file(token));
        command
    }
    /// psql through the gateway: the resource is the database, the token is the password.
    pub(super) fn client(&self, user: &str, token: &str) -> Result<Command, Failure> {
        let token = fs::read_to_string(self.file(token)).map_err(Failure::unsure)?;
        let mut command = Command::new(&self.psql);
        command.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1").env("PGPORT", self.port.to_string());
        command.env("PGDATABASE", postgres::DATABASE).env("PGUSER", user).env("PGPASSWORD", token);
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", self.ca()).arg("-X");
        Ok(command)
    }

    /// Returns when one of them ends, with its name.
    pub(super) async fn ended(&mut self) -> &'static str {
        tokio::select! {
            _ = self.gateway.wait() => "the gateway",
            () = self.database.ended() => "PostgreSQL",
        }
    }
    /// The end of the gateway's log, when something went wrong.
    pub(super) fn show_log(&self, tell: &Teller) {
        let log = fs::read_to_string(self.file("gateway.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        tell.line("   the gateway's log ends with:");
        tell.output(&lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    /// Ends everything in order.
    pub(super) async fn strike(mut self) {
        process::stop(&mut self.gateway, Signal::TERM).await;
        self.database.stop().await;
    }
}

/// 16 random bytes as a word.
fn word() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    chancery_store::random(&mut bytes).map_err(Failure::unsure)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A port of loopback that nobody has now.
fn free_port() -> Result<u16, Failure> {
    for _ in 0..200 {
        let mut bytes = [0; 2];
        chancery_store::random(&mut bytes).map_err(Failure::unsure)?;
        let port = PORTS.start + u16::from_be_bytes(bytes) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::unsure("there is no free port between 20000 and 32000"))
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))
}

/// The example rules of `init` make way for the demo's.
fn clear_rules(directory: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).map_err(Failure::unsure)? {
        let path = entry.map_err(Failure::unsure)?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            fs::remove_file(path).map_err(Failure::unsure)?;
        }
    }
    Ok(())
}

/// The auditor's own copy of the roots, from before anything happened.
fn roots(state: &Path, kept: &Path) -> Result<String, Failure> {
    fs::copy(state.join(ROOTS_FILE), kept).map_err(Failure::unsure)?;
    Ok(kept.display().to_string())
}

/// An authority of the demo's own, and a certificate for `localhost` by it.
fn certificates(directory: &Path) -> Result<(), Failure> {
    let make = || -> Result<(String, String, String), rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Chancery demo authority");
        let authority_key = KeyPair::generate()?;
        let ca = authority.self_signed(&authority_key)?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?;
        Ok((ca.pem(), certificate.pem(), key.serialize_pem()))
    };
    let (ca, certificate, key) = make().map_err(Failure::unsure)?;
    write(&directory.join("ca.pem"), &ca)?;
    write(&directory.join("server.pem"), &certificate)?;
    write(&directory.join("server.key"), &key)
}

fn configuration(database: &Server, issuer: &str, port: u16, https: u16) -> String {
    let (server, name) = (database.port, postgres::DATABASE);
    format!(
        r#"[gateway]
name  = "demo"
state = "state"

[tls]
certificate = "server.pem"
key         = "server.key"

[listen]
postgres = "127.0.0.1:{port}"
https    = "127.0.0.1:{https}"

[[issuer]]
url      = "{issuer}"
audience = "{AUDIENCE}"

[[resource]]
name     = "shop"
protocol = "postgres"
address  = "127.0.0.1:{server}"
database = "{name}"
tls      = {{ mode = "disable" }}
secret   = "shop"
labels   = {{ env = "demo" }}

[[mask]]
resource = "shop"
columns  = ["public.customers.email", "public.customers.card", "public.payments.card"]
tag      = "pii"
with     = "partial"

[[mask]]
resource = "shop"
columns  = ["public.customers.ssn"]
tag      = "pii"
with     = "redact"

[[mask]]
detect = ["card", "email"]
with   = "redact"

[policy]
directory = "policies"

[[review]]
name      = "dba"
reviewers = ["Group::\"dba\""]
quorum    = 1
expires   = "15m"
assurance = "signed"
"#
    )
}
