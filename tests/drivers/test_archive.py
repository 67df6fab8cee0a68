"""A gateway whose ledger and recordings go into a real S3-compatible store, as docs/spec/archive.md has it: what becomes of
it when the store or the gateway is killed, when somebody else was there first, and when the disk is lost."""

import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from rig import gateway as gateways
from rig import ledger, objects, postgres, tls
from rig.need import need
from rig.process import ROOT, free_port
from test_witnessed import OwnWitness

EVERY = {"every": "1s"}
TABLE = "CREATE TABLE items (id integer PRIMARY KEY, name text)"


@pytest.fixture(scope="module")
def server(servers):
    """One major is enough: nothing here depends on it."""
    return servers("distribution")


@pytest.fixture(scope="module")
def store(directory, authority):
    where = pathlib.Path(tempfile.mkdtemp(prefix="objects-", dir=directory))
    started = need(lambda: objects.Store(where, *authority.issue("objects")).start())
    yield started
    started.kill()


class World:
    """A gateway in a directory of its own, with an archive, and its roots kept elsewhere."""

    def __init__(self, directory, authority, provider, server, database, archive, how, environment):
        self.where = pathlib.Path(tempfile.mkdtemp(prefix="archive-", dir=directory))
        certificate, key = authority.issue(f"gateway-{self.where.name}")
        self.front = gateways.Gateway(self.where / "home", provider, {"shop": (server, database)}, ca=authority.certificate,
                                      certificate=certificate, key=key, archive=archive, archive_how=how,
                                      environment=environment)
        self.front.prepare()
        self.state, self.token = self.front.directory / "state", provider.person("ada")
        self.roots = self.where / "auditor.roots"
        shutil.copy(self.state / "ledger.vkey", self.roots)

    def work(self, first, count=5):
        with self.front.connect("shop", self.token) as line:
            for number in range(first, first + count):
                line.query(f"INSERT INTO items VALUES ({number}, repeat('n', 100))")
                line.query("SELECT * FROM items")

    def archived(self):
        """Entries in the archive, as the gateway notes them for itself."""
        note = self.state / "ledger/archived"
        return int(note.read_text().splitlines()[1]) if note.exists() else 0

    def until_archived(self, seconds=30):
        """Waits until all that is in the ledger now is in the archive."""
        size = sum(1 for _ in ledger.frames(self.state))
        self.front.process.wait_until(lambda: self.archived() >= size, seconds)
        return self.archived()

    def restore(self, *extra, to="restored", check=True):
        """What `archive restore` says, with its exit code in `code`."""
        made = self.where / to
        done = self.front.run("archive", "restore", made, "--config", self.front.config, "--roots", self.roots, "--json",
                              *extra, check=False)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return made, {"code": done.returncode, "error": done.stderr, **json.loads(done.stdout or "{}")}

    def verifiers(self, directory):
        """What both verifiers say of a directory: ours, and the one that shares no code with it."""
        ours = json.loads(self.front.run("ledger", "verify", directory, "--roots", self.roots, "--json", check=False).stdout)
        theirs = subprocess.run([sys.executable, ROOT / "crates/ledger/python/verify.py", directory, "--roots", self.roots,
                                 "--json"], text=True, capture_output=True, timeout=120)
        return ours, json.loads(theirs.stdout)

    def other_authority(self):
        return tls.Authority(self.where / "other-ca").certificate

    def alerts(self):
        return [entry["code"] for entry in ledger.entries(self.state) if entry["k"] == "alert"]


@pytest.fixture
def world(directory, authority, provider, server, fresh_database, store):
    """A function that makes a `World` with an archive at a URL."""
    made = []

    def make(archive, how=None, environment=None):
        name = fresh_database(TABLE)
        how = {"endpoint": store.endpoint, **EVERY} if how is None else how
        made.append(need(lambda: World(directory, authority, provider, server, name, archive, how,
                                       store.environment if environment is None else environment)))
        return made[-1]

    yield make
    for one in made:
        one.front.stop()


def whole(at, made, said, size):
    """A restored directory is the ledger up to the archive's last checkpoint, and both verifiers say so."""
    assert said["entries"] == size and said["missing_files"] == [] and said["missing_recordings"] == [], said
    ours, theirs = at.verifiers(made)
    assert (ours["entries"], ours["root"]) == (size, said["root"]), ours
    assert (theirs["size"], theirs["root"]) == (size, said["root"]), theirs
    return ours, theirs


@pytest.mark.seconds(240)
def test_a_lost_disk_comes_back_whatever_was_killed_under_load(world, store, server):
    """The restore drill: the store is killed, the gateway is killed, the disk is lost."""
    pgbench = need(lambda: postgres.tool("pgbench"))
    at = world("s3://" + store.bucket("drill") + "/gw-a")
    at.front.start()
    url = at.front.url("shop", at.token)
    subprocess.run([pgbench, "--initialize", "--scale=1", "--quiet", url], check=True, capture_output=True, timeout=120)
    load = subprocess.Popen([pgbench, "--client=3", "--jobs=1", "--time=12", "--no-vacuum", "--protocol=extended", url],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    at.front.process.wait_until(lambda: at.archived() > 500, 30)
    # In the middle of a round or between two: whatever was on its way is not known to have arrived.
    store.kill()
    at.front.wait_for_log("not archived; it is tried again", 30)
    before = at.archived()
    store.start()
    at.front.process.wait_until(lambda: at.archived() > before, 60)
    said = load.communicate(timeout=60)[0]
    assert load.returncode == 0 and "number of failed transactions: 0 " in said, said
    # Killed with sessions open and entries on their way, it goes on from what the archive has.
    with at.front.connect("shop", at.token) as line:
        line.query("SELECT 1")
        at.front.kill()
    at.front.start()
    at.work(10)
    at.until_archived()
    status = json.loads(at.front.run("archive", "status", "--config", at.front.config, "--json").stdout)
    assert status["entries"] > 500 and status["skipped"] == []
    numbers = dict(line.split() for line in at.front.ask("/metrics")[1].splitlines() if not line.startswith("#"))
    assert int(numbers["chancery_archive_entries"]) >= status["entries"], numbers
    assert int(numbers["chancery_archive_age_seconds"]) < 60 and "chancery_archive_failures" in numbers
    assert at.front.stop() == 0
    # The end of the process is archived, too.
    all_entries = len(ledger.entries(at.state))
    status = json.loads(at.front.run("archive", "status", "--config", at.front.config, "--json").stdout)
    assert (status["entries"], status["behind"], status["recording_bytes_behind"]) == (all_entries, 0, 0)
    assert f"archived    {all_entries} entries" in at.front.run("ledger", "status", "--config", at.front.config).stdout
    root, recordings = at.verifiers(at.state)[0]["root"], recorded(at.state)

    shutil.rmtree(at.state)
    made, said = at.restore("--from", "s3://drill/gw-a", "--endpoint", store.endpoint)
    assert said["root"] == root == status["root"] and said["verdict"] == "PASS"
    ours, theirs = whole(at, made, said, all_entries)
    assert ours["verdict"] == theirs["verdict"] == "PASS", (ours, theirs)
    assert recorded(made) == recordings
    assert said["missing_entries"] is None and said["open_sessions"] == []
    # What is restored has no keys, and no gateway goes on with it.
    assert not (made / "keys").exists() and not (made / "chancery-state").exists()
    made.rename(at.state)
    refused = at.front.run("serve", "--config", at.front.config, check=False)
    assert refused.returncode == 1 and "is not a state directory" in refused.stderr, refused.stderr


def recorded(directory):
    return {file.name: file.read_bytes() for file in (directory / "recordings/files").glob("*.rec")}


def test_what_is_missing_is_said_exactly(world, store):
    at = world("s3://" + store.bucket("missing") + "/deep/er")
    at.front.start()
    at.work(10)
    line = at.front.connect("shop", at.token)
    line.query("INSERT INTO items VALUES (1, 'a')")
    size = at.until_archived()
    # The session that is open now is open in the archive; from here on the archive hears nothing.
    session = [entry["s"] for entry in ledger.entries(at.state) if entry["k"] == "session.open"][-1]
    store.kill()
    line.query("INSERT INTO items VALUES (2, 'b')")
    at.front.wait_for_log("not archived; it is tried again", 30)
    size = at.archived()
    written = sum(1 for _ in ledger.frames(at.state))
    at.front.process.wait_until(lambda: int((at.state / "ledger/checkpoint").read_text().splitlines()[1]) >= written, 10)
    at.front.kill()
    store.start()
    shutil.copy(at.state / "ledger/checkpoint", at.where / "later")
    later = int((at.where / "later").read_text().splitlines()[1])
    assert later > size
    original = [frame.line for frame in ledger.frames(at.state)]
    blocks = recorded(at.state)
    shutil.rmtree(at.state)

    made, said = at.restore("--witnessed", at.where / "later")
    ours, theirs = whole(at, made, said, size)
    assert said["missing_entries"] == {"from": size, "to": later - 1}
    assert said["open_sessions"] == [f"ses-{session}"]
    assert [frame.line for frame in ledger.frames(made)] == original[:size]
    # A recording that was open is there as far as it was archived: every block that an entry names.
    open_file = recorded(made)["000000000000.rec"]
    assert open_file and blocks["000000000000.rec"].startswith(open_file)
    said_by = [{one["check"]: (one["verdict"], one["what"]) for one in report}
               for report in (ours["findings"], theirs["checks"])]
    assert all(checks["sessions"][0] == "INCONCLUSIVE" for checks in said_by), said_by
    assert [checks["recordings"] for checks in said_by] == [
        ("PASS", ""), ("INCONCLUSIVE", "the ledger does not state every file")], said_by
    # The same in words; and without a later checkpoint, that nothing can be known.
    text = at.front.run("archive", "restore", at.where / "again", "--config", at.front.config, "--roots", at.roots,
                        "--checkpoint", at.where / "later").stdout
    assert f"missing     entries {size} to {later - 1}:" in text and f"open        session ses-{session}" in text
    text = at.front.run("archive", "restore", at.where / "blind", "--config", at.front.config, "--roots", at.roots).stdout
    assert f"unknown     what was written from entry {size} on" in text and "missing" not in text
    # Nothing is restored over what is there.
    _, refused = at.restore(to="again", check=False)
    assert refused["code"] == 1 and "exists" in refused["error"]


def test_a_recording_that_is_gone_from_the_archive_is_named(world, store):
    """Pieces and entries that somebody took away or changed are found, and the sessions concerned are named."""
    at = world("s3://" + store.bucket("gone") + "/a")
    at.front.start()
    at.work(10)
    at.until_archived()
    assert at.front.stop() == 0
    sessions = {f"ses-{entry['s']}" for entry in ledger.entries(at.state) if entry["k"] == "session.open"}
    stated = next(n for n, entry in enumerate(ledger.entries(at.state)) if entry["k"] == "rec.segment")
    pieces = store.keys("gone", "a/recordings/")
    kept = {key: store.get("gone", key) for key in pieces}
    for key in pieces:
        store.done("DELETE", f"/gone/{key}")
    _, said = at.restore(check=False)
    assert said["code"] == 1 and {one["session"] for one in said["missing_recordings"]} == sessions, said
    assert said["missing_files"] == [{"file": 0, "entry": stated, "what": "it is not in the archive"}]
    # One bit of the last piece: the file is whole only up to the block that has it.
    for key, body in kept.items():
        store.put("gone", key, body if key != pieces[-1] else body[:-1] + bytes([body[-1] ^ 1]))
    _, said = at.restore(to="flipped", check=False)
    assert said["code"] == 1 and "bytes are whole" in said["missing_files"][0]["what"], said
    # An entry: the tile knows which.
    key = next(key for key in store.keys("gone", "a/ledger/tile/entries/") if key.endswith(f".p/{len_of(at)}"))
    body = store.get("gone", key)
    store.put("gone", key, body.replace(b'"k":"boot"', b'"k":"root"', 1))
    _, said = at.restore(to="changed", check=False)
    place = next(n for n, entry in enumerate(ledger.entries(at.state)) if entry["k"] == "boot")
    assert said["code"] == 1 and f"entry {place} of the archive is not the one" in said["error"], said
    assert not (at.where / "changed/ledger/checkpoint").exists()
    # A checkpoint that the log did not sign is passed over, and named.
    store.put("gone", key, body)
    for name, piece in kept.items():
        store.put("gone", name, piece)
    store.put("gone", f"a/checkpoints/{10**9:020}", b"rig\n1000000000\nAAAA\n\n\xe2\x80\x94 rig AAAA\n")
    made, said = at.restore(to="foreign")
    assert said["skipped"] == [10**9]
    whole(at, made, said, len(ledger.entries(at.state)))


def len_of(at):
    return sum(1 for _ in ledger.frames(at.state)) % 256


def test_a_locked_bucket_keeps_what_it_was_given(world, store, authority):
    """Object Lock with a default retention, over TLS that a private authority certified."""
    bucket = store.bucket("locked", locked=True)
    at = world(f"s3://{bucket}/a", {"endpoint": store.tls, "ca": str(authority.certificate), **EVERY})
    at.front.start()
    at.work(10)
    at.until_archived()
    at.front.kill()
    # What the killed process wrote is written again, and found to be there.
    at.front.start()
    at.work(20)
    at.until_archived()
    assert at.front.stop() == 0
    assert at.alerts() == []
    versions = store.versions(bucket)
    keys = [key for key, _, _ in versions]
    assert len(keys) == len(set(keys)) > 10, "every object was written once"
    assert not any(deleted for _, _, deleted in versions)
    key, version, _ = next(one for one in versions if one[0].startswith("a/checkpoints/"))
    assert store.request("DELETE", f"/{bucket}/{key}", [("versionId", version)]).status == 403
    made, said = at.restore("--from", f"s3://{bucket}/a", "--endpoint", store.tls, "--ca", authority.certificate)
    whole(at, made, said, len(ledger.entries(at.state)))
    # Another authority's server is not spoken to.
    refused = at.front.run("archive", "restore", at.where / "no", "--from", f"s3://{bucket}/a", "--endpoint", store.tls,
                           "--ca", at.other_authority(), check=False)
    assert refused.returncode == 2 and "the store: " in refused.stderr, refused.stderr


def test_what_witnesses_saw_comes_back_with_it(world, store):
    at = world("s3://" + store.bucket("seen") + "/a")
    witness = OwnWitness(at.where / "own", "witness.example/own", at.roots.read_text().split()[0])
    try:
        policy = at.front.directory / "witnesses.policy"
        policy.write_text(f"witness own {witness.key} {witness.url}\nquorum own\n")
        at.front.ledger = {"witnesses": "witnesses.policy"}
        at.front.prepare_rest()
        at.front.start()
        at.work(10)
        size = at.until_archived()
        at.front.process.wait_until(lambda: witness.size() >= size, 30)
        assert at.front.stop() == 0
        # The last head was witnessed before it was archived for the last time.
        size = len(ledger.entries(at.state))
        assert witness.size() == size
        (at.where / "seen").write_text(witness.head())
        shutil.rmtree(at.state)
        made, said = at.restore("--checkpoint", at.where / "seen")
        assert said["entries"] == size and said["verdict"] == "PASS"
        done = at.front.run("ledger", "verify", made, "--roots", at.roots, "--policy", policy, check=False)
        assert done.returncode == 0 and "PASS         witnesses" in done.stdout, done.stdout
    finally:
        witness.stop()


def test_other_content_is_not_overwritten_and_is_told(world, store):
    bucket = store.bucket("taken")
    at = world(f"s3://{bucket}/a")
    foreign = b"somebody else was here"
    store.put(bucket, "a/ledger/tile/0/000", foreign)
    at.front.start()
    for first in range(0, 400, 50):
        at.work(first, 50)
    at.front.wait_for_log("nothing more is archived", 30)
    assert "ledger/tile/0/000 is in the archive with other content" in at.front.process.tail(20000)
    status, said = at.front.ready()
    assert status == 200 and "nothing more is archived" in said
    # Sessions go on: the record is on this disk.
    at.work(1000)
    assert at.front.stop() == 0
    assert store.get(bucket, "a/ledger/tile/0/000") == foreign
    assert at.alerts() == ["archive-conflict"]
    last = max(int(key.rsplit("/", 1)[1]) for key in store.keys(bucket, "a/checkpoints/") or ["/0"])
    assert last < 256, "no checkpoint says that what is not there is archived"


def test_an_archive_is_of_one_log(world, store):
    bucket = store.bucket("shared")
    one, other = world(f"s3://{bucket}/a"), world(f"s3://{bucket}/a")
    one.front.start()
    one.work(10)
    one.until_archived()
    other.front.start()
    other.front.wait_for_log("ledger.vkey is in the archive with other content", 30)
    before = store.keys(bucket)
    other.work(10)
    assert other.front.stop() == 0 and other.alerts() == ["archive-conflict"]
    assert [key for key in store.keys(bucket) if key not in before and "recordings" in key] == []
    assert one.front.stop() == 0
    # Asked with its own roots, the archive has nothing of the second.
    _, said = other.restore(check=False)
    assert said["code"] == 1 and "no checkpoint that this log signed" in said["error"], said


def test_a_ledger_that_was_put_back_is_not_archived_over_its_former_self(world, store):
    bucket = store.bucket("back")
    at = world(f"s3://{bucket}/a")
    at.front.start()
    at.work(10)
    at.until_archived()
    assert at.front.stop() == 0
    shutil.copytree(at.state, at.where / "snapshot")
    at.front.start()
    at.work(20)
    at.until_archived()
    assert at.front.stop() == 0
    before = store.keys(bucket)
    shutil.rmtree(at.state)
    shutil.copytree(at.where / "snapshot", at.state)
    at.front.start()
    at.front.wait_for_log("it was put back to an earlier state", 30)
    assert at.front.stop() == 0
    assert store.keys(bucket) == before and at.alerts() == ["archive-conflict"]


class Careless(http.server.BaseHTTPRequestHandler):
    """A store that takes everything, whatever the conditions."""

    kept = {}

    def do_PUT(self):
        self.kept.setdefault(self.path, []).append(self.rfile.read(int(self.headers["content-length"])))
        self.answer(200, b"", etag='"e"')

    def do_GET(self):
        found = self.kept.get(self.path)
        self.answer(200 if found else 404, found[-1] if found else b"")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_store_that_ignores_conditions_is_refused(world):
    port = free_port()
    careless = http.server.ThreadingHTTPServer(("127.0.0.1", port), Careless)
    threading.Thread(target=careless.serve_forever, daemon=True).start()
    try:
        at = world("s3://careless/a", {"endpoint": f"http://127.0.0.1:{port}", **EVERY})
        at.front.start()
        at.front.wait_for_log("the store ignores conditions (If-None-Match)", 30)
        at.work(10)
        time.sleep(2)
        assert at.front.stop() == 0
        assert list(Careless.kept) == ["/careless/a/ledger.vkey"], "nothing else was entrusted to it"
    finally:
        careless.shutdown()


def test_a_mounted_volume_is_an_archive(world, directory):
    volume = pathlib.Path(tempfile.mkdtemp(prefix="volume-", dir=directory))
    at = world(f"file://{volume}", dict(EVERY), {})
    at.front.start()
    at.work(10)
    at.until_archived()
    at.front.kill()
    at.front.start()
    at.work(20)
    at.until_archived()
    assert at.front.stop() == 0
    root = at.verifiers(at.state)[0]["root"]
    shutil.rmtree(at.state)
    made, said = at.restore("--from", f"file://{volume}")
    ours, _ = whole(at, made, said, said["entries"])
    assert ours["verdict"] == "PASS" and said["root"] == root


def test_without_credentials_it_says_so(world, store):
    at = world("s3://nobody/a", {"endpoint": store.endpoint, **EVERY}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    done = at.front.run("serve", "--config", at.front.config, check=False)
    assert done.returncode == 1 and "AWS_ACCESS_KEY_ID" in done.stderr, done.stderr
    assert objects.SECRET not in at.front.config.read_text()
