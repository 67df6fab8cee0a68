//! Everything that is checked before rules are used, each finding with its place in the text.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint, Schema,
    ValidationMode, ValidationWarning, Validator,
};
use chancery_model::Resource;

use crate::rules::{Problem, ReviewRule, Rule, Source};
use crate::scan::scan;

/// More text than people write; a bound on what a mistaken directory can cost.
const SOURCE_BYTES_MAX: usize = 1 << 20;
const RULES_MAX: usize = 10_000;
/// The parser and the validator are recursive.
const NESTING_MAX: usize = 64;
/// A year: longer waits and grants are mistakes of unit.
const MICROS_MAX: i64 = 366 * 86_400 * 1_000_000;

/// What rules are checked against.
pub(crate) struct Known<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) resources: &'a [Resource],
    /// Uid suffixes of the issuers; empty if the caller did not tell.
    pub(crate) suffixes: &'a [String],
}

/// Parses and validates all sources. The rules are in the order of their ids.
pub(crate) fn rules(sources: &[Source], known: &Known<'_>, problems: &mut Vec<Problem>) -> BTreeMap<String, Rule> {
    let mut rules = BTreeMap::new();
    let mut paths = BTreeSet::new();
    for source in sources {
        if !paths.insert(&source.path) {
            problems.push(at(source, 0, "two sources have this path".to_owned(), None));
            continue;
        }
        for rule in parse(source, problems) {
            if rules.len() == RULES_MAX {
                problems.push(rule.problem(format!("there are more than {RULES_MAX} rules")));
                return rules;
            }
            entities(&rule, known, problems);
            let id: &str = rule.id().as_ref();
            if let Some(first) = rules.get(id) {
                let Rule { path, line, .. } = first;
                problems.push(rule.problem(format!("the id `{id}` is taken by the rule at {path}:{line}")));
            } else {
                rules.insert(id.to_owned(), rule);
            }
        }
    }
    validate(sources, &rules, known, problems);
    rules
}

fn parse(source: &Source, problems: &mut Vec<Problem>) -> Vec<Rule> {
    if source.text.len() > SOURCE_BYTES_MAX {
        problems.push(at(source, 0, format!("the file is larger than {SOURCE_BYTES_MAX} bytes"), None));
        return Vec::new();
    }
    if let Some(offset) = too_deep(&source.text) {
        problems.push(at(source, offset, format!("brackets are nested deeper than {NESTING_MAX}"), None));
        return Vec::new();
    }
    let set: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            detailed(source, &DetailedError::from(&errors), 0, problems);
            return Vec::new();
        }
    };
    for template in set.templates() {
        let offset = source.text.find(&template.to_cedar()).unwrap_or(0);
        problems.push(at(source, offset, "templates (?principal, ?resource) are not supported".to_owned(), None));
    }
    // The parser numbers policies in the order of the text: policy0, policy1 …
    let mut policies: Vec<(usize, &Policy)> = set
        .policies()
        .map(|policy| (policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(usize::MAX), policy))
        .collect();
    policies.sort_by_key(|(number, _)| *number);
    let mut rules = Vec::with_capacity(policies.len());
    let mut from = 0;
    for (number, policy) in policies {
        let text = policy.to_cedar().unwrap_or_default();
        let offset = source.text.get(from..).and_then(|rest| rest.find(&text)).map_or(from, |found| from + found);
        from = offset + text.len();
        match rule(source, policy, number, offset) {
            Ok(rule) => rules.push(rule),
            Err((message, hint)) => problems.push(at(source, offset, message, hint)),
        }
    }
    rules
}

fn rule(source: &Source, policy: &Policy, number: usize, offset: usize) -> Result<Rule, (String, Option<String>)> {
    let id = match policy.annotation("id") {
        Some(id) if !(1..=128).contains(&id.len()) || id.contains(char::is_control) => {
            return Err(("an @id has 1 to 128 characters, none of them a control character".to_owned(), None));
        }
        Some(id) => id.to_owned(),
        None => format!("{}#{}", source.path, number.saturating_add(1)),
    };
    let policy = policy.new_id(PolicyId::new(id));
    let json = policy.to_json().map_err(|error| (error.to_string(), None))?;
    let reads = scan(&json).map_err(|why| (why.to_owned(), None))?;
    Ok(Rule::new(source, policy, (offset, place(&source.text, offset)), reads))
}

/// Names that can never be met, and those that could be met by somebody else than was meant.
fn entities(rule: &Rule, known: &Known<'_>, problems: &mut Vec<Problem>) {
    for uid in rule.policy.entity_literals() {
        let (kind, id) = (uid.type_name().basename(), uid.id().unescaped());
        if let Some((message, hint, warning)) = name_problem(kind, id, known) {
            problems.push(Problem { hint, warning, ..rule.problem(message) });
        }
    }
}

fn name_problem(kind: &str, id: &str, known: &Known<'_>) -> Option<(String, Option<String>, bool)> {
    let issuer_known = id.rsplit_once('@').is_some_and(|(_, issuer)| known.suffixes.iter().any(|s| s == issuer));
    let example = known.suffixes.first().map_or("idp.example", String::as_str);
    match kind {
        "User" | "Service" | "Agent" if !id.contains('@') => Some((
            format!("{kind}::\"{id}\" names no issuer and can never be met"),
            Some(format!("write {kind}::\"{id}@{example}\": the subject, @, the issuer's URL without https://")),
            false,
        )),
        "User" | "Service" | "Agent" if !known.suffixes.is_empty() && !issuer_known => {
            Some((format!("{kind}::\"{id}\" is of an issuer that is not configured"), None, true))
        }
        "Group" if known.suffixes.len() > 1 && !issuer_known => Some((
            format!("Group::\"{id}\" must say of which issuer: several are configured"),
            Some(format!("write Group::\"{id}@{example}\"")),
            false,
        )),
        "Resource" | "Database" | "Schema" | "Table" | "Column" => {
            let name = id.split_once('/').map_or(id, |(name, _)| name);
            let exists = known.resources.iter().any(|resource| resource.name.as_str() == name);
            (!exists).then(|| (format!("no resource is called `{name}`: the rule never applies there"), None, true))
        }
        _ => None,
    }
}

fn validate(sources: &[Source], rules: &BTreeMap<String, Rule>, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let mut set = PolicySet::new();
    for rule in rules.values() {
        if let Err(error) = set.add(rule.policy.clone()) {
            problems.push(rule.problem(error.to_string()));
        }
    }
    let result = Validator::new(known.schema.clone()).validate(&set, ValidationMode::Strict);
    let mut report = |id: &PolicyId, error: DetailedError, warning: bool| {
        let Some(rule) = rules.get(AsRef::<str>::as_ref(id)) else { return };
        let Some(source) = sources.iter().find(|source| source.path == rule.path) else { return };
        let first = problems.len();
        detailed(source, &error, rule.offset, problems);
        problems.iter_mut().skip(first).for_each(|problem| problem.warning = warning);
    };
    for error in result.validation_errors() {
        report(error.policy_id(), DetailedError::from(error), false);
    }
    for warning in result.validation_warnings() {
        // Text that reads otherwise than it runs is no matter of taste.
        let grave =
            matches!(warning, ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_));
        report(warning.policy_id(), DetailedError::from(warning), !grave);
    }
}

/// Checks the review rules by themselves.
pub(crate) fn reviews(
    reviews: Vec<ReviewRule>,
    known: &Known<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, ReviewRule> {
    let mut checked = BTreeMap::new();
    for review in reviews {
        let mut say = |message: String, hint: Option<String>, warning: bool| {
            let path = format!("[[review]] {}", review.name.escape_debug());
            problems.push(Problem { path, line: 0, column: 0, message, hint, warning });
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=63).contains(&review.name.len()) || !review.name.chars().all(plain) {
            say("the name must be 1 to 63 letters, digits, - or _".to_owned(), None, false);
        }
        if review.reviewers.is_empty() {
            say("nobody may approve: `reviewers` is empty".to_owned(), None, false);
        }
        let mut groups = false;
        let mut people = BTreeSet::new();
        for text in &review.reviewers {
            let Ok(uid) = text.parse::<EntityUid>() else {
                say(format!("`{text}` is not a Cedar uid"), Some("write Group::\"dba\"".to_owned()), false);
                continue;
            };
            match uid.type_name().to_string().as_str() {
                "Group" => groups = true,
                "User" => drop(people.insert(uid.id().unescaped().to_owned())),
                other => {
                    say(format!("a reviewer is a User or a Group, not a {other}: only people review"), None, false)
                }
            }
            if let Some((message, hint, warning)) =
                name_problem(uid.type_name().basename(), uid.id().unescaped(), known)
            {
                say(message, hint, warning);
            }
        }
        if review.quorum == 0 {
            say(
                "a quorum of 0 approves everything unseen".to_owned(),
                Some("set quorum = 1 or more".to_owned()),
                false,
            );
        }
        if review.quorum > 100 || (!groups && review.quorum as usize > people.len()) {
            say(format!("a quorum of {} can never be reached", review.quorum), None, false);
        }
        if !(1..=MICROS_MAX).contains(&review.expires_micros) {
            say("`expires` must be between a moment and a year".to_owned(), None, false);
        }
        if review.lasts_micros.is_some_and(|lasts| !(1..=MICROS_MAX).contains(&lasts)) {
            say("`lasts` must be between a moment and a year".to_owned(), None, false);
        }
        if checked.contains_key(&review.name) {
            say("two review rules have this name".to_owned(), None, false);
        }
        checked.insert(review.name.clone(), review);
    }
    checked
}

/// Every review that a rule asks for must be defined.
pub(crate) fn review_names(
    rules: &BTreeMap<String, Rule>,
    reviews: &BTreeMap<String, ReviewRule>,
    problems: &mut Vec<Problem>,
) {
    for rule in rules.values() {
        for name in rule.reads.reviews.iter().filter(|name| !reviews.contains_key(*name)) {
            let known: Vec<&str> = reviews.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => "define it: [[review]] name = …".to_owned(),
                known => format!("defined are: {}", known.join(", ")),
            };
            problems.push(Problem {
                hint: Some(hint),
                ..rule.problem(format!("no [[review]] is called `{}`", name.escape_debug()))
            });
        }
    }
}

/// Warns of permits that an unconditional rule makes idle.
pub(crate) fn shadows(rules: &BTreeMap<String, Rule>, problems: &mut Vec<Problem>) {
    let broad: Vec<&Rule> = rules.values().filter(|rule| !rule.policy.has_non_scope_constraint()).collect();
    for rule in rules.values() {
        let over = broad.iter().find(|other| {
            // Of two equal rules, the one that comes first by id is the shadow's owner.
            other.id() != rule.id()
                && (other.forbids || !rule.forbids)
                && covers(&other.policy, &rule.policy)
                && (other.forbids != rule.forbids
                    || rule.policy.has_non_scope_constraint()
                    || !covers(&rule.policy, &other.policy)
                    || other.id() < rule.id())
        });
        if let Some(over) = over {
            let word = if over.forbids { "forbids" } else { "permits" };
            let message = format!("the rule has no effect: `{}` already {word} all that it is about", over.id());
            problems.push(Problem { warning: true, ..rule.problem(message) });
        }
    }
}

/// Whether every request in the scope of `small` is in the scope of `large`, as far as the scopes alone tell.
fn covers(large: &Policy, small: &Policy) -> bool {
    use PrincipalConstraint as P;
    use ResourceConstraint as R;
    let (large_principal, small_principal) = (large.principal_constraint(), small.principal_constraint());
    let principal = large_principal == small_principal
        || match (&large_principal, &small_principal) {
            (P::Any, _) => true,
            (P::In(a), P::Eq(b) | P::IsIn(_, b)) => a == b,
            (P::Is(a), P::Eq(b)) => a == b.type_name(),
            (P::Is(a), P::IsIn(b, _)) => a == b,
            _ => false,
        };
    let (large_resource, small_resource) = (large.resource_constraint(), small.resource_constraint());
    let resource = large_resource == small_resource
        || match (&large_resource, &small_resource) {
            (R::Any, _) => true,
            (R::In(a), R::Eq(b) | R::IsIn(_, b)) => a == b,
            (R::Is(a), R::Eq(b)) => a == b.type_name(),
            (R::Is(a), R::IsIn(b, _)) => a == b,
            _ => false,
        };
    let actions = |policy: &Policy| match policy.action_constraint() {
        ActionConstraint::Any => None,
        ActionConstraint::Eq(one) => Some(vec![one]),
        ActionConstraint::In(any) => Some(any),
    };
    let action = match (actions(large), actions(small)) {
        (None, _) => true,
        (Some(large), Some(small)) => small.iter().all(|action| large.contains(action)),
        (Some(_), None) => false,
    };
    principal && resource && action
}

fn detailed(source: &Source, error: &DetailedError, fallback: usize, problems: &mut Vec<Problem>) {
    let offset = error.source_locations.first().map_or(fallback, |label| label.loc.start);
    let label = error.source_locations.first().and_then(|label| label.label.clone());
    let message = match label {
        Some(label) => format!("{}: {label}", error.message),
        None => error.message.clone(),
    };
    problems.push(at(source, offset, message, error.help.clone()));
    error.related.iter().for_each(|related| detailed(source, related, fallback, problems));
}

fn at(source: &Source, offset: usize, message: String, hint: Option<String>) -> Problem {
    let (line, column) = place(&source.text, offset);
    Problem { path: source.path.clone(), line, column, message, hint, warning: false }
}

/// Line and column in characters, both from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.char_indices().take_while(|(at, _)| *at < offset).map(|(_, c)| c);
    before.fold((1, 1), |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) })
}

/// Where brackets outside strings and comments get too deep.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                while let Some((_, inner)) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                let _ = bytes.by_ref().find(|(_, inner)| *inner == b'\n');
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Some(at);
        }
    }
    None
}
