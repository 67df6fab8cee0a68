"""The offline verifier in Python against ledgers that are written here, by docs/spec alone.

The writer shares nothing with the verifier: it has its own signing (RFC 8032), Merkle tree (RFC 6962, by its recursive
definition) and CRC-32C.
"""
import base64
import copy
import hashlib
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "crates" / "ledger" / "python" / "verify.py"
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("chancery_verify", PROGRAM)
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

ORIGIN = "ledger.example/gateway"
CHECKS = ["lines", "order", "checkpoints", "ladder", "tail", "sessions", "rolling", "recordings"]


# ---- Ed25519 signing, RFC 8032 §5.1.5 and §5.1.6, in affine coordinates made projective ----

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def plus(a, b):
    """The sum of two points (X : Y : Z) of the twisted Edwards curve, by its addition law."""
    (x1, y1, z1), (x2, y2, z2) = a, b
    z = z1 * z2 % P
    zz, xx, yy = z * z % P, x1 * x2 % P, y1 * y2 % P
    e = D * xx * yy % P
    f, g = (zz - e) % P, (zz + e) % P
    x = z * f * ((x1 + y1) * (x2 + y2) - xx - yy) % P
    return x, z * g * (yy + xx) % P, f * g % P


def times(k, point):
    total = (0, 1, 1)
    while k:
        if k & 1:
            total = plus(total, point)
        point, k = plus(point, point), k >> 1
    return total


def encode(point):
    x, y, z = point
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


GENERATOR = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P, 1)


class Key:
    def __init__(self, name):
        self.seed = name if isinstance(name, bytes) else hashlib.sha256(name.encode()).digest()
        h = hashlib.sha512(self.seed).digest()
        self.scalar = int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.prefix = h[32:]
        self.public = encode(times(self.scalar, GENERATOR))

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % L
        start = encode(times(r, GENERATOR))
        k = int.from_bytes(hashlib.sha512(start + self.public + message).digest(), "little") % L
        return start + ((r + k * self.scalar) % L).to_bytes(32, "little")

    def ident(self, name):
        return hashlib.sha256(name.encode() + b"\n\x01" + self.public).digest()[:4]

    def vkey(self, name):
        return f"{name}+{self.ident(name).hex()}+{base64.b64encode(bytes([1]) + self.public).decode()}"

    def signature_line(self, name, body):
        data = base64.b64encode(self.ident(name) + self.sign(body.encode())).decode()
        return f"\u2014 {name} {data}\n"


KEYS = {}


def key(name):
    if name not in KEYS:
        KEYS[name] = Key(name)
    return KEYS[name]


# ---- Hashes ----

def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).digest()


def tree_root(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(leaves[:half]) + tree_root(leaves[half:])).digest()


def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def digest(word):
    return hashlib.sha256(word.encode()).hexdigest()


def ident(word):
    return digest(word)[:32]


def dump(entry):
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# ---- The writer ----

class Recorder:
    def __init__(self):
        self.files, self.heads = {}, {}

    def block(self, file, session, payload, codec=0, before=None, number=None, **header):
        last, n = self.heads.get(session, (bytes(32), 0))
        before, n = before or last, n if number is None else number
        is_ = {"magic": b"CRB2", "salt": bytes([n % 256]) * 32, "zero": bytes(3), "decoded": len(payload),
               "stored": len(payload), **header}
        head = struct.pack(">4s16sQ32s32sB3sII", is_["magic"], bytes.fromhex(session), n, before, is_["salt"], codec,
                           is_["zero"], is_["decoded"], is_["stored"])
        block = head + struct.pack(">I", crc(head + payload)) + payload
        self.files.setdefault(file, []).append(block)
        h = hashlib.sha256(b"\2" + block).digest()
        self.heads[session] = h, n + 1
        return h.hex()

    def stated(self, file):
        data = b"".join(self.files[file])
        cr = hashlib.sha256(data).hexdigest()
        return {"blocks": len(self.files[file]), "bytes": len(data), "cr": cr, "file": file}


class Log:
    """Lines and checkpoints. `twist` changes what is about to be written: a function of the writer and the entry."""

    def __init__(self, twist=None, ladder="epoch"):
        self.lines, self.leaves, self.notes, self.twist, self.ladder = [], [], {}, twist, ladder
        self.last = None
        self.t, self.m, self.b = 1_700_000_000_000_000, 0, None
        self.e, self.rolls, self.recorder, self.segments, self.torn = -1, {}, Recorder(), [0], {}

    def epoch_key(self, e):
        return key("log") if e < 0 else key(f"{self.ladder} {e}")

    def boot(self, name):
        self.b, self.m = ident(name), 0

    def add(self, k, **keys):
        self.t, self.m = self.t + 1000, self.m + 1000
        entry = {"v": 1, "k": k, "o": ORIGIN, "n": len(self.lines), "t": self.t, "m": self.m, "b": self.b, **keys}
        if k == "session.close":
            acts, leaves, roll = self.rolls.get(keys["s"], (0, 0, bytes(32)))
            entry = {"acts": acts, "leaves": leaves, "roll": roll.hex(), **entry}
        if self.twist:
            entry = self.twist(self, entry)
            if entry is None:
                return
        line = entry if isinstance(entry, bytes) else dump(entry)
        leaf = leaf_hash(line)
        s = keys.get("s")
        if k == "session.open":
            self.rolls[s] = 0, 0, bytes(32)
        if k in ("session.open", "act.start", "act.done", "act.deny", "approval.request", "approval.use") \
                or k == "crash" and "q" in keys:
            acts, leaves, roll = self.rolls.get(s, (0, 0, bytes(32)))
            self.rolls[s] = acts + (k == "act.start"), leaves + 1, hashlib.sha256(roll + leaf).digest()
        self.lines.append(line)
        self.leaves.append(leaf)

    def epoch(self, e=None, signer=None, after=0, life_ms=600_000, **other):
        self.m, self.t = self.m + after, self.t + after
        e = self.e + 1 if e is None else e
        entry = {"e": e, "key": self.epoch_key(e).public.hex(), "life_ms": life_ms, "size": len(self.lines),
                 "root": tree_root(self.leaves).hex(), **other}
        text = "".join(f"{w}\n" for w in ("chancery/epoch/1", ORIGIN, e, entry["key"], life_ms, entry["size"],
                                          entry["root"]))
        signer = self.epoch_key(self.e) if signer is None else signer
        self.e = e
        self.add("key.epoch", **entry, sig=signer.sign(text.encode()).hex())

    def checkpoint(self, epoch="own", orderly=True):
        body = f"{ORIGIN}\n{len(self.lines)}\n{base64.b64encode(tree_root(self.leaves)).decode()}\n"
        note = body + "\n" + key("log").signature_line(ORIGIN, body)
        e = self.e if epoch == "own" else epoch
        if e is not None:
            note += self.epoch_key(e).signature_line(f"{ORIGIN}/epoch/{e}", body)
        self.last = note
        if orderly:
            self.notes[len(self.lines)] = note

    def open(self, s):
        self.add("session.open", a=ident("chain"), auth="oidc", c="orders", d=["allow", "r1"], p=digest("rules"),
                 prof="strict", proto="postgres", s=ident(s))

    def start(self, s, q, x="read"):
        self.add("act.start", a=ident("chain"), c="orders", ch=digest(f"{s}{q}"), d=["allow", "r1"], fp=digest("fp"),
                 p=digest("rules"), prof="strict", q=q, s=ident(s), x=x)

    def done(self, s, q, **more):
        self.add("act.done", bytes=10, masked=0, out="completed", q=q, rows=1, s=ident(s), us=17, **more)

    def write(self, top, tiles=False, ahead=64):
        """The files of a ledger below top/ledger, and of recordings below top/recordings."""
        base = top / "ledger"
        (base / "entries").mkdir(parents=True)
        starts = self.segments + [len(self.lines)]
        for first, end in zip(starts, starts[1:]):
            frames = b"".join(struct.pack("<II", len(line), crc(line)) + line for line in self.lines[first:end])
            (base / "entries" / f"{first:020d}.seg").write_bytes(b"CLEDGER1" + struct.pack(">Q", first) + frames
                                                                 + bytes(ahead))
        if self.notes:
            (base / "checkpoints").mkdir()
        for size, note in self.notes.items():
            (base / "checkpoints" / f"{size:020d}").write_text(note, encoding="utf-8")
        if self.last:
            (base / "checkpoint").write_text(self.last, encoding="utf-8")
        if tiles:
            (base / "tiles" / "0").mkdir(parents=True)
            whole = len(self.leaves) // 256 * 256
            (base / "tiles" / "0" / "00000000").write_bytes(b"".join(self.leaves[:whole]))
        (top / "recordings" / "files").mkdir(parents=True)
        for number, blocks in self.recorder.files.items():
            data = b"".join(blocks) + self.torn.get(number, b"")
            (top / "recordings" / "files" / f"{number:012d}.rec").write_bytes(data)
        return top


def story(twist=None, ladder="epoch", log=None, sealed_by=None, idle=True, epoch_of_checkpoints="own", beats=1):
    """Two processes, five epochs of which one is idle, three sessions of which one ends in a crash, two spool files."""
    log = log or Log(twist, ladder)
    sealed_by = sealed_by or {}
    log.boot("first")
    log.epoch()
    log.add("boot", config=digest("config"), dangerous=[], loss_ms=0, prof="strict", root=tree_root([]).hex(), size=0,
            ver="1.0.0")
    log.add("policy.apply", p=digest("rules"), source="start")
    log.add("principal", a=ident("chain"), com=digest("row"))
    log.open("s1")
    log.start("s1", 1)
    log.done("s1", 1, cm=log.recorder.block(0, ident("s1"), b"first command"))
    log.add("act.deny", code="denied", d=["deny", "r2"], p=digest("rules"), q=2, s=ident("s1"))
    log.add("rec.segment", **log.recorder.stated(0))
    log.start("s1", 3, x="write")
    log.done("s1", 3, cm=log.recorder.block(1, ident("s1"), b"\x20third", codec=1))
    log.add("session.close", cm=log.recorder.heads[ident("s1")][0].hex(), reason="client", s=ident("s1"))
    for _ in range(beats):
        log.add("heartbeat")
    log.checkpoint(epoch_of_checkpoints)
    if idle:
        log.epoch(after=600_000_000, signer=sealed_by.get(1))
    log.epoch(after=600_000_000 if idle else 1_200_000_000, signer=sealed_by.get(2))
    log.segments.append(len(log.lines))
    log.open("s2")
    log.start("s2", 1)
    log.add("approval.request", a=ident("chain"), c="orders", ch=digest("s22"), needed=1, p=digest("rules"), q=2,
            rev="rev-1", s=ident("s2"), until=log.t + 60_000_000)
    log.add("approval.decide", assurance="webauthn", by=ident("someone"), ch=digest("s22"), d=["allow"], rev="rev-1")
    log.add("approval.use", ch=digest("s22"), q=2, ref=[f"1:{digest('entry')}"], rev="rev-1", s=ident("s2"))
    log.start("s2", 2)
    log.done("s2", 2, cm=log.recorder.block(1, ident("s2"), b"of the second session"))
    log.torn[1] = b"CRB2 cut by the crash"
    log.checkpoint(epoch_of_checkpoints, orderly=False)
    log.boot("second")
    log.epoch(signer=sealed_by.get(3))
    log.add("boot", config=digest("config"), dangerous=[], loss_ms=0, prof="strict",
            root=tree_root(log.leaves[:-1]).hex(), size=len(log.lines) - 1, ver="1.0.0")
    log.add("crash", q=1, s=ident("s2"))
    log.add("crash", s=ident("s2"))
    log.add("rec.segment", **log.recorder.stated(1))
    log.add("rec.segment", **log.recorder.stated(1))
    log.epoch(after=1_000_000)
    log.open("s3")
    log.start("s3", 1)
    log.done("s3", 1)
    log.add("session.close", reason="client", s=ident("s3"))
    log.add("alert", code="late")
    log.add("shutdown", reason="signal")
    log.checkpoint(epoch_of_checkpoints)
    return log


ROOTS = (ORIGIN, key("log").public), key("epoch 0").public
ROOTS_TEXT = key("log").vkey(ORIGIN) + "\n" + key("epoch 0").vkey(f"{ORIGIN}/epoch/0") + "\n"


def run(top, root=ROOTS[1], recordings=True):
    """The result, in this process."""
    result = verify.Verifier(str(top / "ledger"), ROOTS[0], root, str(top / "recordings") if recordings else None).run()
    assert [c["check"] for c in result["checks"]] == CHECKS
    return result


def found(result):
    """What is not PASS: by check, the verdict and the entry."""
    return {c["check"]: (c["verdict"], c["entry"]) for c in result["checks"] if c["verdict"] != "PASS"}


def program(*words):
    done = subprocess.run([sys.executable, "-B", str(PROGRAM), *map(str, words)], capture_output=True, text=True,
                          timeout=120)
    return done.returncode, done.stdout, done.stderr


def index(log, k, nth=0, **keys):
    """The place of an entry of a kind."""
    places = [n for n, line in enumerate(log.lines) if json.loads(line)["k"] == k
              and all(json.loads(line).get(key) == value for key, value in keys.items())]
    return places[nth]


@pytest.fixture(scope="module")
def whole():
    return story()


# ---- Primitives ----

RFC8032 = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
]


@pytest.mark.parametrize("seed, public, message, signature", RFC8032)
def test_ed25519_vectors(seed, public, message, signature):
    public, message, signature = map(bytes.fromhex, (public, message, signature))
    assert verify.ed25519_holds(public, signature, message)
    assert Key(bytes.fromhex(seed)).public == public and Key(bytes.fromhex(seed)).sign(message) == signature
    assert not verify.ed25519_holds(public, signature, message + b"x")
    for place in (0, 31, 32, 63):
        bad = bytearray(signature)
        bad[place] ^= 1
        assert not verify.ed25519_holds(public, bytes(bad), message)
    s = int.from_bytes(signature[32:], "little") + L
    assert not verify.ed25519_holds(public, signature[:32] + s.to_bytes(32, "little"), message)
    assert not verify.ed25519_holds(public, signature[:63], message)
    assert not verify.ed25519_holds(public, signature + b"\0", message)


def test_ed25519_refuses_points():
    one, minus = (1).to_bytes(32, "little"), (P - 1).to_bytes(32, "little")
    assert verify.point(one) and verify.point(minus)
    for bad in (P + 1, P, P + 18, 2**255 - 1, 1 | 1 << 255, P - 1 | 1 << 255):  # not canonical, or x = 0 with a sign
        assert verify.point(bad.to_bytes(32, "little")) is None, bad
    assert verify.point((2).to_bytes(32, "little")) is None  # not on the curve
    nothing = one + bytes(32)  # R the neutral point, s 0: holds for a key of small order, whatever the message
    assert not verify.ed25519_holds(one, nothing, b"anything")
    assert not verify.ed25519_holds(minus, nothing, b"anything")


def test_tree_roots():
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
             "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
             "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
             "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
             "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
             "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
             "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
             "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
             "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"]
    tree = verify.Tree()
    assert tree.root().hex() == roots[0]
    for leaf, root in zip(leaves, roots[1:]):
        tree.push(leaf_hash(bytes.fromhex(leaf)))
        assert tree.root().hex() == root
    many, tree = [leaf_hash(bytes([n])) for n in range(100)], verify.Tree()
    for n, leaf in enumerate(many):
        assert tree.root() == tree_root(many[:n])
        tree.push(leaf)


def test_crc():
    assert verify.crc32c(b"123456789") == 0xE3069283 and verify.crc32c(b"") == 0
    assert verify.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4
    for length in range(40):
        assert verify.crc32c(bytes(range(7, 7 + length))) == crc(bytes(range(7, 7 + length)))


# ---- Form ----

FIRST = {"b": ident("b"), "k": "heartbeat", "m": 1, "n": 0, "o": ORIGIN, "t": 1, "v": 1}


def put(**keys):
    return dump({**FIRST, **keys})


@pytest.mark.parametrize("line", [
    b"", b"null", b"[]", b"{}", b"\xff", b"\xef\xbb\xbf" + put(), put() + b"x", put() + b"\n", b"\r" + put(),
    put(v=2), put(v=True), put(v="1"), put(n=-1), put(n=True), put(t=-1), put(t="1"), put(b="AB" * 16), put(b="ab"),
    put(b=["ab"]), put(k=1), put(k=[]), put(extra=1), put(m={}),
    put().replace(b'"m":1', b'"m":1.0'), put().replace(b'"m":1', b'"m":1e0'), put().replace(b'"m":1', b'"m":NaN'),
    put().replace(b'"m":1', b'"m":-Infinity'), put().replace(b'"m":1', b'"m":-0'), put(m=2**63), put(m=10**400),
    put().replace(b'"m":1', b'"m":1,"m":1'), put().replace(b'"m":1,"n":0', b'"n":0,"m":1'),
    put(k="alert", code={"z": 1}).replace(b'{"z":1}', b'{"z":1,"a":2}'),
    put(k="alert", code={"z": 1}).replace(b'{"z":1}', b'{"z":1,"z":1}'),
    put(k="alert", code=1).replace(b'"code":1', b'"code":1.5'),
    put(k="alert", code=1).replace(b'"code":1', b'"code":' + b"[" * 25_000 + b"]" * 25_000),
    put(k="alert", code=1).replace(b'"code":1', b'"code":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    put(k="alert", code=1).replace(b'"code":1', b'"code":"\\ud800"'), put(k="alert"),
    put(k="crash", s=ident("s"), q="1"), put(k="crash", s="x"), put(k="approval.end", end="soon", rev="r"),
])
def test_form_is_refused(line):
    with pytest.raises(ValueError):
        verify.parse(line)


def test_form_is_taken(whole):
    for line in whole.lines:
        assert verify.parse(line) == json.loads(line)
    assert verify.parse(put(k="alert", code="\u00e9\U0001f600"))["code"] == "\u00e9\U0001f600"
    assert verify.parse(put(k="alert", code=1).replace(b'"code":1', b'"code":"\\ud83d\\ude00"'))["code"] == "\U0001f600"
    assert verify.parse(put(k="of.tomorrow", q="not a number"))["k"] == "of.tomorrow"
    assert verify.parse(put(m=2**63 - 1))["m"] == 2**63 - 1


# ---- Whole ledgers ----

def test_untouched(whole, tmp_path):
    result = run(whole.write(tmp_path))
    assert found(result) == {} and result["verdict"] == "PASS" and result["first_bad_entry"] is None
    assert result["size"] == len(whole.lines) and result["root"] == tree_root(whole.leaves).hex()


def test_program(whole, tmp_path):
    top = whole.write(tmp_path / "state")
    keys = tmp_path / "roots"
    keys.write_text(ROOTS_TEXT)
    root = tree_root(whole.leaves).hex()
    code, out, _ = program(top, "--roots", keys)
    assert code == 0 and out.splitlines() == [f"PASS         {c}" for c in CHECKS] + [
        f"PASS size {len(whole.lines)} root {root}"]
    code, out, _ = program(top / "ledger", "--roots", ROOTS_TEXT, "--recordings", top / "recordings", "--json")
    assert code == 0 and json.loads(out) == {
        "size": len(whole.lines), "root": root, "verdict": "PASS", "first_bad_entry": None,
        "checks": [{"check": c, "verdict": "PASS", "entry": None, "what": None} for c in CHECKS]}
    code, out, _ = program(top / "ledger", "--roots", keys)  # no recordings
    assert code == 2 and out.splitlines()[-2] == "INCONCLUSIVE recordings  no recordings were handed in"
    code, out, _ = program(top, "--roots", key("log").vkey(ORIGIN))
    assert code == 2 and out.splitlines()[3].startswith("INCONCLUSIVE ladder  entry 0  ")
    (top / "ledger" / "checkpoint").write_text("")
    code, out, _ = program(top, "--roots", keys)
    assert code == 1 and out.splitlines()[2].startswith("FAIL         checkpoints  checkpoint: ")


def test_program_usage(whole, tmp_path):
    top = whole.write(tmp_path / "state")
    inside = top / "ledger" / "ledger.vkey"
    inside.write_text(ROOTS_TEXT)
    log, first = ROOTS_TEXT.split()
    wrong = log[:-2] + ("A" if log[-2] != "A" else "B") + log[-1]
    other = key("epoch 1").vkey(f"{ORIGIN}/epoch/1")
    for words in ([], [top], [top, "--roots", "nothing"], [top, "--roots", inside], [top, "--roots", wrong],
                  [top, "--roots", f"{first} {log}"], [top, "--roots", f"{log} {other}"],
                  [top, "--roots", f"{log} {first} {first}"], [top, "--roots", ROOTS_TEXT, "--other"],
                  [top, "--roots", ROOTS_TEXT, "--recordings", tmp_path / "none"]):
        assert program(*words)[0] == 64, words
    (tmp_path / "empty").mkdir()
    for words in ([tmp_path / "empty", "--roots", ROOTS_TEXT], [tmp_path / "none", "--roots", ROOTS_TEXT]):
        assert program(*words)[0] == 3, words


def test_log_key_alone(whole, tmp_path):
    result = run(whole.write(tmp_path), root=None)
    assert found(result) == {"ladder": ("INCONCLUSIVE", 0)} and result["verdict"] == "INCONCLUSIVE"


def test_what_is_inconclusive(tmp_path):
    log = story()
    size = len(log.lines)
    log.add("of.tomorrow", q="1")
    log.open("s4")
    log.start("s4", 1)
    result = run(log.write(tmp_path / "a"))
    assert found(result) == {"lines": ("INCONCLUSIVE", size), "tail": ("INCONCLUSIVE", size),
                             "sessions": ("INCONCLUSIVE", size + 1)}
    assert result["verdict"] == "INCONCLUSIVE" and result["first_bad_entry"] is None
    log.notes, log.last = {}, None
    result = run(log.write(tmp_path / "b"), recordings=False)
    assert found(result) == {"lines": ("INCONCLUSIVE", size), "checkpoints": ("INCONCLUSIVE", None),
                             "tail": ("INCONCLUSIVE", 0), "sessions": ("INCONCLUSIVE", size + 1),
                             "recordings": ("INCONCLUSIVE", None)}


def test_empty(tmp_path):
    log = Log()
    assert found(run(log.write(tmp_path / "a"))) == {
        "checkpoints": ("INCONCLUSIVE", None), "tail": ("INCONCLUSIVE", 0), "ladder": ("INCONCLUSIVE", 0)}
    log.checkpoint(None)  # of size 0: there is no epoch that could sign it
    assert found(run(log.write(tmp_path / "b"))) == {"ladder": ("INCONCLUSIVE", 0)}
    log = story(log=log)
    assert found(run(log.write(tmp_path / "c"))) == {}


# ---- Damage ----

def test_every_flipped_byte_fails(whole, tmp_path):
    top = whole.write(tmp_path)
    segment = top / "ledger" / "entries" / f"{0:020d}.seg"
    data = segment.read_bytes()
    ends, at = [], 16
    for line in whole.lines[:whole.segments[1]]:
        at += 8 + len(line)
        ends.append(at)
    for place in [*range(0, 60), *range(60, len(data), 61), *range(ends[-1] - 4, len(data), 9), len(data) - 1]:
        bad = bytearray(data)
        bad[place] ^= 1 << place % 8
        segment.write_bytes(bad)
        result = run(top)
        n = 0 if place < 16 else sum(end <= place for end in ends)
        assert result["verdict"] == "FAIL" and found(result)["lines"] == ("FAIL", n), place
        assert found(result)["tail"] == ("FAIL", n) and result["first_bad_entry"] == n and result["size"] == n


def test_every_cut_is_named(whole, tmp_path):
    top = whole.write(tmp_path)
    for first, end in zip(whole.segments, [*whole.segments[1:], len(whole.lines)]):
        segment = top / "ledger" / "entries" / f"{first:020d}.seg"
        data, at = segment.read_bytes(), 16
        for n in range(first, end):
            for ahead in (b"", bytes(100)):
                segment.write_bytes(data[:at] + ahead)
                result = run(top)
                assert found(result)["tail"] == ("FAIL", n) and result["first_bad_entry"] == n, n
                assert found(result).get("lines") == (("FAIL", n) if first == 0 else None)  # then the next is misplaced
            for length in (1, 7, 8, 9):
                segment.write_bytes(data[:at + length])
                assert found(run(top))["lines"] == ("FAIL", n)
            at += 8 + len(whole.lines[n])
        segment.write_bytes(data[:at])
        assert found(run(top)) == {}
        segment.write_bytes(data)
    segment.unlink()
    assert found(run(top))["tail"] == ("FAIL", first)


def test_cut_behind_the_checkpoint(tmp_path):
    log = story()
    size = len(log.lines)
    log.add("heartbeat")
    log.add("heartbeat")
    top = log.write(tmp_path)
    assert found(run(top)) == {"tail": ("INCONCLUSIVE", size)}
    log.lines.pop()
    assert found(run(log.write(tmp_path / "b"))) == {"tail": ("INCONCLUSIVE", size)}


@pytest.mark.parametrize("length", [61_441, 2**31, 2**32 - 1])
def test_lengths_are_bounded(whole, tmp_path, length):
    top = whole.write(tmp_path)
    segment = top / "ledger" / "entries" / f"{0:020d}.seg"
    segment.write_bytes(segment.read_bytes()[:16] + struct.pack("<II", length, 0) + bytes(70_000))
    assert found(run(top))["lines"] == ("FAIL", 0)
    (top / "ledger" / "checkpoint").write_bytes(b"x" * 2_000_000)
    assert found(run(top))["checkpoints"][0] == "FAIL"


def test_greatest_entry(tmp_path):
    for more, verdict in ((0, "PASS"), (1, "FAIL")):
        log = Log()
        log.boot("first")
        log.epoch()
        log.add("alert", code="")
        log.lines.pop(), log.leaves.pop()
        log.add("alert", code="x" * (61_440 + more - len(dump({**json.loads(put(k="alert", code="")), "m": 3000, "n": 1,
                                                               "t": log.t + 1000}))))
        assert len(log.lines[1]) == 61_440 + more
        log.checkpoint()
        assert run(log.write(tmp_path / verdict))["verdict"] == verdict


def test_swapped_entries(whole, tmp_path):
    for a, b in ((5, 6), (3, 20), (0, 1), (len(whole.lines) - 2, len(whole.lines) - 1)):
        log = copy.copy(whole)
        log.lines = list(whole.lines)
        log.lines[a], log.lines[b] = log.lines[b], log.lines[a]
        result = run(log.write(tmp_path / f"{a}"))
        assert found(result)["lines"] == ("FAIL", a) and found(result)["checkpoints"][0] == "FAIL"
        assert result["first_bad_entry"] <= a


def changed(log, n, **keys):
    """A log in which one entry is another, with the right form, frame and index."""
    log = copy.copy(log)
    log.lines = list(log.lines)
    log.lines[n] = dump({**json.loads(log.lines[n]), **keys})
    return log


def test_changed_entry_is_between_two_checkpoints(whole, tmp_path):
    low = min(whole.notes)
    for n in range(len(whole.lines)):
        entry = json.loads(whole.lines[n])
        if entry["k"] in ("act.start", "heartbeat", "alert", "shutdown", "act.done"):
            result = run(changed(whole, n, t=entry["t"] + 1).write(tmp_path / f"{n}"))
            start = 0 if n < low else low
            assert found(result)["checkpoints"] == ("FAIL", start), n
            assert result["first_bad_entry"] == start and "lines" not in found(result)


def test_tiles_name_the_changed_entry(tmp_path):
    log = story(beats=300)
    assert found(run(log.write(tmp_path / "whole", tiles=True))) == {}
    n = index(log, "heartbeat", 77)
    result = run(changed(log, n, t=json.loads(log.lines[n])["t"] + 1).write(tmp_path / "changed", tiles=True))
    assert found(result)["lines"] == ("FAIL", n) and result["first_bad_entry"] == n
    tile = tmp_path / "changed" / "ledger" / "tiles" / "0" / "00000000"
    data = tile.read_bytes()
    for bad in (data[:-1], data[:32 * 255] + bytes(32), bytes(8192), b""):  # cut, or not wholly written
        tile.write_bytes(bad)
        result = run(tmp_path / "changed")
        assert "lines" not in found(result) and result["first_bad_entry"] == 0
    tile = tmp_path / "whole" / "ledger" / "tiles" / "0" / "00000000"
    tile.write_bytes(data[:32 * 200] + bytes([data[32 * 200] ^ 1]) + data[32 * 200 + 1:])
    assert found(run(tmp_path / "whole"))["lines"] == ("FAIL", 200)


def test_links_are_not_followed(whole, tmp_path):
    top = whole.write(tmp_path / "state")
    entries, away = top / "ledger" / "entries", tmp_path / "away"
    segment = entries / f"{0:020d}.seg"
    segment.rename(away)
    segment.symlink_to(away)
    assert found(run(top))["tail"] == ("FAIL", 0)
    segment.unlink()
    os.mkfifo(segment)
    assert found(run(top))["tail"] == ("FAIL", 0)
    segment.unlink()
    away.rename(segment)
    for name, check in (("checkpoint", None), ("checkpoints", "tail")):
        (top / "ledger" / name).rename(tmp_path / name)
        (top / "ledger" / name).symlink_to(tmp_path / name)
        assert (check in found(run(top))) == (check is not None)
    spool = top / "recordings" / "files" / f"{0:012d}.rec"
    spool.rename(tmp_path / "spool")
    spool.symlink_to(tmp_path / "spool")
    assert found(run(top))["recordings"][0] == "FAIL"
    entries.rename(tmp_path / "entries")
    entries.symlink_to(tmp_path / "entries")
    assert program(top, "--roots", ROOTS_TEXT)[0] == 3


# ---- Order ----

def twisted(kind, nth=0, **keys):
    """Changes the keys of the nth entry of a kind before it is written; a value None takes the key away."""
    seen = []

    def twist(_, entry):
        if entry["k"] == kind:
            seen.append(1)
            if len(seen) == nth + 1:
                entry = {**entry, **keys}
                return {key: value for key, value in entry.items() if value is not None}
        return entry
    return twist


@pytest.mark.parametrize("keys, check", [
    ({"t": 1}, "order"), ({"m": 1}, "order"), ({"b": ident("first")}, "order"), ({"o": "another"}, "lines"),
    ({"n": 7}, "lines"), ({"v": 2}, "lines"),
])
def test_common_keys(tmp_path, keys, check):
    log = story(twist=twisted("alert", **keys))
    result = run(log.write(tmp_path))
    n = index(log, "alert")
    assert found(result)[check] == ("FAIL", n) and result["verdict"] == "FAIL"


def test_a_boot_does_not_come_back(tmp_path):
    log = story()
    log.boot("first")
    log.epoch()
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"order": ("FAIL", len(log.lines) - 1)}


# ---- Ladder ----

def test_resealed_with_a_newer_key(tmp_path):
    """Who has today's keys changes an old entry and seals again what follows, by the key that is left."""
    log = story(twist=twisted("policy.apply", source="another"), sealed_by={1: key("epoch 3"), 2: key("epoch 3")})
    result = run(log.write(tmp_path))
    assert found(result) == {"ladder": ("FAIL", index(log, "key.epoch", 1))}
    log = story(sealed_by={3: key("log")})
    assert found(run(log.write(tmp_path / "b"))) == {"ladder": ("FAIL", index(log, "key.epoch", 3))}


def test_another_ladder_needs_the_root(tmp_path):
    top = story(ladder="another").write(tmp_path)
    assert found(run(top, root=None)) == {"ladder": ("INCONCLUSIVE", 0)}
    assert found(run(top)) == {"ladder": ("FAIL", 0)}


def test_idle_epoch_skipped(tmp_path):
    log = story(idle=False)  # numbered without a gap, but the one before lasted too long
    assert found(run(log.write(tmp_path / "a"))) == {"ladder": ("INCONCLUSIVE", 0)}

    def skip(log, entry):
        return None if entry["k"] == "key.epoch" and entry["e"] == 1 else entry
    log = story(twist=skip)
    assert found(run(log.write(tmp_path / "b")))["ladder"] == ("FAIL", index(log, "key.epoch", 1))


@pytest.mark.parametrize("late, verdict", [(600_000_000, None), (659_999_000, None), (661_000_000, "INCONCLUSIVE")])
def test_late_epoch(tmp_path, late, verdict):
    log = Log()
    log.boot("first")
    log.epoch()
    log.add("heartbeat")
    log.epoch(after=late - 2000)
    log.epoch(after=1000)
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == ({"ladder": (verdict, 0)} if verdict else {})


def test_late_epoch_ends_with_its_boot(tmp_path):
    log = Log()
    log.boot("first")
    log.epoch()
    log.add("heartbeat")
    log.boot("second")
    log.m = 10**12
    log.epoch()
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {}
    log.epoch()
    log.m += 10**12
    log.add("heartbeat")
    log.checkpoint()
    assert found(run(log.write(tmp_path / "b"))) == {"ladder": ("INCONCLUSIVE", 3)}


@pytest.mark.parametrize("epoch, entry", [(None, 0), (1, 0)])
def test_checkpoint_without_the_signature_of_its_epoch(tmp_path, epoch, entry):
    log = story(epoch_of_checkpoints=epoch)
    assert found(run(log.write(tmp_path))) == {"ladder": ("FAIL", entry)}


def test_checkpoint_with_the_signature_of_a_later_epoch(tmp_path):
    log = Log()
    log.boot("first")
    log.epoch()
    log.add("heartbeat")
    log.checkpoint(epoch=1)
    log.epoch()
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"ladder": ("FAIL", 0)}


def test_log_without_its_first_epoch(tmp_path):
    log = story(twist=lambda log, entry: None if entry["k"] == "key.epoch" and entry["e"] == 0 else entry)
    assert found(run(log.write(tmp_path)))["ladder"] == ("FAIL", 0)


def test_boot_without_its_epoch(tmp_path):
    log = story()
    log.boot("third")
    log.add("heartbeat")
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"ladder": ("FAIL", len(log.lines) - 1)}


@pytest.mark.parametrize("keys", [{"e": 3}, {"size": 1}, {"root": digest("x")}, {"key": digest("x")}, {"life_ms": 1}])
def test_changed_epoch(tmp_path, keys):
    log = story(twist=twisted("key.epoch", 2, **keys))
    assert found(run(log.write(tmp_path)))["ladder"] == ("FAIL", index(log, "key.epoch", 2))


@pytest.mark.parametrize("how", [{"e": 2}, {"e": 0}, {"size": 0}, {"size": 3}, {"root": digest("x")}])
def test_signed_epoch_that_does_not_fit(tmp_path, how):
    """The key before signed it; only what it signed is not what is there."""
    log = Log()
    log.boot("first")
    log.epoch()
    log.add("heartbeat")
    log.epoch(**how)
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"ladder": ("FAIL", 2)}


def test_epoch_without_the_form(tmp_path):
    log = story(twist=twisted("key.epoch", 2, sig="00"))
    n = index(log, "key.epoch", 2)
    result = run(log.write(tmp_path))
    assert found(result)["lines"] == ("FAIL", n) and found(result)["ladder"][0] == "FAIL"


# ---- Checkpoints ----

def test_damaged_checkpoints(whole, tmp_path):
    top = whole.write(tmp_path)
    path = top / "ledger" / "checkpoint"
    good = path.read_text(encoding="utf-8")
    body, signatures = good.split("\n\n")
    lines = signatures.splitlines(True)
    for bad in ("", good[:-1], good.replace("\n\n", "\n"), body + "\n\n", body + "\nextension\n\n" + signatures,
                good.replace(ORIGIN, "another", 1), good.replace(f"\n{len(whole.lines)}\n", "\n1\n"), good + "more\n",
                good.replace(f"\n{len(whole.lines)}\n", f"\n0{len(whole.lines)}\n"), body + "\n\n" + lines[1],
                good.replace("\u2014", "-"), good[:-4] + "!!!\n", body.replace("=", "") + "\n\n" + signatures,
                body + "\n\n" + lines[0] + lines[0].replace(lines[0][-20:-4], "A" * 16) + lines[1]):
        path.write_text(bad, encoding="utf-8")
        result = run(top)
        assert found(result) == {"checkpoints": ("FAIL", None)}, bad
    path.write_text(body + "\n\n" + "\u2014 witness.example AAAAAAAAAA==\n" + lines[1] + lines[0], encoding="utf-8")
    assert found(run(top)) == {}
    path.write_bytes(b"\xff")
    assert found(run(top)) == {"checkpoints": ("FAIL", None)}


def test_checkpoint_under_another_name(whole, tmp_path):
    top = whole.write(tmp_path)
    low, high = sorted((top / "ledger" / "checkpoints").iterdir())
    low.rename(low.with_name(f"{1:020d}"))
    assert found(run(top)) == {"checkpoints": ("FAIL", None)}
    high.rename(high.with_name("unfinished.tmp"))
    (low.with_name(f"{1:020d}")).unlink()
    assert found(run(top)) == {}


def test_checkpoint_of_another_log(whole, tmp_path):
    top = whole.write(tmp_path)
    body = whole.last.split("\n\n")[0].replace(ORIGIN, "another.example/gateway") + "\n"
    note = body + "\n" + key("log").signature_line(ORIGIN, body)
    note += key("epoch 4").signature_line(f"{ORIGIN}/epoch/4", body)
    (top / "ledger" / "checkpoint").write_text(note, encoding="utf-8")
    assert found(run(top)) == {"checkpoints": ("FAIL", None)}


def test_segment_under_another_name(whole, tmp_path):
    top = whole.write(tmp_path)
    first = whole.segments[1]
    segment = top / "ledger" / "entries" / f"{first:020d}.seg"
    segment.rename(segment.with_name(f"{first + 1:020d}.seg"))
    assert found(run(top))["lines"] == ("FAIL", first)


def test_two_roots_for_a_size(whole, tmp_path):
    other = story(twist=twisted("alert", code="other"))
    top = whole.write(tmp_path)
    (top / "ledger" / "checkpoint").write_text(other.last, encoding="utf-8")
    start = list(whole.notes)[0]
    result = run(top)
    assert found(result) == {"checkpoints": ("FAIL", start)} and result["first_bad_entry"] == start


def test_checkpoint_of_what_is_missing(whole, tmp_path):
    log = copy.copy(whole)
    log.lines = whole.lines[:-3]
    result = run(log.write(tmp_path))
    assert found(result)["checkpoints"] == ("INCONCLUSIVE", len(log.lines))
    assert found(result)["tail"] == ("FAIL", len(log.lines)) and result["first_bad_entry"] == len(log.lines)


# ---- Sessions, rolling ----

def without(kind, nth=0):
    seen = []

    def twist(_, entry):
        seen.append(entry["k"])
        return None if entry["k"] == kind and seen.count(kind) == nth + 1 else entry
    return twist


def repeated(kind, nth=0):
    """Writes the nth entry of a kind twice."""
    def twist(log, entry):
        log.seen = getattr(log, "seen", 0) + (entry["k"] == kind)
        if entry["k"] == kind and log.seen == nth + 1:
            log.twist = None
            keys = {key: value for key, value in entry.items() if key not in FIRST}
            log.add(kind, **keys)
            log.t, log.m = log.t + 1000, log.m + 1000
            return {**entry, "n": len(log.lines), "t": log.t, "m": log.m}
        return entry
    return twist


def test_rolling_hash_is_wrong(tmp_path):
    for keys in ({"roll": digest("x")}, {"acts": 3}, {"leaves": 5}):
        log = story(twist=twisted("session.close", **keys))
        n = index(log, "session.close")
        assert found(run(log.write(tmp_path / next(iter(keys))))) == {"rolling": ("FAIL", n)}


@pytest.mark.parametrize("twist, place", [
    (without("act.start"), ("act.done", 0)), (without("act.done"), ("session.close", 0)),
    (without("session.open"), ("act.start", 0)), (repeated("session.open"), ("session.open", 1)),
    (repeated("act.start"), ("act.start", 1)), (repeated("act.done"), ("act.done", 1)),
    (repeated("session.close"), ("session.close", 1)), (repeated("crash"), ("crash", 1)),
    (repeated("crash", 1), ("crash", 2)), (without("crash"), ("crash", 0)),
    (twisted("act.done", q=9), ("act.done", 0)), (twisted("act.done", s=ident("s9")), ("act.done", 0)),
])
def test_sessions(tmp_path, twist, place):
    log = story(twist=twist)
    result = run(log.write(tmp_path))
    assert found(result)["sessions"] == ("FAIL", index(log, *place)) and result["verdict"] == "FAIL"


def test_a_number_is_used_once(tmp_path):
    log = story()
    log.open("s4")
    for _ in range(2):
        log.start("s4", 1)
        log.done("s4", 1)
    log.add("session.close", reason="client", s=ident("s4"))
    log.checkpoint()
    assert found(run(log.write(tmp_path)))["sessions"] == ("FAIL", index(log, "act.start", -1))


def test_a_denial_needs_no_session(tmp_path):
    log = story()
    log.add("act.deny", code="denied", d=["deny"], p=digest("rules"), q=0, s=ident("s9"))
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {}


# ---- Pruned entries ----

def hash_frame(leaf):
    return struct.pack("<II", 1 << 31 | 32, crc(leaf)) + leaf


def cut(top, log, indices):
    """Puts the hashes of these entries of the first segment in their place."""
    path = top / "ledger" / "entries" / f"{0:020d}.seg"
    frames = b"".join(hash_frame(log.leaves[n]) if n in indices
                      else struct.pack("<II", len(log.lines[n]), crc(log.lines[n])) + log.lines[n]
                      for n in range(log.segments[1]))
    path.write_bytes(b"CLEDGER1" + bytes(8) + frames)


def pruned_log(indices, log=None, **other):
    """The story, and a run that drops these entries."""
    log = log or story()
    hashes = b"".join(log.leaves[n] for n in sorted(indices))
    keys = {"bytes": 100, "cr": hashlib.sha256(hashes).hexdigest(), "dropped": len(indices), "first": 0, "last": log.t, **other}
    run = len(log.lines)
    log.add("retention.run", due=1, ledger=400, recordings=400, sealed=400)
    log.add("prune.ledger", **keys, run=run)
    log.add("retention.done", bytes=100, how="complete", pruned=1, refused=0, run=run)
    log.checkpoint()
    return log


def of_session(log, s):
    return [n for n, line in enumerate(log.lines) if json.loads(line).get("s") == ident(s)]


def test_pruned_entries(tmp_path):
    session = of_session(story(), "s1")
    log = pruned_log(session)
    top = log.write(tmp_path, tiles=True)
    assert found(run(top)) == {}  # the crash between the entry and the replacement
    whole = run(top)["root"]
    cut(top, log, session)
    result = run(top)
    assert found(result) == {} and result["root"] == whole and result["size"] == len(log.lines)
    assert result["checks"][0]["what"] == f"entries that are pruned: {len(session)}"


def test_what_stays_of_a_pruned_session(tmp_path):
    """Its recording, whose time is not over, and what became of its originals: the session itself is not missed."""
    log = story()
    log.add("raw.segment", bytes=9, com=digest("com"), cr=digest("body"), hd=digest("head"), s=ident("s1"), seg=0, to=["00" * 8])
    log.add("approval.request", a=ident("chain"), c="orders", ch=digest("unseal"), needed=["dba"], p=digest("rules"), q=0, rev="rev-8",
            s=ident("s1"), until=log.t + 60_000_000)
    log.add("approval.use", ch=digest("unseal"), q=0, ref=[], rev="rev-8", s=ident("s1"))
    log.add("unseal", by=ident("chain"), rev="rev-8", s=ident("s1"))
    log.add("prune.refuse", by=ident("chain"), hold=ident("hold"), s=ident("s1"), why="held")
    log.add("shred", by=ident("chain"), cr=digest("order"), s=ident("s1"), what="sealed")
    session = [n for n in of_session(log, "s1") if n < log.segments[1]]
    top = pruned_log(session, log).write(tmp_path)
    cut(top, log, session)
    assert found(run(top)) == {}


@pytest.mark.parametrize("value", [-1, "0", None, {}])
def test_what_is_said_of_pruned_entries_has_its_form(tmp_path, value):
    session = of_session(story(), "s1")
    for key_ in ("first", "dropped", "last"):
        log = pruned_log(session, **{key_: value})
        top = log.write(tmp_path / key_)
        cut(top, log, session)
        assert found(run(top))["lines"] == ("FAIL", session[0])


@pytest.mark.parametrize("other", [{"dropped": 3}, {"cr": digest("x")}, {"first": 1}, {"last": 1_700_000_000_000_000}])
def test_pruned_entries_in_other_words(tmp_path, other):
    session = of_session(story(), "s1")
    log = pruned_log(session, **other)
    top = log.write(tmp_path)
    cut(top, log, session)
    assert found(run(top)) == {"lines": ("FAIL", session[0])}


def test_entries_that_nobody_pruned(tmp_path):
    """One more than was said; one less; and one whose hash is another."""
    session = of_session(story(), "s1")
    log = pruned_log(session)
    top = log.write(tmp_path)
    cut(top, log, session + [2])
    assert found(run(top))["lines"] == ("FAIL", 2)
    cut(top, log, session[:-1])
    assert found(run(top))["lines"][0] == "FAIL"
    log.leaves[session[1]] = hashlib.sha256(b"another").digest()
    cut(top, log, session)
    assert found(run(top))["lines"][0] == "FAIL" and found(run(top))["checkpoints"][0] == "FAIL"


@pytest.mark.parametrize("frame", [
    struct.pack("<II", 1 << 31 | 32, 0) + bytes(32), struct.pack("<II", 1 << 31 | 31, 0) + bytes(31),
    struct.pack("<II", 1 << 31, 0), hash_frame(bytes(32))[:-1],
])
def test_bad_frames_of_pruned_entries(tmp_path, frame):
    log = story()
    top = log.write(tmp_path)
    (top / "ledger" / "entries" / f"{0:020d}.seg").write_bytes(b"CLEDGER1" + bytes(8) + frame)
    assert found(run(top))["lines"] == ("FAIL", 0)


# ---- Recordings ----

def test_missing_and_unknown_files(whole, tmp_path):
    top = whole.write(tmp_path)
    files = top / "recordings" / "files"
    (files / f"{2:012d}.rec").write_bytes(b"")
    (files / "other").write_bytes(b"")
    assert found(run(top)) == {"recordings": ("INCONCLUSIVE", None)}
    (files / f"{2:012d}.rec").unlink()
    (files / f"{1:012d}.rec").unlink()
    assert found(run(top)) == {"recordings": ("FAIL", index(whole, "rec.segment", 1))}
    (files / f"{0:012d}.rec").unlink()
    assert found(run(top)) == {"recordings": ("FAIL", index(whole, "rec.segment", 0))}


def prune(log, number, **other):
    """The entries of a run that deletes a file; the file stays until it is unlinked."""
    run = len(log.lines)
    log.add("retention.run", due=1, ledger=400, recordings=400, sealed=400)
    stated = log.recorder.stated(number)
    keys = {"bytes": stated["bytes"], "cr": stated["cr"], "file": number, "last": log.t, "run": run, **other}
    log.add("prune.recording", **keys)
    log.add("retention.done", bytes=stated["bytes"], how="complete", pruned=1, refused=0, run=run)
    log.checkpoint()


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_pruned_files(tmp_path, numbers):
    """Session s1 has blocks in both files: what is gone of it is excused, and of s2, whose blocks are in the second."""
    log = story()
    for number in numbers:
        prune(log, number)
    top = log.write(tmp_path)
    assert found(run(top)) == {}  # the crash between the entry and the deletion
    for number in numbers:
        (top / "recordings" / "files" / f"{number:012d}.rec").unlink()
    result = run(top)
    assert found(result) == {}
    assert result["checks"][-1]["what"] == f"files that are pruned: {len(numbers)}"
    for number in {0, 1} - set(numbers):
        (top / "recordings" / "files" / f"{number:012d}.rec").unlink()
        assert found(run(top)) == {"recordings": ("FAIL", index(log, "rec.segment", number))}


@pytest.mark.parametrize("other", [{"cr": digest("x")}, {"bytes": 1}, {"file": 7}])
def test_pruned_in_other_words(tmp_path, other):
    log = story()
    prune(log, 0, **other)
    top = log.write(tmp_path)
    (top / "recordings" / "files" / f"{0:012d}.rec").unlink()
    at = index(log, "prune.recording")
    assert found(run(top))["recordings"][0] == "FAIL"
    assert found(run(top, recordings=False)) == {"recordings": ("FAIL", at)}


def test_pruned_before_it_was_closed(tmp_path):
    log = Log()
    log.boot("first")
    log.epoch()
    log.open("s1")
    log.recorder.block(0, ident("s1"), b"one")
    prune(log, 0)
    log.add("rec.segment", **log.recorder.stated(0))
    log.add("session.close", reason="client", s=ident("s1"))
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"recordings": ("FAIL", index(log, "prune.recording"))}


def test_a_pruned_file_excuses_no_later_session(tmp_path):
    """A session that was opened after the file was closed cannot have had a block in it."""
    log = story()
    prune(log, 0)
    log.open("s4")
    log.start("s4", 1)
    log.done("s4", 1, cm=digest("nowhere"))
    log.add("session.close", reason="client", s=ident("s4"))
    log.checkpoint()
    top = log.write(tmp_path)
    (top / "recordings" / "files" / f"{0:012d}.rec").unlink()
    assert found(run(top)) == {"recordings": ("FAIL", index(log, "act.done", 4))}


def test_a_pruned_file_excuses_no_hole_elsewhere(tmp_path):
    """Blocks are missing between two files that are there, and the pruned one is not between them."""
    log = Log()
    log.boot("first")
    log.epoch()
    for file, how in ((0, {}), (1, {}), (2, {"number": 3})):
        log.open(f"s{file}")
        log.recorder.block(file, ident(f"s{file}"), b"own")
        log.recorder.block(file, ident("s0") if file else ident("s1"), b"shared", **(how if file == 2 else {}))
        log.add("rec.segment", **log.recorder.stated(file))
    for file in range(3):
        log.add("session.close", reason="client", s=ident(f"s{file}"))
    prune(log, 0)
    top = log.write(tmp_path)
    (top / "recordings" / "files" / f"{0:012d}.rec").unlink()
    assert found(run(top)) == {"recordings": ("FAIL", index(log, "rec.segment", 2))}


def test_damaged_files(whole, tmp_path):
    top = whole.write(tmp_path)
    path = top / "recordings" / "files" / f"{0:012d}.rec"
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        bad = bytearray(data)
        bad[place] ^= 0x10
        path.write_bytes(bad)
        result = run(top)
        assert found(result)["recordings"][0] == "FAIL" and list(found(result)) == ["recordings"], place
    for bad in (data[:-1], b"", data + data):
        path.write_bytes(bad)
        assert found(run(top))["recordings"][0] == "FAIL"
    path.write_bytes(data + b"CRB2")
    assert found(run(top)) == {}


def test_broken_chain(tmp_path):
    """The ledger states what is in the files; only the chain does not hold."""
    def broken(**how):
        log = Log()
        log.boot("first")
        log.epoch()
        log.open("s1")
        log.recorder.block(0, ident("s1"), b"one")
        log.add("rec.segment", **log.recorder.stated(0))
        log.recorder.block(1, ident("s1"), b"two", **how)
        log.add("rec.segment", **log.recorder.stated(1))
        log.add("session.close", cm=log.recorder.heads[ident("s1")][0].hex(), reason="client", s=ident("s1"))
        log.checkpoint()
        return log
    assert found(run(broken().write(tmp_path / "whole"))) == {}
    assert found(run(broken(before=b"x" * 32).write(tmp_path / "hash"))) == {"recordings": ("FAIL", 3)}
    assert found(run(broken(number=2).write(tmp_path / "gap"))) == {"recordings": ("FAIL", 3)}
    assert found(run(broken(number=2**63 + 1).write(tmp_path / "far")))["recordings"][0] == "FAIL"
    assert found(run(broken(number=0).write(tmp_path / "twice")))["recordings"][0] == "FAIL"
    top = broken(number=2).write(tmp_path / "absent")
    (top / "recordings" / "files" / f"{0:012d}.rec").unlink()
    assert found(run(top)) == {"recordings": ("FAIL", 2)}
    log = broken()
    log.recorder.files[1].append(log.recorder.files[1][0])
    assert found(run(log.write(tmp_path / "again")))["recordings"][0] == "FAIL"


@pytest.mark.parametrize("kind, nth, keys", [
    ("act.done", 0, {"cm": digest("x")}), ("session.close", 0, {"cm": digest("x")}),
    ("rec.segment", 0, {"cr": digest("x")}), ("rec.segment", 0, {"blocks": 9}), ("rec.segment", 0, {"bytes": 9}),
    ("rec.segment", 2, {"cr": digest("x")}),
])
def test_wrong_statements(tmp_path, kind, nth, keys):
    log = story(twist=twisted(kind, nth, **keys))
    assert found(run(log.write(tmp_path / "a"))) == {"recordings": ("FAIL", index(log, kind, nth))}


def test_stated_in_other_words(tmp_path):
    log = story(twist=twisted("rec.segment", 2, blocks=9))
    result = run(log.write(tmp_path), recordings=False)
    assert found(result) == {"recordings": ("FAIL", index(log, "rec.segment", 2))}


def test_close_names_the_last_block(tmp_path):
    log = story()
    first = log.recorder.files[0][0]
    cm = hashlib.sha256(b"\2" + first).hexdigest()
    log = story(twist=twisted("session.close", cm=cm))
    assert found(run(log.write(tmp_path))) == {"recordings": ("FAIL", index(log, "session.close"))}


def recorded(payload=b"one", **how):
    """One session with one block, which the ledger states as it is."""
    log = Log()
    log.boot("first")
    log.epoch()
    log.open("s1")
    log.recorder.block(0, ident("s1"), payload, **how)
    log.add("rec.segment", **log.recorder.stated(0))
    log.add("session.close", reason="client", s=ident("s1"))
    log.checkpoint()
    return log


@pytest.mark.parametrize("how", [
    {"magic": b"CRB1"}, {"codec": 2}, {"zero": b"\1\0\0"}, {"zero": b"\0\0\1"}, {"stored": 2}, {"stored": 4},
    {"decoded": 2}, {"decoded": 4}, {"decoded": 2, "codec": 1}, {"decoded": 1_048_577, "codec": 1},
    {"decoded": 1_048_577, "codec": 1, "payload": b""}, {"decoded": 2**32 - 1, "stored": 2**32 - 1},
    {"number": 2**63}, {"number": 1}, {"before": b"x" * 32},
])
def test_block_headers(tmp_path, how):
    assert found(run(recorded(**how).write(tmp_path))) == {"recordings": ("FAIL", 2)}


@pytest.mark.parametrize("how", [{}, {"codec": 1}, {"codec": 1, "decoded": 1_048_576}, {"payload": b""}])
def test_good_block_headers(tmp_path, how):
    assert found(run(recorded(**how).write(tmp_path))) == {}


def test_forked_chain(tmp_path):
    """A second block with the number of another, behind the same block."""
    log = Log()
    log.boot("first")
    log.epoch()
    log.open("s1")
    log.recorder.block(0, ident("s1"), b"one")
    before = log.recorder.heads[ident("s1")][0]
    cm = log.recorder.block(0, ident("s1"), b"two")
    log.recorder.block(0, ident("s1"), b"another two", number=1, before=before)
    log.add("rec.segment", **log.recorder.stated(0))
    log.add("session.close", cm=cm, reason="client", s=ident("s1"))
    log.checkpoint()
    assert found(run(log.write(tmp_path))) == {"recordings": ("FAIL", None)}
