#!/usr/bin/env python3
"""Verifies a ledger offline, by docs/spec/ledger.md and docs/spec/recording.md alone. Shares no code with the writer.
Nothing that is read is trusted: lengths are bounded before anything is allocated, links inside the directories are
not followed, and what grows with the ledger is kept in a temporary database on disk.
Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 not readable as a ledger, 64 usage."""
import argparse, base64, functools, hashlib, json, os, re, sqlite3, struct, sys
GRAVITY = PASS, INCONCLUSIVE, FAIL = "PASS", "INCONCLUSIVE", "FAIL"
CHECKS = "lines", "order", "checkpoints", "ladder", "tail", "sessions", "rolling", "recordings"
MAX_ENTRY, MAX_NOTE, MAX_BLOCK = 61_440, 65_536, 1_048_576
BASE = frozenset("v k o n t m b".split())  # ledger.md, Entry: of every entry; then those of the kinds ("?": or absent)
KINDS = """act.done bytes cm? masked out q rows s sqlstate? us/boot config dangerous loss_ms prof root size ver
approval.request a c ch needed p q rev s until/prune.ledger bytes cr dropped first last run/policy.apply by? p source
session.close acts cm? leaves reason roll s/retention.done bytes how pruned refused run/approval.use ch q ref rev s
approval.decide assurance by ch d rev sig?/act.start a c ch d fp p prof q rev? s x/rec.segment blocks bytes cr file
retention.run by? due ledger recordings sealed/prune.refuse by? file? first? hold? run? s? why/crash q? s/heartbeat
session.open a auth c d p prof proto s/prune.recording bytes cr file last run/raw.segment bytes com cr hd s seg to
act.deny a? c? ch? code d p q s/secret.change by? c change ver/hold.set by com hold scope/hold.lift by com hold
approval.end end rev/export by cr from to/shred by? cr? run? s what/gap cause from to/shutdown reason/principal a com
view by s? what/unseal by rev s/alert code s?/stall reason refused? us?/key.epoch e key life_ms root sig size"""
KINDS = {kind: (BASE.union(w for w in keys if w[-1] != "?"), BASE.union(w.rstrip("?") for w in keys))
         for kind, *keys in map(str.split, re.split("[/\n]", KINDS))}
def text(pattern):
    return lambda v, match=re.compile(pattern, re.S).fullmatch: type(v) is str and match(v) is not None
FORM = {  # ledger.md, Entry: of the values whose form it gives
    "v": lambda v: type(v) is int and v == 1, "k": text(".+"), "o": text(".+"), "d": lambda v: type(v) is list,
    "ref": lambda v: type(v) is list and all(map(text("[0-9]+:[0-9a-f]{64}"), v)), "x": text("read|write"),
    "out": text("completed|failed|skipped|suspended|unknown|cancelled"), "end": text("expired|withdrawn"),
    **{k: lambda v: type(v) is int and v >= 0 for k in """n t m q e size life_ms acts leaves blocks bytes file dropped
       first last""".split()}, "key.epoch sig": text("[0-9a-f]{128}"),
    **dict.fromkeys("b s a by hold".split(), text("[0-9a-f]{32}")),
    **dict.fromkeys("p ch cm cr hd com root roll key".split(), text("[0-9a-f]{64}"))}
class Verifier:
    """Reads a ledger once, front to back. `log`: name and key. `root_key`: the key of epoch 0, or None."""
    def __init__(self, base, log, root_key, recordings):
        self.base, self.log, self.root_key, self.recordings = base, log, root_key, recordings
        self.found = dict.fromkeys(CHECKS, (PASS, None, None))
        self.tree, self.tile, self.last, self.sessions = Tree(), None, None, {}  # the entry before; the open sessions
        self.epoch, self.epoch_key = None, log[1]  # the running epoch's entry and key; epoch 0 is signed by the log's
        self.dropped = {}  # of pruned entries, by segment: the first, how many, their hashes, the time before the last
        self.waiting, self.good, self.differing = [], 0, ()  # checkpoints to come, and the size of the last good one
        self.db = sqlite3.connect("")  # on disk, and gone when it is closed
        self.db.executescript("""PRAGMA journal_mode=OFF; CREATE TABLE boot (b PRIMARY KEY); CREATE TABLE spool (file
            PRIMARY KEY, bytes, blocks, cr); CREATE TABLE pruned (entry, file, bytes, cr, first, dropped, last); CREATE
            TABLE stated (entry, file, bytes, blocks, cr, UNIQUE (file, bytes, blocks, cr)); CREATE TABLE block (s,
            number, hash, before, file, PRIMARY KEY (s, number)); CREATE INDEX hashes ON block (s, hash); CREATE
            TABLE claim (entry, s, hash, last, opened)""")
    def hold(self, holds, check, entry, what, verdict=FAIL):
        """Notes the verdict unless it holds. A check keeps its gravest, of equal ones that of the lowest entry."""
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
        self.checkpoints(0)
        for line, segment in self.stored_lines():
            self.entry(line, self.tree.size, segment)
        size, first = self.tree.size, min((s["n"] for s in self.sessions.values()), default=None)
        self.hold(not self.waiting, "checkpoints", size, "too few entries for the root of a checkpoint", INCONCLUSIVE)
        if self.hold(signed is not None, "tail", 0, "no checkpoint says how many entries there are", INCONCLUSIVE):
            self.hold(size >= signed, "tail", size, f"{size} entries are here, and {signed} in a signed checkpoint")
            self.hold(size <= signed, "tail", signed, "entries follow the last checkpoint", INCONCLUSIVE)
        self.hold(self.root_key and self.epoch, "ladder", 0, "there is no epoch, or no ladder's root", INCONCLUSIVE)
        self.hold(first is None, "sessions", first, f"open at the end: {len(self.sessions)} sessions", INCONCLUSIVE)
        for first, (n, count, hashes, since) in self.dropped.items():
            said = self.db.execute("SELECT 1 FROM pruned WHERE (first, dropped, cr) = (?, ?, ?) AND last >= ?",
                                   (first, count, hashes.hexdigest(), since)).fetchone()
            self.hold(said, "lines", n, f"{count} entries are only hashes; no entry says that just these were pruned")
        if self.dropped and self.found["lines"][0] == PASS:
            self.found["lines"] = PASS, None, f"entries that are pruned: {sum(d[1] for d in self.dropped.values())}"
        self.end_recordings()
        failed = {c: entry for c, (verdict, entry, _) in self.found.items() if verdict == FAIL and entry is not None}
        if failed.get("lines") in self.differing:  # *lines* names the entry, a checkpoint's root only a range of them
            failed.pop("checkpoints", None)
        return {"size": size, "root": self.tree.root().hex(), "first_bad_entry": min(failed.values(), default=None),
                "verdict": max((verdict for verdict, _, _ in self.found.values()), key=GRAVITY.index),
                "checks": [dict(zip(("check", "verdict", "entry", "what"), (c, *self.found[c]))) for c in CHECKS]}
    def stored_lines(self):
        """ledger.md, Files: the bytes of the entries, up to the first that does not hold. No place after it is sure."""
        for name, path in files(self.base, "entries", pattern=r"[0-9]{20}\.seg"):
            with open(path, "rb") as file:
                size, length = self.tree.size, 1
                whole = file.read(16) == b"CLEDGER1" + struct.pack(">Q", size) and int(name[:20]) == size
                self.hold(whole, "lines", size, f"the segment {name} does not begin with this entry")
                while whole and length:
                    length, crc = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
                    length, pruned = (32, True) if length == 1 << 31 | 32 else (length, False)
                    line = file.read(length) if length <= MAX_ENTRY else b""
                    whole = len(line) == length and crc == (crc32c(line) if line else 0)
                    if length == 0:  # the end, if only zeros follow
                        whole = whole and not any(part.strip(b"\0") for part in iter(lambda: file.read(1 << 20), b""))
                    self.hold(whole, "lines", self.tree.size, "neither a whole frame nor only zeros are here")
                    if whole and length:
                        yield line, size if pruned else None
                if not whole:
                    return
    def entry(self, line, n, segment):
        """ledger.md, Files: a line, or the hash of one pruned from a `segment`; and the checkpoint behind it."""
        leaf, last = sha256(b"\0" + line) if segment is None else line, self.last
        self.tile = self.tile if n % 256 else read_tile(self.base, n // 256)
        self.hold(not self.tile or self.tile[n % 256 * 32:][:32] == leaf, "lines", n, "the tile has another hash")
        if segment is None:
            self.line(line, n, leaf, last)
        else:
            at, count, hashes, _ = self.dropped.setdefault(segment, (n, 0, hashlib.sha256(), 0))
            self.dropped[segment] = at, count + 1, hashes.update(leaf) or hashes, last["t"] if last else 0
        self.tree.push(leaf)
        self.checkpoints(self.tree.size)
    def line(self, line, n, leaf, last):
        """ledger.md, Entry: lines and order; then what else an entry can break."""
        try:
            e = parse(line)
            boot = last is None or e["b"] != last["b"]
            self.hold(e["n"] == n and e["o"] == self.log[0], "lines", n, "the entry states another index or log")
            self.hold(e["k"] in KINDS, "lines", n, f"the kind {ascii(e['k'][:40])} is not known", INCONCLUSIVE)
            self.hold(not last or e["t"] >= last["t"], "order", n, "the wall clock is earlier than in the entry before")
            self.hold(boot or e["m"] >= last["m"], "order", n, "the monotonic clock is earlier than before")
            self.hold(not boot or self.insert("boot", e["b"]), "order", n, "a boot id comes back that was left")
            self.ladder(e, n, self.epoch, boot)
            if e["k"] == "rec.segment":
                self.insert("stated", n, e["file"], e["bytes"], e["blocks"], e["cr"])
            elif e["k"] in ("prune.recording", "prune.ledger"):
                self.insert("pruned", n, *map(e.get, ("file", "bytes", "cr", "first", "dropped", "last")))
            elif e["k"] in ("act.done", "session.close") and "cm" in e and self.recordings:
                last, opened = e["k"] == "session.close", self.sessions.get(e["s"], {"n": n})["n"]
                self.insert("claim", n, bytes.fromhex(e["s"]), bytes.fromhex(e["cm"]), last, opened)
            self.session(e, n, leaf)
            self.last = e
        except ValueError as problem:
            self.hold(False, "lines", n, f"the form: {problem}")
    def ladder(self, e, n, now, boot):
        """ledger.md, Epochs: a key.epoch seals the entries before it by the key of the epoch before, which is `now`."""
        late = now and now["b"] == e["b"] and e["m"] - now["m"] > (now["life_ms"] + 60_000) * 1000
        self.hold(not late, "ladder", now and now["at"], "the epoch lasted a minute longer than life_ms", INCONCLUSIVE)
        if e["k"] != "key.epoch":
            return self.hold(not boot, "ladder", n, "a log or a boot does not begin with a key.epoch")
        parts = "chancery/epoch/1", self.log[0], e["e"], e["key"], e["life_ms"], e["size"], e["root"]
        signed, key = "".join(f"{part}\n" for part in parts).encode("utf-8"), bytes.fromhex(e["key"])
        sealed = ed25519_holds(self.epoch_key, bytes.fromhex(e["sig"]), signed)
        self.hold(e["e"] == (now["e"] + 1 if now else 0), "ladder", n, "the epoch's number does not follow")
        place = e["size"] == n and e["root"] == self.tree.root().hex()
        self.hold(place, "ladder", n, "the entries before have not the size or root stated here")
        self.hold(sealed, "ladder", n, "the epoch is not signed by the key before it")
        self.hold(now or self.root_key in (None, key), "ladder", n, "the first epoch's key is not the ladder's root")
        self.epoch, self.epoch_key = {**e, "at": n}, key
    def read_checkpoints(self):
        """ledger.md, Tree: the greatest size that the log's key signed, or None. A damaged note concerns no entry."""
        notes = files(self.base, pattern="checkpoint") + files(self.base, "checkpoints", pattern="[0-9]{1,20}")
        self.hold(notes, "checkpoints", None, "no checkpoint was handed in", INCONCLUSIVE)
        for name, path in notes:
            try:
                origin, size, _, signed_by = read_note(path)
                mine = origin == self.log[0] and name in ("checkpoint", f"{size:0{len(name)}}") and signed_by(*self.log)
                if self.hold(mine, "checkpoints", None, f"{name} is not of this log, its key, or the size in its name"):
                    self.waiting.append((size, path))
            except ValueError as problem:
                self.hold(False, "checkpoints", None, f"{name}: {problem}")
        self.waiting.sort(reverse=True)
        return self.waiting[0][0] if self.waiting else None
    def checkpoints(self, size):
        """ledger.md, Epochs and Tree: the checkpoints of the size that the tree has reached, from the last good one."""
        good, epoch = self.good, self.epoch
        while self.waiting and self.waiting[-1][0] == size:
            _, _, root, signed_by = read_note(self.waiting.pop()[1])
            same = self.hold(root == self.tree.root(), "checkpoints", good, f"the root signed for {size} is another")
            self.good, self.differing = size if same else good, self.differing or range(good, good if same else size)
            sealed = not epoch or signed_by(f"{self.log[0]}/epoch/{epoch['e']}", self.epoch_key)
            self.hold(sealed, "ladder", epoch and epoch["at"], f"this epoch did not sign the checkpoint of {size}")
    def session(self, e, n, leaf):
        """ledger.md, Sessions: what begins in one is closed once, then the session; its close states its leaves."""
        kind, s = e["k"], self.sessions.get(e.get("s"))
        command = kind in ("act.start", "act.done") or kind == "crash" and "q" in e
        if kind == "session.open":
            self.hold(not s, "sessions", n, "a session is opened that is open")
            s = self.sessions[e["s"]] = {"n": n, "leaves": 0, "roll": bytes(32), "open": set(), "acts": set()}
        elif command or kind in ("session.close", "crash"):
            if not self.hold(s, "sessions", n, "the session of this entry is not open"):
                return
            if kind == "act.start":
                self.hold(e["q"] not in s["acts"], "sessions", n, "a command is started for the second time")
                s["open"].add(e["q"])
                s["acts"].add(e["q"])
            elif command:
                self.hold(e["q"] in s["open"], "sessions", n, "a command is closed that is not open")
                s["open"].discard(e["q"])
            else:
                self.hold(not s["open"], "sessions", n, "a session is closed with a command that is open")
                has = len(s["acts"]), s["leaves"], s["roll"].hex()
                rolls = kind == "crash" or has == (e["acts"], e["leaves"], e["roll"])
                self.hold(rolls, "rolling", n, "the close states other commands or leaves than the session has")
                del self.sessions[e["s"]]
        if s and (command or kind in ("session.open", "act.deny", "approval.request", "approval.use")):
            s["leaves"], s["roll"] = s["leaves"] + 1, sha256(s["roll"] + leaf)
    def read_recordings(self):
        """recording.md, Block and Files: the blocks; of each file, those in front of the first that is not whole."""
        for name, path in files(self.recordings, "files", pattern=r"[0-9]{12}\.rec") if self.recordings else ():
            number, size, blocks, digest = int(name[:12]), 0, 0, hashlib.sha256()
            for s, at, before, block in read_blocks(path):
                size, blocks = size + len(block), blocks + 1
                digest.update(block)
                new = self.insert("block", s, at, sha256(b"\2" + block), before, number)
                self.hold(new, "recordings", None, f"a block in file {number} has the number of another")
            self.insert("spool", number, size, blocks, digest.hexdigest())
    def end_recordings(self):
        """recording.md: what the ledger states of blocks and files against what is there."""
        def none(verdict, what, query):
            row = self.db.execute(f"SELECT entry FROM (SELECT {query}) ORDER BY entry IS NULL, entry").fetchone()
            return self.hold(row is None, "recordings", row and row[0], what, verdict)
        none(FAIL, "the file is stated again in other words",
             "max(entry) AS entry FROM stated GROUP BY file HAVING count(*) > 1")
        none(FAIL, "the file pruned here was not stated before in these words", """p.entry AS entry FROM pruned p
             LEFT JOIN stated s USING (file, bytes, cr) WHERE file NOT NULL AND ifnull(s.entry, p.entry) >= p.entry""")
        if not self.recordings:
            return self.hold(False, "recordings", None, "no recordings were handed in", INCONCLUSIVE)
        none(FAIL, "the file has not the length, blocks or hash stated here", """entry FROM stated JOIN spool
             USING (file) WHERE (stated.bytes, stated.blocks, stated.cr) <> (spool.bytes, spool.blocks, spool.cr)""")
        none(INCONCLUSIVE, "the ledger does not state every file",
             "NULL AS entry FROM spool WHERE file NOT IN (SELECT file FROM stated)")
        gone = "FROM stated g WHERE g.file NOT IN (SELECT file FROM spool)"  # what is not found may have been in these
        none(FAIL, "the file stated here is not there, and no entry says that it was pruned",
             f"entry {gone} AND file NOT IN (SELECT file FROM pruned WHERE file NOT NULL)")
        none(FAIL, "no block of the session has the hash stated here", f"""entry FROM claim c LEFT JOIN block
             USING (s, hash) WHERE number IS NULL AND NOT EXISTS (SELECT 1 {gone} AND g.entry > c.opened)""")
        none(FAIL, "the session has blocks after the one that its close calls its last", """entry FROM claim JOIN block
             USING (s, hash) WHERE last AND number < (SELECT max(number) FROM block WHERE s = claim.s)""")
        pairs = """entry FROM block b LEFT JOIN stated USING (file)
                   LEFT JOIN block a ON a.s = b.s AND a.number = b.number - 1 WHERE """
        none(FAIL, "the block before one in this file is not there", pairs + f"""b.number > 0 AND a.hash IS NULL AND
             NOT EXISTS (SELECT 1 {gone} AND g.file < b.file AND g.file > (SELECT ifnull(max(file), -1)
                                                           FROM block c WHERE c.s = b.s AND c.number < b.number))""")
        none(FAIL, "a block in this file does not follow the one before it",
             pairs + "b.before <> CASE b.number WHEN 0 THEN zeroblob(32) ELSE a.hash END")
        if self.found["recordings"][0] == PASS and (count := self.db.execute(f"SELECT count(*) {gone}").fetchone()[0]):
            self.found["recordings"] = PASS, None, f"files that are pruned: {count}"
def read_blocks(path):
    """recording.md, Block: session, number, hash of the block before, and bytes of each whole block."""
    with open(path, "rb") as file:
        while True:
            head = file.read(108).ljust(108, b"\0")
            magic, s, at, before, codec, zero, decoded, stored, crc = struct.unpack(">4s16sQ32s32xB3sIII", head)
            payload = file.read(stored) if stored <= decoded <= MAX_BLOCK else b""
            if (magic != b"CRB2" or at >= 2**63 or codec > 1 or any(zero) or codec == 0 and stored != decoded
                    or decoded > MAX_BLOCK or len(payload) != stored or crc32c(head[:104] + payload) != crc):
                return
            yield s, at, before, head + payload
def plain(base, *parts):
    """The path of something below base; None if it is absent, or if it or anything on the way to it is a link."""
    path = os.path.join(os.path.realpath(base), *parts)
    return path if os.path.realpath(path) == path and os.path.exists(path) else None
def files(base, *parts, pattern):
    """Names and paths of the plain files in a directory below base, sorted."""
    path = plain(base, *parts)
    found = sorted(name for name in os.listdir(path) if re.fullmatch(pattern, name)) if path else []
    return [(name, plain(path, name)) for name in found if plain(path, name) and os.path.isfile(plain(path, name))]
def read_tile(base, tile):
    """ledger.md, Files: the leaf hashes of a level-0 tile; None if it is absent, cut, or not wholly written."""
    for _, path in files(base, "tiles", "0", pattern=f"{tile // 4096:08d}"):
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
    if len(digits) > 20 or digits == "-0" or not digits.lstrip("-").isdigit() or not -2**63 <= int(digits) < 2**63:
        raise ValueError("a number is not an integer, or out of bounds")
    return int(digits)
JSON = json.JSONDecoder(object_pairs_hook=sorted_object, parse_int=integer, parse_float=integer, parse_constant=integer)
def parse(line):
    """ledger.md, Entry: one, or ValueError for its form. Of unknown kinds only the common keys are looked at."""
    try:
        e = JSON.decode(line.decode("utf-8"))
        json.dumps(e if b"\\u" in line else 0, ensure_ascii=False).encode("utf-8")  # no halves of surrogate pairs
    except RecursionError:
        raise ValueError("too deep") from None
    if b"\n" in line or b"\r" in line or type(e) is not dict or not BASE <= e.keys() or not FORM["k"](e["k"]):
        raise ValueError("not one line, or not an object with the keys of every entry")
    required, allowed = KINDS.get(e["k"], (BASE, e.keys()))
    if not required <= e.keys() <= allowed:
        raise ValueError(f"the keys are not those of the kind {e['k']}")
    for key in e if e["k"] in KINDS else BASE:
        if not FORM.get(f"{e['k']} {key}" if key == "sig" else key, lambda v: True)(e[key]):
            raise ValueError(f"the value of {key}")
    return e
def sha256(data): return hashlib.sha256(data).digest()
def key_id(name, key):
    return sha256(name.encode("utf-8") + b"\n\1" + key)[:4]
def read_note(path):
    """A C2SP tlog-checkpoint in a signed-note: origin, size, root, and who signed it; ValueError if it is none."""
    with open(path, "rb") as file:
        body, _, tail = file.read(MAX_NOTE).decode("utf-8").rpartition("\n\n")
    form = re.fullmatch("([^\n]+)\n(0|[1-9][0-9]{0,18})\n(.{43}=)", body)
    lines = re.findall(r"— ([^\s+]+) (.+)\n", tail)
    if not form or not lines or "".join(f"— {name} {data}\n" for name, data in lines) != tail:
        raise ValueError("it is not a checkpoint in a signed note")
    signatures = [(name, base64.b64decode(data, validate=True)) for name, data in lines]
    def signed_by(name, key):  # once at least, and each signature that says so holds
        mine = [data[4:] for other, data in signatures if other == name and data[:4] == key_id(name, key)]
        return mine != [] and all(ed25519_holds(key, data, body.encode("utf-8") + b"\n") for data in mine)
    return form[1], int(form[2]), base64.b64decode(form[3], validate=True), signed_by
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
        last = self.peaks[-1] if self.peaks else sha256(b"")
        return functools.reduce(lambda root, peak: sha256(b"\1" + peak + root), self.peaks[-2::-1], last)
# CRC-32C, reflected polynomial 0x82F63B78: what a byte adds, with none to seven bytes behind it.
ROWS = [[functools.reduce(lambda c, _: c >> 1 ^ 0x82F63B78 * (c & 1), range(8), byte) for byte in range(256)]]
for _ in range(7):
    ROWS.append([c >> 8 ^ ROWS[0][c & 255] for c in ROWS[-1]])
def crc32c(data):
    crc, whole, (T0, T1, T2, T3, T4, T5, T6, T7) = 0xFFFFFFFF, len(data) & ~7, ROWS
    for a, b, c, d, e, f, g, h in struct.iter_unpack("8B", data[:whole]):
        crc = (T7[a ^ crc & 255] ^ T6[b ^ crc >> 8 & 255] ^ T5[c ^ crc >> 16 & 255] ^ T4[d ^ crc >> 24]
               ^ T3[e] ^ T2[f] ^ T1[g] ^ T0[h])
    for byte in data[whole:]:
        crc = crc >> 8 ^ ROWS[0][(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF
# Ed25519, RFC 8032 §5.1: the field, the order of the base point, the curve's d, and the root of -1.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, I = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
def point(data):
    """§5.1.3: a point in extended coordinates, or None if the bytes are not the one encoding of one."""
    y, sign = int.from_bytes(data, "little") & 2**255 - 1, data[31] >> 7
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * I % P
    x = P - x if x & 1 != sign else x
    return None if y >= P or (v * x * x - u) % P or x == P else (x, y, 1, x * y % P)
def add(p, q):  # §5.1.4
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = (b - a) % P, (d - c) % P, (d + c) % P, (b + a) % P
    return e * f % P, g * h % P, f * g % P, e * h % P
BASE_POINT = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
def ed25519_holds(key, signature, message):
    """§5.1.7, [s]B = R + [k]A. Keys of small order, under which anyone can sign, are refused, too."""
    a, s = point(key), int.from_bytes(signature[32:], "little")
    if a is None or len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus, total = (P - a[0], a[1], 1, P - a[3]), (0, 1, 1, 0)
    table = None, BASE_POINT, minus, add(BASE_POINT, minus)
    for bit in range(252, -1, -1):
        total, pick = add(total, total), (s >> bit & 1) + 2 * (k >> bit & 1)
        total = add(total, table[pick]) if pick else total
    inverse, eightfold = pow(total[2], P - 2, P), functools.reduce(lambda p, _: add(p, p), range(3), a)
    encoded = total[1] * inverse % P | (total[0] * inverse % P & 1) << 255
    return eightfold[0] != 0 and encoded.to_bytes(32, "little") == signature[:32]
def roots(given):
    """The log's name and key, the key of epoch 0 or None, and where they are from: text, or a file that is named."""
    source = os.path.realpath(given) if os.path.isfile(given) and os.access(given, os.R_OK) else ""
    if source:
        with open(source, encoding="utf-8") as file:
            given = file.read(MAX_NOTE)
    form = re.fullmatch(r"\s*([^\s+]+)\+(\w{8})\+([\w+/]{44})(\s+(\1/epoch/0)\+(\w{8})\+([\w+/]{44}))?\s*", given, re.A)
    found = [form.group(i, i + 1, i + 2) for i in (1, 5) if form[i]] if form else []
    keys = [base64.b64decode(data, validate=True) for _, _, data in found]
    if not keys or any(k[0] != 1 or key_id(name, k[1:]).hex() != ident for k, (name, ident, _) in zip(keys, found)):
        raise ValueError("not the verifier keys of a log and, behind it, of its epoch 0")
    return (form[1], keys[0][1:]), keys[1][1:] if keys[1:] else None, source
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda problem: parser.exit(64, f"{parser.format_usage()}{problem}\n")
    parser.add_argument("ledger")
    parser.add_argument("--roots", required=True, type=roots, help="keys of the log and of epoch 0, or a file")
    parser.add_argument("--recordings")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    (log, root_key, source), base, recordings = given.roots, given.ledger, given.recordings
    if plain(base, "ledger", "entries"):
        base, recordings = plain(base, "ledger"), recordings or plain(base, "recordings")
    if source.startswith(os.path.realpath(base) + os.sep):
        parser.error("the roots are in the ledger that they are to verify")
    if recordings and not os.path.isdir(recordings):
        parser.error("there is no such directory of recordings")
    try:
        os.listdir(plain(base, "entries") or os.path.join(base, "entries", "is absent, or a link"))
        result = Verifier(base, log, root_key, recordings).run()
    except (OSError, sqlite3.Error) as problem:
        parser.exit(3, f"not readable as a ledger: {problem}\n")
    for c in [] if given.json else result["checks"]:
        at = "" if c["entry"] is None else f"  entry {c['entry']}"
        print(f"{c['verdict']:12} {c['check']}" + (f"{at}  {c['what']}" if c["what"] else ""))
    print(json.dumps(result) if given.json else f"{result['verdict']} size {result['size']} root {result['root']}")
    sys.exit({PASS: 0, FAIL: 1, INCONCLUSIVE: 2}[result["verdict"]])
if __name__ == "__main__":
    main()
