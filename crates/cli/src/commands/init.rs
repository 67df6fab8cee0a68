//! `chancery init`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Init, _: Out) -> Done {
    Err(Failure::unsure("`init` is not in this build"))
}
