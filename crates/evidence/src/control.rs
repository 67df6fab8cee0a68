//! The controls: predicates over the whole of a log, and where each does not hold. Not here: what a criterion demands of
//! whom; a control says what was tested and what was found.

use std::collections::VecDeque;

use chancery_ledger::{EntryKind, Leaf};
use foldhash::HashMap;

use crate::collect::Scope;
use crate::fields::{number, session, text, texts};
use crate::{Population, Value};

/// Exceptions kept of each control; more are counted.
pub const EXCEPTIONS_MAX: usize = 10_000;
/// A command that was ruled on while the rules changed may be written down behind the change.
const RULES_GRACE_US: i64 = 10_000_000;
/// Wall and monotonic clock of one process may drift apart so far without a word.
const DRIFT_MAX_US: i64 = 1_000_000;
/// Rule sets that were in force lately, for the grace.
const RECENT_MAX: usize = 64;

/// What a control is, in words.
#[derive(Debug)]
pub struct Control {
    /// Its id.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// Criteria of the trust services.
    pub criteria: &'static [&'static str],
    /// What is tested, over which population.
    pub predicate: &'static str,
    /// The populations it looks at.
    pub populations: &'static [Population],
}

macro_rules! controls {
    ($($name:ident $id:literal $title:literal [$($criterion:literal),*] [$($population:ident),*] $predicate:literal)*) => {
        /// Which control.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each says in its title what it is")]
        pub enum ControlId { $($name),* }

        /// All controls, in order.
        pub const CONTROLS: &[Control] = &[$(Control {
            id: $id, title: $title, criteria: &[$($criterion),*], predicate: $predicate,
            populations: &[$(Population::$population),*],
        }),*];
    };
}

controls! {
    SessionBalance "session-balance" "Every session has an end" ["PI1.4", "CC7.2"] [P04]
        "each session.open is followed by one session.close; one that a crash closed, or that is open at the head, is an exception"
    CommandOutcome "command-outcome" "Every forwarded command has a known outcome" ["PI1.4", "CC7.2"] [P05]
        "each act.start is followed by one act.done; an outcome that is unknown, or missing at the head, is an exception"
    RulesInForce "rules-in-force" "Every action was ruled on by the rule set in force" ["CC8.1", "CC6.3"] [P04, P05, P08]
        "the rule-set digest of each session.open, act.start and act.deny is that of the last policy.apply before it, or of one that was superseded less than ten seconds before"
    RuleTexts "rule-texts" "The text of every rule set in force is in the pack" ["CC8.1"] [P08]
        "for each rule set in force in the period there is rules/<digest>.rules"
    Segregation "segregation" "Nobody approved their own command" ["CC6.3", "CC8.1"] [P06]
        "for each approval, the approver's principal and actors are none of the principal and actors of the chain that asked (issuer and subject compared); a chain that the directory does not know is an exception"
    ApprovalBinding "approval-binding" "What was approved is what ran, once" ["CC6.3", "CC8.1"] [P05, P06]
        "each approval.use names a request before it, not used before, not past its limit, with the same command digest, and each review rule that it needed was approved for that digest; each act.start with a review has its use"
    ApprovalSigned "approval-signed" "Approvals are signed by a key of the approver" ["CC6.3"] [P06]
        "each approval that was used has assurance `signed`; a weaker one is an exception"
    RefusedNotRun "refused-not-run" "What was refused did not run" ["CC6.1", "CC6.7"] [P05, P12]
        "no command number of a session has both an act.deny and an act.start"
    SessionsRecorded "sessions-recorded" "Every session with commands has a recording" ["CC7.2", "PI1.5"] [P04]
        "each session.close with acts above 0 names the last block of its recording"
    NoDangerousOption "no-dangerous-option" "No option that weakens a promise was in force" ["CC6.6", "CC7.1"] [P09]
        "the list `dangerous` of each boot is empty"
    NothingUnaudited "nothing-unaudited" "No entries are known to be missing" ["A1.2", "CC7.2"] [P20]
        "there is no gap entry (a stall is none: while it lasts commands are refused)"
    ClockSteady "clock-steady" "The clock made no steps" ["CC7.2"] [P04, P05]
        "within one boot id, wall clock and monotonic clock do not drift apart by more than a second"
    NoBypass "no-bypass" "Nobody reached the resource past the gateway" ["CC6.1", "CC6.6"] [P19]
        "each connection in the resource's own log carries the name of a session in P04; not tested if no log was handed in"
}

impl ControlId {
    /// What it is.
    pub fn about(self) -> &'static Control {
        &CONTROLS[self as usize]
    }
}

/// One place where a control does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The entry; none for what is outside the ledger.
    pub entry: Option<u64>,
    /// When, in microseconds since 1970 UTC.
    pub at: Option<i64>,
    /// What was found.
    pub what: String,
}

/// What a control found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Why it was not tested, if it was not.
    pub untested: Option<&'static str>,
    /// How many items were looked at.
    pub tested: u64,
    /// Where it does not hold: the first [`EXCEPTIONS_MAX`].
    pub exceptions: Vec<Exception>,
    /// How many there are.
    pub count: u64,
}

impl Found {
    /// `holds`, `exceptions` or `not tested`.
    pub fn result(&self) -> &'static str {
        match (self.untested, self.count) {
            (Some(_), _) => "not tested",
            (None, 0) => "holds",
            (None, _) => "exceptions",
        }
    }
    fn except(&mut self, exception: Exception) {
        self.count += 1;
        if self.exceptions.len() < EXCEPTIONS_MAX {
            self.exceptions.push(exception);
        }
    }
}

/// What all controls found, in the order of [`CONTROLS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    found: Vec<Found>,
}

impl Findings {
    /// Each control with what it found.
    pub fn all(&self) -> impl Iterator<Item = (&'static Control, &Found)> {
        CONTROLS.iter().zip(&self.found)
    }
    /// What one found.
    pub fn of(&self, control: ControlId) -> &Found {
        &self.found[control as usize]
    }
    /// Takes the result of a comparison with the resource's own log.
    pub(crate) fn compared(&mut self, tested: u64, exceptions: Vec<Exception>) {
        let found = &mut self.found[ControlId::NoBypass as usize];
        *found = Found { tested, ..Found::default() };
        exceptions.into_iter().for_each(|exception| found.except(exception));
    }
}

/// A request for approval.
pub(crate) struct Requested {
    pub(crate) entry: u64,
    pub(crate) at: i64,
    pub(crate) chain: Option<String>,
    pub(crate) digest: Option<String>,
    pub(crate) needed: Vec<String>,
    pub(crate) until: i64,
}

/// A decision on it.
pub(crate) struct Decided {
    pub(crate) entry: u64,
    pub(crate) approved: bool,
    pub(crate) rule: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) assurance: Option<String>,
    pub(crate) digest: Option<String>,
}

/// A rule set: since when it is in force, and until when.
struct InForce {
    rules: String,
    until: Option<i64>,
}

/// What an approval was used for: session, number of the command, digest.
#[derive(PartialEq, Eq)]
struct Use(Option<String>, Option<u64>, Option<String>);

impl Use {
    fn of(leaf: &Leaf) -> Self {
        Self(session(leaf), leaf.command, text(leaf, "ch"))
    }
}

/// Collects what the controls look at.
pub(crate) struct Controls {
    found: Vec<Found>,
    rules: VecDeque<InForce>,
    /// Reviews used, with session, command and digest of the use; and the commands that said they use one.
    uses: HashMap<String, Use>,
    claims: HashMap<String, (u64, i64)>,
    /// Command numbers of open sessions that were refused.
    refused: HashMap<String, Vec<u64>>,
    boot: String,
    /// Wall minus monotonic clock at the start of the boot.
    offset: i64,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            found: vec![Found::default(); CONTROLS.len()],
            rules: VecDeque::new(),
            uses: HashMap::default(),
            claims: HashMap::default(),
            refused: HashMap::default(),
            boot: String::new(),
            offset: 0,
        }
    }
}

impl Controls {
    fn tested(&mut self, control: ControlId) {
        self.found[control as usize].tested += 1;
    }
    fn except(&mut self, control: ControlId, entry: u64, at: i64, what: impl Into<String>) {
        let exception = Exception { entry: Some(entry), at: Some(at), what: what.into() };
        self.found[control as usize].except(exception);
    }
    fn test(&mut self, control: ControlId, holds: bool, leaf: &Leaf, what: impl FnOnce() -> String) {
        self.tested(control);
        if !holds {
            self.except(control, leaf.index, leaf.wall, what());
        }
    }

    /// Looks at the clocks of an entry.
    pub(crate) fn clock(&mut self, scope: &Scope, leaf: &Leaf) {
        let offset = leaf.wall.saturating_sub(leaf.mono);
        if self.boot != leaf.boot {
            self.boot.clone_from(&leaf.boot);
            self.offset = offset;
        }
        let drift = offset.saturating_sub(self.offset);
        let steady = drift.abs() <= DRIFT_MAX_US;
        if scope.period.contains(leaf.wall) {
            self.test(ControlId::ClockSteady, steady, leaf, || {
                format!("the wall clock stepped by {drift} microseconds")
            });
        }
        if !steady {
            self.offset = offset;
        }
    }

    pub(crate) fn applied(&mut self, rules: &str, at: i64) {
        if let Some(last) = self.rules.back_mut() {
            last.until = Some(at);
        }
        if self.rules.len() == RECENT_MAX {
            self.rules.pop_front();
        }
        self.rules.push_back(InForce { rules: rules.to_owned(), until: None });
    }

    fn ruled(&mut self, scope: &Scope, leaf: &Leaf) {
        if !scope.period.contains(leaf.wall) {
            return;
        }
        let digest = text(leaf, "p").unwrap_or_default();
        let since = leaf.wall.saturating_sub(RULES_GRACE_US);
        let holds = self.rules.iter().any(|one| one.rules == digest && one.until.is_none_or(|until| until >= since));
        self.test(ControlId::RulesInForce, holds, leaf, || format!("rule set {digest} was not in force"));
    }

    pub(crate) fn rule_text(&mut self, entry: u64, at: i64, rules: &str, known: bool) {
        self.tested(ControlId::RuleTexts);
        if !known {
            self.except(ControlId::RuleTexts, entry, at, format!("the text of rule set {rules} was not kept"));
        }
    }

    pub(crate) fn opened(&mut self, scope: &Scope, leaf: &Leaf) {
        self.ruled(scope, leaf);
    }

    pub(crate) fn started(&mut self, scope: &Scope, leaf: &Leaf, session: &str, command: u64) {
        self.ruled(scope, leaf);
        if let Some(review) = text(leaf, "rev") {
            match self.uses.get(&review) {
                None => drop(self.claims.insert(review, (leaf.index, leaf.wall))),
                Some(used) if *used == Use::of(leaf) => {}
                Some(_) if scope.period.contains(leaf.wall) => {
                    let what = "the approval that it names was used for another command";
                    self.except(ControlId::ApprovalBinding, leaf.index, leaf.wall, what);
                }
                Some(_) => {}
            }
        }
        let refused = self.refused.get(session).is_some_and(|commands| commands.contains(&command));
        if scope.period.contains(leaf.wall) {
            self.test(ControlId::RefusedNotRun, !refused, leaf, || format!("command {command} was refused before"));
        }
    }

    pub(crate) fn denied(&mut self, scope: &Scope, leaf: &Leaf) {
        self.ruled(scope, leaf);
        if let (Some(session), Some(command)) = (session(leaf), leaf.command.filter(|command| *command > 0)) {
            self.refused.entry(session).or_default().push(command);
        }
    }

    pub(crate) fn ended(&mut self, scope: &Scope, leaf: &Leaf, (entry, at): (u64, i64), outcome: &str) {
        if scope.period.touches(at, Some(leaf.wall)) {
            self.tested(ControlId::CommandOutcome);
            if outcome == "unknown" {
                self.except(ControlId::CommandOutcome, entry, at, "its outcome is unknown");
            }
        }
    }

    pub(crate) fn running(&mut self, scope: &Scope, (entry, at): (u64, i64)) {
        if scope.period.touches(at, None) {
            self.tested(ControlId::CommandOutcome);
            self.except(ControlId::CommandOutcome, entry, at, "it has no outcome at the head of the log");
        }
    }

    pub(crate) fn closed(&mut self, scope: &Scope, leaf: &Leaf, (entry, at): (u64, i64)) {
        if let Some(session) = session(leaf) {
            self.refused.remove(&session);
        }
        if !scope.period.touches(at, Some(leaf.wall)) {
            return;
        }
        self.tested(ControlId::SessionBalance);
        if leaf.kind == Some(EntryKind::Crash) {
            return self.except(ControlId::SessionBalance, entry, at, "the process died while it was open");
        }
        if number(leaf, "acts").unwrap_or_default() > 0 {
            let recorded = leaf.digest("cm").is_some();
            self.test(ControlId::SessionsRecorded, recorded, leaf, || "it names no recording".into());
        }
    }

    pub(crate) fn open_at_head(&mut self, scope: &Scope, (entry, at): (u64, i64)) {
        if scope.period.touches(at, None) {
            self.tested(ControlId::SessionBalance);
            self.except(ControlId::SessionBalance, entry, at, "it is open at the head of the log");
        }
    }

    pub(crate) fn decided(&mut self, scope: &Scope, leaf: &Leaf, requested: &Requested, decided: &Decided) {
        if !decided.approved || !scope.period.contains(leaf.wall) {
            return;
        }
        let chains = (requested.chain.as_deref(), decided.by.as_deref());
        let problem = match chains {
            (Some(asker), Some(by)) => self_approval(scope, asker, by),
            _ => Some("it does not say who asked, or who decided".to_owned()),
        };
        self.test(ControlId::Segregation, problem.is_none(), leaf, || problem.unwrap_or_default());
    }

    pub(crate) fn used<'a>(
        &mut self,
        scope: &Scope,
        leaf: &Leaf,
        requested: Option<&Requested>,
        decisions: impl Iterator<Item = &'a Decided>,
    ) {
        let review = text(leaf, "rev").unwrap_or_default();
        self.claims.remove(&review);
        let again = self.uses.insert(review, Use::of(leaf)).is_some();
        if !scope.period.contains(leaf.wall) {
            return;
        }
        let digest = text(leaf, "ch");
        let approved: Vec<&Decided> = decisions.filter(|one| one.approved && one.digest == digest).collect();
        let problem = match requested {
            None if again => Some("it was used before"),
            None => Some("nobody requested it"),
            Some(one) if one.digest != digest => Some("its digest is not the requested one"),
            Some(one) if leaf.wall > one.until => Some("it was used after its limit"),
            Some(one) if !one.needed.iter().all(|rule| approved.iter().any(|by| by.rule.as_ref() == Some(rule))) => {
                Some("a review rule that it needed was not approved for this digest")
            }
            Some(_) if texts(leaf, "ref").is_empty() => Some("it names no decision"),
            Some(_) => None,
        };
        self.test(ControlId::ApprovalBinding, problem.is_none(), leaf, || problem.unwrap_or_default().to_owned());
        for one in approved {
            self.tested(ControlId::ApprovalSigned);
            if one.assurance.as_deref() != Some("signed") {
                let level = one.assurance.as_deref().unwrap_or("none").to_owned();
                self.except(ControlId::ApprovalSigned, one.entry, leaf.wall, format!("its assurance is {level}"));
            }
        }
    }

    pub(crate) fn boot(&mut self, leaf: &Leaf, dangerous: &[String]) {
        self.test(ControlId::NoDangerousOption, dangerous.is_empty(), leaf, || dangerous.join(", "));
    }

    pub(crate) fn gap(&mut self, leaf: &Leaf, from: Option<u64>, to: Option<u64>) {
        let number = |at: Option<u64>| at.map_or("?".to_owned(), |at| at.to_string());
        let what = format!("entries {} to {} are missing", number(from), number(to));
        self.test(ControlId::NothingUnaudited, false, leaf, || what);
    }

    /// What was found.
    pub(crate) fn finish(mut self) -> Findings {
        let mut claims: Vec<(u64, i64)> = self.claims.drain().map(|(_, place)| place).collect();
        claims.sort_unstable();
        for (entry, at) in claims {
            self.except(ControlId::ApprovalBinding, entry, at, "it names a review, and no use of one is written down");
        }
        let why = "no log of the resource was handed in";
        self.found[ControlId::NoBypass as usize].untested = Some(why);
        Findings { found: self.found }
    }
}

/// Whether one chain has somebody of the other.
fn self_approval(scope: &Scope, asker: &str, by: &str) -> Option<String> {
    let (Some(asker), Some(by)) = (scope.directory.chain(asker), scope.directory.chain(by)) else {
        return Some("the directory does not know who asked, or who decided".to_owned());
    };
    let principal = (&by.principal.issuer, &by.principal.subject);
    let mut people = [principal].into_iter().chain(by.actors.iter().map(|actor| (&actor.issuer, &actor.subject)));
    let same = people.find(|(issuer, subject)| asker.involves(issuer, subject));
    same.map(|(issuer, subject)| format!("{} is in the chain that asked", crate::directory::who(issuer, subject)))
}

impl Found {
    /// As columns behind the control's own: result, tested, exceptions, why not tested.
    pub(crate) fn columns(&self) -> [Value; 4] {
        [self.result().into(), self.tested.into(), self.count.into(), self.untested.into()]
    }
}
