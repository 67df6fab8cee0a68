//! From the keys of the file to what the gateway uses: defaults, checks across tables, files that are named.

mod exports;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hkdf;
use chancery_gateway::issuers::IssuerSource;
use chancery_gateway::{
    ArchiveSettings, ExportSettings, ResourceSettings, SealSettings, Settings, TlsIdentity, UpstreamTls,
};
use chancery_identity::{Algorithm, IssuerRules};
use chancery_ledger::{LogVerifier, WitnessPolicy};
use chancery_mask::{ColumnRule, Detector, MaskRules, Operator, TokenKey};
use chancery_model::{Assurance, Digest, Durability, Protocol, ResourceName};
use chancery_policy::{Problem, ReviewRule, RuleSet};
use chancery_secrets::Recipients;
use chancery_store::RetentionLimits;
use toml::Spanned;

use super::archive::{place, region_of_environment};
use super::load::Text;
use super::peers;
use super::{Archive, File, Issuer, Mask, Resource, Review, Seal, Span};
use crate::oauth;

const POSTGRES_PORT: u16 = 5432;
/// A bundle of the system's certificates is a few hundred KiB.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// Where distributions keep the system's certificates.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// A purpose stands in the summary of every request.
const PURPOSE_BYTES_MAX: usize = 500;
const POLICY_BYTES_MAX: u64 = 64 << 10;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// A hundred years: what is to be kept longer should not be on this disk.
const DAYS_MAX: u32 = 36_500;
/// How long commands that can have an effect go on without witnesses, if the file does not say.
const MAX_UNWITNESSED: Duration = Duration::from_secs(15 * 60);
/// How often the archive is written, if the file does not say.
const ARCHIVE_EVERY: Duration = MINUTE;
const CLEAR_TEXT: &str = "dangerous_clear_text";

/// A configuration that was checked whole. Nothing here is a secret but the private key of the listeners.
pub(crate) struct Configuration {
    /// This gateway's name.
    pub(crate) name: String,
    /// The state directory.
    pub(crate) state: PathBuf,
    /// The directory of rules.
    pub(crate) rules: PathBuf,
    /// The listeners' certificate and key.
    pub(crate) tls: Option<TlsIdentity>,
    /// Where PostgreSQL clients connect.
    pub(crate) postgres: Option<SocketAddr>,
    /// Where the API is.
    pub(crate) https: Option<SocketAddr>,
    /// Tokens are accepted in clear text from other hosts.
    pub(crate) clear_text: bool,
    /// Whose tokens are accepted.
    pub(crate) issuers: Vec<IssuerSource>,
    /// What stands behind the gateway. The mask rules lack their token keys.
    pub(crate) resources: Vec<ResourceSettings>,
    /// Who may release held commands.
    pub(crate) reviews: Vec<ReviewRule>,
    /// Who cosigns the heads of the ledger.
    pub(crate) witnesses: Option<Arc<WitnessPolicy>>,
    /// Certificates that their TLS may be checked against, beside the system's.
    pub(crate) witness_ca: Option<Vec<u8>>,
    /// Whose logs this gateway witnesses.
    pub(crate) peers: Vec<LogVerifier>,
    /// How long commands that can have an effect go on without them.
    pub(crate) max_unwitnessed: Duration,
    /// Where events for other systems go.
    pub(crate) exports: Vec<ExportSettings>,
    /// Where ledger and recordings are copied.
    pub(crate) archive: Option<ArchiveSettings>,
    /// The archive may be reached without TLS.
    pub(crate) archive_clear_text: bool,
    /// How long things are kept.
    pub(crate) retention: RetentionLimits,
    /// SHA-256 of the file.
    pub(crate) digest: Digest,
    /// What is odd, but not wrong.
    pub(crate) warnings: Vec<Problem>,
}

impl Configuration {
    /// What the gateway is told at its start. Each resource gets a token key of its own, derived from the state
    /// directory's fingerprint key: tokens of one resource say nothing about another's.
    pub(crate) fn settings(&self, rules: Arc<RuleSet>, fingerprint_key: &[u8; 32]) -> Settings {
        let keyed = |one: &ResourceSettings| {
            let key = TokenKey::new(token_key(fingerprint_key, &one.resource.name));
            ResourceSettings { mask: Arc::new(MaskRules { key: Some(key), ..(*one.mask).clone() }), ..one.clone() }
        };
        Settings {
            name: self.name.clone(),
            tls: self.tls.clone(),
            postgres: self.postgres,
            clear_text: self.clear_text,
            issuers: self.issuers.clone(),
            resources: self.resources.iter().map(keyed).collect(),
            witnesses: self.witnesses.clone(),
            witness_ca: self.witness_ca.clone(),
            max_unwitnessed: self.max_unwitnessed,
            archive: self.archive.clone(),
            retention: self.retention,
            rules,
            config: self.digest,
            dangerous: self.dangerous(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn dangerous(&self) -> Vec<String> {
        let own = self.clear_text.then(|| CLEAR_TEXT.to_owned());
        let archive = self.archive_clear_text.then(|| format!("archive.{CLEAR_TEXT}"));
        own.into_iter().chain(archive).collect()
    }
}

/// HKDF-SHA-256 (RFC 5869) without salt: the input is 32 random bytes already.
pub(super) fn token_key(fingerprint_key: &[u8; 32], resource: &ResourceName) -> [u8; 32] {
    let info = format!("chancery/mask-token/{resource}");
    let mut key = [0; 32];
    let info = [info.as_bytes()];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(fingerprint_key)
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .expect("32 bytes are what HKDF-SHA-256 gives in one block");
    key
}

/// Checks everything and says all that is wrong.
pub(super) fn lower(text: &Text<'_>, file: File, digest: Digest) -> Result<Configuration, Vec<Problem>> {
    let base = text.path.parent().unwrap_or(Path::new("")).to_owned();
    let mut lower = Lower { text, base, problems: Vec::new() };
    let configuration = lower.file(file, digest);
    let problems = lower.problems;
    if problems.iter().any(|problem| !problem.warning) {
        return Err(problems);
    }
    Ok(Configuration { warnings: problems, ..configuration })
}

struct Lower<'a> {
    text: &'a Text<'a>,
    base: PathBuf,
    problems: Vec<Problem>,
}

impl Lower<'_> {
    fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        let problem = self.text.problem(span, message);
        self.problems.push(Problem { hint: Some(hint.to_owned()), ..problem });
    }
    fn odd(&mut self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.wrong(span, message, hint);
        self.problems.iter_mut().last().into_iter().for_each(|problem| problem.warning = true);
    }
    fn not_here<T>(&mut self, value: Option<Spanned<T>>, key: &str, hint: &str) {
        if let Some(value) = value {
            self.wrong(value.span(), format!("`{key}` is not in this release"), hint);
        }
    }
    /// A path as the file means it: relative to the file.
    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    fn file(&mut self, file: File, digest: Digest) -> Configuration {
        let gateway = file.gateway;
        let name = gateway.name.get_ref().clone();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(1..=63).contains(&name.len()) || !name.chars().all(plain) {
            self.wrong(gateway.name.span(), "the name must be 1 to 63 of a-z 0-9 - .", "for example \"gw-a\"");
        }
        self.not_here(gateway.catalog, "catalog", "remove it: the catalog is in the state directory");
        let archive_clear_text = file.archive.as_ref().is_some_and(|archive| archive.get_ref().dangerous_clear_text);
        let archive = self.archive(gateway.archive, file.archive);
        let clear_text = gateway.dangerous_clear_text || file.listen.dangerous_clear_text;
        self.not_here(file.listen.mysql, "mysql", "remove it: this release speaks PostgreSQL");
        self.not_here(file.listen.ssh, "ssh", "remove it: this release speaks PostgreSQL");
        let tls = file.tls.and_then(|tls| self.identity(&tls));
        let secured = tls.is_some() || clear_text;
        let postgres = self.listener(file.listen.postgres, secured);
        let https = self.https(file.listen.https, tls.is_some());
        let issuers = self.issuers(file.issuers);
        let rules = file.reviews.iter().map(|review| review.name.get_ref().clone()).collect();
        let resources = self.resources(file.resources, &file.masks, &rules, secured);
        if postgres.is_none() && resources.iter().all(|one| one.listen.is_none()) {
            self.whole_odd("no client can connect: nothing listens", "set `postgres` in [listen]");
        }
        let reviews = file.reviews.into_iter().filter_map(|review| self.review(review)).collect();
        let seals = resources.iter().any(|one| one.seal.is_some());
        let retention = self.retention(&file.retention, seals);
        let witnesses = file.ledger.witnesses.and_then(|name| self.witnesses(&name));
        let witness_ca = file.ledger.witness_ca.and_then(|ca| self.pem(&ca, "CERTIFICATE"));
        let peers = file.ledger.witness_for.map(|name| self.peers(&name, https.is_some())).unwrap_or_default();
        let max_unwitnessed = file.ledger.max_unwitnessed.map_or(MAX_UNWITNESSED, |Span(span)| span);
        if !(MINUTE..=24 * 60 * MINUTE).contains(&max_unwitnessed) {
            let problem = self.text.whole("`max_unwitnessed` in [ledger] must be 1m to 24h");
            self.problems.push(Problem { hint: Some("for example \"15m\"".to_owned()), ..problem });
        }
        let exports = exports::lower(self, file.exports);
        let rules = file.policy.directory.as_ref().map_or("policies", |directory| directory.get_ref());
        Configuration {
            name,
            state: self.path(gateway.state.get_ref()),
            rules: self.path(rules),
            tls,
            postgres,
            https,
            clear_text,
            issuers,
            resources,
            reviews,
            witnesses,
            witness_ca,
            peers,
            max_unwitnessed,
            exports,
            archive,
            archive_clear_text,
            retention,
            digest,
            warnings: Vec::new(),
        }
    }

    fn retention(&mut self, retention: &super::Retention, seals: bool) -> RetentionLimits {
        let mut days = |span: &Option<Spanned<Span>>, key| match span {
            Some(span) => self.days(span, key),
            None => RetentionLimits::DEFAULT_DAYS,
        };
        let ledger_days = days(&retention.ledger, "ledger");
        let recordings_days = days(&retention.recordings, "recordings");
        // `0d` says that there are none: it takes effect where nothing is sealed, and is asked about where something is.
        let none = |sealed: &&Spanned<Span>| sealed.get_ref().0.is_zero() && !seals;
        let sealed_days = match retention.sealed.as_ref().filter(none) {
            Some(_) => RetentionLimits::DEFAULT_DAYS,
            None => days(&retention.sealed, "sealed"),
        };
        RetentionLimits { ledger_days, recordings_days, sealed_days }
    }
    /// Days, so that a limit is not a matter of the hour at which a run is made.
    fn days(&mut self, span: &Spanned<Span>, key: &str) -> u32 {
        let seconds = span.get_ref().0.as_secs();
        match u32::try_from(seconds / DAY.as_secs()) {
            Ok(days) if seconds.is_multiple_of(DAY.as_secs()) && (1..=DAYS_MAX).contains(&days) => days,
            _ => {
                let message = format!("`{key}` in [retention] must be whole days, 1d to {DAYS_MAX}d");
                self.wrong(span.span(), message, "for example \"400d\": a year and the weeks of an audit");
                RetentionLimits::DEFAULT_DAYS
            }
        }
    }

    /// The policy of witnesses. So many of them must have an address that their cosignatures can be enough.
    fn witnesses(&mut self, name: &Spanned<String>) -> Option<Arc<WitnessPolicy>> {
        let path = self.path(name.get_ref());
        let policy = match read_policy(&path) {
            Ok(text) => WitnessPolicy::parse(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match policy {
            Err(why) => {
                let hint = "lines: `witness NAME KEY URL`, then `quorum NAME` or `group`s (c2sp.org/tlog-policy)";
                self.wrong(name.span(), format!("{}: {why}", path.display()), hint);
                None
            }
            Ok(policy) if policy.is_none() => {
                self.odd(name.span(), "the quorum is `none`: nobody witnesses the ledger", "name a witness or a group");
                None
            }
            Ok(policy) => {
                for (witness, _, url) in policy.reachable() {
                    if oauth::checked(url).is_err() {
                        let why = format!("the address of witness {witness} must be an https URL, or http on loopback");
                        self.wrong(name.span(), why, "write it without a user name and a password");
                    }
                }
                if !policy.is_reachable() {
                    let why = "the witnesses that have an address are too few for the quorum";
                    self.wrong(name.span(), why, "write each one's address after its key");
                }
                Some(Arc::new(policy))
            }
        }
    }
    /// The archive: `[gateway] archive` says that there is one and where, `[archive]` how it is reached.
    fn archive(&mut self, url: Option<Spanned<String>>, how: Option<Spanned<Archive>>) -> Option<ArchiveSettings> {
        let Some(url) = url else {
            if let Some(how) = how {
                self.odd(how.span(), "[archive] without an archive", "archive = \"s3://bucket/prefix\" in [gateway]");
            }
            return None;
        };
        let how = how.map(Spanned::into_inner).unwrap_or_default();
        let every = how.every.map_or(ARCHIVE_EVERY, |Span(every)| every);
        if !(Duration::from_secs(1)..=60 * MINUTE).contains(&every) {
            let problem = self.text.whole("`every` in [archive] must be 1s to 1h");
            self.problems.push(Problem { hint: Some("for example \"60s\"".to_owned()), ..problem });
        }
        let ca_pem = how.ca.as_ref().and_then(|ca| self.pem(ca, "CERTIFICATE"));
        let region = how.region.or_else(region_of_environment);
        let endpoint = how.endpoint.as_ref().map(|endpoint| endpoint.get_ref().as_str());
        match place(url.get_ref(), endpoint, region, ca_pem, how.dangerous_clear_text) {
            Ok(place) => Some(ArchiveSettings { place, every }),
            Err((why, hint)) => {
                let span = how.endpoint.filter(|_| why.contains("endpoint")).map_or(url.span(), |one| one.span());
                self.wrong(span, why, hint);
                None
            }
        }
    }

    /// The logs that this gateway witnesses.
    fn peers(&mut self, name: &Spanned<String>, served: bool) -> Vec<LogVerifier> {
        if !served {
            self.wrong(name.span(), "peers are witnessed over https, and nothing listens", "set `https` in [listen]");
        }
        match peers::read(&self.path(name.get_ref())) {
            Ok(peers) => {
                if peers.is_empty() {
                    self.odd(
                        name.span(),
                        "no log is named: none is witnessed",
                        "add the first root of each peer's log",
                    );
                }
                peers
            }
            Err(why) => {
                let hint = "the roots that `chancery init` printed for each peer, in a file or in files *.vkey";
                self.wrong(name.span(), why, hint);
                Vec::new()
            }
        }
    }
    fn whole_odd(&mut self, message: &str, hint: &str) {
        let problem = self.text.whole(message);
        self.problems.push(Problem { hint: Some(hint.to_owned()), warning: true, ..problem });
    }

    fn listener(&mut self, address: Option<Spanned<String>>, secured: bool) -> Option<SocketAddr> {
        let address = address?;
        let Ok(parsed) = address.get_ref().parse::<SocketAddr>() else {
            let hint = "write an IP address and a port, such as \"0.0.0.0:5432\" or \"[::1]:5432\"";
            self.wrong(address.span(), format!("`{}` is not an address to listen on", address.get_ref()), hint);
            return None;
        };
        if !secured && !parsed.ip().is_loopback() {
            let hint = "add [tls], listen on 127.0.0.1, or set dangerous_clear_text = true";
            self.wrong(address.span(), "tokens would come in clear text from other hosts", hint);
        }
        Some(parsed)
    }
    fn https(&mut self, address: Option<Spanned<String>>, tls: bool) -> Option<SocketAddr> {
        let span = address.as_ref().map(Spanned::span)?;
        let parsed = self.listener(address, true);
        if !tls {
            self.wrong(span, "https needs a certificate", "add [tls] with `certificate` and `key`");
        }
        parsed
    }

    fn identity(&mut self, tls: &super::Tls) -> Option<TlsIdentity> {
        let certificate = self.pem(&tls.certificate, "CERTIFICATE");
        let key = self.pem(&tls.key, "PRIVATE KEY");
        let (certificate, key) = (certificate?, key?);
        let mode = fs::metadata(self.path(tls.key.get_ref())).map_or(0, |meta| meta.permissions().mode());
        if mode & 0o007 != 0 {
            self.odd(tls.key.span(), "everybody on this host may read the private key", "chmod 600 it");
        }
        let identity = TlsIdentity { certificate, key };
        if let Err(why) = crate::tls::server(&identity) {
            let hint = "the key must belong to the first certificate of the file";
            self.wrong(tls.certificate.span(), format!("the certificate cannot be used: {why}"), hint);
        }
        Some(identity)
    }
    /// A PEM file that holds at least one block of this kind.
    fn pem(&mut self, name: &Spanned<String>, kind: &str) -> Option<Vec<u8>> {
        let path = self.path(name.get_ref());
        match read_pem(&path) {
            Err(error) => {
                let hint = "paths are relative to the configuration file";
                self.wrong(name.span(), format!("{} cannot be read: {error}", path.display()), hint);
                None
            }
            Ok(bytes) if !String::from_utf8_lossy(&bytes).contains(&format!("{kind}-----")) => {
                let hint = "it must be PEM: lines between -----BEGIN and -----END";
                self.wrong(name.span(), format!("{} holds no {}", path.display(), kind.to_lowercase()), hint);
                None
            }
            Ok(bytes) => Some(bytes),
        }
    }

    fn issuers(&mut self, issuers: Vec<Issuer>) -> Vec<IssuerSource> {
        if issuers.is_empty() {
            self.whole_odd("no [[issuer]]: no token is accepted", "say whose tokens are accepted");
        }
        let mut seen = BTreeSet::new();
        let mut sources = Vec::with_capacity(issuers.len());
        for issuer in issuers {
            let span = issuer.url.span();
            if !seen.insert(issuer.url.get_ref().clone()) {
                self.wrong(span.clone(), "two issuers have this URL", "put their audiences into one list");
            }
            let source = self.issuer(issuer);
            if let Err(error) = source.rules.check() {
                self.wrong(span.clone(), error.to_string(), "docs/guide/configuration.md, [[issuer]]");
            }
            // The gateway's own check, of this issuer alone: URL and certificates.
            if let Err(error) = chancery_gateway::issuers::Issuers::new(vec![source.clone()], &[], None)
                && source.rules.check().is_ok()
            {
                self.wrong(span, error.to_string(), "docs/guide/configuration.md, [[issuer]]");
            }
            sources.push(source);
        }
        sources
    }
    fn issuer(&mut self, issuer: Issuer) -> IssuerSource {
        let mut rules = IssuerRules::new(issuer.url.get_ref().clone(), issuer.audience.into_vec());
        if let Some(groups) = issuer.groups {
            rules.groups = groups;
        }
        if let Some(kind) = issuer.kind {
            rules.kind = Some(kind).filter(|kind| !kind.is_empty());
        }
        if let Some(display) = issuer.display {
            rules.display = display;
        }
        if let Some(words) = issuer.algorithms {
            rules.algorithms = words.into_iter().filter_map(|word| self.algorithm(&word)).collect();
        }
        if let Some(Span(leeway)) = issuer.leeway {
            rules.leeway = u32::try_from(leeway.as_secs()).unwrap_or(u32::MAX);
        }
        if let Some(max) = issuer.max_chain {
            rules.max_chain = max;
        }
        let mut source = IssuerSource::new(rules);
        source.ca_pem = issuer.ca.and_then(|ca| self.pem(&ca, "CERTIFICATE"));
        if let Some(Span(refresh)) = issuer.refresh {
            source.refresh = refresh;
        }
        if let Some(Span(keep)) = issuer.keep {
            source.keep = keep;
        }
        source
    }
    fn algorithm(&mut self, word: &Spanned<String>) -> Option<Algorithm> {
        let found = Algorithm::parse(word.get_ref());
        if found.is_none() {
            let all: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
            let hint = format!("one of {}", all.join(", "));
            self.wrong(word.span(), format!("`{}` is not an accepted algorithm", word.get_ref()), &hint);
        }
        found
    }

    fn resources(
        &mut self,
        resources: Vec<Resource>,
        masks: &[Mask],
        rules: &BTreeSet<String>,
        secured: bool,
    ) -> Vec<ResourceSettings> {
        if resources.is_empty() {
            self.whole_odd("no [[resource]]: there is nothing to connect to", "add one");
        }
        let mut names = BTreeSet::new();
        for resource in &resources {
            if !names.insert(resource.name.get_ref().clone()) {
                self.wrong(resource.name.span(), "two resources have this name", "names are unique");
            }
        }
        for mask in masks {
            self.mask(mask, &names);
        }
        let lowered: Vec<Option<ResourceSettings>> =
            resources.into_iter().map(|resource| self.resource(resource, masks, rules, secured)).collect();
        lowered.into_iter().flatten().collect()
    }
    fn resource(
        &mut self,
        resource: Resource,
        masks: &[Mask],
        rules: &BTreeSet<String>,
        secured: bool,
    ) -> Option<ResourceSettings> {
        let text = resource.name.get_ref();
        let name = ResourceName::parse(text);
        if name.is_none() {
            let hint = "1 to 63 of a-z 0-9 - _, beginning with a letter or digit";
            self.wrong(resource.name.span(), format!("`{text}` cannot name a resource"), hint);
        }
        match resource.protocol.get_ref().as_str() {
            "postgres" => {}
            "mysql" | "ssh" | "http" | "kubernetes" => {
                let what = format!("protocol `{}` is not in this release", resource.protocol.get_ref());
                self.wrong(resource.protocol.span(), what, "this release speaks `postgres`");
            }
            other => self.wrong(resource.protocol.span(), format!("unknown protocol `{other}`"), "write \"postgres\""),
        }
        let durability = match resource.durability.as_ref().map(|word| (word.span(), word.get_ref().as_str())) {
            None | Some((_, "balanced")) => Durability::Balanced,
            Some((_, "strict")) => Durability::Strict,
            Some((span, other)) => {
                self.wrong(span, format!("unknown durability `{other}`"), "\"balanced\" or \"strict\"");
                Durability::Strict
            }
        };
        let address = self.address(&resource.address);
        let tls = self.upstream(&resource);
        let listen = self.listener(resource.listen, secured);
        let seal = resource.seal.as_ref().and_then(|seal| self.seal(seal, rules));
        let (name, (host, port)) = (name?, address?);
        let mask = mask_rules(&name, masks);
        Some(ResourceSettings {
            host,
            port,
            tls,
            secret: resource.secret.unwrap_or_else(|| name.as_str().to_owned()),
            listen,
            mask: Arc::new(mask),
            seal,
            resource: Arc::new(chancery_model::Resource {
                database: resource.database.unwrap_or_else(|| name.as_str().to_owned()),
                name,
                protocol: Protocol::Postgres,
                labels: resource.labels,
                durability,
            }),
        })
    }
    fn seal(&mut self, seal: &Seal, rules: &BTreeSet<String>) -> Option<Arc<SealSettings>> {
        let to = Recipients::parse(seal.to.get_ref().iter().map(String::as_str));
        if let Err(why) = &to {
            let hint = "`age-keygen` makes a key and prints its recipient; the key itself stays outside";
            self.wrong(seal.to.span(), why.clone(), hint);
        }
        let (purpose, review) = (seal.purpose.get_ref().trim(), seal.review.get_ref());
        if purpose.is_empty() || purpose.len() > PURPOSE_BYTES_MAX || purpose.contains(char::is_control) {
            self.wrong(seal.purpose.span(), "the purpose must be a sentence of at most 500 bytes", "reviewers read it");
        }
        if !rules.contains(review) {
            let hint = "a [[review]] says who may have originals handed out";
            self.wrong(seal.review.span(), format!("no review rule is called `{review}`"), hint);
        }
        Some(Arc::new(SealSettings { to: to.ok()?, purpose: purpose.to_owned(), review: review.clone() }))
    }
    /// `host`, `host:port`, `[v6]:port`.
    fn address(&mut self, address: &Spanned<String>) -> Option<(String, u16)> {
        let parsed = host_and_port(address.get_ref());
        if parsed.is_none() {
            let hint = "write a host name or address and a port, such as \"db.internal:5432\" or \"[::1]:5432\"";
            self.wrong(address.span(), format!("`{}` is not an address", address.get_ref()), hint);
        }
        parsed
    }
    fn upstream(&mut self, resource: &Resource) -> UpstreamTls {
        let span = resource.address.span();
        let Some(tls) = &resource.tls else {
            return UpstreamTls::VerifyFull(self.system(span));
        };
        let verified = |lower: &mut Self| match &tls.ca {
            Some(ca) => lower.pem(ca, "CERTIFICATE").unwrap_or_default(),
            None => lower.system(tls.mode.span()),
        };
        let (mode, checked) = match tls.mode.get_ref().as_str() {
            "verify-full" => (UpstreamTls::VerifyFull(verified(self)), true),
            "verify-ca" => (UpstreamTls::VerifyCa(verified(self)), true),
            "require" => (UpstreamTls::Require, false),
            "prefer" => (UpstreamTls::Prefer, false),
            "disable" => (UpstreamTls::Disable, false),
            other => {
                let hint = "one of disable, prefer, require, verify-ca, verify-full";
                self.wrong(tls.mode.span(), format!("unknown mode `{other}`"), hint);
                return UpstreamTls::VerifyFull(Vec::new());
            }
        };
        let local = host_and_port(resource.address.get_ref()).is_some_and(|(host, _)| {
            host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        });
        if !checked && !local {
            let what = format!("mode `{}` does not check whom the resource's address belongs to", tls.mode.get_ref());
            self.odd(tls.mode.span(), what, "mode = \"verify-full\"");
        }
        if let Some(ca) = tls.ca.as_ref().filter(|_| !checked) {
            self.wrong(ca.span(), "`ca` is not looked at in this mode", "use verify-full, or remove `ca`");
        }
        mode
    }
    fn system(&mut self, span: Range<usize>) -> Vec<u8> {
        let variable = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let mut places = variable.into_iter().chain(SYSTEM_CERTIFICATES.map(PathBuf::from));
        let found = places.find_map(|path| read_pem(&path).ok());
        if found.is_none() {
            let hint = "name a file: tls = { mode = \"verify-full\", ca = \"db-ca.pem\" }";
            self.wrong(span, "this system has no certificates to check the resource against", hint);
        }
        found.unwrap_or_default()
    }

    fn mask(&mut self, mask: &Mask, resources: &BTreeSet<String>) {
        if let Some(resource) = mask.resource.as_ref().filter(|name| !resources.contains(name.get_ref())) {
            let what = format!("no resource is called `{}`", resource.get_ref());
            self.wrong(resource.span(), what, "a mask for nothing masks nothing");
        }
        for column in mask.columns.iter().filter(|column| column_parts(column.get_ref()).is_none()) {
            let hint = "write schema.table.column; each part may be *";
            self.wrong(column.span(), format!("`{}` does not name columns", column.get_ref()), hint);
        }
        for word in mask.detect.iter().filter(|word| Detector::parse(word.get_ref()).is_none()) {
            let hint = "one of card, iban, email, ssn";
            self.wrong(word.span(), format!("unknown detector `{}`", word.get_ref()), hint);
        }
        if let Some(with) = mask.with.as_ref().filter(|word| Operator::parse(word.get_ref()).is_none()) {
            let hint = "one of redact, null, partial, token, generalise";
            self.wrong(with.span(), format!("unknown way to mask `{}`", with.get_ref()), hint);
        }
        if mask.columns.is_empty() && mask.detect.is_empty() {
            let problem = self.text.whole("a [[mask]] has neither `columns` nor `detect`");
            self.problems.push(Problem { hint: Some("say what is masked".to_owned()), ..problem });
        }
    }

    fn review(&mut self, review: Review) -> Option<ReviewRule> {
        self.not_here(review.notify, "notify", "remove it: reviewers see held commands with `chancery review list`");
        self.not_here(review.lasts, "lasts", "remove it: opening a session cannot be held yet");
        let assurance = match review.assurance.as_ref().map(|word| (word.span(), word.get_ref().as_str())) {
            None | Some((_, "signed")) => Assurance::Signed,
            Some((_, "clicked")) => Assurance::Clicked,
            Some((span, "stepped-up")) => {
                self.odd(span, "fresh logins are not in this release: only signed answers count", "write \"signed\"");
                Assurance::SteppedUp
            }
            Some((span, other)) => {
                self.wrong(span, format!("unknown assurance `{other}`"), "\"clicked\", \"stepped-up\" or \"signed\"");
                return None;
            }
        };
        let expires = review.expires.map_or(900, |Span(expires)| expires.as_secs());
        Some(ReviewRule {
            name: review.name.into_inner(),
            reviewers: review.reviewers,
            quorum: review.quorum.unwrap_or(1),
            expires_micros: i64::try_from(expires).ok().and_then(|s| s.checked_mul(1_000_000)).unwrap_or(i64::MAX),
            lasts_micros: None,
            assurance,
        })
    }
}

fn read_policy(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn read_pem(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "larger than 4 MiB"));
    }
    Ok(bytes)
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() > 0).then(|| (address.ip().to_string(), address.port()));
    }
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Some((ip.to_string(), POSTGRES_PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, POSTGRES_PORT),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    ((1..=253).contains(&host.len()) && host.chars().all(plain)).then(|| (host.to_owned(), port))
}

/// The masks that are for this resource. What cannot be read was reported before.
fn mask_rules(name: &ResourceName, masks: &[Mask]) -> MaskRules {
    let mut rules = MaskRules::none();
    let here = |mask: &&Mask| mask.resource.as_ref().is_none_or(|resource| resource.get_ref() == name.as_str());
    for mask in masks.iter().filter(here) {
        let with = mask.with.as_ref().and_then(|with| Operator::parse(with.get_ref())).unwrap_or(Operator::Redact);
        let tag = mask.tag.as_deref().unwrap_or("sensitive");
        for [schema, table, column] in mask.columns.iter().filter_map(|column| column_parts(column.get_ref())) {
            rules.columns.push(ColumnRule { schema, table, column, tag: tag.to_owned(), with });
        }
        let detectors = mask.detect.iter().filter_map(|word| Detector::parse(word.get_ref()));
        rules.detect.extend(detectors.map(|detector| (detector, with)));
    }
    rules
}

/// `schema.table.column`, where a part may stand in double quotes, a quote inside doubled as in SQL.
pub(super) fn column_parts(text: &str) -> Option<[String; 3]> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        let part = parts.last_mut()?;
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => part.push('"'),
            '"' if quoted || part.is_empty() => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => part.push(c),
        }
    }
    let whole = !quoted && parts.iter().all(|part| !part.is_empty());
    <[String; 3]>::try_from(parts).ok().filter(|_| whole)
}
