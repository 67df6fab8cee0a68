//! What a gateway is told at its start, in the words it uses. The configuration file is the cli's affair; it is lowered
//! into this.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::WitnessPolicy;
use chancery_mask::MaskRules;
use chancery_model::{Digest, Resource};
use chancery_policy::RuleSet;
use chancery_secrets::Recipients;
use chancery_store::RetentionLimits;

use crate::archive::ArchiveSettings;
use crate::issuers::IssuerSource;

/// A gateway's settings.
pub struct Settings {
    /// Name of this replica.
    pub name: String,
    /// Certificate chain and key of the listeners; `None` allows clear text on loopback only.
    pub tls: Option<TlsIdentity>,
    /// Where clients of PostgreSQL connect, for resources chosen by database name.
    pub postgres: Option<SocketAddr>,
    /// Accept tokens in clear text from other hosts (`dangerous_clear_text`).
    pub clear_text: bool,
    /// Whose tokens are accepted.
    pub issuers: Vec<IssuerSource>,
    /// What stands behind the gateway.
    pub resources: Vec<ResourceSettings>,
    /// Who cosigns the heads of the ledger; `None`: nobody.
    pub witnesses: Option<Arc<WitnessPolicy>>,
    /// Certificates (PEM) that their TLS may be checked against, beside those of the system.
    pub witness_ca: Option<Vec<u8>>,
    /// How long commands that can have an effect go on without enough of them.
    pub max_unwitnessed: Duration,
    /// Where the ledger and its recordings are copied; `None`: nowhere.
    pub archive: Option<ArchiveSettings>,
    /// How long things are kept.
    pub retention: RetentionLimits,
    /// The rules at the start.
    pub rules: Arc<RuleSet>,
    /// SHA-256 of the configuration file, for the `boot` entry.
    pub config: Digest,
    /// `dangerous_…` options in force, for the `boot` entry.
    pub dangerous: Vec<String>,
    /// Version of the software.
    pub version: &'static str,
}

/// Bounds that are the same for every gateway, but for those that test them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Free bytes below which the ledger takes nothing new; `None`: the ledger's own choice.
    pub reserve_bytes: Option<u64>,
    /// A resource that does not tell its catalog within this time is down. All its sessions wait for one reading.
    pub catalog_wait: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { reserve_bytes: None, catalog_wait: Duration::from_secs(30) }
    }
}

/// PEM texts of a server's identity.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate chain, leaf first.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

/// One resource and how it is reached.
#[derive(Clone)]
pub struct ResourceSettings {
    /// What rules see of it.
    pub resource: Arc<Resource>,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS towards it.
    pub tls: UpstreamTls,
    /// Name of its credential in the catalog.
    pub secret: String,
    /// A port of its own.
    pub listen: Option<SocketAddr>,
    /// What is masked in its answers.
    pub mask: Arc<MaskRules>,
    /// Keeping what it sends, unmasked, for somebody outside; `None`: not kept.
    pub seal: Option<Arc<SealSettings>>,
}

/// Originals of a resource are kept sealed.
pub struct SealSettings {
    /// Those who can open them.
    pub to: Recipients,
    /// What they are kept for, in words.
    pub purpose: String,
    /// The review rule under which they are handed out.
    pub review: String,
}

/// TLS towards a resource, by libpq's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Never.
    Disable,
    /// If the resource has it, without checking whom it belongs to.
    #[default]
    Prefer,
    /// Always, without checking whom it belongs to.
    Require,
    /// Always, with a certificate of this authority (PEM; empty: the system's).
    VerifyCa(Vec<u8>),
    /// The same, and it names the host.
    VerifyFull(Vec<u8>),
}
