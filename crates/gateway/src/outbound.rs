//! The clients with which this program calls others over HTTP: they go where they were sent and nowhere else. A redirect or
//! a proxy would take tokens and heads of the ledger to somebody that nobody named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};

/// Whose certificates count.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those of this machine.
    System,
    /// These alone (PEM).
    Only(&'a [u8]),
    /// These and those of this machine.
    Also(&'a [u8]),
    /// None: no TLS will be spoken, and a machine without any certificates must not fail for it.
    Nobody,
}

impl<'a> Trust<'a> {
    /// For one address: `ca` alone where it is given.
    pub fn of(url: &str, ca: Option<&'a [u8]>) -> Self {
        match ca {
            Some(pem) => Self::Only(pem),
            None if url.starts_with("http:") => Self::Nobody,
            None => Self::System,
        }
    }
}

/// A client that gives up after `timeout`. An error: the certificates cannot be read.
pub fn client(timeout: Duration, trust: Trust<'_>) -> reqwest::Result<ClientBuilder> {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Whatever the resolver says, this name is this machine (RFC 6761 §6.3).
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(|ip| SocketAddr::new(ip, 0));
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(timeout)
        .referer(false)
        .no_proxy()
        .resolve_to_addrs("localhost", &here)
        .user_agent("chancery");
    Ok(match trust {
        Trust::System => client,
        Trust::Only(pem) => client.tls_certs_only(Certificate::from_pem_bundle(pem)?),
        Trust::Also(pem) => client.tls_certs_merge(Certificate::from_pem_bundle(pem)?),
        Trust::Nobody => client.tls_certs_only([]),
    })
}

/// Whether an address is on this machine, whatever a resolver says.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback())
}
