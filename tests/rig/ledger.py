"""A second reader of the ledger's files, made from docs/spec/ledger.md alone; it shares no code with the program."""

import dataclasses
import hashlib
import hmac
import json
import pathlib
import struct

MAGIC, HEADER, PRUNED = b"CLEDGER1", 16, 1 << 31 | 32


@dataclasses.dataclass(frozen=True)
class Frame:
    """One stored line: the file, the offset of its frame, its bytes."""

    file: pathlib.Path
    at: int
    line: bytes


def frames(state):
    """Every stored line of a state directory's ledger, in order; reading ends at the first that does not hold. Hashes of pruned
    entries are passed over."""
    for file in sorted((pathlib.Path(state) / "ledger/entries").glob("*.seg")):
        data = file.read_bytes()
        if data[:8] != MAGIC or int.from_bytes(data[8:HEADER], "big") != int(file.stem):
            raise ValueError(f"{file.name} does not begin as a segment does")
        at = HEADER
        while at + 8 <= len(data):
            size, check = struct.unpack_from("<II", data, at)
            if size == PRUNED:
                assert check == crc32c(data[at + 8 : at + 40])
                at += 40
                continue
            line = data[at + 8 : at + 8 + size]
            if size == 0 or crc32c(line) != check:
                break
            yield Frame(file, at, line)
            at += 8 + size


def entries(state):
    """Every entry, as a dictionary."""
    return [json.loads(frame.line) for frame in frames(state)]


def rewrite(frame, line):
    """Puts other bytes of the same length in a frame's place, with the right checksum: what a clever forger would do."""
    assert len(line) == len(frame.line)
    data = bytearray(frame.file.read_bytes())
    data[frame.at : frame.at + 8 + len(line)] = struct.pack("<II", len(line), crc32c(line)) + line
    frame.file.write_bytes(data)


def cut(frame):
    """Takes a frame and everything behind it away, as if never written."""
    data = frame.file.read_bytes()
    frame.file.write_bytes(data[: frame.at] + bytes(len(data) - frame.at))


def split(frame):
    """Makes a segment of its own of a frame and all behind it, as if the one before had been full. Nobody may have the ledger open."""
    data, first = frame.file.read_bytes(), json.loads(frame.line)["n"]
    (frame.file.parent / f"{first:020d}.seg").write_bytes(MAGIC + first.to_bytes(8, "big") + data[frame.at :])
    frame.file.write_bytes(data[: frame.at])


def chain(issuer, subject, groups, actors=()):
    """A person's delegation chain as the program hashes it."""

    def put(text):
        return struct.pack(">Q", len(text.encode())) + text.encode()

    out = put(issuer) + put(subject) + b"\0" + struct.pack(">Q", len(groups)) + b"".join(map(put, groups))
    return out + b"".join(put(actor_issuer) + put(actor) + bytes([kind]) for actor_issuer, actor, kind in actors)


def command_digest(state, resource, canonical_chain, rules, ask, statement, parameters=b""):
    """The digest that `ch` holds: SHA-256 over fields, each after its length (docs/spec/ledger.md, "Command digest")."""
    key = (state / "keys/fingerprint-hmac.key").read_bytes()
    salt = hmac.digest(key, b"chancery/command-salt/1" + canonical_chain, "sha256")
    fields = (b"chancery/command/2", salt, resource.encode(), b"postgres", canonical_chain, bytes.fromhex(rules), ask.encode(),
              statement.encode(), parameters)
    return hashlib.sha256(b"".join(struct.pack(">Q", len(field)) + field for field in fields)).hexdigest()


def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _table()


def crc32c(data):
    """CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
