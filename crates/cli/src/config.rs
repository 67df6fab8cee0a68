//! The configuration file: what its keys are. What they mean together is decided by `lower`; files that it names are
//! read there, too. The doc comment of a field is the documentation of its key (`docs/guide/configuration.md`).

mod archive;
mod load;
mod lower;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

pub(crate) use archive::place as archive_place;
pub(crate) use load::{load, load_rules};
pub(crate) use lower::Configuration;

/// The whole file. Keys that are not here are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// This gateway.
    pub(crate) gateway: Gateway,
    /// Its certificate. Without it, listeners must be on loopback.
    pub(crate) tls: Option<Tls>,
    /// Where clients connect. A listener that is absent is off.
    #[serde(default)]
    pub(crate) listen: Listen,
    /// Whose tokens are accepted; may be repeated.
    #[serde(default, rename = "issuer")]
    pub(crate) issuers: Vec<Issuer>,
    /// What stands behind the gateway; may be repeated.
    #[serde(default, rename = "resource")]
    pub(crate) resources: Vec<Resource>,
    /// What is masked; may be repeated.
    #[serde(default, rename = "mask")]
    pub(crate) masks: Vec<Mask>,
    /// The rules.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// Who may release held commands; may be repeated.
    #[serde(default, rename = "review")]
    pub(crate) reviews: Vec<Review>,
    /// The ledger, and who witnesses it.
    #[serde(default)]
    pub(crate) ledger: Ledger,
    /// Where events for other systems go; may be repeated.
    #[serde(default, rename = "export")]
    pub(crate) exports: Vec<Export>,
    /// How the archive is reached.
    pub(crate) archive: Option<Spanned<Archive>>,
    /// How long things are kept.
    #[serde(default)]
    pub(crate) retention: Retention,
}

/// `[ledger]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    /// A file that names the witnesses, their keys and addresses, and how many must cosign (C2SP tlog-policy).
    pub(crate) witnesses: Option<Spanned<String>>,
    /// The file of certificates (PEM) that their TLS may be checked against, beside those of the system.
    pub(crate) witness_ca: Option<Spanned<String>>,
    /// Other gateways whose heads this one cosigns, at `/witness` of its https listener: a file with the keys of their logs,
    /// or a directory of such files (`*.vkey`).
    pub(crate) witness_for: Option<Spanned<String>>,
    /// How long commands that can have an effect go on without enough of them; 1m to 24h. Default 15m.
    pub(crate) max_unwitnessed: Option<Span>,
}

/// `[[export]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Export {
    /// Its name: 1–63 of `a-z 0-9 -`. How far it came is remembered under it.
    pub(crate) name: Spanned<String>,
    /// `file:PATH`, `stdout`, or an https URL (http on loopback) to which lines of JSON are posted.
    pub(crate) to: Spanned<String>,
    /// `ocsf`: events of OCSF 1.8.0.
    pub(crate) format: Spanned<String>,
    /// A file that holds a bearer token for the URL; read anew for each request.
    pub(crate) token: Option<Spanned<String>>,
    /// The file of certificates (PEM) that the URL's TLS is checked against, and no others.
    pub(crate) ca: Option<Spanned<String>>,
}

/// `[archive]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    /// The S3-compatible server: an https URL, or http on loopback. Default: AWS.
    pub(crate) endpoint: Option<Spanned<String>>,
    /// The region. Default: `AWS_REGION` in the environment, or `us-east-1`.
    pub(crate) region: Option<String>,
    /// The file of certificates (PEM) that the server's TLS is checked against, and no others.
    pub(crate) ca: Option<Spanned<String>>,
    /// How often what is new is copied; 1s to 1h. Default 60s.
    pub(crate) every: Option<Span>,
    /// Speak to another host's endpoint without TLS. Stands in the ledger at every start.
    #[serde(default)]
    pub(crate) dangerous_clear_text: bool,
}

/// `[gateway]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gateway {
    /// The name of this replica.
    pub(crate) name: Spanned<String>,
    /// The state directory, made by `chancery init`: catalog, ledger, recordings and keys.
    pub(crate) state: Spanned<String>,
    /// A shared catalog (`postgres://…`). Not in this release.
    pub(crate) catalog: Option<Spanned<String>>,
    /// Where ledger and recordings are copied: `s3://bucket/prefix`, or `file:///path` for a mounted volume.
    pub(crate) archive: Option<Spanned<String>>,
    /// Accept tokens in clear text from other hosts. Stands in the ledger at every start.
    #[serde(default)]
    pub(crate) dangerous_clear_text: bool,
}

/// `[tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The file of the certificate chain, leaf first (PEM).
    pub(crate) certificate: Spanned<String>,
    /// The file of the private key (PEM).
    pub(crate) key: Spanned<String>,
}

/// `[listen]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// Address and port for PostgreSQL clients, who choose the resource by database name.
    pub(crate) postgres: Option<Spanned<String>>,
    /// Address and port of the API.
    pub(crate) https: Option<Spanned<String>>,
    /// Not in this release.
    pub(crate) mysql: Option<Spanned<String>>,
    /// Not in this release.
    pub(crate) ssh: Option<Spanned<String>>,
    /// The same as in `[gateway]`.
    #[serde(default)]
    pub(crate) dangerous_clear_text: bool,
}

/// `[[issuer]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    /// The issuer's URL, exactly as in the `iss` claim of its tokens; https, or http on loopback.
    pub(crate) url: Spanned<String>,
    /// The audience that a token must be for: one, or a list of which one must be there.
    pub(crate) audience: Words,
    /// The claim that lists groups: a name, or a JSON pointer if it starts with `/`. Default `groups`.
    pub(crate) groups: Option<String>,
    /// The claim that says `user`, `service` or `agent`. Default `chancery_kind`; empty: no claim says so.
    pub(crate) kind: Option<String>,
    /// Claims that name the principal for people, best first. Default `preferred_username`, `email`.
    pub(crate) display: Option<Vec<String>>,
    /// Accepted signature algorithms. Default: all that are not symmetric.
    pub(crate) algorithms: Option<Vec<Spanned<String>>>,
    /// By how much the issuer's clock may differ from ours; at most 60s. Default 30s.
    pub(crate) leeway: Option<Span>,
    /// The most actors a chain may have; 0 refuses delegated tokens. Default 8, at most 32.
    pub(crate) max_chain: Option<usize>,
    /// The file of certificates (PEM) that the issuer's TLS is checked against, and no others.
    pub(crate) ca: Option<Spanned<String>>,
    /// Keys older than this are fetched anew; 30s to 1h. Default 5m.
    pub(crate) refresh: Option<Span>,
    /// For how long keys are used while the issuer cannot be reached. Default 24h.
    pub(crate) keep: Option<Span>,
}

/// `[[resource]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    /// Its name: 1–63 characters of `a-z 0-9 - _`, which clients give as the database name.
    pub(crate) name: Spanned<String>,
    /// `postgres`.
    pub(crate) protocol: Spanned<String>,
    /// `host:port`; without a port, 5432.
    pub(crate) address: Spanned<String>,
    /// The database that sessions work in. Default: the resource's name.
    pub(crate) database: Option<String>,
    /// TLS towards it. Default `{ mode = "verify-full" }` with the system's certificates.
    pub(crate) tls: Option<ResourceTls>,
    /// The name of its credential (`chancery secret set NAME`). Default: the resource's name.
    pub(crate) secret: Option<String>,
    /// Labels that rules can see.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// `balanced` (default), or `strict`: reads, too, are on disk before their first output byte.
    pub(crate) durability: Option<Spanned<String>>,
    /// Address and port of its own, for clients that cannot choose by database name.
    pub(crate) listen: Option<Spanned<String>>,
    /// Keeps what it sends, unmasked, for somebody outside. Default: not kept.
    pub(crate) seal: Option<Seal>,
}

/// `seal` of a resource.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// Those who can open it: age recipients (`age1…`, X25519). Their private keys are kept away from the gateway.
    pub(crate) to: Spanned<Vec<String>>,
    /// What it is kept for, in words; reviewers read it.
    pub(crate) purpose: Spanned<String>,
    /// The `[[review]]` under which it is handed out.
    pub(crate) review: Spanned<String>,
}

/// `tls` of a resource.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceTls {
    /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, as libpq means them.
    pub(crate) mode: Spanned<String>,
    /// The file of certificates (PEM) that it is checked against. Default: the system's.
    pub(crate) ca: Option<Spanned<String>>,
}

/// `[[mask]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mask {
    /// The resource it is for. Default: every resource.
    pub(crate) resource: Option<Spanned<String>>,
    /// Columns as `schema.table.column`; each part may be `*`; a part with a dot stands in double quotes.
    #[serde(default)]
    pub(crate) columns: Vec<Spanned<String>>,
    /// The tag that the columns get, for which `unmask` can be permitted. Default `sensitive`.
    pub(crate) tag: Option<String>,
    /// Values recognised by their content, whatever the column: `card`, `iban`, `email`, `ssn`.
    #[serde(default)]
    pub(crate) detect: Vec<Spanned<String>>,
    /// `redact` (default), `null`, `partial`, `token` or `generalise`.
    pub(crate) with: Option<Spanned<String>>,
}

/// `[policy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// The directory of `*.cedar` files. Default `policies`.
    pub(crate) directory: Option<Spanned<String>>,
}

/// `[[review]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Review {
    /// The name that rules ask for in `context.reviews`.
    pub(crate) name: Spanned<String>,
    /// Who may answer: `Group::"dba"`, `User::"alice@idp.example"`.
    pub(crate) reviewers: Vec<String>,
    /// How many distinct people must approve. Default 1.
    pub(crate) quorum: Option<u32>,
    /// How long a request waits. Default 15m.
    pub(crate) expires: Option<Span>,
    /// How long access lasts when a connect is approved. Not in this release.
    pub(crate) lasts: Option<Spanned<String>>,
    /// The weakest answer that counts: `clicked`, `stepped-up` or `signed` (default).
    pub(crate) assurance: Option<Spanned<String>>,
    /// Whom to tell. Not in this release.
    pub(crate) notify: Option<Spanned<Vec<String>>>,
}

/// `[retention]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    /// How long entries of the ledger are kept after the last one of a segment: whole days, `1d` to `36500d`. Default 400d.
    pub(crate) ledger: Option<Spanned<Span>>,
    /// How long recordings are kept after the last session of a file ended: whole days, `1d` to `36500d`. Default 400d.
    pub(crate) recordings: Option<Spanned<Span>>,
    /// How long sealed originals are kept after their session ended: whole days, `1d` to `36500d`. Default 400d; `0d` where no
    /// resource has any.
    pub(crate) sealed: Option<Spanned<Span>>,
}

/// One word or a list of words.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(crate) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
        }
    }
}

/// A duration such as `90s`, `15m`, `12h` or `400d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration(&String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads `90s`, `15m`, `12h`, `400d`; whole numbers only.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 15m, 12h or 400d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}
