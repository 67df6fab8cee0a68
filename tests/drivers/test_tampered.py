"""What hands can do to a real ledger, and that two verifiers which share no code say the same of it: `chancery ledger verify`
and crates/ledger/python/verify.py. The numbers are those of an auditor's list of fifteen; those that need a pack or what is not
built yet are not here: 6, 10 to 15."""

import base64
import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import pytest

from rig import gateway as gateways
from rig import ledger
from rig.need import need
from rig.process import ROOT
from rig.tlog import DASH, b64, expand, key_id, leaf_hash, root_of, sign

PYTHON = ROOT / "crates/ledger/python/verify.py"


class Copy:
    """A copy of a state directory that can be changed, and written as a careful hand would: with right checksums."""

    def __init__(self, state, roots, program):
        self.state, self.roots, self.program = pathlib.Path(state), roots, program
        self.lines = [frame.line for frame in ledger.frames(state)]
        self.origin = (self.state / "origin").read_text().strip()
        self.checkpoint = self.state / "ledger/checkpoint"

    def entries(self):
        return [json.loads(line) for line in self.lines]

    def write(self, lines, tiles=False):
        """Puts the ledger down anew; without tiles, which would tell."""
        for file in (self.state / "ledger/entries").glob("*.seg"):
            file.unlink()
        frames = b"".join(struct.pack("<II", len(line), ledger.crc32c(line)) + line for line in lines)
        first = self.state / "ledger/entries" / f"{0:020}.seg"
        first.write_bytes(b"CLEDGER1" + bytes(8) + frames + bytes(4096))
        if not tiles:
            shutil.rmtree(self.state / "ledger/tiles", ignore_errors=True)
        self.lines = lines

    def seeds(self):
        """The log's seed and those of epochs that a thief finds here."""
        epochs = dict(line.split() for line in (self.state / "keys/epoch").read_text().splitlines())
        return (self.state / "keys/log-ed25519.seed").read_bytes(), {int(n): bytes.fromhex(seed) for n, seed in epochs.items()}

    def note(self, lines, *signers):
        """A checkpoint over these lines, signed under each name with each seed."""
        body = f"{self.origin}\n{len(lines)}\n{b64(root_of([leaf_hash(line) for line in lines]))}\n"
        signed = "".join(f"{DASH} {name} {b64(key_id(name, 1, expand(seed)[2]) + sign(seed, body.encode()))}\n"
                         for name, seed in signers)
        return f"{body}\n{signed}"

    def both(self, *extra, says=()):
        """What the two verifiers say: verdict, first bad entry and checks by name, in the words of ours. They agree in the
        verdict, in what they read, and in the checks that are named in `says`; how much of the form each of them looks at
        beyond that is its own affair."""
        words = ["ledger", "verify", self.state, "--roots", self.roots, *extra, "--json"]
        ours = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True, timeout=60)
        one = json.loads(ours.stdout)
        checks = {each["check"]: each for each in one["findings"]}
        if not extra:
            theirs = subprocess.run([sys.executable, PYTHON, self.state, "--roots", self.roots, "--json"],
                                    capture_output=True, text=True, timeout=60)
            other = json.loads(theirs.stdout)
            others = {each["check"]: each for each in other["checks"]}
            assert (one["verdict"], one["root"], one["entries"]) == (other["verdict"], other["root"], other["size"]), (one, other)
            assert ours.returncode == theirs.returncode
            assert (one["first_bad_entry"] is None) == (other["first_bad_entry"] is None) or "checkpoints" in says, (one, other)
            for name in says or (checks if one["verdict"] == "PASS" else ()):
                assert checks[name]["verdict"] == others[name]["verdict"], (name, one, other)
        return one["verdict"], one["first_bad_entry"], checks


def renumber(line, index):
    entry = json.loads(line)
    return line.replace(b'"n":%d,' % entry["n"], b'"n":%d,' % index)


@pytest.fixture(scope="module")
def server(servers):
    return servers("distribution")


@pytest.fixture(scope="module")
def true(directory, authority, provider, server):
    """A ledger with three epochs and some sessions, made by a gateway in front of a real server, and stopped in order."""
    where = pathlib.Path(tempfile.mkdtemp(prefix="tampered-", dir=directory))
    server.psql("CREATE DATABASE tampered")
    server.psql("CREATE TABLE items (id integer PRIMARY KEY, name text)", "tampered")
    front = need(lambda: gateways.Gateway(where / "home", provider, {"shop": (server, "tampered")}, ca=authority.certificate))
    front.prepare()
    roots = where / "auditor.roots"
    shutil.copy(front.directory / "state/ledger.vkey", roots)
    for turn in range(3):
        front.start()
        for turn_of, who in enumerate(("ada", "ada")):
            with front.connect("shop", provider.person(who)) as line:
                for number in range(4):
                    line.query(f"INSERT INTO items VALUES ({turn * 100 + number + 10 * turn_of}, '{who}')")
                    line.query("SELECT count(*) FROM items")
        assert front.stop() == 0
    yield front.directory / "state", roots, front.program
    server.psql("DROP DATABASE tampered WITH (FORCE)")


@pytest.fixture
def copy(true, tmp_path):
    state, roots, program = true
    shutil.copytree(state, tmp_path / "state")
    return Copy(tmp_path / "state", roots, program)


def test_0_what_nobody_touched_passes(copy):
    verdict, bad, checks = copy.both()
    assert (verdict, bad) == ("PASS", None), checks


def tile_path(level, index, width):
    """C2SP tlog-tiles, "Merkle Tree": groups of three digits, and the width of a partial tile."""
    path, rest = f"{index % 1000:03}", index // 1000
    while rest:
        path, rest = f"x{rest % 1000:03}/{path}", rest // 1000
    return f"tile/{level}/{path}" + ("" if width == 256 else f".p/{width}")


def test_the_layout_of_tiles_holds_the_same_tree(copy, tmp_path):
    """`ledger export`: entries, tiles and checkpoint as any reader of C2SP tlog-tiles finds them."""
    out = tmp_path / "out"
    said = subprocess.run([copy.program, "ledger", "export", out, "--from", copy.state, "--json"], capture_output=True, text=True,
                          timeout=60)
    assert said.returncode == 0, said.stderr
    body = (out / "checkpoint").read_text().split("\n\n")[0].splitlines()
    origin, size, root = body[0], int(body[1]), base64.b64decode(body[2])
    assert (origin, size) == (copy.origin, len(copy.lines))
    entries, hashes = [], []
    for index in range((size + 255) // 256):
        width = min(256, size - 256 * index)
        data = (out / tile_path("entries", index, width)).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2:2 + length])
            data = data[2 + length:]
        tile = (out / tile_path(0, index, width)).read_bytes()
        hashes += [tile[at:at + 32] for at in range(0, len(tile), 32)]
    assert entries == copy.lines and hashes == [leaf_hash(line) for line in entries]
    assert root_of(hashes) == root
    again = subprocess.run([copy.program, "ledger", "export", out, "--from", copy.state], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1 and "hint: " in again.stderr


def test_1_delete_a_middle_record(copy):
    """The record is gone and all behind it are numbered anew, so that only the tree and the session tell."""
    at = next(n for n, entry in enumerate(copy.entries()) if n > 40 and entry["k"] == "act.done")
    copy.write(copy.lines[:at] + [renumber(line, n) for n, line in enumerate(copy.lines[at + 1:], at)])
    verdict, bad, checks = copy.both()
    assert verdict == "FAIL" and bad is not None and bad <= at
    assert checks["rolling"]["verdict"] == "FAIL" or checks["sessions"]["verdict"] == "FAIL"
    assert checks["tail"]["verdict"] == "FAIL" and checks["ladder"]["verdict"] == "FAIL"


def test_2a_truncate_the_tail_below_what_was_signed(copy):
    copy.write(copy.lines[:-5])
    verdict, bad, checks = copy.both()
    assert verdict == "FAIL" and checks["tail"]["entry"] == len(copy.lines)


def test_2b_the_last_entries_are_not_signed_yet(copy):
    """An older checkpoint stands: what came behind it is named exactly, and is never PASS."""
    log, epochs = copy.seeds()
    last = max(epochs)
    signers = [(copy.origin, log), (f"{copy.origin}/epoch/{last}", epochs[last])]
    copy.checkpoint.write_text(copy.note(copy.lines[:-3], *signers))
    for kept in (copy.state / "ledger/checkpoints").glob("*"):
        if int(kept.name) > len(copy.lines) - 3:
            kept.unlink()
    verdict, bad, checks = copy.both()
    assert (verdict, bad) == ("INCONCLUSIVE", None), checks
    assert checks["tail"]["entry"] == len(copy.lines) - 3


def test_3_rewrite_history_with_the_current_key(copy):
    """Who has all keys of today changes one row count of the first epoch, and makes everything behind it anew: times, roots of
    epochs, their signatures with the only epoch's key that is left, and every checkpoint."""
    log, epochs = copy.seeds()
    last = max(epochs)
    lines, roll = [], {}
    changed = None
    for line in copy.lines:
        entry = json.loads(line)
        if changed is None and entry["k"] == "act.done" and entry.get("rows") == 1:
            entry["rows"], changed = 7, entry["n"]
        if changed is not None and entry["k"] == "key.epoch":
            entry["root"] = root_of([leaf_hash(one) for one in lines]).hex()
            text = "\n".join(["chancery/epoch/1", copy.origin, str(entry["e"]), entry["key"], str(entry["life_ms"]),
                              str(entry["size"]), entry["root"], ""])
            entry["sig"] = sign(epochs[last], text.encode()).hex()
        kind, session = entry["k"], entry.get("s")
        if kind == "session.open":
            roll[session] = bytes(32)
        if kind == "session.close" and changed is not None:
            entry["roll"] = roll[session].hex()
        made = json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()
        assert changed is not None or made == line
        lines.append(made)
        within = kind in ("session.open", "act.start", "act.done", "act.deny", "approval.request", "approval.use")
        if session in roll and (within or (kind == "crash" and "q" in entry)):
            roll[session] = hashlib.sha256(roll[session] + leaf_hash(made)).digest()
    assert changed is not None and changed < len(lines) // 2
    copy.write(lines)
    note = copy.note(lines, (copy.origin, log), (f"{copy.origin}/epoch/{last}", epochs[last]))
    copy.checkpoint.write_text(note)
    shutil.rmtree(copy.state / "ledger/checkpoints")
    verdict, bad, checks = copy.both()
    assert verdict == "FAIL", "the epochs that ended are sealed"
    assert checks["ladder"]["verdict"] == "FAIL", checks
    assert [name for name, check in checks.items() if check["verdict"] == "FAIL"] == ["ladder"], "nothing else tells"


def test_4_reorder_or_renumber_two_leaves(copy):
    entries = copy.entries()
    at = next(n for n in range(40, len(entries) - 2)
              if entries[n]["k"] == "act.start" and entries[n + 2]["k"] == "act.start" and entries[n]["s"] == entries[n + 2]["s"])
    lines = list(copy.lines)
    lines[at], lines[at + 2] = renumber(lines[at + 2], at), renumber(lines[at], at + 2)
    copy.write(lines)
    verdict, bad, _ = copy.both()
    assert verdict == "FAIL" and bad <= at
    copy.write([copy.lines[0], *copy.lines[2:3], *copy.lines[1:2], *copy.lines[3:]])
    assert copy.both()[:2] == ("FAIL", 0) or copy.both()[:2] == ("FAIL", 1)


def blocks(file):
    """Offset and bytes of every block of a file of recordings (docs/spec/recording.md)."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        stored = int.from_bytes(data[at + 100:at + 104], "big")
        yield at, data[at:at + 108 + stored]
        at += 108 + stored


def test_5_swap_recordings_between_two_sessions(copy):
    """Two sessions' first blocks change their names, with right checksums: each recording is whole, and the other's."""
    file = next(one for one in sorted((copy.state / "recordings/files").glob("*.rec")) if len(list(blocks(one))) > 1)
    firsts = [(at, block) for at, block in blocks(file) if block[20:28] == bytes(8)]
    (one_at, one), (other_at, other) = firsts[0], next(first for first in firsts if first[1][4:20] != firsts[0][1][4:20])
    data = bytearray(file.read_bytes())
    for at, block, session in ((one_at, one, other[4:20]), (other_at, other, one[4:20])):
        head = block[:4] + session + block[20:104]
        data[at:at + 108] = head + struct.pack(">I", ledger.crc32c(head + block[108:]))
    file.write_bytes(data)
    verdict, _, checks = copy.both()
    assert verdict == "FAIL" and checks["recordings"]["verdict"] == "FAIL", checks


def test_7_split_view(copy, tmp_path):
    """The security team was shown another tree of the same size: either copy passes alone, and both together never."""
    log, epochs = copy.seeds()
    last = max(epochs)
    other = list(copy.lines)
    other[-1] = other[-1].replace(b'"shutdown"', b'"Shutdown"') if b'"shutdown"' in other[-1] else other[-1][:-1] + b" }"
    note = copy.note(other, (copy.origin, log), (f"{copy.origin}/epoch/{last}", epochs[last]))
    shown = tmp_path / "shown-to-others"
    shown.write_text(note)
    assert copy.both()[0] == "PASS"
    verdict, _, checks = copy.both("--checkpoint", shown)
    assert verdict == "FAIL" and "forked" in checks["checkpoints"]["what"], checks
    # The second verifier takes it as one of the directory's own.
    (copy.state / "ledger/checkpoints" / "99999999999999999999").write_text(note)
    verdict, _, checks = copy.both()
    assert verdict == "FAIL" and checks["checkpoints"]["verdict"] == "FAIL"


def test_9_seal_downgrade(copy):
    """Signatures stripped; an old range sealed again with a newer key; an idle epoch skipped."""
    note = copy.checkpoint.read_text()
    head, _, signatures = note.partition("\n\n")
    alone = [line for line in signatures.splitlines() if "/epoch/" not in line]
    copy.checkpoint.write_text(f"{head}\n\n" + "".join(f"{line}\n" for line in alone))
    for kept in (copy.state / "ledger/checkpoints").glob("*"):
        kept.unlink()
    verdict, _, checks = copy.both()
    assert verdict == "FAIL" and checks["ladder"]["verdict"] == "FAIL", checks
    # A head of an epoch that ended, sealed with the key of today.
    log, epochs = copy.seeds()
    last = max(epochs)
    ends = [entry["n"] for entry in copy.entries() if entry["k"] == "key.epoch"]
    old = copy.lines[:ends[2]]
    copy.checkpoint.write_text(note)
    resealed = copy.note(old, (copy.origin, log), (f"{copy.origin}/epoch/{last}", epochs[last]))
    (copy.state / "ledger/checkpoints" / f"{len(old):020}").write_text(resealed)
    verdict, _, checks = copy.both()
    assert verdict == "FAIL" and checks["ladder"]["entry"] == ends[2] - 1, checks
    # The entry of an epoch is taken out.
    (copy.state / "ledger/checkpoints" / f"{len(old):020}").unlink()
    lines = copy.lines[:ends[2]] + [renumber(line, n) for n, line in enumerate(copy.lines[ends[2] + 1:], ends[2])]
    copy.write(lines)
    verdict, _, checks = copy.both()
    assert verdict == "FAIL" and checks["ladder"]["verdict"] == "FAIL", checks


def test_the_log_key_alone_leaves_the_ladder_open(copy, tmp_path):
    alone = tmp_path / "log.key"
    alone.write_text(copy.roots.read_text().split()[0])
    copy.roots = alone
    verdict, _, checks = copy.both()
    assert (verdict, checks["ladder"]["verdict"]) == ("INCONCLUSIVE", "INCONCLUSIVE")


def test_every_byte_of_an_entry(copy):
    """A byte of each entry, with the right checksum, where tiles tell and where they do not."""
    lines = list(copy.lines)
    for index in range(0, len(lines), 7):
        at = (index * 31) % len(lines[index])
        changed = bytearray(lines[index])
        changed[at] ^= 1
        copy.write([*lines[:index], bytes(changed), *lines[index + 1:]])
        verdict, bad, _ = copy.both()
        assert verdict == "FAIL" and bad <= index, (index, at)
    copy.write(lines)
    assert copy.both()[0] == "PASS", base64.b64encode(lines[0])
