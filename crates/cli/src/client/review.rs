//! `review`: the reviewer's inbox. What a reviewer signs is computed here, over what is shown here; a gateway that shows
//! one thing and asks for a signature over another is found out.

use std::io::{IsTerminal as _, Write as _};

use chancery_console::view;
use chancery_model::{
    Actor, CommandId, Delegation, Digest, Principal, PrincipalKind, ResourceName, Review, ReviewId, ReviewState,
    SessionId, Timestamp,
};
use chancery_policy::{CommandDigests, approval, unseal_digest};

use super::api::Api;
use super::sign;
use crate::args;
use crate::output::{Done, Exit, Failure, Out, clean, clean_lines};

/// Runs a `review` command.
pub(crate) async fn run(args: args::Review, out: Out) -> Done {
    match args {
        args::Review::List(remote) => list(&remote, out).await,
        args::Review::Show(args) => {
            let review = fetch(&Api::new(&args.remote)?, &args.id).await?;
            out.document(&review);
            show(&review, out);
            Ok(Exit::Yes)
        }
        args::Review::Approve(args) => approve(&args, out).await,
        args::Review::Deny(args) => deny(&args, out).await,
    }
}

async fn list(remote: &args::Remote, out: Out) -> Done {
    let lines: Vec<view::ReviewLine> = Api::new(remote)?.get("reviews", &[("state", "pending")]).await?;
    out.document(&lines);
    let row = |line: &view::ReviewLine| {
        let yours = if line.yours { "yes" } else { "no" };
        let cells = [
            &line.id,
            &line.resource,
            &line.chain.text,
            &line.needed.join(","),
            &line.expires_at,
            yours,
            &line.summary,
        ];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    out.table(&["ID", "RESOURCE", "WHO", "NEEDS", "EXPIRES", "YOURS", "WHAT"], &rows);
    Ok(Exit::Yes)
}

async fn fetch(api: &Api, id: &str) -> Result<view::Review, Failure> {
    let id =
        ReviewId::parse(id).ok_or_else(|| Failure::usage("that is no id of a review").hint("chancery review list"))?;
    let review: view::Review = api.get(&format!("reviews/{id}"), &[]).await?;
    if ReviewId::parse(&review.id) != Some(id) {
        return Err(Failure::unsure("the gateway answers with another review"));
    }
    Ok(review)
}

/// Shows a review, escaped: nothing in it can move the cursor, reorder text or look like a line of ours.
fn show(review: &view::Review, out: Out) {
    let field = |name: &str, text: &str| out.line(format_args!("{name:<10} {}", clean(text)));
    field("review", &format!("{} ({})", review.id, review.state));
    field("resource", &review.resource);
    field("who", &review.chain.text);
    field("session", &format!("{}, command {}", review.session, review.command));
    field("why", &review.summary);
    for needed in &review.needed {
        let yes = review.approvals.iter().filter(|approval| approval.rule == needed.rule).count();
        let assurance = needed.assurance.as_deref().unwrap_or("?");
        let yours = if needed.yours { ", yours to answer" } else { "" };
        field("needs", &format!("{}: {yes} of {} approvals, {assurance}{yours}", needed.rule, needed.quorum));
    }
    for approval in &review.approvals {
        let who = format!("{} under {} at {}", approval.reviewer.display, approval.rule, approval.at);
        field("approved", &format!("{who}, {}", approval.assurance));
    }
    if let Some(denial) = &review.denial {
        field("denied", &format!("{} at {}: {}", denial.by.display, denial.at, denial.reason));
    }
    field("expires", &review.expires_at);
    field("digest", &review.digest);
    field("", of_this_text(review));
    let what = if review.command == 0 { "reason" } else { "command" };
    out.line(format_args!("{what}, complete ({} bytes):", review.text.len()));
    for line in clean_lines(&review.text).split('\n') {
        out.line(format_args!("  | {line}"));
    }
    let hidden = escaped(&review.text) + review.parameters.iter().map(|text| escaped(text)).sum::<usize>();
    if hidden > 0 {
        out.line(format_args!(
            "note: {hidden} control or invisible characters are shown as escapes (\\x.., \\u{{..}})"
        ));
    }
    for (at, parameter) in review.parameters.iter().enumerate() {
        out.line(format_args!("  ${} = {}", at + 1, clean(parameter)));
    }
}

/// How many characters are not shown as themselves. Said, because a text may also hold the letters of an escape.
fn escaped(text: &str) -> usize {
    let mut one = [0; 4];
    text.chars().filter(|c| *clean_lines(c.encode_utf8(&mut one)) != *c.to_string()).count()
}

/// What is known here about the digest.
fn of_this_text(review: &view::Review) -> &'static str {
    match digest_is_of_text(review) {
        Some(true) if review.command == 0 => "computed here, too: it is of this session, reason and who asks",
        Some(true) => "computed here, too: it is of this text, resource, chain and rule set",
        _ if review.state != "pending" && review.state != "approved" => "below is what is kept of the command: masked",
        Some(false) => "as the gateway says: it is not that of this text sent by itself",
        None => "as the gateway says: it is also over the parameters as they were sent",
    }
}

/// Whether the digest is that of the text, sent by itself; `None` where parameters were sent with it, whose exact bytes
/// are not part of the review.
fn digest_is_of_text(review: &view::Review) -> Option<bool> {
    if !review.parameters.is_empty() {
        return None;
    }
    let resource = ResourceName::parse(&review.resource)?;
    let (digest, rules) = (Digest::from_hex(&review.digest)?, Digest::from_hex(&review.rules)?);
    let chain = chain(&review.chain)?;
    if review.command == 0 {
        let session = SessionId::parse(&review.session)?;
        return Some(unseal_digest(&session, &review.text, &chain) == digest);
    }
    let Digest(salt) = Digest::from_hex(&review.salt)?;
    let digests = CommandDigests::new(&salt, &resource, "postgres", &chain, &rules);
    Some(["query", "prepare"].into_iter().any(|ask| digests.of(ask, review.text.as_bytes(), &[]) == digest))
}

fn chain(chain: &view::Chain) -> Option<Delegation> {
    let kind = |word: &str| match word {
        "user" => Some(PrincipalKind::User),
        "service" => Some(PrincipalKind::Service),
        "agent" => Some(PrincipalKind::Agent),
        _ => None,
    };
    let actor = |party: &view::Party| {
        Some(Actor { issuer: party.issuer.clone(), subject: party.subject.clone(), kind: kind(&party.kind)? })
    };
    let principal = &chain.principal;
    Some(Delegation {
        principal: Principal {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            kind: kind(&principal.kind)?,
            display: principal.display.clone(),
            groups: chain.groups.clone(),
        },
        actors: chain.actors.iter().map(actor).collect::<Option<_>>()?,
    })
}

/// The review's fields that a signature is over; the rest is left empty, so that nothing else can be signed by mistake.
fn signed_fields(review: &view::Review) -> Option<Review> {
    Some(Review {
        id: ReviewId::parse(&review.id)?,
        session: SessionId::parse(&review.session)?,
        command: CommandId(review.command),
        resource: ResourceName::parse(&review.resource)?,
        chain: chain(&review.chain)?,
        digest: Digest::from_hex(&review.digest)?,
        rules: Digest::from_hex(&review.rules)?,
        needed: Vec::new(),
        text: String::new(),
        parameters: Vec::new(),
        summary: String::new(),
        asked_at: Timestamp(0),
        expires_at: Timestamp(review.expires_at_micros),
        uses: review.uses,
        state: ReviewState::Pending,
        approvals: Vec::new(),
    })
}

async fn approve(args: &args::ReviewApprove, out: Out) -> Done {
    let api = Api::new(&args.remote)?;
    let review = fetch(&api, &args.id).await?;
    show(&review, out);
    let needed = which(&review, args.rule.as_deref())?;
    if args.key.is_none() && needed.assurance.as_deref() != Some("clicked") {
        let assurance = needed.assurance.as_deref().unwrap_or("signed");
        return Err(Failure::usage(format!("the rule {} demands an approval that is {assurance}", needed.rule))
            .hint("name your SSH key: --key ~/.ssh/id_ed25519"));
    }
    if !args.yes && !asked(&format!("Approve under the rule {}?", clean(&needed.rule))).await? {
        return Err(Failure::no("not approved"));
    }
    let mut body =
        view::Approve { rule: needed.rule.clone(), assurance: "clicked".to_owned(), key: None, signature: None };
    if let Some(key) = &args.key {
        let fields = signed_fields(&review).ok_or_else(|| Failure::unsure("the gateway's review cannot be read"))?;
        let payload = approval::payload(&fields, &needed.rule);
        body.assurance = "signed".to_owned();
        body.key = Some(sign::public_key(key).await?);
        body.signature = Some(sign::sign(key, &payload).await?);
    }
    let decided: view::Decided = api.post(&format!("reviews/{}/approve", fields_id(&review)?), &body).await?;
    answered(&decided, "approved", out)
}

async fn deny(args: &args::ReviewDeny, out: Out) -> Done {
    let api = Api::new(&args.remote)?;
    let id = ReviewId::parse(&args.id).ok_or_else(|| Failure::usage("that is no id of a review"))?;
    let body = view::Deny { rule: args.rule.clone(), reason: args.reason.clone() };
    let decided: view::Decided = api.post(&format!("reviews/{id}/deny"), &body).await?;
    answered(&decided, "denied", out)
}

fn fields_id(review: &view::Review) -> Result<ReviewId, Failure> {
    ReviewId::parse(&review.id).ok_or_else(|| Failure::unsure("the gateway's review has no id"))
}

fn answered(decided: &view::Decided, word: &str, out: Out) -> Done {
    out.document(decided);
    let word = out.paint(if word == "approved" { Exit::Yes } else { Exit::No }, word);
    let (state, assurance) = (clean(&decided.state), clean(&decided.assurance));
    out.line(format_args!("{word} ({assurance}); the review is {state}; ledger entry {}", decided.entry));
    Ok(Exit::Yes)
}

/// The rule to answer.
fn which<'r>(review: &'r view::Review, rule: Option<&str>) -> Result<&'r view::Needed, Failure> {
    let mut yours = review.needed.iter().filter(|needed| needed.yours && rule.is_none_or(|rule| rule == needed.rule));
    match (yours.next(), yours.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::usage("the review needs several rules that you may answer")
            .hint("say which with --rule NAME; the lines `needs` above name them")),
        (None, _) if review.state != "pending" => Err(Failure::no(format!("the review is {}", review.state))),
        (None, _) => Err(Failure::no("this review is not yours to answer")),
    }
}

async fn asked(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on").hint("look at it first, then give --yes"));
    }
    let prompt = format!("{question} [y/N] ");
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        let mut shown = std::io::stderr().lock();
        shown.write_all(prompt.as_bytes())?;
        shown.flush()?;
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(Failure::unsure)?.map_err(Failure::unsure)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(subject: &str, kind: &str) -> view::Party {
        let issuer = "https://idp.example".to_owned();
        view::Party { issuer, subject: subject.to_owned(), kind: kind.to_owned(), display: subject.to_owned() }
    }

    fn review() -> view::Review {
        let chain = view::Chain {
            principal: party("alice", "user"),
            actors: vec![party("helper", "agent")],
            groups: vec!["analysts".to_owned()],
            text: "alice → helper".to_owned(),
        };
        let needed = |rule: &str, yours| view::Needed {
            rule: rule.to_owned(),
            quorum: 1,
            assurance: Some("signed".to_owned()),
            yours,
            payload: None,
        };
        view::Review {
            id: ReviewId([1; 16]).to_string(),
            state: "pending".to_owned(),
            session: SessionId([2; 16]).to_string(),
            command: 3,
            resource: "shop".to_owned(),
            chain,
            digest: Digest([4; 32]).to_string(),
            salt: Digest([4; 32]).to_string(),
            rules: Digest([5; 32]).to_string(),
            text: "DELETE FROM orders".to_owned(),
            parameters: Vec::new(),
            summary: String::new(),
            asked_at: String::new(),
            expires_at: String::new(),
            expires_at_micros: 9,
            uses: 1,
            needed: vec![needed("dba", true), needed("security", false)],
            approvals: Vec::new(),
            denial: None,
        }
    }

    #[test]
    fn a_digest_of_another_text_is_found_out() {
        let mut review = review();
        assert_eq!(digest_is_of_text(&review), Some(false));
        let (resource, rules) = (ResourceName::parse("shop").expect("a name"), Digest([5; 32]));
        let chain = chain(&review.chain).expect("a chain");
        let digests = CommandDigests::new(&[4; 32], &resource, "postgres", &chain, &rules);
        let digest = digests.of("query", b"DELETE FROM orders", &[]);
        review.digest = digest.to_string();
        assert_eq!(digest_is_of_text(&review), Some(true));
        review.salt = Digest([5; 32]).to_string();
        assert_eq!(digest_is_of_text(&review), Some(false), "the salt counts");
        review.salt = Digest([4; 32]).to_string();
        review.chain.groups.clear();
        assert_eq!(digest_is_of_text(&review), Some(false), "the chain counts");
        review.parameters.push("1".to_owned());
        assert_eq!(digest_is_of_text(&review), None);
    }

    #[test]
    fn a_request_for_originals_has_the_digest_of_its_reason() {
        let mut review = view::Review { command: 0, text: "case 7".to_owned(), ..review() };
        let chain = chain(&review.chain).expect("a chain");
        review.digest = unseal_digest(&SessionId([2; 16]), "case 7", &chain).to_string();
        assert_eq!(digest_is_of_text(&review), Some(true));
        review.text = "case 8".to_owned();
        assert_eq!(digest_is_of_text(&review), Some(false));
    }

    #[test]
    fn what_is_signed_is_made_of_what_is_shown() {
        let review = review();
        let payload = approval::payload(&signed_fields(&review).expect("well-formed"), "dba");
        for part in [&[4; 32][..], &[5; 32], &[1; 16], b"dba", b"shop", b"chancery/approval/1"] {
            assert!(payload.windows(part.len()).any(|window| window == part));
        }
        let mut odd = review.clone();
        odd.digest = "4".repeat(63);
        assert!(signed_fields(&odd).is_none());
        odd = view::Review { resource: "Shop; rm".to_owned(), ..review };
        assert!(signed_fields(&odd).is_none());
    }

    #[test]
    fn escapes_are_counted() {
        assert_eq!(escaped("E'\\x1b'\n\tä"), 0, "letters of an escape are letters");
        assert_eq!(escaped("a\u{1b}[2J\u{202e}\r"), 3);
    }

    #[test]
    fn one_rule_is_answered() {
        let mut review = review();
        assert_eq!(which(&review, None).expect("one").rule, "dba");
        assert!(which(&review, Some("security")).is_err(), "not hers");
        review.needed[1].yours = true;
        assert!(which(&review, None).is_err(), "which of two?");
        assert_eq!(which(&review, Some("security")).expect("said").rule, "security");
    }
}
