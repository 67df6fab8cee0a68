"""Several packs, and copies of a registry in them, before crates/evidence/python/origins.py.

Packs are those of `test_pack.py`; the registry is made here, by docs/spec/registry.md alone.
"""
import base64
import contextlib
import importlib.util
import json
import types

import pytest

import test_pack
import test_verify
from test_pack import Pack, Story, program, tar, twisted, unpack
from test_verify import dump, key, leaf_hash, tree_root

PROGRAM = test_pack.PROGRAM.with_name("origins.py")
spec = importlib.util.spec_from_file_location("chancery_origins", PROGRAM)
origins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(origins)

NAME, A, B = "registry.example/prod", "ledger.example/a", "ledger.example/b"
LONG_AGO = 1_600_000_000_000_000


@contextlib.contextmanager
def of(origin):
    """The makers of ledgers and packs, which know one log, make another one meanwhile."""
    kept = [(module, name, getattr(module, name)) for module in (test_verify, test_pack) for name in ("ORIGIN", "key")]
    for module in (test_verify, test_pack):
        module.ORIGIN, module.key = origin, lambda name: key(f"{origin} {name}")
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


class Gateway:
    """A log and its packs."""

    def __init__(self, origin, make=Story):
        self.origin = origin
        with of(origin):
            self.log = make()

    def key(self, name):
        return key(f"{self.origin} {name}")

    def keys(self):
        return self.key("log").vkey(self.origin), self.key("epoch 0").vkey(f"{self.origin}/epoch/0")

    def pack(self, registry=None, **period):
        """The files of a pack, with a copy of the registry in front."""
        with of(self.origin):
            pack = Pack(self.log, **period)
            pack.files = {**(registry.files() if registry else {}), **pack.files}
            return pack.seal()


class Longer(Story):
    """The same, and some entries more."""

    def finish(self):
        for _ in range(2):
            self.add("heartbeat")
        self.checkpoint()


class Middle(Story):
    """Of which an earlier head was published, too."""

    def add(self, k, **keys):
        super().add(k, **keys)
        if len(self.lines) == 20:
            last, _ = self.last, self.checkpoint()
            self.middle_note, self.last = self.last, last


class Registry:
    """registry.md: entries, and the files of a copy."""

    def __init__(self, signer="registry"):
        self.lines, self.signer, self.t = [], signer, LONG_AGO

    def add(self, k, log, /, **keys):
        self.t += 1
        self.lines.append(dump({"k": k, "log": log, "n": len(self.lines), "o": NAME, "t": self.t, "v": 1, **keys}))

    def join(self, gateway, **keys):
        of_log, of_epoch = gateway.keys()
        self.add("origin.join", gateway.origin, **{"key": of_log, "ladder": of_epoch, **keys})
        return self

    def head(self, gateway, note=None, k="origin.head", grew="first", **keys):
        body, _, signed = (note or gateway.log.last).partition("\n\n")
        _, size, root = body.split("\n")
        sigs = [line.removeprefix("\u2014 ") for line in signed.splitlines()]
        self.add(k, gateway.origin, **{"grew": grew, "root": base64.b64decode(root).hex(), "sigs": sigs, "size": int(size), **keys})
        return self

    def note(self, size=None):
        size = len(self.lines) if size is None else size
        body = f"{NAME}\n{size}\n{base64.b64encode(tree_root([leaf_hash(line) for line in self.lines[:size]])).decode()}\n"
        return body + "\n" + key(self.signer).signature_line(NAME, body)

    @property
    def entries(self):
        return b"".join(line + b"\n" for line in self.lines)

    def files(self, other=()):
        files = {"chancery-registry": b"1\n", "checkpoint": self.note().encode(), "entries": self.entries,
                 "name": f"{NAME}\n".encode(), **dict(other)}
        return {f"registry/{name}": data for name, data in sorted(files.items())}

    def but(self, **other):
        """The same with other files in the copy."""
        return types.SimpleNamespace(files=lambda: self.files(other))


@pytest.fixture(scope="module")
def a():
    return Gateway(A)


@pytest.fixture(scope="module")
def b():
    return Gateway(B)


def whole(*gateways):
    registry = Registry()
    for gateway in gateways:
        registry.join(gateway).head(gateway)
    return registry


def ask(tmp_path, *packs, by="registry", notes=(), own=(), roots=()):
    """What is said of packs (their files): the verdict of each, and what *origins* found."""
    paths = []
    for at, files in enumerate(packs):
        paths.append(tmp_path / f"{at}.tar")
        paths[-1].write_bytes(tar(files))
    given = types.SimpleNamespace(packs=list(map(str, paths)))
    registry_key = (NAME, key(by).public) if by else None
    known = {gateway.origin: origins.verify.roots("\n".join(gateway.keys()).encode()) for gateway in roots}
    results, found = origins.run(given, known, registry_key, [origins.verify.read_note(note.encode()) for note in notes], list(own))
    return {result["origin"]: result["verdict"] for result in results}, found


GOOD = [("PASS", None)]


def test_all_logs_pass_and_roots_come_from_the_registry(a, b, tmp_path):
    registry = whole(a, b)
    assert ask(tmp_path, a.pack(registry), b.pack(registry)) == ({A: "PASS", B: "PASS"}, GOOD)
    assert ask(tmp_path, b.pack(registry), a.pack()) == ({A: "PASS", B: "PASS"}, GOOD), "one copy is enough"
    said = ask(tmp_path, a.pack(registry), b.pack(registry), by=None, roots=[a, b])
    assert said == ({A: "PASS", B: "PASS"}, None), "without a key it is not made"
    own = origins.directory(str(unpack({**registry.files()}, tmp_path / "copy") / "registry"))
    assert ask(tmp_path, a.pack(), b.pack(), own=[own]) == ({A: "PASS", B: "PASS"}, GOOD)
    assert ask(tmp_path, a.pack(), own=[own])[1] == [("FAIL", f"{B} is registered and was not handed in")]
    both = registry.but(witnessed=registry.note(2).encode(), **{f"stamps/{3:020}.note": registry.note(3).encode()})
    assert ask(tmp_path, a.pack(both), b.pack(both)) == ({A: "PASS", B: "PASS"}, GOOD), "earlier heads of the registry, too"


def test_what_is_missing_older_twice_or_a_stranger_is_named(a, b, tmp_path):
    registry = whole(a, b)
    assert ask(tmp_path, a.pack(registry)) == ({A: "PASS"}, [("FAIL", f"{B} is registered and was not handed in")])
    pack = b.pack(registry)
    assert ask(tmp_path, a.pack(registry), pack, pack)[1] == [("FAIL", f"{B} was handed in twice")]
    assert ask(tmp_path, pack, pack, by=None, roots=[b])[1] == [("FAIL", f"{B} was handed in twice")]
    c = Gateway("ledger.example/c")
    verdicts, found = ask(tmp_path, a.pack(registry), pack, c.pack(), roots=[c])
    assert verdicts[c.origin] == "PASS" and found == [("FAIL", f"{c.origin} was handed in and is not registered")]
    with pytest.raises(origins.NoRoots):
        ask(tmp_path, a.pack(registry), c.pack())
    longer = Gateway(B, Longer)
    newer = Registry().join(a).head(a).join(b).head(b).head(longer, grew="proven")
    size, registered = len(b.log.lines), len(longer.log.lines)
    for first, second in ((newer, newer), (registry, newer), (newer, registry)):
        verdicts, found = ask(tmp_path, a.pack(first), b.pack(second))
        assert verdicts == {A: "PASS", B: "FAIL"} and found == [("FAIL", f"{B} has {size} entries, and {registered} are registered")]
    assert ask(tmp_path, a.pack(newer), longer.pack(newer)) == ({A: "PASS", B: "PASS"}, GOOD)
    same_size = whole(a, Gateway(B, lambda: Story(twist=twisted("alert", 0, code="LATE"))))
    verdicts, found = ask(tmp_path, a.pack(same_size), b.pack(same_size))
    assert verdicts[B] == "FAIL" and found == [("FAIL", f"{B} has other entries than the {size} that are registered")]


def test_roots_that_are_not_those_that_joined(a, b, tmp_path):
    namesake = Gateway("ledger.example/namesake")
    registry = Registry().join(a).head(a)
    registry.add("origin.join", B, key=namesake.key("log").vkey(B), ladder=namesake.key("epoch 0").vkey(f"{B}/epoch/0"))
    verdicts, found = ask(tmp_path, a.pack(registry), b.pack(registry), roots=[b])
    assert verdicts == {A: "PASS", B: "PASS"}
    assert found == [("FAIL", f"{B} was not verified with the key by which it is registered")]


def test_every_registered_head_is_a_checkpoint(a, b, tmp_path):
    middle = Gateway(B, Middle)
    good = Registry().join(a).join(b).head(b, middle.log.middle_note).head(b, grew="claimed")
    assert ask(tmp_path, a.pack(good), b.pack(good)) == ({A: "PASS", B: "PASS"}, GOOD)
    other = Gateway(B, lambda: Middle(twist=twisted("act.done", 0, rows=9)))
    bad = Registry().join(a).join(b).head(b, other.log.middle_note).head(b, grew="claimed")
    assert ask(tmp_path, a.pack(bad), b.pack(bad)) == ({A: "PASS", B: "FAIL"}, GOOD)
    # As one from elsewhere is; what belongs to none of the packs is a failure of the first.
    assert ask(tmp_path, a.pack(good), b.pack(good), notes=[other.log.middle_note])[0] == {A: "PASS", B: "FAIL"}
    assert ask(tmp_path, a.pack(good), b.pack(good), notes=[Gateway("x").log.last])[0] == {A: "FAIL", B: "PASS"}


def test_a_retired_log(a, b, tmp_path):
    registry = Registry().join(a).head(a).join(b).head(b).head(b, k="origin.retire", grew="claimed")
    late = {"since": a.log.middle}
    assert registry.t < a.log.middle
    assert ask(tmp_path, a.pack(registry, **late)) == ({A: "PASS"}, GOOD)
    assert ask(tmp_path, a.pack(registry, **late), b.pack(registry, **late)) == ({A: "PASS", B: "PASS"}, GOOD)
    longer = Gateway(B, Longer)
    wrong = f"{B} retired with {len(b.log.lines)} entries and has {len(longer.log.lines)}"
    assert ask(tmp_path, a.pack(registry, **late), longer.pack(registry, **late))[1] == [("FAIL", wrong)]
    registry = Registry().join(a).head(a).join(b).head(b)
    registry.t = a.log.middle
    registry.head(b, k="origin.retire", grew="claimed")
    assert ask(tmp_path, a.pack(registry, **late))[1] == [("FAIL", f"{B} is registered and was not handed in")]


def test_copies_of_different_length_and_of_different_histories(a, b, tmp_path):
    registry, older = whole(a, b), whole(a)
    for first, second in ((registry, older), (older, registry)):
        assert ask(tmp_path, a.pack(first), b.pack(second)) == ({A: "PASS", B: "PASS"}, GOOD)
    assert ask(tmp_path, a.pack(older)) == ({A: "PASS"}, GOOD), "what it does not know it does not miss"
    own = ("own", registry.entries, [registry.note().encode()])
    assert ask(tmp_path, a.pack(older), own=[own])[1] == [("FAIL", f"{B} is registered and was not handed in")]
    assert ask(tmp_path, a.pack(older), notes=[registry.note()])[1] == [("FAIL", "the registry: entries 2 to 3 are signed and missing")]
    for other in (whole(b, a), whole(b), Registry().join(b).join(a)):
        for first, second in ((registry, other), (other, registry)):
            _, found = ask(tmp_path, a.pack(first), b.pack(second))
            assert any(v == "FAIL" and "is not the beginning of that in" in what for v, what in found), found
    _, found = ask(tmp_path, a.pack(registry), b.pack(registry), notes=[whole(b, a).note()])
    assert [v for v, _ in found] == ["FAIL"] and "forked" in found[0][1]


def test_a_registry_that_was_changed_or_is_another(a, b, tmp_path):
    registry = whole(a, b)
    good = registry.entries

    def fails(**other):
        _, found = ask(tmp_path, a.pack(registry.but(**other)), b.pack(), roots=[a, b])
        assert any(v == "FAIL" and what.startswith("the registry: ") for v, what in found), (other, found)
    for place in range(0, len(good), 131):
        fails(entries=good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
    lines = registry.lines
    for some in (lines[:3], lines[:1], [], [lines[1], lines[0], *lines[2:]], lines[1:], [*lines[:2], *lines[3:]]):
        fails(entries=b"".join(line + b"\n" for line in some))
    for note in (b"", b"no note", b"\xff", registry.note().encode()[:-1], whole(b, a).note().encode()):
        fails(checkpoint=note)
    fails(checkpoint=Registry.note(types.SimpleNamespace(lines=lines, signer="another")).encode())
    _, found = ask(tmp_path, a.pack(registry), b.pack(registry), by="another", roots=[a, b])
    assert ("FAIL", "the registry: a checkpoint is none, or not signed by its key") in found


def test_entries_that_do_not_fit(a, b, tmp_path):
    def fails(registry):
        _, found = ask(tmp_path, a.pack(registry), b.pack(), roots=[a, b])
        assert [what for v, what in found if v == "FAIL" and what.startswith("the registry: entry")], found
    both = lambda: Registry().join(a).join(b)
    for registry in (
            both().join(a), Registry().join(a).join(b, key=a.key("log").vkey(B)), Registry().join(a, log=B), both().head(a, grew="proven"),
            both().head(a).head(a), both().head(b, log=A), both().head(a, size=0), both().head(a, sigs=[]), Registry().head(a),
            both().head(a, sigs=a.log.last.replace("\u2014 ", "").splitlines()[-1:]), both().head(a, more=1), both().head(a, v=2),
            both().head(a, root="00" * 32), both().head(a, o="other"), both().head(a, n=7), both().head(a, t=1), both().head(a, grew="x"),
            both().head(a, k="origin.left"), both().head(a, k="origin.retire").head(a, grew="proven"), Registry().join(a, ladder=""),
            both().head(a, sigs=["\n\u2014 ".join(a.log.last.replace("\u2014 ", "").splitlines()[-2:])])):
        fails(registry)
    longer = Gateway(A, Longer)
    fails(both().head(a, longer.log.last).head(a, grew="claimed"))
    for change in (lambda line: line.replace(b",", b", ", 1), lambda line: line + b" ", lambda line: b"{}", lambda line: b"[]",
                   lambda line: b"1", lambda line: line.replace(b"/a", b"\\u002fa", 1), lambda line: line + b" " * 4096,
                   lambda line: b"\xff", lambda line: b"[" * 4000):
        registry = both()
        registry.lines[0] = change(registry.lines[0])
        fails(registry)


def test_what_cannot_be_judged(a, b, tmp_path):
    none = [("INCONCLUSIVE", "no pack has a copy of the registry, and none was handed in")]
    assert ask(tmp_path, a.pack(), b.pack(), roots=[a, b])[1] == none
    registry = whole(a, b)
    more = registry.but(entries=registry.entries + b"torn")
    assert ask(tmp_path, a.pack(more), b.pack(more))[1] == [("INCONCLUSIVE", "the registry: bytes follow that no checkpoint covers")]
    last = json.loads(a.log.lines[-1])["t"]
    for period, fine in (({"since": 5}, False), ({"until": last}, False), ({"until": last + 1}, True)):
        _, found = ask(tmp_path, a.pack(registry), b.pack(registry, **period))
        assert found == (GOOD if fine else [("INCONCLUSIVE", f"the period of {B} is shorter than that of other packs")]), period
    empty = Registry()
    _, found = ask(tmp_path, a.pack(empty), roots=[a])
    assert found == [("INCONCLUSIVE", "the registry: no checkpoint covers an entry"), ("FAIL", f"{A} was handed in and is not registered")]


def test_a_copy_has_one_place_and_form(a, tmp_path):
    registry = whole(a)
    files = registry.files()
    stamp = "registry/stamps/00000000000000000002."
    good = {**files, f"{stamp}note": registry.note().encode(), f"{stamp}tsq": b"asked", f"{stamp}tsr": b"answered",
            "registry/witnessed": registry.note().encode()}

    def packed(front, behind=()):
        with of(A):
            pack = Pack(a.log)
            pack.files = {**front, **pack.files}
            for path, data in behind:
                pack.files[path] = data
            return pack.seal()
    assert ask(tmp_path, packed(good)) == ({A: "PASS"}, GOOD)
    for bad in ({**files, "registry/other": b""}, {**files, f"{stamp}xyz": b""}, {**files, "registry/stamps/2.note": b""},
                {**good, "registry/stamps/00000000000000000003.note": b""}, dict(reversed(files.items())), {"registry/seed": b""},
                {**files, "registry/name": b"x" * 65_537}, {"registry/stamps/" + "\u0660" * 20 + ".note": b""}):
        with pytest.raises(origins.verify.Malformed):
            ask(tmp_path, packed(bad))
    with pytest.raises(origins.verify.Malformed):
        ask(tmp_path, packed({}, files.items()))


def test_program(a, b, tmp_path):
    registry = whole(a, b)
    one, two, roots = tmp_path / "a.tar", tmp_path / "b.tar", tmp_path / "roots"
    one.write_bytes(tar(a.pack(registry)))
    two.write_bytes(tar(b.pack(registry)))
    roots.write_text("\n".join(b.keys()))
    words = ["--registry-key", key("registry").vkey(NAME)]
    code, out, _ = program(one, two, *words, script=PROGRAM)
    assert code == 0 and out.splitlines()[-2:] == ["PASS origins", "PASS packs 2"] and f"PACK {one} of {A}" in out
    code, out, _ = program(one, *words, script=PROGRAM)
    assert code == 1 and f"FAIL origins {B} is registered and was not handed in" in out.splitlines()
    (tmp_path / "key").write_text(words[1] + "\n")
    code, out, _ = program(one, two, "--registry-key", tmp_path / "key", "--json", script=PROGRAM)
    said = json.loads(out)
    assert code == 0 and said["verdict"] == "PASS" and [p["origin"] for p in said["packs"]] == [A, B]
    assert said["origins"] == [{"check": "origins", "verdict": "PASS", "what": None}]
    code, out, _ = program(two, "--roots", roots, script=PROGRAM)
    assert code == 0 and "not checked: origins" in out
    assert program(one, two, *words, "--checkpoint", roots, script=PROGRAM)[0] == 64
    for bad in ([one], [one, two, "--roots", roots], [one, "--registry-key", "x"], [one, "--roots", roots, "--registry", tmp_path],
                [one, *words, "--registry", tmp_path / "none"], ["--roots", roots]):
        code, out, err = program(*bad, script=PROGRAM)
        assert (code, out) == (64, "") and "Traceback" not in err, bad
    code, out, _ = program(one, two, "--registry-key", key("another").vkey(NAME), script=PROGRAM)
    assert code == 1 and "FAIL origins the registry: a checkpoint is none, or not signed by its key" in out
    two.write_bytes(b"")
    code, out, _ = program(one, two, *words, script=PROGRAM)
    assert code == 3 and out.startswith("MALFORMED ")
    folder = unpack(a.pack(whole(a)), tmp_path / "out")
    assert program(folder, *words, script=PROGRAM)[0] == 0
    (folder / "trust/roots.txt").write_text("\n".join(a.keys()))
    code, _, err = program(folder, *words, "--roots", folder / "trust/roots.txt", script=PROGRAM)
    assert code == 64 and "the roots are in a pack" in err
