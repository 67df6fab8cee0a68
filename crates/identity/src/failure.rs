//! Why a token, a key set or an issuer's rules are not accepted.

use std::fmt;

/// Why a token is refused. `Display` is for the client and says nothing; [`Failure::reason`] is for entries and logs.
/// No variant carries any part of the token but the key id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Longer than [`crate::TOKEN_BYTES_MAX`].
    TooLarge,
    /// Not a signed JSON Web Token in compact form; says which part is broken.
    Malformed(&'static str),
    /// Legal, but of a kind that is not accepted here (encrypted, nested, critical extensions, other `typ`).
    Unsupported(&'static str),
    /// No issuer of that name is configured.
    UnknownIssuer,
    /// The issuer's keys do not include the one named. The caller may refresh them and try again.
    UnknownKey {
        /// The `kid` of the token's header.
        kid: String,
    },
    /// The header names no key, or a name that two keys bear, and more than one could have signed.
    UnclearKey,
    /// The algorithm is not on the issuer's list, or does not fit the key.
    AlgorithmRefused,
    /// The signature does not hold.
    BadSignature,
    /// `iss` is not the issuer whose keys were used.
    WrongIssuer,
    /// `aud` names none of the accepted audiences.
    WrongAudience,
    /// `exp` has passed.
    Expired,
    /// `nbf` is yet to come.
    NotYetValid,
    /// `iat` or `auth_time` is yet to come.
    IssuedInFuture,
    /// A claim is missing, has the wrong type, or is out of bounds; says which.
    BadClaim(&'static str),
    /// The issuer left groups out of the token and points elsewhere for them: membership is unknown.
    GroupsElsewhere,
    /// The chain of actors has more links than the issuer's rules allow.
    ChainTooLong,
    /// Somebody stands twice in the chain.
    ChainRepeats,
    /// The token is bound to a key of its sender (`cnf`), which cannot be checked here; it is no bearer token.
    SenderBound,
}

impl Failure {
    /// The word for entries and logs; never part of the token.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "token-too-large",
            Self::Malformed(_) => "token-malformed",
            Self::Unsupported(_) => "token-unsupported",
            Self::UnknownIssuer => "issuer-unknown",
            Self::UnknownKey { .. } => "key-unknown",
            Self::UnclearKey => "key-unclear",
            Self::AlgorithmRefused => "algorithm-refused",
            Self::BadSignature => "signature-bad",
            Self::WrongIssuer => "issuer-wrong",
            Self::WrongAudience => "audience-wrong",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::IssuedInFuture => "issued-in-future",
            Self::BadClaim(_) => "claim-bad",
            Self::GroupsElsewhere => "groups-elsewhere",
            Self::ChainTooLong => "chain-too-long",
            Self::ChainRepeats => "chain-repeats",
            Self::SenderBound => "sender-bound",
        }
    }
    /// Which part or claim, where the reason alone does not say; from a closed list, never from the token.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Malformed(what) | Self::Unsupported(what) | Self::BadClaim(what) => Some(what),
            _ => None,
        }
    }
}

/// One sentence for whoever presented the token: the same for every reason, so that it cannot be used to probe.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the token is not accepted")
    }
}

impl std::error::Error for Failure {}

/// Why a published key set cannot be used. The issuer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFailure {
    /// Longer than [`crate::JWKS_BYTES_MAX`].
    TooLarge,
    /// Not a JSON Web Key Set (RFC 7517 §5).
    Malformed,
    /// More than 100 keys.
    TooManyKeys,
    /// None of the keys can verify a signature that is accepted here.
    NoUsableKey,
}

impl fmt::Display for KeyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the key set is larger than 256 KiB",
            Self::Malformed => "the key set is not a JSON Web Key Set",
            Self::TooManyKeys => "the key set holds more than 100 keys",
            Self::NoUsableKey => "the key set holds no key that can be used to verify tokens",
        })
    }
}

impl std::error::Error for KeyFailure {}

/// Why an issuer's rules cannot be used. The configuration is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesFailure {
    /// The issuer's URL is empty or longer than 512 bytes.
    Url,
    /// No audience, or an empty one: every token of the issuer would pass.
    Audience,
    /// No algorithm.
    Algorithms,
    /// The groups, kind or a display claim is empty.
    ClaimName,
    /// Leeway above 60 seconds.
    Leeway,
    /// A chain limit of more than 32.
    Chain,
}

impl fmt::Display for RulesFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url => "the issuer's url must have 1 to 512 bytes",
            Self::Audience => "the issuer needs at least one audience, none of them empty",
            Self::Algorithms => "the issuer needs at least one algorithm",
            Self::ClaimName => "a claim name of the issuer is empty",
            Self::Leeway => "the issuer's leeway is above 60 seconds",
            Self::Chain => "the issuer's chain limit is above 32",
        })
    }
}

impl std::error::Error for RulesFailure {}
