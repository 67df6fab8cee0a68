#!/usr/bin/env python3
"""Verifies an evidence pack offline, by docs/spec/pack.md and ledger.md alone: that its ledger is the signed one, whole
and in order. Shares no code with the writer. lists.py beside this file verifies what entries say (LISTED) and what was
pruned, origins.py whether packs of other logs are missing. Nothing that is read is trusted: sizes come first, nothing
is unpacked, no link followed, what grows is on disk. Not checked: witnesses, files for people (but for their hashes).
Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 MALFORMED container or manifest, 64 usage."""
import os, sys
HERE = os.path.dirname(os.path.realpath(__file__))
if __name__ == "__main__": sys.path[:] = [p for p in sys.path if os.path.realpath(p) != HERE]  # which may be a pack
import argparse, base64, calendar, functools, hashlib, importlib.util, io, itertools, json, re, sqlite3, stat, time
GRAVITY = PASS, INCONCLUSIVE, FAIL = "PASS", "INCONCLUSIVE", "FAIL"
LISTED = "sessions rolling recordings directory rules approvals populations controls".split()  # by lists.py
CHECKS = "container manifest lines order checkpoints ladder tail tiles".split() + LISTED
MAX_ENTRY, MAX_NOTE, MAX_MANIFEST, MAX_MANIFEST_NOTE = 61_440, 65_536, 64 << 20, 4096
BASE = frozenset("v k o n t m b".split())  # ledger.md, Entry: of every entry; then those of the kinds ("?": or absent)
KINDS = """boot config dangerous loss_ms prof root size ver/shutdown reason/stall reason refused? us?/heartbeat
key.epoch e key life_ms root sig size/policy.apply by? p source/principal a com/secret.change by? c change ver
raw.segment bytes com cr hd s seg to/unseal by rev s/shred by? cr? run? s what/prune.recording bytes cr file last run
session.open a auth c d p prof proto s/session.close acts cm? leaves reason roll s/approval.use ch q ref rev s
act.start a c ch d fp p prof q rev? s x/act.done bytes cm? masked out q rows s sqlstate? us/gap cause from to/crash q? s
act.deny a? c? ch? code d p q s/approval.request a c ch needed p q rev s until/rec.segment blocks bytes cr file
approval.decide assurance by ch d rev sig?/approval.end end rev/view by s? what/export by cr from to/alert code s?
retention.run by? due ledger recordings sealed/prune.refuse by? file? first? hold? run? s? why/hold.lift by com hold
retention.done bytes how pruned refused run/hold.set by com hold scope/prune.ledger bytes cr dropped first last run"""
KINDS = {kind: (BASE.union(w for w in keys if w[-1] != "?"), BASE.union(w.rstrip("?") for w in keys))
         for kind, *keys in map(str.split, re.split("[/\n]", KINDS))}
# Forms, see `like`: of values of entries (ledger.md), and of the manifest (pack.md).
ID, DIGEST, TIME = "[0-9a-f]{32}", "[0-9a-f]{64}", "[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}[.][0-9]{6}Z"
FORM = {"v": 1, "k": ".+", "o": ".+", "d": [".*"], "ref": ["[0-9]+:" + DIGEST], "x": "read|write", "rev": ".*",
        "out": "completed|failed|skipped|suspended|unknown|cancelled", "end": "expired|withdrawn", "c": ".*",
        "key.epoch sig": DIGEST * 2, "approval.decide d": ("approve|deny", ".*"), "needed": [".*"],
        **dict.fromkeys("n t m q e size life_ms acts leaves blocks bytes file seg until masked".split(), int),
        **dict.fromkeys("b s a by hold".split(), ID), **dict.fromkeys("dropped first last".split(), int),
        **dict.fromkeys("p ch cm cr com hd root roll key".split(), DIGEST)}
MANIFEST = {"pack_version": 1, "created_at": TIME, "period": {"from": TIME, "to": TIME}, "controls": [".*"],
            "checkpoints": [{"origin": ".*", "size": int, "root": DIGEST, "directory": "ledger"}], "generator": dict(
            name=".*", version=".*", binary_sha256=DIGEST), "files": [dict(path=".*", bytes=int, sha256=DIGEST)]}
# pack.md, Files: what may be in a pack, in its order. There may be several of those with [0-9] in them.
FILES = r"""registry/chancery-registry registry/checkpoint registry/entries registry/name registry/stamps/\d{20}[.]note
    registry/stamps/\d{20}[.]tsq registry/stamps/\d{20}[.]tsr registry/witnessed directory/chains[.]jsonl
    rules/[0-9a-f]{64}[.]rules reconciliation/postgres[.]jsonl reviews/approvals[.]jsonl recordings/[0-9a-f]{32}[.]rec
    ledger/checkpoint ledger/(?:tile|kept)(?:/[0-9a-z]{1,9}(?:[.]p)?)+ populations/P[0-9]{2}[.](?:jsonl|csv|ipe[.]json)
    controls/results[.]jsonl controls/control-matrix[.]csv controls/exceptions[.]csv controls/results[.]oscal[.]json
    controls/findings[.]ocsf[.]jsonl report[.]html README[.]txt cuec[.]md verify[.](?:py|html) lists[.]py origins[.]py
    trust/roots[.]txt SHA256SUMS""".split()
LAYOUT = re.compile("|".join(f"({path})" for path in FILES), re.A).fullmatch
class Malformed(Exception): """The container or the manifest has not the form of pack.md."""
def must(holds, what, error=Malformed):
    if not holds: raise error(what)
class Member(io.RawIOBase):
    """The bytes of a member, never more of them than it declares. They are hashed as they are read."""
    def __init__(self, take, size): self.take, self.size, self.left, self.hash = take, size, size, hashlib.sha256()
    def readable(self): return True
    def readinto(self, buffer):
        data = self.take(min(len(buffer), self.left))
        buffer[:len(data)], self.left = data, self.left - len(data)
        self.hash.update(data)
        return len(data)
class Archive:
    """pack.md, Container: one member after the other, in a file or in the parts that it was cut into."""
    def __init__(self, path):
        parts = (f"{path[:-3]}{number:03}" for number in itertools.count(1)) if path.endswith(".001") else [path]
        paths = list(itertools.takewhile(os.path.isfile, parts))
        self.left, self.padding = sum(map(os.path.getsize, paths)), 0
        self.files, self.file = (open(path, "rb") for path in paths), io.BytesIO()
    def take(self, length):
        must(length <= self.left, "it is cut")
        self.left, data = self.left - length, self.file.read(length)
        while len(data) < length:
            self.file = next(self.files)
            data += self.file.read(length - len(data))
        return data
    def member(self, path):  # must be the next one
        must(not self.take(self.padding).strip(b"\0"), f"bytes stand in front of {path}")
        head, zero = self.take(512), b"0000000\0"
        must(re.fullmatch(rb"[0-7]{11}\0", head[124:136]), f"no header of {path} is here")
        front = f"pack/{path}".encode().ljust(100, b"\0") + b"0000644\0" + 2 * zero + head[124:136] + b"0000" + zero
        rest, size = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * zero + bytes(167), int(head[124:135], 8)
        whole = front + b"%06o\0 " % (sum(front) + sum(rest) + 8 * ord(" ")) + rest
        must(head == whole and size <= self.left - 1024, f"the header of {path} is not here, or the member is cut")
        self.padding = -size % 512
        return io.BufferedReader(Member(self.take, size))
    def finish(self): must(not self.take(self.padding + 1024).strip(b"\0") and not self.left, "it has another end")
class Folder:
    """pack.md, Container: the directory that unpacking gives."""
    def __init__(self, base):
        self.base, self.names = os.path.join(base, "pack" if os.path.isdir(os.path.join(base, "pack")) else ""), set()
        for path in (os.path.join(top, name) for top, *names in os.walk(self.base) for name in itertools.chain(*names)):
            mode, name = os.lstat(path).st_mode, os.path.relpath(path, self.base).replace(os.sep, "/")
            must(stat.S_ISREG(mode) or stat.S_ISDIR(mode), f"{name} is a link or another thing that is no file")
            self.names.update([name] if stat.S_ISREG(mode) else [])
    def member(self, path):
        must(path in self.names or path == "MANIFEST.note", f"{path} is not here")
        file = open(os.path.join(self.base, *path.split("/")), "rb") if path in self.names else io.BytesIO()
        self.names.discard(path)
        return io.BufferedReader(Member(file.read, file.seek(0, os.SEEK_END) + file.seek(0)))
    def finish(self): must(not self.names, f"the manifest does not name {min(self.names, default='')}")
def layout(size):
    """C2SP tlog-tiles in the order of pack.md: path, level, number, width of each tile of a log of this size."""
    for levels in (0, "entries"), *((level,) for level in range(1, 8)):
        nodes = size >> 8 * levels[0]
        for n, level in ((n, level) for n in range(-(-nodes // 256)) for level in levels):
            width, (*above, last) = min(256, nodes - 256 * n), re.findall("...", str(n).zfill(-(-len(str(n)) // 3) * 3))
            path = "/".join(["ledger/tile", str(level), *("x" + three for three in above), last])
            yield path + (f".p/{width}" if width < 256 else ""), level, n, width
class Verifier:
    """Reads a pack once. `log`: name and key. `root_key`: the key of epoch 0, or None. `notes`: more checkpoints."""
    def __init__(self, log, root_key, notes=(), lists=None):
        self.log, self.root_key, self.notes = log, root_key, notes
        self.found, self.exceptions, self.differing = dict.fromkeys(CHECKS, (PASS, None, None)), [], ()
        self.epoch, self.epoch_key = None, log[1]  # the running epoch's entry and key; epoch 0 is signed by the log's
        self.waiting, self.good, self.signed = [], 0, -1  # checkpoints to come; sizes of the last good, and of the last
        self.tree, self.last, self.tile = Tree(), None, b""  # the entry before, and the tile of the bundle to come
        self.db = sqlite3.connect("")  # on disk, and gone when it is closed
        self.db.executescript("""PRAGMA journal_mode=OFF; CREATE TABLE boot (b PRIMARY KEY);
            CREATE TABLE tile (level, number, root, PRIMARY KEY (level, number))""")
        self.lists = lists and lists(self)
    def hold(self, holds, check, entry, what, verdict=FAIL):
        """Notes the verdict unless it holds. A check keeps its gravest, of equal ones that of the lowest entry."""
        (old, at, _), rank = self.found[check], GRAVITY.index
        graver = rank(verdict) > rank(old) or verdict == old and entry is not None and (at is None or entry < at)
        self.found[check] = self.found[check] if holds or not graver else (verdict, entry, what)
        return holds
    def insert(self, table, *row):
        return self.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row).rowcount > 0
    def run(self, pack):
        self.read_manifest(pack)
        for stated in self.manifest["files"]:
            path, section = stated["path"], stated["path"].split("/")[0]
            file, reader = pack.member(path), self if section in ("ledger", "SHA256SUMS") else self.lists
            try:
                getattr(reader, "read_" + section, lambda path, file: None)(path, file)
            except ValueError as problem:  # ends the reading of this file, not that of the pack
                check = {"reviews": "approvals", "ledger": "checkpoints"}.get(section, section)
                self.hold(False, check, None, f"{path}: {problem}")
            while file.read(1 << 20): pass
            same = (stated["bytes"], stated["sha256"]) == (file.raw.size, file.raw.hash.hexdigest())
            self.hold(same, "manifest", None, f"{path} has another size or hash")
        pack.finish()
        size, now = self.tree.size, self.last["t"] if self.last else 0
        self.hold(self.created == now, "manifest", None, "created_at is not the time of the last entry")
        self.hold(not self.waiting, "checkpoints", size, "too few entries for the root of a checkpoint", INCONCLUSIVE)
        self.hold(self.signed >= 0, "tail", 0, "no checkpoint says how many entries there are", INCONCLUSIVE)
        self.hold(size >= self.signed, "tail", size, f"{size} entries are here, a checkpoint signs {self.signed}")
        self.hold(self.root_key and self.epoch, "ladder", 0, "there is no epoch, or no ladder's root", INCONCLUSIVE)
        if self.lists: self.lists.end()
        for check in [] if self.lists else LISTED: self.hold(False, check, None, "lists.py is not here", INCONCLUSIVE)
        failed = {c: entry for c, (verdict, entry, _) in self.found.items() if verdict == FAIL and entry is not None}
        if failed.get("lines") in self.differing: failed.pop("checkpoints", None)  # which names only a range of them
        return {"verdict": max((verdict for verdict, _, _ in self.found.values()), key=GRAVITY.index),
                "first_bad_entry": min(failed.values(), default=None), "size": self.tree.size,
                "root": self.tree.root().hex(), "exceptions": self.exceptions,
                "checks": [dict(zip(("check", "verdict", "entry", "what"), (c, *self.found[c]))) for c in CHECKS]}
    def read_manifest(self, pack):
        """pack.md, MANIFEST.json: its form, that its files are those of a pack in their order, and its note."""
        file = pack.member("MANIFEST.json")
        must(file.raw.size <= MAX_MANIFEST, "the manifest is greater than 64 MiB")
        try:
            self.manifest = m = one_line(file.read(), MANIFEST)
            (self.head,), paths = m["checkpoints"], [file["path"] for file in m["files"]]
            self.since, self.until, self.created = map(microseconds, [*m["period"].values(), m["created_at"]])
        except ValueError as problem:
            raise Malformed(f"the manifest: {problem}") from None
        at = [form and form.lastindex for form in map(LAYOUT, paths)]
        whole = all(at) and at[-1:] == [len(FILES)] and "ledger/checkpoint" in paths
        order = whole and all(a < b or a == b and "[0-9" in FILES[a - 1] for a, b in zip(at, at[1:]))
        for group in "recordings/", "populations/":  # jsonl is before csv and ipe.json
            names = [path.replace("jsonl", "a") for path in paths if path.startswith(group)]
            must(order and names == sorted(names), "the files are not those of a pack in their order")
        must(self.since <= self.until, "the period ends before it begins")
        self.tiles = {path: tile for path, *tile in itertools.islice(layout(self.head["size"]), len(paths))}
        fit = [p.replace("/kept/", "/tile/entries/") for p in paths if p[:12] in ("ledger/tile/", "ledger/kept/")]
        self.hold(fit == [*self.tiles], "tiles", None, "the tiles are not those of the head's size")
        note = pack.member("MANIFEST.note")
        must(note.raw.size <= MAX_MANIFEST_NOTE, "MANIFEST.note has more than 4,096 bytes")
        try:
            text, signed_by = opened(note.read())
            must(text == f"chancery/pack/1\n{file.raw.hash.hexdigest()}\n", "it is of another manifest", ValueError)
            must(signed_by(*self.log, alone=True), "it is not signed by the log's key, or not by it alone", ValueError)
        except ValueError as problem: self.hold(False, "manifest", None, f"MANIFEST.note: {problem}")
        for note in self.notes: self.take_note("a checkpoint from elsewhere", *note)
    def read_SHA256SUMS(self, path, file):
        lines = (f"{f['sha256']}  {f['path']}\n" for f in self.manifest["files"][:-1])
        same = all(file.readline(200) == line.encode("utf-8") for line in lines) and not file.read(1)
        self.hold(same, "manifest", None, "SHA256SUMS does not say the same as the manifest")
    def read_ledger(self, path, file):
        """pack.md, Files: the head, then tiles and bundles; tiles must be equal to those made from the entries."""
        if path == "ledger/checkpoint": return self.take_note(path, *read_note(file.read(MAX_NOTE + 1)))
        level, n, width = self.tiles.get(path.replace("/kept/", "/tile/entries/"), (None, 0, 0))
        if level == "entries":
            made = b"".join(self.entries(256 * n, width, file, "/kept/" in path))
            self.hold(not file.read(1), "lines", self.tree.size, "bytes stand behind the last entry of a bundle")
            self.hold(self.tile == made, "tiles", None, f"the tile of {path} is not the one made from its entries")
            self.tile = b""
        elif level is not None:
            self.tile = made = file.read(8193)
            below = self.db.execute("SELECT root FROM tile WHERE level=? AND number>=? AND number<? ORDER BY number",
                                    (level - 1, 256 * n, 256 * n + width))
            same = not level or made == b"".join(bytes.fromhex(root) for root, in below)
            self.hold(same, "tiles", None, f"{path} is not the one made from the entries")
        if level and width == 256: self.insert("tile", 0 if level == "entries" else level, n, Tree(made).root().hex())
    def entries(self, first, width, file, kept):
        """C2SP tlog-tiles: the leaf hashes of the entries of a bundle. No place after one that is not whole is sure."""
        for n in range(first, first + width):
            length = int.from_bytes(file.read(2), "big")
            length, pruned = (40, True) if kept and not length else (length, False)  # pack.md, Pruned entries
            line = file.read(length) if length <= MAX_ENTRY else b""
            whole = line and len(line) == length and n == self.tree.size
            if not self.hold(whole, "lines", self.tree.size, "no whole entry is here"): return
            yield self.entry(line, n, pruned)
    def entry(self, line, n, pruned):
        """ledger.md, Tree: an entry; of one that is pruned first of its segment and hash. Then the checkpoint there."""
        leaf = line[8:] if pruned else sha256(b"\0" + line)
        self.hold(not self.tile or self.tile[n % 256 * 32:][:32] == leaf, "lines", n, "the tile has another hash")
        known = not pruned or self.lists and self.lists.pruned(int.from_bytes(line[:8], "big"), n, leaf)
        self.hold(known, "lines", n, "the entry is pruned, and lists.py is not here", INCONCLUSIVE)
        try: pruned or self.follow(parse(line), n, leaf, self.last)
        except ValueError as problem: self.hold(False, "lines", n, f"the form: {problem}")
        self.tree.push(leaf)
        self.checkpoints(self.tree.size)
        return leaf
    def follow(self, e, n, leaf, last):
        """ledger.md, Entry: lines and order; then what else an entry can break."""
        boot = last is None or e["b"] != last["b"]
        self.hold(e["n"] == n and e["o"] == self.log[0], "lines", n, "the entry states another index or log")
        self.hold(e["k"] in KINDS, "lines", n, f"the kind {e['k'][:40]} is not known", INCONCLUSIVE)
        on = not last or e["t"] >= last["t"] and (boot or e["m"] >= last["m"])
        self.hold(on, "order", n, "the wall clock or the monotonic clock is earlier than in the entry before")
        self.hold(not boot or self.insert("boot", e["b"]), "order", n, "a boot id comes back that was left")
        self.ladder(e, n, self.epoch, boot)
        if self.lists: self.lists.entry(e, n, leaf)
        self.last = e
    def ladder(self, e, n, now, boot):
        """ledger.md, Epochs: a key.epoch seals the entries before it by the key of the epoch before, which is `now`."""
        late = now and now["b"] == e["b"] and e["m"] - now["m"] > (now["life_ms"] + 60_000) * 1000
        self.hold(not late, "ladder", now and now["at"], "the epoch lasted a minute longer than life_ms", INCONCLUSIVE)
        if e["k"] != "key.epoch": return self.hold(not boot, "ladder", n, "a log or a boot must begin with a key.epoch")
        parts = "chancery/epoch/1", self.log[0], e["e"], e["key"], e["life_ms"], e["size"], e["root"]
        signed, key = "".join(f"{part}\n" for part in parts).encode("utf-8"), bytes.fromhex(e["key"])
        place = (e["e"], e["size"], e["root"]) == (now["e"] + 1 if now else 0, n, self.tree.root().hex())
        self.hold(place, "ladder", n, "the epoch has another number, or the entries before it another size or root")
        sealed = ed25519_holds(self.epoch_key, bytes.fromhex(e["sig"]), signed)
        self.hold(sealed, "ladder", n, "the epoch is not signed by the key before it")
        self.hold(now or self.root_key in (None, key), "ladder", n, "the first epoch's key is not the ladder's root")
        self.epoch, self.epoch_key = {**e, "at": n}, key
    def take_note(self, name, origin, size, root, signed_by):
        """ledger.md, Tree: a checkpoint must be of this log, by its key. One that is not concerns no entry."""
        if self.hold(origin == self.log[0] and signed_by(*self.log), "checkpoints", None, f"{name} is not this log's"):
            self.waiting = sorted([*self.waiting, (size, root, signed_by)], key=lambda note: -note[0])
            self.signed = max(size, self.signed)
        same = (origin, size, root.hex()) == (self.head["origin"], self.head["size"], self.head["root"])
        self.hold(same or name != "ledger/checkpoint", "manifest", None, f"it states another head than {name}")
    def checkpoints(self, size):
        """ledger.md, Epochs and Tree: the checkpoints of the size that the tree has reached, from the last good one."""
        good, epoch = self.good, self.epoch
        while self.waiting and self.waiting[-1][0] == size:
            _, root, signed_by = self.waiting.pop()
            same = self.hold(root == self.tree.root(), "checkpoints", good, f"the root signed for {size} is another")
            self.good, self.differing = size if same else good, self.differing or range(good, good if same else size)
            sealed = not epoch or signed_by(f"{self.log[0]}/epoch/{epoch['e']}", self.epoch_key)
            self.hold(sealed, "ladder", epoch and epoch["at"], f"this epoch did not sign the checkpoint of {size}")
def microseconds(t): return calendar.timegm(time.strptime(t[:19], "%Y-%m-%dT%H:%M:%S")) * 1_000_000 + int(t[20:26])
def like(v, form):
    """Whether it has the form: a pattern of a text, 1, int (not negative), dict or None (any), or these inside."""
    if form is dict: return type(v) is dict
    if form in (int, 1): return type(v) is int and (v >= 0 if form is int else v == form)
    if type(form) is dict: return like(v, dict) and v.keys() == form.keys() and all(like(v[k], form[k]) for k in form)
    if type(form) is list: return type(v) is list and all(like(each, form[0]) for each in v)
    if type(form) is tuple: return type(v) is list and len(v) == len(form) and all(map(like, v, form))
    return form is None or type(v) is str and re.fullmatch(form, v, re.S) is not None
def sorted_object(pairs):  # the order of code points is that of UTF-8's bytes
    names = [name for name, _ in pairs]
    must(names == sorted({*names}), "the keys of an object are not sorted, or one is there twice", ValueError)
    return dict(pairs)
def integer(digits):  # is also called for floats and NaN
    form = len(digits) <= 20 and digits != "-0" and digits.lstrip("-").isdigit() and -2**63 <= int(digits) < 2**63
    must(form, "a number is not an integer, or out of bounds", ValueError)
    return int(digits)
JSON = json.JSONDecoder(object_pairs_hook=sorted_object, parse_int=integer, parse_float=integer, parse_constant=integer)
def decode(line):
    try: value = JSON.decode(line.decode("utf-8"))
    except RecursionError: raise ValueError("too deep") from None
    if b"\\u" in line: json.dumps(value, ensure_ascii=False).encode("utf-8")  # no halves of surrogate pairs
    return value
def one_line(line, form):
    """pack.md, Container: an object of the form, written without spaces, on a line of its own."""
    spaces = re.search(rb"\s", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line[:-1]))
    must(line[-1:] == b"\n" and not spaces, "it is not one whole line without spaces", ValueError)
    value = decode(line)
    must(like(value, form), "it has other keys or values than pack.md says", ValueError)
    return value
def parse(line):
    """ledger.md, Entry: one, or ValueError for its form. Of unknown kinds only the common keys are looked at."""
    e = decode(line)
    whole = not {10, 13} & {*line} and like(e, dict) and BASE <= e.keys() and like(e["k"], FORM["k"])
    must(whole, "not one line, or not an object with the keys of every entry", ValueError)
    required, allowed = KINDS.get(e["k"], (BASE, e.keys()))
    must(required <= e.keys() <= allowed, "the keys are not those of its kind", ValueError)
    for key in e if e["k"] in KINDS else BASE:
        must(like(e[key], FORM.get(f"{e['k']} {key}", FORM.get(key))), f"the value of {key}", ValueError)
    return e
def sha256(data): return hashlib.sha256(data).digest()
def key_id(name, key): return sha256(name.encode("utf-8") + b"\n\1" + key)[:4]
def opened(data):
    """C2SP signed-note: its text, and who signed it; ValueError if it is none."""
    body, _, tail = data[:MAX_NOTE].decode("utf-8").rpartition("\n\n")
    lines = re.findall(r"— ([^\s+]+) (.+)\n", tail)
    must(lines and "".join(f"— {name} {data}\n" for name, data in lines) == tail, "it is no signed note", ValueError)
    signatures = [(name, base64.b64decode(data, validate=True)) for name, data in lines]
    def signed_by(name, key, alone=False):  # once at least, and each signature that says so holds
        mine = [data[4:] for other, data in signatures if other == name and data[:4] == key_id(name, key)]
        good = mine != [] and (not alone or len(lines) == 1)
        return good and all(ed25519_holds(key, data, body.encode("utf-8") + b"\n") for data in mine)
    return body + "\n", signed_by
def read_note(data):
    """A C2SP tlog-checkpoint: origin, size, root, and who signed it; ValueError if it is none."""
    text, signed_by = opened(data)
    form = re.fullmatch("([^\n]+)\n(0|[1-9][0-9]{0,18})\n(.{43}=)\n", text)
    must(form, "it is not a checkpoint", ValueError)
    return form[1], int(form[2]), base64.b64decode(form[3], validate=True), signed_by
class Tree:
    """The Merkle tree of RFC 6962 §2.1, as the roots of its whole subtrees from left to right."""
    def __init__(self, leaves=b""):
        self.size, self.peaks = 0, []
        for at in range(0, len(leaves), 32): self.push(leaves[at:at + 32])
    def push(self, leaf):
        low, self.size = self.size, self.size + 1
        while low & 1: leaf, low = sha256(b"\1" + self.peaks.pop() + leaf), low >> 1
        self.peaks.append(leaf)
    def root(self):
        return functools.reduce(lambda root, peak: sha256(b"\1" + peak + root), self.peaks[::-1] or [sha256(b"")])
# Ed25519, RFC 8032 §5.1: the field, the order of the base point, the curve's d, and the root of -1.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, I = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
def point(data):  # §5.1.3: in extended coordinates, or None if the bytes are not the one encoding of a point
    y, sign = int.from_bytes(data, "little") & 2**255 - 1, data[31] >> 7
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * I % P  # one of the two roots, if there is one
    x = P - x if x & 1 != sign else x
    return None if y >= P or (v * x * x - u) % P or x == P else (x, y, 1, x * y % P)
def add(p, q):  # §5.1.4
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = (b - a) % P, (d - c) % P, (d + c) % P, (b + a) % P
    return e * f % P, g * h % P, f * g % P, e * h % P
ZERO, BASE_POINT = (0, 1, 1, 0), point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
def ed25519_holds(key, signature, message):
    """§5.1.7, [s]B = R + [k]A. Keys of small order, under which anyone can sign, are refused, too."""
    a, s, total = point(key), int.from_bytes(signature[32:], "little"), ZERO
    if a is None or len(signature) != 64 or s >= L: return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    table = ZERO, BASE_POINT, (minus := (P - a[0], a[1], 1, P - a[3])), add(BASE_POINT, minus)
    for bit in range(252, -1, -1): total = add(add(total, total), table[(s >> bit & 1) + 2 * (k >> bit & 1)])
    inverse, eightfold = pow(total[2], P - 2, P), functools.reduce(lambda p, _: add(p, p), range(3), a)
    encoded = total[1] * inverse % P | (total[0] * inverse % P & 1) << 255
    return eightfold[0] != 0 and encoded.to_bytes(32, "little") == signature[:32]
def handed_in(path): return open(path, "rb").read(MAX_NOTE)
def roots(data):
    """ledger.md, Epochs: the log's name and key, and the key of epoch 0 or None."""
    form = re.fullmatch(r"\s*([^\s+]+)\+(\w{8})\+([\w+/]{44})(\s+(\1/epoch/0)\+(\w{8})\+([\w+/]{44}))?\s*",
                        data.decode("utf-8"), re.A)
    found = [form.group(i, i + 1, i + 2) for i in (1, 5) if form[i]] if form else []
    keys = [base64.b64decode(data, validate=True) for _, _, data in found]
    good = keys and all(k[0] == 1 and key_id(name, k[1:]).hex() == ident for k, (name, ident, _) in zip(keys, found))
    must(good, "not the verifier keys of a log and, behind it, of its epoch 0", ValueError)
    return (form[1], keys[0][1:]), keys[1][1:] if keys[1:] else None
def beside(pack):
    """The class of lists.py beside this file; None if it is not here, or only in the unpacked pack that is checked."""
    path = os.path.join(HERE, "lists.py")
    if not os.path.isfile(path) or (HERE + os.sep).startswith(os.path.realpath(pack) + os.sep): return None
    sys.dont_write_bytecode, sys.modules["verify"] = True, sys.modules[__name__]
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("lists", path))
    module.__spec__.loader.exec_module(module)
    return module.Lists
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda problem: parser.exit(64, f"{parser.format_usage()}{problem}\n")
    parser.add_argument("pack", help="an archive, the first of its parts, or the directory it was unpacked to")
    parser.add_argument("--roots", required=True, metavar="FILE", help="keys of the log and of epoch 0, from elsewhere")
    parser.add_argument("--checkpoint", nargs="+", action="extend", default=[], metavar="NOTE", help="from elsewhere")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try: (log, root_key), notes = roots(handed_in(given.roots)), [*map(read_note, map(handed_in, given.checkpoint))]
    except (OSError, ValueError) as problem: parser.error(f"the roots or checkpoints: {problem}")
    if os.path.realpath(given.roots).startswith(os.path.realpath(given.pack) + os.sep):
        parser.error("the roots are in the pack that they are to verify")
    try:
        pack = Folder(given.pack) if os.path.isdir(given.pack) else Archive(given.pack)
        result = Verifier(log, root_key, notes, beside(given.pack)).run(pack)
    except Exception as problem:  # whatever it is, the pack was not verified
        what = str(problem) if isinstance(problem, Malformed) else f"{type(problem).__name__}: {problem}"
        print(json.dumps({"verdict": "MALFORMED", "what": what}) if given.json else f"MALFORMED {ascii(what)[1:-1]}")
        sys.exit(3)
    for c in [] if given.json else result["checks"] + [{**x, "verdict": "EXCEPTION"} for x in result["exceptions"]]:
        at = "" if c["entry"] is None else f" entry {c['entry']}"
        print(f"{c['verdict']} {c.get('check') or c['control']}{at} {ascii(c['what'] or '')[1:-1]}".rstrip())
    bad = "" if result["first_bad_entry"] is None else f" first bad entry: {result['first_bad_entry']}"
    print(json.dumps(result) if given.json else f"{result['verdict']} size {result['size']} root {result['root']}{bad}")
    sys.exit({PASS: 0, FAIL: 1, INCONCLUSIVE: 2}[result["verdict"]])
if __name__ == "__main__": main()
