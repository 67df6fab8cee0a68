"""Packs of two gateways with copies of their registry in them, asked about together of both verifiers: what is missing, older,
changed or a stranger. The ledgers are real ones, made and grown by the program (test_registry.py); no server is needed.
"""

import json
import shutil

import pytest

from rig.gateway import binary
from rig.need import need
from rig.pack import Auditor, Forger, Pack
from test_registry import Home, World, run


@pytest.fixture
def world(tmp_path):
    return need(lambda: World(tmp_path))


@pytest.fixture
def auditor(world):
    return Auditor(binary(), world.a.roots)


def export(home, *words, since="2020-01-01", code=0):
    """A pack of all of it; its path. With a code, what was said instead."""
    home.packs = getattr(home, "packs", 0) + 1
    out = home.where.parent / f"{home.where.name}-{home.packs}.pack"
    done = run("evidence", "export", "--from", since, "--out", out, *words, "--config", home.where / "chancery.toml", code=code)
    return out if code == 0 else done.err


def both(world):
    return [export(home, "--registry", world.dir) for home in (world.a, world.b)]


def stolen(home):
    return (home.state / "keys/log-ed25519.seed").read_bytes()


def put_back(world, name):
    """The second gateway, restored to what it was before its last registered head."""
    home = Home.__new__(Home)
    home.where, home.origin, home.roots = world.where / name, world.b.origin, world.b.roots
    home.state = home.where / "state"
    shutil.copytree(world.b.where, home.where)
    shutil.rmtree(home.state)
    shutil.copytree(world.b.before, home.state)
    return home


def test_packs_of_all_logs_pass(world, auditor, tmp_path):
    packs = both(world)
    expected = {world.a.origin: "PASS", world.b.origin: "PASS"}
    said = auditor.together(packs, "--registry-key", world.key)
    assert (said.code, said.packs, said.origins) == (0, expected, ["PASS"]), said
    # The roots may be given, and are those of the registry else; a directory is as good as the file.
    roots = "--roots", world.a.roots, "--roots", world.b.roots
    pack = Pack(packs[1])
    assert auditor.together([packs[0], pack.unpack(tmp_path / "unpacked")], "--registry-key", world.key, *roots).code == 0
    said = auditor.together(packs, *roots)
    assert (said.code, said.packs, said.origins) == (0, expected, None), said
    text = auditor.run("verify", *packs, "--registry-key", world.key, "--explain").stdout
    assert "PASS: 2 packs" in text and f"6 entries of {world.key.split('+')[0]}" in text and "PASS         origins" in text
    assert "not checked: origins" in auditor.run("verify", *packs, *roots).stdout
    # One copy is enough; a single pack is verified as ever, with it or without.
    bare = export(world.b)
    assert auditor.together([packs[0], bare], "--registry-key", world.key).code == 0
    for one in (packs[0], export(world.a)):
        auditor.passes(one)
    report = Pack(bare).files["report.html"].decode()
    assert "no copy of a registry" in report and "no copy of a registry" not in pack.files["report.html"].decode()


def test_the_copy_is_the_registry_as_its_readers_need_it(world, tmp_path):
    world.a.grow()
    pack = Pack(export(world.a, "--registry", world.dir))
    names = ["chancery-registry", "checkpoint", "entries", "name"]
    assert list(pack.files)[:5] == [f"registry/{name}" for name in names] + ["directory/chains.jsonl"]
    for name in names:
        assert pack.files[f"registry/{name}"] == (world.dir / name).read_bytes(), name
    copy = pack.unpack(tmp_path / "unpacked") / "pack/registry"
    run("registry", "verify", copy, "--registry", world.key)
    # The same head with the same copy gives the same bytes, whatever was registered since.
    head = tmp_path / "head"
    head.write_bytes(pack.files["ledger/checkpoint"])
    world.head(world.b)
    again = export(world.a, "--checkpoint", head, "--registry", copy)
    assert Pack(again).all() == pack.all()
    # A cosigned checkpoint comes along, what no checkpoint covers does not.
    shutil.copy(world.dir / "checkpoint", world.dir / "witnessed")
    with (world.dir / "entries").open("ab") as entries:
        entries.write(b"torn")
    torn = Pack(export(world.a, "--checkpoint", head, "--registry", world.dir))
    assert (world.dir / "entries").read_bytes() == torn.files["registry/entries"] + b"torn"
    assert torn.files["registry/witnessed"] == (world.dir / "checkpoint").read_bytes()
    said = json.loads(run("evidence", "export", "--from", "2020-01-01", "--out", tmp_path / "said.pack", "--config",
                          world.a.where / "chancery.toml", "--registry", copy, "--json").out)
    assert said["registry"] == world.key.split("+")[0]


def test_an_omitted_replica_is_named(world, auditor):
    packs = both(world)
    said = auditor.together(packs[:1], "--registry-key", world.key)
    assert (said.code, said.packs) == (1, {world.a.origin: "PASS"})
    assert said.origins == [f"FAIL {world.b.origin} is registered and was not handed in"]
    said = auditor.together([packs[1], packs[1]], "--registry-key", world.key)
    assert said.code == 1 and sorted(said.origins) == [
        f"FAIL {world.a.origin} is registered and was not handed in", f"FAIL {world.b.origin} was handed in twice"]
    said = auditor.together([packs[1], packs[1]], "--roots", world.b.roots)
    assert (said.code, said.origins) == (1, [f"FAIL {world.b.origin} was handed in twice"])


def test_a_replica_that_was_put_back_is_named(world, auditor):
    back = put_back(world, "back")
    wrong = f"{world.b.origin} has {back.size} entries, and {world.b.size} are registered"
    assert wrong in export(back, "--registry", world.dir, code=1), "who is put back is told"
    packs = [export(world.a, "--registry", world.dir), export(back)]
    said = auditor.together(packs, "--registry-key", world.key)
    assert (said.code, said.origins) == (1, [f"FAIL {wrong}"]), said
    assert said.packs == {world.a.origin: "PASS", world.b.origin: "FAIL"}
    Auditor(binary(), world.b.roots).passes(packs[1])


def test_a_replica_that_went_another_way_is_found(world, auditor):
    fork = put_back(world, "fork")
    for _ in range(3):
        fork.grow()
    packs = [export(world.a, "--registry", world.dir), export(fork)]
    said = auditor.together(packs, "--registry-key", world.key)
    assert (said.code, said.packs) == (1, {world.a.origin: "PASS", world.b.origin: "FAIL"})
    # A head that a peer cosigned says the same, without a registry.
    roots = "--roots", world.a.roots, "--roots", world.b.roots
    assert auditor.together(packs, *roots).code == 0
    assert auditor.together(packs, *roots, "--checkpoint", world.b.note).packs[world.b.origin] == "FAIL"


def test_a_stranger(world, auditor):
    c = Home(world.where, "gw-c")
    c.grow()
    assert "has not joined the registry" in export(c, "--registry", world.dir, code=1)
    packs = [*both(world), export(c)]
    said = auditor.together(packs, "--registry-key", world.key, "--roots", c.roots)
    assert (said.code, said.origins) == (1, [f"FAIL {c.origin} was handed in and is not registered"])
    assert auditor.together(packs, "--registry-key", world.key).code == 64, "its roots are not known"
    assert auditor.together(packs).code == 64
    assert auditor.together(packs, "--roots", world.a.roots).code == 64


def forged(world, change):
    """Both packs, with other copies of the registry, and manifests that fit."""
    made = []
    for home, path in zip((world.a, world.b), both(world)):
        forger = Forger(path, stolen(home))
        change(forger.files)
        made.append(forger.seal().write(path.with_suffix(".forged")))
    return made


def flipped(files):
    data = bytearray(files["registry/entries"])
    data[40] ^= 1
    files["registry/entries"] = bytes(data)


def without_the_second(files):
    files["registry/entries"] = b"".join(files["registry/entries"].splitlines(keepends=True)[:3])


@pytest.mark.parametrize("change", [flipped, without_the_second])
def test_a_registry_that_was_rewritten_fails(world, auditor, change):
    packs, words = forged(world, change), ["--registry-key", world.key, "--roots", world.a.roots, "--roots", world.b.roots]
    said = auditor.together(packs, *words)
    assert said.code == 1 and set(said.packs.values()) == {"PASS"}
    assert any(text.startswith("FAIL the registry") for text in said.origins), said
    # In one of the two packs alone, too.
    said = auditor.together([packs[0], export(world.b, "--registry", world.dir)], *words)
    assert said.code == 1 and any(text.startswith("FAIL the registry in ") for text in said.origins), said


def test_another_registry_fails(world, auditor):
    """Of the same name, with the same logs, by whoever has another key."""
    other = world.where / "other"
    key = run("registry", "init", other, "--name", world.key.split("+")[0], "--json").json["key"]
    for home in (world.a, world.b):
        run("registry", "join", other, home.roots)
        run("registry", "head", other, home.note)
    packs = [export(home, "--registry", other) for home in (world.a, world.b)]
    roots = "--roots", world.a.roots, "--roots", world.b.roots
    assert auditor.together(packs, "--registry-key", key).code == 0
    for words in (roots, ()):
        said = auditor.together(packs, "--registry-key", world.key, *words)
        assert said.code == 1 and said.verdict in ("FAIL", None), said
    mixed = [packs[0], export(world.b, "--registry", world.dir)]
    for one in (key, world.key):
        assert auditor.together(mixed, "--registry-key", one, *roots).code == 1


def test_what_cannot_be_judged_is_no_pass(world, auditor, tmp_path):
    packs = [export(world.a), export(world.b)]
    roots = "--roots", world.a.roots, "--roots", world.b.roots
    said = auditor.together(packs, "--registry-key", world.key, *roots)
    none = "INCONCLUSIVE no pack has a copy of the registry, and none was handed in"
    assert (said.code, said.origins) == (2, [none]), said
    assert auditor.together(packs, "--registry-key", world.key, "--registry", world.dir).code == 0
    later = run("registry", "show", world.dir, "--json").json["logs"][0]["joined"]
    packs = [export(world.a, "--registry", world.dir), export(world.b, since=later)]
    said = auditor.together(packs, "--registry-key", world.key)
    assert (said.code, said.origins) == (2, [f"INCONCLUSIVE the period of {world.b.origin} is shorter than that of other packs"])
    # Witnesses of the registry are asked for where a policy names them; the second verifier knows none.
    witness = run("witness", "init", tmp_path / "w1", "--name", "witness.example/w1", "--json").json["key"]
    (tmp_path / "policy").write_text(f"witness w1 {witness}\nquorum w1\n")
    done = auditor.run("verify", *both(world), "--registry-key", world.key, "--registry-policy", tmp_path / "policy", "--json")
    (found,) = json.loads(done.stdout)["origins"]
    assert (done.returncode, found["verdict"]) == (2, "INCONCLUSIVE") and "the registry: witnesses: " in found["what"]


def test_what_is_no_pack_or_no_question(world, auditor, tmp_path):
    packs = both(world)
    (tmp_path / "none.pack").write_bytes(packs[1].read_bytes()[:-512])
    assert auditor.together([packs[0], tmp_path / "none.pack"], "--registry-key", world.key).code == 3
    (tmp_path / "none.pack").write_bytes(b"x" * 2048)
    assert auditor.together([packs[0], tmp_path / "none.pack"], "--registry-key", world.key).code == 3
    assert auditor.together(packs, "--registry-key", "x").code == 64
    assert auditor.together(packs, "--registry", world.dir, "--roots", world.a.roots).code == 64
    forger = Forger(packs[0], stolen(world.a))
    forger.files["registry/other"] = b""
    assert auditor.together([forger.seal().write(tmp_path / "more.pack"), packs[1]], "--registry-key", world.key).code == 3
    auditor.malformed(tmp_path / "more.pack")
