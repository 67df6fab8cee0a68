"""The stand-alone witness, spoken to over HTTP by a log that is made here, and by another house's programs.

The oracle is this file and `rig/tlog.py`: RFC 8032, RFC 6962 and C2SP signed-note, tlog-checkpoint and tlog-cosignature, from
their texts and with the standard library. Nothing of it is shared with the program.

With `aics-witness`, another house's implementation of C2SP tlog-witness, its client asks our witness, and its server and
ours get the same requests.
"""

import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from rig.gateway import binary
from rig.aics import aics
from rig.need import need
from rig.process import Process, accepts, free_port
from rig.tlog import b64, expand, key_id, proof, root, sign, verify

ORIGIN = "gw.example/a"
NAME = "witness.example/w1"
DASH = "\u2014"

def test_the_oracle_signs_as_rfc_8032_does():
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    made = bytes.fromhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                         "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
    assert expand(seed)[2] == public and sign(seed, b"\x72") == made
    assert verify(public, b"\x72", made) and not verify(public, b"\x73", made)


class Log:
    """A log that can be made to tell two stories. A leaf is its number, and its story from `fork` on."""

    def __init__(self, origin=ORIGIN, seed=b"\1" * 32):
        self.origin, self.seed, self.public = origin, seed, expand(seed)[2]
        self.key = f"{origin}+{key_id(origin, 1, self.public).hex()}+{b64(bytes([1]) + self.public)}"

    @staticmethod
    def leaves(size, fork=None):
        return [b"%d %d" % (leaf, fork is not None and leaf >= fork) for leaf in range(size)]

    def body(self, leaves):
        return f"{self.origin}\n{len(leaves)}\n{b64(root(leaves))}\n"

    def note(self, body, name=None):
        signature = key_id(self.origin, 1, self.public) + sign(self.seed, body.encode())
        return f"{body}\n{DASH} {name or self.origin} {b64(signature)}\n"

    def request(self, old, size, fork=None):
        leaves = self.leaves(size, fork)
        lines = "".join(b64(one) + "\n" for one in (proof(old, leaves) if 0 < old <= size else []))
        return f"old {old}\n{lines}\n{self.note(self.body(leaves))}"


def cosigned_at(line, key, body):
    """When the holder of the key cosigned the body; fails if the line does not say so."""
    name, told, material = key.split("+", 2)
    kind, public = base64.b64decode(material)[0], base64.b64decode(material)[1:]
    assert kind == 4 and bytes.fromhex(told) == key_id(name, 4, public)
    assert line.startswith(f"{DASH} {name} ") and line.endswith("\n") and line.count("\n") == 1
    blob = base64.b64decode(line.split()[2], validate=True)
    assert blob[:4] == key_id(name, 4, public) and len(blob) == 4 + 8 + 64
    when = int.from_bytes(blob[4:12], "big")
    assert verify(public, f"cosignature/v1\ntime {when}\n{body}".encode(), blob[12:])
    return when


# --- the witness under test ------------------------------------------------------------------------------------------

class Witness:
    """`chancery witness` with a file of its own, on loopback."""

    def __init__(self, directory, *keys):
        self.program, self.file, self.log = binary(), pathlib.Path(directory) / "w1", pathlib.Path(directory) / "serve.log"
        self.key = json.loads(self.run("init", self.file, "--name", NAME, "--json").stdout)["key"]
        for key in keys:
            self.run("add", self.file, key)
        self.port, self.process = free_port(), None

    def run(self, *arguments, exit_code=0):
        done = subprocess.run([self.program, "witness", *map(str, arguments)], capture_output=True, text=True, timeout=30)
        assert done.returncode == exit_code, done
        assert exit_code == 0 or "--json" in arguments or "hint: " in done.stderr, done
        return done

    def start(self, *options):
        arguments = [self.program, "witness", "serve", self.file, "--listen", f"127.0.0.1:{self.port}", *options]
        environment = os.environ | {"CHANCERY_LOG": "debug"}
        self.process = Process("witness", arguments, self.log, env=environment).wait_until(lambda: accepts(self.port))
        return self

    def stop(self):
        return self.process.stop() if self.process else 0

    def known(self):
        """Size, root and time of the first log's last head."""
        first = json.loads(self.run("show", self.file, "--json").stdout)["logs"][0]
        return first["size"], first["root"], first["time"]

    def evidence(self):
        return sorted(one.name for one in pathlib.Path(f"{self.file}.evidence").glob("*"))

    def ask(self, body, path="/add-checkpoint", method="POST"):
        """Status, type of content, text."""
        return ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30), body, path, method)


def ask(connection, body, path="/add-checkpoint", method="POST"):
    try:
        connection.request(method, path, body if isinstance(body, bytes) else body.encode())
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def witness(tmp_path, log):
    made = need(lambda: Witness(tmp_path, log.key))
    yield made.start()
    made.stop()


def test_a_log_that_grows_is_cosigned(witness, log):
    last = int(time.time())
    for old, size in [(0, 1), (1, 2), (2, 7), (7, 8), (8, 8), (8, 33), (33, 64), (64, 200)]:
        status, kind, line = witness.ask(log.request(old, size))
        assert (status, kind.split(";")[0]) == (200, "text/plain"), line
        when = cosigned_at(line, witness.key, log.body(log.leaves(size)))
        assert last <= when <= time.time()
        last = when
        assert witness.known()[:2] == (size, root(log.leaves(size)).hex())
    assert witness.stop() == 0
    assert "witness ended" in witness.log.read_text()


def test_each_refusal_has_its_status(witness, log):
    assert witness.ask(log.request(0, 33))[0] == 200
    good, size = log.request(33, 40), "text/x.tlog.size"
    assert witness.ask(log.request(0, 40)) == (409, size, "33\n")
    assert witness.ask(log.request(7, 40)) == (409, size, "33\n")
    assert witness.ask(log.request(33, 33, fork=3)) == (409, size, "33\n")
    head, note = good.split("\n\n", 1)
    for status, body in [
        (400, ""),
        (400, "garbage"),
        (400, b"\xff" * 20),
        (400, good.replace("old 33", "old 033")),
        (400, good.replace("old 33", "old 41")),
        (400, good.replace("old 33\n", "old 33\n" + (b64(bytes(32)) + "\n") * 64)),
        (400, good.replace("\n40\n", "\n040\n")),
        (400, good[:-1]),
        (404, Log("gw.example/b").request(0, 40)),
        (403, Log(seed=b"\2" * 32).request(33, 40)),
        (403, good.replace(f"{DASH} {ORIGIN} ", f"{DASH} somebody.else ")),
        (403, f"{head}\n\n" + note.replace("\n40\n", "\n41\n")),
        (422, log.request(33, 40, fork=3)),
        (422, good.replace("old 33\n", f"old 33\n{b64(bytes(32))}\n")),
    ]:
        assert (witness.ask(body)[0], body) == (status, body)
    assert witness.ask("x" * (96 * 1024 + 1))[0] == 413
    assert witness.ask("", method="GET")[0] == 405 and witness.ask(good, path="/")[0] == 404
    # None of it changed anything, and what nobody refused still works.
    assert witness.known()[0] == 33 and witness.ask(good)[0] == 200


def test_a_checkpoint_of_a_gateway_is_witnessed(tmp_path):
    program = need(binary)
    subprocess.run([program, "init", tmp_path / "gw"], check=True, capture_output=True, timeout=60)
    # The roots of both: the log's key, and its first epoch's.
    made = Witness(tmp_path, tmp_path / "gw/state/ledger.vkey").start()
    try:
        note = (tmp_path / "gw/state/ledger/checkpoint").read_text()
        body, signatures = note.split("\n\n")
        assert signatures.count(DASH) == 2
        status, _, line = made.ask(f"old 0\n\n{note}")
        assert status == 200 and cosigned_at(line, made.key, body + "\n")
    finally:
        assert made.stop() == 0


def test_a_head_outlives_a_kill(witness, log):
    for old, size in [(0, 7), (7, 20)]:
        assert witness.ask(log.request(old, size))[0] == 200
        witness.process.kill()
        witness.start()
        assert witness.known()[0] == size
    assert witness.ask(log.request(7, 21, fork=9)) == (409, "text/x.tlog.size", "20\n")
    assert witness.ask(log.request(20, 21, fork=9))[0] == 422
    assert witness.ask(log.request(20, 21))[0] == 200


def test_of_many_at_once_one_history_is_cosigned(witness, log):
    size = 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            start = threading.Barrier(8)
            bodies = [log.request(size, size + more) for more in range(1, 9)]

            def one(body):
                start.wait(20)
                return witness.ask(body)

            answers = list(pool.map(one, bodies))
            won = [size + 1 + at for at, answer in enumerate(answers) if answer[0] == 200]
            assert len(won) == 1, answers
            assert all(answer[0] == 200 or answer == (409, "text/x.tlog.size", f"{won[0]}\n") for answer in answers)
            size = won[0]
            assert witness.known()[0] == size


def test_nothing_is_signed_that_cannot_be_written(witness, log):
    assert witness.ask(log.request(0, 7))[0] == 200
    # No file can be made where the temporary one belongs: this holds for root, too.
    stone = pathlib.Path(f"{witness.file}.new")
    stone.mkdir()
    for _ in range(2):
        status, _, text = witness.ask(log.request(7, 9))
        assert status == 500 and DASH not in text
    assert witness.known()[0] == 7
    stone.rmdir()
    assert witness.ask(log.request(7, 9))[0] == 200


def test_a_fork_leaves_evidence(witness, log):
    assert witness.ask(log.request(0, 33))[0] == 200
    fork, unproven = log.request(33, 33, fork=3), log.request(33, 40, fork=3)
    for _ in range(2):
        assert witness.ask(fork)[0] == 409 and witness.ask(unproven)[0] == 422
    # Of a stranger, an old head, a wrong size: no evidence.
    for body in [Log(seed=b"\2" * 32).request(33, 33, fork=3), log.request(0, 20), log.request(0, 40)]:
        assert witness.ask(body)[0] in (403, 409)
    names = witness.evidence()
    assert len(names) == 2 and all(name.startswith("gw.example_a-") for name in names)
    folder = pathlib.Path(f"{witness.file}.evidence")
    texts = [(folder / name).read_text() for name in names]
    # Each has both sides, as the log signed them.
    assert all(log.note(log.body(log.leaves(33))) in text for text in texts)
    assert any(text.endswith(fork) for text in texts) and any(text.endswith(unproven) for text in texts)
    assert folder.stat().st_mode & 0o777 == 0o700 and witness.log.read_text().count("two histories") == 2
    seed = next(line.split()[1] for line in witness.file.read_text().splitlines() if line.startswith("seed "))
    assert all(seed not in text for text in [*texts, witness.log.read_text()])


def test_one_process_has_the_file(witness, log):
    other = Log("gw.example/b")
    again = witness.run("serve", witness.file, "--listen", f"127.0.0.1:{free_port()}", exit_code=1)
    assert "in use" in again.stderr
    witness.run("add", witness.file, other.key, exit_code=1)
    assert witness.run("show", witness.file).stdout.count(ORIGIN) == 1
    assert witness.stop() == 0
    witness.run("add", witness.file, other.key)
    witness.run("add", witness.file, log.key, exit_code=1)
    witness.run("add", witness.file, Log(seed=b"\2" * 32).key, exit_code=1)
    witness.run("add", witness.file, "nonsense", exit_code=64)
    witness.run("init", witness.file, "--name", NAME, exit_code=1)
    witness.run("init", f"{witness.file}-2", "--name", "two words", exit_code=64)
    witness.run("show", f"{witness.file}-2", exit_code=2)
    witness.start()
    assert witness.ask(other.request(0, 3))[0] == 200


def test_a_file_that_was_edited_is_not_served_from(witness, log):
    assert witness.ask(log.request(0, 33))[0] == 200
    assert witness.stop() == 0
    whole = witness.file.read_text()
    for text in [whole.replace(" 33 ", " 32 "), whole[:-1], whole[: whole.index("log ")], whole + "more\n", ""]:
        witness.file.write_text(text)
        for command in (["serve", witness.file, "--listen", f"127.0.0.1:{witness.port}"], ["add", witness.file, log.key]):
            assert "cut or edited" in witness.run(*command, exit_code=1).stderr
        assert witness.file.read_text() == text
    witness.file.write_text(whole)
    witness.start()
    assert witness.known()[0] == 33


def test_clear_text_stays_on_loopback(witness, authority, log):
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:443"):
        told = witness.run("serve", witness.file, "--listen", address, exit_code=64)
        assert "--certificate" in told.stderr
    assert witness.stop() == 0
    certificate, key = authority.issue("witness")
    witness.start("--certificate", certificate, "--key", key)
    trust = ssl.create_default_context(cafile=authority.certificate)
    secure = http.client.HTTPSConnection("localhost", witness.port, context=trust, timeout=30)
    status, _, line = ask(secure, log.request(0, 7))
    assert status == 200 and cosigned_at(line, witness.key, log.body(log.leaves(7)))
    with pytest.raises((OSError, http.client.HTTPException)):
        witness.ask(log.request(7, 7))


def test_who_is_slow_or_idle_is_let_go(witness, log):
    def connect():
        made = socket.create_connection(("127.0.0.1", witness.port), timeout=60)
        return made, made.makefile("rb")

    head = "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n"
    body = log.request(0, 7).encode()
    idle, idle_answer = connect()
    idle.sendall((head % len(body)).encode() + body)
    slow, slow_answer = connect()
    slow.sendall((head % len(body)).encode() + body[:9])
    silent, silent_answer = connect()
    # A connection may be used again, and is closed when nothing comes for a while; all of them within a minute.
    begun = time.monotonic()
    assert b" 200 " in idle_answer.readline()
    assert idle_answer.read().endswith(b"\n") and slow_answer.read().startswith(b"HTTP/1.1 408 ")
    silent_answer.read()
    assert time.monotonic() - begun < 60
    for one in (idle, slow, silent):
        one.close()


def test_so_many_connections_and_no_more(witness, log):
    held = []
    for _ in range(64):
        held.append(http.client.HTTPConnection("127.0.0.1", witness.port, timeout=30))
        held[-1].request("POST", "/add-checkpoint", b"")
        answer = held[-1].getresponse()
        assert (answer.status, bool(answer.read())) == (400, True)
    late = http.client.HTTPConnection("127.0.0.1", witness.port, timeout=1)
    late.request("POST", "/add-checkpoint", log.request(0, 7).encode())
    late.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.sock.recv(1)
    held.pop().close()
    late.sock.settimeout(20)
    assert late.sock.recv(12) == b"HTTP/1.1 200"
    for one in [*held, late]:
        one.close()


def test_who_was_heard_before_the_end_gets_an_answer(witness, log):
    connection = socket.create_connection(("127.0.0.1", witness.port), timeout=30)
    body = log.request(0, 7).encode()
    connection.sendall(f"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {len(body)}\r\n"
                       "Expect: 100-continue\r\n\r\n".encode())
    # The request is being read: it is in.
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    witness.process.child.send_signal(signal.SIGINT)
    witness.process.wait_until(lambda: not accepts(witness.port))
    connection.sendall(body)
    assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert witness.process.child.wait(20) == 0
    connection.close()


# --- another house's programs ----------------------------------------------------------------------------------------

# What its client and its verifier say of our witness. The tree, the proofs and the checks are theirs.
THEIR_CLIENT = """
import json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from aics_tlog import Checkpoint, MerkleTree, parse_note, parse_vkey, sign_checkpoint, verify_checkpoint, vkey_from_ed25519
from aics_witness.feeder import WitnessClient, WitnessRejected, merge_cosignatures
url, witness, origin, seed = sys.argv[1:]
key, witness = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)), parse_vkey(witness)
log = vkey_from_ed25519(origin, key.public_key())
tree, said = MerkleTree([]), []
def note(tree):
    return sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), key, origin).to_bytes()
for size in [1, 2, 3, 7, 8, 8, 33, 64, 65, 500]:
    tree.extend(b"leaf %d" % leaf for leaf in range(tree.size, size))
    # Each other time a client that knows nothing yet: it learns the size from a conflict.
    client = WitnessClient(url, witness) if size % 2 else client
    both = merge_cosignatures(note(tree), client.submit(note(tree), tree.consistency_proof))
    done = verify_checkpoint(parse_note(both), log, [witness], quorum=1, max_age_seconds=60)
    said.append(["cosigned", size, done.ok])
for size in [500, 600]:
    other = MerkleTree([b"other %d" % leaf for leaf in range(size)])
    try:
        client.submit(note(other), other.consistency_proof)
        said.append(["cosigned", size, None])
    except WitnessRejected as refused:
        said.append(["rejected", size, refused.status])
print(json.dumps(said))
"""


def test_their_client_is_served(witness):
    python = need(aics)
    other = Log("gw.example/theirs", seed=b"\7" * 32)
    assert witness.stop() == 0
    witness.run("add", witness.file, other.key)
    witness.start()
    arguments = [python, "-c", THEIR_CLIENT, f"http://127.0.0.1:{witness.port}", witness.key, other.origin, other.seed.hex()]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    cosigned = [["cosigned", size, True] for size in [1, 2, 3, 7, 8, 8, 33, 64, 65, 500]]
    # The second root for a size is a conflict to tlog-witness 1.0; their client knows that answer, too.
    assert json.loads(done.stdout) == [*cosigned, ["rejected", 500, 409], ["rejected", 600, 422]]
    assert len(witness.evidence()) == 2


def test_their_server_says_what_ours_says(witness, log, tmp_path):
    python, port = need(aics), free_port()
    config = ["--config", str(tmp_path / "witness.json")]

    def theirs(*arguments):
        subprocess.run([python, "-m", "aics_witness", *arguments], check=True, capture_output=True, timeout=30)

    theirs("init", *config, "--name", "witness.example/theirs", "--listen", f"127.0.0.1:{port}")
    theirs("add-log", *config, "--origin", ORIGIN, "--vkey", log.key)
    server = Process("aics-witness", [python, "-m", "aics_witness", "serve", *config], tmp_path / "theirs.log")
    server.wait_until(lambda: accepts(port))
    try:
        good = log.request(33, 40)
        sizes = (0, 3, 7, 8, 33, 40)
        requests = [log.request(0, 3)]
        requests += [log.request(old, size, fork) for old in sizes for size in sizes for fork in (2, None)]
        requests += [good[:cut] for cut in range(0, len(good), 7)]
        requests += [good.replace("\n", "\r\n"), good.replace("=", "", 1), good.replace("\n40\n", "\n40\nmore\n"),
                     good.replace(f"{DASH} ", "- "), good + good, good + "\n", "\n" + good, good.replace("old ", "old  "),
                     Log("gw.example/b").request(0, 3), Log(seed=b"\2" * 32).request(0, 3)]
        seen = set()
        for round_ in range(3):
            for request in requests:
                ours = witness.ask(request)
                others = ask(http.client.HTTPConnection("127.0.0.1", port, timeout=30), request)
                told = ours[0], ours[2] if ours[0] == 409 else ""
                # Version 1.1 of the protocol, which is theirs, calls a second root for a size inconsistent.
                if told != (others[0], others[2] if others[0] == 409 else ""):
                    old, size = int(request.split()[1]), int(request.split("\n\n")[1].split("\n")[1])
                    assert old == size and (ours[0], others[0]) == (409, 422), (round_, request, ours, others)
                seen.add(told[0])
        assert seen == {200, 400, 403, 404, 409, 422}
    finally:
        server.stop()
