//! What a permit covers: running a command, only preparing it, or a protocol step that has no effect of its own.

use std::sync::Arc;

use chancery_model::Digest;

use crate::rules::RuleSet;
use crate::verdict::{Hold, Permit};

/// What a permit covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Running the command.
    Run,
    /// Having it parsed and described; it is ruled on again when it is run.
    Prepare,
    /// A step of the protocol without a statement.
    Step,
}

impl Permit {
    /// What it covers.
    pub fn scope(&self) -> Scope {
        self.scope
    }
    /// The same permit for less: one that allows running allows preparing, too. Anything else stays what it is.
    pub fn limit(mut self, scope: Scope) -> Self {
        if self.scope == Scope::Run && scope == Scope::Prepare {
            self.scope = scope;
        }
        self
    }
}

impl Hold {
    /// A permit to prepare what would be held when it is run: preparing runs nothing.
    pub fn prepare(&self) -> Permit {
        Permit {
            digest: self.digest(),
            rules: Arc::from(self.rules()),
            ruleset: self.ruleset(),
            review: None,
            until: None,
            repeatable: false,
            scope: Scope::Prepare,
        }
    }
}

/// A permit for a protocol step that carries no statement. The session that takes it was ruled on when it was opened.
pub fn step(rules: &RuleSet, digest: Digest) -> Permit {
    Permit {
        digest,
        rules: Arc::from([]),
        ruleset: rules.digest(),
        review: None,
        until: None,
        repeatable: false,
        scope: Scope::Step,
    }
}
