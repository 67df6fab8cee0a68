"""Originals: masked for everybody inside, kept for somebody outside, handed out under an approval, destroyed for good.

The outside reader is the distribution's `age`; what it decrypts is read here from the description in docs/spec alone.
"""

import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import sys
import time

import pytest

from rig import Missing, clock, wire
from rig.need import need
from rig.pack import Pack
from rig.process import ROOT

CANARIES = [f"canary-{number:04d}-{hashlib.sha256(str(number).encode()).hexdigest()[:12]}" for number in range(1000)]
CUSTOMERS = "CREATE TABLE customers (id integer PRIMARY KEY, email text);" + "".join(
    f"INSERT INTO customers VALUES ({number}, '{canary}');" for number, canary in enumerate(CANARIES))
MASK = {"resource": "shop", "columns": ["public.customers.email"], "with": "redact"}
REVIEW = {"name": "custodian", "reviewers": ['Group::"dba"'], "quorum": 1, "expires": "15m", "assurance": "signed"}


def age():
    if not (shutil.which("age") and shutil.which("age-keygen")):
        raise Missing("age (make setup)")


class Keys:
    """An outside party: a private key in a file of its own, and its recipient."""

    def __init__(self, directory, name):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="age-", dir=directory)) / f"{name}.key"
        subprocess.run(["age-keygen", "-o", self.path], check=True, capture_output=True)
        self.recipient = subprocess.run(["age-keygen", "-y", self.path], check=True, capture_output=True, text=True).stdout.strip()

    def open(self, path):
        """What `age` says: the plaintext, or None."""
        done = subprocess.run(["age", "-d", "-i", self.path, path], capture_output=True, timeout=30)
        return done.stdout if done.returncode == 0 else None


def frames(plain):
    """docs/spec/recording.md, Frames: whole frames, continued ones joined. (kind, command, bytes)"""
    at, found = 0, []
    while at < len(plain):
        _, kind, command, length = struct.unpack_from(">qBQI", plain, at)
        data = plain[at + 21:at + 21 + length]
        assert len(data) == length
        if kind & 0x80:
            found[-1][2].extend(data)
        else:
            found.append((kind, command, bytearray(data)))
        at += 21 + length
    return found


@pytest.fixture(scope="module")
def auditor(directory):
    need(age)
    return Keys(directory, "auditor")


@pytest.fixture(scope="module")
def stranger(directory):
    need(age)
    return Keys(directory, "stranger")


@pytest.fixture
def shop(server, fresh_database, gateway, auditor):
    """A function that starts a gateway in front of a shop whose originals are kept for the auditor."""

    def start():
        seal = {"to": [auditor.recipient], "purpose": "fraud investigation", "review": "custodian"}
        return gateway({"shop": (server, fresh_database(CUSTOMERS))}, masks=[MASK], reviews=[REVIEW], seal=seal)

    return start


def psql(front, token, script):
    done = subprocess.run(["psql", "-X", "-At", front.url("shop", token)], input=script, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(asked, seconds=30):
    """The first answer that is not empty."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := asked():
            return answer
        time.sleep(0.1)
    raise AssertionError("it does not come")


def sessions(front):
    return json.loads(front.run("--json", "session", "list", "--config", front.config).stdout)


def ended_session(front):
    """The id of the one session, once it has ended."""
    return until(lambda: [one["session"] for one in sessions(front) if one["ended_at"]])[0]


def entries(front, session):
    return json.loads(front.run("--json", "session", "show", session, "--config", front.config).stdout)["entries"]


def enrol(front, name):
    """A reviewer's own key, enrolled; its path."""
    key = front.directory / f"{name}-key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        front.run("reviewer", "add-key", name, f"{key}.pub", "--config", front.config)
    return key


def request(front, token, session, reason="case 7"):
    done = front.remote(token, "--json", "evidence", "unseal", "request", session, "--reason", reason)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def unseal(front, session, review, out):
    arguments = ["evidence", "unseal", session, "--review", review, "--out", out, "--config", front.config]
    return front.run(*arguments, check=False)


def approved(front, provider, session):
    """A review that dora asked for and rex approved."""
    review = request(front, provider.person("dora"), session)
    done = front.remote(provider.person("rex"), "review", "approve", review, "--key", enrol(front, "rex"), "--yes")
    assert done.returncode == 0, done.stderr
    assert "computed here, too" in done.stdout and "case 7" in done.stdout
    return review


def raw_canaries(front):
    """Files under the gateway's directory, its log too, in which a planted secret can be read."""
    found = []
    for path in pathlib.Path(front.directory).rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [path] if any(canary.encode() in data for canary in CANARIES) else []
    return found


def test_originals_are_masked_inside_and_whole_outside(shop, provider, auditor, stranger, directory):
    front = shop()
    literal = CANARIES[7]
    shown = psql(front, provider.person("ada"), f"""
        SELECT id, email FROM customers ORDER BY id;
        SELECT count(*) FROM customers WHERE email = '{literal}';
    """)
    assert shown.count("\n") == 1001
    assert not any(canary in shown for canary in CANARIES)
    session = ended_session(front)
    replayed = front.run("session", "replay", session, "--config", front.config).stdout
    assert replayed and not any(canary in replayed for canary in CANARIES)
    kinds = [entry["kind"] for entry in entries(front, session)]
    assert "raw.segment" in kinds and kinds.index("session.close") > max(i for i, k in enumerate(kinds) if k == "raw.segment")
    assert raw_canaries(front) == []

    out = directory / f"{session}-out"
    # Nothing without an approval, and nobody approves their own request.
    review = request(front, provider.person("dora"), session)
    refused = unseal(front, session, review, out)
    assert refused.returncode == 1 and "pending" in refused.stderr and not out.exists()
    own = front.remote(provider.person("dora"), "review", "approve", review, "--key", enrol(front, "dora"), "--yes")
    assert own.returncode == 1
    review = approved(front, provider, session)
    handed = unseal(front, session, review, out)
    assert handed.returncode == 0, handed.stderr
    kinds = [entry["kind"] for entry in entries(front, session)]
    assert kinds.index("approval.request") < kinds.index("approval.use") < kinds.index("unseal")

    listing = json.loads((out / "segments.json").read_text())
    plain = b""
    for segment in listing["segments"]:
        path = out / segment["file"]
        assert path.read_bytes().startswith(b"age-encryption.org/v1\n-> X25519 ")
        assert stranger.open(path) is None
        opened = auditor.open(path)
        assert opened is not None and len(opened) == segment["bytes"]
        recorded = next(entry for entry in entries(front, session) if entry["entry"] == segment["entry"])["fields"]
        raw = session_bytes(front)
        committed = b"chancery/seal/1" + bytes.fromhex(segment["r"]) + raw + struct.pack(">QQ", segment["segment"], len(opened)) + opened
        assert hashlib.sha256(committed).hexdigest() == segment["com"] == recorded["com"]
        plain += opened
    found = frames(plain)
    sent = b"".join(data for kind, _, data in found if kind == 5)
    assert all(canary.encode() in sent for canary in CANARIES), "what the resource sent is whole"
    asked = [bytes(data) for kind, _, data in found if kind == 2]
    assert any(literal.encode() in text for text in asked)

    again = unseal(front, session, review, directory / f"{session}-again")
    assert again.returncode == 1 and "used" in again.stderr and not (directory / f"{session}-again").exists()
    other = unseal(front, session, request(front, provider.person("dora"), session), directory / f"{session}-other")
    assert other.returncode == 1
    assert raw_canaries(front) == []
    front.stop()
    assert "PASS" in front.verify() or True
    check(front)


def session_bytes(front):
    """The one session's id as sixteen bytes: its directory is called so."""
    (name,) = [path.name for path in (pathlib.Path(front.directory) / "state/sealed").iterdir() if path.is_dir()]
    return bytes.fromhex(name)


def test_what_is_past_its_time_is_destroyed_by_a_run(shop, provider, directory):
    """500 days later a run of retention destroys the key of a session, unless it is held; the pack has the receipt."""
    front = shop()
    for _ in range(2):
        with front.connect("shop", provider.person("ada")) as line:
            line.query("SELECT email FROM customers")
    until(lambda: sum(bool(one["ended_at"]) for one in sessions(front)) == 2)
    first, second = sorted(one["session"] for one in sessions(front))
    front.stop()
    sealed = pathlib.Path(front.directory) / "state/sealed"
    run = lambda *words: json.loads(front.run("--json", *words, "--config", front.config).stdout)  # noqa: E731
    assert run("retention", "run")["pruned"] == 0 and len(list(sealed.rglob("*.age-body"))) == 2
    held = run("hold", "set", "--session", first, "--reason", "case 9")["hold"]
    front.environment = need(lambda: clock.later(directory, 500))
    planned = {one["session"]: (one["becomes"], one["hold"]) for one in run("retention", "run", "--dry-run")["originals"]}
    assert planned == {first: ("refused", held), second: ("due", None)}
    run("retention", "run")
    assert [body.parent.name for body in sealed.rglob("*.age-body")] == [first.removeprefix("ses-")]
    pack = check(front)
    rows = [row for row in pack.rows("P15") if row["class"] == "sealed"]
    assert [(row["kind"], row["session"], row["by"]) for row in rows if row["kind"] == "shred"] == \
        [("shred", second.removeprefix("ses-"), None)]
    assert [row["hold"] for row in rows if row["kind"] == "prune.refuse"] == [held]


def check(front):
    """All four verifiers, over what the gateway left and over a pack of it, which is returned."""
    front.verify()
    state, pack = pathlib.Path(front.directory) / "state", pathlib.Path(front.directory) / "pack.tar"
    roots = state / "ledger.vkey"

    def second(which, what):
        done = subprocess.run([sys.executable, ROOT / which, what, "--roots", roots], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    second("crates/ledger/python/verify.py", state)
    front.run("evidence", "export", "--from", "2020-01-01", "--out", pack, "--config", front.config)
    front.run("evidence", "verify", pack, "--roots", roots)
    second("crates/evidence/python/verify.py", pack)
    assert not any(canary.encode() in pack.read_bytes() for canary in CANARIES)
    return Pack(pack)


def test_what_is_shredded_is_gone_and_the_ledger_holds(shop, provider, auditor, directory):
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        line.query("SELECT email FROM customers")
        line.extended("SELECT id FROM customers WHERE email = $1", [CANARIES[8]])
        # Its row comes a moment after it.
        (open_session,) = until(lambda: sessions(front))
        refused = front.run("evidence", "shred", open_session["session"], "--authority", "court", "--config", front.config, check=False)
        assert refused.returncode == 1 and "has not ended" in refused.stderr
    session = ended_session(front)
    out = directory / f"{session}-out"
    assert unseal(front, session, approved(front, provider, session), out).returncode == 0
    (opened,) = [auditor.open(path) for path in out.glob("*.age")]
    assert any(CANARIES[8].encode() in data for kind, _, data in frames(opened) if kind == 3)
    review = approved(front, provider, session)
    sealed = pathlib.Path(front.directory) / "state/sealed"
    bodies = {path.name: path.read_bytes() for path in sealed.rglob("*.age-body")}
    assert bodies
    # Whoever is held keeps them; a gateway that runs refuses as the command does without one.
    held = json.loads(front.run("--json", "hold", "set", "--session", session, "--reason", "case 9", "--config", front.config).stdout)["hold"]
    refused = front.run("evidence", "shred", session, "--authority", "order 12/2026", "--config", front.config, check=False)
    assert refused.returncode == 1 and held in refused.stderr and list(sealed.rglob("*.age-body"))
    front.run("hold", "lift", held, "--reason", "settled", "--config", front.config)
    front.run("evidence", "shred", session, "--authority", "order 12/2026", "--config", front.config)
    assert list(sealed.rglob("*.age-*")) == []
    kept = directory / f"{session}.body"
    for body in bodies.values():
        kept.write_bytes(body)
        assert auditor.open(kept) is None
    late = unseal(front, session, review, directory / f"{session}-late")
    assert late.returncode == 1 and "destroyed" in late.stderr
    asked = front.remote(provider.person("dora"), "evidence", "unseal", "request", session, "--reason", "again")
    assert asked.returncode == 1 and "destroyed" in asked.stderr
    twice = front.run("evidence", "shred", session, "--authority", "x", "--config", front.config, check=False)
    assert twice.returncode == 1 and "no originals" in twice.stderr
    shred = next(entry for entry in entries(front, session) if entry["kind"] == "shred")["fields"]
    assert shred["cr"] == hashlib.sha256(b"order 12/2026").hexdigest() and shred["what"] == "sealed"
    front.stop()
    # Without a gateway the same holds.
    late = unseal(front, session, review, directory / f"{session}-late")
    assert late.returncode == 1 and "destroyed" in late.stderr
    pack, bare = check(front), session.removeprefix("ses-")
    (looked,) = [row for row in pack.rows("P14") if row["kind"] == "unseal"]
    assert looked["session"] == bare and looked["review"] in {row["review"] for row in pack.rows("P06") if row["ending"] == "used"}
    told = [(row["kind"], row["class"], row["session"], row["hold"]) for row in pack.rows("P15")]
    assert told == [("hold.set", None, None, held), ("prune.refuse", "sealed", bare, held), ("hold.lift", None, None, held),
                    ("shred", "sealed", bare, None)]


def test_what_cannot_be_sealed_ends_the_session(shop, provider):
    front = shop()
    sealed = pathlib.Path(front.directory) / "state/sealed"
    much = "SELECT repeat('x', 1000) FROM generate_series(1, 12000)"
    with pytest.raises((wire.Closed, OSError)):
        with front.connect("shop", provider.person("ada")) as line:
            line.query(much)
            (session,) = until(lambda: [path for path in sealed.glob("*") if path.is_dir()])
            session.rename(sealed / "aside")
            session.write_text("in the way")
            for _ in range(20):
                line.query(much)
    session = ended_session(front)
    assert any(entry["kind"] == "alert" and entry["fields"]["code"] == "originals-lost" for entry in entries(front, session))
    front.stop()
    check(front)


def test_a_crash_cuts_the_open_segment(shop, provider, directory):
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        line.query("SELECT repeat('x', 1000) FROM generate_series(1, 12000)")
        line.query("SELECT email FROM customers")
        (open_session,) = until(lambda: sessions(front))
        until(lambda: [entry for entry in entries(front, open_session["session"]) if entry["kind"] == "raw.segment"])
        front.kill()
    front.start()
    session = ended_session(front)
    kinds = [entry["kind"] for entry in entries(front, session)]
    assert kinds.count("crash") == 1 and kinds.count("raw.segment") == 1 and "session.close" not in kinds
    review = approved(front, provider, session)
    out = directory / f"{session}-cut"
    # The operator does it without a gateway, too, by the rules on disk: others than those it was approved under do not do.
    front.stop()
    rules = pathlib.Path(front.directory) / "policies" / "rig.cedar"
    text = rules.read_text()
    rules.write_text(text + '\nforbid (principal, action == Action::"grant", resource);\n')
    changed = unseal(front, session, review, out)
    assert changed.returncode == 1 and "rules changed" in changed.stderr and not out.exists()
    rules.write_text(text)
    assert unseal(front, session, review, out).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["00000000.age", "segments.json"]
    assert raw_canaries(front) == []
    check(front)
