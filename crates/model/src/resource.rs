//! What stands behind the gateway.

use std::collections::BTreeMap;
use std::fmt;

/// A resource's name: 1–63 characters of `a-z 0-9 - _`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// Checks the form.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && text.as_bytes()[0].is_ascii_alphanumeric();
        ok.then(|| Self(text.to_owned()))
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The protocol spoken with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// PostgreSQL frontend/backend protocol 3.
    Postgres,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
        })
    }
}

/// How much must be on disk before what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// Effects: on disk before they happen. Reads: written before their first output byte, on disk within 20 ms.
    #[default]
    Balanced,
    /// Reads, too, are on disk before their first output byte.
    Strict,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balanced => "balanced",
            Self::Strict => "strict",
        })
    }
}

/// A thing behind the gateway, as rules see it. Addresses and credentials are the gateway's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: ResourceName,
    /// Its protocol.
    pub protocol: Protocol,
    /// The database that sessions work in.
    pub database: String,
    /// Labels from the configuration.
    pub labels: BTreeMap<String, String>,
    /// Durability profile.
    pub durability: Durability,
}
