//! The binary as the operator meets it: its files, its answers, its exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const CHANCERY: &str = env!("CARGO_BIN_EXE_chancery");

/// A directory of the test's own, gone afterwards.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chancery-it-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        Self(path)
    }
    fn made(name: &str) -> Self {
        let home = Self::new(name);
        expect(home.run(&["init", home.text()]), 0);
        home
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn text(&self) -> &str {
        self.0.to_str().expect("a temporary directory is UTF-8")
    }
    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }
    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that reads nothing may be gone already.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CHANCERY);
        command.args(arguments).env("CHANCERY_CONFIG", self.path("chancery.toml"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
    /// Adds an issuer and a resource that nobody will reach.
    fn with_resource(self) -> Self {
        let path = self.path("chancery.toml");
        let text = fs::read_to_string(&path).expect("made by init");
        let text = text.replace("127.0.0.1:6432", "127.0.0.1:0").replace("127.0.0.1:8443", "127.0.0.1:0");
        let more = "\n[[issuer]]\nurl = \"http://127.0.0.1:9\"\naudience = \"chancery\"\n[[resource]]\nname = \"shop\"\n\
                    protocol = \"postgres\"\naddress = \"127.0.0.1:9\"\ntls = { mode = \"disable\" }\n";
        fs::write(&path, text + more).expect("own file");
        self
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn expect(output: Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    format!("{out}{err}")
}

/// Serves until asked to end; returns once a port is bound.
fn serve(home: &Home) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = home.command(&["serve"]).spawn().expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut log, "listening for postgres");
    (child, log)
}

fn wait_for(log: &mut impl BufRead, words: &str) {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert!(log.read_line(&mut seen).expect("readable") > 0, "the log ended without `{words}`:\n{seen}");
        if seen[start..].contains(words) {
            return;
        }
    }
}

fn end(mut child: Child, mut log: impl Read) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("own child");
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("readable");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{rest}");
}

#[test]
fn from_init_to_a_verified_ledger() {
    let home = Home::made("init");
    expect(home.run(&["check"]), 0);
    expect(home.run(&["policy", "check"]), 0);
    let said = expect(home.run(&["ledger", "verify"]), 0);
    assert!(said.contains("PASS: 1 entries"), "{said}");
    let said = expect(home.run(&["ledger", "status"]), 0);
    assert!(said.contains("entries     1"), "{said}");
    let again = expect(home.run(&["init", home.text()]), 1);
    assert!(again.contains("nothing was written"), "{again}");
}

#[test]
fn a_credential_is_on_record_and_its_value_nowhere() {
    let home = Home::made("secret").with_resource();
    let said = expect(home.run(&["check"]), 1);
    assert!(said.contains("there is no credential `shop`") && said.contains("hint: chancery secret set"), "{said}");
    expect(home.run_with(&["secret", "set", "shop", "--username", "app"], "correct horse\n"), 0);
    expect(home.run(&["check"]), 0);
    let said = expect(home.run_with(&["secret", "rotate", "shop"], "battery staple\n"), 0);
    assert!(said.contains("version 2") && said.contains("version 1 is retired"), "{said}");
    expect(home.run(&["secret", "list"]), 0);
    expect(home.run(&["check"]), 0);
    let said = expect(home.run(&["ledger", "verify", "--json"]), 0);
    assert!(said.contains("\"entries\": 6"), "three epochs, the operator and two changes: {said}");
    for value in ["correct horse", "battery staple"] {
        assert!(!holds(&home.0, value.as_bytes()), "{value} stands in a file");
    }
    expect(home.run_with(&["secret", "set", "crm"], "x\n"), 64);
    expect(home.run_with(&["secret", "set", "crm", "--username", "u"], "\n"), 64);
    expect(home.run_with(&["secret", "rotate", "crm", "--username", "u"], "x\n"), 1);
}

fn holds(directory: &Path, needle: &[u8]) -> bool {
    fs::read_dir(directory).expect("own directory").any(|entry| {
        let path = entry.expect("own directory").path();
        match path.is_dir() {
            true => holds(&path, needle),
            false if path.ends_with("control.sock") => false,
            false => fs::read(&path).expect("own file").windows(needle.len()).any(|window| window == needle),
        }
    })
}

#[test]
fn a_running_gateway_takes_the_operators_word() {
    let home = Home::made("serve").with_resource();
    let (child, log) = serve(&home);
    expect(home.run_with(&["secret", "set", "shop", "--username", "app"], "pw\n"), 0);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice\n";
    expect(home.run_with(&["reviewer", "add-key", "alice", "-"], key), 0);
    let said = expect(home.run_with(&["reviewer", "add-key", "bob", "-"], key), 1);
    assert!(said.contains("the gateway says no"), "{said}");
    let said = expect(home.run(&["reviewer", "list"]), 0);
    assert!(said.contains("alice") && !said.contains("bob"), "{said}");
    expect(home.run(&["session", "list"]), 0);
    expect(home.run(&["serve"]), 1);
    end(child, log);
    assert!(!home.path("state/control.sock").exists());
    let said = expect(home.run(&["ledger", "verify"]), 0);
    assert!(said.contains("PASS  "), "{said}");
}

#[test]
fn rules_are_read_again_and_bad_ones_refused() {
    let home = Home::made("reload").with_resource();
    let (child, mut log) = serve(&home);
    let rules = home.path("policies/more.cedar");
    fs::write(&rules, "permit (principal, action == Action::\"nosuch\", resource);").expect("own file");
    wait_for(&mut log, "the old ones stay");
    fs::write(&rules, "@id(\"more\") permit (principal, action == Action::\"connect\", resource);").expect("own file");
    wait_for(&mut log, "rules are in force");
    end(child, log);
    expect(home.run(&["ledger", "verify"]), 0);
}

#[test]
fn a_changed_entry_is_named() {
    let home = Home::made("tamper").with_resource();
    for password in ["one\n", "two\n"] {
        expect(home.run_with(&["secret", "set", "shop", "--username", "app"], password), 0);
    }
    let segment = fs::read_dir(home.path("state/ledger/entries")).expect("a ledger").next().expect("a segment");
    let path = segment.expect("a segment").path();
    let mut bytes = fs::read(&path).expect("own file");
    let at = bytes.windows(8).position(|window| window == b"\"rotated").expect("the second change is a rotation");
    bytes[at + 1] = b'R';
    fs::write(&path, bytes).expect("own file");
    let said = expect(home.run(&["ledger", "verify"]), 1);
    assert!(said.contains("FAIL") && said.contains("first bad entry: 5"), "{said}");
}

#[test]
fn the_first_of_two_swapped_entries_is_named() {
    let home = Home::made("swap").with_resource();
    for password in ["one\n", "two\n", "three\n", "four\n"] {
        expect(home.run_with(&["secret", "set", "shop", "--username", "app"], password), 0);
    }
    let segment = fs::read_dir(home.path("state/ledger/entries")).expect("a ledger").next().expect("a segment");
    let path = segment.expect("a segment").path();
    let bytes = fs::read(&path).expect("own file");
    let (head, mut rest) = bytes.split_at(16);
    let mut frames = Vec::new();
    while let Some((length, _)) = rest.split_first_chunk::<4>().filter(|(length, _)| **length != [0; 4]) {
        let (frame, more) = rest.split_at(8 + u32::from_le_bytes(*length) as usize);
        frames.push(frame);
        rest = more;
    }
    frames.swap(2, 4);
    // Those kept in between would place it, too; the last one covers everything.
    fs::remove_dir_all(home.path("state/ledger/checkpoints")).expect("own directory");
    fs::write(&path, [head, &frames.concat(), rest].concat()).expect("own file");
    let said = expect(home.run(&["ledger", "verify"]), 1);
    assert!(said.contains("first bad entry: 2\n"), "{said}");
    let said = expect(home.run(&["ledger", "verify", "--json"]), 1);
    assert!(said.contains("\"first_bad_entry\":2") || said.contains("\"first_bad_entry\": 2"), "{said}");
}

#[test]
fn a_ruling_is_explained() {
    let home = Home::made("explain").with_resource();
    let explain =
        |who, sql: &[&str]| home.run(&[&["policy", "explain", "--as", who, "--resource", "shop"], sql].concat());
    let said = expect(explain("ann,analysts", &["select * from customers"]), 0);
    assert!(said.starts_with("allow") && said.contains("analysts-read"), "{said}");
    let said = expect(explain("ann,analysts", &["delete from customers"]), 1);
    assert!(said.starts_with("deny"), "{said}");
    let said = expect(explain("dan,dba", &["delete from customers where id = 1"]), 1);
    assert!(said.starts_with("hold") && said.contains("approved by: dba"), "{said}");
    expect(explain("dan,dba", &["--review", "dba", "delete from customers where id = 1"]), 0);
    expect(explain("ann,analysts", &[]), 0);
    expect(explain("ann", &[]), 1);
}

#[test]
fn usage_and_absence_have_their_own_exit_codes() {
    let home = Home::new("absent");
    expect(home.run(&["nosuch"]), 64);
    expect(home.run(&["--help"]), 0);
    assert!(expect(home.run(&["--version"]), 0).starts_with("chancery "));
    let said = expect(home.run(&["check"]), 1);
    assert!(said.contains("cannot be read"), "{said}");
    expect(home.run(&["ledger", "verify", "/nonexistent"]), 2);
    expect(home.run(&["session", "replay", "nonsense"]), 64);
    expect(home.run(&["init", "--name", "No Good", home.text()]), 64);
}
