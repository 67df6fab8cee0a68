"""The offline verifier of evidence packs against packs that are made here, by docs/spec alone.

The maker shares nothing with the verifier: entries, signatures, trees and recordings are those of `test_verify.py`, the
archive, its headers, the tiles and the populations are made here.
"""
import copy
import datetime
import hashlib
import importlib.util
import json
import os
import pathlib
import random
import struct
import subprocess
import sys

import pytest

from test_verify import ORIGIN, ROOTS_TEXT, Log, digest, dump, ident, key, tree_root

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "crates" / "evidence" / "python" / "verify.py"
spec = importlib.util.spec_from_file_location("chancery_verify_pack", PROGRAM)
verify = importlib.util.module_from_spec(spec)
sys.modules["chancery_verify_pack"] = verify
spec.loader.exec_module(verify)
LISTS = PROGRAM.with_name("lists.py")

CHECKS = ["container", "manifest", "lines", "order", "checkpoints", "ladder", "tail", "tiles", "sessions", "rolling", "recordings",
          "directory", "rules", "approvals", "populations", "controls"]
ISSUER = "https://issuer.example"
SIGNATURE = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"


# ---- Texts ----

def time_text(t):
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=t)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06}Z"


def lines(rows):
    return b"".join(dump(row) + b"\n" for row in rows)


def sha(data):
    return hashlib.sha256(data).hexdigest()


# ---- The directory ----

def person(subject, kind="user"):
    return {"issuer": ISSUER, "kind": kind, "subject": subject}


def chain(name, subject, *actors, groups=("staff",)):
    return {"a": ident(name), "salt": digest(f"salt of {name}"), "principal": {**person(subject), "groups": list(groups)},
            "actors": [person(actor, "agent") for actor in actors]}


def commitment(row):
    def field(text):
        return struct.pack(">Q", len(text.encode())) + text.encode()
    of = row["principal"]
    data = field(of["issuer"]) + field(of["subject"]) + b"\0" + struct.pack(">Q", len(of["groups"]))
    for group in of["groups"]:
        data += field(group)
    for actor in row["actors"]:
        data += field(actor["issuer"]) + field(actor["subject"]) + b"\2"
    return sha(b"chancery/principal/1" + bytes.fromhex(row["salt"]) + data)


CHAINS = [chain("asker", "alice", "bot", "sub-bot"), chain("bob", "bob", groups=()), chain("carol", "carol\u00e9")]


# ---- A ledger ----

class Story(Log):
    """A ledger with sessions, reviews and recordings. `by`: who decides; `twist`: see Log."""

    def __init__(self, twist=None, by="bob", beats=3, chains=CHAINS):
        super().__init__(twist)
        self.chains, self.signatures, self.starts = chains, [], []
        self.boot("first")
        self.epoch()
        self.add("boot", config=digest("config"), dangerous=[], loss_ms=0, prof="strict", root=tree_root([]).hex(), size=0,
                 ver="1.0.0")
        self.add("policy.apply", p=digest("rules"), source="start")
        for row in chains:
            self.add("principal", a=row["a"], com=commitment(row))
        self.open_as("s1")
        self.start("s1", 1)
        self.add("act.done", bytes=10, cm=self.block("s1", b"first command"), masked=4, out="completed", q=1, rows=1, s=ident("s1"),
                 us=17)
        self.add("act.deny", a=ident("asker"), c="orders", ch=digest("s12"), code="denied", d=["deny", "r2"], p=digest("rules"),
                 q=2, s=ident("s1"))
        self.start("s1", 3, x="write")
        self.done("s1", 3, cm=self.block("s1", b"\x20third", codec=1))
        self.add("session.close", cm=self.recorder.heads[ident("s1")][0].hex(), reason="client", s=ident("s1"))
        self.middle = self.t + 500
        for _ in range(beats):
            self.add("heartbeat")
        self.epoch(after=600_000_000)
        self.open_as("s2")
        self.ask("s2", 1, "rev-1")
        self.decide("s2", 1, "rev-1", by)
        self.use("s2", 1, "rev-1")
        self.start("s2", 1)
        self.done("s2", 1, cm=self.block("s2", b"of the second session"))
        self.ask("s2", 2, "rev-2")
        self.add("approval.end", end="expired", rev="rev-2")
        self.ask("s2", 3, "rev-3")
        self.decide("s2", 3, "rev-3", "carol", word="deny")
        self.start("s2", 4)
        self.done("s2", 4, cm=self.block("s2", b"more of it"))
        self.add("session.close", cm=self.recorder.heads[ident("s2")][0].hex(), reason="client", s=ident("s2"))
        self.add("policy.apply", by=ident("bob"), p=digest("other rules"), source="file")
        self.add("secret.change", c="orders", change="set", ver=2)
        self.open_as("s3", p="other rules")
        self.start("s3", 1, p="other rules")
        self.done("s3", 1, cm=self.block("s3", b"before the crash"))
        self.start("s3", 2, p="other rules")
        self.boot("second")
        self.epoch()
        self.add("boot", config=digest("config"), dangerous=[], loss_ms=0, prof="strict",
                 root=tree_root(self.leaves[:-1]).hex(), size=len(self.lines) - 1, ver="1.0.0")
        self.add("crash", q=2, s=ident("s3"))
        self.add("crash", s=ident("s3"))
        self.add("rec.segment", blocks=5, bytes=1000, cr=digest("file"), file=0)
        self.add("view", by=ident("carol"), s=ident("s1"), what="replay")
        self.add("alert", code="late")
        self.add("hold.set", by=ident("carol"), com=digest("hold"), hold=ident("hold"), scope="session")
        self.add("hold.lift", by=ident("carol"), com=digest("lift"), hold=ident("hold"))
        self.finish()

    def finish(self):
        self.checkpoint()

    def block(self, s, payload, **how):
        return self.recorder.block(ident(s), ident(s), payload, **how)

    def open_as(self, s, a="asker", p="rules"):
        self.add("session.open", a=ident(a), auth="oidc", c="orders", d=["allow", "r1"], p=digest(p), prof="strict",
                 proto="postgres", s=ident(s))

    def start(self, s, q, x="read", p="rules", **more):
        self.add("act.start", a=ident("asker"), c="orders", ch=digest(f"{s}{q}"), d=["allow", "r1"], fp=digest("fp"),
                 p=digest(p), prof="strict", q=q, s=ident(s), x=x, **more)

    def ask(self, s, q, rev, needed=("dba",), until=60_000_000, a="asker"):
        self.add("approval.request", a=ident(a), c="orders", ch=digest(f"{s}{q}"), needed=list(needed), p=digest("rules"), q=q,
                 rev=rev, s=ident(s), until=self.t + until)

    def decide(self, s, q, rev, by, word="approve"):
        text = SIGNATURE + rev
        self.signatures.append({"entry": len(self.lines), "key": "ssh-ed25519 AAAA somebody", "signature": text})
        self.add("approval.decide", assurance="signed", by=ident(by), ch=digest(f"{s}{q}"), d=[word, "dba"], rev=rev,
                 sig=sha(text.encode()))

    def use(self, s, q, rev):
        self.add("approval.use", ch=digest(f"{s}{q}"), q=q, ref=[f"{len(self.lines) - 1}:{self.leaves[-1].hex()}"], rev=rev,
                 s=ident(s))


# ---- Populations, from pack.md's table ----

def populations(entries, since, until, chains):
    """For each population its rows of entry, the entry that completes it (or None), and further columns."""
    def after(n, holds):
        return next((e["n"] for e in entries[n + 1:] if holds(e)), None)

    def ends(s):
        return lambda e: e.get("s") == s and (e["k"] == "session.close" or e["k"] == "crash" and "q" not in e)
    found = {f"P{n:02}": [] for n in (1, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 17)}
    for e in entries:
        n, k = e["n"], e["k"]
        if k == "principal":
            links = next((1 + len(row["actors"]) for row in chains if row["a"] == e["a"]), 1)
            found["P01"] += [(n, None, {"link": link}) for link in range(links)]
        if k == "act.done" and e["masked"] > 0:
            found["P11"].append((n, n, {}))
        if k == "session.open":
            found["P04"].append((n, after(n, ends(e["s"])), {"session": e["s"]}))
        if k in ("act.start", "act.deny"):
            done = n if k == "act.deny" else after(
                n, lambda x: x.get("s") == e["s"] and x.get("q") == e["q"] and x["k"] in ("act.done", "crash"))
            last = entries[done] if done is not None else {}
            found["P05"].append((n, done, {
                "session": e["s"], "command": e["q"], "resource": e.get("c"), "outcome": last.get("out", last.get("code")),
                "rows": last.get("rows"), "masked": last.get("masked")}))
        if k == "approval.request":
            end = after(n, lambda x: x.get("rev") == e["rev"] and (
                x["k"] in ("approval.use", "approval.end") or x["k"] == "approval.decide" and x["d"][0] == "deny"))
            decisions = [x["d"][0] for x in entries if x["k"] == "approval.decide" and x["rev"] == e["rev"]]
            for decision in decisions or [None]:
                found["P06"].append((n, end, {"review": e["rev"], "decision": decision}))
        if k == "policy.apply":
            found["P08"].append((n, after(n, lambda x: x["k"] == "policy.apply"),
                                 {"rules": e["p"], "text": f"rules/{e['p']}.rules"}))
        for pop, kinds in (("P09", "boot"), ("P10", "secret.change"), ("P12", "act.deny alert"), ("P13", "rec.segment"),
                           ("P14", "view export unseal"),
                           ("P15", "retention.run retention.done hold.set hold.lift prune.recording prune.ledger prune.refuse shred"),
                           ("P17", "key.epoch")):
            if k in kinds.split():
                found[pop].append((n, n, {}))

    def stands(row):
        first, last, _ = row
        t = entries[first]["t"]
        return t < until and (t >= since or last is None or entries[last]["t"] >= since)
    return {pop: sorted(filter(stands, rows), key=lambda row: (row[1] is None, row[1] if row[1] is not None else row[0]))
            for pop, rows in found.items()}


def exceptions(entries, since, until, chains):
    """How many exceptions the two controls have that the verifier finds by itself."""
    people = {row["a"]: {(link["issuer"], link["subject"]) for link in (row["principal"], *row["actors"])} for row in chains}
    kept = [e for e in entries if since <= e["t"] < until]

    def before(e, k, *same):
        return [x for x in entries[:e["n"]] if x["k"] == k and all(x[key] == e[key] for key in same)]

    def divided(e):
        asked = before(e, "approval.request", "rev")
        return asked and all(e["by"] in people and r["a"] in people and not people[e["by"]] & people[r["a"]] for r in asked)

    def bound(e):
        if e["k"] == "act.start":
            return bool(before(e, "approval.use", "rev", "s", "q", "ch"))
        asked = before(e, "approval.request", "rev", "ch")
        granted = [x["d"] for x in before(e, "approval.decide", "rev", "ch")]
        return asked and not before(e, "approval.use", "rev") and all(
            e["t"] <= r["until"] and all(["approve", rule] in granted for rule in r["needed"]) for r in asked)
    return {
        "segregation": sum(not divided(e) for e in kept if e["k"] == "approval.decide" and e["d"][0] == "approve"),
        "approval_binding": sum(not bound(e) for e in kept if e["k"] == "approval.use" or e["k"] == "act.start" and "rev" in e)}


# ---- The pack ----

def tile_name(n):
    text = f"{n:03}"
    while len(text) % 3:
        text = "0" + text
    parts = [text[i:i + 3] for i in range(0, len(text), 3)]
    return "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])


def tlog_tiles(lines_, leaves, gone=()):
    """C2SP tlog-tiles of a log, in the order of pack.md. `gone`: of pruned entries, the first of their segment."""
    files, size = {}, len(lines_)
    for start in range(0, size, 256):
        part = range(start, min(start + 256, size))
        name = tile_name(start // 256) + (f".p/{len(part)}" if len(part) < 256 else "")
        files[f"ledger/tile/0/{name}"] = b"".join(leaves[start:start + 256])
        where = "kept" if any(n in gone for n in part) else "tile/entries"
        files[f"ledger/{where}/{name}"] = b"".join(
            struct.pack(">HQ", 0, gone[n]) + leaves[n] if n in gone else struct.pack(">H", len(lines_[n])) + lines_[n] for n in part)
    level, hashes = 1, leaves
    while len(hashes) >= 256:
        hashes = [tree_root(hashes[i:i + 256]) for i in range(0, len(hashes) // 256 * 256, 256)]
        for start in range(0, len(hashes), 256):
            part = hashes[start:start + 256]
            name = tile_name(start // 256) + (f".p/{len(part)}" if len(part) < 256 else "")
            files[f"ledger/tile/{level}/{name}"] = b"".join(part)
        level += 1
    return files


def header(name, size, kind=b"0", link=b"", mode=0o644, mtime=0, digits=b"%06o\0 ", device=b"0000000\0", size_field=None):
    front = name.ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2
    front += (size_field or b"%011o\0" % size) + b"%011o\0" % mtime
    rest = kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + device * 2 + bytes(155 + 12)
    return front + digits % (sum(front) + sum(rest) + 8 * 32) + rest


def tar(files):
    data = b""
    for path, content in files.items():
        data += header(b"pack/" + path.encode(), len(content)) + content + bytes(-len(content) % 512)
    return data + bytes(1024)


def pack_note(data, *signers, head="chancery/pack/1"):
    """MANIFEST.note: a signed-note over the manifest's digest, by the log's key unless others are named."""
    body = f"{head}\n{sha(data)}\n"
    return (body + "\n" + "".join(key(who).signature_line(name, body) for who, name in signers or [("log", ORIGIN)])).encode()


def sealed(manifest, files):
    data = manifest if isinstance(manifest, bytes) else lines([manifest])
    return {"MANIFEST.json": data, "MANIFEST.note": pack_note(data), **files}


class Pack:
    """The files of a pack of a ledger. What tests change in `files` and `manifest`, `seal` makes consistent again."""

    def __init__(self, log, since=0, until=2**52):
        self.log, gone, entries = log, getattr(log, "gone", {}), [json.loads(line) for line in log.lines]
        self.period, self.excluded = (since, until), []
        said = [e for e in entries if e["k"] == "prune.ledger" and type(e["last"]) is int and e["last"] >= since]
        if missing := [n for n, first in gone.items() if first in {e["first"] for e in said}]:
            until_ = max(e["last"] for e in said if e["first"] in gone.values())
            reason = f"pruned: entries of unknown kind, written up to {time_text(until_)}"
            self.excluded = [{"count": len(missing), "reason": reason}]
        entries = [{"k": "", "n": e["n"], "t": e["t"]} if e["n"] in gone else e for e in entries]
        opened = {e["s"] for e in entries if e["k"] == "session.open"}
        self.files = {"directory/chains.jsonl": lines(log.chains)}
        for text in ("other rules", "rules"):
            self.files[f"rules/{digest(text)}.rules"] = text.encode()
        self.files["reviews/approvals.jsonl"] = lines(row for row in log.signatures if row["entry"] not in gone)
        for s, blocks in sorted(log.recorder.files.items()):
            if s in opened or not gone:
                self.files[f"recordings/{s}.rec"] = b"".join(blocks)
        self.files["ledger/checkpoint"] = log.last.encode()
        self.files.update(tlog_tiles(log.lines, log.leaves, gone))
        self.created = time_text(entries[-1]["t"])
        rows = populations(entries, since, until, log.chains)
        for pop in (f"P{n:02}" for n in range(1, 21)):
            self.population(pop, entries, rows.get(pop))
        self.results(**exceptions(entries, since, until, log.chains))
        for path in ("controls/control-matrix.csv", "report.html", "README.txt", "verify.py", "lists.py", "trust/roots.txt"):
            self.files[path] = b"{}\n"
        self.manifest = {
            "pack_version": 1, "created_at": self.created, "controls": [], "generator": {
                "name": "chancery", "version": "1.0.0", "binary_sha256": digest("binary")},
            "period": {"from": time_text(since), "to": time_text(until)},
            "checkpoints": [{"origin": ORIGIN, "size": len(entries), "root": tree_root(log.leaves).hex(),
                             "directory": "ledger"}]}

    def population(self, pop, entries, rows):
        columns, table = ["entry", "at"], []
        for first, _, more in rows or []:
            table.append({"entry": first, "at": time_text(entries[first]["t"]), **more})
            columns = ["entry", "at", *more]
        self.table(pop, columns, table, None if rows is not None else "not in this release")

    def table(self, pop, columns, table, absent=None, **other):
        data, keys = lines(table), [row["entry"] for row in table]
        self.files[f"populations/{pop}.jsonl"] = data
        self.files[f"populations/{pop}.csv"] = (",".join(map(str, columns)) + "\r\n").encode()
        self.files[f"populations/{pop}.ipe.json"] = lines([{
            "population_id": pop, "title": pop, "criteria": ["all"], "system": ORIGIN, "period_from": time_text(self.period[0]),
            "period_to": time_text(self.period[1]), "generated_at": self.created, "timezone": "UTC", "query": "entries",
            "columns": columns, "row_count": len(table), "first_key": keys[0] if keys else None,
            "last_key": keys[-1] if keys else None, "origins": [
                {"origin": ORIGIN, "size_from": 0, "size_to": len(self.log.lines), "root": tree_root(self.log.leaves).hex()}],
            "excluded": self.excluded, "absent": absent, "sha256": sha(data), **other}])

    def results(self, **counts):
        """The results of controls, one of which was not tested."""
        found = {name.replace("_", "-"): count for name, count in counts.items()}
        self.files["controls/results.jsonl"] = lines([
            {"control": name, "criteria": ["CC1"], "exceptions": count, "populations": ["P06"], "predicate": "in words",
             "result": "exceptions" if count else "holds", "tested": 9, "title": name, "untested": None}
            for name, count in found.items()] + [
            {"control": "no-bypass", "criteria": ["CC1"], "exceptions": 0, "populations": ["P19"], "predicate": "in words",
             "result": "not tested", "tested": 0, "title": "none", "untested": "no log"}])

    def rows(self, pop):
        return [json.loads(line) for line in self.files[f"populations/{pop}.jsonl"].splitlines()]

    def change_rows(self, pop, change):
        rows = self.rows(pop)
        columns = list(json.loads(self.files[f"populations/{pop}.ipe.json"])["columns"])
        self.table(pop, columns, change(rows))

    def seal(self, sums=True):
        """All files with their manifest."""
        files = {path: data for path, data in self.files.items() if path != "SHA256SUMS"}
        if sums:
            files["SHA256SUMS"] = "".join(f"{sha(data)}  {path}\n" for path, data in files.items()).encode()
        listed = [{"path": path, "bytes": len(data), "sha256": sha(data)} for path, data in files.items()]
        return sealed({**self.manifest, "files": listed}, files)

    def tar(self):
        return tar(self.seal())


def run(tmp_path, data, root="epoch 0", notes=(), lists=verify.beside("/none")):
    """The result for an archive's bytes or for a dict of files, in this process; None if it is malformed."""
    path = tmp_path / "pack.tar"
    path.write_bytes(data if isinstance(data, bytes) else tar(data))
    verifier = verify.Verifier((ORIGIN, key("log").public), key(root).public if root else None, [verify.read_note(note) for note in notes], lists)
    try:
        result = verifier.run(verify.Archive(str(path)))
    except verify.Malformed:
        return None
    assert [c["check"] for c in result["checks"]] == CHECKS
    return result


def found(result):
    """What is not PASS: by check, the verdict and the entry."""
    return {c["check"]: (c["verdict"], c["entry"]) for c in result["checks"] if c["verdict"] != "PASS"}


def index(log, k, nth=0):
    return [n for n, line in enumerate(log.lines) if json.loads(line)["k"] == k][nth]


def program(*words, script=PROGRAM):
    done = subprocess.run([sys.executable, "-B", str(script), *map(str, words)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def log():
    return Story()


@pytest.fixture()
def pack(log):
    return Pack(log)


@pytest.fixture()
def roots(tmp_path):
    path = tmp_path / "roots"
    path.write_text(ROOTS_TEXT)
    return path


# ---- Whole packs ----

def test_untouched(pack, log, tmp_path):
    result = run(tmp_path, pack.tar())
    assert found(result) == {}, result
    assert result["verdict"] == "PASS" and result["first_bad_entry"] is None
    assert result["size"] == len(log.lines) and result["root"] == tree_root(log.leaves).hex()


def test_program(pack, log, roots, tmp_path):
    path, root = tmp_path / "pack.tar", tree_root(log.leaves).hex()
    path.write_bytes(pack.tar())
    code, out, _ = program(path, "--roots", roots)
    assert code == 0 and out.splitlines() == [f"PASS {c}" for c in CHECKS] + [f"PASS size {len(log.lines)} root {root}"]
    assert program(path, "--roots", roots) == (code, out, "")
    code, out, _ = program(path, "--roots", roots, "--json")
    assert code == 0 and json.loads(out) == {
        "size": len(log.lines), "root": root, "verdict": "PASS", "first_bad_entry": None, "exceptions": [],
        "checks": [{"check": c, "verdict": "PASS", "entry": None, "what": None} for c in CHECKS]}
    pack.files["README.txt"] = b"changed"
    files = pack.seal()
    files["README.txt"] = b"CHANGED"
    path.write_bytes(tar(files))
    code, out, _ = program(path, "--roots", roots)
    assert code == 1 and out.splitlines()[1] == "FAIL manifest README.txt has another size or hash"
    path.write_bytes(b"")
    code, out, _ = program(path, "--roots", roots)
    assert code == 3 and out.startswith("MALFORMED ")
    assert json.loads(program(path, "--roots", roots, "--json")[1])["verdict"] == "MALFORMED"
    changed = Pack(Story(twist=twisted("act.done", 1, rows=5), chains=CHAINS))
    changed.files["ledger/checkpoint"] = log.last.encode()
    path.write_bytes(changed.tar())
    code, out, _ = program(path, "--roots", roots)
    assert code == 1 and out.splitlines()[-1].endswith(" first bad entry: 0")


def test_usage(pack, roots, tmp_path):
    path = tmp_path / "pack.tar"
    path.write_bytes(pack.tar())
    bad = tmp_path / "bad"
    for text in ("", "x", ROOTS_TEXT.replace("+", "-"), key("log").vkey(ORIGIN) + "\n" + key("log").vkey("x"), "\xff"):
        bad.write_text(text, encoding="latin-1")
        assert program(path, "--roots", bad)[0] == 64
    for words in ([], [path], ["--roots", roots], [path, "--roots", tmp_path / "none"], [path, "--roots", roots, "--more"],
                  [path, "--roots", roots, "--checkpoint", tmp_path / "none"]):
        code, out, err = program(*words)
        assert (code, out) == (64, "") and "Traceback" not in err, words
    assert program(tmp_path / "none.tar", "--roots", roots)[0] == 3
    folder = unpack(pack.seal(), tmp_path / "out")
    assert program(folder, "--roots", folder / "trust" / "roots.txt")[0] == 64


def test_roots_from_outside(pack, log, tmp_path):
    assert found(run(tmp_path, pack.tar(), root=None)) == {"ladder": ("INCONCLUSIVE", 0)}
    assert found(run(tmp_path, pack.tar(), root="epoch 1")) == {"ladder": ("FAIL", 0)}
    path = tmp_path / "pack.tar"
    lists = verify.beside(path)
    other = verify.Verifier((ORIGIN, key("another").public), key("epoch 0").public, (), lists).run(verify.Archive(str(path)))
    assert found(other) == {"manifest": ("FAIL", None), "checkpoints": ("FAIL", None), "tail": ("INCONCLUSIVE", 0), "ladder": ("FAIL", 0)}
    other = verify.Verifier(("another.example", key("log").public), key("epoch 0").public, (), lists).run(verify.Archive(str(path)))
    assert {"checkpoints", "lines", "ladder"} <= {c for c, (v, _) in found(other).items() if v == "FAIL"}


class WithMiddle(Story):
    """Signs the first twenty entries, too."""
    middle_note = None

    def add(self, k, **keys):
        super().add(k, **keys)
        if len(self.lines) == 20:
            last, _ = self.last, self.checkpoint()
            WithMiddle.middle_note, self.last = self.last.encode(), last


def test_checkpoints_from_outside(roots, tmp_path):
    log = WithMiddle()
    data, note = Pack(log).tar(), WithMiddle.middle_note
    assert found(run(tmp_path, data, notes=[note, log.last.encode()])) == {}
    WithMiddle(twist=twisted("act.done", 0, rows=9))
    other = WithMiddle.middle_note
    assert found(run(tmp_path, data, notes=[other])) == {"checkpoints": ("FAIL", 0)}
    assert found(run(tmp_path, data, notes=[note.replace(b"\n20\n", b"\n21\n")])) == {"checkpoints": ("FAIL", None)}
    for bad in (b"", b"\xff", note[:-1], b"x" * 100_000):
        (tmp_path / "note").write_bytes(bad)
        assert program(tmp_path / "pack.tar", "--roots", roots, "--checkpoint", tmp_path / "note")[0] == 64
    for name, body in (("a", note), ("b", log.last.encode())):
        (tmp_path / name).write_bytes(body)
    assert program(tmp_path / "pack.tar", "--roots", roots, "--checkpoint", tmp_path / "a", tmp_path / "b")[0] == 0
    assert program("--roots", roots, "--checkpoint", tmp_path / "a", "--checkpoint", tmp_path / "b", "--", tmp_path / "pack.tar")[0] == 0
    log.add("heartbeat")
    log.checkpoint()
    assert found(run(tmp_path, data, notes=[log.last.encode()])) == {
        "checkpoints": ("INCONCLUSIVE", len(log.lines) - 1), "tail": ("FAIL", len(log.lines) - 1)}


def unpack(files, base):
    for path, data in files.items():
        (base / "pack" / path).parent.mkdir(parents=True, exist_ok=True)
        (base / "pack" / path).write_bytes(data)
    return base / "pack"


def test_unpacked(pack, roots, tmp_path):
    folder = unpack(pack.seal(), tmp_path / "out")
    for path in (folder, folder.parent):
        code, out, _ = program(path, "--roots", roots)
        assert code == 0, out
    (folder / "README.txt").write_bytes(b"")
    assert program(folder, "--roots", roots)[0] == 1
    (folder / "README.txt").unlink()
    assert program(folder, "--roots", roots)[0] == 3
    (folder / "README.txt").symlink_to(tmp_path / "roots")
    assert program(folder, "--roots", roots)[0] == 3
    (folder / "README.txt").unlink()
    os.mkfifo(folder / "README.txt")
    assert program(folder, "--roots", roots)[0] == 3
    (folder / "README.txt").unlink()
    (folder / "README.txt").write_bytes(b"{}\n")
    assert program(folder, "--roots", roots)[0] == 0
    (folder / "rules" / "more").write_bytes(b"")
    assert program(folder, "--roots", roots)[0] == 3
    (folder / "rules" / "more").unlink()
    (folder / "trust").rename(tmp_path / "trust")
    (folder / "trust").symlink_to(tmp_path / "trust")
    assert program(folder, "--roots", roots)[0] == 3


def test_imports_nothing_from_the_pack(pack, roots, tmp_path):
    files = pack.seal()
    files["verify.py"] = PROGRAM.read_bytes()
    folder = unpack(files, tmp_path / "out")
    for name in ("json", "hashlib", "tarfile", "sqlite3"):
        (folder / f"{name}.py").write_text("print('taken'); raise SystemExit(0)")
    code, out, _ = program(folder, "--roots", roots, script=folder / "verify.py")
    assert code == 3 and "taken" not in out


LISTED = ["sessions", "rolling", "recordings", "directory", "rules", "approvals", "populations", "controls"]


def test_without_lists(pack, log, roots, tmp_path):
    """verify.py alone proves the ledger, and says what it did not look at; it takes no lists.py from the pack it checks."""
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / "verify.py"
    alone.write_bytes(PROGRAM.read_bytes())
    path = tmp_path / "pack.tar"
    path.write_bytes(pack.tar())
    code, out, _ = program(path, "--roots", roots, script=alone)
    assert code == 2 and out.splitlines()[:-1] == [
        f"INCONCLUSIVE {c} lists.py is not here" if c in LISTED else f"PASS {c}" for c in CHECKS]
    alone.with_name("lists.py").write_bytes(LISTS.read_bytes())
    assert program(path, "--roots", roots, script=alone)[0] == 0
    pack.files["verify.py"], pack.files["lists.py"] = PROGRAM.read_bytes(), b"print('taken'); raise SystemExit(0)"
    folder = unpack(pack.seal(), tmp_path / "out")
    code, out, _ = program(folder, "--roots", roots, script=folder / "verify.py")
    assert code == 2 and "taken" not in out and "lists.py is not here" in out
    assert program(folder.parent, "--roots", roots, script=folder / "verify.py")[:1] == (2,)
    assert program(folder, "--roots", roots)[0] == 0
    assert not list(tmp_path.rglob("__pycache__"))
    log = Story(twist=twisted("session.close", 0, roll=digest("x")))
    assert found(run(tmp_path, Pack(log).tar(), lists=None)) == {c: ("INCONCLUSIVE", None) for c in LISTED}


def test_the_manifests_note(pack, roots, tmp_path):
    files = pack.seal()
    data, good = files["MANIFEST.json"], files["MANIFEST.note"]
    twice = good + good.splitlines(True)[-1]
    for bad in (b"", b"x", b"\xff", good[:-1], good + b"\n", twice, good.replace(b"pack/1", b"pack/2"), good.replace(b"\n\n", b"\n"),
                pack_note(data + b"x"), pack_note(data, ("log", "another.example")), pack_note(data, ("epoch 0", ORIGIN)),
                pack_note(data, ("log", ORIGIN), ("epoch 0", f"{ORIGIN}/epoch/0")), pack_note(data, head="chancery/pack/2"),
                pack_note(data, ("epoch 0", f"{ORIGIN}/epoch/0")), good.replace(b"\n\n", b"\nmore\n\n"), b"x" * 4096):
        assert found(run(tmp_path, {**files, "MANIFEST.note": bad})) == {"manifest": ("FAIL", None)}, bad
    assert run(tmp_path, {**files, "MANIFEST.note": b"x" * 4097}) is None
    assert run(tmp_path, {path: body for path, body in files.items() if path != "MANIFEST.note"}) is None
    assert run(tmp_path, {("other" if path == "MANIFEST.note" else path): body for path, body in files.items()}) is None
    folder = unpack(files, tmp_path / "out")
    assert program(folder, "--roots", roots)[0] == 0
    (folder / "MANIFEST.note").unlink()
    code, out, _ = program(folder, "--roots", roots)
    assert code == 1 and out.splitlines()[1].startswith("FAIL manifest MANIFEST.note")
    pack.files = {"MANIFEST.note": good, **pack.files}
    assert run(tmp_path, pack.tar()) is None


def test_parts(pack, roots, tmp_path):
    data = pack.tar()
    for length in (len(data) // 3 + 1, 512, 700):
        places = range(0, len(data), max(length, len(data) // 900 + 1))
        step = places.step
        for number, at in enumerate(places, 1):
            (tmp_path / f"p{length}.{number:03}").write_bytes(data[at:at + step])
        first, last = tmp_path / f"p{length}.001", tmp_path / f"p{length}.{len(places):03}"
        assert program(first, "--roots", roots)[0] == 0
        whole = last.read_bytes()
        last.write_bytes(whole + b"\0")
        assert program(first, "--roots", roots)[0] == 3
        last.unlink()
        assert program(first, "--roots", roots)[0] == 3
        last.write_bytes(whole)
        (tmp_path / f"p{length}.002").rename(tmp_path / "away")
        assert program(first, "--roots", roots)[0] == 3


def test_many_tiles(tmp_path):
    log = Story(beats=520)
    pack = Pack(log)
    assert "ledger/tile/1/000.p/2" in pack.files
    assert found(run(tmp_path, pack.tar())) == {}
    for path, check in (("ledger/tile/0/001", "tiles"), ("ledger/tile/1/000.p/2", "tiles"), ("ledger/tile/0/002.p/48", "tiles")):
        pack = Pack(log)
        path = next(p for p in pack.files if p.startswith(path[:19]))
        data = bytearray(pack.files[path])
        data[40] ^= 1
        pack.files[path] = bytes(data)
        assert found(run(tmp_path, pack.tar()))["tiles"][0] == "FAIL"
        pack.files[path] = bytes(data[:-32])
        assert found(run(tmp_path, pack.tar()))["tiles"][0] == "FAIL"
        pack.files[path] = bytes(data) + bytes(32)
        assert found(run(tmp_path, pack.tar()))["tiles"][0] == "FAIL"
        del pack.files[path]
        assert found(run(tmp_path, pack.tar()))["tiles"] == ("FAIL", None)


def test_tiles_that_do_not_fit_the_size(pack, log, tmp_path):
    names = list(pack.files)
    at = names.index("ledger/checkpoint")
    for order in (names[:at + 1] + [names[at + 2], names[at + 1]] + names[at + 3:], names[:at + 2] + names[at + 3:],
                  names[:at + 1] + names[at + 2:], names[:at + 1] + names[at + 3:]):
        changed = copy.copy(pack)
        changed.files = {name: pack.files[name] for name in order}
        assert found(run(tmp_path, changed.tar()))["tiles"] == ("FAIL", None)
    for more in ("ledger/tile/1/000", "ledger/tile/entries/001", "ledger/tile/entries/000", "ledger/tile/0/x000/000"):
        changed = copy.copy(pack)
        changed.files = {name: data for old in names for name, data in (
            [(old, pack.files[old])] + ([(more, b"")] if old == names[at + 2] else []))}
        assert found(run(tmp_path, changed.tar())) == {"tiles": ("FAIL", None)}
    for size in (0, 1, 256, 10**15):
        changed = copy.copy(pack)
        changed.manifest = {**pack.manifest, "checkpoints": [{**pack.manifest["checkpoints"][0], "size": size}]}
        wrong = found(run(tmp_path, changed.tar()))
        assert (wrong["tiles"], wrong["manifest"]) == (("FAIL", None), ("FAIL", None))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000, 256_000, 256_256, 300_000])
def test_layout(size):
    expected = []
    for n in range(0, size, 256):
        name = tile_name(n // 256) + (f".p/{size - n}" if size - n < 256 else "")
        expected += [f"ledger/tile/0/{name}", f"ledger/tile/entries/{name}"]
    level, count = 1, size // 256
    while count:
        expected += [f"ledger/tile/{level}/{tile_name(n // 256)}" + (f".p/{count - n}" if count - n < 256 else "")
                     for n in range(0, count, 256)]
        level, count = level + 1, count // 256
    assert [path for path, *_ in verify.layout(size)] == expected
    assert not expected or tile_name(1234067) == "x001/x234/067"


# ---- The archive ----

def test_sampled_bits(pack, tmp_path):
    """No flipped bit passes. What nothing vouches for is the manifest's own `generator` and `controls`."""
    data = pack.tar()
    free = [(data.index(b'"controls"'), data.index(b'"created_at"')), (data.index(b'"generator"'), data.index(b'"period"'))]
    chosen = random.Random(7)
    headers, at = [], 0
    for content in pack.seal().values():
        headers.append(at)
        at += 512 + len(content) + -len(content) % 512
    places = [*range(0, 512, 17), *range(124, 160, 3), *range(512, 512 + 400, 19), *(at + chosen.randrange(512) for at in headers),
              *(chosen.randrange(len(data)) for _ in range(200)), *range(len(data) - 1024, len(data), 200)]
    for place in places:
        if any(first <= place < end for first, end in free):
            continue
        bad = bytearray(data)
        bad[place] ^= 1 << chosen.randrange(8)
        result = run(tmp_path, bytes(bad))
        assert result is None or result["verdict"] == "FAIL", place


def test_cut_archive(pack, tmp_path):
    data = pack.tar()
    for length in [*range(0, 2048, 300), *range(2048, len(data), 9001), len(data) - 1024, len(data) - 512, len(data) - 1]:
        assert run(tmp_path, data[:length]) is None, length
    assert run(tmp_path, data + b"\0") is None and run(tmp_path, data + bytes(512)) is None
    assert run(tmp_path, data[:-1024] + b"x" + data[-1023:]) is None


def one_header(pack, path, change, content=None):
    """The archive with another header for one member."""
    data = b""
    for name, body in pack.seal().items():
        if name == path:
            data += change(body) + (body if content is None else content)
        else:
            data += header(b"pack/" + name.encode(), len(body)) + body
        data += bytes(-len(data) % 512)
    return data + bytes(1024)


@pytest.mark.parametrize("how", [
    {"kind": b"1", "link": b"pack/MANIFEST.json"}, {"kind": b"2", "link": b"/etc/passwd"}, {"kind": b"5"}, {"kind": b"3"},
    {"kind": b"x"}, {"kind": b"g"}, {"kind": b"L"}, {"kind": b"\0"}, {"mode": 0o755}, {"mode": 0o4644}, {"mtime": 1},
    {"link": b"x"}, {"device": b"0000001\0"}, {"digits": b"%08o"}, {"digits": b" %06o\0"}, {"digits": b"%06o  "},
    {"digits": b"%07o\0"}, {"device": bytes(8)}])
def test_headers(pack, tmp_path, how):
    assert found(run(tmp_path, one_header(pack, "README.txt", lambda b: header(b"pack/README.txt", len(b))))) == {}
    assert run(tmp_path, one_header(pack, "README.txt", lambda b: header(b"pack/README.txt", len(b), **how))) is None


@pytest.mark.parametrize("name", [
    b"pack/../README.txt", b"/pack/README.txt", b"README.txt", b"pack//README.txt", b"pack/./README.txt", b"pack/README.txt/",
    b"../README.txt", b"pack/readme.txt", b"pack/README.txt\0x", b"pack\\README.txt", b"pack/" + b"x" * 95, b""])
def test_names(pack, tmp_path, name):
    assert run(tmp_path, one_header(pack, "README.txt", lambda b: header(name, len(b)))) is None


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + bytes(3) + struct.pack(">Q", 2**33), b"777777777777",
                                  b"\xff" * 12, b"-0000000001\0", b"           \0", b"00000000003 ", b"0000000000x\0"])
def test_declared_sizes(pack, tmp_path, size):
    """A member that declares eight gigabytes is not waited for, nor is memory taken for it."""
    data = one_header(pack, "README.txt", lambda b: header(b"pack/README.txt", len(b), size_field=size))
    assert run(tmp_path, data) is None
    data = one_header(pack, "MANIFEST.json", lambda b: header(b"pack/MANIFEST.json", len(b), size_field=size))
    assert run(tmp_path, data) is None


def test_order_and_number_of_members(pack, tmp_path):
    files = pack.seal()
    names = list(files)
    for a, b in ((0, 1), (1, 2), (5, 8), (9, 10), (len(names) - 2, len(names) - 1)):
        swapped = list(names)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        assert run(tmp_path, {name: files[name] for name in swapped}) is None
    for name in names:
        assert run(tmp_path, {other: files[other] for other in names if other != name}) is None
    assert run(tmp_path, {**files, "more": b""}) is None
    assert run(tmp_path, tar(files)[:-1024] + tar({"README.txt": files["README.txt"]})) is None
    assert run(tmp_path, tar(files) + tar(files)) is None
    changed = {**files, "README.txt": files["controls/results.jsonl"] + b"x", "report.html": files["README.txt"]}
    assert found(run(tmp_path, changed)) == {"manifest": ("FAIL", None)}


def test_order_in_the_manifest(pack, tmp_path):
    names = list(pack.files)
    for a, b in ((0, 1), (4, 5), (3, 4), (7, 8), (10, 11), (10, 13), (len(names) - 2, len(names) - 1)):
        changed = copy.copy(pack)
        swapped = list(names)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        changed.files = {name: pack.files[name] for name in swapped}
        assert run(tmp_path, changed.tar()) is None, (names[a], names[b])
    for name in ("more", "rules/x.rules", "populations/P21", "../x", "/etc/passwd", "recordings/x.rec", "ledger/tile/0/001",
                 "ledger/tile/entries/001", "ledger/tile/1/000", "directory/chains.jsonl/x", "ledger/tile/0/000"):
        changed = copy.copy(pack)
        changed.files = {**pack.files, name: b""}
        assert run(tmp_path, changed.tar()) is None, name
        changed.files = {name: b"", **pack.files}
        assert run(tmp_path, changed.tar()) is None, name


# ---- The manifest ----

@pytest.mark.parametrize("change", [
    lambda m: m.replace(b'"pack_version":1', b'"pack_version":2'), lambda m: m.replace(b'"pack_version":1', b'"pack_version":1.0'),
    lambda m: m.replace(b'"pack_version":1', b'"pack_version":1,"pack_version":1'), lambda m: m[:-1], lambda m: m + b"\n",
    lambda m: m.replace(b'"pack_version":1', b'"pack_version":true'), lambda m: m.replace(b":", b": ", 1), lambda m: b" " + m,
    lambda m: m.replace(b'"controls":[],', b""), lambda m: m.replace(b'"controls":[]', b'"controls":[1]'), lambda m: b"\n",
    lambda m: m.replace(b'"controls":[]', b'"controls":' + b"[" * 200_000 + b"]" * 200_000), lambda m: b"\xff" + m,
    lambda m: m.replace(b'"controls":[]', b'"a":1,"controls":[]'), lambda m: m.replace(b'"from":"1970', b'"from":"0000'),
    lambda m: m.replace(b'"created_at":"2023-11', b'"created_at":"2023-13'),
    lambda m: m.replace(b'"bytes":3,', b'"bytes":-3,'), lambda m: m.replace(b'"bytes":3,', b'"bytes":3e0,'),
    lambda m: m.replace(b'"bytes":3,', b'"bytes":' + b"9" * 5000 + b","), lambda m: m.replace(b'"directory":"ledger"', b'"directory":"/"'),
    lambda m: m.replace(b'{"directory', b'{"directory":"ledger","origin":"o","root":"' + b"0" * 64 + b'","size":0},{"directory', 1),
    lambda m: m.replace(b"README", b"REAMDE"),
    lambda m: m.replace(b"ledger", b"..", 1), lambda m: m.replace(b'"controls":[]', b'"controls":["\\ud800"]'), lambda m: b"[]\n",
    lambda m: m.replace(b'"controls":[],"created_at"', b'"created_at"').replace(b',"files"', b',"controls":[],"files"')])
def test_malformed_manifests(pack, tmp_path, change):
    files = pack.seal()
    changed = change(files["MANIFEST.json"])
    assert changed != files["MANIFEST.json"]
    assert run(tmp_path, {**files, "MANIFEST.json": changed, "MANIFEST.note": pack_note(changed)}) is None


def test_a_great_manifest(pack, tmp_path, monkeypatch):
    assert verify.MAX_MANIFEST == 64 << 20
    data, size = pack.tar(), len(pack.seal()["MANIFEST.json"])
    monkeypatch.setattr(verify, "MAX_MANIFEST", size)
    assert found(run(tmp_path, data)) == {}
    monkeypatch.setattr(verify, "MAX_MANIFEST", size - 1)
    assert run(tmp_path, data) is None


def test_manifest_of_other_things(pack, log, tmp_path):
    changed = copy.copy(pack)
    changed.manifest = {**pack.manifest, "period": {"from": time_text(5), "to": time_text(4)}}
    assert run(tmp_path, changed.tar()) is None
    for keys in ({"created_at": time_text(0)},
                 {"checkpoints": [{**pack.manifest["checkpoints"][0], "root": digest("x")}]},
                 {"checkpoints": [{**pack.manifest["checkpoints"][0], "origin": "x"}]}):
        changed = copy.copy(pack)
        changed.manifest = {**pack.manifest, **keys}
        assert found(run(tmp_path, changed.tar()))["manifest"] == ("FAIL", None), keys
    for bad in (b"", b"x\n", pack.seal()["SHA256SUMS"] + b"x", pack.seal()["SHA256SUMS"].replace(b"  README", b" *README")):
        files = {**pack.files, "SHA256SUMS": bad}
        listed = [{"path": path, "bytes": len(data), "sha256": sha(data)} for path, data in files.items()]
        assert found(run(tmp_path, sealed({**pack.manifest, "files": listed}, files))) == {
            "manifest": ("FAIL", None)}
    assert run(tmp_path, pack.seal(sums=False)) is None


# ---- The ledger in the pack: everything derived is made again, only signatures are not ----

def twisted(kind, nth=0, **keys):
    """Changes values of the nth entry of a kind as it is written."""
    seen = []

    def twist(_, entry):
        seen.append(entry["k"])
        return {**entry, **keys} if entry["k"] == kind and seen.count(kind) == nth + 1 else entry
    return twist


class Renumbered(Story):
    """A story whose lines are changed afterwards and numbered anew; the head's note is that of the honest one."""
    def finish(self):
        super().finish()
        entries = self.change([json.loads(line) for line in self.lines])
        self.lines = [dump({**entry, "n": n}) for n, entry in enumerate(entries)]
        self.leaves = [hashlib.sha256(b"\0" + line).digest() for line in self.lines]


def changed_story(change):
    return type("Changed", (Renumbered,), {"change": staticmethod(change)})()


def test_deleted_reordered_and_changed_entries(log, tmp_path):
    size = len(log.lines)
    for n in range(0, size, 4):
        pack = Pack(changed_story(lambda entries: entries[:n] + entries[n + 1:]))
        result = run(tmp_path, pack.tar())
        assert found(result)["tail"] == ("FAIL", size - 1) and found(result)["manifest"][0] == "FAIL"
        pack.log.last = pack.log.last.replace(f"\n{size}\n", f"\n{size - 1}\n")
        result = run(tmp_path, Pack(pack.log).tar())
        assert found(result)["checkpoints"] == ("FAIL", None)

        def swap(entries):
            entries[n], entries[n + 1] = entries[n + 1], entries[n]
            return entries
        if n + 1 < size:
            result = run(tmp_path, Pack(changed_story(swap)).tar())
            assert found(result)["checkpoints"] == ("FAIL", 0) and result["first_bad_entry"] == 0


def test_deleted_bundle(tmp_path):
    log = Story(beats=600)
    pack = Pack(log)
    pack.files["ledger/tile/entries/001"] = pack.files["ledger/tile/entries/000"]
    result = run(tmp_path, pack.tar())
    assert found(result)["lines"] == ("FAIL", 256) and result["first_bad_entry"] <= 256


def test_bundles(pack, log, tmp_path):
    path = next(p for p in pack.files if p.startswith("ledger/tile/entries"))
    data, size, last = pack.files[path], len(log.lines), len(log.lines[-1])
    for bad, place in ((data[:-1], size - 1), (data[:-last], size - 1), (data[:-last - 1], size - 1), (b"", 0),
                       (data + b"\0", size), (data + data, size), (b"\xff\xff" + data[2:], 0), (b"\0\0" + data, 0),
                       (struct.pack(">H", 61_441) + bytes(62_000), 0)):
        pack.files[path] = bad
        assert found(run(tmp_path, pack.tar()))["lines"] == ("FAIL", place), place
    n = index(log, "act.done")
    changed = list(log.lines)
    changed[n] = log.lines[n].replace(b'"rows":1', b'"rows":2')
    pack.files[path] = b"".join(struct.pack(">H", len(line)) + line for line in changed)
    result = run(tmp_path, pack.tar())
    assert found(result)["lines"] == ("FAIL", n) and found(result)["tiles"][0] == "FAIL" and result["first_bad_entry"] <= n
    changed[n] = b"{" * 60_000
    pack.files[path] = b"".join(struct.pack(">H", len(line)) + line for line in changed)
    assert found(run(tmp_path, pack.tar()))["lines"] == ("FAIL", n)


@pytest.mark.parametrize("kind, nth, keys, check", [
    ("session.close", 0, {"roll": digest("x")}, "rolling"), ("session.close", 1, {"acts": 9}, "rolling"),
    ("act.done", 0, {"q": 9}, "sessions"), ("act.start", 1, {"q": 1}, "sessions"), ("act.done", 1, {"s": ident("s9")}, "sessions"),
    ("heartbeat", 0, {"t": 1}, "order"), ("heartbeat", 0, {"m": 1}, "order"), ("heartbeat", 0, {"extra": 1}, "lines"),
    ("heartbeat", 0, {"n": 1}, "lines"), ("act.done", 0, {"out": "maybe"}, "lines"), ("key.epoch", 1, {"e": 5}, "ladder"),
    ("act.done", 0, {"cm": digest("x")}, "recordings"), ("session.close", 0, {"cm": digest("x")}, "recordings"),
    ("principal", 0, {"com": digest("x")}, "directory"), ("principal", 1, {"a": ident("x")}, "directory"),
    ("act.start", 0, {"p": digest("x")}, "rules"), ("act.deny", 0, {"p": digest("x")}, "rules"),
    ("session.open", 0, {"p": digest("other rules")}, "rules"), ("approval.decide", 0, {"sig": digest("x")}, "approvals"),
    ("approval.decide", 0, {"d": ["maybe", "dba"]}, "lines"), ("approval.decide", 0, {"d": ["approve"]}, "lines"),
    ("approval.request", 0, {"needed": "dba"}, "lines"), ("approval.request", 0, {"needed": [1]}, "lines")])
def test_signed_entries_that_are_wrong(tmp_path, kind, nth, keys, check):
    """What the gateway itself wrote wrongly: everything is signed, and one check fails, with its entry."""
    log = Story(twist=twisted(kind, nth, **keys))
    verdict, entry = found(run(tmp_path, Pack(log).tar()))[check]
    assert verdict == "FAIL" and (entry is not None or (check, kind, nth) == ("directory", "principal", 1))


USE, DECIDE = ("approval.use", 0), ("approval.decide", 0)


@pytest.mark.parametrize("kind, nth, keys, wanted", [
    ("approval.decide", 0, {"ch": digest("x")}, {"approval-binding": USE, "decision": DECIDE}),
    ("approval.use", 0, {"ch": digest("x")}, {"approval-binding": USE}), ("approval.request", 0, {"until": 1}, {"approval-binding": USE}),
    ("approval.request", 0, {"ch": digest("x")}, {"approval-binding": USE, "decision": DECIDE}),
    ("approval.request", 0, {"needed": ["dba", "owner"]}, {"approval-binding": USE}),
    ("approval.use", 0, {"rev": "rev-2"}, {"approval-binding": USE}), ("approval.decide", 0, {"d": ["deny", "dba"]}, {"approval-binding": USE}),
    ("approval.decide", 0, {"d": ["approve", "other"]}, {"approval-binding": USE}),
    ("approval.decide", 0, {"rev": "rev-9"}, {"segregation": DECIDE, "approval-binding": USE, "decision": DECIDE}),
    ("act.start", 2, {"rev": "rev-1"}, {}), ("act.start", 3, {"rev": "rev-1"}, {"approval-binding": ("act.start", 3)}),
    ("act.start", 0, {"rev": "rev-1"}, {"approval-binding": ("act.start", 0)})])
def test_exceptions_are_no_failures(tmp_path, kind, nth, keys, wanted):
    """What was not as the rules wanted it is printed, and no failure of the pack; another number of it is."""
    log = Story(twist=twisted(kind, nth, **keys))
    pack = Pack(log)
    result = run(tmp_path, pack.tar())
    assert found(result) == {}
    assert [(x["control"], x["entry"]) for x in result["exceptions"]] == sorted(
        ((control, index(log, *place)) for control, place in wanted.items()),
        key=lambda x: ["segregation", "approval-binding", "decision"].index(x[0]))
    count = {"segregation": int("segregation" in wanted), "approval_binding": int("approval-binding" in wanted)}
    for control in count:
        pack.results(**{**count, control: 1 - count[control]})
        assert found(run(tmp_path, pack.tar())) == {"controls": ("FAIL", None)}


def test_results(pack, log, roots, tmp_path):
    good = pack.files["controls/results.jsonl"]
    for bad in (b"{}\n", good + good, good.replace(b'"holds"', b'"exceptions"', 1), good.replace(b'"exceptions":0', b'"exceptions":1', 1),
                good[:-1], good.replace(b'"holds"', b'"unknown"', 1), good.splitlines(True)[0], good.replace(b'"title"', b'"untitled"', 1)):
        pack.files["controls/results.jsonl"] = bad
        assert found(run(tmp_path, pack.tar())) == {"controls": ("FAIL", None)}, bad
    for lacks in (b"", None):
        pack.files["controls/results.jsonl"] = lacks
        files = {path: data for path, data in pack.files.items() if data is not None}
        other = copy.copy(pack)
        other.files = files
        assert found(run(tmp_path, other.tar())) == {"controls": ("INCONCLUSIVE", None)}
    for asked, counts, fails in ((["segregation", "no-bypass"], {"segregation": 0}, False), (["segregation"], {"segregation": 0}, True),
                                 (["segregation", "no-bypass"], {"approval_binding": 0}, True), (["no-bypass"], {}, False)):
        pack.manifest["controls"] = asked
        pack.results(**counts)
        assert found(run(tmp_path, pack.tar())) == ({"controls": ("FAIL", None)} if fails else {}), asked
    log = Story(by="asker")
    path, n = tmp_path / "pack.tar", index(log, "approval.decide")
    path.write_bytes(Pack(log).tar())
    code, out, _ = program(path, "--roots", roots)
    assert code == 0 and f"EXCEPTION segregation entry {n} who approved has a part in the request" in out.splitlines()
    code, out, _ = program(path, "--roots", roots, "--json")
    assert json.loads(out)["exceptions"] == [{"control": "segregation", "entry": n, "what": "who approved has a part in the request"}]


def test_unknown_kind_and_exports(tmp_path):
    log = Story(twist=lambda _, e: {**e, "k": "of.tomorrow"} if e["k"] == "alert" else e)
    assert found(run(tmp_path, Pack(log).tar())) == {"lines": ("INCONCLUSIVE", len(log.lines) - 3)}


# ---- Pruned recordings ----

class PrunedFile(Story):
    """A file of recordings was pruned that was stated behind all sessions but the last."""

    def finish(self):
        run = len(self.lines)
        self.add("retention.run", due=1, ledger=400, recordings=400, sealed=400)
        self.add("prune.recording", bytes=1000, cr=digest("file"), file=0, last=self.t, run=run)
        self.add("retention.done", bytes=1000, how="complete", pruned=1, refused=0, run=run)
        self.open_as("s4", p="other rules")
        self.start("s4", 1, p="other rules")
        self.done("s4", 1, cm=self.block("s4", b"behind the file that was pruned"))
        self.add("session.close", cm=self.recorder.heads[ident("s4")][0].hex(), reason="client", s=ident("s4"))
        self.checkpoint()


def test_pruned_recordings(tmp_path):
    log = PrunedFile()
    assert found(run(tmp_path, Pack(log).tar())) == {}
    old, later = (f"recordings/{ident(s)}.rec" for s in ("s1", "s4"))
    pack = Pack(log)
    del pack.files[old]
    assert found(run(tmp_path, pack.tar())) == {"recordings": ("INCONCLUSIVE", index(log, "act.done"))}
    pack.files = {path: data for path, data in Pack(log, log.middle).files.items() if path != old}
    pack.period, pack.manifest = (log.middle, 2**52), Pack(log, log.middle).manifest
    assert found(run(tmp_path, pack.tar())) == {}, "nobody asks for it"
    pack = Pack(log)
    pack.files[old] = log.recorder.files[ident("s1")][1]
    assert found(run(tmp_path, pack.tar()))["recordings"][0] == "INCONCLUSIVE"
    pack.files[old] = log.recorder.files[ident("s1")][0][:-1]
    assert found(run(tmp_path, pack.tar()))["recordings"][0] == "FAIL"
    pack = Pack(log)
    del pack.files[later]
    assert found(run(tmp_path, pack.tar())) == {"recordings": ("FAIL", index(log, "act.start", 6) + 1)}


# ---- Pruned entries ----

class PrunedStory(Story):
    """Of two segments the sessions and heartbeats were dropped; what became of the originals of one of them stays. `other`: by
    the first entry of a segment, what its `prune.ledger` says instead."""

    def __init__(self, other=None, **how):
        self.other = other or {}
        super().__init__(**how)

    def finish(self):
        self.add("raw.segment", bytes=9, com=digest("com"), cr=digest("body"), hd=digest("head"), s=ident("s1"), seg=0, to=["00" * 8])
        self.add("unseal", by=ident("carol"), rev="rev-9", s=ident("s1"))
        self.add("prune.refuse", by=ident("carol"), hold=ident("hold"), s=ident("s1"), why="held")
        self.add("shred", by=ident("carol"), cr=digest("order"), s=ident("s1"), what="sealed")
        entries = [json.loads(line) for line in self.lines]
        second = next(e["n"] for e in entries if e.get("s") == ident("s2"))
        kinds = ("session.", "act.", "approval.", "heartbeat")
        self.gone = {e["n"]: 0 if e["n"] < second else second for e in entries
                     if e["k"].startswith(kinds) and e.get("s") != ident("s3")}
        self.run()
        self.checkpoint()

    def run(self):
        run, entries = len(self.lines), [json.loads(line) for line in self.lines]
        self.lasts, firsts = {}, sorted(set(self.gone.values()))
        self.add("retention.run", due=2, ledger=400, recordings=400, sealed=400)
        for first, end in zip(firsts, [*firsts[1:], run]):
            hashes = [self.leaves[n] for n in sorted(self.gone) if self.gone[n] == first]
            self.lasts[first] = entries[end - 1]["t"]
            self.add("prune.ledger", **{
                "bytes": 9, "cr": sha(b"".join(hashes)), "dropped": len(hashes), "first": first, "last": self.lasts[first], "run": run,
                **self.other.get(first, {})})
        self.add("retention.done", bytes=18, how="complete", pruned=2, refused=0, run=run)


def test_packs_of_pruned_ledgers(tmp_path):
    log = PrunedStory()
    first, second = log.lasts
    assert first == 0 < second and len(set(log.gone.values())) == 2
    size = len(log.gone)
    for since, missing in ((0, size), (log.lasts[first], size), (log.lasts[first] + 1, size - sum(n < second for n in log.gone)),
                           (log.lasts[second], size - sum(n < second for n in log.gone)), (log.lasts[second] + 1, 0)):
        pack = Pack(log, since)
        assert [one["count"] for one in pack.excluded] == ([missing] if missing else [])
        result = run(tmp_path, pack.tar())
        assert found(result) == ({"populations": ("INCONCLUSIVE", None)} if missing else {}), since
        assert result["size"] == len(log.lines) and result["root"] == tree_root(log.leaves).hex()
        what = result["checks"][CHECKS.index("populations")]["what"]
        assert what is None or f"{missing} entries, written up to 2023-11-14 22:" in what
    # Many bundles, of which some are whole.
    pack = Pack(PrunedStory(beats=600))
    assert [path for path in pack.files if path.startswith("ledger/kept/")] == [f"ledger/kept/{name}" for name in ("000", "001", "002.p/138")]
    assert found(run(tmp_path, pack.tar())) == {"populations": ("INCONCLUSIVE", None)}


def test_what_a_pack_says_of_pruned_entries(tmp_path):
    log = PrunedStory()
    pack = Pack(log)
    (right,) = pack.excluded
    for wrong in ([], [{**right, "count": 1}], [right, right], [{**right, "reason": right["reason"].replace("2023", "2022")}],
                  [{**right, "reason": "pruned"}]):
        pack.excluded = wrong
        pack.change_rows("P10", lambda rows: rows)
        assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL", wrong
    pack = Pack(log, log.t)
    pack.excluded = [right]
    pack.change_rows("P10", lambda rows: rows)
    assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL"


@pytest.mark.parametrize("other", [{"dropped": 1}, {"cr": digest("x")}, {"first": 1}, {"last": 1_700_000_000_000_000}, {"last": "x"},
                                   {"dropped": -1}])
def test_pruned_entries_that_no_entry_accounts_for(tmp_path, other):
    log = PrunedStory({0: other})
    assert found(run(tmp_path, Pack(log, log.t + 1).tar()))["lines"] == ("FAIL", min(log.gone))


def test_pruned_entries_that_nobody_pruned(tmp_path, roots):
    """One more and one less than was said; another hash; a segment that is not there; and a reader that has no lists.py."""
    log = PrunedStory()
    whole, second = dict(log.gone), [*log.lasts][1]
    more, last = min(set(range(len(log.lines))) - set(whole)), max(whole)
    for gone, place in (({**whole, more: 0}, more), ({n: f for n, f in whole.items() if n != last}, None),
                        ({**whole, min(whole): 1}, None), ({**whole, last: 0}, None), ({**whole, last: last + 1}, None),
                        ({**whole, last: 2**64 - 1}, None), ({n: 0 for n in whole}, min(whole))):
        log.gone = gone
        verdict, entry = found(run(tmp_path, Pack(log, log.t).tar()))["lines"]
        assert verdict == "FAIL" and place in (None, entry), (gone, entry)
    log.gone = whole
    pack = Pack(log, log.t)
    path = next(path for path in pack.files if path.startswith("ledger/kept/"))
    data = pack.files[path]
    at = data.index(struct.pack(">HQ", 0, 0) + log.leaves[min(whole)]) + 10
    pack.files[path] = data[:at] + bytes(32) + data[at + 32:]
    result = run(tmp_path, pack.tar())
    assert found(result)["lines"] == ("FAIL", min(whole)) and found(result)["tiles"][0] == "FAIL"
    for bad in (data[:-1], data[:at - 1], data[:at + 31], data + b"\0", data + data):
        pack.files[path] = bad
        assert found(run(tmp_path, pack.tar()))["lines"][0] == "FAIL"
    # In a bundle of tlog-tiles an entry has a length.
    pack.files = {name.replace("/kept/", "/tile/entries/"): data if name == path else body for name, body in pack.files.items()}
    assert found(run(tmp_path, pack.tar()))["lines"] == ("FAIL", min(whole))
    pack = Pack(log, log.t)
    assert found(run(tmp_path, pack.tar(), lists=None))["lines"] == ("INCONCLUSIVE", min(whole))
    names = list(pack.files)
    at = names.index(path)
    swapped = names[:at - 1] + [names[at], names[at - 1]] + names[at + 1:]
    pack.files = {name: pack.files[name] for name in swapped}
    assert found(run(tmp_path, pack.tar()))["tiles"][0] == "FAIL"
    assert second in whole.values()


# ---- Recordings ----

def test_recordings_between_sessions(tmp_path):
    """Two sessions whose recordings have the same length: swapped, or swapped and relabelled."""
    class Twins(Story):
        def finish(self):
            for s in ("t1", "t2"):
                self.open_as(s, p="other rules")
                self.start(s, 1, p="other rules")
                self.done(s, 1, cm=self.block(s, s.encode() * 8))
                self.add("session.close", cm=self.recorder.heads[ident(s)][0].hex(), reason="client", s=ident(s))
            self.checkpoint()
    log = Twins()
    pack = Pack(log)
    assert found(run(tmp_path, pack.tar())) == {}
    a, b = (f"recordings/{ident(s)}.rec" for s in ("t1", "t2"))
    assert len(pack.files[a]) == len(pack.files[b])
    pack.files[a], pack.files[b] = pack.files[b], pack.files[a]
    assert found(run(tmp_path, pack.tar()))["recordings"][0] == "FAIL"
    other = Twins()
    other.recorder.files[ident("t1")], other.recorder.files[ident("t2")] = [], []
    other.recorder.heads = {}
    other.block("t1", b"t2" * 8)
    other.block("t2", b"t1" * 8)
    assert found(run(tmp_path, Pack(other).tar())) == {"recordings": ("FAIL", index(log, "act.done", 5))}


def test_damaged_recordings(pack, log, tmp_path):
    path = f"recordings/{ident('s1')}.rec"
    data, first = pack.files[path], len(log.recorder.files[ident("s1")][0])
    for bad in (data[:-1], data[:first], data[first:], data[:first] * 2, data + data, b"", data[:10], data[:100] + b"\xff" * 8,
                data[:first] + b"CRB2" + bytes(104), data.replace(b"first", b"FIRST")):
        pack.files[path] = bad
        assert found(run(tmp_path, pack.tar()))["recordings"][0] == "FAIL", bad
    for place in range(0, 108, 4):
        bad = bytearray(data)
        bad[place] ^= 4
        pack.files[path] = bytes(bad)
        assert found(run(tmp_path, pack.tar()))["recordings"][0] == "FAIL", place


def test_missing_and_surplus_recordings(log, tmp_path):
    pack = Pack(log)
    del pack.files[f"recordings/{ident('s1')}.rec"]
    assert found(run(tmp_path, pack.tar())) == {"recordings": ("FAIL", index(log, "act.done"))}
    pack = Pack(log, since=log.middle)  # of a session that is not in the period nobody asks the recording
    del pack.files[f"recordings/{ident('s1')}.rec"]
    assert found(run(tmp_path, pack.tar())) == {}
    other = Story()
    other.block("s9", b"of a session that was never")
    assert found(run(tmp_path, Pack(other).tar())) == {"recordings": ("FAIL", None)}
    other = Story()
    other.block("s3", b"after the last command that ended")
    assert found(run(tmp_path, Pack(other).tar())) == {"recordings": ("INCONCLUSIVE", index(log, "session.open", 2))}
    other = Story(twist=lambda _, e: {k: v for k, v in e.items() if k != "cm"} if e["k"] == "session.close" else e)
    assert found(run(tmp_path, Pack(other).tar())) == {"recordings": ("FAIL", index(log, "session.close"))}


# ---- Directory, rules, approvals ----

def test_directory(pack, log, tmp_path):
    rows = log.chains
    for bad in ([rows[1], rows[0], rows[2]], [{**rows[0], "salt": digest("x")}], [{**rows[0], "actors": rows[0]["actors"][::-1]}], [rows[0], rows[0]],
                [{**rows[1], "principal": {**rows[1]["principal"], "groups": ["x"]}}], [{**rows[0], "a": ident("x")}],
                [{**rows[0], "more": 1}], [{**rows[0], "actors": [{}]}], [{**rows[0], "salt": "00"}],
                [{**rows[0], "principal": {**rows[0]["principal"], "kind": "human"}}]):
        pack.files["directory/chains.jsonl"] = lines(bad)
        assert found(run(tmp_path, pack.tar()))["directory"][0] == "FAIL", bad
    for bad in (b"{}\n", b"x", b'{"a":1.5}\n', b"\xff\n", b" \n", b"[" * 100_000 + b"\n", b'{"a":1,"a":1}\n', b"x" * 3_000_000):
        pack.files["directory/chains.jsonl"] = bad
        assert found(run(tmp_path, pack.tar()))["directory"] == ("FAIL", None), bad[:20]
    erased = copy.copy(log)
    erased.chains = rows[:1] + rows[2:]  # who approved is not known
    result = run(tmp_path, Pack(erased).tar())
    assert found(result) == {} and result["exceptions"] == [
        {"control": "segregation", "entry": index(log, "approval.decide"), "what": "who approved or who asked is not in the directory"}]


def test_texts_that_rows_name(pack, log, tmp_path):
    path = f"rules/{digest('other rules')}.rules"
    for text, bad in ((path, False), (None, False), ("rules/x.rules", True), (f"rules/{digest('rules')}.rules", True), (1, True)):
        pack.change_rows("P08", lambda rows: [*rows[:-1], {**rows[-1], "text": text}])
        assert found(run(tmp_path, pack.tar())).get("populations") == (
            ("FAIL", index(log, "policy.apply", 1)) if bad else None), text
    pack = Pack(log)
    del pack.files[path]
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", index(log, "policy.apply", 1)),
                                                "rules": ("INCONCLUSIVE", index(log, "session.open", 2))}


def test_rules(pack, log, tmp_path):
    path = f"rules/{digest('rules')}.rules"
    pack.change_rows("P08", lambda rows: [{**rows[0], "text": None}, *rows[1:]])
    del pack.files[path]
    assert found(run(tmp_path, pack.tar())) == {"rules": ("INCONCLUSIVE", index(log, "session.open"))}
    pack = Pack(log)
    pack.files[path] = b"RULES"
    assert found(run(tmp_path, pack.tar())) == {"rules": ("FAIL", None)}
    pack = Pack(log)
    pack.files = {"directory/chains.jsonl": b"", f"rules/{digest('x')}.rules": b"x", **pack.files}
    assert found(run(tmp_path, pack.tar()))["rules"] == ("FAIL", None)


def test_approvals(pack, log, tmp_path):
    n, signed = index(log, "approval.decide"), log.signatures
    for bad in (signed[::-1], [{**signed[0], "signature": "x"}], [{**signed[0], "entry": n + 1}], [signed[0], signed[0]], [{**signed[0], "entry": -1}],
                [{**signed[0], "entry": 2**62}], [{**signed[0], "more": 1}], [{**signed[0], "signature": "x\u00e9"}]):
        pack.files["reviews/approvals.jsonl"] = lines(bad)
        assert found(run(tmp_path, pack.tar()))["approvals"][0] == "FAIL", bad
    pack.files["reviews/approvals.jsonl"] = lines(signed[1:])
    assert found(run(tmp_path, pack.tar())) == {"approvals": ("INCONCLUSIVE", n)}


# ---- Populations ----

POPULATIONS = ["P01", "P04", "P05", "P06", "P08", "P09", "P10", "P11", "P12", "P13", "P14", "P15", "P17"]


@pytest.mark.parametrize("pop", POPULATIONS)
def test_rows_must_be_complete(log, pop, tmp_path):
    pack = Pack(log)
    last = pack.rows(pop)[-1]["entry"]
    pack.change_rows(pop, lambda rows: [row for row in rows if row["entry"] != last])
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", last)}
    pack = Pack(log)
    pack.change_rows(pop, lambda rows: rows + [{**rows[-1], "entry": 1}])
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", 1)}
    pack = Pack(log)
    pack.change_rows(pop, lambda rows: rows + rows[-1:])
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", last)}
    rows = pack.rows(pop)[:-1]
    if len(rows) > 1 and rows[0]["entry"] != rows[-1]["entry"]:
        pack.change_rows(pop, lambda _: rows[::-1])
        assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL"
    pack = Pack(log)
    pack.change_rows(pop, lambda rows: [{**rows[0], "at": time_text(7)}, *rows[1:]])
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", pack.rows(pop)[0]["entry"])}


@pytest.mark.parametrize("keys", [{"session": ident("x")}, {"command": 9}, {"resource": "x"}, {"outcome": "failed"}, {"rows": 9},
                                  {"masked": None}, {"rows": "1"}, {"session": None}, {"resource": ["orders"]}])
def test_commands_say_what_entries_say(log, keys, tmp_path):
    pack = Pack(log)
    pack.change_rows("P05", lambda rows: [{**rows[0], **keys}, *rows[1:]])
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", index(log, "act.start"))}


def test_periods(log, tmp_path):
    for since, until in ((log.middle, 2**52), (0, log.middle), (log.middle, log.middle), (log.t, 2**52), (2**51, 2**52), (0, 1)):
        assert found(run(tmp_path, Pack(log, since, until).tar())) == ({} if since < log.middle or until > log.middle else {})
    for n in range(0, len(log.lines), 5):
        t = json.loads(log.lines[n])["t"]
        assert found(run(tmp_path, Pack(log, t, t + 1).tar())) == {}
    pack = Pack(log, log.middle)
    whole = Pack(log)
    for pop in ("P04", "P05"):
        for suffix in ("jsonl", "csv", "ipe.json"):
            pack.files[f"populations/{pop}.{suffix}"] = whole.files[f"populations/{pop}.{suffix}"]
    assert found(run(tmp_path, pack.tar())) == {"populations": ("FAIL", index(log, "session.open"))}


@pytest.mark.parametrize("keys", [
    {"row_count": 9}, {"first_key": 1}, {"last_key": None}, {"sha256": digest("x")}, {"system": "x"}, {"timezone": "CET"},
    {"period_from": time_text(1)}, {"period_to": time_text(1)}, {"generated_at": time_text(1)}, {"population_id": "P05"},
    {"origins": []}, {"columns": ["entry"]}, {"columns": [1, 2]}, {"columns": ["at", "entry", "session"]}, {"absent": 0},
    {"columns": ["entry", "at", "session", "session"]}, {"absent": "not in this release"}])
def test_what_is_said_of_a_population(pack, keys, tmp_path):
    columns = json.loads(pack.files["populations/P04.ipe.json"])["columns"]
    other = {"columns": columns, **keys}
    pack.table("P04", other.pop("columns"), pack.rows("P04"), other.pop("absent", None), **other)
    assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL"


def test_malformed_populations(pack, tmp_path):
    rows, ipe = pack.files["populations/P04.jsonl"], pack.files["populations/P04.ipe.json"]
    for bad in (b"x\n", b"{}\n" + rows, rows + b"{}\n", rows[:-1], rows.replace(b":", b": ", 1), b"\n", b"[]\n", b'{"entry":"x"}\n',
                rows.replace(b'"entry":', b'"entry":1.', 1), b'{"entry":-1}\n', b'{"entry":{"x":[1]}}\n'):
        pack.files["populations/P04.jsonl"] = bad
        assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL", bad
    pack.files["populations/P04.jsonl"] = rows
    for bad in (b"", b"{}\n", b"x", b"[]\n", ipe + b"\n", ipe + ipe, ipe.replace(b'"columns"', b'"columns":[],"columns"')):
        pack.files["populations/P04.ipe.json"] = bad
        assert found(run(tmp_path, pack.tar()))["populations"][0] in ("FAIL", "INCONCLUSIVE"), bad
    for suffix in ("jsonl", "csv", "ipe.json"):
        del pack.files[f"populations/P04.{suffix}"]
        if suffix != "ipe.json":
            assert found(run(tmp_path, pack.tar()))["populations"][0] == "FAIL"
    assert found(run(tmp_path, pack.tar())) == {"populations": ("INCONCLUSIVE", None)}


# ---- Controls ----

@pytest.mark.parametrize("name, subject, actors", [("self", "alice", []), ("agent", "dora", ["bot"]), ("below", "bob", ["sub-bot"])])
def test_segregation(name, subject, actors, tmp_path):
    """Who approves stands in the requesting chain, as its principal or as an actor of it, in a chain of another id."""
    log = Story(by=name, chains=[*CHAINS, chain(name, subject, *actors)])
    result = run(tmp_path, Pack(log).tar())
    assert found(result) == {}
    assert [(x["control"], x["entry"]) for x in result["exceptions"]] == [("segregation", index(log, "approval.decide"))]


def test_other_people_are_no_failure(tmp_path):
    log = Story(by="d", chains=[*CHAINS, chain("d", "dora", "another-bot")])
    result = run(tmp_path, Pack(log).tar())
    assert found(result) == {} and result["exceptions"] == []


def test_an_approval_is_used_once(tmp_path):
    class Twice(Story):
        def finish(self):
            self.open_as("s4", p="other rules")
            self.ask("s4", 1, "rev-4", needed=["dba", "dba"])
            self.decide("s4", 1, "rev-4", "bob")
            self.decide("s4", 1, "rev-4", "carol")
            for _ in range(self.times):
                self.use("s4", 1, "rev-4")
            self.add("session.close", reason="client", s=ident("s4"))
            self.checkpoint()
    Twice.times = 1
    result = run(tmp_path, Pack(Twice()).tar())
    assert found(result) == {} and result["exceptions"] == []
    Twice.times = 2
    log = Twice()
    result = run(tmp_path, Pack(log).tar())
    assert found(result) == {} and result["exceptions"] == [
        {"control": "approval-binding", "entry": index(log, "approval.use", 2), "what": "the approval was used before"}]


def test_pending_reviews(tmp_path):
    """A request that nobody decided, and that did not end, has a row, too."""
    class Pending(Story):
        def finish(self):
            self.open_as("s5", p="other rules")
            self.ask("s5", 1, "rev-5")
            self.checkpoint()
    log = Pending()
    pack = Pack(log)
    expected = {"sessions": ("INCONCLUSIVE", index(log, "session.open", 3))}
    assert found(run(tmp_path, pack.tar())) == expected
    pack.change_rows("P06", lambda rows: rows[:-1])
    assert found(run(tmp_path, pack.tar())) == {**expected, "populations": ("FAIL", len(log.lines) - 1)}


# ---- The file itself ----

@pytest.mark.parametrize("path", [PROGRAM, LISTS, PROGRAM.with_name("origins.py")])
def test_the_program_is_plain(path):
    """An auditor can read it: each of the three files has at most 400 lines of at most 120 characters."""
    text = path.read_text(encoding="utf-8").splitlines()
    assert len(text) <= 400 and max(map(len, text)) <= 120
    assert not any(word in line for line in text for word in ("socket", "urllib", "http", "subprocess", "extractall", "eval("))
