//! The binary.

#[allow(dead_code)]
mod demo {
    pub(crate) mod issuer;
}
#[allow(dead_code)]
mod oauth;

fn main() {}
