"""Timestamps by RFC 3161 over the head of a registry: asked of `openssl ts` over HTTP, kept, and verified by the program and by
`openssl ts -verify`, which must agree."""

import json
import shutil

import pytest

from rig import tsa
from rig.gateway import binary
from rig.need import need
from rig.pack import Auditor, Pack
from test_registry import Done, Home, run

NAME = "registry.example/prod"


class World:
    """A registry with one log."""

    def __init__(self, where):
        self.where, self.dir = where, where / "registry"
        self.key = run("registry", "init", self.dir, "--name", NAME, "--json").json["key"]
        self.home = Home(where, "gw-a")
        run("registry", "join", self.dir, self.home.roots)

    def stamp(self, authority, code=0, ca=None):
        return run("registry", "stamp", self.dir, "--tsa", authority.url, "--tsa-ca", ca or authority.ca, "--json", code=code)

    def verify(self, ca, registry=None):
        """The exit code, the verdict and the reason of the check, and the times."""
        done = Done("registry", "verify", registry or self.dir, "--registry", self.key, "--tsa-ca", ca, "--json")
        said = json.loads(done.out)
        one = {one["check"]: one for one in said["findings"]}["stamp"]
        return done.code, one["verdict"], one["what"], said["stamps"]

    def files(self, size=1):
        """The note, the request and the answer."""
        return [self.dir / f"stamps/{size:020}.{end}" for end in ("note", "tsq", "tsr")]


@pytest.fixture
def world(tmp_path):
    return need(lambda: World(tmp_path))


@pytest.fixture
def authority(tmp_path):
    """A function that makes authorities."""
    made = []

    def make(**options):
        made.append(need(lambda: tsa.Authority(tmp_path / f"tsa-{len(made)}", **options)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


KINDS = {
    "rsa": {},
    "rsa sha512": {"digest": "sha512", "ess": "sha512"},
    "p256": {"key": tsa.EC},
    "p384 sha384": {"key": tsa.EC384, "digest": "sha384", "ess": "sha384"},
    "sha1 for the certificate": {"ess": "sha1"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stamp_is_kept_and_both_verifiers_take_it(world, authority, kind):
    made = authority(**KINDS[kind])
    assert world.verify(made.ca)[:3] == (2, "INCONCLUSIVE", "no head is stamped")
    said = world.stamp(made).json
    assert said["entries"] == 1
    code, verdict, what, stamps = world.verify(made.ca)
    assert (code, verdict, stamps) == (0, "PASS", [{"entries": 1, "time": said["time"]}]), what
    note, request, answer = (file.read_bytes() for file in world.files())
    assert note == (world.dir / "checkpoint").read_bytes()
    assert made.holds(note, request, answer)
    # What came later is not covered, until it is stamped.
    run("registry", "head", world.dir, world.home.note)
    assert world.verify(made.ca)[:3] == (2, "INCONCLUSIVE", "entries 1 to 1 are after the last stamp")
    world.stamp(made)
    code, verdict, _, stamps = world.verify(made.ca)
    assert (code, verdict, [one["entries"] for one in stamps]) == (0, "PASS", [1, 2])
    assert "stamped already" in world.stamp(made, code=1).err


def test_nobody_else_vouches_for_an_authority(world, authority):
    made, other = authority(), authority()
    assert "no authority that was given" in world.stamp(made, ca=other.ca, code=1).err
    assert not (world.dir / "stamps").exists()
    world.stamp(made)
    code, verdict, what, _ = world.verify(other.ca)
    assert (code, verdict) == (1, "FAIL") and "no authority that was given" in what
    note, request, answer = (file.read_bytes() for file in world.files())
    assert not made.holds(note, request, answer, ca=other.ca)


USAGES = {
    "critical,timeStamping": None,
    "timeStamping": "for timestamps alone",
    "critical,timeStamping,codeSigning": "for timestamps alone",
    "critical,serverAuth": "for timestamps alone",
    None: "for timestamps alone",
}


@pytest.mark.parametrize("usage", USAGES)
def test_the_certificate_must_be_for_timestamps_alone(world, authority, usage):
    made, kept = authority(), []

    def change(answer):
        kept.append(made.signed_by(answer, tsa.SIGNS + (f"extendedKeyUsage={usage}\n" if usage else "")))
        return kept[0]

    made.change = change
    done = world.stamp(made, code=1 if USAGES[usage] else 0)
    assert USAGES[usage] is None or USAGES[usage] in done.err, done.err
    # The other house says the same of the last, whatever it was asked: its purpose is not that.
    request = made.where / "question"
    assert made.holds((world.dir / "checkpoint").read_bytes(), request.read_bytes(), kept[0]) == (USAGES[usage] is None)


def test_a_name_that_is_not_the_certificates_is_refused(world, authority):
    made, kept = authority(), []

    def change(answer):
        kept.append(made.signed_by(answer, tsa.SIGNS + "extendedKeyUsage=critical,timeStamping\n", "somebody else"))
        return kept[0]

    made.change = change
    assert "names another authority" in world.stamp(made, code=1).err
    note, request = (world.dir / "checkpoint").read_bytes(), (made.where / "question").read_bytes()
    assert not made.holds(note, request, kept[0])


def test_an_answer_to_another_request_is_not_kept(world, authority):
    made, first = authority(), []

    def replay(answer):
        first.append(answer)
        return first[0]

    made.change = replay
    world.stamp(made)
    shutil.rmtree(world.dir / "stamps")
    assert "another request" in world.stamp(made, code=1).err
    run("registry", "head", world.dir, world.home.note)
    assert "something else" in world.stamp(made, code=1).err
    made.change = lambda answer: b"\x30\x05\x30\x03\x02\x01\x02"
    assert "refused" in world.stamp(made, code=1).err
    for nothing in (b"", b"no", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"x" * 70_000):
        made.change = lambda answer, nothing=nothing: nothing
        assert world.stamp(made, code=2 if len(nothing) > 65_536 else 1)
    made.stop()
    world.stamp(made, code=2)


def test_a_stamp_of_another_head_does_not_pass(world, authority):
    made = authority()
    world.stamp(made)
    run("registry", "head", world.dir, world.home.note)
    world.stamp(made)
    copy = world.where / "copy"
    for end in ("note", "tsq", "tsr"):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(world.dir, copy)
        shutil.copy(world.dir / f"stamps/{1:020}.{end}", copy / f"stamps/{2:020}.{end}")
        assert world.verify(made.ca, copy)[:2] == (1, "FAIL"), end
    # An older registry with a younger stamp: what was stamped is missing.
    shutil.rmtree(copy)
    shutil.copytree(world.dir, copy)
    entries = (copy / "entries").read_bytes().splitlines(keepends=True)
    (copy / "entries").write_bytes(entries[0])
    shutil.copy(world.dir / f"stamps/{1:020}.note", copy / "checkpoint")
    done = Done("registry", "verify", copy, "--registry", world.key, "--json")
    assert done.code == 1 and "signed and missing" in done.out


def test_both_verifiers_agree_about_changed_answers(world, authority):
    """A bit is changed at many places. What we take, `openssl` takes. What it takes and we do not: another name for the algorithm
    of the signature, which it does not look at."""
    made = authority(key=tsa.EC)
    world.stamp(made)
    note, request, answer = (file.read_bytes() for file in world.files())
    name = bytes.fromhex("2a8648ce3d040302")
    begin = answer.rindex(name)
    copy, differ, taken, sample = world.where / "copy", [], 0, range(0, len(answer), 11)
    shutil.copytree(world.dir, copy)
    for at in sample:
        changed = answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :]
        (copy / f"stamps/{1:020}.tsr").write_bytes(changed)
        ours, theirs = world.verify(made.ca, copy)[1] == "PASS", made.holds(note, request, changed)
        taken += ours
        if ours != theirs and not begin <= at < begin + len(name):
            differ.append((at, ours, theirs))
    assert differ == [] and taken * 4 < len(sample), (differ, taken)


def test_a_pack_has_the_last_stamp(world, authority, tmp_path):
    """What is unpacked is a registry for whoever checks its stamp, by the program or by openssl."""
    made, home = authority(), world.home
    world.stamp(made)
    run("registry", "head", world.dir, home.note)
    world.stamp(made)
    out = tmp_path / "a.pack"
    run("evidence", "export", "--from", "2020-01-01", "--out", out, "--registry", world.dir, "--config", home.where / "chancery.toml")
    pack = Pack(out)
    names = [f"registry/stamps/{2:020}.{end}" for end in ("note", "tsq", "tsr")]
    assert [path for path in pack.files if path.startswith("registry/stamps/")] == names
    assert [pack.files[name] for name in names] == [file.read_bytes() for file in world.files(2)]
    assert made.holds(*(pack.files[name] for name in names))
    copy = pack.unpack(tmp_path / "unpacked") / "pack/registry"
    assert world.verify(made.ca, registry=copy)[:2] == (0, "PASS")
    assert Auditor(binary(), home.roots).together([out], "--registry-key", world.key).code == 0
