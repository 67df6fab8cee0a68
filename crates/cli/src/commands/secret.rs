//! `chancery secret`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Secret, _: Out) -> Done {
    Err(Failure::unsure("`secret` is not in this build"))
}
