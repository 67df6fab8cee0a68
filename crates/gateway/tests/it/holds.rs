//! Holds: what releases a command, what does not, and how each review ends (bug classes B6, B13, B20).

use std::process::Stdio;

use chancery_ledger::EntryKind;
use chancery_model::{Approval, Assurance, ReviewState};
use chancery_policy::approval::payload;

use crate::rig::{
    Raw, approve, clicked, complaint, ended_as, entry, field, finish, force, listen, now, of, pending, pending_but,
    person, sqlstate, story, tags, until, values,
};
use crate::world::{Setup, World, review_rule};
use crate::{err, out};

const RULES: &str = r#"
    permit(principal, action in [Action::"connect", Action::"read"], resource);
    permit(principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
"#;
const DELETE: &str = "delete from orders where id <= 3";

async fn world(name: &str) -> Option<World> {
    listen();
    let world = World::with(Setup::new(name, RULES)).await?;
    world.postgres.direct("create table orders (id int); insert into orders select generate_series(1, 10)");
    Some(world)
}

fn count(world: &World) -> String {
    world.postgres.direct("select count(*) from orders")
}

fn token(world: &World) -> String {
    world.issuer.token("alice", &["analysts"], &["report-agent"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_runs_its_command_once() {
    let Some(world) = world("once").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask(DELETE).await;
    assert!(raw.notice().await.field('M').contains("held for review"));
    let review = pending(&world).await;
    assert_eq!(review.text, DELETE);
    assert_eq!(count(&world), "10");
    approve(&world, review.id).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    assert_eq!(count(&world), "7");
    ended_as(&world, review.id, ReviewState::Used).await;
    assert_eq!(story(&world, review.id), ["approval.request", "approval.use", "act.start"]);

    // The same text again is another command: it is held again.
    world.postgres.direct("insert into orders select generate_series(1, 3)");
    raw.ask(DELETE).await;
    raw.notice().await;
    let second = pending(&world).await;
    assert_ne!(second.id, review.id);
    assert!(!world.gateway.catalog().consume(review.id, now()).await.expect("an answer"), "used up");
    world.gateway.catalog().deny(second.id, &person("dana", &["dba"]), "no", now()).await.expect("it is denied");
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42501"));
    assert!(complaint(&answer).contains("denied"), "{}", complaint(&answer));
    assert_eq!(count(&world), "10");
    assert_eq!(values(&raw.query("select 1").await), ["1"], "the session is usable");
    assert_eq!(story(&world, second.id), ["approval.request"]);
    drop(raw);
    let leaves = finish(world).await;
    let starts = leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::ActStart) && !field(leaf, "rev").is_empty());
    assert_eq!(starts.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_and_disconnect_withdraw_the_review() {
    let Some(world) = world("withdraw").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask(DELETE).await;
    raw.notice().await;
    let review = pending(&world).await;
    Raw::cancel(world.port, &raw.key).await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "57014"));
    ended_as(&world, review.id, ReviewState::Withdrawn).await;
    entry(&world, EntryKind::ApprovalEnd, "end", "withdrawn").await;
    assert_eq!(story(&world, review.id), ["approval.request", "approval.end:withdrawn"]);
    let gone = clicked("dana", &["dba"]);
    assert!(world.gateway.catalog().add_approval(review.id, &gone).await.is_err(), "it is over");
    let covered = world.gateway.catalog().review(review.id).await.expect("read").expect("there");
    assert!(!covered.text.contains('3'), "the complete text went: {}", covered.text);
    assert_eq!(values(&raw.query("select 1").await), ["1"]);

    // Cancel after the release has no command to act on.
    raw.ask(DELETE).await;
    raw.notice().await;
    let second = pending(&world).await;
    approve(&world, second.id).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    Raw::cancel(world.port, &raw.key).await;
    assert_eq!(values(&raw.query("select 2").await), ["2"]);
    assert_eq!(count(&world), "7");

    raw.ask("delete from orders").await;
    raw.notice().await;
    let third = pending(&world).await;
    drop(raw);
    ended_as(&world, third.id, ReviewState::Withdrawn).await;
    until("the end on record", async || (story(&world, third.id).len() == 2).then_some(())).await;
    assert_eq!(story(&world, third.id), ["approval.request", "approval.end:withdrawn"]);
    assert_eq!(count(&world), "7");
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_at_psql_withdraws_the_review() {
    let Some(world) = world("sigint").await else { return };
    let token = token(&world);
    let mut command = world.psql_command(&token, &["-c", DELETE]);
    let child = command.stdin(Stdio::null()).spawn().expect("psql runs");
    let pid = child.id().expect("it lives").to_string();
    let review = pending(&world).await;
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let done = child.wait_with_output().await.expect("psql ends");
    assert!(!done.status.success());
    ended_as(&world, review.id, ReviewState::Withdrawn).await;
    assert_eq!(count(&world), "10");
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_that_nobody_answers_expires() {
    listen();
    let setup = Setup { reviews: vec![review_rule("dba", Assurance::Clicked, 700_000)], ..Setup::new("expiry", RULES) };
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table orders (id int); insert into orders select generate_series(1, 10)");
    let token = token(&world);
    let done = world.psql(&token, &["-c", DELETE, "-c", "select 'usable'"]).await;
    assert!(err(&done).contains("nobody answered the review in time"), "{}", err(&done));
    assert!(err(&done).contains("rev-"), "the review's id: {}", err(&done));
    assert_eq!(out(&done), "usable");
    assert_eq!(count(&world), "10");
    let leaves = finish(world).await;
    let ends: Vec<_> = leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::ApprovalEnd)).collect();
    assert_eq!(ends.iter().map(|leaf| field(leaf, "end")).collect::<Vec<_>>(), ["expired"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_that_do_not_count_release_nothing() {
    let Some(world) = world("invalid").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let agent = clicked("report-agent", &["dba"]);
    let signed = |text: &str, key: Option<&str>| Approval {
        assurance: Assurance::Signed,
        key: key.map(str::to_owned),
        signature: Some(text.to_owned()),
        ..clicked("dana", &["dba"])
    };
    let invalid: Vec<(&str, Approval)> = vec![
        ("the principal itself", clicked("alice", &["dba"])),
        ("an actor of the chain", agent),
        ("not a reviewer", clicked("erin", &["analysts"])),
        ("signed without a key", signed("-----BEGIN SSH SIGNATURE-----", None)),
        ("from before it was asked", Approval { at: chancery_model::Timestamp(1), ..clicked("dana", &["dba"]) }),
    ];
    for (what, mut approval) in invalid {
        raw.ask(DELETE).await;
        raw.notice().await;
        let review = pending(&world).await;
        if approval.at.0 > 1 {
            approval.at = now();
        }
        force(&world, review.id, &approval).await;
        let answer = raw.ready().await;
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42501"), "{what}");
        assert_eq!(count(&world), "10", "{what}");
    }
    drop(raw);
    let leaves = finish(world).await;
    assert!(leaves.iter().all(|leaf| leaf.kind != Some(EntryKind::ActStart) || field(leaf, "rev").is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_covers_these_parameters_and_no_others() {
    let Some(world) = world("parameters").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[("options", "-c chancery.wait=off")]).await;
    let sql = "delete from orders where id <= $1::text::int";
    raw.execute(sql, &["3"]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "42501", "{}", complaint(&answer));
    let review = pending(&world).await;
    assert!(complaint(&answer).contains(&review.id.to_string()), "{}", complaint(&answer));
    assert_eq!(review.parameters, ["'3'"]);
    approve(&world, review.id).await;

    raw.execute(sql, &["10"]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "42501");
    assert!(!complaint(&answer).contains(&review.id.to_string()), "another review: {}", complaint(&answer));
    assert_eq!(count(&world), "10");
    raw.execute("delete from orders  where id <= $1::text::int", &["3"]).await;
    raw.sync().await;
    assert_eq!(sqlstate(&raw.ready().await), "42501", "a space more is another text");

    raw.execute(sql, &["3"]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!(tags(&answer), "12CZ", "{}", complaint(&answer));
    assert_eq!(count(&world), "7");
    assert_eq!(story(&world, review.id), ["approval.request", "approval.use", "act.start"]);
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_wait_runs_its_command_once_after_the_approval() {
    let Some(world) = world("nowait").await else { return };
    let alice = token(&world);
    let directly = world.issuer.token("alice", &["analysts"], &[]);
    let bob = world.issuer.token("bob", &["analysts"], &["report-agent"]);
    let run = async |token: &str| {
        let mut command = world.psql_command(token, &["-c", DELETE]);
        command.env("PGOPTIONS", "-c chancery.wait=off").output().await.expect("psql runs")
    };
    let first = run(&alice).await;
    let review = pending(&world).await;
    assert!(err(&first).contains("ERROR") && err(&first).contains(&review.id.to_string()), "{}", err(&first));
    let again = run(&alice).await;
    assert!(err(&again).contains(&review.id.to_string()), "the same review is still open: {}", err(&again));
    assert_eq!(of(&world, EntryKind::ApprovalRequest).len(), 1);
    approve(&world, review.id).await;

    for other in [&bob, &directly] {
        let refused = run(other).await;
        assert!(!refused.status.success() && !err(&refused).contains(&review.id.to_string()), "{}", err(&refused));
        assert_eq!(count(&world), "10", "an approval is for its chain");
    }
    // Two at once: one of them gets it.
    let (one, two) = tokio::join!(run(&alice), run(&alice));
    let ran = [&one, &two].iter().filter(|done| done.status.success()).count();
    assert_eq!(ran, 1, "{} {}", err(&one), err(&two));
    assert_eq!(count(&world), "7");
    world.postgres.direct("insert into orders values (1), (2), (3)");
    let third = run(&alice).await;
    assert!(!third.status.success() && !err(&third).contains(&review.id.to_string()), "{}", err(&third));
    assert_eq!(count(&world), "10");
    assert_eq!(story(&world, review.id), ["approval.request", "approval.use", "act.start"]);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_change_end_what_is_held() {
    let Some(world) = world("rules").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask(DELETE).await;
    raw.notice().await;
    let review = pending(&world).await;
    let more = format!("{RULES}\n@id(\"no-drop\") forbid(principal, action == Action::\"define\", resource);");
    world.gateway.apply_rules(world.rule_set(&more), "test").expect("it is on record");
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "42501");
    assert!(complaint(&answer).contains("the rules changed"), "{}", complaint(&answer));
    ended_as(&world, review.id, ReviewState::Withdrawn).await;
    assert_eq!(count(&world), "10");
    // Under the new rules it can be asked again.
    raw.ask(DELETE).await;
    raw.notice().await;
    let second = pending_but(&world, &[review.id]).await;
    assert_ne!(second.rules, review.rules);
    approve(&world, second.id).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    assert_eq!(count(&world), "7");
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ends_open_reviews_and_keeps_approvals() {
    let Some(world) = world("restart").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask(DELETE).await;
    raw.notice().await;
    let held = pending(&world).await;
    let mut nowait = Raw::login(&world, &token, &[("options", "-c chancery.wait=off")]).await;
    nowait.query("delete from orders where id = 9").await;
    let approved = pending_but(&world, &[held.id]).await;
    approve(&world, approved.id).await;
    nowait.query("delete from orders where id = 10").await;
    let open = pending_but(&world, &[held.id, approved.id]).await;

    let world = world.restart().await;
    let answer = raw.ready().await;
    assert!(answer.iter().any(|message| message.tag == 'E'), "it was told: {answer:?}");
    for review in [&held, &open] {
        ended_as(&world, review.id, ReviewState::Withdrawn).await;
        assert_eq!(story(&world, review.id), ["approval.request", "approval.end:withdrawn"]);
    }
    assert_eq!(count(&world), "10");
    let mut raw = Raw::login(&world, &token, &[]).await;
    assert_eq!(tags(&raw.query("delete from orders where id = 9").await), "CZ");
    assert_eq!(count(&world), "9");
    drop((raw, nowait));
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_inside_a_transaction_and_a_pipeline() {
    let Some(world) = world("txhold").await else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    assert_eq!(tags(&raw.query("begin").await), "CZ");
    raw.ask(DELETE).await;
    raw.notice().await;
    approve(&world, pending(&world).await.id).await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), answer[1].body.as_slice()), ("CZ", b"T".as_slice()));
    assert_eq!(count(&world), "10", "not committed yet");
    assert_eq!(tags(&raw.query("commit").await), "CZ");
    assert_eq!(count(&world), "7");

    // Denied inside a transaction: it fails, as it would by an error of the server's.
    assert_eq!(tags(&raw.query("begin").await), "CZ");
    raw.ask("delete from orders").await;
    raw.notice().await;
    let review = pending(&world).await;
    world.gateway.catalog().deny(review.id, &person("dana", &["dba"]), "no", now()).await.expect("it is denied");
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), answer[1].body.as_slice()), ("EZ", b"E".as_slice()));
    assert_eq!(sqlstate(&raw.query("select 1").await), "25P02");
    assert_eq!(raw.query("commit").await[0].text().trim(), "ROLLBACK");

    // In a pipeline, what follows waits, and what stands before it ran.
    raw.execute("select 'before'", &[]).await;
    raw.execute(DELETE, &[]).await;
    raw.execute("select 'after'", &[]).await;
    raw.sync().await;
    let mut seen = Vec::new();
    let review = loop {
        let message = raw.next().await.expect("the session lives");
        let held = message.tag == 'N';
        seen.push(message);
        if held {
            break pending(&world).await;
        }
    };
    assert!(!values(&seen).contains(&"after".to_owned()));
    world.postgres.direct("insert into orders values (1)");
    approve(&world, review.id).await;
    seen.extend(raw.ready().await);
    assert_eq!(values(&seen), ["before", "after"], "{}", tags(&seen));
    assert_eq!(count(&world), "7");
    drop(raw);
    finish(world).await;
}

/// A key pair made by ssh-keygen, which also signs.
struct SshKey(std::path::PathBuf);

impl SshKey {
    fn new(world: &World, name: &str) -> Option<Self> {
        let path = world.state.join(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .status();
        match made {
            Ok(status) if status.success() => Some(Self(path)),
            _ => {
                eprintln!("skipped: signed approvals (no ssh-keygen here)");
                None
            }
        }
    }
    fn public(&self) -> String {
        std::fs::read_to_string(self.0.with_extension("pub")).expect("the public half").trim().to_owned()
    }
    fn sign(&self, bytes: &[u8]) -> String {
        let file = self.0.with_extension("payload");
        std::fs::write(&file, bytes).expect("it can be written");
        let _ = std::fs::remove_file(self.0.with_extension("payload.sig"));
        let signed = std::process::Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", chancery_policy::approval::NAMESPACE, "-f"])
            .args([&self.0, &file])
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        std::fs::read_to_string(self.0.with_extension("payload.sig")).expect("a signature")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_approvals_hold_for_what_was_signed() {
    listen();
    let setup =
        Setup { reviews: vec![review_rule("dba", Assurance::Signed, 60_000_000)], ..Setup::new("signed", RULES) };
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table orders (id int); insert into orders select generate_series(1, 10)");
    let (Some(key), Some(other)) = (SshKey::new(&world, "dana"), SshKey::new(&world, "eve")) else { return };
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let signed = |key: &SshKey, signature: String| Approval {
        assurance: Assurance::Signed,
        key: Some(key.public()),
        signature: Some(signature),
        ..clicked("dana", &["dba"])
    };
    for wrong in ["clicked", "digest", "review", "resigned", "key"] {
        raw.ask(DELETE).await;
        raw.notice().await;
        let review = pending(&world).await;
        let approval = match wrong {
            "clicked" => clicked("dana", &["dba"]),
            "digest" => {
                let mut of = review.clone();
                of.digest.0[0] ^= 1;
                signed(&key, key.sign(&payload(&of, "dba")))
            }
            "review" => {
                let mut of = review.clone();
                of.id.0[15] ^= 1;
                signed(&key, key.sign(&payload(&of, "dba")))
            }
            "resigned" => signed(&key, key.sign(&payload(&review, "other-rule"))),
            _ => signed(&other, key.sign(&payload(&review, "dba"))),
        };
        force(&world, review.id, &approval).await;
        let answer = raw.ready().await;
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42501"), "{wrong}");
        assert_eq!(count(&world), "10", "{wrong}");
    }
    raw.ask(DELETE).await;
    raw.notice().await;
    let review = pending(&world).await;
    let good = signed(&key, key.sign(&payload(&review, "dba")));
    force(&world, review.id, &good).await;
    let answer = raw.ready().await;
    assert_eq!(tags(&answer), "CZ", "{}", complaint(&answer));
    assert_eq!(count(&world), "7");
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_counts_people_and_a_cancel_is_for_the_first() {
    listen();
    let rules = format!("{RULES}\npermit(principal, action == Action::\"execute\", resource);");
    let mut setup = Setup { durability: chancery_model::Durability::Strict, ..Setup::new("quorum", &rules) };
    setup.reviews[0].quorum = 2;
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table orders (id int); insert into orders select generate_series(1, 10)");
    let token = token(&world);
    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask(DELETE).await;
    raw.notice().await;
    let review = pending(&world).await;
    let catalog = world.gateway.catalog();
    catalog.add_approval(review.id, &clicked("dana", &["dba"])).await.expect("it is taken");
    let twice = catalog.add_approval(review.id, &clicked("dana", &["dba"])).await;
    assert!(twice.is_err(), "the same person again");
    force(&world, review.id, &clicked("alice", &["dba"])).await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "42501", "one who asked does not count: {}", complaint(&answer));
    assert_eq!(count(&world), "10");
    raw.ask(DELETE).await;
    raw.notice().await;
    let review = pending(&world).await;
    catalog.add_approval(review.id, &clicked("dana", &["dba"])).await.expect("it is taken");
    force(&world, review.id, &clicked("erin", &["dba"])).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    assert_eq!(count(&world), "7");

    // Two queries at once, both held one after the other: a cancel is for the one that waits.
    raw.ask("delete from orders where id = 4").await;
    raw.ask("delete from orders where id = 5").await;
    raw.notice().await;
    let first = pending(&world).await;
    Raw::cancel(world.port, &raw.key).await;
    // The notice of the second comes when it is held, which may be before the first is answered.
    assert_eq!(sqlstate(&raw.ready().await), "57014");
    let second = pending_but(&world, &[first.id]).await;
    assert!(second.text.contains("id = 5"));
    catalog.add_approval(second.id, &clicked("dana", &["dba"])).await.expect("it is taken");
    force(&world, second.id, &clicked("erin", &["dba"])).await;
    assert_eq!(tags(&raw.ready().await).trim_start_matches('N'), "CZ");
    assert_eq!(world.postgres.direct("select string_agg(id::text, ',' order by id) from orders"), "4,6,7,8,9,10");

    // A read that runs in front of what is held: the cancel is for what runs.
    raw.ask("select pg_sleep(30)").await;
    raw.ask("delete from orders where id = 6").await;
    let sql = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
    until("a sleep", async || (world.postgres.direct(sql) == "1").then_some(())).await;
    Raw::cancel(world.port, &raw.key).await;
    let mut seen = Vec::new();
    while !seen.iter().any(|message: &crate::rig::Message| message.tag == 'Z') {
        seen.push(raw.next().await.expect("the session lives"));
    }
    assert_eq!(sqlstate(&seen), "57014");
    let third = pending(&world).await;
    world.gateway.catalog().deny(third.id, &person("dana", &["dba"]), "no", now()).await.expect("it is denied");
    assert_eq!(sqlstate(&raw.ready().await), "42501");
    drop(raw);
    finish(world).await;
}
