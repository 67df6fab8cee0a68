//! The catalog against real files, also through two handles at once, as two processes have them.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use chancery_model::{
    Actor, Approval, Assurance, CommandId, Delegation, Digest, EntryRef, Principal, PrincipalKind, ResourceName,
    Review, ReviewState, SessionId, Timestamp,
};

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const ISSUER: &str = "https://login.example.org";

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chancery-catalog-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn file(&self) -> PathBuf {
        self.0.join("catalog.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn new() -> (Dir, Catalog) {
    let dir = Dir::new();
    let catalog = Catalog::create(&dir.file()).await.unwrap();
    (dir, catalog)
}

fn principal(subject: &str) -> Principal {
    Principal {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        kind: PrincipalKind::User,
        display: format!("{subject}@example.org"),
        groups: vec!["dba".to_owned(), "on \"call\"".to_owned()],
    }
}

fn chain(subject: &str) -> Delegation {
    let agent = Actor { issuer: ISSUER.to_owned(), subject: "deploy-agent".to_owned(), kind: PrincipalKind::Agent };
    Delegation { principal: principal(subject), actors: vec![agent] }
}

fn review(number: u8) -> Review {
    Review {
        id: ReviewId([number; 16]),
        session: SessionId([9; 16]),
        command: CommandId(4),
        resource: ResourceName::parse("shop").unwrap(),
        chain: chain("alice"),
        digest: Digest([number; 32]),
        rules: Digest([2; 32]),
        needed: vec!["four-eyes".to_owned(), "writes".to_owned()],
        text: "DELETE FROM cards WHERE number = '4111'".to_owned(),
        parameters: vec!["$1 = 'a\nb'".to_owned(), String::new()],
        summary: "delete on cards".to_owned(),
        asked_at: NOW,
        expires_at: NOW.plus_micros(1_000),
        uses: 1,
        state: ReviewState::Pending,
        approvals: Vec::new(),
    }
}

fn approval(rule: &str, reviewer: &str) -> Approval {
    Approval {
        rule: rule.to_owned(),
        reviewer: principal(reviewer),
        assurance: Assurance::Signed,
        key: Some("ssh-ed25519 AAAA".to_owned()),
        signature: Some("-----BEGIN SSH SIGNATURE-----".to_owned()),
        at: NOW,
        entry: Some(EntryRef { index: 7, leaf: Digest([3; 32]) }),
    }
}

async fn approved(catalog: &Catalog, number: u8, uses: u32) -> ReviewId {
    let id = ReviewId([number; 16]);
    catalog.create_review(&Review { uses, ..review(number) }).await.unwrap();
    assert!(catalog.set_state(id, ReviewState::Pending, ReviewState::Approved, NOW).await.unwrap());
    id
}

fn session(number: u8) -> SessionRecord {
    SessionRecord {
        id: SessionId([number; 16]),
        resource: ResourceName::parse(if number.is_multiple_of(2) { "even" } else { "odd" }).unwrap(),
        chain_id: [number % 3; 16],
        chain: "alice → deploy-agent".to_owned(),
        client: "192.0.2.1:5000".to_owned(),
        started_at: NOW,
        ended_at: None,
        ending: None,
        commands: 0,
        last_activity: NOW,
    }
}

#[tokio::test]
async fn the_file_is_made_once_and_for_its_owner_only() {
    let (dir, catalog) = new().await;
    for entry in std::fs::read_dir(&dir.0).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(matches!(Catalog::create(&dir.file()).await, Err(CatalogError::Conflict(_))));
    catalog.close().await;
    assert!(Catalog::open(&dir.file()).await.is_ok());
    std::fs::set_permissions(dir.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Catalog::open(&dir.file()).await, Err(CatalogError::Io(_))));
}

#[tokio::test]
async fn files_that_are_no_catalog_are_refused() {
    let dir = Dir::new();
    assert!(matches!(Catalog::open(&dir.file()).await, Err(CatalogError::Io(_))));
    assert!(!dir.file().exists(), "opening must not create");
    let write = |bytes: &[u8]| {
        std::fs::write(dir.file(), bytes).unwrap();
        std::fs::set_permissions(dir.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&[b'x'; 8192]);
    assert!(matches!(Catalog::open(&dir.file()).await, Err(CatalogError::Corrupt(_))));
    // What a crash between making the file and making the tables leaves.
    write(b"");
    assert!(matches!(Catalog::open(&dir.file()).await, Err(CatalogError::Corrupt(_))));
    let catalog = Catalog::create(&dir.file()).await.unwrap();
    catalog.check().await.unwrap();
    let mut connection = options(&dir.file()).connect().await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut connection).await.unwrap();
    assert!(matches!(Catalog::open(&dir.file()).await, Err(CatalogError::Version { found: 99, .. })));
    let link = dir.0.join("link");
    std::os::unix::fs::symlink(dir.file(), &link).unwrap();
    assert!(matches!(Catalog::open(&link).await, Err(CatalogError::Io(_))));
}

#[tokio::test]
async fn a_catalog_of_the_first_version_is_brought_up_to_date() {
    let (dir, catalog) = new().await;
    catalog.create_review(&review(1)).await.unwrap();
    catalog.close().await;
    let mut connection = options(&dir.file()).connect().await.unwrap();
    without_retention(&mut connection).await;
    let older = "ALTER TABLE approvals DROP COLUMN entry; ALTER TABLE approvals DROP COLUMN leaf; DROP TABLE seal_keys;
         PRAGMA user_version = 1";
    sqlx::raw_sql(older).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let catalog = Catalog::open(&dir.file()).await.unwrap();
    catalog.check().await.unwrap();
    let read = catalog.add_approval(review(1).id, &approval("writes", "bob")).await.unwrap();
    assert_eq!(read.approvals, [approval("writes", "bob")]);
    assert_eq!(catalog.last_run().await.unwrap(), None);
}

#[tokio::test]
async fn a_review_reads_back_as_it_was_written() {
    let (dir, catalog) = new().await;
    let mut written = Review { text: "SELECT 'é\0😀' -- \u{202e}".to_owned(), ..review(1) };
    catalog.create_review(&written).await.unwrap();
    assert!(matches!(catalog.create_review(&written).await, Err(CatalogError::Conflict(_))));
    written.approvals.push(approval("writes", "bob"));
    assert_eq!(catalog.add_approval(written.id, &written.approvals[0]).await.unwrap(), written);
    catalog.close().await;
    let catalog = Catalog::open(&dir.file()).await.unwrap();
    assert_eq!(catalog.review(written.id).await.unwrap(), Some(written.clone()));
    assert_eq!(catalog.review(ReviewId([7; 16])).await.unwrap(), None);
    let listed = catalog.list_reviews(Some(ReviewState::Pending), 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].approvals, &listed[0].chain), (1, 1, &written.chain));
    assert!(catalog.list_reviews(Some(ReviewState::Used), 10).await.unwrap().is_empty());
    assert_eq!(catalog.list_reviews(None, 10).await.unwrap(), listed);
}

#[tokio::test]
async fn listings_are_ordered_and_bounded() {
    let (_dir, catalog) = new().await;
    for number in 1..=5_u8 {
        let asked_at = NOW.plus_micros(i64::from(number));
        catalog.create_review(&Review { asked_at, ..review(number) }).await.unwrap();
    }
    let ids = async |state, limit| {
        let listed = catalog.list_reviews(state, limit).await.unwrap();
        listed.iter().map(|line| line.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(ReviewState::Pending), 10).await, [1, 2, 3, 4, 5], "the longest waiting first");
    assert_eq!(ids(None, 2).await, [5, 4]);
    catalog.withdraw_all_pending(NOW).await.unwrap();
    assert_eq!(ids(Some(ReviewState::Withdrawn), 3).await, [5, 4, 3]);
}

#[tokio::test]
async fn approvals_are_for_needed_rules_once_and_in_time() {
    let (_dir, catalog) = new().await;
    let id = review(1).id;
    assert!(matches!(catalog.add_approval(id, &approval("writes", "bob")).await, Err(CatalogError::NotFound(_))));
    catalog.create_review(&review(1)).await.unwrap();
    catalog.add_approval(id, &approval("writes", "bob")).await.unwrap();
    catalog.add_approval(id, &approval("writes", "carol")).await.unwrap();
    let both = catalog.add_approval(id, &approval("four-eyes", "bob")).await.unwrap();
    assert_eq!((both.approvals.len(), both.state), (3, ReviewState::Pending));
    let late = Approval { at: NOW.plus_micros(1_000), ..approval("writes", "dave") };
    for refused in [approval("writes", "bob"), approval("other", "dave"), late] {
        assert!(matches!(catalog.add_approval(id, &refused).await, Err(CatalogError::Conflict(_))));
    }
    catalog.set_state(id, ReviewState::Pending, ReviewState::Approved, NOW).await.unwrap();
    let after = catalog.add_approval(id, &approval("writes", "dave")).await;
    assert!(matches!(after, Err(CatalogError::Conflict(_))));
    assert_eq!(catalog.review(id).await.unwrap().unwrap().approvals.len(), 3);
}

#[tokio::test]
async fn states_move_by_compare_and_set() {
    use ReviewState::{Approved, Denied, Expired, Pending, Used, Withdrawn};
    let (_dir, catalog) = new().await;
    let id = review(1).id;
    catalog.create_review(&review(1)).await.unwrap();
    for (from, to) in [(Pending, Used), (Approved, Used), (Approved, Pending), (Denied, Approved), (Pending, Pending)] {
        assert!(matches!(catalog.set_state(id, from, to, NOW).await, Err(CatalogError::Conflict(_))));
    }
    assert!(!catalog.set_state(id, Pending, Approved, NOW.plus_micros(1_000)).await.unwrap(), "expired");
    assert!(!catalog.set_state(id, Approved, Withdrawn, NOW).await.unwrap());
    assert!(!catalog.consume(id, NOW).await.unwrap(), "not approved yet");
    assert!(catalog.set_state(id, Pending, Approved, NOW).await.unwrap());
    assert!(!catalog.set_state(id, Pending, Approved, NOW).await.unwrap());
    assert!(catalog.set_state(id, Approved, Expired, NOW).await.unwrap());
    assert!(!catalog.consume(id, NOW).await.unwrap());
}

#[tokio::test]
async fn a_denial_ends_a_review_and_is_remembered() {
    let (_dir, catalog) = new().await;
    let id = review(1).id;
    catalog.create_review(&review(1)).await.unwrap();
    assert_eq!(catalog.denial(id).await.unwrap(), None);
    let late = catalog.deny(id, &principal("bob"), "no", NOW.plus_micros(1_000)).await;
    assert!(matches!(late, Err(CatalogError::Conflict(_))));
    let denied = catalog.deny(id, &principal("bob"), "not on a Friday", NOW).await.unwrap();
    assert_eq!(denied.state, ReviewState::Denied);
    let denial = Denial { by: principal("bob"), reason: "not on a Friday".to_owned(), at: NOW };
    assert_eq!(catalog.denial(id).await.unwrap(), Some(denial));
    assert!(matches!(catalog.deny(id, &principal("eve"), "", NOW).await, Err(CatalogError::Conflict(_))));
    assert!(!catalog.set_state(id, ReviewState::Pending, ReviewState::Approved, NOW).await.unwrap());
}

#[tokio::test]
async fn the_masked_form_replaces_the_text_in_every_file() {
    let (dir, catalog) = new().await;
    let id = review(1).id;
    // Long enough for pages of its own, which are given back when the short form comes.
    let text = format!("DELETE FROM cards WHERE number IN ({})", "'4111', ".repeat(20_000));
    catalog.create_review(&Review { text, ..review(1) }).await.unwrap();
    catalog.deny(id, &principal("bob"), "", NOW).await.unwrap();
    assert_eq!(catalog.ended_unmasked().await.unwrap(), [id]);
    let other_end = catalog.finish(id, ReviewState::Expired, "x", &[], NOW).await;
    assert!(matches!(other_end, Err(CatalogError::Conflict(_))));
    let masked = "DELETE FROM cards WHERE number = '****'";
    assert!(catalog.finish(id, ReviewState::Denied, masked, &["$1 = ***".to_owned()], NOW).await.unwrap());
    assert!(!catalog.finish(id, ReviewState::Denied, "again", &[], NOW).await.unwrap());
    assert!(catalog.ended_unmasked().await.unwrap().is_empty());
    let read = catalog.review(id).await.unwrap().unwrap();
    assert_eq!((read.text.as_str(), read.parameters.len(), read.state), (masked, 1, ReviewState::Denied));
    assert!(catalog.fold().await.unwrap());
    for entry in std::fs::read_dir(&dir.0).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"4111"), "the complete text lingers");
    }
}

#[tokio::test]
async fn finishing_ends_what_is_open_but_never_uses() {
    let (_dir, catalog) = new().await;
    catalog.create_review(&review(1)).await.unwrap();
    let id = approved(&catalog, 2, 1).await;
    assert!(catalog.finish(review(1).id, ReviewState::Withdrawn, "", &[], NOW).await.unwrap());
    for to in [ReviewState::Used, ReviewState::Pending, ReviewState::Approved, ReviewState::Denied] {
        assert!(matches!(catalog.finish(id, to, "", &[], NOW).await, Err(CatalogError::Conflict(_))));
    }
    assert!(catalog.consume(id, NOW).await.unwrap());
    assert!(catalog.finish(id, ReviewState::Used, "", &[], NOW).await.unwrap());
    let missing = catalog.finish(ReviewId([7; 16]), ReviewState::Denied, "", &[], NOW).await;
    assert!(matches!(missing, Err(CatalogError::NotFound(_))));
}

#[tokio::test]
async fn uses_count_down_and_end_with_time() {
    let (_dir, catalog) = new().await;
    let id = approved(&catalog, 1, 2).await;
    let end = NOW.plus_micros(1_000);
    assert!(!catalog.consume(id, end).await.unwrap());
    assert!(catalog.consume(id, NOW).await.unwrap());
    let halfway = catalog.review(id).await.unwrap().unwrap();
    assert_eq!((halfway.uses, halfway.state), (1, ReviewState::Approved));
    assert!(catalog.consume(id, NOW).await.unwrap());
    assert!(!catalog.consume(id, NOW).await.unwrap());
    let used = catalog.review(id).await.unwrap().unwrap();
    assert_eq!((used.uses, used.state), (0, ReviewState::Used));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_exactly_one_consumes() {
    let (dir, one) = new().await;
    let other = Catalog::open(&dir.file()).await.unwrap();
    for number in 0..100 {
        let id = approved(&one, number, 1).await;
        let race = |catalog: Catalog| tokio::spawn(async move { catalog.consume(id, NOW).await.unwrap() });
        let (a, b, c, d) = (race(one.clone()), race(other.clone()), race(one.clone()), race(other.clone()));
        let wins = [a.await.unwrap(), b.await.unwrap(), c.await.unwrap(), d.await.unwrap()];
        assert_eq!(wins.into_iter().filter(|won| *won).count(), 1, "round {number}");
    }
}

/// The same with processes of the operating system: SQLite's locks between processes are others than those within one.
/// The test starts its own binary twice; with the variable set it is one of the racers.
#[tokio::test]
async fn of_two_operating_system_processes_exactly_one_consumes() {
    const RACERS_FILE: &str = "CHANCERY_TEST_CATALOG";
    const NAME: &str = "catalog::tests::of_two_operating_system_processes_exactly_one_consumes";
    if let Some(path) = std::env::var_os(RACERS_FILE) {
        let catalog = Catalog::open(Path::new(&path)).await.unwrap();
        println!("\nready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        for number in 0..100 {
            if catalog.consume(ReviewId([number; 16]), NOW).await.unwrap() {
                println!("\nwon {number}");
            }
        }
        return;
    }
    let (dir, catalog) = new().await;
    for number in 0..100 {
        let chain = chain(&format!("agent-{}", number % 10));
        catalog.create_review(&Review { chain, ..review(number) }).await.unwrap();
        let id = ReviewId([number; 16]);
        assert!(catalog.set_state(id, ReviewState::Pending, ReviewState::Approved, NOW).await.unwrap());
    }
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(RACERS_FILE, dir.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut racers = [start(), start()];
    let mut outputs: Vec<_> =
        racers.iter_mut().map(|racer| BufReader::new(racer.stdout.take().unwrap()).lines()).collect();
    for output in &mut outputs {
        assert!(output.any(|line| line.unwrap() == "ready"));
    }
    for racer in &mut racers {
        racer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let lines = outputs.into_iter().flatten().map(|line| line.unwrap());
    let mut won: Vec<u8> = lines.filter_map(|line| line.strip_prefix("won ")?.parse().ok()).collect();
    for racer in &mut racers {
        assert!(racer.wait().unwrap().success());
    }
    won.sort_unstable();
    assert_eq!(won, (0..100).collect::<Vec<u8>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_approving_lose_nothing() {
    let (dir, one) = new().await;
    let other = Catalog::open(&dir.file()).await.unwrap();
    let id = review(1).id;
    one.create_review(&review(1)).await.unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let catalog = if number % 2 == 0 { one.clone() } else { other.clone() };
            // Each reviewer tries through both handles; one of the two attempts must be refused.
            let reviewer = format!("reviewer-{}", number / 2);
            tokio::spawn(async move { catalog.add_approval(id, &approval("writes", &reviewer)).await.is_ok() })
        })
        .collect();
    let mut added = 0;
    for task in tasks {
        added += usize::from(task.await.unwrap());
    }
    assert_eq!(added, 20);
    assert_eq!(one.review(id).await.unwrap().unwrap().approvals.len(), 20);
}

#[tokio::test]
async fn an_approval_is_found_by_digest_and_chain_only() {
    let (_dir, catalog) = new().await;
    let digest = Digest([1; 32]);
    catalog.create_review(&review(1)).await.unwrap();
    let alice = chain("alice");
    assert_eq!(catalog.find_approved(digest, &alice, NOW).await.unwrap(), None);
    assert_eq!(catalog.find_pending(digest, &alice, NOW).await.unwrap(), Some(review(1).id));
    catalog.set_state(review(1).id, ReviewState::Pending, ReviewState::Approved, NOW).await.unwrap();
    assert_eq!(catalog.find_pending(digest, &alice, NOW).await.unwrap(), None);
    let found = catalog.find_approved(digest, &alice, NOW).await.unwrap().unwrap();
    assert_eq!((found.id, found.state), (review(1).id, ReviewState::Approved));
    let mut fewer_groups = alice.clone();
    fewer_groups.principal.groups.pop();
    let direct = Delegation { actors: Vec::new(), ..alice.clone() };
    for other in [chain("mallory"), fewer_groups, direct] {
        assert_eq!(catalog.find_approved(digest, &other, NOW).await.unwrap(), None);
    }
    assert_eq!(catalog.find_approved(Digest([3; 32]), &alice, NOW).await.unwrap(), None);
    assert_eq!(catalog.find_approved(digest, &alice, NOW.plus_micros(1_000)).await.unwrap(), None);
    assert!(catalog.consume(review(1).id, NOW).await.unwrap());
    assert_eq!(catalog.find_approved(digest, &alice, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn time_restart_and_leaving_end_reviews() {
    let (_dir, catalog) = new().await;
    let elsewhere = SessionId([8; 16]);
    catalog.create_review(&review(1)).await.unwrap();
    catalog.create_review(&Review { session: elsewhere, ..review(2) }).await.unwrap();
    let later = NOW.plus_micros(9_000);
    catalog.create_review(&Review { expires_at: later, ..review(3) }).await.unwrap();
    let id = approved(&catalog, 4, 1).await;
    assert_eq!(catalog.withdraw_pending_of(elsewhere, NOW).await.unwrap(), [review(2).id]);
    assert!(catalog.expire_due(NOW).await.unwrap().is_empty());
    let mut due = catalog.expire_due(NOW.plus_micros(1_000)).await.unwrap();
    due.sort();
    assert_eq!(due, [review(1).id, id]);
    assert_eq!(catalog.withdraw_all_pending(NOW).await.unwrap(), [review(3).id]);
    assert!(catalog.withdraw_all_pending(NOW).await.unwrap().is_empty());
    let line = &catalog.list_reviews(Some(ReviewState::Withdrawn), 10).await.unwrap()[0];
    assert_eq!(line.ended_at, Some(NOW));
}

#[tokio::test]
async fn many_reviews_end_in_batches() {
    let (_dir, catalog) = new().await;
    let total = limits::BATCH as u16 + 3;
    for number in 0..total {
        let [high, low] = number.to_be_bytes();
        let mut id = [0; 16];
        id[..2].copy_from_slice(&[high, low]);
        let chain = chain(&format!("agent-{}", number / 60));
        catalog.create_review(&Review { id: ReviewId(id), chain, ..review(1) }).await.unwrap();
    }
    assert_eq!(catalog.withdraw_all_pending(NOW).await.unwrap().len(), usize::from(total));
    let mut seen = 0;
    let mut seq = 0;
    loop {
        let (next, ids) = catalog.changed_since(seq).await.unwrap();
        if ids.is_empty() {
            break;
        }
        seen += ids.len();
        seq = next;
    }
    assert_eq!(seen, usize::from(total));
}

#[tokio::test]
async fn reviews_are_bounded() {
    let (_dir, catalog) = new().await;
    let long = Review { text: "x".repeat(limits::REVIEW_BYTES), parameters: Vec::new(), ..review(200) };
    catalog.create_review(&long).await.unwrap();
    let longer = Review { parameters: vec!["y".to_owned()], ..long.clone() };
    let refused = catalog.create_review(&Review { id: ReviewId([201; 16]), ..longer }).await;
    assert!(matches!(refused, Err(CatalogError::Limit { max: 16_777_216, .. })));
    for number in 1..limits::OPEN_REVIEWS_PER_CHAIN as u8 {
        catalog.create_review(&review(number)).await.unwrap();
    }
    let full = catalog.create_review(&review(100)).await;
    assert!(matches!(full, Err(CatalogError::Limit { what: "open reviews of a chain", max: 64 })));
    let other = Review { chain: chain("bob"), ..review(100) };
    catalog.create_review(&other).await.unwrap();
    catalog.set_state(review(1).id, ReviewState::Pending, ReviewState::Withdrawn, NOW).await.unwrap();
    catalog.create_review(&review(101)).await.unwrap();
    for number in 210..213 {
        let chain = chain("carol");
        catalog.create_review(&Review { id: ReviewId([number; 16]), chain, ..long.clone() }).await.unwrap();
    }
    let chain = chain("carol");
    catalog.create_review(&Review { id: ReviewId([213; 16]), chain: chain.clone(), ..long.clone() }).await.unwrap();
    let heavy = catalog.create_review(&Review { chain, ..review(214) }).await;
    assert!(matches!(heavy, Err(CatalogError::Limit { what: "bytes of open reviews of a chain", .. })));
}

#[tokio::test]
async fn odd_reviews_are_refused() {
    let (_dir, catalog) = new().await;
    for odd in [
        Review { state: ReviewState::Approved, ..review(1) },
        Review { uses: 0, ..review(1) },
        Review { expires_at: NOW, ..review(1) },
        Review { approvals: vec![approval("writes", "bob")], ..review(1) },
    ] {
        assert!(matches!(catalog.create_review(&odd).await, Err(CatalogError::Conflict(_))));
    }
    let many = Review { needed: vec!["r".to_owned(); limits::NEEDED_RULES + 1], ..review(1) };
    assert!(matches!(catalog.create_review(&many).await, Err(CatalogError::Limit { .. })));
    assert!(catalog.list_reviews(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn changes_are_heard_here_and_polled_from_elsewhere() {
    let (dir, one) = new().await;
    let other = Catalog::open(&dir.file()).await.unwrap();
    let mut wake_ups = one.subscribe();
    let start = other.change_seq().await.unwrap();
    one.create_review(&review(1)).await.unwrap();
    one.create_review(&review(2)).await.unwrap();
    assert_eq!(wake_ups.recv().await.unwrap(), review(1).id);
    assert_eq!(wake_ups.recv().await.unwrap(), review(2).id);
    let (seq, ids) = other.changed_since(start).await.unwrap();
    assert_eq!(ids, [review(1).id, review(2).id]);
    assert_eq!(other.changed_since(seq).await.unwrap(), (seq, Vec::new()));
    other.deny(review(1).id, &principal("bob"), "", NOW).await.unwrap();
    let (next, ids) = one.changed_since(seq).await.unwrap();
    assert_eq!(ids, [review(1).id]);
    assert_eq!(one.change_seq().await.unwrap(), next);
    assert!(wake_ups.try_recv().is_err(), "another handle's change is not announced here");
}

#[tokio::test]
async fn ended_and_masked_reviews_can_be_pruned() {
    let (_dir, catalog) = new().await;
    for number in 1..4 {
        catalog.create_review(&review(number)).await.unwrap();
    }
    catalog.add_approval(review(1).id, &approval("writes", "bob")).await.unwrap();
    catalog.finish(review(1).id, ReviewState::Denied, "", &[], NOW).await.unwrap();
    catalog.set_state(review(2).id, ReviewState::Pending, ReviewState::Withdrawn, NOW).await.unwrap();
    assert_eq!(catalog.prune_reviews(NOW).await.unwrap(), 0);
    assert_eq!(catalog.prune_reviews(NOW.plus_micros(1)).await.unwrap(), 1, "open and unmasked ones stay");
    assert_eq!(catalog.review(review(1).id).await.unwrap(), None);
    let approvals = sqlx::query("SELECT count(*) FROM approvals").fetch_one(&catalog.readers).await.unwrap();
    assert_eq!(approvals.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn sessions_open_and_close_once() {
    let (dir, catalog) = new().await;
    let begun = |number| SessionNote::Opened(session(number));
    catalog.note_sessions(&[1, 2, 3].map(begun)).await.unwrap();
    let again = catalog.note_sessions(&[begun(1), begun(4)]).await;
    assert!(matches!(again, Err(CatalogError::Conflict(_))), "the fourth is kept all the same");
    let id = session(1).id;
    let later = NOW.plus_micros(5);
    assert!(catalog.touch_session(id, 3, later).await.unwrap());
    let ended = |ending, commands| SessionNote::Closed { id, ending, commands, at: later };
    catalog.note_sessions(&[ended("client-closed", 7), ended("again", 9)]).await.unwrap();
    assert!(!catalog.touch_session(id, 9, later).await.unwrap());
    let ending = Some("client-closed".to_owned());
    let expected = SessionRecord { ended_at: Some(later), ending, commands: 7, last_activity: later, ..session(1) };
    assert_eq!(catalog.session(id).await.unwrap(), Some(expected));
    assert_eq!(catalog.session(SessionId([77; 16])).await.unwrap(), None);
    let ids = |filter: SessionFilter| {
        let catalog = catalog.clone();
        async move {
            let listed = catalog.list_sessions(&filter, 10).await.unwrap();
            listed.iter().map(|session| session.id.0[0]).collect::<Vec<_>>()
        }
    };
    let all = SessionFilter::default();
    assert_eq!(ids(all.clone()).await, [4, 3, 2, 1]);
    assert_eq!(ids(SessionFilter { open: Some(true), ..all.clone() }).await, [4, 3, 2]);
    assert_eq!(ids(SessionFilter { open: Some(false), ..all.clone() }).await, [1]);
    assert_eq!(ids(SessionFilter { resource: ResourceName::parse("odd"), ..all.clone() }).await, [3, 1]);
    assert_eq!(ids(SessionFilter { chain_id: Some([1; 16]), ..all.clone() }).await, [4, 1]);
    assert_eq!(ids(SessionFilter { before: Some(SessionId([3; 16])), ..all.clone() }).await, [2, 1]);
    catalog.close().await;
    let catalog = Catalog::open(&dir.file()).await.unwrap();
    let abandoned = catalog.close_abandoned(later).await.unwrap();
    assert_eq!(abandoned, [session(2), session(3), session(4)]);
    assert!(catalog.close_abandoned(later).await.unwrap().is_empty());
    assert_eq!(catalog.session(session(2).id).await.unwrap().unwrap().ending.as_deref(), Some("abandoned"));
    assert_eq!(catalog.prune_sessions(later).await.unwrap(), 0);
    assert_eq!(catalog.prune_sessions(later.plus_micros(1)).await.unwrap(), 4);
}

#[tokio::test]
async fn chains_are_remembered_once() {
    let (_dir, catalog) = new().await;
    assert!(catalog.remember_chain([1; 16], &chain("alice"), NOW).await.unwrap());
    assert!(!catalog.remember_chain([1; 16], &chain("alice"), NOW.plus_micros(1)).await.unwrap());
    let taken = catalog.remember_chain([1; 16], &chain("bob"), NOW).await;
    assert!(matches!(taken, Err(CatalogError::Conflict(_))));
    let expected = ChainRecord { chain_id: [1; 16], chain: chain("alice"), first_seen: NOW };
    assert_eq!(catalog.chain([1; 16]).await.unwrap(), Some(expected));
    let mut renamed = Delegation { principal: principal("alice"), actors: Vec::new() };
    renamed.principal.display = "Alice".to_owned();
    assert!(catalog.remember_chain([2; 16], &renamed, NOW.plus_micros(9)).await.unwrap());
    assert!(catalog.remember_chain([3; 16], &chain("bob"), NOW).await.unwrap());
    let alice = catalog.principal(ISSUER, "alice").await.unwrap().unwrap();
    assert_eq!((alice.display.as_str(), alice.first_seen), ("Alice", NOW));
    assert_eq!(catalog.list_principals(None, 10).await.unwrap().len(), 2);
    let rest = catalog.list_principals(Some((ISSUER, "alice")), 10).await.unwrap();
    assert_eq!((rest.len(), rest[0].subject.as_str()), (1, "bob"));
}

#[tokio::test]
async fn secrets_have_versions() {
    let (_dir, catalog) = new().await;
    assert!(catalog.current_secret("db").await.unwrap().is_none());
    assert_eq!(catalog.next_secret_version("db").await.unwrap(), 1);
    catalog.put_secret("db", 1, b"one", NOW).await.unwrap();
    for wrong in [0, 1, 3] {
        assert!(matches!(catalog.put_secret("db", wrong, b"x", NOW).await, Err(CatalogError::Conflict(_))));
    }
    catalog.put_secret("db", 2, b"two", NOW).await.unwrap();
    catalog.put_secret("other", 1, b"three", NOW).await.unwrap();
    let current = || async { catalog.current_secret("db").await.unwrap().map(|s| (s.version, s.envelope)) };
    assert_eq!(current().await, Some((2, b"two".to_vec())));
    assert!(!catalog.replace_envelope("db", 2, b"stale", b"new").await.unwrap());
    assert!(catalog.replace_envelope("db", 2, b"two", b"new").await.unwrap());
    assert_eq!(current().await, Some((2, b"new".to_vec())));
    assert!(catalog.retire_secret("db", 2).await.unwrap());
    assert!(!catalog.retire_secret("db", 2).await.unwrap());
    assert_eq!(current().await, Some((1, b"one".to_vec())));
    assert_eq!(catalog.next_secret_version("db").await.unwrap(), 3, "numbers are not used twice");
    assert_eq!(catalog.secret("db", 2).await.unwrap().map(|s| s.envelope), Some(b"new".to_vec()));
    let states: Vec<_> = catalog.list_secrets().await.unwrap().iter().map(|s| (s.version, s.state)).collect();
    assert_eq!(states, [(1, SecretState::Active), (2, SecretState::Retired), (1, SecretState::Active)]);
    let large = vec![0; limits::ENVELOPE_BYTES + 1];
    assert!(matches!(catalog.put_secret("db", 3, &large, NOW).await, Err(CatalogError::Limit { .. })));
}

#[tokio::test]
async fn reviewer_keys_belong_to_one_person() {
    let (_dir, catalog) = new().await;
    let key = |subject: &str, number: u64| ReviewerKey {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        line: format!("ssh-ed25519 AAAA{number}"),
        fingerprint: format!("SHA256:{number}"),
        added_at: NOW,
        added_by: "root".to_owned(),
    };
    catalog.add_reviewer_key(&key("bob", 1)).await.unwrap();
    assert!(matches!(catalog.add_reviewer_key(&key("eve", 1)).await, Err(CatalogError::Conflict(_))));
    assert_eq!(catalog.reviewer_keys(ISSUER, "bob").await.unwrap(), [key("bob", 1)]);
    assert!(catalog.reviewer_keys("https://other.example.org", "bob").await.unwrap().is_empty());
    assert!(!catalog.remove_reviewer_key(ISSUER, "eve", "SHA256:1").await.unwrap());
    for number in 2..=limits::KEYS_PER_REVIEWER {
        catalog.add_reviewer_key(&key("bob", number)).await.unwrap();
    }
    assert!(matches!(catalog.add_reviewer_key(&key("bob", 99)).await, Err(CatalogError::Limit { max: 16, .. })));
    assert!(catalog.remove_reviewer_key(ISSUER, "bob", "SHA256:1").await.unwrap());
    assert_eq!(catalog.list_reviewer_keys().await.unwrap().len(), 15);
}

#[tokio::test]
async fn key_sets_survive_a_restart_and_never_go_back() {
    let (dir, catalog) = new().await;
    assert!(catalog.put_jwks(ISSUER, "{\"keys\":[]}", NOW).await.unwrap());
    assert!(catalog.put_jwks(ISSUER, "{\"keys\":[1]}", NOW.plus_micros(1)).await.unwrap());
    assert!(!catalog.put_jwks(ISSUER, "{\"keys\":[0]}", NOW).await.unwrap());
    catalog.close().await;
    let catalog = Catalog::open(&dir.file()).await.unwrap();
    let cached = CachedJwks { json: "{\"keys\":[1]}".to_owned(), fetched_at: NOW.plus_micros(1) };
    assert_eq!(catalog.jwks(ISSUER).await.unwrap(), Some(cached));
    assert_eq!(catalog.jwks("https://other.example.org").await.unwrap(), None);
    let large = "x".repeat(limits::JWKS_BYTES + 1);
    assert!(matches!(catalog.put_jwks(ISSUER, &large, NOW).await, Err(CatalogError::Limit { .. })));
    for number in 1..limits::ISSUERS {
        assert!(catalog.put_jwks(&format!("https://{number}.example.org"), "{}", NOW).await.unwrap());
    }
    let full = catalog.put_jwks("https://one-more.example.org", "{}", NOW).await;
    assert!(matches!(full, Err(CatalogError::Limit { what: "issuers", .. })));
    assert!(catalog.forget_jwks(ISSUER).await.unwrap());
}

#[tokio::test]
async fn a_row_altered_by_hand_is_said_to_be_corrupt() {
    let (_dir, catalog) = new().await;
    for alteration in [
        "UPDATE reviews SET chain = '{}'",
        "UPDATE reviews SET needed = 'x'",
        "UPDATE reviews SET resource = 'NOT A NAME'",
        "UPDATE reviews SET command = -1",
        "UPDATE reviews SET uses = 5000000000",
    ] {
        sqlx::query("DELETE FROM reviews").execute(&catalog.writer).await.unwrap();
        catalog.create_review(&review(1)).await.unwrap();
        sqlx::query(alteration).execute(&catalog.writer).await.unwrap();
        let read = catalog.review(review(1).id).await;
        assert!(matches!(read, Err(CatalogError::Corrupt(_))), "{alteration}: {read:?}");
    }
}

#[tokio::test]
async fn errors_do_not_show_what_rows_hold() {
    let (_dir, catalog) = new().await;
    catalog.create_review(&review(1)).await.unwrap();
    let error = catalog.create_review(&review(1)).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("4111") && !shown.contains("alice"), "{shown}");
}

#[tokio::test]
async fn a_destroyed_key_is_in_no_file_any_more() {
    let (dir, catalog) = new().await;
    let (session, resource) = (SessionId([9; 16]), review(1).resource);
    let envelope = [0xA7; 200];
    catalog.put_seal_key(session, &resource, &envelope, Timestamp(5)).await.unwrap();
    let again = catalog.put_seal_key(session, &resource, &[1; 8], Timestamp(6)).await;
    assert!(matches!(again, Err(CatalogError::Conflict(_))));
    let kept = catalog.seal_key(session).await.unwrap().unwrap();
    assert_eq!((kept.envelope, kept.resource, kept.created_at), (envelope.to_vec(), resource, Timestamp(5)));
    let holds = |path: std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(32).any(|window| window == &envelope[..32]))
    };
    let files = || {
        let file = dir.file();
        let log = std::path::PathBuf::from(format!("{}-wal", file.display()));
        [holds(file), holds(log)]
    };
    assert_ne!(files(), [false, false], "it can be found as long as it is kept");
    assert!(catalog.destroy_seal_key(session).await.unwrap());
    assert_eq!(files(), [false, false]);
    assert!(catalog.seal_key(session).await.unwrap().is_none());
    assert!(catalog.destroy_seal_key(session).await.unwrap(), "again, as after a crash");
}

/// The tables that the fourth version added.
const FOURTH: [&str; 5] = ["ledger_segments", "recording_sessions", "recording_files", "holds", "retention_runs"];

async fn without_retention(connection: &mut sqlx::SqliteConnection) {
    for table in FOURTH {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP TABLE {table}"))).execute(&mut *connection).await.unwrap();
    }
    sqlx::raw_sql("PRAGMA user_version = 3").execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_catalog_of_the_third_version_is_brought_up_to_date() {
    let (dir, catalog) = new().await;
    catalog.close().await;
    let mut connection = options(&dir.file()).connect().await.unwrap();
    without_retention(&mut connection).await;
    sqlx::Connection::close(connection).await.unwrap();
    let catalog = Catalog::open(&dir.file()).await.unwrap();
    assert_eq!(catalog.count_holds().await.unwrap(), 0);
    assert_eq!(catalog.last_run().await.unwrap(), None);
}
