//! `chancery demo`: the whole story on loopback.

#[allow(dead_code)]
pub(crate) mod issuer;

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn run(_: args::Demo, _: Out) -> Done {
    Err(Failure::unsure("`demo` is not in this build"))
}
