#!/usr/bin/env python3
"""Verifies an evidence pack offline, by docs/spec/pack.md, ledger.md and recording.md alone. Shares no code with the
writer. Nothing that is read is trusted: sizes are checked before anything is read, nothing is unpacked, links are not
followed, and what grows with the ledger is kept in a temporary database on disk.
Not checked: SSH signatures of approvals (their digests are), what recordings hold and their CRC (their chains are),
witnesses, `.csv`, rows of P19 and P20 (their number is), results of controls, what is for people (hashes are).
Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 MALFORMED container or manifest, 64 usage."""
import os, sys
if __name__ == "__main__":  # no module is taken from beside this file: that may be an unpacked pack
    sys.path[:] = [p for p in sys.path if os.path.realpath(p) != os.path.dirname(os.path.realpath(__file__))]
import argparse, base64, functools, hashlib, io, itertools, json, re, sqlite3, stat, struct
from datetime import datetime, timedelta
GRAVITY = PASS, INCONCLUSIVE, FAIL = "PASS", "INCONCLUSIVE", "FAIL"
CHECKS = ("container manifest lines order checkpoints ladder tail sessions rolling recordings tiles directory rules "
          "approvals populations controls").split()
MAX_ENTRY, MAX_NOTE, MAX_BLOCK, MAX_LINE, MAX_MANIFEST = 61_440, 65_536, 1 << 20, 1 << 20, 64 << 20
# ledger.md, Entry: the kinds and their keys ("?" behind one that may be absent), besides those of every entry.
BASE = frozenset("v k o n t m b".split())
KINDS = """boot config dangerous loss_ms prof root size ver/shutdown reason/stall reason/heartbeat/crash q? s
key.epoch e key life_ms root sig size/policy.apply by? p source/principal a com/secret.change by? c change ver
session.open a auth c d p prof proto s/session.close acts cm? leaves reason roll s/approval.use ch q ref rev s
act.start a c ch d fp p prof q rev? s x/act.done bytes cm? masked out q rows s sqlstate? us/gap cause from to
act.deny a? c? ch? code d p q s/approval.request a c ch needed p q rev s until/rec.segment blocks bytes cr file
approval.decide assurance by ch d rev sig?/approval.end end rev/view by s? what/export by cr from to/alert code s?"""
KINDS = {kind: (BASE.union(w for w in keys if w[-1] != "?"), BASE.union(w.rstrip("?") for w in keys))
         for kind, *keys in map(str.split, re.split("[/\n]", KINDS))}
# Forms, see `like`: of values of entries (ledger.md), of the manifest, and of lines (pack.md).
ID, DIGEST, TIME = "[0-9a-f]{32}", "[0-9a-f]{64}", "[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}[.][0-9]{6}Z"
FORM = {"v": 1, "k": ".+", "o": ".+", "d": list, "ref": ["[0-9]+:" + DIGEST], "x": "read|write", "rev": ".*",
        "out": "completed|failed|skipped|suspended|unknown|cancelled", "end": "expired|withdrawn", "c": ".*",
        **dict.fromkeys("n t m q e size life_ms acts leaves blocks bytes file until".split(), int),
        **dict.fromkeys("b s a by".split(), ID), **dict.fromkeys("p ch cm cr com root roll key".split(), DIGEST)}
MANIFEST = {"pack_version": 1, "created_at": TIME, "period": {"from": TIME, "to": TIME}, "controls": [".*"],
            "generator": {"name": ".*", "version": ".*", "binary_sha256": DIGEST},
            "checkpoints": [{"origin": ".*", "size": int, "root": DIGEST, "directory": "ledger"}],
            "files": [{"path": ".*", "bytes": int, "sha256": DIGEST}]}
LINK = {"issuer": ".*", "kind": "user|service|agent", "subject": ".*"}
CHAIN = {"a": ID, "salt": DIGEST, "principal": {"groups": [".*"], **LINK}, "actors": [LINK]}
APPROVAL = {"entry": int, "key": ".*", "signature": ".*"}
IPE = {"columns": [".*"], "criteria": [".*"], "excluded": [{"count": int, "reason": ".*"}], "query": ".*",
       "title": ".*", **dict.fromkeys(("absent first_key generated_at last_key origins period_from period_to "
                                       "population_id row_count sha256 system timezone").split())}
# pack.md, Files: what may be in a pack, in its order; but for tiles, which stand behind the checkpoint.
LAYOUT = re.compile(r"""(directory/chains[.]jsonl )?(rules/[0-9a-f]{64}[.]rules )*(reconciliation/postgres[.]jsonl )?
    (reviews/approvals[.]jsonl )?(recordings/[0-9a-f]{32}[.]rec )*ledger/checkpoint
     (populations/P[0-9]{2}[.](jsonl|csv|ipe[.]json) )*(controls/results[.]jsonl )?(controls/control-matrix[.]csv )?
    (controls/exceptions[.]csv )?(controls/results[.]oscal[.]json )?(controls/findings[.]ocsf[.]jsonl )?
    (report[.]html )?(README[.]txt )?(cuec[.]md )?(verify[.]py )?(trust/roots[.]txt )?
    SHA256SUMS """.replace("\n    ", ""))
# pack.md, Populations, as SQL: the entries that begin a row, and for each the one that completes it.
FIRST = "(SELECT min(x.n) FROM e x WHERE x.n>e.n AND {})".format
ROWS = [("P01", "k='principal'", "NULL"), ("P05", "k='act.deny'", "n"), ("P09", "k='boot'", "n"),
        ("P04", "k='session.open'", FIRST("x.s=e.s AND (x.k='session.close' OR x.k='crash' AND x.q IS NULL)")),
        ("P05", "k='act.start'", FIRST("x.s=e.s AND x.q=e.q AND x.k IN ('act.done', 'crash')")),
        ("P06", "k='approval.request'", FIRST("""x.rev=e.rev AND (x.k IN ('approval.use', 'approval.end')
            OR x.k='approval.decide' AND x.d NOT LIKE '["approve"%')""")),
        ("P08", "k='policy.apply'", FIRST("x.k='policy.apply'")), ("P10", "k='secret.change'", "n"),
        ("P11", "k='act.done' AND masked>0", "n"), ("P12", "k IN ('act.deny', 'alert')", "n"),
        ("P13", "k='rec.segment'", "n"), ("P14", "k IN ('view', 'export')", "n"), ("P17", "k='key.epoch'", "n")]
ROW = "session command resource outcome rows masked".split()  # kept of each row, and of each entry:
COLUMNS = "n t k s q a by c p ch rev cm com sig until d out rows masked".split()

# What must not be found at the end: entries (NULL: one that is not known). With a question mark: makes inconclusive.
# In `e` are the entries; in `chain link rules signed block row` what is in files; in `due` the rows that must be there.
QUERIES = """
sessions: a command is started twice
    SELECT max(n) FROM e WHERE k='act.start' GROUP BY s, q HAVING count(*)>1
directory: the line of the chain has not the commitment stated here
    SELECT n FROM e JOIN chain USING (a) WHERE k='principal' AND e.com<>chain.com
directory: a chain has a line and no entry
    SELECT NULL FROM chain WHERE a NOT IN (SELECT a FROM e WHERE k='principal')
directory: the line of the chain is not in the order of these entries
    WITH p AS (SELECT chain.rowid AS line, min(n) AS n FROM e JOIN chain USING (a) WHERE k='principal' GROUP BY line)
    SELECT later.n FROM p JOIN p later ON later.line=p.line+1 WHERE later.n<p.n
rules: the rule set was not put in force before
    SELECT n FROM act WHERE NOT EXISTS (SELECT 1 FROM e x WHERE x.k='policy.apply' AND x.p=act.p AND x.n<act.n)
rules?: the text of the rule set is not here
    SELECT n FROM act WHERE PERIOD AND p NOT IN (SELECT p FROM rules)
rules: a text is here of what was never in force
    SELECT NULL FROM rules WHERE p NOT IN (SELECT p FROM e WHERE k='policy.apply')
approvals: the signature is of no approval.decide, or of one that states another
    SELECT signed.n FROM signed LEFT JOIN decide USING (n) WHERE decide.sig IS NOT signed.sig
approvals?: the signature is not here
    SELECT n FROM decide WHERE PERIOD AND sig IS NOT NULL AND n NOT IN (SELECT n FROM signed)
recordings: no block of the session, or not its last, has the hash stated here
    SELECT n FROM e WHERE cm IS NOT NULL AND s IN (SELECT s FROM block) AND NOT EXISTS (SELECT 1 FROM block b
    WHERE b.s=e.s AND b.hash=e.cm AND (k='act.done' OR number=(SELECT max(number) FROM block WHERE s=e.s)))
recordings: the session has a recording that its close does not state
    SELECT n FROM e WHERE k='session.close' AND cm IS NULL AND s IN (SELECT s FROM block)
recordings: a recording is of no session of the ledger
    SELECT NULL FROM block WHERE s NOT IN (SELECT s FROM e WHERE k='session.open')
recordings?: no entry states the last blocks of this session
    SELECT min(e.n) FROM e JOIN (SELECT s, max(number) AS last FROM block GROUP BY s) USING (s)
    LEFT JOIN block ON block.s=e.s AND hash=cm GROUP BY e.s HAVING max(coalesce(number, 0))<last
recordings?: the recording of this session is not here
    SELECT n FROM e WHERE cm IS NOT NULL AND s NOT IN (SELECT s FROM block)
    AND s IN (SELECT s FROM e JOIN due USING (n) WHERE pop='P04')
populations?: one is not here
    SELECT NULL FROM judged WHERE pop NOT IN (SELECT pop FROM present)
populations: a row for this entry is not here
    SELECT n FROM due WHERE pop IN (SELECT pop FROM present) AND (pop, n) NOT IN (SELECT pop, n FROM row)
populations: a row is here that this entry does not give
    SELECT n FROM row WHERE (pop, n) NOT IN (SELECT pop, n FROM due)
populations: another number of rows is here for this entry
    SELECT n FROM (SELECT pop, n, count(*) AS have FROM row GROUP BY pop, n) r JOIN due USING (pop, n) JOIN e USING (n)
    WHERE have <> CASE pop WHEN 'P01' THEN ifnull((SELECT links FROM chain WHERE chain.a=e.a), 1)
    WHEN 'P06' THEN max(1, (SELECT count(*) FROM decide WHERE decide.rev=e.rev)) ELSE 1 END
populations: the row has another time than the entry
    SELECT row.n FROM row JOIN due USING (pop, n) JOIN e USING (n) WHERE at<>e.t
populations: the row before this one is completed by a later entry
    SELECT b.n FROM row a JOIN row b ON b.rowid=a.rowid+1 AND b.pop=a.pop JOIN due x ON (x.pop, x.n)=(a.pop, a.n)
    JOIN due y ON (y.pop, y.n)=(b.pop, b.n)
    WHERE (x.last IS NULL, ifnull(x.last, x.n)) > (y.last IS NULL, ifnull(y.last, y.n))
populations: the row of P05 says another thing than the entry
    SELECT row.n FROM row JOIN e USING (n) JOIN due USING (n, pop) LEFT JOIN e done ON done.n=last AND done.k='act.done'
    WHERE pop='P05' AND ((session, command, resource) IS NOT (e.s, e.q, e.c)
    OR done.n AND (outcome, row.rows, row.masked) IS NOT (done.out, done.rows, done.masked))
controls: a decision on a command that nobody asked for
    SELECT n FROM decide WHERE n NOT IN (SELECT d.n FROM decide d JOIN request r USING (rev, ch) WHERE r.n<d.n)
controls: who approved has a part in the request
    SELECT y.n FROM yes y JOIN request r USING (rev) WHERE y.by=r.a OR EXISTS
    (SELECT 1 FROM link JOIN link x USING (issuer, subject) WHERE link.a=y.by AND x.a=r.a)
controls?: who approved or who asked is not in the directory
    SELECT y.n FROM yes y JOIN request r USING (rev) WHERE NOT EXISTS (SELECT 1 FROM link WHERE a=y.by)
    OR NOT EXISTS (SELECT 1 FROM link WHERE a=r.a)
controls: an approval is used twice
    SELECT max(n) FROM spend GROUP BY rev HAVING count(*)>1
controls: a use of what was not approved for this command, or in time
    SELECT n FROM spend WHERE n NOT IN (SELECT u.n FROM spend u JOIN request r USING (rev, ch)
    JOIN yes y USING (rev, ch) WHERE r.n<y.n AND y.n<u.n AND u.t<=r.until)
"""

class Malformed(Exception):
    """The container or the manifest has not the form of pack.md."""
def must(holds, what):
    if not holds:
        raise Malformed(what)

class Member(io.RawIOBase):
    """The bytes of a member, never more of them than it declares. They are hashed as they are read."""
    def __init__(self, take, size):
        self.take, self.size, self.left, self.hash = take, size, size, hashlib.sha256()
    def readable(self):
        return True
    def readinto(self, buffer):
        data = self.take(min(len(buffer), self.left))
        buffer[:len(data)], self.left = data, self.left - len(data)
        self.hash.update(data)
        return len(data)

class Archive:
    """pack.md, Container: one member after the other, in a file or in the parts that it was cut into."""
    def __init__(self, path):
        parts = (f"{path[:-3]}{number:03}" for number in itertools.count(2)) if path.endswith(".001") else ()
        paths = [path, *itertools.takewhile(os.path.isfile, parts)]
        self.left, self.padding = sum(map(os.path.getsize, paths)), 0
        self.files, self.file = (open(path, "rb") for path in paths), io.BytesIO()
    def take(self, length):
        must(length <= self.left, "it is cut")
        data = self.file.read(length)
        while len(data) < length:
            self.file = next(self.files)
            data += self.file.read(length - len(data))
        self.left -= length
        return data
    def member(self, path):
        """The member that must be next."""
        must(not self.take(self.padding).strip(b"\0"), f"bytes stand in front of {path}")
        head, zero = self.take(512), b"0000000\0"
        must(re.fullmatch(rb"[0-7]{11}\0", head[124:136]), f"no header of {path} is here")
        front = f"pack/{path}".encode().ljust(100, b"\0") + b"0000644\0" + 2 * zero + head[124:136] + b"0000" + zero
        rest = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * zero + bytes(167)
        total, size = sum(front) + sum(rest) + 8 * ord(" "), int(head[124:135], 8)
        must(head == front + b"%06o\0 " % total + rest, f"the header of {path} is not here, or has another form")
        must(size <= self.left - 1024, f"{path} is cut")
        self.padding = -size % 512
        return Member(self.take, size)
    def finish(self):
        must(not self.take(self.padding + 1024).strip(b"\0") and not self.left, "the end is not two blocks of zeros")

class Folder:
    """pack.md, Container: the directory that unpacking gives."""
    def __init__(self, base):
        self.base = os.path.join(base, "pack") if os.path.isdir(os.path.join(base, "pack")) else base
        self.names = set()
        for top, folders, files in os.walk(self.base):
            for path in (os.path.join(top, name) for name in folders + files):
                mode, name = os.lstat(path).st_mode, os.path.relpath(path, self.base).replace(os.sep, "/")
                must(stat.S_ISREG(mode) or stat.S_ISDIR(mode), f"{name} is a link or another thing that is no file")
                self.names.update([name] if stat.S_ISREG(mode) else [])
    def member(self, path):
        must(path in self.names, f"{path} is not here")
        self.names.discard(path)
        file = open(os.path.join(self.base, *path.split("/")), "rb")
        return Member(file.read, os.fstat(file.fileno()).st_size)
    def finish(self):
        must(not self.names, f"the manifest does not name {min(self.names, default='')}")

def layout(size):
    """C2SP tlog-tiles in the order of pack.md: path, level, number, width of each tile of a log of this size."""
    low = ((level, n) for n in range(-(-size // 256)) for level in (0, "entries"))
    high = ((level, n) for level in range(1, 8) for n in range(-(-(size >> 8 * level) // 256)))
    for level, n in itertools.chain(low, high):
        width = min(256, (size >> 8 * (0 if level == "entries" else level)) - 256 * n)
        *above, last = re.findall("...", str(n).zfill(-(-len(str(n)) // 3) * 3))
        path = "/".join(["ledger/tile", str(level), *("x" + three for three in above), last])
        yield path + (f".p/{width}" if width < 256 else ""), level, n, width

class Verifier:
    """Reads a pack once. `log`: name and key. `root_key`: the key of epoch 0, or None. `notes`: more checkpoints."""
    def __init__(self, log, root_key, notes=()):
        self.log, self.root_key, self.notes = log, root_key, notes
        self.found = dict.fromkeys(CHECKS, (PASS, None, None))
        self.tree, self.last, self.sessions, self.tables = Tree(), None, {}, {}  # the entry before; the open sessions
        self.epoch, self.epoch_key = None, log[1]  # the running epoch's entry and key; epoch 0 is signed by the log's
        self.waiting, self.good, self.differing = [], 0, ()  # checkpoints to come, and the size of the last good one
        self.judged = sorted({pop for pop, _, _ in ROWS})
        self.signed, self.tile = -1, b""  # how many entries a checkpoint signs at most; the tile of the bundle to come
        self.db = sqlite3.connect("")  # on disk, and gone when it is closed
        self.db.executescript(f"""PRAGMA journal_mode=OFF; CREATE TABLE boot (b PRIMARY KEY);
            CREATE TABLE e (n INTEGER PRIMARY KEY, {','.join(COLUMNS[1:])}); CREATE INDEX e_k ON e (k, p);
            CREATE INDEX e_s ON e (s, q); CREATE INDEX e_rev ON e (rev); CREATE TABLE chain (a PRIMARY KEY, com, links);
            CREATE TABLE link (a, issuer, subject, UNIQUE (a, issuer, subject)); CREATE TABLE rules (p PRIMARY KEY);
            CREATE TABLE signed (n PRIMARY KEY, sig); CREATE TABLE block (s, number, hash, PRIMARY KEY (s, hash));
            CREATE TABLE tile (level, number, root, PRIMARY KEY (level, number));
            CREATE TABLE row (pop, n, at, {','.join(ROW)}); CREATE INDEX row_n ON row (pop, n);
            CREATE TABLE present (pop PRIMARY KEY); CREATE TABLE judged (pop PRIMARY KEY);
            INSERT INTO judged VALUES {','.join(f"('{pop}')" for pop in self.judged)};
            CREATE VIEW act AS SELECT * FROM e WHERE k IN ('session.open', 'act.start', 'act.deny');
            CREATE VIEW request AS SELECT * FROM e WHERE k='approval.request';
            CREATE VIEW decide AS SELECT * FROM e WHERE k='approval.decide';
            CREATE VIEW yes AS SELECT * FROM decide WHERE d LIKE '["approve"%';
            CREATE VIEW spend AS SELECT * FROM e WHERE k='approval.use'""")

    def hold(self, holds, check, entry, what, verdict=FAIL):
        """Notes the verdict unless it holds. A check keeps its gravest, of equal ones that of the lowest entry."""
        if not holds:
            (old, at, _), rank = self.found[check], GRAVITY.index
            if rank(verdict) > rank(old) or verdict == old and entry is not None and (at is None or entry < at):
                self.found[check] = verdict, entry, what
        return holds
    def insert(self, table, *row):
        row = [v if v is None or type(v) in (int, str) else json.dumps(v) for v in row]
        return self.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row).rowcount > 0

    def run(self, pack):
        manifest = pack.member("MANIFEST.json")
        self.read_manifest(manifest)
        try:
            form, many, signed_by = read_signed(pack.member("MANIFEST.note").read(MAX_NOTE + 1), "chancery/pack/1\n(" + DIGEST + ")")
            holds = many == 1 and form[1] == manifest.hash.hexdigest() and signed_by(*self.log)
            self.hold(holds, "manifest", None, "MANIFEST.note is of another manifest, or not signed by the log's key alone")
        except ValueError as problem:
            self.hold(False, "manifest", None, f"MANIFEST.note: {problem}")
        for stated in self.manifest["files"]:
            path, section = stated["path"], stated["path"].split("/")[0]
            member = pack.member(path)
            file = io.BufferedReader(member)
            try:
                getattr(self, "read_" + section, lambda path, file: None)(path, file)
            except ValueError as problem:  # ends the reading of this file, not that of the pack
                check = {"reviews": "approvals", "ledger": "checkpoints"}.get(section, section)
                self.hold(False, check, None, f"{path}: {problem}")
            while file.read(1 << 20):
                pass
            same = (stated["bytes"], stated["sha256"]) == (member.size, member.hash.hexdigest())
            self.hold(same, "manifest", None, f"{path} has another size or hash")
        pack.finish()
        self.end()
        failed = {c: entry for c, (verdict, entry, _) in self.found.items() if verdict == FAIL and entry is not None}
        if failed.get("lines") in self.differing:  # *lines* names the entry, a checkpoint's root only a range of them
            failed.pop("checkpoints", None)
        return {"verdict": max((verdict for verdict, _, _ in self.found.values()), key=GRAVITY.index),
                "first_bad_entry": min(failed.values(), default=None), "size": self.tree.size,
                "root": self.tree.root().hex(),
                "checks": [dict(zip(("check", "verdict", "entry", "what"), (c, *self.found[c]))) for c in CHECKS]}

    def read_manifest(self, member):
        """pack.md, MANIFEST.json: its form, and that its files are those of a pack in their order."""
        must(member.size <= MAX_MANIFEST, "the manifest is greater than 64 MiB")
        try:
            self.manifest = one_line(io.BufferedReader(member).read(), MANIFEST)
            (self.head,), paths = self.manifest["checkpoints"], [file["path"] for file in self.manifest["files"]]
            times = self.manifest["period"]["from"], self.manifest["period"]["to"], self.manifest["created_at"]
            self.since, self.until, self.created = map(microseconds, times)
            at = paths.index("ledger/checkpoint") + 1
        except ValueError as problem:
            raise Malformed(f"the manifest: {problem}") from None
        tiles = list(itertools.islice(layout(self.head["size"]), len(paths)))
        self.tiles = {path: tile for path, *tile in tiles}
        must(LAYOUT.fullmatch("".join(f"{path} " for path in paths[:at] + paths[at + len(tiles):]))
             and paths[at:at + len(tiles)] == [*self.tiles], "the files are not those of a pack in their order")
        for group in "recordings/", "populations/":
            mine = [path.replace("jsonl", "a") for path in paths if path.startswith(group)]  # before csv and ipe.json
            must(mine == sorted(mine), "the files are not in their order")
        pops = [path[:15] for path in paths if path.startswith("populations/")]
        three = pops == [pop for pop in pops[::3] for _ in range(3)]
        self.hold(three, "populations", None, "a population has not three files")
        self.hold(self.since <= self.until, "manifest", None, "the period ends before it begins")
        for note in self.notes:
            self.take_note("a checkpoint from elsewhere", *note)
    def read_SHA256SUMS(self, path, file):
        lines = (f"{f['sha256']}  {f['path']}\n".encode("utf-8") for f in self.manifest["files"][:-1])
        same = all(file.readline(200) == line for line in lines) and not file.read(1)
        self.hold(same, "manifest", None, "SHA256SUMS does not say the same as the manifest")

    def read_directory(self, path, file):
        for row in objects(file, CHAIN):
            com = sha256(b"chancery/principal/1" + bytes.fromhex(row["salt"]) + canonical(row)).hex()
            new = self.insert("chain", row["a"], com, 1 + len(row["actors"]))
            self.hold(new, "directory", None, f"the chain {row['a']} has two lines")
            for link in (row["principal"], *row["actors"]):
                self.insert("link", row["a"], link["issuer"], link["subject"])
    def read_rules(self, path, file):
        while file.read(1 << 20):
            pass
        self.hold(file.raw.hash.hexdigest() == path[6:70], "rules", None, f"{path} has not the digest that is its name")
        self.insert("rules", path[6:70])
    def read_reviews(self, path, file):
        last = -1
        for row in objects(file, APPROVAL):
            self.hold(row["entry"] > last, "approvals", row["entry"], "the signature is not in the order of its entry")
            last = row["entry"]
            self.insert("signed", last, sha256(row["signature"].encode("utf-8")).hex())
    def read_recordings(self, path, file):
        """recording.md, Block: the chain of a session. What entries state of it is compared at the end."""
        s, last, at = path[11:43], bytes(32), 0
        for head in iter(lambda: file.read(76), b""):
            magic, session, number, before, codec, zero, decoded, stored, _ = struct.unpack(
                ">4s16sQ32sB3sIII", head.ljust(76, b"\0"))
            payload = file.read(stored) if stored <= decoded <= MAX_BLOCK else None
            whole = magic == b"CRB1" and codec <= 1 and not any(zero) and payload is not None and len(payload) == stored
            if not whole or codec == 0 and stored != decoded:
                raise ValueError(f"block {at} is not whole")
            follows = (session.hex(), number, before) == (s, at, last)
            self.hold(follows, "recordings", None, f"{path}: block {at} is of another session or place")
            last, at = sha256(b"\2" + head + payload), at + 1
            self.insert("block", s, at, last.hex())
        self.hold(at, "recordings", None, f"{path} is empty")

    def read_populations(self, path, file):
        """pack.md, Populations: what `.ipe.json` says of the rows. The rows themselves are compared at the end."""
        pop, kind, m, h = path[12:15], path[16:], self.manifest, self.head
        table = self.tables.setdefault(pop, {"row_count": 0, "first_key": None, "last_key": None, "columns": None})
        for row in objects(file, dict) if kind == "jsonl" else ():
            n, columns = row.get("entry"), table["columns"] or row.keys()
            placed = pop not in self.judged or like(n, int) and like(row.get("at"), TIME)
            if columns != row.keys() or not placed:
                raise ValueError("a row has other columns than the first, or neither entry nor time")
            first, last = table["first_key"], table["last_key"]  # a row of P19 may have none
            table.update(row_count=table["row_count"] + 1, first_key=n if first is None else first,
                         last_key=last if n is None else n, columns=columns)
            if pop in self.judged:
                self.insert("row", pop, n, microseconds(row["at"]), *map(row.get, ROW))
        table.update({"sha256": file.raw.hash.hexdigest()} if kind == "jsonl" else {})
        if kind == "ipe.json":
            ipe = one_line(file.read(MAX_LINE + 1), IPE)
            columns = ipe["columns"]
            origins = [{"origin": h["origin"], "root": h["root"], "size_from": 0, "size_to": h["size"]}]
            named = columns[:2] == ["entry", "at"] and sorted(columns) == sorted(table["columns"] or columns)
            wanted = {**table, "population_id": pop, "system": h["origin"], "period_from": m["period"]["from"],
                      "period_to": m["period"]["to"], "generated_at": m["created_at"], "timezone": "UTC",
                      "origins": origins, "columns": columns if named else None}
            wrong = [key for key in sorted(wanted) if ipe.get(key, wanted[key]) != wanted[key]]
            self.hold(not wrong, "populations", None, f"{path} is wrong about {' '.join(wrong)}")
            if ipe["absent"] is None:
                self.insert("present", pop)
            elif table["row_count"]:
                raise ValueError("there are rows of what is absent")

    def read_ledger(self, path, file):
        """pack.md, Files: the head, then tiles and bundles; tiles must be equal to those made from the entries."""
        if path == "ledger/checkpoint":
            return self.take_note(path, *read_note(file.read(MAX_NOTE + 1)))
        level, number, width = self.tiles[path]
        if level == "entries":
            made = b"".join(self.entries(256 * number, width, file))
            self.hold(not file.read(1), "lines", self.tree.size, "bytes stand behind the last entry of a bundle")
            self.hold(self.tile == made, "tiles", None, f"the tile of {path} is not the one made from its entries")
        else:
            self.tile = made = file.read(8193)
            below = self.db.execute("SELECT root FROM tile WHERE level=? AND number>=? AND number<? ORDER BY number",
                                    (level - 1, 256 * number, 256 * number + width))
            same = not level or made == b"".join(map(bytes.fromhex, itertools.chain.from_iterable(below)))
            self.hold(same, "tiles", None, f"{path} is not the one made from the entries")
        if level and width == 256:
            self.insert("tile", 0 if level == "entries" else level, number, Tree(made).root().hex())
    def entries(self, first, width, file):
        """C2SP tlog-tiles: the leaf hashes of the entries of a bundle. No place after one that is not whole is sure."""
        for n in range(first, first + width):
            length = int.from_bytes(file.read(2), "big")
            line = file.read(length) if length <= MAX_ENTRY else b""
            whole = line and len(line) == length and n == self.tree.size
            if not self.hold(whole, "lines", self.tree.size, "no whole entry is here"):
                return
            yield self.entry(line, n)

    def entry(self, line, n):
        """ledger.md, Entry: lines and order; then what else an entry can break, and the checkpoint behind it."""
        leaf, last = sha256(b"\0" + line), self.last
        self.hold(self.tile[n % 256 * 32:][:32] == leaf, "lines", n, "the tile has another hash")
        try:
            e = parse(line)
            boot = last is None or e["b"] != last["b"]
            self.hold(e["n"] == n and e["o"] == self.log[0], "lines", n, "the entry states another index or log")
            self.hold(e["k"] in KINDS, "lines", n, f"the kind {e['k'][:40]} is not known", INCONCLUSIVE)
            self.hold(not last or e["t"] >= last["t"], "order", n, "the wall clock is earlier than in the entry before")
            self.hold(boot or e["m"] >= last["m"], "order", n, "the monotonic clock is earlier than before")
            self.hold(not boot or self.insert("boot", e["b"]), "order", n, "a boot id comes back that was left")
            self.ladder(e, n, self.epoch, boot)
            self.session(e, n, leaf)
            if e["k"] in KINDS:
                self.insert("e", n, *map(e.get, COLUMNS[1:]))
            self.last = e
        except ValueError as problem:
            self.hold(False, "lines", n, f"the form: {problem}")
        self.tree.push(leaf)
        self.checkpoints(self.tree.size)
        return leaf

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

    def take_note(self, name, origin, size, root, signed_by):
        """ledger.md, Tree: a checkpoint must be of this log, by its key. One that is not concerns no entry."""
        mine = origin == self.log[0] and signed_by(*self.log)
        if self.hold(mine, "checkpoints", None, f"{name} is not of this log and its key"):
            self.waiting.append((size, root, signed_by))
            self.waiting.sort(key=lambda note: -note[0])
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

    def session(self, e, n, leaf):
        """ledger.md, Sessions: what begins in one is closed once, then the session; its close states its leaves."""
        kind, s = e["k"], self.sessions.get(e.get("s"))
        command = kind in ("act.start", "act.done") or kind == "crash" and "q" in e
        if kind == "session.open":
            self.hold(not s, "sessions", n, "a session is opened that is open")
            s = self.sessions[e["s"]] = {"n": n, "acts": 0, "leaves": 0, "roll": bytes(32), "open": set()}
        elif command or kind in ("session.close", "crash"):
            if not self.hold(s, "sessions", n, "the session of this entry is not open"):
                return
            if kind == "act.start":
                s["open"].add(e["q"])
                s["acts"] += 1
            elif command:
                self.hold(e["q"] in s["open"], "sessions", n, "a command is closed that is not open")
                s["open"].discard(e["q"])
            else:
                self.hold(not s["open"], "sessions", n, "a session is closed with a command that is open")
                has = s["acts"], s["leaves"], s["roll"].hex()
                rolls = kind == "crash" or has == (e["acts"], e["leaves"], e["roll"])
                self.hold(rolls, "rolling", n, "the close states other commands or leaves than the session has")
                del self.sessions[e["s"]]
        if s and (command or kind in ("session.open", "act.deny", "approval.request", "approval.use")):
            s["leaves"], s["roll"] = s["leaves"] + 1, sha256(s["roll"] + leaf)

    def end(self):
        """What was read against the entries, which are rows `e` of the database now."""
        size, first = self.tree.size, min((s["n"] for s in self.sessions.values()), default=None)
        now = self.last["t"] if self.last else 0
        self.hold(self.created == now, "manifest", None, "created_at is not the time of the last entry")
        self.hold(not self.waiting, "checkpoints", size, "too few entries for the root of a checkpoint", INCONCLUSIVE)
        self.hold(self.signed >= 0, "tail", 0, "no checkpoint says how many entries there are", INCONCLUSIVE)
        self.hold(size >= self.signed, "tail", size, f"{size} entries are here, a checkpoint signs {self.signed}")
        self.hold(self.root_key and self.epoch, "ladder", 0, "there is no epoch, or no ladder's root", INCONCLUSIVE)
        self.hold(first is None, "sessions", first, f"open at the end: {len(self.sessions)} sessions", INCONCLUSIVE)
        rows = " UNION ALL ".join(f"SELECT '{pop}' AS pop, n, t, {last} AS last FROM e WHERE {begins}"
                                  for pop, begins, last in ROWS)
        self.db.execute(f"""CREATE TABLE due AS SELECT pop, i.n, last FROM ({rows}) i LEFT JOIN e l ON l.n=last
            WHERE i.t<{self.until} AND (i.t>={self.since} OR l.t IS NULL OR l.t>={self.since})""")
        self.db.execute("CREATE INDEX due_n ON due (pop, n)")
        for check, unsure, what, query in re.findall(r"(\w+)(\??): (.*)((?:\n .*)+)", QUERIES):
            query = query.replace("PERIOD", f"t>={self.since} AND t<{self.until}")
            row = self.db.execute(f"SELECT * FROM ({query}) ORDER BY 1 IS NULL, 1").fetchone()
            self.hold(row is None, check, row and row[0], what, INCONCLUSIVE if unsure else FAIL)

def canonical(chain):
    """ledger.md, Command digest: the canonical chain."""
    def sized(*texts):
        return b"".join(len(data).to_bytes(8, "big") + data for data in (text.encode("utf-8") for text in texts))
    def link(of):
        return sized(of["issuer"], of["subject"]) + bytes([("user", "service", "agent").index(of["kind"])])
    principal, groups = chain["principal"], chain["principal"]["groups"]
    return b"".join([link(principal), len(groups).to_bytes(8, "big"), sized(*groups), *map(link, chain["actors"])])
def microseconds(time):
    return (datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ") - datetime(1970, 1, 1)) // timedelta(microseconds=1)

def like(v, form):
    """Whether it has the form: a pattern of a text, 1, int (not negative), list, dict, None (any), or these inside."""
    if form is None:
        return True
    if form in (list, dict):
        return type(v) is form
    if type(form) is dict:
        return type(v) is dict and v.keys() == form.keys() and all(like(v[key], form[key]) for key in form)
    if type(form) is list:
        return type(v) is list and all(like(each, form[0]) for each in v)
    if form in (int, 1):
        return type(v) is int and (v >= 0 if form is int else v == form)
    return type(v) is str and re.fullmatch(form, v, re.S) is not None
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
def decode(line):
    try:
        value = JSON.decode(line.decode("utf-8"))
        json.dumps(value if b"\\u" in line else 0, ensure_ascii=False).encode("utf-8")  # no halves of surrogate pairs
        return value
    except RecursionError:
        raise ValueError("too deep") from None
def objects(file, form):
    return (one_line(line, form) for line in iter(lambda: file.readline(MAX_LINE + 1), b""))
def one_line(line, form):
    """pack.md, Container: an object of the form, written without spaces, on a line of its own."""
    if line[-1:] != b"\n" or re.search(rb"\s", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line[:-1])):
        raise ValueError("it is not one whole line without spaces")
    value = decode(line)
    if not like(value, form):
        raise ValueError("it has other keys or values than pack.md says")
    return value
def parse(line):
    """ledger.md, Entry: one, or ValueError for its form. Of unknown kinds only the common keys are looked at."""
    e = decode(line)
    if b"\n" in line or b"\r" in line or type(e) is not dict or not BASE <= e.keys() or not like(e["k"], FORM["k"]):
        raise ValueError("not one line, or not an object with the keys of every entry")
    required, allowed = KINDS.get(e["k"], (BASE, e.keys()))
    if not required <= e.keys() <= allowed:
        raise ValueError(f"the keys are not those of the kind {e['k']}")
    for key in e if e["k"] in KINDS else BASE:
        form = FORM.get(f"{e['k']} {key}" if key == "sig" else key)
        if form and not like(e[key], form):
            raise ValueError(f"the value of {key}")
    return e

def sha256(data):
    return hashlib.sha256(data).digest()
def key_id(name, key):
    return sha256(name.encode("utf-8") + b"\n\1" + key)[:4]
def read_note(data):
    """A C2SP tlog-checkpoint in a signed-note: origin, size, root, and who signed it; ValueError if it is none."""
    form, _, signed_by = read_signed(data, "([^\n]+)\n(0|[1-9][0-9]{0,18})\n(.{43}=)")
    return form[1], int(form[2]), base64.b64decode(form[3], validate=True), signed_by
def read_signed(data, form):
    """A C2SP signed-note of this form: its groups, how many signed it, and whether one did; ValueError if it is none."""
    body, _, tail = data[:MAX_NOTE].decode("utf-8").rpartition("\n\n")
    form = re.fullmatch(form, body)
    lines = re.findall(r"— ([^\s+]+) (.+)\n", tail)
    if not form or not lines or "".join(f"— {name} {data}\n" for name, data in lines) != tail:
        raise ValueError("it is not a signed note of its form")
    signatures = [(name, base64.b64decode(data, validate=True)) for name, data in lines]
    def signed_by(name, key):  # once at least, and each signature that says so holds
        mine = [data[4:] for other, data in signatures if other == name and data[:4] == key_id(name, key)]
        return mine != [] and all(ed25519_holds(key, data, body.encode("utf-8") + b"\n") for data in mine)
    return form, len(signatures), signed_by

class Tree:
    """The Merkle tree of RFC 6962 §2.1, as the roots of its whole subtrees from left to right."""
    def __init__(self, leaves=b""):
        self.size, self.peaks = 0, []
        for at in range(0, len(leaves), 32):
            self.push(leaves[at:at + 32])
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

def handed_in(path):
    with open(path, "rb") as file:
        return file.read(MAX_NOTE)
def roots(path):
    """ledger.md, Epochs: the log's name and key, and the key of epoch 0 or None."""
    form = re.fullmatch(r"\s*([^\s+]+)\+(\w{8})\+([\w+/]{44})(\s+(\1/epoch/0)\+(\w{8})\+([\w+/]{44}))?\s*",
                        handed_in(path).decode("utf-8"), re.A)
    found = [form.group(i, i + 1, i + 2) for i in (1, 5) if form[i]] if form else []
    keys = [base64.b64decode(data, validate=True) for _, _, data in found]
    if not keys or any(k[0] != 1 or key_id(name, k[1:]).hex() != ident for k, (name, ident, _) in zip(keys, found)):
        raise ValueError("not the verifier keys of a log and, behind it, of its epoch 0")
    return (form[1], keys[0][1:]), keys[1][1:] if keys[1:] else None

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda problem: parser.exit(64, f"{parser.format_usage()}{problem}\n")
    parser.add_argument("pack", help="an archive, the first of its parts, or the directory it was unpacked to")
    parser.add_argument("--roots", required=True, metavar="FILE", help="keys of the log and of epoch 0, from elsewhere")
    parser.add_argument("--checkpoint", nargs="+", action="extend", default=[], metavar="NOTE",
                        help="checkpoints from elsewhere")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        (log, root_key), notes = roots(given.roots), [read_note(handed_in(path)) for path in given.checkpoint]
    except (OSError, ValueError) as problem:
        parser.error(f"the roots or checkpoints: {problem}")
    if os.path.realpath(given.roots).startswith(os.path.realpath(given.pack) + os.sep):
        parser.error("the roots are in the pack that they are to verify")
    try:
        pack = Folder(given.pack) if os.path.isdir(given.pack) else Archive(given.pack)
        result = Verifier(log, root_key, notes).run(pack)
    except Exception as problem:  # whatever it is, the pack was not verified
        what = str(problem) if isinstance(problem, Malformed) else f"{type(problem).__name__}: {problem}"
        print(json.dumps({"verdict": "MALFORMED", "what": what}) if given.json else f"MALFORMED {ascii(what)[1:-1]}")
        sys.exit(3)
    for c in [] if given.json else result["checks"]:
        at = "" if c["entry"] is None else f" entry {c['entry']}"
        print(f"{c['verdict']} {c['check']}{at}" + (f" {ascii(c['what'])[1:-1]}" if c["what"] else ""))
    bad = "" if result["first_bad_entry"] is None else f" first bad entry: {result['first_bad_entry']}"
    print(json.dumps(result) if given.json else f"{result['verdict']} size {result['size']} root {result['root']}{bad}")
    sys.exit({PASS: 0, FAIL: 1, INCONCLUSIVE: 2}[result["verdict"]])

if __name__ == "__main__":
    main()
