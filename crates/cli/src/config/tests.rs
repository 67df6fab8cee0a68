//! Good files, and each kind of mistake with the line that is named for it.

use std::path::Path;
use std::time::Duration;

use chancery_gateway::{ArchiveUrl, UpstreamTls};
use chancery_ledger::Cosigner;
use chancery_model::{Assurance, Durability};
use chancery_policy::Problem;

use super::load::parse;
use super::{Configuration, duration};

const GOOD: &str = r#"[gateway]
name  = "gw-a"
state = "state"

[listen]
postgres = "127.0.0.1:5432"

[[issuer]]
url      = "https://idp.example"
audience = ["chancery", "other"]
groups   = "/realm/groups"
kind     = ""
leeway   = "5s"

[[resource]]
name       = "shop"
protocol   = "postgres"
address    = "db.internal"
database   = "shop_prod"
tls        = { mode = "require" }
labels     = { env = "prod" }
durability = "strict"
listen     = "127.0.0.1:6432"

[[resource]]
name     = "crm"
protocol = "postgres"
address  = "[::1]:5555"
tls      = { mode = "disable" }
secret   = "crm-db"

[[mask]]
resource = "shop"
columns  = ["public.customers.email", "public.\"odd.name\".*"]
tag      = "pii"
with     = "partial"

[[mask]]
detect = ["card"]

[[review]]
name      = "dba"
reviewers = ["Group::\"dba\""]
expires   = "1h"
assurance = "clicked"
"#;

const SEAL: &str = r#"seal = { to = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"], purpose = "fraud", review = "dba" }"#;
const SEAL_SSH: &str = r#"seal = { to = ["ssh-ed25519 AAAA"], purpose = "x", review = "dba" }"#;
const SEAL_NOBODY: &str = r#"seal = { to = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"], purpose = "x", review = "nobody" }"#;
const SEAL_EMPTY: &str = r#"seal = { to = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"], purpose = " ", review = "dba" }"#;

fn read(text: &str) -> Result<Configuration, Vec<Problem>> {
    parse(Path::new("chancery.toml"), text)
}

/// The problem of the good file with one line changed.
fn broken(from: &str, to: &str, message: &str) -> Problem {
    assert!(GOOD.contains(from), "{from} stands in the good file");
    let problems = read(&GOOD.replacen(from, to, 1)).err().unwrap_or_default();
    let found = problems.iter().find(|problem| !problem.warning && problem.message.contains(message));
    found.unwrap_or_else(|| panic!("{to}: {problems:?}")).clone()
}

/// The line of the good file that contains the text.
fn line_of(text: &str) -> u32 {
    GOOD.lines().position(|line| line.contains(text)).map_or(0, |at| at as u32 + 1)
}

#[test]
fn a_good_file_means_what_it_says() {
    let read = read(GOOD).unwrap_or_else(|problems| panic!("{problems:?}"));
    let rules = &read.issuers[0].rules;
    assert_eq!((rules.audience.len(), rules.groups.as_str(), rules.leeway), (2, "/realm/groups", 5));
    assert_eq!(rules.kind, None);
    let [shop, crm] = &read.resources[..] else { panic!("two resources") };
    assert_eq!((shop.host.as_str(), shop.port, shop.secret.as_str()), ("db.internal", 5432, "shop"));
    assert_eq!((crm.host.as_str(), crm.port, crm.secret.as_str()), ("::1", 5555, "crm-db"));
    assert_eq!((&shop.tls, &crm.tls), (&UpstreamTls::Require, &UpstreamTls::Disable));
    assert_eq!((shop.resource.database.as_str(), crm.resource.database.as_str()), ("shop_prod", "crm"));
    assert_eq!((shop.resource.durability, crm.resource.durability), (Durability::Strict, Durability::Balanced));
    assert_eq!((shop.mask.columns.len(), crm.mask.columns.len()), (2, 0));
    assert_eq!(shop.mask.columns[1].table, "odd.name");
    assert_eq!((shop.mask.detect.len(), crm.mask.detect.len()), (1, 1));
    assert_eq!((read.reviews[0].quorum, read.reviews[0].expires_micros), (1, 3_600_000_000));
    assert_eq!(read.reviews[0].assurance, Assurance::Clicked);
    assert_eq!((read.state.as_path(), read.rules.as_path()), (Path::new("state"), Path::new("policies")));
    assert_eq!(read.warnings.len(), 1, "mode require on another host: {:?}", read.warnings);
    assert!(!read.clear_text);
}

#[test]
fn originals_are_kept_where_the_file_says_so() {
    let with = GOOD.replacen("durability = \"strict\"", SEAL, 1);
    let read = read(&with).unwrap_or_else(|problems| panic!("{problems:?}"));
    let [shop, crm] = &read.resources[..] else { panic!("two resources") };
    let seal = shop.seal.as_ref().expect("kept");
    assert_eq!((seal.to.ids().len(), seal.purpose.as_str(), seal.review.as_str()), (1, "fraud", "dba"));
    assert!(crm.seal.is_none());
}

#[test]
fn each_mistake_names_its_line() {
    let cases = [
        ("name  = \"gw-a\"", "name = \"Gw A\"", "the name must be"),
        ("state = \"state\"", "stat = \"state\"", "unknown field `stat`"),
        ("postgres = \"127.0.0.1:5432\"", "postgres = \"0.0.0.0:5432\"", "clear text"),
        ("postgres = \"127.0.0.1:5432\"", "postgres = \"here\"", "not an address to listen on"),
        ("postgres = \"127.0.0.1:5432\"", "https = \"127.0.0.1:8443\"", "https needs a certificate"),
        ("postgres = \"127.0.0.1:5432\"", "mysql = \"127.0.0.1:3306\"", "not in this release"),
        ("postgres = \"127.0.0.1:5432\"", "ssh = \"127.0.0.1:22\"", "not in this release"),
        ("url      = \"https://idp.example\"", "url = \"http://idp.example\"", "must be an https URL"),
        ("leeway   = \"5s\"", "leeway = \"5 seconds\"", "not a duration"),
        ("leeway   = \"5s\"", "algorithms = [\"none\"]", "not an accepted algorithm"),
        ("leeway   = \"5s\"", "ca = \"/nonexistent/ca.pem\"", "cannot be read"),
        ("name       = \"shop\"", "name = \"Shop\"", "cannot name a resource"),
        ("name       = \"shop\"", "name = \"crm\"", "two resources have this name"),
        ("protocol   = \"postgres\"", "protocol = \"mysql\"", "not in this release"),
        ("protocol   = \"postgres\"", "protocol = \"pg\"", "unknown protocol"),
        ("address    = \"db.internal\"", "address = \"db internal:x\"", "is not an address"),
        ("tls        = { mode = \"require\" }", "tls = { mode = \"on\" }", "unknown mode"),
        ("durability = \"strict\"", "durability = \"async\"", "unknown durability"),
        ("durability = \"strict\"", SEAL_SSH, "not an age recipient"),
        ("durability = \"strict\"", "seal = { to = [], purpose = \"x\", review = \"dba\" }", "needs a recipient"),
        ("durability = \"strict\"", SEAL_NOBODY, "no review rule is called `nobody`"),
        ("durability = \"strict\"", SEAL_EMPTY, "the purpose must be"),
        ("durability = \"strict\"", "seal = { to = [], purpose = \"x\" }", "missing field `review`"),
        ("columns  = [\"public.customers.email\", \"public.\\\"odd.name\\\".*\"]", "columns = [\"email\"]", "columns"),
        ("with     = \"partial\"", "with = \"hide\"", "unknown way to mask"),
        ("detect = [\"card\"]", "detect = [\"names\"]", "unknown detector"),
        ("expires   = \"1h\"", "lasts = \"1h\"", "not in this release"),
        ("expires   = \"1h\"", "notify = [\"slack\"]", "not in this release"),
        ("assurance = \"clicked\"", "assurance = \"certain\"", "unknown assurance"),
    ];
    for (from, to, message) in cases {
        let problem = broken(from, to, message);
        if !problem.message.starts_with("two resources") {
            assert_eq!(problem.line, line_of(from), "{to}: {problem}");
        }
        let spoken = problem.message.starts_with("`5 seconds`");
        assert!(problem.hint.is_some() || spoken, "{to}: {problem}");
    }
}

#[test]
fn a_policy_of_witnesses_that_cannot_be_met_is_refused() {
    let key = |seed: u8| {
        let name = format!("witness.example/w{seed}");
        Cosigner::from_seed(&name, &[seed; 32]).expect("a seed").verifier_key()
    };
    let policy = std::env::temp_dir().join(format!("chancery-config-policy-{}", std::process::id()));
    let file = format!("{GOOD}\n[ledger]\nwitnesses = {policy:?}\n");
    let ask = |first: &str, second: &str, quorum: &str| {
        let (a, b) = (key(1), key(2));
        let text = format!("witness a {a} {first}\nwitness b {b} {second}\ngroup g any a b\ngroup h 1 g\n{quorum}\n");
        std::fs::write(&policy, text).expect("the file is written");
        let problems = match read(&file) {
            Ok(read) => return (read.witnesses.is_some(), String::new()),
            Err(problems) => problems,
        };
        let problem = problems.iter().find(|problem| !problem.warning).expect("one of them is wrong");
        assert!(problem.hint.is_some(), "{problem}");
        (false, problem.message.clone())
    };
    let (good, near) = ("https://w.example/log", "http://127.0.0.1:7380");
    for (first, second) in [(good, near), (good, ""), ("", "http://[::1]:7380")] {
        assert_eq!(ask(first, second, "quorum h"), (true, String::new()), "{first} {second}");
    }
    for (first, second, quorum, message) in [
        ("", "", "quorum h", "too few for the quorum"),
        ("", good, "quorum a", "too few for the quorum"),
        ("http://w.example", good, "quorum h", "must be an https URL"),
        ("https://me@w.example", good, "quorum h", "must be an https URL"),
        (good, good, "quorum x", "malformed"),
    ] {
        let (_, told) = ask(first, second, quorum);
        assert!(told.contains(message), "{first} {second} {quorum}: {told}");
    }
    std::fs::remove_file(&policy).expect("it is there");
}

#[test]
fn exports_go_where_they_can() {
    let one = |to: &str, more: &str| {
        let table = format!("[[export]]\nname = \"siem\"\nto = \"{to}\"\nformat = \"ocsf\"\n{more}");
        match read(&format!("{GOOD}\n{table}")) {
            Ok(read) => Ok(read.exports),
            Err(problems) => Err(problems.into_iter().find(|problem| !problem.warning).expect("one is wrong").message),
        }
    };
    for to in ["file:events.jsonl", "stdout", "https://siem.example/ingest", "http://127.0.0.1:8088/x"] {
        assert_eq!(one(to, "").map(|exports| exports.len()), Ok(1), "{to}");
    }
    for to in ["http://siem.example/", "https://me:pw@siem.example/", "file:", "events.jsonl", "ftp://siem.example"] {
        assert_eq!(one(to, "").err().as_deref(), Some("events cannot go there"), "{to}");
    }
    assert_eq!(one("stdout", "token = \"t\"").err().as_deref(), Some("`token` is for a URL"));
    let again = "[[export]]\nname = \"siem\"\nto = \"file:other\"\nformat = \"ocsf\"";
    assert_eq!(one("stdout", again).err().as_deref(), Some("two exports have this name"));
    let again = again.replacen("siem", "other", 1).replacen("file:other", "stdout", 1);
    assert_eq!(one("stdout", &again).err().as_deref(), Some("two exports go to the same place"));
    let again = again.replacen("stdout", "file:x", 1).replacen("ocsf", "cef", 1);
    assert_eq!(one("stdout", &again).err().as_deref(), Some("the only format is `ocsf`"));
}

#[test]
fn stores_of_later_releases_are_refused() {
    let key = "catalog = \"postgres://db/catalog\"";
    let problem = broken("state = \"state\"", &format!("state = \"state\"\n{key}"), "not in this release");
    assert_eq!(problem.line, line_of("state = \"state\"") + 1);
}

#[test]
fn an_archive_is_a_bucket_or_a_directory_and_reached_safely() {
    let with = |url: &str, table: &str| {
        let text = GOOD.replacen("state = \"state\"", &format!("state = \"state\"\narchive = \"{url}\""), 1);
        read(&format!("{text}\n[archive]\n{table}\n"))
    };
    let good = with("s3://evidence/gw-a/", "endpoint = \"https://s3.internal:9000\"\nevery = \"5s\"\nregion = \"eu\"");
    let archive = good.unwrap_or_else(|problems| panic!("{problems:?}")).archive.expect("there is one");
    assert_eq!(archive.every, Duration::from_secs(5));
    assert_eq!(archive.place.region.as_deref(), Some("eu"));
    let bucket = ArchiveUrl::Bucket { bucket: "evidence".into(), prefix: "gw-a".into() };
    assert_eq!(archive.place.url, bucket);
    let open = with("s3://evidence", "endpoint = \"http://10.0.0.9:9000\"\ndangerous_clear_text = true");
    let open = open.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(open.archive.is_some() && open.archive_clear_text);
    for (url, table, message) in [
        ("gs://evidence", "", "must begin with s3:// or file://"),
        ("s3://E", "", "a bucket's name is"),
        ("s3://evidence/a//b", "", "a prefix is made of"),
        ("s3://evidence/../b", "", "a prefix is made of"),
        ("file://relative", "", "an absolute path"),
        ("file:///no/such/directory", "", "is not a directory"),
        ("file:///", "endpoint = \"https://s3\"", "a directory has no endpoint"),
        ("s3://evidence", "endpoint = \"http://10.0.0.9:9000\"", "must be an https URL"),
        ("s3://evidence", "endpoint = \"https://me:word@s3\"", "must be an https URL"),
        ("s3://evidence", "every = \"2h\"", "must be 1s to 1h"),
        ("s3://evidence", "ca = \"no-such.pem\"", "cannot be read"),
        ("s3://evidence", "key = \"AKIA\"", "unknown field"),
    ] {
        let problems = with(url, table).err().unwrap_or_else(|| panic!("{url} {table} is refused"));
        assert!(problems.iter().any(|problem| problem.message.contains(message)), "{url} {table}: {problems:?}");
    }
    // A table without an archive is odd.
    let odd = read(&format!("{GOOD}\n[archive]\nevery = \"5s\"\n")).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(odd.warnings.iter().any(|problem| problem.message == "[archive] without an archive"));
}

#[test]
fn a_mask_for_nothing_is_refused() {
    let text = GOOD.replacen("resource = \"shop\"\ncolumns", "resource = \"shoq\"\ncolumns", 1);
    let problems = read(&text).err().expect("it is refused");
    assert!(problems.iter().any(|problem| problem.message == "no resource is called `shoq`"), "{problems:?}");
}

#[test]
fn clear_text_for_others_must_be_said_and_is_told() {
    let open = GOOD.replacen("\"127.0.0.1:5432\"", "\"0.0.0.0:5432\"\ndangerous_clear_text = true", 1);
    let read = read(&open).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(read.clear_text);
}

#[test]
fn masks_have_a_key_for_each_resource() {
    let read = read(GOOD).unwrap_or_else(|problems| panic!("{problems:?}"));
    let name = |text: &str| chancery_model::ResourceName::parse(text).expect("a name");
    let key = |of: &str, seed: u8| super::lower::token_key(&[seed; 32], &name(of));
    assert_eq!(key("shop", 1), key("shop", 1));
    assert_ne!(key("shop", 1), key("crm", 1));
    assert_ne!(key("shop", 1), key("shop", 2));
    assert!(read.resources.iter().all(|one| one.mask.key.is_none()), "keys come from the state directory");
}

#[test]
fn durations_are_whole_and_have_a_unit() {
    assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("400d"), Ok(Duration::from_secs(400 * 86_400)));
    for bad in ["", "15", "m", "1.5h", "-1m", "+1m", "15 m", "1w", "99999999999999999999d", "999999999999999999d", "1é"]
    {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn retention_is_whole_days_and_four_hundred_if_nobody_says_otherwise() {
    let with = |lines: &str| read(&format!("{GOOD}\n[retention]\n{lines}\n"));
    let days = |lines: &str| with(lines).unwrap_or_else(|problems| panic!("{problems:?}")).retention.recordings_days;
    assert_eq!(read(GOOD).unwrap_or_else(|problems| panic!("{problems:?}")).retention.recordings_days, 400);
    assert_eq!([days(""), days("recordings = \"1d\""), days("recordings = \"48h\"")], [400, 1, 2]);
    assert_eq!(days("recordings = \"36500d\"\nsealed = \"0d\""), 36_500);
    for bad in ["0d", "23h", "36h", "90s", "36501d"] {
        let problems = with(&format!("recordings = \"{bad}\"")).err().expect("it is refused");
        let told = "`recordings` in [retention] must be whole days, 1d to 36500d";
        assert!(problems.iter().any(|problem| problem.message == told), "{bad}: {problems:?}");
    }
    let sealed = |lines: &str| with(lines).unwrap_or_else(|problems| panic!("{problems:?}")).retention.sealed_days;
    assert_eq!([sealed(""), sealed("sealed = \"30d\""), sealed("sealed = \"0d\"")], [400, 30, 400]);
    let ledger = with("ledger = \"7d\"").unwrap_or_else(|problems| panic!("{problems:?}")).retention.ledger_days;
    assert_eq!(ledger, 7);
    assert!(with("ledger = \"7h\"").is_err());
}
