#!/usr/bin/env python3
"""Verifies a ledger offline, by docs/spec/ledger.md and docs/spec/recording.md alone. Shares no code with the writer.
Nothing that is read is trusted: lengths are bounded before anything is allocated, links inside the directories are
not followed, and what grows with the ledger is kept in a temporary database on disk.
Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 not readable as a ledger, 64 usage."""
import argparse, base64, hashlib, json, os, re, sqlite3, struct, sys

GRAVITY = PASS, INCONCLUSIVE, FAIL = "PASS", "INCONCLUSIVE", "FAIL"
CHECKS = "lines", "order", "checkpoints", "ladder", "tail", "sessions", "rolling", "recordings"
MAX_ENTRY, MAX_NOTE, MAX_BLOCK = 61_440, 65_536, 1_048_576

# ledger.md, Entry: the kinds and their keys ("?" behind one that may be absent), besides those of every entry.
BASE = frozenset("v k o n t m b".split())
KINDS = """boot config dangerous loss_ms prof root size ver/shutdown reason/stall reason/heartbeat
key.epoch e key life_ms root sig size/policy.apply by? p source/principal a com/secret.change by? c change ver
session.open a auth c d p prof proto s/session.close acts cm? leaves reason roll s
act.start a c ch d fp p prof q rev? s x/act.done bytes cm? masked out q rows s sqlstate? us
act.deny a? c? ch? code d p q s/approval.request a c ch needed p q rev s until
approval.decide assurance by ch d rev sig?/approval.use ch q ref rev s/approval.end end rev
rec.segment blocks bytes cr file/view by s? what/gap cause from to/crash q? s/alert code s?"""
KINDS = {kind: (BASE.union(w for w in keys if w[-1] != "?"), BASE.union(w.rstrip("?") for w in keys))
         for kind, *keys in map(str.split, re.split("[/\n]", KINDS))}

def text(pattern):
    return lambda v: type(v) is str and re.fullmatch(pattern, v, re.S) is not None

def texts(pattern):
    return lambda v: type(v) is list and v != [] and all(map(text(pattern), v))

FORM = {  # of the values whose form ledger.md gives; that of `sig` in key.epoch only
    "v": lambda v: type(v) is int and v == 1, "k": text(".+"), "o": text(".+"), "x": text("read|write"),
    "out": text("completed|failed|skipped|suspended|unknown|cancelled"), "end": text("expired|withdrawn"),
    "d": texts(".*"), "ref": texts("[0-9]+:[0-9a-f]{64}"), "key.epoch sig": text("[0-9a-f]{128}"),
    **dict.fromkeys("n t m q e size life_ms acts leaves blocks bytes file".split(), lambda v: type(v) is int and v > -1),
    **dict.fromkeys("b s a by".split(), text("[0-9a-f]{32}")),
    **dict.fromkeys("p ch cm cr root roll key".split(), text("[0-9a-f]{64}"))}

class Verifier:
    """Reads a ledger once, front to back. `log`: name and key. `root_key`: the key of epoch 0, or None."""

    def __init__(self, base, log, root_key, recordings):
        self.base, self.log, self.root_key, self.recordings = base, log, root_key, recordings
        self.found = dict.fromkeys(CHECKS, (PASS, None, None))
        self.tree, self.tile, self.last, self.sessions = Tree(), None, None, {}  # the entry before; the open sessions
        self.epoch, self.epoch_key = None, log[1]  # the running epoch's entry and key; epoch 0 is signed by the log's
        self.waiting, self.good, self.differing = [], 0, ()  # checkpoints to come, and the size of the last good one
        self.db = sqlite3.connect("")  # on disk, and gone when it is closed
        self.db.executescript("""PRAGMA journal_mode=OFF; CREATE TABLE boot (b PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE spool (file PRIMARY KEY, bytes, blocks, cr); CREATE TABLE claim (entry, s, hash, last);
            CREATE TABLE stated (entry, file, bytes, blocks, cr, UNIQUE (file, bytes, blocks, cr));
            CREATE TABLE block (s, number, hash, before, file, PRIMARY KEY (s, number)); CREATE INDEX h ON block (s, hash)""")

    def hold(self, holds, check, entry, what, verdict=FAIL):
        """If it does not hold: the verdict. A check keeps its gravest finding, of equal ones that of the lowest entry."""
        if not holds:
            (old, at, _), rank = self.found[check], GRAVITY.index
            if rank(verdict) > rank(old) or verdict == old and entry is not None and (at is None or entry < at):
                self.found[check] = verdict, entry, what
        return holds

    def insert(self, table, *row):
        return self.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row).rowcount > 0

    def run(self):
        self.read_recordings()
        signed = self.read_checkpoints()
        for line in self.stored_lines():
            self.entry(line, self.tree.size)
        size, root = self.tree.size, self.tree.root()
        self.hold(not self.waiting, "checkpoints", size, "too few entries for the root of a checkpoint", INCONCLUSIVE)
        if self.hold(signed is not None, "tail", 0, "no checkpoint says how many entries there are", INCONCLUSIVE):
            self.hold(size >= signed, "tail", size, f"{size} entries are here, and {signed} in a signed checkpoint")
            self.hold(size <= signed, "tail", signed, "entries follow the last checkpoint", INCONCLUSIVE)
        self.hold(self.root_key and self.last, "ladder", 0, "no entry, or no ladder's root, handed in", INCONCLUSIVE)
        first = min((s["n"] for s in self.sessions.values()), default=None)
        self.hold(first is None, "sessions", first, f"open at the end: {len(self.sessions)} sessions", INCONCLUSIVE)
        self.end_recordings()
        failed = {c: entry for c, (verdict, entry, _) in self.found.items() if verdict == FAIL and entry is not None}
        if failed.get("lines") in self.differing:  # *lines* names the entry, a checkpoint's root only a range of them
            failed.pop("checkpoints", None)
        return {"size": size, "root": root.hex(), "verdict": max((f[0] for f in self.found.values()), key=GRAVITY.index),
                "first_bad_entry": min(failed.values(), default=None),
                "checks": [dict(zip(("check", "verdict", "entry", "what"), (c, *self.found[c]))) for c in CHECKS]}

    # ---- ledger.md, Entry and Files: lines, order ----

    def stored_lines(self):
        """The entries' bytes. Ends at the first thing that does not hold, since no place after it is certain."""
        for name, path in files(self.base, "entries", pattern=r"[0-9]{20}\.seg"):
            with open(path, "rb") as file:
                start, size = file.read(16), self.tree.size
                if not self.hold(start == b"CLEDGER1" + struct.pack(">Q", size) and int(name[:20]) == size,
                                 "lines", size, f"the segment {name} does not begin with this entry"):
                    return
                while True:
                    head = file.read(8)
                    length = int.from_bytes(head[:4], "little")
                    if length == 0 or len(head) < 8:  # the end, if only zeros follow
                        whole = not any(chunk.strip(b"\0") for chunk in (head, *iter(lambda: file.read(1 << 20), b"")))
                    else:
                        line = file.read(length) if length <= MAX_ENTRY else b""
                        whole = len(line) == length and crc32c(line) == int.from_bytes(head[4:], "little")
                    if not self.hold(whole, "lines", self.tree.size, "neither a whole frame nor only zeros are here"):
                        return
                    if length == 0 or len(head) < 8:
                        break
                    yield line

    def entry(self, line, n):
        leaf = sha256(b"\0" + line)
        if n % 256 == 0:
            self.tile = read_tile(self.base, n // 256)
        same = self.tile is None or self.tile[n % 256 * 32:][:32] == leaf
        self.hold(same, "lines", n, "the entry is not the one whose hash is in the tile")
        try:
            e = parse(line)
            self.hold(e["n"] == n and e["o"] == self.log[0], "lines", n, "the entry states another index or log")
            self.hold(e["k"] in KINDS, "lines", n, f"the kind {ascii(e['k'][:40])} is not known", INCONCLUSIVE)
            same = self.last is not None and e["b"] == self.last["b"]
            self.order(e, n, self.last, same)
            self.ladder(e, n, self.epoch, same)
            self.session(e, n, leaf)
            self.recording(e, n)
            self.last = e
        except ValueError as problem:
            self.hold(False, "lines", n, f"the form: {problem}")
        self.tree.push(leaf)
        self.checkpoints(self.tree.size)

    def order(self, e, n, last, same_boot):
        self.hold(not last or e["t"] >= last["t"], "order", n, "the wall clock is earlier than in the entry before")
        self.hold(not same_boot or e["m"] >= last["m"], "order", n, "the monotonic clock is earlier than before")
        self.hold(same_boot or self.insert("boot", e["b"]), "order", n, "a boot id comes back that was left")

    # ---- ledger.md, Epochs and Tree: ladder, checkpoints, tail ----

    def ladder(self, e, n, now, same_boot):
        """Each key.epoch seals the entries before it by the key of the epoch before, the running one, `now`."""
        late = now and now["b"] == e["b"] and e["m"] - now["m"] > (now["life_ms"] + 60_000) * 1000
        self.hold(not late, "ladder", now and now["at"], "the epoch lasted a minute longer than life_ms", INCONCLUSIVE)
        if e["k"] != "key.epoch":
            return self.hold(same_boot, "ladder", n, "a log or a boot does not begin with a key.epoch")
        parts = "chancery/epoch/1", self.log[0], e["e"], e["key"], e["life_ms"], e["size"], e["root"]
        signed, key = "".join(f"{part}\n" for part in parts).encode("utf-8"), bytes.fromhex(e["key"])
        sealed = ed25519_holds(self.epoch_key, bytes.fromhex(e["sig"]), signed)
        self.hold(e["e"] == (now["e"] + 1 if now else 0), "ladder", n, "the epoch's number does not follow")
        self.hold(e["size"] == n, "ladder", n, "the size that the epoch states is not its place")
        self.hold(e["root"] == self.tree.root().hex(), "ladder", n, "the entries before have not the root stated here")
        self.hold(sealed, "ladder", n, "the epoch is not signed by the key before it")
        self.hold(now or self.root_key in (None, key), "ladder", n, "the first epoch's key is not the ladder's root")
        self.epoch, self.epoch_key = {**e, "at": n}, key

    def read_checkpoints(self):
        """The greatest size that the log's key signed, or None. A damaged checkpoint concerns no entry."""
        for name, path in files(self.base, pattern="checkpoint") + files(self.base, "checkpoints", pattern="[0-9]{1,20}"):
            try:
                note = Note(path)
                mine = note.origin == self.log[0] and name in ("checkpoint", str(note.size)) and note.signed_by(*self.log)
                if self.hold(mine, "checkpoints", None, f"{name} is not of this log, size and key"):
                    self.waiting.append((note.size, path))
            except ValueError as problem:
                self.hold(False, "checkpoints", None, f"{name}: {problem}")
        self.hold(self.waiting, "checkpoints", None, "no checkpoint was handed in", INCONCLUSIVE)
        self.waiting.sort(reverse=True)
        signed = self.waiting[0][0] if self.waiting else None
        self.checkpoints(0)
        return signed

    def checkpoints(self, size):
        """Looks at the checkpoints of the size that the tree has reached. A bad one concerns all since the last good."""
        good = self.good
        while self.waiting and self.waiting[-1][0] == size:
            note = Note(self.waiting.pop()[1])
            same = note.root == self.tree.root()
            self.hold(same, "checkpoints", good, f"the entries from here on have not the root of the checkpoint of {size}")
            self.good, self.differing = size if same else self.good, self.differing or range(good, 0 if same else size)
            if self.epoch:
                sealed = note.signed_by(f"{self.log[0]}/epoch/{self.epoch['e']}", self.epoch_key)
                self.hold(sealed, "ladder", self.epoch["at"], f"the checkpoint of {size} is not signed by its last epoch")

    # ---- ledger.md, Sessions: sessions, rolling ----

    def session(self, e, n, leaf):
        """What begins in a session is closed once, then the session; its close states its leaves and their hash."""
        kind, s = e["k"], self.sessions.get(e.get("s"))
        command = kind in ("act.start", "act.done") or kind == "crash" and "q" in e
        if kind == "session.open":
            self.hold(not s, "sessions", n, "a session is opened that is open")
            s = self.sessions[e["s"]] = dict(n=n, acts=0, leaves=0, roll=bytes(32), open=set(), used=set())
        elif command or kind in ("session.close", "crash"):
            if not self.hold(s, "sessions", n, "the session of this entry is not open"):
                return
            if kind == "act.start":
                self.hold(e["q"] not in s["used"], "sessions", n, "a command is started for the second time")
                s["open"].add(e["q"])
                s["used"].add(e["q"])
                s["acts"] += 1
            elif command:
                self.hold(e["q"] in s["open"], "sessions", n, "a command is closed that is not open")
                s["open"].discard(e["q"])
            else:
                self.hold(not s["open"], "sessions", n, "a session is closed with a command that is open")
                has = s["acts"], s["leaves"], s["roll"].hex()
                rolls = kind == "crash" or (e["acts"], e["leaves"], e["roll"]) == has
                self.hold(rolls, "rolling", n, "the close states other commands or leaves than the session has")
                del self.sessions[e["s"]]
        if s and (command or kind in ("session.open", "act.deny", "approval.request", "approval.use")):
            s["leaves"], s["roll"] = s["leaves"] + 1, sha256(s["roll"] + leaf)

    # ---- recording.md: recordings ----

    def read_recordings(self):
        """Notes each block's place in its chain, and each file's length, blocks and hash up to its last whole block."""
        for name, path in files(self.recordings, "files", pattern=r"[0-9]{12}\.rec") if self.recordings else ():
            number, size, blocks, digest = int(name[:12]), 0, 0, hashlib.sha256()
            for s, at, before, block in read_blocks(path):
                size, blocks = size + len(block), blocks + 1
                digest.update(block)
                new = self.insert("block", s, at, sha256(b"\2" + block), before, number)
                self.hold(new, "recordings", None, f"a block in file {number} has the number of another")
            self.insert("spool", number, size, blocks, digest.hexdigest())

    def recording(self, e, n):
        if e["k"] == "rec.segment":
            self.insert("stated", n, e["file"], e["bytes"], e["blocks"], e["cr"])
        elif e["k"] in ("act.done", "session.close") and "cm" in e and self.recordings:
            self.insert("claim", n, bytes.fromhex(e["s"]), bytes.fromhex(e["cm"]), e["k"] == "session.close")

    def end_recordings(self):
        def look(verdict, what, query):
            return [self.hold(False, "recordings", n, what, verdict) for (n,) in self.db.execute("SELECT " + query)]
        look(FAIL, "a file is stated again in other words", "max(entry) FROM stated GROUP BY file HAVING count(*) > 1")
        if not self.recordings:
            return self.hold(False, "recordings", None, "no recordings were handed in", INCONCLUSIVE)
        missing = look(INCONCLUSIVE, "the file stated here is not there",
                       "min(entry) FROM stated WHERE file NOT IN (SELECT file FROM spool) HAVING count(*)")
        absent = INCONCLUSIVE if missing else FAIL  # a file that is not there may hold what is not found
        look(INCONCLUSIVE, "the ledger does not state every file",
             "NULL FROM spool WHERE file NOT IN (SELECT file FROM stated)")
        look(FAIL, "the file has not the length, blocks or hash stated here", """entry FROM stated JOIN spool USING (file)
             WHERE (stated.bytes, stated.blocks, stated.cr) IS NOT (spool.bytes, spool.blocks, spool.cr)""")
        look(absent, "no block of the session has the hash stated here",
             "entry FROM claim LEFT JOIN block USING (s, hash) WHERE block.s IS NULL")
        look(FAIL, "the session has blocks after the one that its close calls its last", """entry FROM claim JOIN block
             USING (s, hash) WHERE last AND number < (SELECT max(number) FROM block WHERE s = claim.s)""")
        pairs = """entry FROM block b LEFT JOIN stated USING (file) LEFT JOIN block a
             ON a.s = b.s AND a.number = b.number - 1 WHERE """
        look(absent, "the block before one in this file is not there", pairs + "b.number > 0 AND a.hash IS NULL")
        look(FAIL, "a block in this file does not follow the one before it",
             pairs + "b.before <> CASE b.number WHEN 0 THEN zeroblob(32) ELSE a.hash END")

def read_blocks(path):
    """Session, number, hash of the block before, and bytes of each whole block (recording.md, Block)."""
    with open(path, "rb") as file:
        while True:
            head = file.read(76).ljust(76, b"\0")
            magic, s, at, before, codec, zero, decoded, stored, crc = struct.unpack(">4s16sQ32sB3sIII", head)
            if magic != b"CRB1" or at >= 2**63 or codec > 1 or any(zero) or not stored <= decoded <= MAX_BLOCK:
                return
            payload = file.read(stored)
            if len(payload) != stored or crc32c(head[:72] + payload) != crc or codec == 0 and stored != decoded:
                return
            yield s, at, before, head + payload

# ---- Files, entries, notes ----

def plain(base, *parts):
    """The path of something below base; None if it is absent, or if it or anything on the way to it is a link."""
    path = os.path.join(os.path.realpath(base), *parts)
    return path if os.path.realpath(path) == path and (os.path.isfile(path) or os.path.isdir(path)) else None

def files(base, *parts, pattern):
    """Names and paths of the plain files in a directory below base, sorted."""
    path = plain(base, *parts)
    found = [(name, plain(path, name)) for name in sorted(os.listdir(path)) if re.fullmatch(pattern, name)] if path else []
    return [(name, path) for name, path in found if path and os.path.isfile(path)]

def read_tile(base, tile):
    """The 256 leaf hashes of a level-0 tile; None if it is absent, cut, or not wholly written."""
    path = plain(base, "tiles", "0", f"{tile // 4096:08d}")
    if path:
        with open(path, "rb") as file:
            file.seek(tile % 4096 * 8192)
            data = file.read(8192)
        return data if len(data) == 8192 and all(data[i:i + 32].strip(b"\0") for i in range(0, 8192, 32)) else None

def sorted_object(pairs):
    keys = [key for key, _ in pairs]
    if keys != sorted(set(keys)):  # the order of code points is that of UTF-8's bytes
        raise ValueError("the keys of an object are not sorted, or one is there twice")
    return dict(pairs)

def integer(digits):  # is also called for floats and NaN
    if not re.fullmatch("0|-?[1-9][0-9]{0,18}", digits) or not -2**63 <= int(digits) < 2**63:
        raise ValueError("a number is not an integer, or out of bounds")
    return int(digits)

DECODER = json.JSONDecoder(object_pairs_hook=sorted_object, parse_int=integer, parse_float=integer, parse_constant=integer)

def parse(line):
    """An entry, or ValueError with what is wrong with its form. Of unknown kinds only the common keys are looked at."""
    try:
        e = DECODER.decode(line.decode("utf-8"))
        json.dumps(e if b"\\u" in line else 0, ensure_ascii=False).encode("utf-8")  # no halves of surrogate pairs
    except RecursionError:
        raise ValueError("too deep") from None
    if b"\n" in line or b"\r" in line or type(e) is not dict or not BASE <= e.keys() or not FORM["k"](e["k"]):
        raise ValueError("not one line, or not an object with the keys of every entry")
    required, allowed = KINDS.get(e["k"], (BASE, e.keys()))
    if not required <= e.keys() <= allowed:
        raise ValueError(f"the keys are not those of the kind {e['k']}")
    for key in e if e["k"] in KINDS else BASE:
        form = FORM.get(f"{e['k']} {key}" if key == "sig" else key)
        if form and not form(e[key]):
            raise ValueError(f"the value of {key}")
    return e

def unbase64(data):
    raw = base64.b64decode(data, validate=True)
    if base64.b64encode(raw).decode() != data:
        raise ValueError("base64 is not canonical")
    return raw

def key_id(name, key):
    return sha256(name.encode("utf-8") + b"\n\1" + key)[:4]

class Note:
    """A C2SP tlog-checkpoint in a signed-note; ValueError if it is none."""

    def __init__(self, path):
        with open(path, "rb") as file:
            body, _, signatures = file.read(MAX_NOTE + 1).decode("utf-8").rpartition("\n\n")
        form = re.fullmatch("([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]{44})", body)
        lines = re.findall(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)\n", signatures)
        if not form or "".join(f"— {name} {data}\n" for name, data in lines) != signatures:
            raise ValueError("not a checkpoint in a signed note")
        self.body, self.origin, self.size, self.root = body + "\n", form[1], int(form[2]), unbase64(form[3])
        self.signatures = [(name, unbase64(data)) for name, data in lines]

    def signed_by(self, name, key):
        """There is a signature of that name and key, and each that says so holds."""
        mine = [data[4:] for other, data in self.signatures if other == name and data[:4] == key_id(name, key)]
        return mine != [] and all(ed25519_holds(key, data, self.body.encode("utf-8")) for data in mine)

# ---- Hashes (RFC 6962; CRC-32C) and signatures (RFC 8032) ----

def sha256(data):
    return hashlib.sha256(data).digest()

class Tree:
    """The Merkle tree of RFC 6962 §2.1, as the roots of its whole subtrees from left to right."""

    def __init__(self):
        self.size, self.peaks = 0, []

    def push(self, leaf):
        low, self.size = self.size, self.size + 1
        while low & 1:
            leaf, low = sha256(b"\1" + self.peaks.pop() + leaf), low >> 1
        self.peaks.append(leaf)

    def root(self):
        root = self.peaks[-1] if self.peaks else sha256(b"")
        for peak in self.peaks[-2::-1]:
            root = sha256(b"\1" + peak + root)
        return root

def crc_tables():
    """Four tables of 65,536: what each 16 bits of 64 add to the CRC-32C (reflected polynomial 0x82F63B78)."""
    rows = [list(range(256))]
    for _ in range(8):
        rows[0] = [c >> 1 ^ (0x82F63B78 if c & 1 else 0) for c in rows[0]]
    for _ in range(7):
        rows.append([c >> 8 ^ rows[0][c & 255] for c in rows[-1]])
    return [[high ^ low for high in rows[k - 1] for low in rows[k]] for k in (7, 5, 3, 1)] + [rows[0]]

T0, T1, T2, T3, BYTES = crc_tables()

def crc32c(data):
    crc, whole = 0xFFFFFFFF, len(data) & ~7
    for (word,) in struct.iter_unpack("<Q", data[:whole]):
        word ^= crc
        crc = T0[word & 0xFFFF] ^ T1[word >> 16 & 0xFFFF] ^ T2[word >> 32 & 0xFFFF] ^ T3[word >> 48]
    for byte in data[whole:]:
        crc = crc >> 8 ^ BYTES[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, I = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)  # the curve's d, and the root of -1

def point(data):
    """RFC 8032 §5.1.3: a point in extended coordinates, or None if the bytes are not the one encoding of one."""
    y, sign = int.from_bytes(data, "little") & 2**255 - 1, data[31] >> 7
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * I % P
    x = P - x if x & 1 != sign else x
    return None if y >= P or (v * x * x - u) % P or x in (0, P) and sign else (x, y, 1, x * y % P)

def add(p, q):  # RFC 8032 §5.1.4
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = (b - a) % P, (d - c) % P, (d + c) % P, (b + a) % P
    return e * f % P, g * h % P, f * g % P, e * h % P

BASE_POINT, NEUTRAL = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")), (0, 1, 1, 0)

def ed25519_holds(key, signature, message):
    """RFC 8032 §5.1.7, [s]B = R + [k]A. Keys of small order, under which anyone can sign, are refused."""
    a, s = point(key) if len(key) == 32 else None, int.from_bytes(signature[32:], "little")
    if a is None or len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus = (P - a[0], a[1], 1, P - a[3])
    table, total = (None, BASE_POINT, minus, add(BASE_POINT, minus)), NEUTRAL
    for bit in range(252, -1, -1):
        total, pick = add(total, total), (s >> bit & 1) + 2 * (k >> bit & 1)
        total = add(total, table[pick]) if pick else total
    for _ in range(3):
        a = add(a, a)
    inverse = pow(total[2], P - 2, P)
    encoded = total[1] * inverse % P | (total[0] * inverse % P & 1) << 255
    return a[0] != 0 and encoded.to_bytes(32, "little") == signature[:32]

# ---- Command line ----

def read_roots(given, base):
    """The log's name and key, and the key of epoch 0 or None; from text, or from a file outside the ledger."""
    if os.path.isfile(given):
        if os.path.realpath(given).startswith(os.path.realpath(base) + os.sep):
            raise ValueError("the roots are in the ledger that they are to verify")
        with open(given, encoding="utf-8") as file:
            given = file.read(MAX_NOTE)
    keys = []
    for name, digits, data in ((word.split("+", 2) + ["", ""])[:3] for word in given.split()):
        key = unbase64(data)
        if key[:1] != b"\1" or len(key) != 33 or key_id(name, key[1:]).hex() != digits:
            raise ValueError("a root is not an Ed25519 verifier key of signed-note")
        keys.append((name, key[1:]))
    if [name for name, _ in keys[1:]] not in ([], [f"{keys[0][0]}/epoch/0"]) or not keys:
        raise ValueError("the roots are not the log's key and, behind it, that of its epoch 0")
    return keys[0], keys[1][1] if len(keys) == 2 else None

def usage(problem):
    print(f"{problem}\nverify.py LEDGER_DIR --roots FILE_OR_TEXT [--recordings DIR] [--json]", file=sys.stderr)
    sys.exit(64)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = usage
    parser.add_argument("ledger")
    parser.add_argument("--roots", required=True)
    parser.add_argument("--recordings")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    base, recordings = given.ledger, given.recordings
    if plain(base, "ledger", "entries"):
        base, recordings = os.path.join(base, "ledger"), recordings or plain(base, "recordings")
    try:
        log, root_key = read_roots(given.roots, base)
    except ValueError as problem:
        usage(problem)
    try:
        if not plain(base, "entries"):
            raise OSError("there is no directory of entries")
        result = Verifier(base, log, root_key, recordings).run()
    except OSError as problem:
        print(f"not readable as a ledger: {problem}", file=sys.stderr)
        sys.exit(3)
    if given.json:
        print(json.dumps(result))
    else:
        for c in result["checks"]:
            at = "" if c["entry"] is None else f"  entry {c['entry']}"
            print(f"{c['verdict']:12} {c['check']}{at}" + (f"  {c['what']}" if c["what"] else ""))
        print(f"{result['verdict']} size {result['size']} root {result['root']}")
    sys.exit({PASS: 0, FAIL: 1, INCONCLUSIVE: 2}[result["verdict"]])

if __name__ == "__main__":
    main()
