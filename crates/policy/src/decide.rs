//! Decides: every need, for every link of the chain.

use std::borrow::Cow;
use std::collections::BTreeSet;

use cedar_policy::{Context, Decision, Entities, EntityUid, Request as CedarRequest, Response};
use chancery_model::{Action, Digest, Facts, Need, Object, Review, ReviewState, RuleId, Timestamp};

use crate::approval;
use crate::context::{Matter, build, has_unresolved};
use crate::rules::{RuleSet, Slice};
use crate::scope::Scope;
use crate::subject::{Inner, Subject};
use crate::verdict::{Denial, Hold, Permit, ReviewFault, Verdict, Why};

/// More names than this are not tried for the smallest set: 2^6 evaluations at most.
pub(crate) const REVIEWS_CONSIDERED_MAX: usize = 6;
/// More distinct pairs than this in one command are not decided upon.
const NEEDS_MAX: usize = 4_096;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks, made under the same rule set.
    pub subject: &'a Subject,
    /// The digest of the command; see `command_digest`.
    pub digest: Digest,
    /// What reading the command taught.
    pub facts: &'a Facts,
    /// What must pass; the schema of every table is resolved.
    pub needs: &'a [Need],
    /// Reviews to suppose approved. Counts for `explain` only: `decide` takes nobody's word for an approval; they
    /// enter through `Hold::settle`.
    pub reviews: &'a [String],
    /// Whether this is the opening of the session.
    pub connect: bool,
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) subject: Subject,
    pub(crate) digest: Digest,
    facts: Facts,
    needs: Vec<Need>,
    connect: bool,
}

/// Decides a request at the instant `now`. Everything that is not plainly allowed is denied, or held if reviews that
/// rules ask for would allow it.
pub fn decide(request: &Request<'_>, rules: &RuleSet, now: Timestamp) -> Verdict {
    decide_with(request, &[], None, rules, now)
}

fn decide_with(
    request: &Request<'_>,
    approved: &[&str],
    review: Option<&Review>,
    rules: &RuleSet,
    now: Timestamp,
) -> Verdict {
    let prepared = match Prepared::new(request, rules) {
        Ok(prepared) => prepared,
        Err(denial) => return Verdict::Deny(denial),
    };
    match prepared.check(rules, approved.iter().copied(), now) {
        Ok(permits) => {
            let fixed = approved.is_empty() && !prepared.slices(rules).any(|slice| slice.time);
            let lasts = approved.iter().filter_map(|name| rules.review(name)?.lasts_micros).min();
            Verdict::Allow(Permit {
                digest: request.digest,
                rules: permits.into(),
                ruleset: rules.digest(),
                review: review.map(|review| review.id),
                until: lasts.filter(|_| request.connect).map(|lasts| now.plus_micros(lasts)),
                repeatable: fixed,
                scope: Scope::Run,
            })
        }
        Err(denial) if matches!(denial.why, Why::NoRulePermits | Why::Forbidden) => {
            match prepared.smallest(rules, approved, now) {
                Some(needed) => Verdict::Hold(Hold { needed, denial, asked: Asked::of(request) }),
                None => Verdict::Deny(denial),
            }
        }
        Err(denial) => Verdict::Deny(denial),
    }
}

/// A request with its uids, entities and needs made ready.
pub(crate) struct Prepared<'a> {
    pub(crate) subject: &'a Inner,
    matter: Matter<'a>,
    pub(crate) needs: Cow<'a, [Need]>,
    pub(crate) objects: Vec<EntityUid>,
    pub(crate) entities: Entities,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(request: &Request<'a>, rules: &RuleSet) -> Result<Self, Denial> {
        let deny = |why| Denial::new(why, rules.digest());
        let subject = &*request.subject.0;
        if subject.rules != rules.digest() {
            return Err(deny(Why::RulesChanged));
        }
        if request.facts.why_unreadable().is_some() || request.needs.len() > NEEDS_MAX {
            return Err(deny(Why::Unreadable));
        }
        let needs = needs(request).ok_or_else(|| deny(Why::Unreadable))?;
        let reads_tables = needs.iter().any(|need| rules.slice(need.action).tables);
        if reads_tables && has_unresolved(request.facts, request.needs) {
            return Err(deny(Why::Unreadable));
        }
        let nameless = |need: &Need| matches!(&need.object, Object::Table(table) if table.schema.is_none());
        if let Some(need) = needs.iter().find(|need| nameless(need)) {
            return Err(Denial { need: Some(Box::new(need.clone())), ..deny(Why::Unreadable) });
        }
        let (objects, entities) = subject.place(rules, &needs).ok_or_else(|| deny(Why::EvaluationError))?;
        let matter = if request.connect {
            Matter::Connect
        } else {
            Matter::Command { facts: request.facts, needs: request.needs }
        };
        Ok(Self { subject, matter, needs, objects, entities })
    }

    pub(crate) fn context<'r>(&self, reviews: impl IntoIterator<Item = &'r str>, now: Timestamp) -> Option<Context> {
        build(self.subject, self.matter, reviews, now)
    }

    fn slices<'r>(&'r self, rules: &'r RuleSet) -> impl Iterator<Item = &'r Slice> {
        self.needs.iter().map(|need| rules.slice(need.action))
    }

    /// The permits that determined it, or the first pair that does not pass.
    pub(crate) fn check<'r>(
        &self,
        rules: &RuleSet,
        reviews: impl IntoIterator<Item = &'r str>,
        now: Timestamp,
    ) -> Result<Vec<RuleId>, Denial> {
        let deny = |why| Denial::new(why, rules.digest());
        let context = self.context(reviews, now).ok_or_else(|| deny(Why::EvaluationError))?;
        let mut permits = BTreeSet::new();
        for (need, object) in self.needs.iter().zip(&self.objects) {
            for link in &self.subject.links {
                match evaluate(rules, need.action, link, object, &context, &self.entities) {
                    Ok(ids) => permits.extend(ids),
                    Err((why, ids)) => {
                        return Err(Denial { rules: ids, need: Some(Box::new(need.clone())), ..deny(why) });
                    }
                }
            }
        }
        Ok(permits.into_iter().collect())
    }

    /// The smallest set of reviews under which everything passes; of two equally small ones the first by name.
    pub(crate) fn smallest(&self, rules: &RuleSet, approved: &[&str], now: Timestamp) -> Option<Vec<String>> {
        let names: BTreeSet<&str> = self.slices(rules).flat_map(|slice| &slice.reviews).map(String::as_str).collect();
        let names: Vec<&str> =
            names.into_iter().filter(|name| !approved.contains(name)).take(REVIEWS_CONSIDERED_MAX).collect();
        let with = |set: u32| -> Vec<&str> {
            let picked = names.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, name)| *name);
            picked.chain(approved.iter().copied()).collect()
        };
        let mut sets: Vec<(u32, Vec<&str>)> =
            (1..1_u32 << names.len()).map(|set| (set.count_ones(), with(set))).collect();
        sets.iter_mut().for_each(|(_, set)| set.sort_unstable());
        sets.sort();
        let found = sets.into_iter().find(|(_, set)| self.check(rules, set.iter().copied(), now).is_ok())?;
        Some(found.1.into_iter().map(str::to_owned).collect())
    }
}

/// What must pass. An empty query is a read of the database; opening a session always needs `connect`.
fn needs<'a>(request: &Request<'a>) -> Option<Cow<'a, [Need]>> {
    let on_resource = |action| Need { action, object: Object::Resource };
    if request.connect {
        let connect = on_resource(Action::Connect);
        if request.needs.contains(&connect) {
            return Some(Cow::Borrowed(request.needs));
        }
        return Some(Cow::Owned(request.needs.iter().cloned().chain([connect]).collect()));
    }
    match (request.needs, request.facts.statements.is_empty()) {
        ([], true) => Some(Cow::Owned(vec![on_resource(Action::Read)])),
        // Facts promise a need for every statement; without one nothing would be asked, and everything would pass.
        ([], false) => None,
        (needs, _) => Some(Cow::Borrowed(needs)),
    }
}

/// One question to the rules. An error in any rule is a denial, though the engine would skip the rule.
pub(crate) fn evaluate(
    rules: &RuleSet,
    action: Action,
    principal: &EntityUid,
    object: &EntityUid,
    context: &Context,
    entities: &Entities,
) -> Result<Vec<RuleId>, (Why, Vec<RuleId>)> {
    let verb = rules.types.action(action).clone();
    let request = CedarRequest::new(principal.clone(), verb, object.clone(), context.clone(), None)
        .map_err(|_| (Why::EvaluationError, Vec::new()))?;
    answer(&rules.authorizer.is_authorized(&request, &rules.slice(action).policies, entities))
}

fn answer(response: &Response) -> Result<Vec<RuleId>, (Why, Vec<RuleId>)> {
    let diagnostics = response.diagnostics();
    let mut failed: Vec<RuleId> = diagnostics
        .errors()
        .map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => RuleId(error.policy_id().to_string()),
        })
        .collect();
    if !failed.is_empty() {
        failed.sort();
        return Err((Why::EvaluationError, failed));
    }
    let mut reasons: Vec<RuleId> = diagnostics.reason().map(|id| RuleId(id.to_string())).collect();
    reasons.sort();
    match response.decision() {
        Decision::Allow => Ok(reasons),
        Decision::Deny if reasons.is_empty() => Err((Why::NoRulePermits, reasons)),
        Decision::Deny => Err((Why::Forbidden, reasons)),
    }
}

/// For each tag, whether its mask is lifted for every link of the chain.
pub fn unmask(subject: &Subject, rules: &RuleSet, tags: &[String], now: Timestamp) -> Vec<bool> {
    let subject = &*subject.0;
    let lifted = || {
        if subject.rules != rules.digest() {
            return None;
        }
        let (uids, entities) = subject.tags(rules, tags)?;
        let context = build(subject, Matter::Unmask, [], now)?;
        let lifts = |tag: &EntityUid| {
            subject.links.iter().all(|link| evaluate(rules, Action::Unmask, link, tag, &context, &entities).is_ok())
        };
        Some(uids.iter().map(lifts).collect())
    };
    lifted().unwrap_or_else(|| vec![false; tags.len()])
}

impl Asked {
    fn of(request: &Request<'_>) -> Self {
        Self {
            subject: request.subject.clone(),
            digest: request.digest,
            facts: request.facts.clone(),
            needs: request.needs.to_vec(),
            connect: request.connect,
        }
    }
    fn request(&self) -> Request<'_> {
        Request {
            subject: &self.subject,
            digest: self.digest,
            facts: &self.facts,
            needs: &self.needs,
            reviews: &[],
            connect: self.connect,
        }
    }
}

impl Hold {
    /// Settles the held command with its review: everything is checked again, every approval included, and the
    /// rules decide anew with the approved reviews as facts. The caller marks the review used before it forwards.
    pub fn settle(self, review: &Review, rules: &RuleSet, now: Timestamp) -> Verdict {
        let deny = |why| Verdict::Deny(Denial { rules: Vec::new(), why, need: None, ruleset: rules.digest() });
        if rules.digest() != self.denial.ruleset || rules.digest() != review.rules {
            return deny(Why::RulesChanged);
        }
        if let Err(fault) = self.fits(review, rules, now) {
            return deny(Why::Review(fault));
        }
        let approved: Vec<&str> = self.needed.iter().map(String::as_str).collect();
        decide_with(&self.asked.request(), &approved, Some(review), rules, now)
    }

    fn fits(&self, review: &Review, rules: &RuleSet, now: Timestamp) -> Result<(), ReviewFault> {
        let subject = &*self.asked.subject.0;
        // The chain of the hold, not that of the review, is the one that ran: they must agree before the review's
        // chain can say who is barred from approving.
        if review.digest != self.asked.digest
            || review.chain != subject.chain
            || review.resource != subject.resource.name
        {
            return Err(ReviewFault::Other);
        }
        match review.state {
            ReviewState::Approved => {}
            ReviewState::Pending => return Err(ReviewFault::Pending),
            ReviewState::Denied => return Err(ReviewFault::Denied),
            ReviewState::Expired => return Err(ReviewFault::Expired),
            ReviewState::Withdrawn => return Err(ReviewFault::Withdrawn),
            ReviewState::Used => return Err(ReviewFault::Used),
        }
        if review.uses == 0 {
            return Err(ReviewFault::Used);
        }
        if now >= review.expires_at {
            return Err(ReviewFault::Expired);
        }
        for name in &self.needed {
            if !approval::has_quorum(review, name, rules, now) {
                return Err(ReviewFault::Quorum(name.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cedar_policy::Schema;
    use chancery_model::{
        Actor, Authentication, Delegation, Durability, Principal, PrincipalKind, Protocol, Resource, ResourceName,
        TableName,
    };

    use super::*;
    use crate::{SCHEMA, Source};

    fn subject(rules: &RuleSet) -> Subject {
        let actor = |kind| Actor { issuer: "https://i.example".into(), subject: format!("{kind:?}"), kind };
        let principal = Principal {
            issuer: "https://i.example".into(),
            subject: "alice".into(),
            kind: PrincipalKind::User,
            display: "alice".into(),
            groups: vec!["dev".into()],
        };
        let chain = Delegation { principal, actors: vec![actor(PrincipalKind::Service), actor(PrincipalKind::Agent)] };
        let login = Authentication {
            issuer: "https://i.example".into(),
            method: "oidc",
            authenticated_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
            token_id: String::new(),
        };
        let resource = Resource {
            name: ResourceName::parse("shop").expect("well-formed"),
            protocol: Protocol::Postgres,
            database: "main".into(),
            labels: BTreeMap::from([("env".into(), "prod".into())]),
            durability: Durability::Balanced,
        };
        Subject::new(rules, &chain, &login, &resource, std::net::IpAddr::from([0_u16; 8]))
    }

    fn load(text: &str) -> RuleSet {
        RuleSet::load(vec![Source { path: "a".into(), text: text.into() }], vec![], &[]).expect("loads")
    }

    fn facts() -> Facts {
        let mut facts = Facts::unreadable("");
        let statement = &mut facts.statements[0];
        statement.unreadable = None;
        statement.has_filter = Some(false);
        statement.row_limit = Some(u64::MAX);
        facts
    }

    fn table(name: &str) -> Object {
        Object::Table(TableName { schema: Some("a.b".into()), name: name.into() })
    }

    #[test]
    fn entities_and_contexts_are_what_the_schema_says() {
        let rules = load(r#"permit (principal in Group::"dev", action, resource);"#);
        let subject = subject(&rules);
        let schema: Schema = SCHEMA.parse().expect("the schema parses");
        let facts = facts();
        let objects = [Object::Resource, Object::Schema("x".into()), table("t")];
        let needs: Vec<Need> = objects.into_iter().map(|object| Need { action: Action::Read, object }).collect();
        for connect in [false, true] {
            let request = Request {
                subject: &subject,
                digest: Digest::default(),
                facts: &facts,
                needs: &needs,
                reviews: &[],
                connect,
            };
            let prepared = Prepared::new(&request, &rules).expect("readable");
            let context = prepared.context(["x"], Timestamp(-1)).expect("a context");
            for action in [Action::Read, Action::Connect] {
                context.validate(&schema, rules.types.action(action)).expect("the context conforms");
            }
            Entities::from_entities(prepared.entities.iter().cloned(), Some(&schema)).expect("the entities conform");
        }
        let api = build(&subject.0, Matter::Api("replay"), [], Timestamp(0)).expect("a context");
        api.validate(&schema, rules.types.action(Action::Administer)).expect("the context conforms");
        let (_, tags) = subject.0.tags(&rules, &["pii".into(), "pii".into()]).expect("tags");
        Entities::from_entities(tags.iter().cloned(), Some(&schema)).expect("the tags conform");
    }

    #[test]
    fn slices_answer_as_the_whole_set_does() {
        let rules = load(
            r#"permit (principal, action in [Action::"read", Action::"write"], resource);
               permit (principal, action == Action::"define", resource);
               forbid (principal, action == Action::"write", resource) when { context.unfiltered };
               forbid (principal, action, resource) when { context has row_limit && context.row_limit < 5 };"#,
        );
        let mut whole = cedar_policy::PolicySet::new();
        rules.rules.values().for_each(|rule| whole.add(rule.policy.clone()).expect("distinct ids"));
        let subject = subject(&rules);
        let facts = facts();
        for action in Action::ALL.into_iter().filter(|action| *action != Action::Connect) {
            let needs = [Need { action, object: table("t") }];
            let request = Request {
                subject: &subject,
                digest: Digest::default(),
                facts: &facts,
                needs: &needs,
                reviews: &[],
                connect: false,
            };
            let prepared = Prepared::new(&request, &rules).expect("readable");
            let context = prepared.context([], Timestamp(0)).expect("a context");
            for link in &prepared.subject.links {
                let object = &prepared.objects[0];
                let sliced = evaluate(&rules, action, link, object, &context, &prepared.entities);
                let verb = rules.types.action(action).clone();
                let request =
                    CedarRequest::new(link.clone(), verb, object.clone(), context.clone(), None).expect("valid");
                assert_eq!(sliced, answer(&rules.authorizer.is_authorized(&request, &whole, &prepared.entities)));
            }
        }
    }
}
