"""Gateways that witness each other, over TLS with a private authority: each cosigns the other's heads, one that was put back to
an earlier state is told so by its peer, and what an auditor holds from outside shows it."""

import http.client
import json
import pathlib
import shutil
import ssl
import tempfile

import pytest

from rig import Broken, ledger
from rig import gateway as gateways
from rig.need import need


@pytest.fixture(scope="module")
def server(servers):
    """One major is enough: nothing here depends on it."""
    return servers("distribution")


class Pair:
    """Two gateways, each the other's witness."""

    def __init__(self, directory, provider, server, databases, authority):
        self.where = pathlib.Path(tempfile.mkdtemp(prefix="peers-", dir=directory))
        self.fronts = []
        for name, database in zip(("gw-a", "gw-b"), databases):
            certificate, key = authority.issue(f"{self.where.name}-{name}")
            front = gateways.Gateway(self.where / name, provider, {"shop": (server, database)}, ca=authority.certificate,
                                     certificate=certificate, key=key, name=name, ledger={
                                         "witnesses": "witnesses.policy", "witness_for": "peers",
                                         "witness_ca": str(authority.certificate)})
            front.prepare_state()
            front.roots = self.where / f"{name}.roots"
            shutil.copy(front.directory / "state/ledger.vkey", front.roots)
            self.fronts.append(front)
        for front, peer in zip(self.fronts, reversed(self.fronts)):
            front.peer = peer
            (front.directory / "peers").mkdir()
            shutil.copy(peer.roots, front.directory / "peers/peer.vkey")
            front.policy = front.directory / "witnesses.policy"
            url = f"https://localhost:{peer.https}/witness"
            front.policy.write_text(f"witness peer {witness_key(peer)} {url}\nquorum peer\n")
            front.prepare_rest()

    def stop(self):
        for front in self.fronts:
            front.stop()


def witness_key(front):
    """As the files say it; `ledger status` must say the same."""
    shown = json.loads(front.run("witness", "show", front.directory / "state/witness", "--json").stdout)
    return shown["key"]


def seen(front):
    """How many entries of the peer's log this gateway cosigned."""
    shown = json.loads(front.run("witness", "show", front.directory / "state/witness", "--json").stdout)
    return {one["origin"]: one["size"] for one in shown["logs"]}.get(f"chancery.local/{front.peer.name}", 0)


def entries(front):
    return sum(1 for _ in ledger.frames(front.directory / "state"))


def witnessed(front):
    """Waits until the peer has seen all that stands in the ledger."""
    front.process.wait_until(lambda: seen(front.peer) >= entries(front), 40)


def verify(front, *extra):
    done = front.run("ledger", "verify", front.directory / "state", "--roots", front.roots, "--policy", front.policy, *extra,
                     "--json", check=False)
    said = json.loads(done.stdout)
    return done.returncode, {one["check"]: one for one in said["findings"]}


def work(front, token, first, count=3):
    with front.connect("shop", token) as line:
        for number in range(first, first + count):
            line.query(f"INSERT INTO items VALUES ({number}, 'n')")


@pytest.fixture
def pair(directory, authority, provider, server, fresh_database):
    sql = "CREATE TABLE items (id integer PRIMARY KEY, name text)"
    made = need(lambda: Pair(directory, provider, server, [fresh_database(sql), fresh_database(sql)], authority))
    yield made
    made.stop()


def test_each_cosigns_the_other(pair, provider):
    one, other = pair.fronts
    token = provider.person("ada")
    for front in pair.fronts:
        assert front.run("check", "--config", front.config).returncode == 0
        front.start()
    work(one, token, 10)
    work(other, token, 10)
    witnessed(one)
    witnessed(other)
    status = json.loads(one.run("ledger", "status", "--config", one.config, "--json").stdout)
    assert status["witness_key"] == witness_key(one)
    # The first ends while its witness is there, and all of it is cosigned; the second's last entries nobody sees any more.
    assert one.stop() == 0
    code, checks = verify(one)
    assert code == 0 and checks["witnesses"]["verdict"] == "PASS", checks
    assert other.stop() == 0
    code, checks = verify(other)
    assert code == 2 and "after the last head" in checks["witnesses"]["what"], checks
    # They find each other again.
    for front in pair.fronts:
        front.start()
    witnessed(one)
    witnessed(other)


def test_8_a_restored_snapshot_is_frozen_by_the_peer(pair, provider):
    one, other = pair.fronts
    token = provider.person("ada")
    for front in pair.fronts:
        front.start()
    work(one, token, 10)
    witnessed(one)
    assert one.stop() == 0
    state, snapshot = one.directory / "state", pair.where / "snapshot"
    shutil.copytree(state, snapshot)
    one.start()
    work(one, token, 20)
    witnessed(one)
    assert one.stop() == 0
    known = seen(other)
    shutil.rmtree(state)
    shutil.copytree(snapshot, state)
    with pytest.raises(Broken):
        one.start()
    assert "frozen" in one.process.tail(5000)
    assert (state / "ledger/frozen").read_text().startswith("witness peer: it cosigned")
    assert seen(other) == known, "nothing of the old state was cosigned"
    # The other goes on, and misses its witness.
    work(other, token, 20)


def ask(front, body, authority):
    context = ssl.create_default_context(cafile=authority.certificate)
    connection = http.client.HTTPSConnection("localhost", front.https, timeout=30, context=context)
    try:
        connection.request("POST", "/witness/add-checkpoint", body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_door_is_narrow(pair, authority):
    one, other = pair.fronts
    one.start()
    note = (other.directory / "state/ledger/checkpoint").read_text()
    assert ask(one, b"x" * 200_000, authority)[0] == 413
    assert ask(one, b"nonsense", authority)[0] == 400
    assert ask(one, f"old 0\n\n{note}".encode(), authority)[0] == 200
    assert ask(one, f"old 0\n\n{note}".encode(), authority)[0] == 409, "its size is known now"
    # Its own log, and one that is taken from the peers, are not known here.
    mine = (one.directory / "state/ledger/checkpoint").read_text()
    assert ask(one, f"old 0\n\n{mine}".encode(), authority)[0] == 404
    answers = [ask(one, b"nonsense", authority)[0] for _ in range(150)]
    assert answers[0] == 400 and 429 in answers
    assert one.stop() == 0
    (one.directory / "peers/peer.vkey").unlink()
    (one.directory / "peers/peer.vkey").write_text("# nobody\n")
    one.start()
    assert ask(one, f"old 0\n\n{note}".encode(), authority)[0] != 200
    one.stop()


def test_no_gateway_witnesses_itself(pair):
    one, _ = pair.fronts
    peers = one.directory / "peers/peer.vkey"
    before = peers.read_text()
    peers.write_text(before + one.roots.read_text())
    done = one.run("check", "--config", one.config, check=False)
    assert done.returncode == 1 and "this gateway's own log" in done.stdout, done.stdout
    with pytest.raises(Broken):
        one.start()
    # A second key for a log that is known is another history.
    peers.write_text(before)
    one.start()
    assert one.stop() == 0
    forged = one.directory.parent / "forged"
    one.run("init", forged, "--name", "gw-b")
    peers.write_text((forged / "state/ledger.vkey").read_text())
    done = one.run("check", "--config", one.config, check=False)
    assert done.returncode == 1 and "by another key" in done.stdout, done.stdout


def test_a_state_directory_without_a_witnesss_key_is_told_how_to_make_one(pair):
    one, _ = pair.fronts
    key = one.directory / "state/witness"
    key.unlink()
    done = one.run("check", "--config", one.config, check=False)
    assert done.returncode == 1 and f"chancery witness init {key}" in done.stdout, done.stdout
    one.run("witness", "init", key, "--name", "chancery.local/gw-a/witness")
    assert one.run("check", "--config", one.config, check=False).returncode == 0
