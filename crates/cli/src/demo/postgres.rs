//! A private PostgreSQL with sample data. It listens on loopback only, with passwords made up at start.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::process::{self, Finished};
use crate::output::Failure;

/// The database, and the superuser of the server.
pub(super) const DATABASE: &str = "shop";
const ADMIN: &str = "demo_admin";
/// The role that the gateway logs in as. It owns the tables: nothing but the gateway stops it.
pub(super) const ROLE: &str = "shop_app";
const START_TRIES: u32 = 200;

/// Names, addresses and numbers are made up; the card numbers are those that card schemes publish for tests.
pub(super) const SAMPLE: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, card text, ssn text, city text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, item text, total numeric(8,2), at date);
CREATE TABLE payments (id int PRIMARY KEY, orders int REFERENCES orders, card text, amount numeric(8,2));
INSERT INTO customers VALUES
  (1, 'Mina Okafor', 'mina.okafor@mail.example', '4111111111111111', '219-09-9999', 'Lagos'),
  (2, 'Jonas Lindqvist', 'jonas@post.example', '5555555555554444', '457-55-5462', 'Uppsala'),
  (3, 'Sofia Marin', 'sofia.marin@mail.example', '378282246310005', '078-05-1120', 'Sevilla'),
  (4, 'Tom Barker', 'tbarker@web.example', '6011111111111117', '219-09-0001', 'Leeds'),
  (5, 'Yuki Tanaka', 'yuki@post.example', '4012888888881881', '457-55-0002', 'Osaka');
INSERT INTO orders VALUES
  (1, 1, 'desk lamp', 39.00, '2024-03-01'), (2, 2, 'kettle', 24.50, '2024-03-02'),
  (3, 3, 'rug', 120.00, '2024-05-11'), (4, 5, 'chair', 89.90, '2025-01-07'), (5, 1, 'clock', 15.00, '2025-02-20');
INSERT INTO payments VALUES
  (1, 1, '4111111111111111', 39.00), (2, 2, '5555555555554444', 24.50), (3, 3, '378282246310005', 120.00);
";

/// What must never be seen through the gateway.
pub(super) const SENSITIVE: [&str; 6] = [
    "mina.okafor@mail.example",
    "4111111111111111",
    "219-09-9999",
    "jonas@post.example",
    "5555555555554444",
    "457-55-5462",
];

/// Where the programs are.
pub(super) struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    pub(super) psql: PathBuf,
    /// The account that the server runs as: PostgreSQL refuses root.
    account: Option<(u32, u32)>,
}

impl Programs {
    /// # Errors
    /// What is missing, and how to install it.
    pub(super) fn find() -> Result<Self, Failure> {
        let missing = |what: &str, package: &str| {
            Failure::unsure(format!("the demo needs {what}, which is not here"))
                .hint(format!("on Debian: apt-get install {package}; elsewhere put it on the PATH"))
        };
        let server = |name: &str| {
            newest()
                .map(|directory| directory.join(name))
                .filter(|file| file.is_file())
                .or_else(|| process::on_path(name))
        };
        let initdb = server("initdb").ok_or_else(|| missing("PostgreSQL's server programs (initdb)", "postgresql"))?;
        let postgres = server("postgres").ok_or_else(|| missing("PostgreSQL's server (postgres)", "postgresql"))?;
        let psql = process::on_path("psql").or_else(|| server("psql"));
        let psql = psql.ok_or_else(|| missing("psql", "postgresql-client"))?;
        process::on_path("ssh-keygen").ok_or_else(|| missing("ssh-keygen", "openssh-client"))?;
        let account = if rustix::process::geteuid().is_root() {
            let hint =
                "as root the demo runs PostgreSQL as the user postgres: make one, or run the demo as another user";
            let account = account("postgres");
            Some(account.ok_or_else(|| Failure::unsure("there is no user postgres").hint(hint))?)
        } else {
            None
        };
        Ok(Self { initdb, postgres, psql, account })
    }
    fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(home).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }
}

/// The newest of Debian's directories of server programs.
fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.map(|entry| entry.path()).max_by_key(number).map(|path| path.join("bin"))
}

/// User and group number of an account, by `/etc/passwd`.
fn account(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The running server.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    psql: PathBuf,
    password: String,
}

impl Server {
    /// Makes a cluster under `home` and starts it, with the sample data in it and `role_password` for [`ROLE`].
    pub(super) async fn start(
        programs: &Programs,
        home: &Path,
        port: u16,
        password: String,
        role_password: &str,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::unsure(format!("{}: {error}", home.display()));
        std::fs::create_dir(home).map_err(failed)?;
        let (data, secret, log) = (home.join("data"), home.join("admin-password"), home.join("log"));
        std::fs::write(&secret, format!("{password}\n")).map_err(failed)?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if let Some((user, group)) = programs.account {
            for path in [home, &secret] {
                chown(path, Some(user), Some(group)).map_err(failed)?;
            }
        }
        let mut initdb = programs.command(&programs.initdb, home);
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&secret);
        initdb.args(["-U", ADMIN, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        process::must(&mut initdb, "initdb").await?;
        let mut postgres = programs.command(&programs.postgres, home);
        postgres.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        // The data is thrown away at the end: it need not survive a loss of power.
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]);
        let child = process::start(&mut postgres, &log, "postgres")?;
        let mut server = Self { child, port, psql: programs.psql.clone(), password };
        server.ready(&log).await?;
        server.direct("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{role_password}'")).await?;
        server.direct("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}")).await?;
        server.direct(DATABASE, &format!("SET ROLE {ROLE}; {SAMPLE}")).await?;
        Ok(server)
    }
    async fn ready(&mut self, log: &Path) -> Result<(), Failure> {
        for _ in 0..START_TRIES {
            if self.query("postgres", "SELECT 1").await?.ok() {
                return Ok(());
            }
            if self.child.try_wait().map_err(Failure::unsure)?.is_some() {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(Failure::unsure(format!("postgres does not start: {}", said.trim_end())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::unsure("postgres does not answer"))
    }
    /// Asks the server directly, past the gateway, as its superuser. Returns what psql printed, without decoration.
    pub(super) async fn direct(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let done = self.query(database, sql).await?;
        if done.ok() { Ok(done.stdout.trim().to_owned()) } else { Err(Failure::no(format!("psql: {}", done.stderr))) }
    }
    async fn query(&self, database: &str, sql: &str) -> Result<Finished, Failure> {
        let mut psql = Command::new(&self.psql);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        psql.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", ADMIN);
        psql.env("PGDATABASE", database).env("PGPASSWORD", &self.password);
        process::run(&mut psql, "psql").await
    }
    /// Returns when the server ends.
    pub(super) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }
    /// Fast shutdown (chapter 18.5 of the PostgreSQL manual).
    pub(super) async fn stop(&mut self) {
        process::stop(&mut self.child, Signal::INT).await;
    }
}
