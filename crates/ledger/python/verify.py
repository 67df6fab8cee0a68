#!/usr/bin/env python3
"""Verifies a ledger offline, by docs/spec/ledger.md and docs/spec/recording.md alone.

    python3 verify.py LEDGER_DIR --roots FILE_OR_TEXT [--recordings DIR] [--json]

Needs Python 3.9 and its standard library. Shares no code with the program that writes ledgers. Nothing that is read is
trusted: lengths are bounded before anything is allocated, links inside the directories are not followed, and what
grows with the ledger is kept in a temporary database on disk. Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 not a ledger,
64 usage.
"""
import argparse
import base64
import hashlib
import json
import os
import re
import sqlite3
import stat
import struct
import sys

PASS, INCONCLUSIVE, FAIL = GRAVITY = ("PASS", "INCONCLUSIVE", "FAIL")
CHECKS = ("lines", "order", "checkpoints", "ladder", "tail", "sessions", "rolling", "recordings")
MAX_ENTRY, MAX_NOTE, MAX_BLOCK = 61_440, 65_536, 1_048_576
ZERO = bytes(32)

# ledger.md, Entry: the kinds and their keys ("?" marks one that may be absent), besides those of every entry.
BASE = frozenset("v k o n t m b".split())
KINDS = """boot config dangerous loss_ms prof root size ver|shutdown reason|stall reason|heartbeat
key.epoch e key life_ms root sig size|policy.apply by? p source|principal a com|secret.change by? c change ver
session.open a auth c d p prof proto s|session.close acts cm? leaves reason roll s
act.start a c ch d fp p prof q rev? s x|act.done bytes cm? masked out q rows s sqlstate? us
act.deny a? c? ch? code d p q s|approval.request a c ch needed p q rev s until
approval.decide assurance by ch d rev sig?|approval.use ch q ref rev s|approval.end end rev
rec.segment blocks bytes cr file|view by s? what|gap cause from to|crash q? s|alert code s?"""
KINDS = {k: (BASE.union(w for w in keys if w[-1] != "?"), BASE.union(w.rstrip("?") for w in keys))
         for k, *keys in (row.split() for row in re.split(r"[|\n]", KINDS))}


def is_hex(digits):
    return lambda v: type(v) is str and re.fullmatch(f"[0-9a-f]{{{digits}}}", v)


def is_list(pattern):
    return lambda v: type(v) is list and all(type(w) is str and re.fullmatch(pattern, w) for w in v)


# The form of the values the page defines. `sig` is defined for key.epoch only and looked at there.
FORM = {"v": lambda v: type(v) is int and v == 1, "d": is_list("(?s).+"), "ref": is_list("[0-9]+:[0-9a-f]{64}"),
        "x": {"read", "write"}.__contains__, "end": {"expired", "withdrawn"}.__contains__,
        "out": {"completed", "failed", "skipped", "suspended", "unknown", "cancelled"}.__contains__,
        **dict.fromkeys(("k", "o", "rev"), lambda v: type(v) is str),
        **dict.fromkeys("n t m q e size life_ms acts leaves blocks bytes file".split(), lambda v: type(v) is int and v >= 0),
        **dict.fromkeys(("b", "s", "a", "by"), is_hex(32)),
        **dict.fromkeys(("p", "ch", "cm", "cr", "root", "roll", "key"), is_hex(64))}


class Check:
    """One check's result: the gravest finding, of equal ones that at the lowest entry."""

    def __init__(self):
        self.verdict, self.entry, self.what = PASS, None, None

    def note(self, verdict, entry, what):
        graver = GRAVITY.index(verdict) - GRAVITY.index(self.verdict)
        if graver > 0 or graver == 0 and entry is not None and (self.entry is None or entry < self.entry):
            self.verdict, self.entry, self.what = verdict, entry, what

    def fail(self, entry, what):
        self.note(FAIL, entry, what)

    def unsure(self, entry, what):
        self.note(INCONCLUSIVE, entry, what)


def verify(base, log, root_key, recordings):
    """Reads a ledger once, from its first entry to its last. `log` is name and key, `root_key` the key of epoch 0."""
    checks = {name: Check() for name in CHECKS}
    db = sqlite3.connect("")  # a database on disk that vanishes when it is closed
    db.executescript("""PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE boot (b PRIMARY KEY);
        CREATE TABLE stated (file INTEGER PRIMARY KEY, bytes, blocks, cr, entry);
        CREATE TABLE block (s, number INTEGER, hash, PRIMARY KEY (s, number)); CREATE INDEX hashes ON block (s, hash);""")
    tree, order, ladder = Tree(), Order(checks["order"], db), Ladder(checks["ladder"], log, root_key)
    sessions, spool = Sessions(checks["sessions"], checks["rolling"]), Recordings(checks["recordings"], db, recordings)
    marks = Checkpoints(base, checks["checkpoints"], log, ladder)
    marks.reached(tree)
    for line in stored_lines(base, checks["lines"]):
        n, leaf = tree.size, hashlib.sha256(b"\0" + line).digest()
        if n % 256 == 0:
            tile = read_tile(base, n // 256)
        if tile and tile[n % 256 * 32:][:32] != leaf:
            checks["lines"].fail(n, "the entry is not the one whose hash is in the tile")
        try:
            e = parse(line)
        except ValueError as problem:
            checks["lines"].fail(n, str(problem))
        else:
            if e["n"] != n or e["o"] != log[0]:
                checks["lines"].fail(n, "the entry states another index or another log")
            if e["k"] not in KINDS:
                checks["lines"].unsure(n, f"the kind {ascii(e['k'][:40])} is not known")
            order.entry(e, n)
            ladder.entry(e, n, tree)
            sessions.entry(e, n, leaf)
            spool.entry(e, n)
        tree.add(leaf)
        marks.reached(tree)
    marks.end(tree, checks["tail"])
    ladder.end()
    sessions.end()
    spool.end()
    db.close()
    return report(checks, tree, marks.differing)


def report(checks, tree, differing):
    """The result. The first wrong entry is the lowest that a failed check names. A tree that differs from a checkpoint
    names only the entries since the checkpoint before; that is left out if *lines* names one of them exactly."""
    failed = {name: c.entry for name, c in checks.items() if c.verdict == FAIL and c.entry is not None}
    if differing and "lines" in failed and failed["lines"] in differing:
        failed.pop("checkpoints", None)
    return {"size": tree.size, "root": tree.root().hex(),
            "verdict": max((c.verdict for c in checks.values()), key=GRAVITY.index),
            "first_bad_entry": min(failed.values(), default=None),
            "checks": [{"check": name, "verdict": c.verdict, "entry": c.entry, "what": c.what}
                       for name, c in checks.items()]}


# ---- Lines (ledger.md: Entry, Files) ----

def stored_lines(base, lines):
    """The entries' bytes from the segments. Ends at the first thing that does not hold: no place after it is sure."""
    n = 0
    for name in sorted(list_plain(base, "entries")):
        if not re.fullmatch(r"[0-9]{20}\.seg", name):
            continue
        file = open_plain(base, "entries", name)
        if file is None:
            return lines.fail(n, f"the segment {name} is not a plain file")
        with file:
            if int(name[:20]) != n or file.read(16) != b"CLEDGER1" + struct.pack(">Q", n):
                return lines.fail(n, f"the segment {name} does not begin with entry {n}")
            while True:
                head = file.read(8)
                length = int.from_bytes(head[:4], "little")
                if length == 0 or len(head) < 8:  # the end, if only zeros follow
                    rest = iter(lambda: file.read(1 << 20), b"")
                    if head.strip(b"\0") or any(chunk.strip(b"\0") for chunk in rest):
                        return lines.fail(n, "neither a whole frame nor only zeros follow the entry before")
                    break
                line = file.read(length) if length <= MAX_ENTRY else b""
                if len(line) != length or crc32c(line) != int.from_bytes(head[4:], "little"):
                    return lines.fail(n, "the frame is damaged: its length or its CRC does not hold")
                yield line
                n += 1


def read_tile(base, tile):
    """The 256 leaf hashes of a level-0 tile, or None if it is absent, cut, or not wholly written."""
    file = open_plain(base, "tiles", "0", f"{tile // 4096:08d}")
    if file is None:
        return None
    with file:
        file.seek(tile % 4096 * 8192)
        data = file.read(8192)
    return data if len(data) == 8192 and all(data[i:i + 32] != ZERO for i in range(0, 8192, 32)) else None


def sorted_object(pairs):
    keys = [key for key, _ in pairs]
    if keys != sorted(set(keys)):  # the order of code points is that of UTF-8's bytes
        raise ValueError("the keys of an object are not sorted, or one stands twice")
    return dict(pairs)


def integer(digits):
    if len(digits) > 20 or digits == "-0" or not -2**63 <= int(digits) < 2**63:
        raise ValueError("a number is out of bounds")
    return int(digits)


def refuse(_):
    raise ValueError("a number is not an integer")


DECODER = json.JSONDecoder(object_pairs_hook=sorted_object, parse_int=integer, parse_float=refuse, parse_constant=refuse)


def parse(line):
    """An entry, or ValueError saying what is wrong with its form. Of unknown kinds only the common keys are looked at."""
    try:
        text = line.decode("utf-8")
        if "\n" in text or "\r" in text:
            raise ValueError("the line holds a line end")
        e = DECODER.decode(text)
        if "\\u" in text:
            json.dumps(e, ensure_ascii=False).encode("utf-8")  # refuses halves of surrogate pairs
    except (UnicodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("the line is not JSON in UTF-8") from None
    if type(e) is not dict or not BASE <= e.keys() or not FORM["k"](e["k"]):
        raise ValueError("the line is not an object with the keys of every entry")
    required, allowed = KINDS.get(e["k"], (BASE, e.keys()))
    if not required <= e.keys() <= allowed:
        raise ValueError(f"the keys are not those of the kind {e['k']}")
    for key in e if e["k"] in KINDS else BASE:
        if key in FORM and not (type(e[key]) in (str, int, list) and holds(FORM[key], e[key])):
            raise ValueError(f"the value of {key} has not the required form")
    if e["k"] == "key.epoch" and not is_hex(128)(e["sig"]):
        raise ValueError("the value of sig has not the required form")
    return e


def holds(form, value):
    return form(value) if type(value) is not list or form in (FORM["d"], FORM["ref"]) else False


class Order:
    """ledger.md, Entry: t never falls, m never falls within a boot, a boot id that was left does not come back."""

    def __init__(self, check, db):
        self.check, self.db, self.last = check, db, {"t": 0, "m": 0, "b": None}

    def entry(self, e, n):
        last, self.last = self.last, e
        if e["t"] < last["t"]:
            self.check.fail(n, "the wall clock is earlier than in the entry before")
        if e["b"] == last["b"]:
            if e["m"] < last["m"]:
                self.check.fail(n, "the monotonic clock is earlier than in the entry before")
        elif not self.db.execute("INSERT OR IGNORE INTO boot VALUES (?)", (e["b"],)).rowcount:
            self.check.fail(n, "a boot id comes back that was left")


# ---- Checkpoints, ladder, tail (ledger.md: Epochs; Tree, checkpoints, tiles) ----

class Checkpoints:
    """The file `checkpoint` and those in `checkpoints`, each looked at when the tree has its size."""

    def __init__(self, base, check, log, ladder):
        self.base, self.check, self.log, self.ladder = base, check, log, ladder
        self.good, self.last, self.differing = 0, None, None  # last: the greatest size that the log's key signed
        self.waiting = [(int(name), ("checkpoints", name)) for name in list_plain(base, "checkpoints")
                        if re.fullmatch(r"[0-9]{1,20}", name)]
        if os.path.lexists(os.path.join(base, "checkpoint")):
            try:
                self.waiting.append((read_note(base, "checkpoint").size, ("checkpoint",)))
            except ValueError as problem:
                check.fail(None, f"checkpoint: {problem}")
        self.waiting.sort(reverse=True)
        self.any = bool(self.waiting)

    def reached(self, tree):
        """The checkpoints for a tree that has just reached its size."""
        good = self.good
        while self.waiting and self.waiting[-1][0] == tree.size:
            note = self.signed(*self.waiting.pop(), good)
            if note and note.root != tree.root():
                self.check.fail(good, f"the entries from {good} do not have the root of the checkpoint of {note.size}")
                self.differing = self.differing or range(good, note.size)
            elif note:
                self.good = note.size
            if note and note.size:
                self.ladder.sealed(note)

    def signed(self, size, path, good):
        """The checkpoint at a path, or None if it is not one of the size, signed by the log's key."""
        try:
            note = read_note(self.base, *path)
            if note.size != size:
                raise ValueError("it is for another size")
            if note.origin != self.log[0] or not note.holds(*self.log):
                raise ValueError("it has no signature by the log's key")
        except ValueError as problem:
            return self.check.fail(good, f"{'/'.join(path)}: {problem}")
        self.last = max(size, self.last or 0)
        return note

    def end(self, tree, tail):
        """Nothing below the last checkpoint is missing; entries after it are sealed by nothing yet."""
        for size, path in reversed(self.waiting):
            if self.signed(size, path, self.good):
                self.check.unsure(tree.size, f"there are too few entries for the root of the checkpoint of {size}")
        if not self.any:
            self.check.unsure(None, "no checkpoint was handed in")
        if self.last is None:
            tail.unsure(0, "there is no checkpoint that says how many entries there are")
        elif tree.size < self.last:
            tail.fail(tree.size, f"a checkpoint of {self.last} entries is signed, and {tree.size} are there")
        elif tree.size > self.last:
            tail.unsure(self.last, f"the entries from {self.last} are after the last checkpoint")


class Ladder:
    """ledger.md, Epochs: each key.epoch seals the entries before it by the key of the epoch before."""

    def __init__(self, check, log, root_key):
        self.check, self.log, self.root_key = check, log, root_key
        self.number, self.key, self.began = -1, log[1], None  # the running epoch; before the first, the log's key
        self.boot = None

    def entry(self, e, n, tree):
        if self.began and e["b"] == self.began["b"] and e["m"] - self.began["m"] > (self.began["life_ms"] + 60_000) * 1000:
            self.check.unsure(self.began["n"], f"epoch {self.number} lasted a minute longer than it was to last")
        if (e["b"] != self.boot) and e["k"] != "key.epoch":
            self.check.fail(n, "a log or a boot does not begin with a key.epoch")
        self.boot = e["b"]
        if e["k"] != "key.epoch":
            return
        key = bytes.fromhex(e["key"])
        text = "".join(f"{part}\n" for part in ("chancery/epoch/1", self.log[0], e["e"], e["key"], e["life_ms"],
                                                e["size"], e["root"]))
        if e["e"] != self.number + 1:
            self.check.fail(n, f"epoch {e['e']} follows epoch {self.number}" if self.began else "the first is not epoch 0")
        if e["size"] != n or e["root"] != tree.root().hex():
            self.check.fail(n, f"the size or root that epoch {e['e']} seals is not that of the entries before it")
        if not ed25519_holds(self.key, bytes.fromhex(e["sig"]), text.encode("utf-8")):
            self.check.fail(n, f"epoch {e['e']} is not signed by the key before it")
        if n == 0 and self.root_key not in (None, key):
            self.check.fail(n, "the key of epoch 0 is not the ladder's root")
        self.number, self.key, self.began = e["e"], key, {**e, "n": n}

    def sealed(self, note):
        """A checkpoint has the signature of the epoch of its last entry."""
        if self.began and not note.holds(f"{self.log[0]}/epoch/{self.number}", self.key):
            self.check.fail(self.began["n"], f"the checkpoint of {note.size} lacks the signature of epoch {self.number}")

    def end(self):
        if self.root_key is None:
            self.check.unsure(0, "the ladder's root was not handed in")
        if self.boot is None:
            self.check.unsure(None, "there is no epoch")


# ---- Sessions, rolling (ledger.md: Sessions) ----

class Session:
    __slots__ = ("entry", "acts", "leaves", "roll", "running", "used")

    def __init__(self, entry):
        self.entry, self.acts, self.leaves, self.roll, self.running, self.used = entry, 0, 0, ZERO, {}, set()


class Sessions:
    """What begins in a session is closed once, and the session after it; the close states the session's leaves."""
    LEAVES = {"session.open", "act.start", "act.done", "act.deny", "approval.request", "approval.use"}

    def __init__(self, check, rolling):
        self.check, self.rolling, self.open = check, rolling, {}

    def entry(self, e, n, leaf):
        kind, s = e["k"], self.open.get(e.get("s"))
        if kind == "session.open":
            if s:
                self.check.fail(n, "a session is opened that is open")
            s = self.open[e["s"]] = Session(n)
        elif kind == "act.start":
            if not s or e["q"] in s.used:
                self.check.fail(n, "a command is started outside an open session, or for the second time")
            else:
                s.running[e["q"]] = n
                s.used.add(e["q"])
        elif kind == "act.done" or kind == "crash" and "q" in e:
            if not s or s.running.pop(e["q"], None) is None:
                self.check.fail(n, "a command is closed that is not running")
        elif kind in ("session.close", "crash"):
            if not s:
                return self.check.fail(n, "a session is closed that is not open")
            if s.running:
                self.check.fail(n, f"a session is closed before its command of entry {min(s.running.values())}")
            if kind == "session.close" and (e["acts"], e["leaves"], e["roll"]) != (s.acts, s.leaves, s.roll.hex()):
                self.rolling.fail(n, "the close states other commands or leaves than the session has")
            del self.open[e["s"]]
        if s and (kind in self.LEAVES or kind == "crash" and "q" in e):
            s.acts, s.leaves = s.acts + (kind == "act.start"), s.leaves + 1
            s.roll = hashlib.sha256(s.roll + leaf).digest()

    def end(self):
        if self.open:
            first = min(s.entry for s in self.open.values())
            self.check.unsure(first, f"sessions are open at the end: {len(self.open)}, the first since entry {first}")


# ---- Recordings (recording.md) ----

class Recordings:
    """The chains of blocks, followed before the ledger is read, and what the ledger says of them."""
    BLOCK = struct.Struct(">4s16sQ32sB3sIII")

    def __init__(self, check, db, base):
        self.check, self.db, self.base, self.spool = check, db, base, {}
        self.first = self.lost = self.gap = self.broken = None  # entries of the ledger; the last two: files
        self.missing = False
        for name in sorted(list_plain(base, "files") if base else ()):
            file = open_plain(base, "files", name) if re.fullmatch(r"[0-9]{12}\.rec", name) else None
            if file:
                with file:
                    self.spool[int(name[:12])] = self.blocks(int(name[:12]), file)
        self.unstated = set(self.spool)

    def blocks(self, number, file):
        """Length, blocks and hash of a file up to its last whole block (recording.md, Block and Files)."""
        size, count, digest = 0, 0, hashlib.sha256()
        while len(head := file.read(76)) == 76:
            magic, s, block, before, codec, zero, decoded, length, crc = self.BLOCK.unpack(head)
            if magic != b"CRB1" or block >= 2**63 or codec > 1 or any(zero) or not length <= decoded <= MAX_BLOCK:
                break
            payload = file.read(length)
            if len(payload) != length or crc32c(head[:72] + payload) != crc or codec == 0 and length != decoded:
                break
            size, count = size + 76 + length, count + 1
            digest.update(head + payload)
            link = (ZERO,) if block == 0 else self.one("SELECT hash FROM block WHERE s=? AND number=?", s, block - 1)
            if link is None:
                self.gap = number if self.gap is None else self.gap
            added = self.db.execute("INSERT OR IGNORE INTO block VALUES (?, ?, ?)",
                                    (s, block, hashlib.sha256(b"\2" + head + payload).digest())).rowcount
            if (link and link[0] != before or not added) and self.broken is None:
                self.broken = number
        return size, count, digest.hexdigest()

    def one(self, query, *values):
        return self.db.execute(query, values).fetchone()

    def entry(self, e, n):
        if e["k"] == "rec.segment":
            self.segment(e["file"], (e["bytes"], e["blocks"], e["cr"]), n)
        elif e["k"] in ("act.done", "session.close") and "cm" in e:
            s = bytes.fromhex(e["s"])
            found = self.one("SELECT number FROM block WHERE s=? AND hash=?", s, bytes.fromhex(e["cm"]))
            if not found:
                self.lost = n if self.lost is None else self.lost
            elif e["k"] == "session.close" and found != self.one("SELECT max(number) FROM block WHERE s=?", s):
                self.check.fail(n, "the session has blocks after the one that its close calls the last")
        else:
            return
        self.first = n if self.first is None else self.first

    def segment(self, file, words, n):
        """rec.segment states a file; after a crash perhaps twice, in the same words."""
        before = self.one("SELECT bytes, blocks, cr FROM stated WHERE file=?", file)
        self.db.execute("INSERT OR IGNORE INTO stated VALUES (?, ?, ?, ?, ?)", (file, *words, n))
        if before and before != words:
            self.check.fail(n, f"recording file {file} is stated a second time in other words")
        self.unstated.discard(file)
        if file not in self.spool:
            self.missing = True
            self.check.unsure(n, f"recording file {file} is not there")
        elif self.spool[file] != words:
            self.check.fail(n, f"recording file {file} has not the length, blocks or hash that are stated")

    def end(self):
        if not self.base:
            return self.check.unsure(self.first, "no recordings were handed in")
        verdict = INCONCLUSIVE if self.missing else FAIL  # a file that is not there may hold what is not found
        if self.lost is not None:
            self.check.note(verdict, self.lost, "there is no recording block with the hash that the entry states")
        for what, file, grave in (("lacks the block before", self.gap, verdict), ("breaks its chain", self.broken, FAIL)):
            if file is not None:
                entry = self.one("SELECT entry FROM stated WHERE file=?", file)
                self.check.note(grave, entry and entry[0], f"a block in recording file {file} {what}")
        if self.unstated:
            self.check.unsure(None, f"the ledger does not state recording file {min(self.unstated)}")


# ---- Files ----

def list_plain(base, *parts):
    """The names in a directory below base; none if it, or one on the way to it, is absent or a link."""
    path = base
    for part in parts:
        path = os.path.join(path, part)
        if not os.path.lexists(path) or not stat.S_ISDIR(os.lstat(path).st_mode):
            return []
    return os.listdir(path)


def open_plain(base, *parts):
    """A plain file below base, open for reading; None if it is absent, or anything on the way to it is a link."""
    if len(parts) > 1 and not list_is_plain(base, parts[:-1]):
        return None
    try:
        file = open(os.path.join(base, *parts), "rb", opener=lambda p, flags: os.open(p, flags | NO_LINKS))
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    return file.close()
