//! Cancel keys and CancelRequest: what lets one connection stop a command of another.
//!
//! A key is a secret that travels on a connection of its own and proves nothing about who sends it. This module
//! builds, reads and compares keys; which session a key belongs to is the driver's table.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{BufMut, BytesMut};
use zeroize::Zeroizing;

use crate::frame::{self, Cursor, FrameFault};

/// The code that stands where a start-up packet has its version.
pub(crate) const CANCEL_REQUEST_CODE: i32 = 80_877_102;
/// The secret of protocol 3.0 and the least of 3.2.
pub(crate) const SECRET_BYTES_MIN: usize = 4;
/// The most that protocol 3.2 allows.
pub(crate) const SECRET_BYTES_MAX: usize = 256;

/// A process id and the secret that goes with it. The secret is wiped on drop and never shown.
#[derive(Clone)]
pub struct CancelKey {
    process_id: i32,
    secret: Zeroizing<Vec<u8>>,
}

impl CancelKey {
    /// Makes a key from the body of BackendKeyData or from random bytes; `None` unless the secret has 4 to 256 bytes.
    pub fn new(process_id: i32, secret: &[u8]) -> Option<Self> {
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX)
            .contains(&secret.len())
            .then(|| Self { process_id, secret: Zeroizing::new(secret.to_vec()) })
    }

    /// The number that says which session; not secret.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The secret, to be written into BackendKeyData or CancelRequest.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// True when both are the same key. Takes the same time wherever two secrets of one length differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.process_id == other.process_id && verify_slices_are_equal(&self.secret, &other.secret).is_ok()
    }

    /// Appends CancelRequest. The same message for 3.0 and 3.2; the length tells them apart.
    pub fn write_request(&self, out: &mut BytesMut) {
        frame::untagged(out, |out| {
            out.put_i32(CANCEL_REQUEST_CODE);
            out.put_i32(self.process_id);
            out.put_slice(&self.secret);
        });
    }

    /// Reads what stands behind the code in a CancelRequest.
    pub(crate) fn read(rest: &[u8]) -> Result<Self, FrameFault> {
        let mut cursor = Cursor::new(rest);
        let process_id = cursor.int32()?;
        let secret = cursor.rest();
        Self::new(process_id, secret).ok_or(if secret.len() < SECRET_BYTES_MIN {
            FrameFault::Truncated
        } else {
            FrameFault::LengthTooLarge
        })
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_whole() {
        let key = CancelKey::new(7, b"abcd").expect("four bytes");
        assert!(key.matches(&CancelKey::new(7, b"abcd").expect("four bytes")));
        assert!(!key.matches(&CancelKey::new(8, b"abcd").expect("four bytes")));
        assert!(!key.matches(&CancelKey::new(7, b"abce").expect("four bytes")));
        assert!(!key.matches(&CancelKey::new(7, b"abcde").expect("five bytes")));
        assert_eq!(format!("{key:?}"), "CancelKey { process_id: 7, .. }");
    }

    #[test]
    fn secrets_have_bounds() {
        assert!(CancelKey::new(1, b"abc").is_none());
        assert!(CancelKey::new(1, &[0; 256]).is_some());
        assert!(CancelKey::new(1, &[0; 257]).is_none());
        assert!(CancelKey::read(b"\0\0\0\x01abc").is_err());
        assert!(CancelKey::read(b"\0\0").is_err());
    }

    #[test]
    fn a_request_has_the_documented_shape() {
        let mut out = BytesMut::new();
        CancelKey::new(1, b"wxyz").expect("four bytes").write_request(&mut out);
        assert_eq!(&out[..], b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01wxyz");
    }
}
