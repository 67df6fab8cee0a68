//! Why a command was or would be ruled so: for people, never for the decision itself.

use cedar_policy::{Entities, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use chancery_model::{RuleId, Timestamp};

use crate::decide::{Prepared, Request, evaluate};
use crate::rules::RuleSet;
use crate::verdict::Why;

/// The reasons of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `allow`, `deny` or `hold`.
    pub verdict: &'static str,
    /// One line for each pair of link and need that was asked.
    pub checks: Vec<Check>,
    /// The rules that determined it, with their places and texts.
    pub rules: Vec<RuleText>,
    /// The context that the rules saw, as JSON.
    pub facts: String,
    /// What would change the answer, one sentence each; empty if it is allowed.
    pub changes: Vec<String>,
}

/// One question that the rules answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The uid of the link of the chain.
    pub principal: String,
    /// The action.
    pub action: &'static str,
    /// The uid of the object.
    pub object: String,
    /// Whether it passes.
    pub allowed: bool,
    /// The rules that determined it.
    pub rules: Vec<RuleId>,
}

/// A rule and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Its id.
    pub id: RuleId,
    /// Its source.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Whether it forbids.
    pub forbids: bool,
    /// Its text.
    pub text: String,
}

/// Explains a request, supposing that the reviews of `request.reviews` approved it.
pub fn explain(request: &Request<'_>, rules: &RuleSet, now: Timestamp) -> Explanation {
    let mut explanation = Explanation {
        verdict: "deny",
        checks: Vec::new(),
        rules: Vec::new(),
        facts: String::new(),
        changes: Vec::new(),
    };
    let prepared = match Prepared::new(request, rules) {
        Ok(prepared) => prepared,
        Err(denial) => {
            explanation.changes.push(denial.to_string());
            return explanation;
        }
    };
    let reviews: Vec<&str> = request.reviews.iter().map(String::as_str).collect();
    let Some(context) = prepared.context(reviews.iter().copied(), now) else {
        explanation.changes.push("the facts cannot be expressed to the rules".to_owned());
        return explanation;
    };
    explanation.facts = context.to_json_value().map(|json| json.to_string()).unwrap_or_default();
    let mut ids = Vec::new();
    for (need, object) in prepared.needs.iter().zip(&prepared.objects) {
        for link in &prepared.subject.links {
            let answer = evaluate(rules, need.action, link, object, &context, &prepared.entities);
            let allowed = answer.is_ok();
            let (why, determining) = match answer {
                Ok(determining) => (None, determining),
                Err((why, determining)) => (Some(why), determining),
            };
            ids.extend(determining.iter().cloned());
            let check = Check {
                principal: link.to_string(),
                action: need.action.as_str(),
                object: object.to_string(),
                allowed,
                rules: determining,
            };
            if let Some(why) = why {
                changes(&check, &why, (link, object), rules, &prepared, &mut explanation.changes);
            }
            explanation.checks.push(check);
        }
    }
    if explanation.checks.iter().all(|check| check.allowed) {
        explanation.verdict = "allow";
    } else if let Some(needed) = prepared.smallest(rules, &reviews, now) {
        explanation.verdict = "hold";
        explanation.changes.insert(0, format!("it passes once approved by: {}", needed.join(", ")));
    }
    ids.sort();
    ids.dedup();
    explanation.rules = ids.into_iter().filter_map(|id| rule_text(rules, id)).collect();
    explanation
}

fn rule_text(rules: &RuleSet, id: RuleId) -> Option<RuleText> {
    let rule = rules.rules.get(&id.0)?;
    let (path, text) = (rule.path.clone(), rule.text.clone());
    Some(RuleText { id, path, line: rule.line, column: rule.column, forbids: rule.forbids, text })
}

fn changes(
    check: &Check,
    why: &Why,
    (link, object): (&EntityUid, &EntityUid),
    rules: &RuleSet,
    prepared: &Prepared<'_>,
    lines: &mut Vec<String>,
) {
    let Check { principal, action, object: name, rules: determining, .. } = check;
    let mut say = |line: String| {
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    let place = |id: &RuleId| rules.rules.get(&id.0).map(|rule| format!("{}:{}", rule.path, rule.line));
    match why {
        Why::Forbidden => determining.iter().for_each(|id| {
            let place = place(id).unwrap_or_default();
            say(format!("`{id}` ({place}) forbids {action} on {name} for {principal}"));
        }),
        Why::EvaluationError => determining.iter().for_each(|id| {
            let place = place(id).unwrap_or_default();
            say(format!("`{id}` ({place}) fails on {action} on {name}; a rule that fails denies"));
        }),
        _ => {
            let near: Vec<&str> = prepared
                .needs
                .iter()
                .filter(|need| need.action.as_str() == *action)
                .take(1)
                .flat_map(|need| rules.slice(need.action).policies.policies())
                .filter(|policy| policy.effect() == cedar_policy::Effect::Permit)
                .filter(|policy| in_scope(policy, link, object, &prepared.entities))
                .map(|policy| policy.id().as_ref())
                .collect();
            match near.as_slice() {
                [] => say(format!("no rule is about {action} on {name} for {principal}")),
                near => say(format!(
                    "the conditions of {} do not hold for {action} on {name} and {principal}",
                    near.join(", ")
                )),
            }
        }
    }
}

fn in_scope(policy: &Policy, link: &EntityUid, object: &EntityUid, entities: &Entities) -> bool {
    let within = |this: &EntityUid, ancestor: &EntityUid| this == ancestor || entities.is_ancestor_of(ancestor, this);
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Eq(uid) => *link == uid,
        PrincipalConstraint::In(uid) => within(link, &uid),
        PrincipalConstraint::Is(kind) => *link.type_name() == kind,
        PrincipalConstraint::IsIn(kind, uid) => *link.type_name() == kind && within(link, &uid),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Eq(uid) => *object == uid,
        ResourceConstraint::In(uid) => within(object, &uid),
        ResourceConstraint::Is(kind) => *object.type_name() == kind,
        ResourceConstraint::IsIn(kind, uid) => *object.type_name() == kind && within(object, &uid),
    };
    principal && resource
}
