//! MD5 (RFC 1321), for one purpose: the server's legacy `md5` password exchange.
//!
//! The house's cryptography library rightly does not offer it. Nothing here is fit for anything else: MD5 is broken,
//! and a resource that asks for it should be moved to SCRAM.

use zeroize::Zeroizing;

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The body of the PasswordMessage that answers AuthenticationMD5Password, terminating zero included:
/// `md5` and hex(md5(hex(md5(password ‖ user)) ‖ salt)).
pub(crate) fn answer(user: &[u8], password: &[u8], salt: [u8; 4]) -> Zeroizing<Vec<u8>> {
    let inner = Zeroizing::new([password, user].concat());
    let inner = Zeroizing::new(hex(&digest(&inner)).into_bytes());
    let outer = Zeroizing::new([inner.as_slice(), &salt].concat());
    let mut body = Zeroizing::new(Vec::with_capacity(36));
    body.extend_from_slice(b"md5");
    body.extend_from_slice(hex(&digest(&outer)).as_bytes());
    body.push(0);
    body
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

fn digest(input: &[u8]) -> [u8; 16] {
    // The length is counted in bits modulo 2^64; inputs here are a password and a name.
    let bits = u64::try_from(input.len()).unwrap_or(u64::MAX).wrapping_mul(8);
    let zeros = (120 - (input.len() + 1) % 64) % 64;
    let mut padded = Zeroizing::new(Vec::with_capacity(input.len() + 9 + zeros));
    padded.extend_from_slice(input);
    padded.push(0x80);
    let filled = padded.len() + zeros;
    padded.resize(filled, 0);
    padded.extend_from_slice(&bits.to_le_bytes());

    let mut state = START;
    let (blocks, _) = padded.as_chunks::<64>();
    for block in blocks {
        state = compress(state, block);
    }
    let mut out = [0; 16];
    for (slot, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *slot = word.to_le_bytes();
    }
    out
}

fn compress(state: [u32; 4], block: &[u8; 64]) -> [u32; 4] {
    let mut words = [0u32; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = state;
    for step in 0..64usize {
        let (mixed, index) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), (7 * step) % 16),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(constant(step)).wrapping_add(words[index % 16]);
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16 % 4][step % 4]));
    }
    let [w, x, y, z] = state;
    [w.wrapping_add(a), x.wrapping_add(b), y.wrapping_add(c), z.wrapping_add(d)]
}

/// The integer part of 2^32 · |sin(step + 1)|, as RFC 1321 §3.4 defines its table.
fn constant(step: usize) -> u32 {
    let radians = f64::from(u32::try_from(step).unwrap_or(0) + 1);
    // The value is below 2^32 and not negative, so the conversion only drops the fraction.
    (radians.sin().abs() * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_1321_hold() {
        for (input, expected) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex(&digest(input.as_bytes())), expected, "{input}");
        }
    }
}
