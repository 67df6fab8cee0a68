//! The story: what is done, what is seen, and the proof of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin};

use super::postgres::{DATABASE, SENSITIVE};
use super::process;
use super::stage::Stage;
use super::tell::Teller;
use crate::output::Failure;

const READ: &str = "SELECT id, name, email, card, ssn FROM customers ORDER BY id LIMIT 3;";
const DELETE: &str = "DELETE FROM orders WHERE id = 5;";
const AGAIN: &str = "SELECT id, amount FROM payments ORDER BY id;";
const DROP: &str = "DROP TABLE payments;";
/// How long the client's side of one step may take.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);

/// How often the ledger is looked at until its head is signed, four times a second.
const CHECKPOINT_TRIES: u32 = 40;

/// Plays it, chapter by chapter.
pub(super) async fn tell(stage: &Stage, tell: &Teller) -> Result<(), Failure> {
    masked(stage, tell).await?;
    let (session, approval) = held_and_refused(stage, tell).await?;
    replayed(stage, tell, &session).await?;
    verified(stage, tell).await?;
    packed(stage, tell, approval).await
}

async fn masked(stage: &Stage, tell: &Teller) -> Result<(), Failure> {
    tell.chapter(1, "An agent two links down the chain reads customers");
    let who = process::must(&mut stage.remote(&["whoami"], "agent.token"), "chancery whoami").await?;
    tell.types("sql-helper", "chancery whoami");
    tell.output(&who.stdout);
    tell.proves(
        who.stdout.contains("alice → report-agent → sql-helper"),
        "the token, exchanged twice at the issuer, names the whole chain: alice → report-agent → sql-helper",
    )?;
    let seen = process::must(stage.client("sql-helper", "agent.token")?.args(["-c", READ]), "psql").await?;
    tell.types("sql-helper", &format!("psql -c \"{READ}\""));
    tell.output(&seen.stdout);
    tell.proves(seen.stdout.contains("Mina Okafor"), "the rows are there, with what nobody asked to hide")?;
    let leaked = SENSITIVE.iter().find(|value| seen.text().contains(**value));
    tell.proves(leaked.is_none(), "no e-mail address, card number or social security number came through")?;
    let stored =
        stage.database.direct(DATABASE, "SELECT email || ' ' || card || ' ' || ssn FROM customers WHERE id = 1");
    tell.proves(stored.await?.contains(SENSITIVE[0]), "PostgreSQL, asked directly, has them as they were")
}

/// A psql session that is written to and read from step by step.
struct Terminal<'a> {
    stage: &'a Stage,
    tell: &'a Teller,
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStderr>>,
    steps: u32,
}

impl<'a> Terminal<'a> {
    fn open(stage: &'a Stage, tell: &'a Teller) -> Result<Self, Failure> {
        let mut command = stage.client("sql-helper", "agent.token")?;
        let command = command.arg("-q").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(Failure::unsure)?;
        let lost = || Failure::unsure("psql has no streams");
        let input = child.stdin.take().ok_or_else(lost)?;
        let said = BufReader::new(child.stderr.take().ok_or_else(lost)?).lines();
        Ok(Self { stage, tell, child, input, said, steps: 0 })
    }
    /// Sends a statement; its result goes to a file, so that nothing waits in a buffer.
    async fn send(&mut self, sql: &str) -> Result<(), Failure> {
        self.steps += 1;
        self.tell.types("sql-helper", sql);
        let file = self.result_file();
        let text = format!("\\o {}\n{sql}\n\\o\n\\warn @done {}\n", file.display(), self.steps);
        self.input.write_all(text.as_bytes()).await.map_err(Failure::unsure)?;
        self.input.flush().await.map_err(Failure::unsure)
    }
    fn result_file(&self) -> std::path::PathBuf {
        self.stage.file(&format!("result-{}", self.steps))
    }
    /// Reads what psql says up to a line that `stops`; shows it; returns all of it.
    async fn until(&mut self, stops: impl Fn(&str) -> bool) -> Result<String, Failure> {
        let mut text = String::new();
        loop {
            let line = tokio::time::timeout(STEP_TIME_MAX, self.said.next_line()).await;
            let line = line.map_err(|_| Failure::no("psql waits for something that does not come"))?;
            let Some(line) = line.map_err(Failure::unsure)? else {
                return Err(Failure::no(format!("psql ended: {}", text.trim_end())));
            };
            if !line.starts_with("@done") {
                self.tell.output(&line);
            }
            text.push_str(&line);
            text.push('\n');
            if stops(&line) {
                return Ok(text);
            }
        }
    }
    /// Waits for the end of the statement. Returns its messages and its result.
    async fn finish(&mut self) -> Result<(String, String), Failure> {
        let mark = format!("@done {}", self.steps);
        let said = self.until(|line| line == mark).await?;
        let result = fs::read_to_string(self.result_file()).unwrap_or_default();
        if !result.trim().is_empty() {
            self.tell.output(&result);
        }
        Ok((said, result))
    }
    async fn close(mut self) -> Result<(), Failure> {
        drop(self.input);
        let ended = tokio::time::timeout(STEP_TIME_MAX, self.child.wait()).await;
        ended.map(drop).map_err(|_| Failure::no("psql does not end"))
    }
}

/// Returns the session's id, and the index of the entry in which dana approved.
async fn held_and_refused(stage: &Stage, tell: &Teller) -> Result<(String, u64), Failure> {
    tell.chapter(2, "Its DELETE is held until a reviewer signs");
    let before = stage.database.direct(DATABASE, "SELECT count(*) FROM orders").await?;
    let mut terminal = Terminal::open(stage, tell)?;
    terminal.send(DELETE).await?;
    let said = terminal.until(|line| id(line, "rev-").is_some()).await?;
    let review = id(&said, "rev-").unwrap_or_default();
    tell.proves(said.contains("NOTICE"), "psql waits, and shows a NOTICE with the review")?;
    let now = stage.database.direct(DATABASE, "SELECT count(*) FROM orders").await?;
    tell.proves(now == before, &format!("PostgreSQL, asked directly, still has {before} orders"))?;

    let own = process::run(&mut stage.remote(&approve(stage, &review).as_slices(), "alice.token"), "chancery").await?;
    tell.proves(own.code == Some(1), "alice, on whose behalf it was asked, cannot approve it")?;

    let mut list = stage.remote(&["review", "list"], "dana.token");
    let listed = process::must(&mut list, "chancery review list").await?;
    tell.types("dana", "chancery review list");
    tell.output(&listed.stdout);
    let arguments = approve(stage, &review);
    let approved = process::run(&mut stage.remote(&arguments.as_slices(), "dana.token"), "chancery").await?;
    tell.types("dana", &format!("chancery review approve {review} --key dana-key --yes"));
    tell.output(&approved.text());
    tell.proves(approved.ok() && approved.stdout.contains(DELETE), "dana saw the complete command, and signed it")?;
    let entry = approved.stdout.rsplit("ledger entry ").next().and_then(|rest| rest.trim().parse::<u64>().ok());
    let entry = entry.ok_or_else(|| Failure::no("the approval names no ledger entry"))?;
    terminal.finish().await?;
    let left = stage.database.direct(DATABASE, "SELECT count(*) FROM orders").await?;
    tell.proves(
        left.parse::<u64>().ok().map(|left| left + 1) == before.parse().ok(),
        &format!("the DELETE came back, and PostgreSQL, asked directly, has {left} orders"),
    )?;

    tell.chapter(3, "Its DROP TABLE is refused");
    terminal.send(DROP).await?;
    let (said, _) = terminal.finish().await?;
    let session = id(&said, "ses-").unwrap_or_default();
    tell.proves(said.contains("no-ddl"), "the refusal names the rule that forbids it")?;
    tell.proves(said.contains("HINT"), "and gives a hint")?;
    tell.proves(!session.is_empty(), "and the reference by which the operator finds the entry")?;
    let there = stage.database.direct(DATABASE, "SELECT to_regclass('payments') IS NOT NULL").await?;
    tell.proves(there == "t", "PostgreSQL, asked directly, still has the table")?;
    terminal.send(AGAIN).await?;
    let (_, result) = terminal.finish().await?;
    tell.proves(result.contains("120.00"), "the session stays usable")?;
    terminal.close().await?;
    Ok((session, entry))
}

struct Arguments(Vec<String>);

impl Arguments {
    fn as_slices(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn approve(stage: &Stage, review: &str) -> Arguments {
    let key = stage.file("dana-key").display().to_string();
    Arguments(["review", "approve", review, "--key", &key, "--yes"].map(str::to_owned).to_vec())
}

async fn replayed(stage: &Stage, tell: &Teller, session: &str) -> Result<(), Failure> {
    tell.chapter(4, "The session is replayed");
    let config = stage.config().display().to_string();
    let arguments = ["session", "replay", session, "--config", &config];
    let replay = process::must(&mut stage.chancery(&arguments), "chancery session replay").await?;
    tell.types("operator", &format!("chancery session replay {session}"));
    tell.output(&replay.stdout);
    let shown = ["DELETE FROM orders", "DROP TABLE payments", AGAIN];
    let missing = shown.iter().find(|text| !replay.stdout.contains(**text));
    tell.proves(missing.is_none(), "every command of the session is there, the refused one too")
}

async fn verified(stage: &Stage, tell: &Teller) -> Result<(), Failure> {
    tell.chapter(5, "The ledger is verified");
    let config = stage.config().display().to_string();
    let arguments = ["ledger", "verify", "--config", &config];
    let mut verify = process::run(&mut stage.chancery(&arguments), "chancery ledger verify").await?;
    for _ in 0..CHECKPOINT_TRIES {
        if verify.ok() {
            break;
        }
        // The head is signed every second; what came after the last signature is inconclusive until then.
        tokio::time::sleep(Duration::from_millis(250)).await;
        verify = process::run(&mut stage.chancery(&arguments), "chancery ledger verify").await?;
    }
    tell.types("auditor", "chancery ledger verify");
    tell.output(&verify.text());
    tell.proves(verify.ok(), "the live ledger verifies")
}

async fn packed(stage: &Stage, tell: &Teller, approval: u64) -> Result<(), Failure> {
    tell.chapter(6, "An auditor gets a pack, verifies it twice, and one changed bit is found");
    let pack = stage.file("pack.tar");
    let (file, config) = (pack.display().to_string(), stage.config().display().to_string());
    let arguments = ["evidence", "export", "--from", "2026-01-01", "--out", &file, "--config", &config];
    let export = process::must(&mut stage.chancery(&arguments), "chancery evidence export").await?;
    tell.types("operator", "chancery evidence export --from 2026-01-01 --out pack.tar");
    tell.output(&export.stdout);
    let arguments = ["evidence", "verify", &file, "--roots", &stage.roots];
    let verify = process::must(&mut stage.chancery(&arguments), "chancery evidence verify").await?;
    tell.types("auditor", "chancery evidence verify pack.tar --roots roots.txt");
    tell.output(&verify.stdout);
    tell.proves(verify.stdout.contains("\nPASS: "), "the pack verifies with nothing but the roots from outside")?;
    let root = export.stdout.split_once(", root ").and_then(|(_, rest)| rest.split_whitespace().next());
    unpacked(stage, tell, root).await?;

    let copy = stage.file("changed.tar");
    let at = flip(&pack, &copy)?;
    tell.types("intruder", &format!("flips one bit at byte {at} of a copy, in the entry of the approval"));
    let copy = copy.display().to_string();
    let arguments = ["evidence", "verify", &copy, "--roots", &stage.roots];
    let verify = process::run(&mut stage.chancery(&arguments), "chancery evidence verify").await?;
    tell.types("auditor", "chancery evidence verify changed.tar --roots roots.txt");
    tell.output(&verify.text());
    tell.proves(verify.code == Some(1), "verification says no")?;
    let names = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "entry").skip(1);
        line.contains("FAIL") && words.next().and_then(|word| word.parse().ok()) == Some(approval)
    };
    tell.proves(verify.text().lines().any(names), &format!("and names the entry: {approval}, dana's approval"))
}

/// The second verifier, which shares no code with the first, and the report for people.
async fn unpacked(stage: &Stage, tell: &Teller, root: Option<&str>) -> Result<(), Failure> {
    let (pack, directory) = (stage.file("pack.tar"), stage.file("pack"));
    fs::create_dir_all(&directory).map_err(Failure::unsure)?;
    process::must(tokio::process::Command::new("tar").arg("-xf").arg(&pack).arg("-C").arg(&directory), "tar").await?;
    let inner = directory.join("pack");
    let Some(python) = process::on_path("python3") else {
        return Err(Failure::unsure("python3 is missing, and the second verifier is written in it")
            .hint("on Debian: apt-get install python3"));
    };
    let mut second = tokio::process::Command::new(python);
    let roots = stage.file("auditor.roots");
    let second = second.arg(inner.join("verify.py")).arg(&pack).arg("--roots").arg(&roots);
    let second = process::run(second, "verify.py").await?;
    tell.types("auditor", "python3 verify.py pack.tar --roots roots.txt");
    tell.output(&second.text());
    tell.proves(
        second.ok(),
        "a second verifier, in Python, says the same; it was written from the specification alone",
    )?;
    let report = fs::read_to_string(inner.join("report.html")).map_err(Failure::unsure)?;
    // Digits stand there in groups.
    let told = root.and_then(|root| root.get(..8)).is_some_and(|digits| report.contains(digits));
    tell.proves(told, "the report for people speaks of the same head; open it in a browser:")?;
    tell.line(&format!("   file://{}", inner.join("report.html").display()));
    Ok(())
}

/// Copies a pack with one bit of the entry changed in which dana approved. Returns where.
fn flip(pack: &Path, copy: &Path) -> Result<usize, Failure> {
    const WORD: &[u8] = b"\"k\":\"approval.decide\"";
    let mut bytes = fs::read(pack).map_err(Failure::unsure)?;
    let at = bytes.windows(WORD.len()).position(|window| window == WORD);
    let at = at.ok_or_else(|| Failure::no("the pack has no entry of an approval"))? + WORD.len() / 2;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    fs::write(copy, bytes).map_err(Failure::unsure)?;
    Ok(at)
}

/// The first id with this prefix in a text.
fn id(text: &str, prefix: &str) -> Option<String> {
    let rest = &text[text.find(prefix)?..];
    let digits: String = rest.strip_prefix(prefix)?.chars().take_while(char::is_ascii_hexdigit).collect();
    (digits.len() == 32).then(|| format!("{prefix}{digits}"))
}

/// How to go on by hand.
pub(super) fn farewell(stage: &Stage, tell: &Teller) {
    let file = |name: &str| stage.file(name).display().to_string();
    tell.chapter(7, "Your turn; everything stays up until Ctrl-C");
    tell.say("As the agent, in another terminal:");
    tell.line(&format!(
        "   PGPASSWORD=$(cat {}) psql \"host=localhost hostaddr=127.0.0.1 port={} dbname=shop user=sql-helper sslmode=verify-full sslrootcert={}\"",
        file("agent.token"),
        stage.port,
        stage.ca().display()
    ));
    tell.say("As the reviewer dana, when something of it is held:");
    tell.line(&format!("   export CHANCERY_GATEWAY={} CHANCERY_CA={}", stage.api(), stage.ca().display()));
    tell.line(&format!(
        "   export CHANCERY_TOKEN_FILE={} CHANCERY_REVIEW_KEY={}",
        file("dana.token"),
        file("dana-key")
    ));
    tell.line("   chancery review list; chancery review approve ID");
    tell.say("As alice, who hands a narrower token down to an agent:");
    tell.line(&format!("   export CHANCERY_ISSUER={}", stage.issuer()));
    let (alice, agent) = (file("alice.secret"), file("report-agent.secret"));
    tell.line(&format!("   chancery token --client-id alice --client-secret-file {alice} >parent.token"));
    tell.line(&format!(
        "   chancery token --client-id report-agent --client-secret-file {agent} --on-behalf-of parent.token --read-only"
    ));
    tell.say(&format!("The API is at {}/api/v1.", stage.api()));
    tell.say(&format!("Tokens of an hour: {}, {}, {}", file("agent.token"), file("alice.token"), file("dana.token")));
    tell.say(&format!("Configuration and rules: {}", stage.config().display()));
    tell.say(&format!("The pack and its report: {}, {}", file("pack.tar"), file("pack/pack/report.html")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_what_psql_says() {
        let text = "NOTICE:  held for review rev-0190a1b2c3d4e5f60718293a4b5c6d7e (dba)\n";
        assert_eq!(id(text, "rev-").as_deref(), Some("rev-0190a1b2c3d4e5f60718293a4b5c6d7e"));
        assert_eq!(id("rev-12 é", "rev-"), None);
        assert_eq!(id(text, "ses-"), None);
    }
}
