//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the client's side.
//!
//! Four values used up one after the other: [`ClientFirst`] → [`Challenge`] → [`Proof`] → verified. The password is
//! stretched by [`ScramDerivation`], which the driver may run on another thread; the keys that come of it may be kept
//! for the next connection. It draws no nonce: random bytes are an argument.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// RFC 7677 §4 asks for no less; below it a stolen exchange is cheap to guess against.
pub const ITERATIONS_MIN: u32 = 4_096;
/// Default bound: PostgreSQL's default is 4 096; a hostile server must not be able to burn a core for minutes.
pub const ITERATIONS_MAX: u32 = 600_000;

const KEY_BYTES: usize = 32;
/// PostgreSQL's salt has 16 bytes.
const SALT_BYTES_MAX: usize = 256;
const NONCE_CHARS_MAX: usize = 1_024;

/// Why an exchange cannot go on; the server is at fault in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramFault {
    /// A message does not have the grammar of RFC 5802 §7.
    Malformed,
    /// The server's nonce does not begin with ours, or adds nothing to it.
    Nonce,
    /// The server asks for an extension that must be understood and is not.
    MandatoryExtension,
    /// The iteration count is outside of the bounds.
    Iterations,
    /// The server could not prove that it knows the password.
    ServerSignature,
    /// The server answered with an error instead of its proof.
    ServerError,
}

impl ScramFault {
    /// The sentence for logs and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "SCRAM message malformed",
            Self::Nonce => "SCRAM nonce is not an extension of ours",
            Self::MandatoryExtension => "SCRAM extension not supported",
            Self::Iterations => "SCRAM iteration count out of bounds",
            Self::ServerSignature => "SCRAM server signature does not verify",
            Self::ServerError => "SCRAM exchange ended by the server",
        }
    }
}

impl fmt::Display for ScramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ScramFault {}

/// How the exchange is tied to the TLS connection (the gs2 flag of RFC 5802 §6).
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// `n`: we have no binding data.
    Unsupported,
    /// `y`: we have, but the server did not offer PLUS. A server that did offer it then sees that somebody cut the
    /// offer out, and refuses.
    NotOffered,
    /// `p`: bound to this certificate hash.
    EndPoint(Vec<u8>),
}

/// Keys stretched from a password: enough to log in, so as secret as it. Wiped on drop, never shown.
///
/// Good for one salt and count. The caller keys its cache by the credential and its version, because keys outlive a
/// changed password here.
#[derive(Clone)]
pub struct ScramKeys {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    client_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl ScramKeys {
    pub(crate) fn fits(&self, challenge: &Challenge) -> bool {
        self.salt == challenge.salt && self.iterations == challenge.iterations
    }
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// A password waiting to be stretched: milliseconds to seconds of CPU, so not for an event loop.
pub struct ScramDerivation {
    password: Zeroizing<Vec<u8>>,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl ScramDerivation {
    /// Stretches: PBKDF2-HMAC-SHA-256, then ClientKey and ServerKey (RFC 5802 §3).
    pub fn run(self) -> ScramKeys {
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        let prepared = prepare(&self.password);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, self.iterations, &self.salt, &prepared, salted.as_mut_slice());
        ScramKeys {
            client_key: mac(salted.as_slice(), b"Client Key"),
            server_key: mac(salted.as_slice(), b"Server Key"),
            salt: self.salt,
            iterations: self.iterations,
        }
    }
}

impl fmt::Debug for ScramDerivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramDerivation").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// SASLprep; a password it refuses, or that is not UTF-8, is used as it is, because PostgreSQL does so when it stores.
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    match std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok()) {
        Some(prepared) => Zeroizing::new(prepared.into_owned().into_bytes()),
        None => Zeroizing::new(password.to_vec()),
    }
}

/// The opening of an exchange.
pub(crate) struct ClientFirst {
    binding: Binding,
    nonce: String,
    bare: String,
}

impl ClientFirst {
    /// Opens with a random nonce of at least 18 bytes. PostgreSQL ignores the name inside and takes the one of the
    /// start-up packet, so it is empty outside of tests.
    pub(crate) fn new(name: &str, nonce: &[u8], binding: Binding) -> Self {
        Self::with_nonce(name, STANDARD.encode(nonce), binding)
    }

    fn with_nonce(name: &str, nonce: String, binding: Binding) -> Self {
        let bare = format!("n={name},r={nonce}");
        Self { binding, nonce, bare }
    }

    /// The name of the mechanism.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self.binding {
            Binding::EndPoint(_) => "SCRAM-SHA-256-PLUS",
            _ => "SCRAM-SHA-256",
        }
    }

    fn gs2_header(&self) -> &'static str {
        match self.binding {
            Binding::Unsupported => "n,,",
            Binding::NotOffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// client-first-message.
    pub(crate) fn message(&self) -> String {
        format!("{}{}", self.gs2_header(), self.bare)
    }

    /// Reads server-first-message. Counts outside of 4 096 to `iterations_max` are refused before any work is done.
    pub(crate) fn challenge(self, server_first: &[u8], iterations_max: u32) -> Result<Challenge, ScramFault> {
        let text = std::str::from_utf8(server_first).map_err(|_| ScramFault::Malformed)?;
        if text.starts_with("m=") {
            return Err(ScramFault::MandatoryExtension);
        }
        let mut fields = text.split(',');
        let mut field = |name: &str| fields.next().and_then(|f| f.strip_prefix(name)).ok_or(ScramFault::Malformed);
        let (nonce, salt, count) = (field("r=")?, field("s=")?, field("i=")?);
        if nonce.len() > NONCE_CHARS_MAX || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramFault::Malformed);
        }
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(ScramFault::Nonce);
        }
        if salt.len() > SALT_BYTES_MAX * 2 {
            return Err(ScramFault::Malformed);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramFault::Malformed)?;
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ScramFault::Malformed);
        }
        let count: u32 = count.parse().map_err(|_| ScramFault::Iterations)?;
        let iterations = NonZeroU32::new(count).ok_or(ScramFault::Iterations)?;
        if !(ITERATIONS_MIN..=iterations_max).contains(&count) {
            return Err(ScramFault::Iterations);
        }
        let mut bound = self.gs2_header().as_bytes().to_vec();
        if let Binding::EndPoint(data) = &self.binding {
            bound.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(bound));
        let signed = format!("{},{text},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, signed })
    }
}

/// What the server wants proven.
pub(crate) struct Challenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    without_proof: String,
    /// AuthMessage of RFC 5802 §3.
    signed: String,
}

impl Challenge {
    /// The work that has to be done before answering, unless keys are known.
    pub(crate) fn derivation(&self, password: Zeroizing<Vec<u8>>) -> ScramDerivation {
        ScramDerivation { password, salt: self.salt.clone(), iterations: self.iterations }
    }

    /// client-final-message, and the proof to expect in return.
    pub(crate) fn answer(self, keys: &ScramKeys) -> (String, Proof) {
        let stored_key = digest(&SHA256, &keys.client_key);
        let mut proof = mac(stored_key.as_ref(), self.signed.as_bytes());
        for (byte, key) in proof.iter_mut().zip(keys.client_key) {
            *byte ^= key;
        }
        let message = format!("{},p={}", self.without_proof, STANDARD.encode(proof));
        (message, Proof(mac(&keys.server_key, self.signed.as_bytes())))
    }
}

/// The signature that only a server with this user's verifier can make.
pub(crate) struct Proof([u8; KEY_BYTES]);

impl Proof {
    /// Checks server-final-message.
    pub(crate) fn verify(self, server_final: &[u8]) -> Result<(), ScramFault> {
        if server_final.starts_with(b"e=") {
            return Err(ScramFault::ServerError);
        }
        let rest = server_final.strip_prefix(b"v=").ok_or(ScramFault::Malformed)?;
        let encoded = rest.split(|&byte| byte == b',').next().unwrap_or_default();
        if encoded.len() > KEY_BYTES * 2 {
            return Err(ScramFault::Malformed);
        }
        let signature = STANDARD.decode(encoded).map_err(|_| ScramFault::Malformed)?;
        verify_slices_are_equal(&signature, &self.0).map_err(|_| ScramFault::ServerSignature)
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut out = [0; KEY_BYTES];
    for (slot, byte) in out.iter_mut().zip(tag.as_ref()) {
        *slot = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn opening(binding: Binding) -> ClientFirst {
        ClientFirst::with_nonce("user", NONCE.to_owned(), binding)
    }

    fn fault(server_first: &str) -> Option<ScramFault> {
        opening(Binding::Unsupported).challenge(server_first.as_bytes(), ITERATIONS_MAX).err()
    }

    /// RFC 7677 §3.
    #[test]
    fn the_vector_of_rfc_7677_holds() {
        let first = opening(Binding::Unsupported);
        assert_eq!(first.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = first.challenge(SERVER_FIRST.as_bytes(), ITERATIONS_MAX).expect("legal");
        let keys = challenge.derivation(Zeroizing::new(b"pencil".to_vec())).run();
        assert!(keys.fits(&challenge));
        let (message, proof) = challenge.answer(&keys);
        assert_eq!(
            message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proof.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("the server's proof");
    }

    #[test]
    fn a_forged_server_is_found_out() {
        let final_of = |message: &[u8]| {
            let challenge = opening(Binding::Unsupported).challenge(SERVER_FIRST.as_bytes(), 4096).expect("legal");
            let keys = challenge.derivation(Zeroizing::new(b"pencil".to_vec())).run();
            challenge.answer(&keys).1.verify(message)
        };
        let forged = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(final_of(forged), Err(ScramFault::ServerSignature));
        assert_eq!(final_of(b"v="), Err(ScramFault::ServerSignature));
        assert_eq!(final_of(b"v=%"), Err(ScramFault::Malformed));
        assert_eq!(final_of(b""), Err(ScramFault::Malformed));
        assert_eq!(final_of(b"e=other-error"), Err(ScramFault::ServerError));
    }

    #[test]
    fn a_hostile_challenge_is_refused_before_work() {
        assert_eq!(fault(SERVER_FIRST), None);
        assert_eq!(fault("m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096"), Some(ScramFault::MandatoryExtension));
        assert_eq!(fault("r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096"), Some(ScramFault::Nonce));
        assert_eq!(fault("r=other,s=AAAA,i=4096"), Some(ScramFault::Nonce));
        for count in ["0", "1", "4095", "600001", "4294967295", "99999999999999999999"] {
            let message = format!("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i={count}");
            assert_eq!(fault(&message), Some(ScramFault::Iterations), "{count}");
        }
        for tail in ["s=AAAA,i=-1", "s=AAAA,i=+4096", "s=,i=4096", "s=*,i=4096", "i=4096,s=AAAA", "s=AAAA"] {
            let message = format!("r=rOprNGfwEbeRWgbNEkqOx,{tail}");
            assert!(fault(&message).is_some(), "{tail}");
        }
    }

    #[test]
    fn the_binding_is_in_the_final_message() {
        let of = |binding: Binding| {
            let first = opening(binding);
            let (name, message) = (first.mechanism(), first.message());
            let challenge = first.challenge(SERVER_FIRST.as_bytes(), 4096).expect("legal");
            (name, message, challenge.without_proof)
        };
        let (name, message, last) = of(Binding::NotOffered);
        assert!(name == "SCRAM-SHA-256" && message.starts_with("y,,n=") && last.starts_with("c=eSws,"));
        let (name, message, last) = of(Binding::EndPoint(b"hash".to_vec()));
        assert!(name == "SCRAM-SHA-256-PLUS" && message.starts_with("p=tls-server-end-point,,n="));
        let bound = last.strip_prefix("c=").and_then(|l| l.split(',').next()).expect("a field");
        assert_eq!(STANDARD.decode(bound).expect("base64"), b"p=tls-server-end-point,,hash");
    }

    #[test]
    fn passwords_are_prepared_or_kept() {
        assert_eq!(prepare("I\u{ad}X".as_bytes()).as_slice(), b"IX");
        assert_eq!(prepare("\u{2168}".as_bytes()).as_slice(), b"IX");
        assert_eq!(prepare(b"\xff").as_slice(), b"\xff");
        assert_eq!(prepare("a\u{7}".as_bytes()).as_slice(), b"a\x07");
    }
}
