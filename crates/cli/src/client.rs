//! Commands that speak with a gateway over its API: `whoami`, `token`, `resource`, `connect`, `review`.

use crate::args;
use crate::output::{Done, Failure, Out};

pub(crate) async fn token(_: args::Token, _: Out) -> Done {
    Err(Failure::unsure("`token` is not in this build"))
}

pub(crate) async fn whoami(_: args::Remote, _: Out) -> Done {
    Err(Failure::unsure("`whoami` is not in this build"))
}

pub(crate) async fn resource(_: args::Resource, _: Out) -> Done {
    Err(Failure::unsure("`resource` is not in this build"))
}

pub(crate) async fn connect(_: args::Connect, _: Out) -> Done {
    Err(Failure::unsure("`connect` is not in this build"))
}

pub(crate) async fn review(_: args::Review, _: Out) -> Done {
    Err(Failure::unsure("`review` is not in this build"))
}
