"""Retention in front of a real server: what is past its time goes, what is held stays, and both verifiers know why. Sessions are
recorded today; then the processes of the gateway live 500 days later."""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from rig import clock, ledger
from rig import gateway as gateways
from rig.need import need
from rig.process import ROOT

PYTHON = ROOT / "crates/ledger/python/verify.py"
DAYS = 500


@pytest.fixture(scope="module")
def server(servers):
    return servers("distribution")


class House:
    """A gateway with three closed files of recordings: a session of ada, one of dora, and one of ada through an agent."""

    def __init__(self, where, provider, server, database, authority):
        self.front = gateways.Gateway(where / "home", provider, {"shop": (server, database)}, ca=authority.certificate,
                                      retention={"recordings": "400d"})
        self.front.prepare()
        self.state = self.front.directory / "state"
        shutil.copy(self.state / "ledger.vkey", where / "roots")
        self.roots, self.sessions = where / "roots", []
        agent = provider.delegate(provider.person("ada"), "agent")
        for number, token in enumerate((provider.person("ada"), provider.person("dora"), agent)):
            self.front.start()
            said = subprocess.run(["psql", "-X", "-A", "-t", "-c", f"SELECT 'row {number}'", self.front.url("shop", token)],
                                  capture_output=True, text=True, timeout=30)
            assert said.stdout == f"row {number}\n", said.stderr
            assert self.front.stop() == 0
            self.sessions.append(self.json("session", "list")[0]["session"])

    def ask(self, *words, check=True):
        return self.front.run(*words, "--config", self.front.config, check=check)

    def json(self, *words):
        return json.loads(self.ask(*words, "--json").stdout)

    def files(self):
        """The closed files that are there and have something in them."""
        return [int(file.stem) for file in sorted((self.state / "recordings/files").glob("*.rec")) if file.stat().st_size]

    def kinds(self, *prefixes):
        return [entry for entry in ledger.entries(self.state) if entry["k"].startswith(prefixes)]

    def ours(self, state=None):
        """What our verifier says of the recordings."""
        said = self.front.run("ledger", "verify", state or self.state, "--roots", self.roots, "--json", check=False)
        return next(c for c in json.loads(said.stdout)["findings"] if c["check"] == "recordings")

    def verified(self, state=None):
        """What both say, in the words of ours. They agree; but the other one doubts a file that is still written."""
        one = self.ours(state)
        theirs = subprocess.run([sys.executable, PYTHON, state or self.state, "--roots", self.roots, "--json"],
                                capture_output=True, text=True, timeout=60)
        other = next(c for c in json.loads(theirs.stdout)["checks"] if c["check"] == "recordings")
        assert (one["verdict"], one["entry"]) == (other["verdict"], other["entry"]), (one, other)
        assert bool(one["what"]) == bool(other["what"]), (one, other)
        return one


@pytest.fixture
def house(directory, provider, server, fresh_database, authority):
    where = pathlib.Path(tempfile.mkdtemp(prefix="retention-", dir=directory))
    made = need(lambda: House(where, provider, server, fresh_database(), authority))
    made.later = need(lambda: clock.later(where, DAYS))
    yield made
    made.front.stop()


def test_a_dry_run_shows_and_changes_nothing(house):
    before = ledger.entries(house.state)
    today = house.json("retention", "run", "--dry-run")
    assert (today["due"], today["refused"], [one["becomes"] for one in today["files"]]) == (0, 0, ["kept"] * 3)
    day = (datetime.date.today() + datetime.timedelta(DAYS)).isoformat()
    then = house.json("retention", "run", "--dry-run", "--as-of", day)
    assert (then["due"], then["as_of"][:10], [one["becomes"] for one in then["files"]]) == (3, day, ["due"] * 3)
    assert "nothing was deleted" in house.ask("retention", "run", "--dry-run", "--as-of", day).stdout
    assert ledger.entries(house.state) == before and house.files() == [0, 1, 2]
    # A real run cannot be told another time.
    assert house.ask("retention", "run", "--as-of", day, check=False).returncode == 64


def test_what_is_past_its_time_goes_and_what_is_held_stays(house):
    issuer = house.front.provider.issuer
    session = house.json("hold", "set", "--session", house.sessions[0], "--reason", "Case 7 vs. Lovelace")["hold"]
    house.front.environment = house.later
    house.front.start()
    # The gateway runs: holds and runs go through its control socket.
    principal = house.json("hold", "set", "--principal", issuer, "agent", "--reason", "order of 12 May")["hold"]
    run = house.json("retention", "run")
    assert (run["due"], run["pruned"], run["refused"], run["how"]) == (3, 1, 2, "complete")
    assert house.files() == [0, 2]
    refused = [(entry["file"], entry["why"], entry["hold"]) for entry in house.kinds("prune.refuse")]
    assert refused == [(0, "held", session), (2, "held", principal)]
    pruned, = house.kinds("prune.recording")
    assert pruned["file"] == 1 and pruned["run"] == run["entry"] and pruned["t"] - pruned["last"] > 400 * 86_400_000_000
    told = json.dumps(house.kinds("hold", "prune", "retention"))
    assert not any(word in told for word in ("Lovelace", "12 May", issuer, "agent"))

    said = house.ours()
    assert (said["verdict"], said["what"]) == ("PASS", f"1 file is pruned, by entry {pruned['n']}")
    gone = house.ask("session", "replay", house.sessions[1], check=False)
    assert gone.returncode == 1 and f"pruned by entry {pruned['n']} at 20" in gone.stderr
    assert "row 0" in house.ask("session", "replay", house.sessions[0]).stdout

    # Lifted, it goes; the other stays. Then without a gateway.
    house.ask("hold", "lift", session, "--reason", "settled")
    assert house.json("retention", "run")["pruned"] == 1 and house.files() == [2]
    assert house.front.stop() == 0
    assert [one["hold"] for one in house.json("hold", "list", "--in-force")] == [principal]
    assert house.json("retention", "run")["refused"] == 1
    house.ask("hold", "lift", principal, "--reason", "withdrawn")
    assert "recordings 2" in house.ask("retention", "run").stdout and house.files() == []
    assert house.verified()["verdict"] == "PASS"
    assert house.json("retention", "status")["last_run"]["pruned"] == 1
    # It starts again, and numbers do not come back.
    house.front.start()
    assert house.front.stop() == 0
    files = [int(file.stem) for file in (house.state / "recordings/files").glob("*.rec")]
    assert min(files) > 2 and house.verified()["verdict"] == "PASS"


def test_a_file_that_is_missing_without_an_entry_is_a_failure(house, tmp_path):
    house.front.environment = house.later
    assert house.json("retention", "run")["pruned"] == 3
    assert house.verified()["verdict"] == "PASS"
    house.front.environment = dict(os.environ)
    copy = tmp_path / "state"
    shutil.copytree(house.state, copy, ignore=shutil.ignore_patterns("*.sock"))
    # The entries of the run are cut off: whoever deletes by hand has none.
    stated = [frame for frame in ledger.frames(copy) if json.loads(frame.line)["k"] == "rec.segment"]
    first = next(frame for frame in ledger.frames(copy) if json.loads(frame.line)["k"] == "retention.run")
    ledger.cut(first)
    said = house.verified(copy)
    assert (said["verdict"], said["entry"]) == ("FAIL", json.loads(stated[0].line)["n"])


def test_bad_usage_is_told(house):
    for words in (("hold", "set", "--reason", "x"), ("hold", "set", "--session", house.sessions[0]),
                  ("hold", "set", "--session", "no-id", "--reason", "x"),
                  ("hold", "set", "--session", house.sessions[0], "--from", "2026-01-01", "--to", "2026-02-01", "--reason", "x"),
                  ("hold", "set", "--from", "2026-02-01", "--to", "2026-01-01", "--reason", "x"),
                  ("hold", "set", "--from", "2026-02-01", "--reason", "x"),
                  ("hold", "set", "--session", house.sessions[0], "--reason", " "),
                  ("hold", "lift", "no-id", "--reason", "x")):
        assert house.ask(*words, check=False).returncode == 64, words
    unknown = house.ask("hold", "lift", "0" * 32, "--reason", "x", check=False)
    assert unknown.returncode == 1 and "no such hold" in unknown.stderr
    assert house.kinds("hold") == []
