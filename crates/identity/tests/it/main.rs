//! Hostile and honest tokens against `authenticate`: bug classes B11 (identity), B12 (delegation), B20 (lifecycle).
#![allow(clippy::disallowed_types, reason = "the test issuer signs with keys that it makes up")]

mod delegation;
mod honest;
mod hostile;
mod signer;
