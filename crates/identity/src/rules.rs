//! What the operator says about an issuer, and the issuer itself: rules and keys.

use crate::{KeySet, RulesFailure};

/// The longest issuer URL, in bytes.
pub(crate) const URL_BYTES_MAX: usize = 512;

/// Signature algorithms (RFC 7518 §3.1, RFC 8037). Neither `none` nor the symmetric ones can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];
    /// The `alg` value, such as `RS256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
    /// Reads an `alg` value, exactly as registered.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == word)
    }
    pub(crate) fn verifier(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// What the operator says about one issuer. A claim is named by its plain name at the top of the token, or, if the
/// text starts with `/`, by a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// The issuer's URL, compared with `iss` byte for byte.
    pub url: String,
    /// A token must be for at least one of these.
    pub audience: Vec<String>,
    /// The claim that lists groups: a list of strings, or one string, which is one group and is never split.
    pub groups: String,
    /// The claim that says `user`, `service` or `agent`. Where a token lacks it, a token that a client got for itself
    /// (`sub` equals `client_id` or `azp`, or `gty` is client credentials) is a service's, any other a user's. A plain
    /// name also tells the kind of an actor inside its `act` claim; an actor without it is an agent.
    pub kind: Option<String>,
    /// The claims that may name the principal for people, best first; the subject if none can be shown.
    pub display: Vec<String>,
    /// Accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// By how many seconds the issuer's clock may differ from ours, at most 60.
    pub leeway: u32,
    /// The most actors a chain may have, at most 32. 0 refuses every delegated token.
    pub max_chain: usize,
    /// What entries call this way of authenticating: `oidc`, `demo`.
    pub method: &'static str,
}

impl IssuerRules {
    /// Rules with the defaults of the house: groups in `groups`, kind in `chancery_kind`, all algorithms, 30 seconds
    /// of leeway, eight links.
    pub fn new(url: impl Into<String>, audience: Vec<String>) -> Self {
        Self {
            url: url.into(),
            audience,
            groups: "groups".to_owned(),
            kind: Some("chancery_kind".to_owned()),
            display: ["preferred_username", "email"].map(str::to_owned).into(),
            algorithms: Algorithm::ALL.into(),
            leeway: 30,
            max_chain: 8,
            method: "oidc",
        }
    }

    /// Checks that the rules can be used.
    ///
    /// # Errors
    /// Says which rule is wrong; the configuration is at fault.
    pub fn check(&self) -> Result<(), RulesFailure> {
        let empty_claim = |claim: &String| claim.is_empty() || claim == "/";
        if self.url.is_empty() || self.url.len() > URL_BYTES_MAX {
            return Err(RulesFailure::Url);
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Err(RulesFailure::Audience);
        }
        if self.algorithms.is_empty() {
            return Err(RulesFailure::Algorithms);
        }
        if empty_claim(&self.groups) || self.kind.iter().any(empty_claim) || self.display.iter().any(empty_claim) {
            return Err(RulesFailure::ClaimName);
        }
        if self.leeway > 60 {
            return Err(RulesFailure::Leeway);
        }
        if self.max_chain > 32 {
            return Err(RulesFailure::Chain);
        }
        Ok(())
    }
}

/// An issuer whose tokens can be checked.
#[derive(Clone, Debug)]
pub struct Issuer {
    rules: IssuerRules,
    keys: KeySet,
}

impl Issuer {
    /// Puts checked rules and keys together.
    ///
    /// # Errors
    /// Those of [`IssuerRules::check`].
    pub fn new(rules: IssuerRules, keys: KeySet) -> Result<Self, RulesFailure> {
        rules.check()?;
        Ok(Self { rules, keys })
    }
    /// The rules.
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }
    /// The keys.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symmetric_and_absent_algorithms_cannot_be_said() {
        for word in ["none", "None", "HS256", "HS384", "HS512", "rs256", "ES512", "ES256K", ""] {
            assert_eq!(Algorithm::parse(word), None, "{word}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
        }
    }

    #[test]
    fn rules_that_would_accept_too_much_are_refused() {
        let good = IssuerRules::new("https://idp", vec!["chancery".into()]);
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut IssuerRules)| {
            let mut rules = good.clone();
            change(&mut rules);
            rules.check()
        };
        assert_eq!(with(|r| r.url.clear()), Err(RulesFailure::Url));
        assert_eq!(with(|r| r.audience.clear()), Err(RulesFailure::Audience));
        assert_eq!(with(|r| r.audience.push(String::new())), Err(RulesFailure::Audience));
        assert_eq!(with(|r| r.algorithms.clear()), Err(RulesFailure::Algorithms));
        assert_eq!(with(|r| r.groups.clear()), Err(RulesFailure::ClaimName));
        assert_eq!(with(|r| r.kind = Some("/".into())), Err(RulesFailure::ClaimName));
        assert_eq!(with(|r| r.leeway = 61), Err(RulesFailure::Leeway));
        assert_eq!(with(|r| r.max_chain = 33), Err(RulesFailure::Chain));
    }
}
