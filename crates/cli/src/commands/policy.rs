//! `chancery policy`: rules validated, and rulings explained without anybody having to be refused first.

use chancery_model::{
    Actor, Authentication, Delegation, Digest, Facts, Need, Object, Principal, PrincipalKind, TableName, Timestamp,
};
use chancery_policy::{Explanation, Request, RuleSet, Subject, explain};
use serde_json::json;

use crate::args::{self, Kind};
use crate::commands::check;
use crate::config::{Configuration, load_rules};
use crate::local::now;
use crate::output::{Done, Exit, Failure, Out, clean, clean_lines};

pub(crate) async fn run(args: args::Policy, out: Out) -> Done {
    match args {
        args::Policy::Check(args) => {
            let configuration = check::configuration(&args.config)?;
            let problems = match load_rules(&configuration) {
                Err(problems) => problems,
                Ok(rules) => {
                    out.line(format!("{} rules, digest {}", rules.len(), rules.digest()));
                    rules.warnings().to_vec()
                }
            };
            Ok(check::report(&problems, out))
        }
        args::Policy::Explain(args) => explained(args, out),
    }
}

fn explained(args: args::Explain, out: Out) -> Done {
    let configuration = check::configuration(&args.config.config)?;
    let rules = load_rules(&configuration).map_err(|problems| check::failure(&problems))?;
    let resource = configuration.resources.iter().find(|one| one.resource.name.as_str() == args.resource);
    let resource = resource.ok_or_else(|| {
        let names: Vec<&str> = configuration.resources.iter().map(|one| one.resource.name.as_str()).collect();
        Failure::usage(format!("no resource is called `{}`", args.resource))
            .hint(format!("there are: {}", names.join(", ")))
    })?;
    if let Some(name) = args.reviews.iter().find(|name| rules.review(name).is_none()) {
        return Err(Failure::usage(format!("no review rule is called `{name}`")).hint("[[review]] defines them"));
    }
    let chain = chain(&args, &configuration)?;
    let authentication = Authentication {
        issuer: chain.principal.issuer.clone(),
        method: "oidc",
        authenticated_at: now(),
        expires_at: Timestamp(i64::MAX),
        token_id: String::new(),
    };
    let subject = Subject::new(&rules, &chain, &authentication, &resource.resource, args.address);
    let facts = match &args.sql {
        Some(sql) => chancery_sql::read(sql, &chancery_model::Settings::default()),
        None => Facts::connect(),
    };
    let needs = needs(&facts, &args.schema);
    let (reviews, connect) = (args.reviews.as_slice(), args.sql.is_none());
    let request =
        Request { subject: &subject, digest: Digest::default(), facts: &facts, needs: &needs, reviews, connect };
    let explanation = explain(&request, &rules, now());
    print(&explanation, &chain, &facts, &rules, out);
    Ok(if explanation.verdict == "allow" { Exit::Yes } else { Exit::No })
}

fn chain(args: &args::Explain, configuration: &Configuration) -> Result<Delegation, Failure> {
    let issuer = match (&args.issuer, configuration.issuers.as_slice()) {
        (Some(issuer), _) => issuer.clone(),
        (None, [only]) => only.rules.url.clone(),
        (None, _) => return Err(Failure::usage("of which issuer?").hint("--issuer URL says so")),
    };
    let mut words = args.subject.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned);
    let subject = words.next().ok_or_else(|| Failure::usage("--as names nobody").hint("--as alice,dba"))?;
    let mut groups: Vec<String> = words.collect();
    groups.sort();
    groups.dedup();
    let actor =
        |subject: &String| Actor { issuer: issuer.clone(), subject: subject.clone(), kind: PrincipalKind::Agent };
    let actors = args.actors.iter().map(actor).collect();
    let kind = match args.kind {
        Kind::User => PrincipalKind::User,
        Kind::Service => PrincipalKind::Service,
        Kind::Agent => PrincipalKind::Agent,
    };
    let principal = Principal { issuer, display: subject.clone(), subject, kind, groups };
    Ok(Delegation { principal, actors })
}

/// Needs as a session has them, but that names without a schema are taken to be in `schema`: there is no server here
/// whose catalog could be asked.
fn needs(facts: &Facts, schema: &str) -> Vec<Need> {
    let resolved = |need: &Need| match &need.object {
        Object::Table(TableName { schema: None, name }) => Need {
            action: need.action,
            object: Object::Table(TableName { schema: Some(schema.to_owned()), name: name.clone() }),
        },
        _ => need.clone(),
    };
    let mut needs: Vec<Need> = facts.statements.iter().flat_map(|one| &one.needs).map(resolved).collect();
    needs.sort();
    needs.dedup();
    needs
}

fn print(explanation: &Explanation, chain: &Delegation, facts: &Facts, rules: &RuleSet, out: Out) {
    let exit = match explanation.verdict {
        "allow" => Exit::Yes,
        "hold" => Exit::Unsure,
        _ => Exit::No,
    };
    out.line(format!("{} for {}", out.paint(exit, explanation.verdict), clean(&chain.to_string())));
    if let Some(why) = facts.why_unreadable() {
        out.line(format!("the statement cannot be read: {}", clean(why)));
    }
    let checks: Vec<Vec<String>> = explanation
        .checks
        .iter()
        .map(|check| {
            let by: Vec<String> = check.rules.iter().map(ToString::to_string).collect();
            let word = if check.allowed { "yes" } else { "no" };
            let (principal, object) = (check.principal.clone(), check.object.clone());
            vec![word.to_owned(), principal, check.action.to_owned(), object, by.join(", ")]
        })
        .collect();
    if !checks.is_empty() {
        out.line("");
        out.table(&["PASSES", "WHO", "ACTION", "ON", "BY"], &checks);
    }
    for rule in &explanation.rules {
        let kind = if rule.forbids { "forbid" } else { "permit" };
        let place = format!("{}:{}:{}", clean(&rule.path), rule.line, rule.column);
        out.line(format!("\n{kind} {} ({place})\n{}", clean(&rule.id.to_string()), clean_lines(&rule.text)));
    }
    if !explanation.changes.is_empty() {
        out.line("\nwhat would change the answer:");
        explanation.changes.iter().for_each(|change| out.line(format!("  {}", clean(change))));
    }
    if !explanation.facts.is_empty() {
        out.line(format!("\nfacts: {}", clean(&explanation.facts)));
    }
    let facts: serde_json::Value = serde_json::from_str(&explanation.facts).unwrap_or_default();
    let checks: Vec<_> = explanation
        .checks
        .iter()
        .map(|check| {
            let by: Vec<String> = check.rules.iter().map(ToString::to_string).collect();
            json!({ "principal": check.principal, "action": check.action, "object": check.object,
                    "allowed": check.allowed, "rules": by })
        })
        .collect();
    let texts: Vec<_> = explanation
        .rules
        .iter()
        .map(|rule| {
            json!({ "id": rule.id.to_string(), "path": rule.path, "line": rule.line, "column": rule.column,
                    "forbids": rule.forbids, "text": rule.text })
        })
        .collect();
    out.document(&json!({ "verdict": explanation.verdict, "ruleset": rules.digest().to_string(), "checks": checks,
                          "rules": texts, "changes": explanation.changes, "facts": facts }));
}
