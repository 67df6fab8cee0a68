//! From a token to an identity: signature, then claims, each with its type.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use chancery_model::{Actor, Authentication, Delegation, Digest, Principal, PrincipalKind, ResourceName, Timestamp};
use serde_json::{Map, Value};

use crate::rules::URL_BYTES_MAX;
use crate::token::Parts;
use crate::{Authenticated, Failure, Issuer, IssuerRules};

/// OpenID Connect Core §2 bounds `sub` by 255 characters; the same bound serves every name.
const NAME_BYTES_MAX: usize = 255;
const GROUPS_MAX: usize = 1_000;
const AUDIENCES_MAX: usize = 100;
const RESOURCES_MAX: usize = 100;
const DISPLAY_CHARS_MAX: usize = 128;
/// 9999-12-31T23:59:59Z: later instants are mistakes, and far from the bounds of `Timestamp`.
const SECONDS_MAX: i64 = 253_402_300_799;

type Claims = Map<String, Value>;

/// Who a token proves, for how long, and to what it is narrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal and the actors between it and the process on the wire.
    pub chain: Delegation,
    /// How and until when it was proven.
    pub authentication: Authentication,
    /// `chancery_resource`: the token is good for these only. `None`: not narrowed. Empty: good for nothing.
    pub resources: Option<BTreeSet<ResourceName>>,
    /// `chancery_only` is `read`: nothing but commands proven to only read.
    pub read_only: bool,
}

impl Identity {
    /// Whether the token is not narrowed to other resources.
    pub fn is_for(&self, resource: &ResourceName) -> bool {
        self.resources.as_ref().is_none_or(|resources| resources.contains(resource))
    }
}

/// Checks a token against an issuer's rules and keys at the time `now`.
///
/// # Errors
/// The first [`Failure`] met. [`Failure::UnknownKey`] invites the caller to refresh the keys and try again.
pub fn authenticate(token: &str, issuer: &Issuer, now: Timestamp) -> Result<Authenticated<Identity>, Failure> {
    let rules = issuer.rules();
    let parts = Parts::parse(token)?;
    if !rules.algorithms.contains(&parts.algorithm) {
        return Err(Failure::AlgorithmRefused);
    }
    let key = issuer.keys().find(parts.kid.as_deref(), parts.algorithm)?;
    match jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), key, parts.algorithm.verifier()) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(Failure::BadSignature),
    }
    let claims = &parts.payload;
    if name(claims, "iss")? != rules.url {
        return Err(Failure::WrongIssuer);
    }
    check_audience(claims, rules)?;
    let (authenticated_at, expires_at) = check_times(claims, rules, now)?;
    check_purpose(claims)?;
    let chain = Delegation { principal: principal(claims, rules)?, actors: actors(claims, rules)? };
    check_repetition(&chain)?;
    Ok(Authenticated(Identity {
        chain,
        authentication: Authentication {
            issuer: rules.url.clone(),
            method: rules.method,
            authenticated_at,
            expires_at,
            token_id: token_id(claims, parts.signed)?,
        },
        resources: resources(claims)?,
        read_only: read_only(claims)?,
    }))
}

fn check_audience(claims: &Claims, rules: &IssuerRules) -> Result<(), Failure> {
    let accepted = |audience: &str| rules.audience.iter().any(|ours| ours == audience);
    let hit = match claims.get("aud") {
        Some(Value::String(audience)) => accepted(audience),
        Some(Value::Array(all)) if all.len() <= AUDIENCES_MAX => {
            let all: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
            all.ok_or(Failure::BadClaim("aud"))?.into_iter().any(accepted)
        }
        _ => return Err(Failure::BadClaim("aud")),
    };
    if hit { Ok(()) } else { Err(Failure::WrongAudience) }
}

/// When the principal was authenticated and when the token ends.
fn check_times(claims: &Claims, rules: &IssuerRules, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
    let leeway = i64::from(rules.leeway) * 1_000_000;
    let soon = now.plus_micros(leeway);
    let expires = instant(claims, "exp")?.ok_or(Failure::BadClaim("exp"))?;
    let issued = instant(claims, "iat")?.ok_or(Failure::BadClaim("iat"))?;
    let begins = instant(claims, "nbf")?;
    let logged_in = instant(claims, "auth_time")?;
    if now >= expires.plus_micros(leeway) {
        return Err(Failure::Expired);
    }
    if issued > soon || logged_in.is_some_and(|at| at > soon) {
        return Err(Failure::IssuedInFuture);
    }
    if begins.is_some_and(|at| at > soon) {
        return Err(Failure::NotYetValid);
    }
    if expires <= issued {
        return Err(Failure::BadClaim("exp"));
    }
    Ok((logged_in.unwrap_or(issued), expires))
}

/// A NumericDate (RFC 7519 §2): seconds, possibly with a fraction.
fn instant(claims: &Claims, claim: &'static str) -> Result<Option<Timestamp>, Failure> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let micros = match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => (0..=SECONDS_MAX).contains(&seconds).then(|| seconds * 1_000_000),
            (None, Some(seconds)) => {
                (0.0..=SECONDS_MAX as f64).contains(&seconds).then_some((seconds * 1_000_000.0) as i64)
            }
            (None, None) => None,
        },
        _ => None,
    };
    micros.map(|micros| Some(Timestamp(micros))).ok_or(Failure::BadClaim(claim))
}

/// Refuses tokens that are signed by the issuer for something other than being presented by a bearer.
fn check_purpose(claims: &Claims) -> Result<(), Failure> {
    if claims.contains_key("events") {
        // Security events and logout tokens (RFC 8417, OpenID Connect Back-Channel Logout §2.4).
        return Err(Failure::Unsupported("events"));
    }
    if claims.contains_key("cnf") {
        return Err(Failure::SenderBound);
    }
    Ok(())
}

fn principal(claims: &Claims, rules: &IssuerRules) -> Result<Principal, Failure> {
    let subject = name(claims, "sub")?;
    Ok(Principal {
        issuer: rules.url.clone(),
        subject: subject.to_owned(),
        kind: kind(claims, rules, subject)?,
        display: display(claims, rules).unwrap_or(subject).to_owned(),
        groups: groups(claims, rules)?,
    })
}

fn kind(claims: &Claims, rules: &IssuerRules, subject: &str) -> Result<PrincipalKind, Failure> {
    if let Some(value) = rules.kind.as_deref().and_then(|claim| pick(claims, claim)) {
        return kind_word(value);
    }
    let same = |claim: &str| claims.get(claim).is_some_and(|value| value == subject);
    let by_grant = claims.get("gty").is_some_and(|gty| gty == "client-credentials" || gty == "client_credentials");
    Ok(if same("client_id") || same("azp") || by_grant { PrincipalKind::Service } else { PrincipalKind::User })
}

fn kind_word(value: &Value) -> Result<PrincipalKind, Failure> {
    match value.as_str() {
        Some("user") => Ok(PrincipalKind::User),
        Some("service") => Ok(PrincipalKind::Service),
        Some("agent") => Ok(PrincipalKind::Agent),
        _ => Err(Failure::BadClaim("kind")),
    }
}

/// The first display claim that people can read without being deceived.
fn display<'a>(claims: &'a Claims, rules: &IssuerRules) -> Option<&'a str> {
    let candidates = rules.display.iter().filter_map(|claim| pick(claims, claim)).filter_map(Value::as_str);
    candidates.into_iter().find(|text| {
        !text.trim().is_empty()
            && text.chars().take(DISPLAY_CHARS_MAX + 1).count() <= DISPLAY_CHARS_MAX
            && is_plain(text)
    })
}

fn groups(claims: &Claims, rules: &IssuerRules) -> Result<Vec<String>, Failure> {
    let first =
        rules.groups.strip_prefix('/').map_or(rules.groups.as_str(), |path| path.split('/').next().unwrap_or(""));
    let elsewhere = match claims.get("_claim_names") {
        None => false,
        Some(Value::Object(names)) => names.contains_key(first) || names.contains_key("groups"),
        Some(_) => return Err(Failure::BadClaim("_claim_names")),
    };
    if elsewhere || claims.get("hasgroups").is_some_and(|value| value != false) {
        return Err(Failure::GroupsElsewhere);
    }
    let bad = || Failure::BadClaim("groups");
    let groups: Vec<&str> = match pick(claims, &rules.groups) {
        None => Vec::new(),
        Some(Value::String(group)) => vec![group],
        Some(Value::Array(groups)) if groups.len() <= GROUPS_MAX => {
            groups.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(bad)?
        }
        Some(_) => return Err(bad()),
    };
    if !groups.iter().all(|group| is_name(group)) {
        return Err(bad());
    }
    let sorted: BTreeSet<&str> = groups.into_iter().collect();
    Ok(sorted.into_iter().map(str::to_owned).collect())
}

/// The actors from the first delegate to the current one. In the token the current actor is the outermost `act`
/// and its predecessors are nested inside (RFC 8693 §4.1).
fn actors(claims: &Claims, rules: &IssuerRules) -> Result<Vec<Actor>, Failure> {
    let mut actors = Vec::new();
    let mut holder = claims;
    while let Some(act) = holder.get("act") {
        if actors.len() == rules.max_chain {
            return Err(Failure::ChainTooLong);
        }
        let act = act.as_object().ok_or(Failure::BadClaim("act"))?;
        let issuer = match act.get("iss") {
            None => rules.url.as_str(),
            Some(_) => name(act, "iss").map_err(|_| Failure::BadClaim("act.iss"))?,
        };
        let kind = match rules.kind.as_deref().filter(|claim| !claim.starts_with('/')).and_then(|claim| act.get(claim))
        {
            None => PrincipalKind::Agent,
            Some(value) => kind_word(value)?,
        };
        let subject = name(act, "sub").map_err(|_| Failure::BadClaim("act.sub"))?;
        actors.push(Actor { issuer: issuer.to_owned(), subject: subject.to_owned(), kind });
        holder = act;
    }
    actors.reverse();
    Ok(actors)
}

/// Somebody who stands twice would be judged twice by the same name, and a loop says nothing about who asked whom.
fn check_repetition(chain: &Delegation) -> Result<(), Failure> {
    let mut seen = BTreeSet::from([(&chain.principal.issuer, &chain.principal.subject)]);
    if chain.actors.iter().all(|actor| seen.insert((&actor.issuer, &actor.subject))) {
        Ok(())
    } else {
        Err(Failure::ChainRepeats)
    }
}

fn resources(claims: &Claims) -> Result<Option<BTreeSet<ResourceName>>, Failure> {
    let bad = || Failure::BadClaim("chancery_resource");
    let names: Vec<&str> = match claims.get("chancery_resource") {
        None => return Ok(None),
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) if names.len() <= RESOURCES_MAX => {
            names.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(bad)?
        }
        Some(_) => return Err(bad()),
    };
    names.into_iter().map(ResourceName::parse).collect::<Option<_>>().map(Some).ok_or_else(bad)
}

fn read_only(claims: &Claims) -> Result<bool, Failure> {
    match claims.get("chancery_only") {
        None => Ok(false),
        Some(value) if value == "read" => Ok(true),
        Some(_) => Err(Failure::BadClaim("chancery_only")),
    }
}

/// `jti`, or a digest of what is signed. The signature stays out of it: an ECDSA signature can be rewritten by anybody.
fn token_id(claims: &Claims, signed: &str) -> Result<String, Failure> {
    if claims.contains_key("jti") {
        return name(claims, "jti").map(str::to_owned);
    }
    let hash = digest::digest(&digest::SHA256, signed.as_bytes());
    let bytes = <[u8; 32]>::try_from(hash.as_ref()).map_err(|_| Failure::BadClaim("jti"))?;
    Ok(format!("sha256:{}", Digest(bytes)))
}

fn name<'a>(claims: &'a Claims, claim: &'static str) -> Result<&'a str, Failure> {
    let bytes_max = if claim == "iss" { URL_BYTES_MAX } else { NAME_BYTES_MAX };
    let text = claims.get(claim).and_then(Value::as_str);
    text.filter(|text| (1..=bytes_max).contains(&text.len()) && is_plain(text)).ok_or(Failure::BadClaim(claim))
}

/// Short enough, not empty, and free of what a terminal or a page would act upon.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && is_plain(text)
}

/// No control characters and no invisible or direction-changing ones (Unicode UAX #9 §2, UTR #36 §2.5).
fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    })
}

/// A claim by plain name or JSON pointer.
fn pick<'a>(claims: &'a Claims, claim: &str) -> Option<&'a Value> {
    let Some(path) = claim.strip_prefix('/') else {
        return claims.get(claim);
    };
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        None => Some(value),
        Some(rest) => value.pointer(&format!("/{rest}")),
    }
}
