//! The operator's local commands, one module each.

pub(crate) mod archive;
pub(crate) mod check;
pub(crate) mod evidence;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod ledger;
pub(crate) mod policy;
pub(crate) mod registry;
pub(crate) mod retention;
pub(crate) mod reviewer;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod witness;
