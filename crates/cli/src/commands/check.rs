//! `chancery check`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Config, _: Out) -> Done {
    Err(Failure::unsure("`check` is not in this build"))
}
