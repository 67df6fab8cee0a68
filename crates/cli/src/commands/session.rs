//! `chancery session`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Session, _: Out) -> Done {
    Err(Failure::unsure("`session` is not in this build"))
}
