//! The judge: rules in, verdicts out.
//!
//! Only this crate makes a `Verdict`, a `Permit` and an `Authorized`, and only here a held command is settled by its
//! review. Rules are Cedar policies over a published schema; nothing passes that no rule permits, a forbid wins over
//! every permit, and a rule that fails to evaluate denies. A request is decided for every link of the chain of
//! delegation, so an agent never has more than the one it acts for.
//!
//! This crate knows nothing of protocols, statement texts, files, clocks, sockets or where keys are enrolled.

mod api;
pub mod approval;
mod check;
mod context;
mod decide;
mod explain;
mod hash;
mod names;
mod rules;
mod scan;
mod scope;
mod sshsig;
mod subject;
mod verdict;

pub use api::{ApiAction, Authorized, authorize_api};
pub use decide::{Request, decide, unmask};
pub use explain::{Check, Explanation, RuleText, explain};
pub use hash::{CommandDigests, command_salt, unseal_digest};
pub use rules::{Problem, ReviewRule, RuleSet, SCHEMA, Source};
pub use scope::{Scope, step};
pub use subject::Subject;
pub use verdict::{Denial, Hold, Permit, ReviewFault, Standing, Verdict, Why};
