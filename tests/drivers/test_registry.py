"""The registry of logs: what it takes, what it refuses, and what `ledger verify` says with it when a log is missing, was put back
to an earlier state, or does not belong there. The ledgers are real ones, made and grown by the program; no server is needed.

A reader of the registry is made here from docs/spec/registry.md and `rig/tlog.py` alone."""

import base64
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from rig import ledger
from rig.gateway import binary
from rig.need import need
from rig.process import Process, accepts, free_port
from rig.tlog import b64, key_id, leaf_hash, root_of, verify

NAME = "registry.example/prod"
DASH = "\u2014"


class Done:
    """A run of the program."""

    def __init__(self, *arguments, stdin=""):
        done = subprocess.run([binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments, stdin="", code=0):
    done = Done(*arguments, stdin=stdin)
    assert done.code == code, (arguments, done.code, done.out, done.err)
    return done


class Home:
    """A gateway's directory with a ledger that grows without a server."""

    def __init__(self, where, name):
        self.where, self.origin = where / name, f"chancery.local/{name}"
        self.state, self.roots = self.where / "state", where / f"{name}.roots"
        run("init", self.where, "--name", name)
        shutil.copy(self.state / "ledger.vkey", self.roots)

    @property
    def note(self):
        return self.state / "ledger/checkpoint"

    @property
    def size(self):
        return sum(1 for _ in ledger.frames(self.state))

    def grow(self):
        run("secret", "set", "shop", "--username", "app", "--config", self.where / "chancery.toml", stdin="a password\n")

    def copy(self, name):
        to = self.where.parent / name
        shutil.copytree(self.state, to)
        return to


class World:
    """A registry with two logs, each of which was registered twice."""

    def __init__(self, where):
        self.where, self.dir = where, where / "registry"
        self.key = run("registry", "init", self.dir, "--name", NAME, "--json").json["key"]
        self.a, self.b = Home(where, "gw-a"), Home(where, "gw-b")
        for home in (self.a, self.b):
            run("registry", "join", self.dir, home.roots)
            self.head(home)
            home.before = home.copy(f"{home.where.name}-before")
            home.grow()
            self.head(home, "--ledger", home.state)

    def head(self, home, *more, code=0):
        return run("registry", "head", self.dir, home.note, *more, "--json", code=code)

    def verify(self, *copies, registry=None, key=None, more=()):
        """The exit code, what is said of the origins, and all."""
        done = Done("ledger", "verify", *copies, "--registry", registry or self.dir, "--registry-key", key or self.key, *more,
                    "--json")
        said = json.loads(done.out)
        return done.code, [one["what"] for one in said["origins"] if one["verdict"] == "FAIL"], said

    def own(self, registry=None, key=None, more=()):
        """What the registry says of itself."""
        done = Done("registry", "verify", registry or self.dir, "--registry", key or self.key, *more, "--json")
        return done.code, {one["check"]: one["verdict"] for one in json.loads(done.out)["findings"]}


@pytest.fixture
def world(tmp_path):
    return need(lambda: World(tmp_path))


def opened(note, key):
    """Size and root of a note that the key signed; fails if it did not."""
    name, told, material = key.split("+", 2)
    kind, public = base64.b64decode(material)[0], base64.b64decode(material)[1:]
    assert kind == 1 and bytes.fromhex(told) == key_id(name, 1, public)
    body, lines = note[: note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2 :].splitlines()
    own = [base64.b64decode(line.split()[2]) for line in lines if line.startswith(f"{DASH} {name} ")]
    assert own and own[0][:4] == key_id(name, 1, public) and verify(public, body.encode(), own[0][4:])
    origin, size, root = body.splitlines()
    assert origin == name
    return int(size), base64.b64decode(root)


def test_the_files_are_those_of_the_specification(world):
    """A reader made from the specification finds the same."""
    lines = (world.dir / "entries").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert opened((world.dir / "checkpoint").read_text(), world.key) == (6, root_of([leaf_hash(line) for line in lines]))
    kinds, keys = [], {}
    for index, line in enumerate(lines):
        entry = json.loads(line)
        assert line == json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        assert (entry["v"], entry["n"], entry["o"]) == (1, index, NAME)
        kinds.append(entry["k"])
        if entry["k"] == "origin.join":
            keys[entry["log"]] = entry["key"]
            assert entry["ladder"].startswith(f"{entry['log']}/epoch/0+")
        else:
            body = f"{entry['log']}\n{entry['size']}\n{b64(bytes.fromhex(entry['root']))}\n"
            note = body + "\n" + "".join(f"{DASH} {line}\n" for line in entry["sigs"])
            assert opened(note, keys[entry["log"]]) == (entry["size"], bytes.fromhex(entry["root"]))
            assert len(entry["sigs"]) == 2 and re.match(rf"{entry['log']}/epoch/\d+ ", entry["sigs"][1])
    assert kinds == ["origin.join", "origin.head", "origin.head"] * 2
    assert [json.loads(line).get("grew") for line in lines] == [None, "first", "proven"] * 2
    assert (world.dir / "seed").stat().st_mode & 0o777 == 0o600


def test_all_logs_as_long_as_they_were_pass(world):
    code, wrong, said = world.verify(world.a.state, world.b.state)
    assert (code, wrong, said["verdict"]) == (0, [], "PASS"), said
    assert [one["verdict"] for one in said["logs"]] == ["PASS", "PASS"]
    assert world.own() == (0, {"lines": "PASS", "checkpoints": "PASS", "tail": "PASS"})
    shown = run("registry", "show", world.dir, "--json").json
    assert shown["key"] == world.key
    assert [(one["origin"], one["state"], one["size"]) for one in shown["logs"]] == [
        (home.origin, "joined", home.size) for home in (world.a, world.b)]
    # What is longer than its last registered head is as good; a copy without the keys will do, and for people, too.
    world.a.grow()
    bare = world.where / "bare"
    bare.mkdir()
    shutil.copytree(world.a.state / "ledger", bare / "ledger")
    shutil.copytree(world.a.state / "recordings", bare / "recordings")
    readable = world.where / "readable"
    shutil.copytree(world.dir, readable, ignore=shutil.ignore_patterns("seed", "lock"))
    assert world.verify(bare, world.b.state, registry=readable)[0] == 0
    text = run("ledger", "verify", bare, world.b.state, "--registry", readable, "--registry-key", world.key).out
    assert "origins" in text and "2 logs" in text and world.a.origin in text


def test_8_an_omitted_replica_is_named(world):
    """Omit a replica / restore an old VM snapshot, its first half."""
    code, wrong, said = world.verify(world.a.state)
    assert (code, wrong) == (1, [f"{world.b.origin} is registered and was not handed in"])
    assert said["logs"][0]["verdict"] == "PASS", "nothing is wrong with the log that is there"
    assert f"FAIL         origins      {wrong[0]}" in Done(
        "ledger", "verify", world.a.state, "--registry", world.dir, "--registry-key", world.key).out
    code, wrong, _ = world.verify(world.b.state, world.b.state)
    assert code == 1 and len(wrong) == 2, wrong


def test_8_a_replica_that_was_put_back_is_named(world):
    code, wrong, said = world.verify(world.a.state, world.b.before)
    size = sum(1 for _ in ledger.frames(world.b.before))
    assert (code, wrong) == (1, [f"{world.b.origin} has {size} entries, and {world.b.size} are registered"])
    by_itself = Done("ledger", "verify", world.b.before, "--roots", world.b.roots)
    assert by_itself.code == 0, "without the registry, nothing is to be seen"
    # And by the log's own checks, for every registered head is a checkpoint.
    checks = {one["check"]: one["verdict"] for one in said["logs"][1]["findings"]}
    assert checks["tail"] == "FAIL"


def test_a_log_that_went_another_way_is_found(world):
    """The snapshot goes on by itself, longer than what is registered: the registered head is not of it."""
    home = world.where / "fork"
    shutil.copytree(world.b.where, home)
    shutil.rmtree(home / "state")
    shutil.copytree(world.b.before, home / "state")
    for _ in range(3):
        run("secret", "set", "other", "--username", "app", "--config", home / "chancery.toml", stdin="a password\n")
    code, _, said = world.verify(world.a.state, home / "state")
    checks = {one["check"]: one["verdict"] for one in said["logs"][1]["findings"]}
    assert code == 1 and checks["checkpoints"] == "FAIL", said
    # The registry does not take its head when it sees the entries; on the word of the key alone, it does, and says so.
    done = run("registry", "head", world.dir, home / "state/ledger/checkpoint", "--ledger", home / "state", code=1)
    assert "does not show it" in done.err
    done = run("registry", "head", world.dir, home / "state/ledger/checkpoint", "--json")
    assert done.json["grew"] == "claimed"
    # Then neither of the two histories passes any more.
    for state in (world.b.state, home / "state"):
        assert world.verify(world.a.state, state)[0] == 1


def test_a_log_that_is_not_registered_fails(world):
    stranger = Home(world.where, "gw-c")
    code, wrong, _ = world.verify(world.a.state, world.b.state, stranger.state)
    assert (code, wrong) == (1, [f"{stranger.origin} was handed in and is not registered"])
    # One that took the name of a log that is.
    namesake = world.where / "elsewhere"
    namesake.mkdir()
    forged = Home(namesake, "gw-b")
    code, wrong, said = world.verify(world.a.state, forged.state)
    assert code == 1 and said["logs"][1]["verdict"] == "FAIL", said
    code, wrong, _ = world.verify(world.a.state, forged.state, more=("--roots", forged.roots))
    assert code == 1 and wrong == [f"{world.b.origin} was not verified with the key by which it is registered"]


def test_what_does_not_fit_is_refused(world):
    old = world.b.before / "ledger/checkpoint"
    assert "shorter than it was" in run("registry", "head", world.dir, old, code=1).err
    assert "joined before" in run("registry", "join", world.dir, world.a.roots, code=1).err
    assert "has not joined" in run("registry", "head", world.dir, world.dir / "checkpoint", code=1).err
    note = world.where / "note"
    text = world.a.note.read_text()
    note.write_text(text.replace(f"\n{world.a.size}\n", f"\n{world.a.size + 1}\n"))
    assert "signature does not hold" in run("registry", "head", world.dir, note, code=1).err
    halved = world.where / "halved"
    halved.write_text(world.a.roots.read_text().split("\n")[0])
    assert run("registry", "join", world.dir, halved, code=1).err
    run("registry", "init", world.dir, "--name", NAME, code=1)
    run("registry", "init", world.where / "other", "--name", "no name", code=1)
    run("registry", "show", world.where, code=2)
    assert world.own()[0] == 0


def test_a_retired_log_ends_there(world):
    run("registry", "retire", world.dir, world.b.note, "--ledger", world.b.state)
    assert world.verify(world.a.state, world.b.state)[0] == 0
    assert "has retired" in world.head(world.b, code=1).err
    code, wrong, _ = world.verify(world.a.state)
    assert code == 1 and "was not handed in" in wrong[0], "it must be there all the same"
    before = world.b.size
    world.b.grow()
    code, wrong, _ = world.verify(world.a.state, world.b.state)
    assert (code, wrong) == (1, [f"{world.b.origin} retired with {before} entries and has {world.b.size}"])


def changed(world, name, change):
    """A copy of the registry with other entries."""
    to = world.where / f"changed-{name}"
    shutil.copytree(world.dir, to)
    lines = (to / "entries").read_bytes().splitlines(keepends=True)
    (to / "entries").write_bytes(b"".join(change(lines)))
    return to


def flipped(lines, number, at):
    line = bytearray(lines[number])
    line[at] ^= 1
    return [*lines[:number], bytes(line), *lines[number + 1 :]]


CHANGES = {
    "a bit": lambda lines: flipped(lines, 2, 40),
    "the last bit": lambda lines: flipped(lines, 5, -3),
    "an origin dropped": lambda lines: lines[:3],
    "a join dropped": lambda lines: [*lines[:3], *lines[4:]],
    "the last head dropped": lambda lines: lines[:5],
    "heads swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "heads swapped, with their numbers": lambda lines: [
        lines[0], lines[2].replace(b'"n":2', b'"n":1'), lines[1].replace(b'"n":1', b'"n":2'), *lines[3:]],
    "renumbered without the second log": lambda lines: lines[:3],
    "a space": lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]],
    "nothing left": lambda lines: [],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_registry_fails(world, name):
    registry = changed(world, name.replace(" ", "-"), CHANGES[name])
    code, checks = world.own(registry)
    assert code == 1, checks
    assert world.verify(world.a.state, world.b.state, registry=registry)[0] == 1
    # And nothing is added to it.
    entries = (registry / "entries").read_bytes()
    assert "does not hold" in run("registry", "head", registry, world.a.note, code=1).err
    assert (registry / "entries").read_bytes() == entries


def test_what_no_checkpoint_covers_says_nothing(world):
    """A crash between the line and its checkpoint; and somebody who appends a line of his own."""
    registry = changed(world, "more", lambda lines: [*lines, lines[0].replace(b'"n":0', b'"n":6')])
    code, checks = world.own(registry)
    assert (code, checks["tail"]) == (2, "INCONCLUSIVE")
    assert world.verify(world.a.state, world.b.state, registry=registry)[0] == 2
    run("registry", "head", registry, world.a.note)
    assert world.own(registry)[0] == 0, "the next writer cut it off"


def test_another_registry_does_not_do(world):
    second = world.where / "second"
    second.mkdir()
    other = World(second)
    assert world.own(key=other.key)[0] == 1
    assert world.verify(world.a.state, world.b.state, registry=other.dir)[0] == 1


def test_a_registry_that_was_put_back_is_told_by_its_witness(world):
    """The registry is witnessed like any log: rolled back, it is not cosigned, and what was cosigned shows it."""
    file, port = world.where / "w1", free_port()
    witness = run("witness", "init", file, "--name", "witness.example/w1", "--json").json["key"]
    run("witness", "add", file, world.key)
    policy = world.where / "policy"
    policy.write_text(f"witness w1 {witness} http://127.0.0.1:{port}\nquorum w1\n")
    old = world.where / "old"
    shutil.copytree(world.dir, old)
    run("registry", "cosign", world.dir, "--policy", policy, code=2)
    serving = Process("witness", [binary(), "witness", "serve", file, "--listen", f"127.0.0.1:{port}"], world.where / "w.log")
    try:
        serving.wait_until(lambda: accepts(port))
        assert world.own(more=("--policy", policy)) == (
            2, {"lines": "PASS", "checkpoints": "PASS", "witnesses": "INCONCLUSIVE", "tail": "PASS"})
        run("registry", "cosign", world.dir, "--policy", policy)
        assert world.own(more=("--policy", policy))[0] == 0
        world.a.grow()
        world.head(world.a, "--ledger", world.a.state)
        assert world.own(more=("--policy", policy))[0] == 2, "the last entry was not seen yet"
        run("registry", "cosign", world.dir, "--policy", policy)
        code, _, said = world.verify(world.a.state, world.b.state, more=("--registry-policy", policy))
        assert code == 0, said
        # A registry that goes on from an earlier state: the witness saw another.
        done = run("registry", "cosign", old, "--policy", policy, code=1)
        assert "another history" in done.err
    finally:
        serving.stop()


def test_several_logs_without_a_registry_are_verified_each(world):
    done = run("ledger", "verify", world.a.state, world.b.state, "--roots", world.a.roots, "--roots", world.b.roots, "--json")
    assert done.json["origins"] is None and [one["origin"] for one in done.json["logs"]] == [world.a.origin, world.b.origin]
    assert "not checked: origins" in run("ledger", "verify", world.a.state, world.b.state).out
    run("ledger", "verify", world.a.state, "--roots", world.a.roots, "--roots", world.b.roots, code=64)
    run("ledger", "verify", world.a.state, "--registry", world.dir, code=64)
    run("ledger", "verify", world.a.state, world.b.state, "--recordings", pathlib.Path("/nowhere"), code=64)
