"""Packs that a real gateway's `chancery evidence export` makes, before the verifier that was written from docs/spec alone
(crates/evidence/python/verify.py, and lists.py beside it): it must say of each what `chancery evidence verify` says."""

import contextlib
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from rig import ledger, wire
from rig.process import ROOT

PYTHON = ROOT / "crates/evidence/python/verify.py"
RULES = """\
permit (principal, action in [Action::"connect", Action::"read", Action::"administer"], resource);
permit (principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
"""
REVIEW = {"name": "dba", "reviewers": ['Group::"dba"'], "quorum": 1, "expires": "15m", "assurance": "clicked"}


@pytest.fixture(scope="module")
def server(servers):
    return servers("distribution")


def review(front, words, token, *more):
    file = front.directory / "reviewer.token"
    file.write_text(token)
    return front.run("review", *words, "--gateway", f"https://localhost:{front.https}", "--ca", front.ca, "--token-file", file,
                     *more, "--json").stdout


def ask(front, token, statement, said):
    """Sends a statement that is held, from a thread; and the thread."""
    def run():
        try:
            with front.connect("shop", token) as line:
                said.append(line.query(statement))
        except (wire.ServerError, wire.Closed, OSError) as refused:
            said.append(refused)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def pending(front, token):
    """The id of the one review that waits, as soon as there is one."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        said = json.loads(review(front, ["list"], token))
        found = [each["id"] for each in (said if isinstance(said, list) else said["reviews"])]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no review is pending")


def both(front, pack, roots):
    """What both verifiers say of a pack, where they must say the same: exit code, verdict, size, root, first bad entry."""
    ours = subprocess.run([front.program, "evidence", "verify", pack, "--roots", roots, "--json"], capture_output=True, text=True,
                          timeout=60)
    theirs = subprocess.run([sys.executable, PYTHON, pack, "--roots", roots, "--json"], capture_output=True, text=True, timeout=60)
    assert ours.returncode == theirs.returncode, (ours.stdout, theirs.stdout)
    if ours.returncode == 3:
        return 3, None, {}
    one, other = json.loads(ours.stdout), json.loads(theirs.stdout)
    assert (one["verdict"], one["entries"], one["root"]) == (other["verdict"], other["size"], other["root"]), (one, other)
    assert one["first_bad_entry"] == other["first_bad_entry"], (one, other)
    assert {c["check"] for c in one["checks"]} == {c["check"] for c in other["checks"]}
    for control in one["controls"]:  # the second one finds these two by itself
        if control["control"] in ("segregation", "approval-binding") and not ours.returncode:
            assert control["entries"] == [x["entry"] for x in other["exceptions"] if x["control"] == control["control"]]
    return ours.returncode, other["first_bad_entry"], {c["check"]: c["verdict"] for c in other["checks"]}


def instant_of(t):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t // 1_000_000)) + f".{t % 1_000_000:06}Z"


def test_packs(server, fresh_database, gateway, provider, tmp_path):
    name = fresh_database("CREATE TABLE items (id integer PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'lamp')")
    masks = [{"resource": "shop", "columns": ["public.items.name"], "tag": "pii", "with": "redact"}]
    front = gateway({"shop": (server, name)}, rules=RULES, reviews=[REVIEW], masks=masks)
    ada, dora, rex = map(provider.person, ("ada", "dora", "rex"))
    agent = provider.delegate(ada, "agent")
    with front.connect("shop", agent) as line:
        for _ in range(3):
            line.query("SELECT * FROM items")
        with pytest.raises(wire.ServerError):
            line.query("DROP TABLE items")
    said = []
    waiting = ask(front, agent, "INSERT INTO items VALUES (2, 'chair')", said)
    review(front, ["approve", pending(front, dora)], dora, "--yes")
    waiting.join(20)
    waiting = ask(front, ada, "INSERT INTO items VALUES (3, 'table')", said)
    review(front, ["deny", pending(front, rex)], rex)
    waiting.join(20)
    (front.directory / "policies" / "rig.cedar").write_text(RULES + "// another digest\n")
    front.reload()
    front.process.wait_until(lambda: sum(e["k"] == "policy.apply" for e in ledger.entries(front.directory / "state")) > 1, 20)
    middle = time.time()
    ask(front, ada, "DELETE FROM items", said)
    pending(front, dora)
    with front.connect("shop", ada) as line:
        line.query("SELECT 1")
        front.kill()
    front.start()
    with front.connect("shop", ada) as line:
        line.query("SELECT 2")
    assert front.stop() == 0
    roots = tmp_path / "roots"
    shutil.copy(front.directory / "state/ledger.vkey", roots)
    instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(middle))
    for name, words in (("late", ["--from", instant]), ("early", ["--from", "2026-01-01", "--to", instant]),
                        ("whole", ["--from", "2026-01-01"])):
        pack = tmp_path / f"{name}.tar"
        front.run("evidence", "export", "--config", front.config, "--out", pack, *words)
        code, bad, checks = both(front, pack, roots)
        assert (code, bad, set(checks.values())) == (0, None, {"PASS"}), checks
    data = pack.read_bytes()
    decided = next(e for e in ledger.entries(front.directory / "state") if e["k"] == "approval.decide" and e["d"][0] == "approve")
    with contextlib.closing(sqlite3.connect(front.directory / "state" / "catalog.sqlite")) as catalog, catalog:
        assert catalog.execute("DELETE FROM chains WHERE chain_id = ?", [bytes.fromhex(decided["by"])]).rowcount == 1
    for name, words, exceptions in (("to", ["--to", instant_of(decided["t"])], 0), ("from", ["--from", instant_of(decided["t"])], 1),
                                    ("past", ["--from", instant_of(decided["t"] + 1)], 0)):
        erased = tmp_path / f"erased-{name}.tar"
        front.run("evidence", "export", "--config", front.config, "--out", erased, *(["--from", "2026-01-01"] if name == "to" else []), *words)
        assert both(front, erased, roots)[0] == 0
        said = json.loads(subprocess.run([sys.executable, PYTHON, erased, "--roots", roots, "--json"], capture_output=True, timeout=60).stdout)
        assert [(x["control"], x["entry"]) for x in said["exceptions"]] == [("segregation", decided["n"])] * exceptions

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert both(front, tmp_path / "out" / "pack", roots)[0] == 0
    for number, at in enumerate(range(0, len(data), len(data) // 3 + 1), 1):
        (tmp_path / f"part.{number:03}").write_bytes(data[at:at + len(data) // 3 + 1])
    assert both(front, tmp_path / "part.001", roots)[0] == 0

    told, block = ledger.entries(front.directory / "state"), data.index(b"CRB2")
    recorded = data[block + 4:block + 20].hex()
    bad_at = {"entry": next(entry["n"] for entry in told if entry["k"] == "act.done"),
              "recording": next(entry["n"] for entry in told if entry.get("s") == recorded and "cm" in entry)}
    place = data.index(b'"out":"completed"', data.index(b'"k":"act.done"'))
    changes = {"entry": data[:place + 7] + b"C" + data[place + 8:], "cut": data[:-1000], "more": data + bytes(512),
               "manifest": data[:600] + b"X" + data[601:], "recording": data.replace(b"CRB2", b"CRB1", 1)}
    for name, changed in changes.items():
        (tmp_path / "changed.tar").write_bytes(changed)
        code, bad, checks = both(front, tmp_path / "changed.tar", roots)
        assert code == (3 if name in ("cut", "more", "manifest") else 1), name
        assert bad == bad_at.get(name), name
