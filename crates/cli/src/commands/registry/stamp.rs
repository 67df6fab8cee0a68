//! `chancery registry stamp`: asks an authority for a timestamp (RFC 3161) over the registry's head. What makes an answer count
//! is the ledger crate's.

use std::path::Path;
use std::time::Duration;

use chancery_gateway::outbound::{self, Trust};
use chancery_ledger::{LogVerifier, STAMP_BYTES_MAX, TimeStamp, stamp_request};
use chancery_model::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::{failure, open};
use crate::args;
use crate::local::{now, read_small};
use crate::output::{Done, Exit, Failure, Out};

const PEM_BYTES_MAX: u64 = 4 << 20;
/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// By how much the authority's clock may differ from ours, in microseconds.
const SKEW_US: u64 = 300_000_000;

pub(super) async fn stamp(args: &args::RegistryStamp, out: Out) -> Done {
    let registry = tokio::task::block_in_place(|| open(&args.registry))?;
    let authorities = authorities(&args.tsa_ca)?;
    let head = registry.published();
    if head.checkpoint.size == 0 {
        return Err(Failure::no("the registry has no entries").hint("chancery registry join DIR ROOTS"));
    }
    let mut nonce = [0; 8];
    chancery_store::random(&mut nonce).map_err(|error| Failure::unsure(format!("no randomness: {error}")))?;
    let request = stamp_request(&head.note, nonce);
    let response = ask(args, &request).await?;
    let stamp = TimeStamp { note: head.note, request, response };
    let key = LogVerifier::parse(&registry.verifier_key()).map_err(|error| Failure::no(error.to_string()))?;
    let asked = now();
    let (size, time) = stamp.verify(&key, &authorities, asked).map_err(|why| {
        Failure::no(format!("the authority's answer is not kept: {why}")).hint("is --tsa-ca that of this authority?")
    })?;
    if time.0.abs_diff(asked.0) > SKEW_US {
        let what = format!("the authority says that it is {time}, and it is {asked} here");
        return Err(Failure::no(what).hint("set the clock, or ask another authority"));
    }
    tokio::task::block_in_place(|| registry.keep_stamp(&stamp)).map_err(|error| failure(&error))?;
    said(size, time, out)
}

fn said(size: u64, time: Timestamp, out: Out) -> Done {
    out.line(format!("stamped: {size} entries were there at {time}"));
    out.document(&json!({ "entries": size, "time": time.to_string() }));
    Ok(Exit::Yes)
}

/// RFC 3161 §3.4. In clear text, too: what goes out is a hash, and what comes back is signed.
async fn ask(args: &args::RegistryStamp, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let url = Url::parse(&args.tsa).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| Failure::usage("the authority's address must be an http or https URL"))?;
    let ca = args.ca.as_ref().map(|file| read_small(file, PEM_BYTES_MAX)).transpose();
    let ca = ca.map_err(|error| Failure::unsure(format!("--ca: {error}")))?;
    let unheard = |error: reqwest::Error| Failure::unsure(format!("the authority: {}", error.without_url()));
    let client = client(&url, ca.as_ref().map(|pem| pem.as_slice())).map_err(unheard)?;
    let post = client.post(url).header(CONTENT_TYPE, "application/timestamp-query").body(request.to_vec());
    let mut response = post.send().await.map_err(unheard)?;
    if response.status() != StatusCode::OK {
        return Err(Failure::unsure(format!("the authority answered {}", response.status())));
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unheard)? {
        if answer.len() + chunk.len() > STAMP_BYTES_MAX {
            return Err(Failure::unsure("the authority's answer is longer than any timestamp"));
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

fn client(url: &Url, ca: Option<&[u8]>) -> reqwest::Result<Client> {
    outbound::client(TIMEOUT, Trust::of(url.as_str(), ca))?.build()
}

/// Certificates of who is trusted to vouch for authorities.
pub(super) fn authorities(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let pem = read_small(file, PEM_BYTES_MAX);
    let pem = pem.map_err(|error| Failure::unsure(format!("{} cannot be read: {error}", file.display())))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|der| der.to_vec())).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(Failure::usage(format!("{} holds no certificate in PEM", file.display()))),
    }
}
