//! `chancery reviewer`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Reviewer, _: Out) -> Done {
    Err(Failure::unsure("`reviewer` is not in this build"))
}
