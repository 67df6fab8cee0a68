"""Logs, their trees and signatures, from the texts of RFC 8032 (Ed25519), RFC 6962 and C2SP signed-note, with the standard
library. Nothing of it is shared with the program."""

import base64
import hashlib

DASH = "\u2014"

# --- Ed25519 (RFC 8032, §5.1) ----------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def x_of(y, odd):
    """The x of a point, or None."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and odd):
        return None
    return P - x if x & 1 != odd else x


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, point):
    sum_ = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            sum_ = add(sum_, point)
        point, scalar = add(point, point), scalar >> 1
    return sum_


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (x_of(BASE_Y, 0), BASE_Y, 1, x_of(BASE_Y, 0) * BASE_Y % P)


def pack(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def unpack(text):
    y = int.from_bytes(text, "little")
    odd, y = y >> 255, y & (1 << 255) - 1
    x = x_of(y, odd) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    return scalar, digest[32:], pack(times(scalar, BASE))


def sign(seed, message):
    scalar, prefix, public = expand(seed)
    nonce = number(prefix, message) % L
    point = pack(times(nonce, BASE))
    return point + ((nonce + number(point, public, message) * scalar) % L).to_bytes(32, "little")


def verify(public, message, signature):
    key, point, s = unpack(public), unpack(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or key is None or point is None or s >= L:
        return False
    right = add(point, times(number(signature[:32], public, message) % L, key))
    return pack(times(s, BASE)) == pack(right)


# --- trees (RFC 6962, §2.1) and notes (C2SP) -------------------------------------------------------------

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def split(count):
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def root(leaves):
    if len(leaves) <= 1:
        return sha(b"\0", leaves[0]) if leaves else sha()
    k = split(len(leaves))
    return sha(b"\1", root(leaves[:k]), root(leaves[k:]))


def leaf_hash(leaf):
    return sha(b"\0", leaf)


def root_of(hashes):
    """The root over leaf hashes."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else sha()
    k = split(len(hashes))
    return sha(b"\1", root_of(hashes[:k]), root_of(hashes[k:]))


def proof(old, leaves, whole=True):
    """That the tree over the first `old` leaves is the beginning of the tree over all."""
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return proof(old, leaves[:k], whole) + [root(leaves[k:])]
    return proof(old - k, leaves[k:], False) + [root(leaves[:k])]


def b64(data):
    return base64.b64encode(data).decode()


def key_id(name, kind, public):
    return sha(name.encode(), b"\n", bytes([kind]), public)[:4]
