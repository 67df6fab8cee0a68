"""Killed at random moments under load, the gateway has written down every effect before it could happen.

The witness is the ledger: for each writing statement in PostgreSQL's own log there must be an `act.start` whose command
digest is that of exactly this text. A kill ends the process, not the machine: what is shown is the order of the writes.

CHANCERY_KILLS says how many kills (20); CHANCERY_SEED repeats a run.
"""

import datetime
import json
import os
import pathlib
import random
import re
import shutil
import tempfile
import threading
import time

import pytest

from rig import gateway as gateways
from rig import ledger, postgres, wire
from rig.need import need

KILLS = int(os.environ.get("CHANCERY_KILLS", "20"))
KILLS_A_BATCH = 10
CLIENTS = 4
TABLE = "CREATE TABLE marks (mark text PRIMARY KEY, hits integer DEFAULT 0)"
TAG = re.compile(r"m\d+x\d+")
LOGGED = re.compile(r"^(\S+ \S+) UTC crash LOG:  (statement|execute <unnamed>): (.*)$")
NO_PARAMETERS = bytes(6)


class Load(threading.Thread):
    """One client: writes and reads with a mark of its own in each statement, and connects again when it is cut off."""

    def __init__(self, front, token, number, seed):
        super().__init__(daemon=True)
        self.front, self.token, self.number = front, token, number
        self.dice, self.end, self.count, self.done, self.strange = random.Random(seed), threading.Event(), 0, 0, []

    def run(self):
        while not self.end.is_set():
            try:
                with self.front.connect("crash", self.token, timeout=10) as line:
                    while not self.end.is_set():
                        self.step(line)
                        self.done += 1
            except (OSError, wire.Closed):
                self.end.wait(0.01)
            except wire.ServerError as error:
                # The gateway is going down, or this client was faster than its start.
                if error.sqlstate not in ("57P01", "57P03", "53300", "08006"):
                    self.strange.append(str(error))

    def tag(self):
        self.count += 1
        return f"m{self.number}x{self.count}"

    def step(self, line):
        tag, last = self.tag(), f"m{self.number}x{self.dice.randint(1, self.count)}"
        kind = self.dice.randrange(6)
        if kind == 0:
            self.ask(line.simple, f"INSERT INTO marks VALUES ('{tag}')")
        elif kind == 1:
            self.ask(line.extended, f"INSERT INTO marks VALUES ('{tag}')")
        elif kind == 2:
            self.ask(line.simple, f"UPDATE marks SET hits = hits + 1 WHERE mark = '{last}' /* {tag} */")
        elif kind == 3:
            self.ask(line.simple, "BEGIN")
            self.ask(line.simple, f"INSERT INTO marks VALUES ('{tag}')")
            self.ask(line.extended, f"UPDATE marks SET hits = 1 WHERE mark = '{tag}' /* {self.tag()} */")
            self.ask(line.simple, "COMMIT")
        elif kind == 4:
            self.ask(line.simple, f"DELETE FROM marks WHERE mark = '{last}' /* {tag} */; INSERT INTO marks VALUES ('{tag}')")
        else:
            self.ask(line.simple, f"SELECT count(*) FROM marks WHERE mark <> '{tag}'")

    def ask(self, way, sql):
        self.strange += [str(wire.fields(body)) for kind, body in way(sql) if kind == "E"]


@pytest.fixture(scope="module")
def crashed(directory, provider):
    """A gateway that was killed KILLS times under load, with what was found on the way."""
    server = need(lambda: postgres.Server(directory / "pg-crash", settings=[
        "log_statement=all", "log_line_prefix=%m crash ", "max_connections=900"]).start())
    server.psql("CREATE DATABASE crash")
    server.psql(TABLE, "crash")
    where = pathlib.Path(tempfile.mkdtemp(prefix="crash-", dir=directory))
    front = need(lambda: gateways.Gateway(where / "home", provider, {"crash": (server, "crash")})).prepare()
    seed = int(os.environ.get("CHANCERY_SEED", random.randrange(10**6)))
    dice, token = random.Random(seed), provider.person("ada")
    loads = [Load(front, token, number, seed + number) for number in range(CLIENTS)]
    began = time.monotonic()
    front.start()
    for load in loads:
        load.start()
    for kill in range(1, KILLS + 1):
        time.sleep(dice.uniform(0.01, 0.5))
        front.kill()
        if kill % KILLS_A_BATCH == 0:
            _in_order(front, seed)
        front.start()
    for load in loads:
        load.end.set()
    for load in loads:
        load.join(20)
    assert front.stop() == 0
    print(f"seed {seed}: {KILLS} kills in {time.monotonic() - began:.0f} s, {sum(load.done for load in loads)} rounds")
    yield front, server, loads, provider
    server.stop()


def _in_order(front, seed):
    """Between two kills: what is on disk passes, after the recovery of one start."""
    front.start()
    assert front.stop() == 0, f"seed {seed}"
    front.verify()


@pytest.mark.seconds(30 + 5 * KILLS)
def test_every_effect_has_an_intent_that_came_first(crashed):
    front, server, loads, provider = crashed
    assert [said for load in loads for said in load.strange] == []
    groups = ["analyst"]
    chain = ledger.chain(provider.issuer, "ada", groups)
    starts = {}
    for entry in ledger.entries(front.directory / "state"):
        if entry["k"] == "act.start":
            starts.setdefault(entry["ch"], []).append(entry["t"])
    rules = {entry["p"] for entry in ledger.entries(front.directory / "state") if entry["k"] == "policy.apply"}
    assert len(rules) == 1
    (rules,) = rules
    effects, without, late = 0, [], []
    for logged_at, ask, statement in _logged(server):
        if statement.startswith("SELECT") or not TAG.search(statement):
            continue
        effects += 1
        digest = ledger.command_digest(front.directory / "state", "crash", chain, rules, ask[0], statement, ask[1])
        times = starts.get(digest)
        if not times:
            without.append(statement)
        # PostgreSQL's log has milliseconds, cut off.
        elif min(times) // 1000 > logged_at:
            late.append(statement)
    print(f"{effects} effects in PostgreSQL's log, {sum(map(len, starts.values()))} intents in the ledger")
    assert effects >= 10 * KILLS
    assert (without, late) == ([], [])


def _logged(server):
    """Statements of PostgreSQL's log: when (ms), the ask and its parameters, the text."""
    for line in (server.directory / "log").read_text().splitlines():
        found = LOGGED.match(line)
        if found:
            at = datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=datetime.UTC)
            ask = ("query", b"") if found[2] == "statement" else ("execute", NO_PARAMETERS)
            yield round(at.timestamp() * 1000), ask, found[3]


@pytest.mark.seconds(30 + 5 * KILLS)
def test_every_open_command_is_closed_after_a_crash(crashed):
    front, *_ = crashed
    begun, ended, crashes, open_sessions = [], [], 0, set()
    for entry in ledger.entries(front.directory / "state"):
        match entry["k"]:
            case "act.start":
                begun.append((entry["s"], entry["q"]))
            case "act.done":
                ended.append((entry["s"], entry["q"]))
            case "crash" if "q" in entry:
                ended.append((entry["s"], entry["q"]))
                crashes += 1
            case "session.open":
                open_sessions.add(entry["s"])
            case "session.close" | "crash":
                open_sessions.remove(entry["s"])
    assert sorted(begun) == sorted(ended) and len(set(begun)) == len(begun)
    assert open_sessions == set()
    assert crashes > 0, "no kill met a command under way"
    print(f"{crashes} commands closed as unknown by {KILLS} kills")


def test_a_verified_ledger_passes(crashed):
    front, *_ = crashed
    assert "PASS" in front.verify().upper()


@pytest.fixture
def copied(crashed, tmp_path):
    """A copy of the ledger and its public key, without the private keys."""
    front, *_ = crashed
    state = tmp_path / "state"
    shutil.copytree(front.directory / "state/ledger", state / "ledger")
    shutil.copytree(front.directory / "state/recordings", state / "recordings")
    shutil.copy(front.directory / "state/ledger.vkey", state)

    def verify():
        done = front.run("ledger", "verify", state, "--json", check=False)
        return done.returncode, json.loads(done.stdout)

    assert verify()[0] == 0
    return state, verify


def test_a_flipped_byte_is_named(copied):
    state, verify = copied
    all_frames = list(ledger.frames(state))
    place = len(all_frames) // 2
    frame = all_frames[place]
    data = bytearray(frame.file.read_bytes())
    data[frame.at + 8 + len(frame.line) // 2] ^= 1
    frame.file.write_bytes(data)
    code, report = verify()
    assert (code, report["first_bad_entry"]) == (1, place), report


def test_a_forged_entry_with_a_right_checksum_is_found(copied):
    state, verify = copied
    place, frame = next((n, frame) for n, frame in enumerate(ledger.frames(state)) if b'"k":"act.start"' in frame.line)
    changed = frame.line.replace(b'"x":"write"', b'"x":"reads"').replace(b'"x":"read"', b'"x":"reap"')
    forged = changed if changed != frame.line else None
    assert forged is not None
    ledger.rewrite(frame, forged)
    code, report = verify()
    assert code == 1 and report["first_bad_entry"] is not None and report["first_bad_entry"] >= 0, report
    digest = json.loads(frame.line)["ch"].encode()
    ledger.rewrite(frame, frame.line.replace(digest, digest[::-1]))
    code, report = verify()
    # The line has a right form: only the root says that something below the checkpoint is another.
    assert code == 1 and any(one["verdict"] == "FAIL" and one["check"] == "checkpoints" for one in report["findings"]), report
    assert place < report["entries"]


def test_a_cut_tail_is_named(copied):
    state, verify = copied
    all_frames = list(ledger.frames(state))
    place = len(all_frames) - 5
    ledger.cut(all_frames[place])
    code, report = verify()
    assert (code, report["first_bad_entry"]) == (1, place), report


def test_a_swapped_pair_is_named(copied):
    state, verify = copied
    all_frames = list(ledger.frames(state))
    place = next(n for n in range(len(all_frames) // 2, len(all_frames))
                 if len(all_frames[n].line) == len(all_frames[n + 1].line))
    one, other = all_frames[place], all_frames[place + 1]
    ledger.rewrite(one, other.line)
    ledger.rewrite(other, one.line)
    code, report = verify()

    assert code == 1 and place in [one["entry"] for one in report["findings"] if one["verdict"] == "FAIL"], report
