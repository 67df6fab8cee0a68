//! Timestamps of others: the request and the token of RFC 3161 over a note, and what makes a token count. Not here: sockets,
//! clocks, randomness, and whom to trust, which is handed in.
//!
//! The bytes are walked as they lie and never written anew: what is hashed and verified is what was signed.

use aws_lc_rs::digest::{self, Algorithm};
use chancery_model::{Digest, Timestamp};
use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::LedgerError;
use crate::tree::sha256;

/// The longest answer of an authority: a token with a chain of certificates has some kilobytes.
pub const STAMP_BYTES_MAX: usize = 64 * 1024;
/// Elements of one structure.
const CHILDREN_MAX: usize = 64;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// `[0]` of a `SignerIdentifier`.
const KEY_IDENTIFIER: u8 = 0x80;
/// `[4]` of a `GeneralName`.
const DIRECTORY_NAME: u8 = 0xa4;

/// Object identifiers, as their bytes: of CMS (RFC 5652), of tokens (RFC 3161), of their certificates (RFC 5035, RFC 5280).
mod oid {
    pub(super) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    pub(super) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
    pub(super) const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
    pub(super) const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
    pub(super) const SIGNING_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
    pub(super) const SIGNING_CERTIFICATE_V2: &[u8] =
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    pub(super) const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    pub(super) const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
    pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(super) const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    pub(super) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    pub(super) const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
}

fn malformed() -> LedgerError {
    LedgerError::Unproven("the timestamp is malformed")
}

fn unproven<T>(what: &'static str) -> Result<T, LedgerError> {
    Err(LedgerError::Unproven(what))
}

/// A request (RFC 3161 §2.4.1) for a token over a note, with the authority's certificate in it. The nonce is random.
pub fn stamp_request(note: &str, mut nonce: [u8; 8]) -> Vec<u8> {
    // Positive and of full length: one spelling.
    nonce[0] = nonce[0] & 0x7f | 0x40;
    let algorithm = put(SEQUENCE, &[put(OID, oid::SHA256), put(0x05, &[])].concat());
    let imprint = put(SEQUENCE, &[algorithm, put(OCTETS, &sha256(note.as_bytes()).0)].concat());
    put(SEQUENCE, &[put(INTEGER, &[1]), imprint, put(INTEGER, &nonce), put(0x01, &[0xff])].concat())
}

/// Of at most 127 bytes, as all of a request is.
fn put(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("a request is short");
    [&[tag, length], value].concat()
}

/// The time that an authority gave to the note, if its answer (RFC 3161 §2.4.2) is one to this request and is signed by a
/// certificate for that purpose that one of `authorities` (certificates, DER) vouches for at that time.
pub fn verify_stamp(
    note: &str,
    request: &[u8],
    response: &[u8],
    authorities: &[Vec<u8>],
) -> Result<Timestamp, LedgerError> {
    if response.len() > STAMP_BYTES_MAX || request.len() > STAMP_BYTES_MAX {
        return Err(malformed());
    }
    let asked = Asked::read(request)?;
    if asked.imprint != sha256(note.as_bytes()) {
        return unproven("the timestamp was not asked for this note");
    }
    let token = granted(response)?;
    let info = Info::read(token.content)?;
    if info.imprint != asked.imprint {
        return unproven("the timestamp is of something else");
    }
    if info.nonce != asked.nonce {
        return unproven("the timestamp is the answer to another request");
    }
    token.verify(&info, authorities)?;
    Ok(info.time)
}

/// One element: its tag, what is in it, and all of it.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    tag: u8,
    value: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Node<'a> {
    /// The one element that these bytes are.
    fn read(bytes: &'a [u8]) -> Result<Self, LedgerError> {
        match children(bytes)?.as_slice() {
            [one] => Ok(*one),
            _ => Err(malformed()),
        }
    }
    fn is(self, tag: u8) -> Result<Self, LedgerError> {
        if self.tag == tag { Ok(self) } else { Err(malformed()) }
    }
    fn children(self) -> Result<Vec<Node<'a>>, LedgerError> {
        children(self.value)
    }
    /// The only element in it.
    fn only(self) -> Result<Node<'a>, LedgerError> {
        Node::read(self.value)
    }
}

/// The elements that these bytes are, one after the other.
fn children(bytes: &[u8]) -> Result<Vec<Node<'_>>, LedgerError> {
    let mut reader = SliceReader::new(bytes).map_err(|_| malformed())?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        let whole = reader.tlv_bytes().map_err(|_| malformed())?;
        let value = AnyRef::from_der(whole).map_err(|_| malformed())?.value();
        // No structure here has a tag of more than one byte.
        let tag = whole.first().copied().filter(|tag| tag & 0x1f != 0x1f).ok_or_else(malformed)?;
        if found.len() == CHILDREN_MAX {
            return Err(malformed());
        }
        found.push(Node { tag, value, whole });
    }
    Ok(found)
}

/// The `n`th element, which must have this tag.
fn at<'a>(nodes: &[Node<'a>], n: usize, tag: u8) -> Result<Node<'a>, LedgerError> {
    nodes.get(n).copied().ok_or_else(malformed)?.is(tag)
}

/// What a request asked.
struct Asked<'a> {
    imprint: Digest,
    nonce: Option<&'a [u8]>,
}

impl<'a> Asked<'a> {
    fn read(request: &'a [u8]) -> Result<Self, LedgerError> {
        let fields = Node::read(request)?.is(SEQUENCE)?.children()?;
        let nonce = fields.iter().skip(2).find(|field| field.tag == INTEGER).map(|field| field.value);
        Ok(Self { imprint: imprint(at(&fields, 1, SEQUENCE)?)?, nonce })
    }
}

/// A hash by SHA-256, which is what is asked for.
fn imprint(node: Node<'_>) -> Result<Digest, LedgerError> {
    let fields = node.children()?;
    if at(&at(&fields, 0, SEQUENCE)?.children()?, 0, OID)?.value != oid::SHA256 {
        return unproven("the timestamp is over a hash of another kind");
    }
    let hash = at(&fields, 1, OCTETS)?.value.try_into().map_err(|_| malformed())?;
    Ok(Digest(hash))
}

/// What a token states (RFC 3161 §2.4.2, `TSTInfo`).
struct Info<'a> {
    imprint: Digest,
    time: Timestamp,
    nonce: Option<&'a [u8]>,
    /// The authority's name, if it gives one.
    name: Option<Node<'a>>,
}

impl<'a> Info<'a> {
    fn read(content: &'a [u8]) -> Result<Self, LedgerError> {
        let fields = Node::read(content)?.is(SEQUENCE)?.children()?;
        if at(&fields, 0, INTEGER)?.value != [1] {
            return Err(malformed());
        }
        let nonce = fields.iter().skip(5).find(|field| field.tag == INTEGER).map(|field| field.value);
        let (imprint, time) = (imprint(at(&fields, 2, SEQUENCE)?)?, time(at(&fields, 4, TIME)?.value)?);
        let name = fields.iter().skip(5).find(|field| field.tag == CONTEXT_0).map(|field| field.only()).transpose()?;
        Ok(Self { imprint, time, nonce, name })
    }
}

/// `YYYYMMDDhhmmss[.f…]Z`.
fn time(text: &[u8]) -> Result<Timestamp, LedgerError> {
    let text = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('Z')).ok_or_else(malformed)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) {
        return Err(malformed());
    }
    let part =
        |from: usize, to: usize| whole.get(from..to).and_then(|text| text.parse::<i64>().ok()).ok_or_else(malformed);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return Err(malformed());
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar; years begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let micros: i64 = format!("{fraction:0<6}").get(..6).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
    Ok(Timestamp(seconds * 1_000_000 + micros))
}

/// A token as CMS has it: what was signed, by whom, and how.
struct Token<'a> {
    /// The `TSTInfo`.
    content: &'a [u8],
    /// The hashes that its signers use.
    hashes: Vec<Node<'a>>,
    certificates: Vec<Node<'a>>,
    signer: Node<'a>,
}

/// The token of an answer that grants one.
fn granted(response: &[u8]) -> Result<Token<'_>, LedgerError> {
    let fields = Node::read(response)?.is(SEQUENCE)?.children()?;
    let status = at(&at(&fields, 0, SEQUENCE)?.children()?, 0, INTEGER)?.value;
    // granted, and granted with changes.
    if !matches!(status, [0 | 1]) {
        return unproven("the timestamp authority refused");
    }
    let info = at(&fields, 1, SEQUENCE)?.children()?;
    if at(&info, 0, OID)?.value != oid::SIGNED_DATA {
        return Err(malformed());
    }
    let data = at(&info, 1, CONTEXT_0)?.only()?.is(SEQUENCE)?.children()?;
    at(&data, 0, INTEGER)?;
    let inner = at(&data, 2, SEQUENCE)?.children()?;
    if at(&inner, 0, OID)?.value != oid::TST_INFO {
        return Err(malformed());
    }
    let hashes = at(&data, 1, SET)?.children()?;
    let content = at(&inner, 1, CONTEXT_0)?.only()?.is(OCTETS)?.value;
    let certificates = match data.get(3).filter(|node| node.tag == CONTEXT_0) {
        Some(node) => node.children()?.into_iter().filter(|node| node.tag == SEQUENCE).collect(),
        None => Vec::new(),
    };
    // RFC 3161 §2.4.2: the authority's signature is the only one.
    let signer = data.last().ok_or_else(malformed)?.is(SET)?.only()?.is(SEQUENCE)?;
    Ok(Token { content, hashes, certificates, signer })
}

impl Token<'_> {
    fn verify(&self, info: &Info<'_>, authorities: &[Vec<u8>]) -> Result<(), LedgerError> {
        let fields = self.signer.children()?;
        let signed = at(&fields, 3, CONTEXT_0)?;
        let hash = at(&at(&fields, 2, SEQUENCE)?.children()?, 0, OID)?.value;
        at(&fields, 0, INTEGER)?;
        if !self.hashes.iter().any(|one| is_algorithm(*one, hash)) {
            return Err(malformed());
        }
        let attributes = Attributes::read(signed)?;
        if attributes.content_type != oid::TST_INFO {
            return Err(malformed());
        }
        if digest::digest(hash_of(hash)?, self.content).as_ref() != attributes.message_digest {
            return unproven("the timestamp was changed");
        }
        let certificate = self.certificates.iter().find(|one| attributes.names(one.whole));
        let Some(certificate) = certificate else {
            return unproven("the certificate that signed the timestamp is not with it");
        };
        is_identified(at_any(&fields, 1)?, *certificate)?;
        is_named(info.name, *certificate)?;
        is_for_timestamps(*certificate)?;
        let (algorithm, signature) = (at(&fields, 4, SEQUENCE)?, at(&fields, 5, OCTETS)?.value);
        // RFC 5652 §5.4: what is signed has the tag of a SET in place of the field's own.
        let mut message = signed.whole.to_vec();
        message.splice(..1, [SET]);
        let der = CertificateDer::from(certificate.whole);
        let end = EndEntityCert::try_from(&der)
            .map_err(|_| LedgerError::Unproven("the authority's certificate cannot be read"))?;
        let name = at(&algorithm.children()?, 0, OID)?.value;
        if !algorithms(name, hash).iter().any(|one| end.verify_signature(*one, &message, signature).is_ok()) {
            return unproven("the signature of the timestamp does not hold");
        }
        self.chained(&end, info.time, authorities)
    }

    fn chained(&self, end: &EndEntityCert<'_>, time: Timestamp, authorities: &[Vec<u8>]) -> Result<(), LedgerError> {
        let roots: Vec<CertificateDer<'_>> =
            authorities.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let anchors: Vec<TrustAnchor<'_>> =
            roots.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
        let between: Vec<CertificateDer<'_>> =
            self.certificates.iter().map(|node| CertificateDer::from(node.whole)).collect();
        let seconds = u64::try_from(time.seconds()).map_err(|_| malformed())?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        // Of the authority's own certificate this was required before; those between need not name a purpose.
        let usage = KeyUsage::required_if_present(oid::TIME_STAMPING);
        match end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &between, at, usage, None, None) {
            Ok(_) => Ok(()),
            Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
                unproven("the authority's certificate did not hold at the time that the timestamp says")
            }
            Err(_) => unproven("no authority that was given vouches for the certificate that signed the timestamp"),
        }
    }
}

fn at_any<'a>(nodes: &[Node<'a>], n: usize) -> Result<Node<'a>, LedgerError> {
    nodes.get(n).copied().ok_or_else(malformed)
}

fn is_algorithm(node: Node<'_>, name: &[u8]) -> bool {
    let own = node.is(SEQUENCE).and_then(Node::children).and_then(|fields| at(&fields, 0, OID));
    own.is_ok_and(|own| own.value == name)
}

/// The attributes that are signed.
struct Attributes<'a> {
    content_type: &'a [u8],
    message_digest: &'a [u8],
    /// The hash of the certificate that signs, and by what.
    certificate: &'a [u8],
    by: &'static Algorithm,
}

impl<'a> Attributes<'a> {
    fn read(signed: Node<'a>) -> Result<Self, LedgerError> {
        let mut all = Vec::new();
        for attribute in signed.children()? {
            let fields = attribute.is(SEQUENCE)?.children()?;
            all.push((at(&fields, 0, OID)?.value, at(&fields, 1, SET)?));
        }
        let one = |name: &[u8]| {
            let mut found = all.iter().filter(|(known, _)| *known == name);
            match (found.next(), found.next()) {
                (Some((_, value)), None) => value.only(),
                _ => Err(malformed()),
            }
        };
        let (certificate, by) = match one(oid::SIGNING_CERTIFICATE_V2) {
            Ok(named) => second(first_of_certificates(named)?)?,
            Err(_) => {
                (first(first_of_certificates(one(oid::SIGNING_CERTIFICATE)?)?)?, &digest::SHA1_FOR_LEGACY_USE_ONLY)
            }
        };
        let content_type = one(oid::CONTENT_TYPE)?.is(OID)?.value;
        let message_digest = one(oid::MESSAGE_DIGEST)?.is(OCTETS)?.value;
        Ok(Self { content_type, message_digest, certificate, by })
    }
    /// Whether this is the certificate that signs. The hash need not be strong: the certificate's own signature is verified.
    fn names(&self, certificate: &[u8]) -> bool {
        digest::digest(self.by, certificate).as_ref() == self.certificate
    }
}

/// `SigningCertificate` and `SigningCertificateV2` (RFC 5035 §3): the first that they name is the one that signs.
fn first_of_certificates(named: Node<'_>) -> Result<Node<'_>, LedgerError> {
    let list = at(&named.is(SEQUENCE)?.children()?, 0, SEQUENCE)?;
    at(&list.children()?, 0, SEQUENCE)
}

fn first(id: Node<'_>) -> Result<&[u8], LedgerError> {
    Ok(at(&id.children()?, 0, OCTETS)?.value)
}

/// The hash's algorithm may be left out, and is SHA-256 then.
fn second(id: Node<'_>) -> Result<(&[u8], &'static Algorithm), LedgerError> {
    let fields = id.children()?;
    match at(&fields, 0, SEQUENCE) {
        Err(_) => Ok((at(&fields, 0, OCTETS)?.value, &digest::SHA256)),
        Ok(algorithm) => Ok((at(&fields, 1, OCTETS)?.value, hash_of(at(&algorithm.children()?, 0, OID)?.value)?)),
    }
}

fn hash_of(name: &[u8]) -> Result<&'static Algorithm, LedgerError> {
    match name {
        oid::SHA256 => Ok(&digest::SHA256),
        oid::SHA384 => Ok(&digest::SHA384),
        oid::SHA512 => Ok(&digest::SHA512),
        _ => unproven("the timestamp uses a hash that is not accepted"),
    }
}

/// The fields of a certificate's signed part, from its serial number on.
fn certificate_fields(certificate: Node<'_>) -> Result<Vec<Node<'_>>, LedgerError> {
    let mut fields = at(&certificate.children()?, 0, SEQUENCE)?.children()?;
    if fields.first().is_some_and(|field| field.tag == CONTEXT_0) {
        fields.remove(0);
    }
    Ok(fields)
}

/// The signer's identifier (RFC 5652 §5.3) is of this certificate: by issuer and serial number, or by a key identifier, which
/// says nothing that the signed hash of the certificate does not.
fn is_identified(signer: Node<'_>, certificate: Node<'_>) -> Result<(), LedgerError> {
    if signer.tag == KEY_IDENTIFIER {
        return Ok(());
    }
    signer.is(SEQUENCE)?;
    let (named, fields) = (signer.children()?, certificate_fields(certificate)?);
    let same = at(&named, 0, SEQUENCE)?.whole == at(&fields, 2, SEQUENCE)?.whole
        && at(&named, 1, INTEGER)?.whole == at(&fields, 0, INTEGER)?.whole;
    if same { Ok(()) } else { unproven("the timestamp names another certificate") }
}

/// RFC 3161 §2.4.2: the name that a token gives its authority is one of the certificate's: its subject, where the name is of
/// that kind. (Names of other kinds, which would stand in an extension, are not compared.)
fn is_named(name: Option<Node<'_>>, certificate: Node<'_>) -> Result<(), LedgerError> {
    let Some(name) = name.filter(|name| name.tag == DIRECTORY_NAME) else { return Ok(()) };
    let subject = at(&certificate_fields(certificate)?, 4, SEQUENCE)?;
    if name.only()?.whole == subject.whole { Ok(()) } else { unproven("the timestamp names another authority") }
}

/// RFC 3161 §2.3: the certificate is for timestamps and for nothing else, and says so as critical.
fn is_for_timestamps(certificate: Node<'_>) -> Result<(), LedgerError> {
    let fields = certificate_fields(certificate)?;
    let extensions = fields.iter().find(|field| field.tag == 0xa3).copied().ok_or_else(malformed)?.only()?;
    for extension in extensions.is(SEQUENCE)?.children()? {
        let fields = extension.is(SEQUENCE)?.children()?;
        if at(&fields, 0, OID)?.value != oid::EXTENDED_KEY_USAGE {
            continue;
        }
        let critical = fields.get(1).is_some_and(|field| field.whole == [0x01, 0x01, 0xff]);
        let value = fields.last().ok_or_else(malformed)?.is(OCTETS)?.only()?.is(SEQUENCE)?;
        if critical && value.only().is_ok_and(|usage| usage.tag == OID && usage.value == oid::TIME_STAMPING) {
            return Ok(());
        }
        break;
    }
    unproven("the certificate that signed is not one for timestamps alone")
}

/// By which algorithms a signature of this name over this hash may be verified; that of the certificate's key decides.
fn algorithms(name: &[u8], hash: &[u8]) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    use webpki::aws_lc_rs as by;
    let rsa = name.strip_prefix(oid::RSA).and_then(|rest| rest.first());
    let ecdsa = name.strip_prefix(oid::ECDSA_SHA2).and_then(|rest| rest.first());
    match (name, rsa, ecdsa, hash) {
        (oid::RSA_PSS, _, _, oid::SHA256) => vec![by::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        (oid::RSA_PSS, _, _, oid::SHA384) => vec![by::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        (oid::RSA_PSS, _, _, oid::SHA512) => vec![by::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        // rsaEncryption, or with the hash in the name.
        (_, Some(1 | 11), _, oid::SHA256) => vec![by::RSA_PKCS1_2048_8192_SHA256],
        (_, Some(1 | 12), _, oid::SHA384) => vec![by::RSA_PKCS1_2048_8192_SHA384],
        (_, Some(1 | 13), _, oid::SHA512) => vec![by::RSA_PKCS1_2048_8192_SHA512],
        (_, _, Some(2), oid::SHA256) => vec![by::ECDSA_P256_SHA256, by::ECDSA_P384_SHA256, by::ECDSA_P521_SHA256],
        (_, _, Some(3), oid::SHA384) => vec![by::ECDSA_P256_SHA384, by::ECDSA_P384_SHA384, by::ECDSA_P521_SHA384],
        (_, _, Some(4), oid::SHA512) => vec![by::ECDSA_P256_SHA512, by::ECDSA_P384_SHA512, by::ECDSA_P521_SHA512],
        (oid::ED25519, ..) => vec![by::ED25519],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, micros) in [
            ("19700101000000Z", 0),
            ("20000229235959Z", 951_868_799_000_000),
            ("20261129041735Z", 1_795_925_855_000_000),
            ("20261129041735.5Z", 1_795_925_855_500_000),
            ("20261129041735.0000019Z", 1_795_925_855_000_001),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(Timestamp(micros)), "{text}");
        }
        for bad in [
            "",
            "Z",
            "20261129041735",
            "2026112904173Z",
            "20261329041735Z",
            "20261129041735.Z",
            "2026112904173٣Z",
            "19691231235959Z",
        ] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_is_of_the_form_and_read_back() {
        for nonce in [[0; 8], [0xff; 8], [0x80, 0, 0, 0, 0, 0, 0, 1]] {
            let request = stamp_request("a note\n", nonce);
            let asked = Asked::read(&request).expect("own request");
            assert_eq!(asked.imprint, sha256(b"a note\n"));
            let read = asked.nonce.expect("there is one");
            assert!(read.len() == 8 && (0x40..0x80).contains(&read[0]) && read[1..] == nonce[1..]);
        }
    }

    #[test]
    fn elements_are_bounded_and_of_definite_length() {
        assert!(children(&[0x30, 0x80, 0, 0]).is_err());
        assert!(children(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(children(&[0x1f, 0x81, 0x01, 0]).is_err());
        assert!(children(&[2, 1, 1].repeat(CHILDREN_MAX)).is_ok());
        assert!(children(&[2, 1, 1].repeat(CHILDREN_MAX + 1)).is_err());
    }
}
