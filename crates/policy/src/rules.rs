//! A set of rules: loaded from texts, checked whole, and sliced by action for speed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use cedar_policy::{ActionConstraint, Authorizer, Effect, EntityUid, Policy, PolicyId, PolicySet, Schema};
use chancery_model::{Action, Assurance, Digest, PrincipalKind, Resource};

use crate::check;
use crate::hash::Preimage;
use crate::names::{Types, issuer_suffix, scoped};
use crate::scan::Reads;

/// The published Cedar schema; part of every rule set's digest.
pub const SCHEMA: &str = include_str!("../schema/chancery.cedarschema");

/// One file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path as people know it, relative to the directory of rules.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Who may release a held command, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewRule {
    /// The name that rules ask for in `context.reviews`.
    pub name: String,
    /// Cedar uids of users and groups: `Group::"dba"`, `User::"alice@idp.example"`.
    pub reviewers: Vec<String>,
    /// How many distinct people must approve.
    pub quorum: u32,
    /// How long a request waits, in microseconds.
    pub expires_micros: i64,
    /// How long the grant lasts when it approves a connect, in microseconds.
    pub lasts_micros: Option<i64>,
    /// The weakest assurance that counts.
    pub assurance: Assurance,
}

/// Something wrong (or odd) with a rule or a review rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The source's path, or `[[review]] name`.
    pub path: String,
    /// From 1; 0 where there is no text to point at.
    pub line: u32,
    /// In characters, from 1; 0 where there is no text to point at.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// True if the rules load all the same.
    pub warning: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}{}", if self.warning { "warning: " } else { "" }, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

/// One rule with its place in the sources.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) path: String,
    /// In bytes.
    pub(crate) offset: usize,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) text: String,
    pub(crate) forbids: bool,
    pub(crate) reads: Reads,
    pub(crate) policy: Policy,
}

/// The rules that can have a say in one action.
pub(crate) struct Slice {
    pub(crate) policies: PolicySet,
    pub(crate) reviews: Vec<String>,
    pub(crate) time: bool,
    pub(crate) tables: bool,
}

/// A checked set of rules and review rules. Immutable; share it behind an `Arc`.
pub struct RuleSet {
    pub(crate) digest: Digest,
    text: Box<[u8]>,
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) reviews: BTreeMap<String, ReviewRule>,
    pub(crate) types: Types,
    pub(crate) authorizer: Authorizer,
    slices: Vec<Slice>,
    /// Ids of the groups that any rule names; no other membership can matter to a decision.
    groups: HashSet<String>,
    /// Whether a group is called by its bare name: only when no second issuer could name its own group the same.
    bare_groups: bool,
    warnings: Vec<Problem>,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleSet({}, {} rules)", self.digest, self.rules.len())
    }
}

impl RuleSet {
    /// Loads the rules of a gateway that accepts tokens of *one* issuer. Otherwise `load_for_issuers` must be used:
    /// here a group is known by its bare name whoever vouched for it.
    ///
    /// # Errors
    /// Every problem found, warnings included, if at least one is not a warning.
    pub fn load(sources: Vec<Source>, reviews: Vec<ReviewRule>, resources: &[Resource]) -> Result<Self, Vec<Problem>> {
        Self::load_for_issuers(sources, reviews, resources, &[])
    }

    /// Loads the rules of a gateway that accepts tokens of these issuers (URLs as in their `iss` claims). With two or
    /// more, groups are called `Group::"dba@idp.example"`, and a bare name is refused.
    ///
    /// # Errors
    /// Every problem found, warnings included, if at least one is not a warning.
    pub fn load_for_issuers(
        mut sources: Vec<Source>,
        reviews: Vec<ReviewRule>,
        resources: &[Resource],
        issuers: &[String],
    ) -> Result<Self, Vec<Problem>> {
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        let issuers: BTreeSet<&str> = issuers.iter().map(String::as_str).collect();
        let suffixes: Vec<String> = issuers.iter().map(|issuer| issuer_suffix(issuer).into_owned()).collect();
        let schema: Schema = SCHEMA.parse().expect("the published schema parses; a test loads it");
        let known = check::Known { schema: &schema, resources, suffixes: &suffixes };
        let mut problems = Vec::new();
        let (text, digest) = canonical(&sources, &reviews, &issuers);
        let rules = check::rules(&sources, &known, &mut problems);
        let reviews = check::reviews(reviews, &known, &mut problems);
        check::review_names(&rules, &reviews, &mut problems);
        check::shadows(&rules, &mut problems);
        if problems.iter().any(|problem| !problem.warning) {
            return Err(problems);
        }
        Self::assemble((text, digest), rules, reviews, suffixes.len() < 2, problems)
    }

    fn assemble(
        (text, digest): (Vec<u8>, Digest),
        rules: BTreeMap<String, Rule>,
        reviews: BTreeMap<String, ReviewRule>,
        bare_groups: bool,
        warnings: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let types = Types::new();
        let mut slices = Vec::with_capacity(Action::ALL.len());
        for action in Action::ALL {
            slices.push(slice(&rules, types.action(action)).map_err(|problem| vec![problem])?);
        }
        let groups = rules
            .values()
            .flat_map(|rule| rule.policy.entity_literals())
            .filter(|uid| *uid.type_name() == types.group)
            .map(|uid| uid.id().unescaped().to_owned())
            .collect();
        Ok(Self {
            digest,
            text: text.into(),
            rules,
            reviews,
            types,
            authorizer: Authorizer::new(),
            slices,
            groups,
            bare_groups,
            warnings,
        })
    }

    /// The digest that every entry, permit and approval carries: SHA-256 over the length-prefixed, sorted sources, the
    /// review rules, the issuers and the schema.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes whose SHA-256 is the digest: whoever keeps them can show later which rules were in force.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The review rule of this name.
    pub fn review(&self, name: &str) -> Option<&ReviewRule> {
        self.reviews.get(name)
    }

    /// What `load` found odd, but not wrong.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule at all; then everything is denied.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What changed since `older`, one line each: `+ rule`, `- rule`, `~ rule`, and the same for review rules.
    pub fn diff(&self, older: &Self) -> Vec<String> {
        let mut lines = differences(&self.rules, &older.rules, "rule", |new, old| new.text == old.text);
        lines.extend(differences(&self.reviews, &older.reviews, "review", |new, old| new == old));
        if self.bare_groups != older.bare_groups {
            lines.push("~ issuers".to_owned());
        }
        lines
    }

    pub(crate) fn slice(&self, action: Action) -> &Slice {
        &self.slices[action as usize]
    }

    /// The ids by which rules can call this group of this issuer, whether they do or not.
    pub(crate) fn group_ids(&self, group: &str, issuer: &str) -> impl Iterator<Item = String> {
        let bare = self.bare_groups.then(|| group.to_owned());
        [Some(scoped(group, issuer)), bare].into_iter().flatten()
    }

    pub(crate) fn names_group(&self, id: &str) -> bool {
        self.groups.contains(id)
    }

    /// Whether this person is among the reviewers of the rule. Only people review: no agent, no service.
    pub(crate) fn is_reviewer(&self, rule: &ReviewRule, person: &chancery_model::Principal) -> bool {
        if person.kind != PrincipalKind::User {
            return false;
        }
        let user = scoped(&person.subject, &person.issuer);
        rule.reviewers.iter().filter_map(|text| text.parse::<EntityUid>().ok()).any(|uid| {
            let id = uid.id().unescaped();
            if *uid.type_name() == self.types.user {
                id == user
            } else {
                *uid.type_name() == self.types.group
                    && person.groups.iter().any(|group| self.group_ids(group, &person.issuer).any(|name| name == id))
            }
        })
    }
}

fn slice(rules: &BTreeMap<String, Rule>, action: &EntityUid) -> Result<Slice, Problem> {
    let mut slice = Slice { policies: PolicySet::new(), reviews: Vec::new(), time: false, tables: false };
    let mut reviews = BTreeSet::new();
    for rule in rules.values().filter(|rule| applies(&rule.policy, action)) {
        slice.policies.add(rule.policy.clone()).map_err(|error| rule.problem(error.to_string()))?;
        reviews.extend(rule.reads.reviews.iter().cloned());
        slice.time |= rule.reads.time;
        slice.tables |= rule.reads.tables;
    }
    slice.reviews = reviews.into_iter().collect();
    Ok(slice)
}

/// Actions form no hierarchy in the schema, so `in` is equality.
fn applies(policy: &Policy, action: &EntityUid) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(only) => only == *action,
        ActionConstraint::In(any) => any.contains(action),
    }
}

impl Rule {
    pub(crate) fn new(
        source: &Source,
        policy: Policy,
        (offset, (line, column)): (usize, (u32, u32)),
        reads: Reads,
    ) -> Self {
        let text = policy.to_cedar().unwrap_or_default();
        let forbids = policy.effect() == Effect::Forbid;
        Self { path: source.path.clone(), offset, line, column, text, forbids, reads, policy }
    }
    pub(crate) fn id(&self) -> &PolicyId {
        self.policy.id()
    }
    pub(crate) fn problem(&self, message: String) -> Problem {
        Problem { path: self.path.clone(), line: self.line, column: self.column, message, hint: None, warning: false }
    }
}

fn canonical(sources: &[Source], reviews: &[ReviewRule], issuers: &BTreeSet<&str>) -> (Vec<u8>, Digest) {
    let mut fields = Preimage::new("chancery/rules/1").put(SCHEMA.as_bytes()).number(sources.len() as u64);
    for source in sources {
        fields = fields.put(source.path.as_bytes()).put(source.text.as_bytes());
    }
    let mut reviews: Vec<&ReviewRule> = reviews.iter().collect();
    reviews.sort_by(|a, b| a.name.cmp(&b.name));
    fields = fields.number(reviews.len() as u64);
    for review in reviews {
        fields = fields.put(review.name.as_bytes()).number(review.reviewers.len() as u64);
        for reviewer in &review.reviewers {
            fields = fields.put(reviewer.as_bytes());
        }
        fields = fields
            .number(u64::from(review.quorum))
            .put(&review.expires_micros.to_be_bytes())
            .put(review.lasts_micros.map(i64::to_be_bytes).as_ref().map_or(&[][..], |bytes| bytes))
            .put(review.assurance.as_str().as_bytes());
    }
    issuers.iter().fold(fields.number(issuers.len() as u64), |fields, issuer| fields.put(issuer.as_bytes())).finish()
}

fn differences<T>(
    new: &BTreeMap<String, T>,
    old: &BTreeMap<String, T>,
    noun: &str,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<String> {
    let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (new.get(name), old.get(name)) {
            (Some(_), None) => Some(format!("+ {noun} {name}")),
            (None, Some(_)) => Some(format!("- {noun} {name}")),
            (Some(new), Some(old)) if !same(new, old) => Some(format!("~ {noun} {name}")),
            _ => None,
        })
        .collect()
}
