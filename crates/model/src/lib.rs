//! The words that two or more crates of the house share: ids, principals, commands, facts, outputs, refusals.
//!
//! Plain data with constructors and `Display`; no serialization (formats live at the edges), no judgement, no I/O.
//! This crate knows nothing of protocols, rules, files, clocks or sockets.

mod command;
mod facts;
mod id;
mod map;
mod output;
mod principal;
mod refusal;
mod resource;
mod review;

pub use command::{Ask, Bind, Command, Done, DoneStatus, Input, Settings, Statement};
pub use facts::{
    Action, CopyDirection, CopyFact, Effect, Facts, Move, Need, Object, Setting, StatementFacts, TableName, Transaction,
};
pub use id::{CommandId, Digest, EntryRef, ReviewId, RuleId, SessionId, Timestamp};
pub use map::{MappedColumn, MaskMap, Treated};
pub use output::{Anatomy, Cell, CellFormat, Column, Columns, Edit, Origin, Output, OutputKind, Part};
pub use principal::{Actor, Authentication, Delegation, Principal, PrincipalKind};
pub use refusal::{Refusal, RefusalCode};
pub use resource::{Durability, Protocol, Resource, ResourceName};
pub use review::{Approval, Assurance, Review, ReviewState};
