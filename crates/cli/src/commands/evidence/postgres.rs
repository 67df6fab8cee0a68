//! PostgreSQL's own log (csvlog or jsonlog, "Error Reporting and Logging" in its manual), as far as it says who connected
//! and how much ran. Statements stay where they are: their literals are nobody's business here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use chancery_evidence::Seen;

use crate::output::Failure;

/// Sessions of the resource in one comparison: a reader of packs takes no more.
const SESSIONS_MAX: usize = chancery_evidence::LINES_MAX;
/// A line of a log: a statement may be as long as a message of the protocol.
const LINE_BYTES_MAX: u64 = 1 << 30;
/// Columns of csvlog that are looked at, by their place.
const TIME: usize = 0;
const USER: usize = 1;
const DATABASE: usize = 2;
const PID: usize = 3;
const SESSION: usize = 5;
const MESSAGE: usize = 13;
const APPLICATION: usize = 22;
const BACKEND: usize = 23;

/// What one record of the log says.
struct Said<'a> {
    time: &'a str,
    user: &'a str,
    database: &'a str,
    pid: u64,
    session: &'a str,
    message: &'a str,
    application: &'a str,
    backend: &'a str,
}

/// Reads logs, one after the other.
pub(super) fn read(logs: &[PathBuf]) -> Result<Vec<Seen>, Failure> {
    let mut log = Log::default();
    for path in logs {
        let mut file = BufReader::new(File::open(path).map_err(|error| unreadable(path, &error))?);
        let first = file.fill_buf().map_err(|error| unreadable(path, &error))?.first().copied();
        let read = if first == Some(b'{') { log.json(file) } else { log.csv(file) };
        read.map_err(|what| {
            Failure::no(format!("{}: {what}", path.display())).hint(
                "log_destination = csvlog or jsonlog, log_timezone = UTC, lc_messages = C, PostgreSQL 13 or newer",
            )
        })?;
    }
    Ok(log.finish())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unsure(format!("{}: {error}", path.display()))
}

#[derive(Default)]
struct Log {
    lines: u64,
    sessions: HashMap<String, Seen>,
}

impl Log {
    fn csv(&mut self, from: impl Read) -> Result<(), String> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(from);
        let mut record = csv::ByteRecord::new();
        let before = self.lines;
        while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
            let line = before + record.position().map_or(0, csv::Position::line);
            if record.len() <= BACKEND {
                return Err(format!("line {line} is not one of csvlog"));
            }
            let field = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
            let fields = [TIME, USER, DATABASE, SESSION, MESSAGE, APPLICATION, BACKEND].map(field);
            let [time, user, database, session, message, application, backend] = fields.each_ref().map(String::as_str);
            let pid = field(PID).parse().map_err(|_| format!("line {line} has no process id"))?;
            self.said(line, &Said { time, user, database, pid, session, message, application, backend })?;
        }
        self.lines = before + reader.position().line().saturating_sub(1);
        Ok(())
    }

    fn json(&mut self, mut from: impl BufRead) -> Result<(), String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| error.to_string())? == 0 {
                return Ok(());
            }
            self.lines += 1;
            let at = self.lines;
            let value: serde_json::Value =
                serde_json::from_slice(&line).map_err(|_| format!("line {at} is not one of jsonlog"))?;
            let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            let pid = value.get("pid").and_then(serde_json::Value::as_u64).unwrap_or_default();
            let said = Said {
                time: text("timestamp"),
                user: text("user"),
                database: text("dbname"),
                pid,
                session: text("session_id"),
                message: text("message"),
                application: text("application_name"),
                backend: text("backend_type"),
            };
            self.said(at, &said)?;
        }
    }

    fn said(&mut self, line: u64, said: &Said<'_>) -> Result<(), String> {
        if said.backend != "client backend" || said.user.is_empty() || said.session.is_empty() {
            return Ok(());
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(format!("it has more than {SESSIONS_MAX} sessions: compare a shorter period"));
        }
        let at = time(said.time).ok_or_else(|| format!("the time in line {line} is not in UTC"))?;
        let key = format!("{}.{}", said.session, said.pid);
        let seen = self.sessions.entry(key).or_insert_with(|| Seen {
            application: String::new(),
            at,
            authorized: false,
            database: said.database.to_owned(),
            line,
            pid: said.pid,
            statements: 0,
            user: said.user.to_owned(),
        });
        if let Some(name) = authorized(said.message) {
            seen.authorized = true;
            // The name that it came with; later lines have the one that it gave itself since.
            seen.application = name.unwrap_or(said.application).to_owned();
        }
        if seen.application.is_empty() {
            said.application.clone_into(&mut seen.application);
        }
        if ran(said.message) {
            (seen.authorized, seen.statements) = (true, seen.statements + 1);
        }
        Ok(())
    }

    fn finish(self) -> Vec<Seen> {
        let mut all: Vec<Seen> = self.sessions.into_values().collect();
        all.sort_unstable_by_key(|seen| (seen.line, seen.pid));
        all
    }
}

/// `connection authorized: user=… database=… application_name=… …` (log_connections): the name, where there is one.
fn authorized(message: &str) -> Option<Option<&str>> {
    let rest = message.strip_prefix("connection authorized: ")?;
    let name = rest.split_once(" application_name=").map(|(_, name)| name);
    Some(name.map(|name| name.split(" SSL enabled ").next().unwrap_or(name)))
}

/// Whether a line says that a statement ran (log_statement, log_min_duration_statement).
fn ran(message: &str) -> bool {
    let message = match message.strip_prefix("duration: ") {
        Some(timed) => timed.split_once(" ms  ").map_or("", |(_, rest)| rest),
        None => message,
    };
    message.starts_with("statement: ") || message.starts_with("execute ")
}

/// `2026-11-29 03:00:00.123 UTC`, as evidence writes times.
fn time(text: &str) -> Option<String> {
    let plain = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT"))?;
    let (day, clock) = plain.split_once(' ')?;
    let (second, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let whole = format!("{day}T{second}.{fraction:0<6}Z");
    chancery_evidence::instant(&whole).map(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = r#"2026-11-29 03:00:00.123 UTC,,,100,"127.0.0.1:5",692a.64,1,"",2026-11-29 03:00:00 UTC,,0,LOG,00000,"connection received: host=127.0.0.1 port=5",,,,,,,,,"","not initialized",,0
2026-11-29 03:00:00.125 UTC,"app","shop",100,"127.0.0.1:5",692a.64,2,"authentication",2026-11-29 03:00:00 UTC,3/1,0,LOG,00000,"connection authorized: user=app database=shop application_name=chancery/aa psql SSL enabled (protocol=TLSv1.3)",,,,,,,,,"","client backend",,0
2026-11-29 03:00:01.000 UTC,"app","shop",100,"127.0.0.1:5",692a.64,3,"idle",2026-11-29 03:00:00 UTC,3/2,0,LOG,00000,"statement: SELECT 'a
b'",,,,,,,,,"other","client backend",,0
2026-11-29 03:00:02.000 UTC,"eve","shop",101,"127.0.0.1:6",692b.65,1,"authentication",2026-11-29 03:00:02 UTC,3/3,0,FATAL,28P01,"password authentication failed for user ""eve""",,,,,,,,,"","client backend",,0
"#;

    #[test]
    fn who_connected_and_how_much_ran_is_read_and_no_text() {
        let mut log = Log::default();
        log.csv(CSV.as_bytes()).expect("csvlog");
        let seen = log.finish();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[0].application.as_str(), seen[0].statements, seen[0].authorized),
            ("chancery/aa psql", 1, true)
        );
        assert_eq!((seen[0].at.as_str(), seen[0].line, seen[0].pid), ("2026-11-29T03:00:00.125000Z", 2, 100));
        assert_eq!((seen[1].user.as_str(), seen[1].authorized, seen[1].line), ("eve", false, 5));
    }

    #[test]
    fn json_says_the_same() {
        let line = r#"{"timestamp":"2026-11-29 03:00:00.125 UTC","user":"app","dbname":"shop","pid":100,"session_id":"692a.64","error_severity":"LOG","message":"duration: 0.1 ms  execute <unnamed>: SELECT 1","application_name":"chancery/aa","backend_type":"client backend"}"#;
        let mut log = Log::default();
        log.json(format!("{line}\n").as_bytes()).expect("jsonlog");
        let seen = log.finish();
        assert_eq!((seen[0].application.as_str(), seen[0].statements, seen[0].authorized), ("chancery/aa", 1, true));
        assert!(Log::default().json("nonsense\n".as_bytes()).is_err());
        assert!(Log::default().csv("a,b\n".as_bytes()).is_err());
        assert!(Log::default().json(line.replace("UTC", "CET").as_bytes()).is_err());
    }
}
