//! `chancery ledger`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Ledger, _: Out) -> Done {
    Err(Failure::unsure("`ledger` is not in this build"))
}
