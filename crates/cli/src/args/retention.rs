//! The arguments of `retention` and `hold`.

use clap::{Args, Subcommand};

use super::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Delete recordings that are past their time and not held. A running gateway does so once a day by itself.
    Run(RetentionRun),
    /// Show limits, what is kept, and the last run.
    Status(Config),
}

#[derive(Debug, Args)]
pub(crate) struct RetentionRun {
    /// Show what would be deleted, and delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: what would be deleted at that time, such as 2026-11-29 or 2026-11-29T12:00:00Z.
    #[arg(long, value_name = "T", requires = "dry_run", value_parser = crate::instant::instant)]
    pub(crate) as_of: Option<chancery_model::Timestamp>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Put a hold in force. Scope and reason stay on this host; the ledger gets a commitment to them.
    Set(HoldSet),
    /// List holds, newest first.
    List(HoldList),
    /// End a hold: what it kept is deleted by the next run if it is past its time.
    Lift(HoldLift),
}

#[derive(Debug, Args)]
#[group(id = "scope", required = true, multiple = false, args = ["session", "principal", "from"])]
pub(crate) struct HoldSet {
    /// Hold this session.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Hold all sessions in whose chain this principal or actor is: its issuer's URL and its subject.
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    pub(crate) principal: Option<Vec<String>>,
    /// Hold all sessions that lived from this time on …
    #[arg(long, value_name = "T", requires = "to", value_parser = crate::instant::instant)]
    pub(crate) from: Option<chancery_model::Timestamp>,
    /// … and before this one.
    #[arg(long, value_name = "T", requires = "from", value_parser = crate::instant::instant)]
    pub(crate) to: Option<chancery_model::Timestamp>,
    /// Why: an order, a ticket.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct HoldList {
    /// Only holds in force.
    #[arg(long)]
    pub(crate) in_force: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Args)]
pub(crate) struct HoldLift {
    /// The hold's id.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) config: Config,
}
