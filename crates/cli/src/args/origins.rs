//! The arguments by which an auditor brings the registry of logs to packs.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Origins {
    /// The public key of the registry of all logs, or a file that holds it: whether there is a pack of each log, as long as it
    /// was. Copies of the registry are in packs.
    #[arg(long, value_name = "KEY")]
    pub(crate) registry_key: Option<String>,
    /// A copy of the registry of your own, which may be newer than those in packs.
    #[arg(long, value_name = "DIR", requires = "registry_key")]
    pub(crate) registry: Option<PathBuf>,
    /// Who must have cosigned the registry's head (C2SP tlog-policy). Without it that is not checked.
    #[arg(long, value_name = "FILE", requires = "registry_key")]
    pub(crate) registry_policy: Option<PathBuf>,
}
