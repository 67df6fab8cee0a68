//! `chancery serve`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Config, _: Out) -> Done {
    Err(Failure::unsure("`serve` is not in this build"))
}
