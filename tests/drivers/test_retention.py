"""Retention in front of a real server: what is past its time goes, what is held stays, and both verifiers know why. Sessions are
recorded today; then the processes of the gateway live 500 days later."""

import datetime
import hashlib
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
from rig.pack import Auditor, Forger, Pack
from rig.process import ROOT

PYTHON = ROOT / "crates/ledger/python/verify.py"
DAYS = 500


@pytest.fixture(scope="module")
def server(servers):
    return servers("distribution")


class House:
    """A gateway with three closed files of recordings: a session of ada, one of dora, and one of ada through an agent."""

    def __init__(self, where, provider, server, database, authority, recordings="400d"):
        self.front = gateways.Gateway(where / "home", provider, {"shop": (server, database)}, ca=authority.certificate,
                                      retention={"recordings": recordings})
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

    def bare(self, number):
        """A session's id as entries have it."""
        return self.sessions[number].removeprefix("ses-")

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
def house(request, directory, provider, server, fresh_database, authority):
    where = pathlib.Path(tempfile.mkdtemp(prefix="retention-", dir=directory))
    made = need(lambda: House(where, provider, server, fresh_database(), authority, **getattr(request, "param", {})))
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


# --- packs of what is left -------------------------------------------------------------------------------------------

def prune_the_first_two(house):
    """The entries of the first two sessions become hashes: the ledger has two segments, and the first is past its time."""
    (third,) = [frame for frame in ledger.frames(house.state)
                if json.loads(frame.line).get("s") == house.bare(2) and json.loads(frame.line)["k"] == "session.open"]
    boot = json.loads(third.line)["b"]
    ledger.split(next(frame for frame in ledger.frames(house.state) if json.loads(frame.line)["b"] == boot))
    before = [entry["n"] for entry in ledger.entries(house.state)]
    house.front.environment = house.later
    assert house.json("retention", "run")["how"] == "complete"
    left = {entry["n"] for entry in ledger.entries(house.state)}
    return [n for n in before if n not in left]


def export(house, out, since, *words, check=True):
    return house.ask("evidence", "export", "--from", since, "--out", out, *words, check=check)


@pytest.mark.parametrize("house", [{"recordings": "3000d"}], indirect=True)
def test_packs_of_a_pruned_ledger(house, tmp_path):
    """The ledger's time is over before that of the recordings. Of the pruned time a pack says what is left; of later times it is
    whole. Both verifiers agree, of whole packs and of changed ones."""
    head = tmp_path / "head"
    shutil.copy(house.state / "ledger/checkpoint", head)
    gone = prune_the_first_two(house)
    told = ledger.entries(house.state)
    (pruned,) = [entry for entry in told if entry["k"] == "prune.ledger"]
    assert pruned["dropped"] == len(gone) > 6 and not {entry.get("s") for entry in told} & {house.bare(0), house.bare(1)}
    assert "session.open" in {entry["k"] for entry in told}, "the third session is there"

    # The ledger itself: recordings of sessions whose entries are gone are no fault, nor are their blocks.
    assert house.verified()["verdict"] == "PASS"
    said = json.loads(house.front.run("ledger", "verify", house.state, "--roots", house.roots, "--json", check=False).stdout)
    lines = next(c for c in said["findings"] if c["check"] == "lines")
    assert (lines["verdict"], lines["what"]) == ("PASS", f"{len(gone)} entries are pruned: their hashes are in the tree")

    auditor = Auditor(house.front.program, house.roots)
    # Of a time behind all that was pruned: everything passes.
    later = (datetime.date.today() + datetime.timedelta(DAYS - 10)).isoformat()
    export(house, tmp_path / "later.tar", later)
    auditor.passes(tmp_path / "later.tar")
    pack = Pack(tmp_path / "later.tar")
    kinds = [row["kind"] for row in pack.rows("P15")]
    assert kinds == ["retention.run", "prune.ledger", "retention.done"], kinds
    assert [one["reason"] for one in pack.ipe("P05")["excluded"]] == ["outside the period"]
    assert [path for path in pack.files if path.startswith("ledger/kept/")] and len(pack.rows("P04")) == 0

    # Of the time that was pruned: inconclusive, and it says until when.
    export(house, tmp_path / "all.tar", "2020-01-01")
    checks = ("lines", "order", "ladder", "sessions", "rolling", "tiles", "recordings", "directory", "rules", "populations", "controls")
    said = auditor.both(tmp_path / "all.tar", says=checks)
    assert said.verdict == "INCONCLUSIVE" and said.checks["populations"]["verdict"] == "INCONCLUSIVE", said.text
    others = {name for name, check in said.checks.items() if check["verdict"] != "PASS"}
    assert others == {"populations"}, said.text
    pack = Pack(tmp_path / "all.tar")
    last = datetime.datetime.fromtimestamp(pruned["last"] // 10**6, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    for population in (f"P{number:02}" for number in range(1, 21)):
        outside, missing = pack.ipe(population)["excluded"]
        assert outside["count"] == 0 or population == "P01"
        assert missing["count"] == len(gone) and missing["reason"].startswith(f"pruned: entries of unknown kind, written up to {last}")
    assert last[:10] in said.checks["populations"]["what"] and last[:10] in said.theirs["populations"]["what"]
    assert [row["session"] for row in pack.rows("P04")] == [house.bare(2)]
    recordings = [path for path in pack.files if path.startswith("recordings/")]
    assert recordings == [f"recordings/{house.bare(2)}.rec"]
    assert f"{len(gone)} entries were pruned" in pack.files["report.html"].decode()

    # Cut in parts, unpacked, drawn from.
    export(house, tmp_path / "parts.tar", later, "--split", "1MB")
    parts = tmp_path / "parts.tar.001"
    auditor.passes(parts if parts.exists() else tmp_path / "parts.tar")
    auditor.passes(Pack(tmp_path / "later.tar").unpack(tmp_path / "unpacked"))
    drawn = auditor.run("sample", tmp_path / "all.tar", "--nonce", "w", "--population", "P04", "--count", "1")
    assert drawn.returncode == 0 and house.bare(2) in drawn.stdout, drawn

    # The head from before speaks of no pruning.
    refused = export(house, tmp_path / "before.tar", "2020-01-01", "--checkpoint", head, check=False)
    assert refused.returncode == 1 and "later checkpoint" in refused.stderr and not (tmp_path / "before.tar").exists()


@pytest.mark.parametrize("house", [{"recordings": "3000d"}], indirect=True)
def test_pruned_entries_that_nobody_pruned(house, tmp_path):
    """Whoever has the log's key and hides entries of a pack behind their hashes is found by both, with or without the tile."""
    gone = prune_the_first_two(house)
    auditor, seed = Auditor(house.front.program, house.roots), (house.state / "keys/log-ed25519.seed").read_bytes()
    export(house, tmp_path / "pack.tar", "2020-01-01")
    auditor.both(tmp_path / "pack.tar", says=("lines", "populations"))

    def forged(name, change, check):
        pack = Forger(tmp_path / "pack.tar", seed)
        (path,) = [path for path in pack.files if path.startswith("ledger/kept/")]
        pack.files[path] = change(pieces(pack.files[path]))
        said = auditor.both(pack.seal().write(tmp_path / name), says=(check,))
        assert (said.verdict, said.checks[check]["verdict"]) == ("FAIL", "FAIL"), said.text
        return said

    def hidden(found):
        """The first entry behind the pruned ones is only a hash, too."""
        at = gone[-1] + 1
        found[at] = bytes(2 + 8) + hashlib.sha256(b"\0" + found[at][2:]).digest()
        return b"".join(found)

    assert forged("hidden", hidden, "lines").checks["lines"]["entry"] == gone[0]
    forged("elsewhere", lambda found: b"".join(piece[:2] + bytes(7) + b"\1" + piece[10:] if piece[:2] == bytes(2) else piece
                                               for piece in found), "lines")
    forged("another", lambda found: b"".join(piece[:-1] + bytes([piece[-1] ^ 1]) if at == gone[1] else piece
                                             for at, piece in enumerate(found)), "lines")


def test_packs_of_pruned_recordings(house, tmp_path):
    """Recordings of files that were pruned are not in the pack, and both verifiers are in doubt; that of a session which began
    behind all of these files must be there."""
    held = house.json("hold", "set", "--session", house.sessions[2], "--reason", "case 7")["hold"]
    house.front.environment = house.later
    run = house.json("retention", "run")
    assert (run["pruned"], run["refused"]) == (2, 1) and house.files() == [2]
    auditor, seed = Auditor(house.front.program, house.roots), (house.state / "keys/log-ed25519.seed").read_bytes()
    export(house, tmp_path / "all.tar", "2020-01-01")
    said = auditor.both(tmp_path / "all.tar", says=("lines", "recordings", "populations", "controls"))
    assert {name: check["verdict"] for name, check in said.checks.items() if check["verdict"] != "PASS"} == {"recordings": "INCONCLUSIVE"}
    assert said.checks["recordings"]["entry"] == said.theirs["recordings"]["entry"] is not None, said.text
    pack = Pack(tmp_path / "all.tar")
    assert [path for path in pack.files if path.startswith("recordings/")] == [f"recordings/{house.bare(2)}.rec"]
    disposal = [(row["kind"], row["file"], row["hold"]) for row in pack.rows("P15")]
    assert disposal == [("hold.set", None, held), ("retention.run", None, None), ("prune.recording", 0, None),
                        ("prune.recording", 1, None), ("prune.refuse", 2, held), ("retention.done", None, None)]
    assert len(pack.ipe("P05")["excluded"]) == 1, "no entry is missing"
    later = (datetime.date.today() + datetime.timedelta(DAYS - 10)).isoformat()
    export(house, tmp_path / "later.tar", later)
    auditor.passes(tmp_path / "later.tar")

    without = Forger(tmp_path / "all.tar", seed)
    del without.files[f"recordings/{house.bare(2)}.rec"]
    said = auditor.both(without.seal().write(tmp_path / "without.tar"), says=("recordings",))
    assert said.checks["recordings"]["verdict"] == "FAIL", said.text


def pieces(bundle):
    """A kept bundle, entry by entry (docs/spec/pack.md)."""
    at, found = 0, []
    while at < len(bundle):
        length = 2 + (int.from_bytes(bundle[at:at + 2], "big") or 40)
        found.append(bundle[at:at + length])
        at += length
    return found
