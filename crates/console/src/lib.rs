//! The HTTP API: the reviewers' inbox, sessions, resources, health and metrics, all as JSON under `/api/v1`.
//!
//! It defines what the API says and who may ask. It is given handles (a [`Desk`]) and makes a router of them; whoever
//! serves the router brings sockets and TLS. Every endpoint under `/api` needs a bearer token, every thing that is
//! shown or changed goes through `policy::authorize_api`, and every change is on disk in the ledger before it is made.
//!
//! This crate knows nothing of sockets, TLS, protocols of resources, secrets, or the ledger's files.

mod desk;
mod door;
mod general;
mod problem;
mod record;
mod reviews;
mod router;
mod sessions;
#[cfg(test)]
mod tests;
mod unseal;
pub mod view;

pub use desk::{Answer, CommandSalt, Desk, Handle, Health, Number, ResourceView, SealView};
pub use router::router;
