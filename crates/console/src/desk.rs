//! What the API is given: handles to what others own. It opens nothing itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chancery_identity::{Authenticated, Identity};
use chancery_model::{Delegation, Resource, ResourceName, SessionId, Timestamp};
use chancery_policy::RuleSet;
use chancery_store::{Catalog, Sequencer};

/// What an asynchronous handle returns.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An asynchronous handle.
pub type Handle<A, T> = Arc<dyn Fn(A) -> Answer<T> + Send + Sync>;

/// The salt of a chain's command digests.
pub type CommandSalt = dyn Fn(&Delegation) -> [u8; 32] + Send + Sync;

/// Everything that the API works with.
pub struct Desk {
    /// Reviews, sessions, chains and reviewers' keys.
    pub catalog: Catalog,
    /// Where entries go.
    pub sequencer: Sequencer,
    /// The rules in force now.
    pub rules: Arc<dyn Fn() -> Arc<RuleSet> + Send + Sync>,
    /// Proves who a bearer token speaks for. Why a token does not hold is not for the caller.
    pub authenticate: Handle<String, Result<Authenticated<Identity>, ()>>,
    /// The id by which entries name a chain; remembers the chain and writes its entry where it is new.
    pub chain_id: Handle<Delegation, Result<[u8; 16], ()>>,
    /// For those who review the commands of a chain.
    pub command_salt: Arc<CommandSalt>,
    /// What stands behind the gateway.
    pub resources: Vec<ResourceView>,
    /// Ends a running session. `false`: there is none of this id.
    pub end_session: Handle<SessionId, bool>,
    /// The clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How the gateway is.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Where people reach this API, such as `https://gateway.example:8443`.
    pub public_url: String,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

impl Desk {
    /// The resource of this name.
    pub(crate) fn resource(&self, name: &ResourceName) -> Option<&ResourceView> {
        self.resources.iter().find(|view| view.resource.name == *name)
    }
}

/// A resource and how clients reach it through the gateway.
#[derive(Clone, Debug)]
pub struct ResourceView {
    /// What rules see of it.
    pub resource: Arc<Resource>,
    /// Host by which clients reach the gateway; empty: the host of the API.
    pub host: String,
    /// The gateway's port for it.
    pub port: u16,
    /// What clients name as the database.
    pub database: String,
    /// Whether clients must use TLS.
    pub tls: bool,
    /// How its sealed originals are handed out; `None`: none are kept.
    pub seal: Option<SealView>,
}

/// Sealed originals of a resource.
#[derive(Clone, Debug)]
pub struct SealView {
    /// The review rule under which they are handed out.
    pub review: String,
    /// What they are kept for.
    pub purpose: String,
}

/// How the gateway is. Everybody who reaches the port may read it: no names, no addresses.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Whether it does its work.
    pub ready: bool,
    /// Why not, or what is about to go wrong: sentences made for readers outside.
    pub reasons: Vec<String>,
    /// Numbers for `/metrics`.
    pub numbers: Vec<Number>,
}

/// One number for `/metrics`.
#[derive(Clone, Debug)]
pub struct Number {
    /// Its name in Prometheus' form, with labels if it has any: `chancery_sessions_open`.
    pub name: String,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The value.
    pub value: u64,
}
