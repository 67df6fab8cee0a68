"""A gateway whose ledger is witnessed: by our own witness, and by another house's. What a restored or cloned state directory
and a rewritten history come to; `chancery ledger verify` is asked with what an auditor holds from outside."""

import base64
import json
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from rig import Broken, aics, ledger
from rig import gateway as gateways
from rig.gateway import binary
from rig.need import need
from rig.process import Process, accepts, free_port


@pytest.fixture(scope="module")
def server(servers):
    """One major is enough: nothing here depends on it."""
    return servers("distribution")


class OwnWitness:
    """`chancery witness` for one log."""

    def __init__(self, directory, name, key):
        self.program, self.file = binary(), pathlib.Path(directory) / "w1"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.key = json.loads(self.run("init", self.file, "--name", name, "--json"))["key"]
        self.run("add", self.file, key)
        self.port = free_port()
        self.url, self.process = f"http://127.0.0.1:{self.port}", None
        self.start()

    def run(self, *arguments):
        return subprocess.run([self.program, "witness", *map(str, arguments)], check=True, text=True, capture_output=True,
                              timeout=30).stdout

    def start(self):
        arguments = [self.program, "witness", "serve", self.file, "--listen", f"127.0.0.1:{self.port}"]
        self.process = Process("witness", arguments, self.file.with_suffix(".log"))
        self.process.wait_until(lambda: accepts(self.port))

    def size(self):
        return json.loads(self.run("show", self.file, "--json"))["logs"][0]["size"]

    def head(self):
        """The last head that it cosigned, as the log signed it: what an auditor asks a witness for."""
        line = next(line.split() for line in self.file.read_text().splitlines() if line.startswith("log "))
        key, size, root, _, signature = line[1:]
        body = f"{key.split('+')[0]}\n{size}\n{base64.b64encode(bytes.fromhex(root)).decode()}\n"
        return f"{body}\n\u2014 {key.split('+')[0]} {signature}\n"

    def stop(self):
        return self.process.stop()


class Witnessed:
    """A gateway and its witnesses, in a directory of their own."""

    def __init__(self, directory, provider, server, database, authority, others=()):
        self.where = pathlib.Path(tempfile.mkdtemp(prefix="witnessed-", dir=directory))
        self.front = gateways.Gateway(self.where / "home", provider, {"shop": (server, database)}, ca=authority.certificate,
                                      ledger={"witnesses": "witnesses.policy"})
        self.front.prepare_state()
        self.roots = self.where / "auditor.roots"
        shutil.copy(self.front.directory / "state/ledger.vkey", self.roots)
        key = self.roots.read_text().split()[0]
        self.own = OwnWitness(self.where / "own", "witness.example/own", key)
        self.others = [make(self.where / f"other-{at}", f"witness.example/other{at}", key.split("+")[0], key)
                       for at, make in enumerate(others)]
        lines = [f"witness own {self.own.key} {self.own.url}\n"]
        lines += [f"witness other{at} {other.key} {other.url}\n" for at, other in enumerate(self.others)]
        names = " ".join(["own"] + [f"other{at}" for at in range(len(self.others))])
        self.policy = self.front.directory / "witnesses.policy"
        self.policy.write_text("".join(lines) + f"group every all {names}\nquorum every\n")
        self.front.prepare_rest()

    def witnessed(self):
        """Waits until the witness has seen all that stands in the ledger."""
        state = self.front.directory / "state"
        self.front.process.wait_until(lambda: self.own.size() >= sum(1 for _ in ledger.frames(state)), 30)
        return self.own.size()

    def verify(self, state=None, *extra):
        """The exit code and the checks, by name."""
        arguments = ["ledger", "verify", state or self.front.directory / "state", "--roots", self.roots, "--policy", self.policy]
        done = self.front.run(*arguments, *extra, "--json", check=False)
        said = json.loads(done.stdout)
        return done.returncode, {one["check"]: one for one in said["findings"]}

    def stop(self):
        self.front.stop()
        for one in [self.own, *self.others]:
            one.stop()


@pytest.fixture
def world(directory, authority, provider, server, fresh_database):
    """A function that makes a `Witnessed` with other houses' witnesses beside our own."""
    made = []

    def make(*others):
        name = fresh_database("CREATE TABLE items (id integer PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'lamp')")
        made.append(need(lambda: Witnessed(directory, provider, server, name, authority, others)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def work(front, token, first, count=3):
    with front.connect("shop", token) as line:
        for number in range(first, first + count):
            line.query(f"INSERT INTO items VALUES ({number}, 'n')")


def test_what_two_houses_witnesses_saw_is_excluded_from_change(world, provider):
    at = world(aics.Server)
    at.front.start()
    token = provider.person("ada")
    work(at.front, token, 10)
    at.witnessed()
    work(at.front, token, 20)
    at.witnessed()
    assert at.front.stop() == 0
    code, checks = at.verify()
    assert code == 0 and checks["witnesses"]["verdict"] == "PASS", checks
    # Both lines stand in the note that is kept, and one of them alone is not enough for the policy.
    note = (at.front.directory / "state/ledger/witnessed").read_text()
    assert "witness.example/own" in note and "witness.example/other0" in note
    # A gateway that starts again goes on, and its witnesses with it.
    at.front.start()
    work(at.front, token, 30)
    at.witnessed()
    assert at.front.stop() == 0
    assert at.verify()[0] == 0


def copied(at, token):
    """The state directory of a gateway that runs, and a copy from before the last that its witness saw."""
    at.front.start()
    work(at.front, token, 10)
    at.witnessed()
    assert at.front.stop() == 0
    state, copy = at.front.directory / "state", at.where / "copy"
    shutil.copytree(state, copy)
    at.front.start()
    work(at.front, token, 20)
    at.witnessed()
    return state, copy


def test_8_a_restored_snapshot_is_not_opened(world, provider):
    """Omit a replica / restore an old VM snapshot, its second half."""
    at = world()
    state, snapshot = copied(at, provider.person("ada"))
    assert at.front.stop() == 0
    seen, truth = at.own.size(), at.own.head()
    shutil.rmtree(state)
    shutil.copytree(snapshot, state)
    # The snapshot alone looks whole; with what the witness holds, it does not.
    (at.where / "seen").write_text(truth)
    code, checks = at.verify(state, "--checkpoint", at.where / "seen")
    assert code == 1 and checks["tail"]["verdict"] == "FAIL", checks
    with pytest.raises(Broken):
        at.front.start()
    assert "frozen" in at.front.process.tail(5000)
    assert at.own.size() == seen, "nothing of the old state was cosigned"
    assert (state / "ledger/frozen").read_text().startswith("witness own: it cosigned")
    # It stays so, whatever the witness says later.
    with pytest.raises(Broken):
        at.front.start()


def test_6_a_clone_is_found_by_the_first_that_hears_of_the_other(world, provider):
    """Two gateways from one state directory: whoever comes second to the witness with a history of its own is frozen."""
    at, token = world(), provider.person("ada")
    state, clone = copied(at, token)
    # The clone, as it would run elsewhere: the same keys, another port.
    other = at.where / "clone.toml"
    other_port = free_port()
    text = at.front.config.read_text().replace(str(state), str(clone)).replace(f":{at.front.port}\"", f":{other_port}\"")
    other.write_text(text.replace('"witnesses.policy"', f'"{at.policy}"').replace('"policies"', f'"{at.front.directory}/policies"'))
    program = Process("clone", [at.front.program, "serve", "--config", other], at.where / "clone.log")
    assert program.child.wait(timeout=60) != 0
    assert "frozen" in program.tail(5000)
    # The first goes on: its history is the one that was seen.
    work(at.front, token, 30)
    at.witnessed()
    assert at.front.stop() == 0
    assert at.verify()[0] == 0


def test_a_witness_that_is_away_stops_nothing_at_first_and_is_spoken_of(world, provider):
    at = world()
    at.own.stop()
    at.front.start()
    token = provider.person("ada")
    work(at.front, token, 10)
    at.front.wait_for_log("too few witnesses cosigned", 20)
    at.own.start()
    at.witnessed()
    assert at.front.stop() == 0
    assert at.verify()[0] == 0
