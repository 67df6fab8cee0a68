//! `chancery policy`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Policy, _: Out) -> Done {
    Err(Failure::unsure("`policy` is not in this build"))
}
