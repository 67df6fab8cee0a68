"""The acceptance tests of a hard-nosed auditor, each by its number and title, against packs that `chancery evidence export`
made of a live rig (rig/audited.py). Here: what hands can do to a pack; `test_evidence_live.py` has what is done to a gateway.

Both verifiers are asked each time (rig/pack.py): `chancery evidence verify` and crates/evidence/python/verify.py."""

import json
import shutil

import pytest

from rig.pack import Forger, Pack, blocks, chained, dump, named, note, relay


@pytest.fixture
def auditor(story):
    return story.house.auditor


@pytest.fixture
def forger(story, auditor):
    """The story's pack in a forger's hands. Untouched it passes, witnesses and all."""
    auditor.passes(story.pack)
    auditor.passes(story.pack, policy=story.house.policy, checkpoints=[story.seen])
    return Forger(story.pack, story.house.log_seed)


def renumber(line, index):
    entry = json.loads(line)
    return line.replace(b'"n":%d,' % entry["n"], b'"n":%d,' % index)


def middle(entries, kind, after=40):
    """The first entry of a kind in the middle of a session that was closed."""
    closed = {entry["s"] for entry in entries if entry["k"] == "session.close"}
    return next(entry for entry in entries if entry["n"] > after and entry["k"] == kind and entry.get("s") in closed)


def last_epoch(lines):
    return max(json.loads(line)["e"] for line in lines if b'"k":"key.epoch"' in line)


def everywhere(auditor, forger, tmp_path, **how):
    """What both say of the archive and of what unpacking it gives; it is the same."""
    packed = auditor.both(forger.write(tmp_path / "forged.pack"), **how)
    unpacked = auditor.both(forger.unpack(tmp_path / "unpacked"), **how)
    assert (packed.verdict, packed.bad, packed.checks) == (unpacked.verdict, unpacked.bad, unpacked.checks)
    shutil.rmtree(tmp_path / "unpacked")
    return packed


def names(check, session, entries):
    """Whether a finding leads to a session: by its name, or by an entry of it."""
    return session in check["what"] or (check["entry"] is not None and entries[check["entry"]].get("s") == session)


def test_the_forger_has_a_careful_hand(story, auditor, tmp_path):
    """What is read and put down again without a change is the same bytes: lists, tiles, sums and manifest, too."""
    whole = story.pack.read_bytes()
    forger = Forger(story.pack, story.house.log_seed)
    forger.become(forger.lines())
    for population in forger.populations():
        forger.put_rows(population, forger.rows(population))
    forger.files["ledger/checkpoint"] = forger.files["ledger/checkpoint"]
    assert relay(forger.entries(), forger.origin) == forger.lines()
    assert forger.seal().write(tmp_path / "again.pack").read_bytes() == whole
    auditor.passes(forger.unpack(tmp_path / "unpacked"))


def test_01_delete_a_middle_record(story, auditor, forger, tmp_path):
    """Gone from the entries and from every list, all behind it numbered anew, sums and manifest made right. While its hash is on
    file the very entry is named; with tiles made anew, the first that contradicts it, in the session that lacks it."""
    entries, old = forger.entries(), dict(forger.files)
    gone = middle(entries, "act.done")
    at, lines = gone["n"], forger.lines()
    close = next(entry["n"] for entry in entries if (entry["k"], entry.get("s")) == ("session.close", gone["s"]))
    forger.become(lines[:at] + [renumber(line, n) for n, line in enumerate(lines[at + 1:], at)])
    forger.without(at)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("sessions", "rolling", "tail", "ladder"))
    assert said.verdict == "FAIL" and at <= said.bad <= close, said.text
    left = forger.entries()
    assert names(said.checks["rolling"], gone["s"], left) and names(said.checks["sessions"], gone["s"], left), said.text
    assert names(said.theirs["rolling"], gone["s"], left) and names(said.theirs["sessions"], gone["s"], left), said.text
    # The tiles are as they were.
    forger.files.update({path: data for path, data in old.items() if path.startswith("ledger/tile/0/") and path in forger.files})
    said = everywhere(auditor, forger.seal(), tmp_path)
    assert said.verdict == "FAIL" and said.bad == at, said.text
    # Whose hand is less careful leaves the manifest's head: then its files are not even those of a pack of that size.
    forger.manifest["checkpoints"] = Pack(story.pack).manifest["checkpoints"]
    careless = forger.seal().write(tmp_path / "careless.pack")
    assert auditor.run("verify", careless, "--roots", auditor.roots).returncode == 1
    assert auditor.python(careless).returncode in (1, 3)


def test_01_delete_a_middle_record_with_its_command(story, auditor, tmp_path):
    """A command and its outcome, gone as a pair; rolling hashes, counts, references and roots made right. What is signed tells."""
    forger = Forger(story.pack, story.house.log_seed)
    entries = forger.entries()
    done = middle(entries, "act.done")
    start = next(entry for entry in entries if (entry["k"], entry.get("s"), entry.get("q")) == ("act.start", done["s"], done["q"]))
    forger.become(relay([entry for entry in entries if entry not in (start, done)], forger.origin))
    for at in (done["n"], start["n"]):
        forger.without(at)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("sessions", "rolling", "tail", "ladder"))
    assert said.verdict == "FAIL" and said.checks["sessions"]["verdict"] == said.checks["rolling"]["verdict"] == "PASS", said.text
    assert said.checks["ladder"]["verdict"] == "FAIL" and said.checks["tail"]["verdict"] == "FAIL"


def test_00_a_manifest_that_the_log_did_not_sign(story, auditor, forger, tmp_path):
    """A reminder for people is changed, sums and manifest made right, by somebody without the log's key."""
    forger.files["trust/roots.txt"] += b"\n"
    forger.log = bytes(32)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("manifest", "lines"))
    assert said.verdict == "FAIL" and said.checks["manifest"]["verdict"] == "FAIL" and said.bad is None, said.text


def test_01_delete_a_row(story, auditor, forger, tmp_path):
    """The entries stay, and a refusal is gone from the list of refusals: JSONL, CSV and its provenance."""
    rows = forger.rows("P12")
    forger.put_rows("P12", rows[:-1])
    said = everywhere(auditor, forger.seal(), tmp_path, says=("populations", "lines", "manifest"))
    assert said.verdict == "FAIL" and said.checks["populations"]["verdict"] == "FAIL", said.text
    assert said.checks["manifest"]["verdict"] == said.checks["lines"]["verdict"] == "PASS"


def test_02_truncate_the_tail(story, auditor, forger, tmp_path):
    """(a) Below what was signed; below what the auditor and the witness saw, signed again with stolen keys.
    (b) What the witness did not see yet: inconclusive, and the window is exact."""
    lines = forger.lines()
    forger.become(lines[:-5])
    for at in range(len(lines) - 1, len(lines) - 6, -1):
        forger.without(at)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("tail",))
    assert said.verdict == "FAIL" and said.checks["tail"]["entry"] == len(lines) - 5, said.text

    thief = story.elsewhere(tmp_path / "thief")
    size = len(thief.lines)
    assert thief.lines[:len(lines)] == lines
    head = tmp_path / "shorter"
    head.write_bytes(note(thief.origin, lines[:-2], *thief.signers(last_epoch(lines[:-2]))))
    short = thief.export(tmp_path / "short.pack", "--checkpoint", head)
    said = auditor.both(short)
    assert said.verdict == "PASS", said.text
    assert "not excluded" in auditor.run("verify", short, "--roots", auditor.roots).stdout
    for how in ({"policy": story.house.policy}, {}):
        said = auditor.both(short, checkpoints=[story.seen], **how)
        assert said.verdict == "FAIL" and said.checks["tail"]["verdict"] == "FAIL", said.text
    assert size >= len(lines)


def test_02_truncate_the_tail_that_nobody_saw(story, auditor):
    seen = int(story.seen.read_text().split("\n")[1])
    auditor.passes(story.unseen)
    size = Pack(story.unseen).manifest["checkpoints"][0]["size"]
    said = auditor.both(story.unseen, policy=story.house.policy, checkpoints=[story.seen])
    assert said.verdict == "INCONCLUSIVE" and said.bad is None, said.text
    witnesses = said.checks["witnesses"]
    assert witnesses["verdict"] == "INCONCLUSIVE" and witnesses["entry"] == seen < size, witnesses
    assert str(seen) in witnesses["what"] or str(size - 1) in witnesses["what"] or str(size) in witnesses["what"], witnesses
    # Without a head of the witness nothing is known to have been seen.
    said = auditor.both(story.unseen, policy=story.house.policy)
    assert said.verdict in ("INCONCLUSIVE", "FAIL") and said.checks["witnesses"]["verdict"] == said.verdict


def rewritten(thief, seeds):
    """History with a row count of its first half changed, and everything behind it made anew with these seeds."""
    entries = [json.loads(line) for line in thief.lines]
    changed = middle(entries, "act.done")
    assert changed["n"] < len(entries) // 2
    changed["rows"] += 7
    return changed["n"], relay(entries, thief.origin, thief.house.log_seed, seeds)


def test_03_rewrite_history_with_the_current_key(story, auditor, forger, tmp_path):
    """Root on the gateway's host: entries, hashes, epochs and heads are made anew with the keys of today, and the program itself
    makes the pack."""
    thief = story.elsewhere(tmp_path / "thief")
    at, lines = rewritten(thief, thief.seeds)
    thief.put(lines)
    forged = thief.export(tmp_path / "forged.pack")
    said = auditor.both(forged, says=("ladder", "lines", "checkpoints", "rolling", "sessions", "populations"))
    assert said.verdict == "FAIL" and said.checks["ladder"]["verdict"] == "FAIL", said.text
    assert [name for name, check in said.checks.items() if check["verdict"] == "FAIL"] == ["ladder"], "nothing else tells"
    said = auditor.both(forged, policy=story.house.policy, checkpoints=[story.seen])
    assert said.verdict == "FAIL" and {"ladder", "checkpoints"} <= {
        name for name, check in said.checks.items() if check["verdict"] == "FAIL"}, said.text


def test_03_rewrite_history_with_all_keys_from_the_beginning(story, auditor, tmp_path):
    """Who kept every key from the beginning can: without witnesses that passes, and the verifier says that it cannot exclude it.
    With what a witness saw it does not."""
    thief = story.elsewhere(tmp_path / "thief")
    at, lines = rewritten(thief, story.house.seeds)
    thief.put(lines)
    forged = thief.export(tmp_path / "forged.pack")
    assert auditor.both(forged).verdict == "PASS"
    assert "not excluded: that who held all keys from the beginning" in auditor.run("verify", forged, "--roots", auditor.roots).stdout
    with_policy = auditor.run("verify", forged, "--roots", auditor.roots, "--policy", story.house.policy)
    assert with_policy.returncode != 0 and "not excluded" not in with_policy.stdout
    for how in ({"policy": story.house.policy}, {}):
        said = auditor.both(forged, checkpoints=[story.seen], **how)
        assert said.verdict == "FAIL" and said.checks["checkpoints"]["verdict"] == "FAIL", said.text


def test_03_rewrite_history_as_another_log(story, auditor, tmp_path):
    """A whole new log of the same name with keys of its own: with its own roots it passes, with those from outside it fails."""
    thief = story.elsewhere(tmp_path / "thief")
    own = thief.another()
    forged = thief.export(tmp_path / "forged.pack")
    said = auditor.both(forged, says=("checkpoints", "ladder"))
    assert said.verdict == "FAIL" and said.checks["checkpoints"]["verdict"] == said.checks["ladder"]["verdict"] == "FAIL", said.text
    # The pack carries its own roots; they are not to be used, and who uses them is deceived.
    type(auditor)(auditor.program, own).passes(forged)
    assert Pack(forged).files["trust/roots.txt"].decode().split() == own.read_text().split()


def test_04_reorder_or_renumber(story, auditor, forger, tmp_path):
    entries, lines = forger.entries(), forger.lines()
    at = next(n for n in range(40, len(entries) - 2)
              if entries[n]["k"] == entries[n + 2]["k"] == "act.start" and entries[n]["s"] == entries[n + 2]["s"])
    swapped = list(lines)
    swapped[at], swapped[at + 2] = renumber(lines[at + 2], at), renumber(lines[at], at + 2)
    forger.become(swapped)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("rolling",))
    assert said.verdict == "FAIL" and said.bad <= at, said.text
    # Two entries in each other's place, with their own numbers.
    forger.become(lines[:at] + [lines[at + 1], lines[at]] + lines[at + 2:])
    said = everywhere(auditor, forger.seal(), tmp_path, says=("lines",))
    assert said.verdict == "FAIL" and said.checks["lines"]["entry"] == said.bad == at, said.text
    # One entry with another's number; nothing else is touched.
    forger.become(lines[:at] + [renumber(lines[at], at + 1)] + lines[at + 1:])
    said = everywhere(auditor, forger.seal(), tmp_path, says=("lines",))
    assert said.verdict == "FAIL" and said.checks["lines"]["entry"] == said.bad == at, said.text


def recordings(forger):
    return {path: data for path, data in forger.files.items() if path.startswith("recordings/")}


def test_05_swap_recordings(story, auditor, forger, tmp_path):
    """Between two sessions of equal length, their names changed and checksums right; and two segments in one."""
    found = recordings(forger)
    (one, other) = next((a, b) for a in found for b in found if a < b and len(list(blocks(found[a]))) == len(list(blocks(found[b]))))

    def moved(path, into):
        session = bytes.fromhex(into[len("recordings/"):-len(".rec")])
        return chained([named(block, session=session) for block in blocks(found[path])])

    forger.files[one], forger.files[other] = found[other], found[one]
    said = everywhere(auditor, forger.seal(), tmp_path, says=("recordings",))
    assert said.verdict == "FAIL" and said.checks["recordings"]["verdict"] == "FAIL", said.text
    forger.files[one], forger.files[other] = moved(other, one), moved(one, other)
    said = everywhere(auditor, forger.seal(), tmp_path, says=("recordings",))
    assert said.verdict == "FAIL" and said.checks["recordings"]["verdict"] == "FAIL", said.text
    forger.files.update(found)
    long = max(found, key=lambda path: len(list(blocks(found[path]))))
    some = list(blocks(found[long]))
    assert len(some) > 2
    some[0], some[1] = some[1], some[0]
    for data in (b"".join(head + stored for head, stored in some), chained(some), chained(list(blocks(found[long]))[:-1])):
        forger.files[long] = data
        said = everywhere(auditor, forger.seal(), tmp_path, says=("recordings",))
        assert said.verdict == "FAIL" and said.checks["recordings"]["verdict"] == "FAIL", said.text


def test_07_split_view(story, auditor, forger, tmp_path):
    """The security team was shown another tree of the same size: each passes alone, and both together never."""
    thief = story.elsewhere(tmp_path / "thief")
    lines = forger.lines()
    entry = json.loads(lines[-1])
    other = lines[:-1] + [dump(entry | {"t": entry["t"] + 1})]
    shown = tmp_path / "shown"
    shown.write_bytes(note(thief.origin, other, *thief.signers(last_epoch(other))))
    said = auditor.both(story.pack, checkpoints=[shown], says=("checkpoints",))
    assert said.verdict == "FAIL" and "forked" in said.checks["checkpoints"]["what"], said.text
    # Of another size: what was shown is not the beginning of this one.
    shown.write_bytes(note(thief.origin, other[:-3] + [other[-2]], *thief.signers(last_epoch(other))))
    said = auditor.both(story.pack, checkpoints=[shown], says=("checkpoints",))
    assert said.verdict == "FAIL" and said.checks["checkpoints"]["verdict"] == "FAIL", said.text


def test_09_seal_downgrade(story, auditor, forger, tmp_path):
    """Signatures stripped; an old range sealed again with a newer key; an epoch skipped."""
    whole, lines, entries = forger.files["ledger/checkpoint"], forger.lines(), forger.entries()
    head, _, signatures = whole.decode().partition("\n\n")
    for keeps in (lambda line: "/epoch/" not in line, lambda line: "/epoch/" in line):
        kept = [line for line in signatures.splitlines() if keeps(line)]
        forger.files["ledger/checkpoint"] = f"{head}\n\n{chr(10).join(kept)}\n".encode()
        said = everywhere(auditor, forger.seal(), tmp_path)
        failed = "ladder" if keeps is not None and "/epoch/" not in kept[0] else "checkpoints"
        assert said.verdict == "FAIL" and said.checks[failed]["verdict"] == said.theirs[failed]["verdict"] == "FAIL", said.text
    # A head of an epoch that ended, sealed with the key of today: the pack itself is made of it.
    thief = story.elsewhere(tmp_path / "thief")
    ends = [entry["n"] for entry in entries if entry["k"] == "key.epoch"]
    old = tmp_path / "old"
    old.write_bytes(note(thief.origin, lines[:ends[-1]], *thief.signers()))
    said = auditor.both(thief.export(tmp_path / "old.pack", "--checkpoint", old), says=("ladder",))
    assert said.verdict == "FAIL" and said.checks["ladder"]["entry"] == ends[-1] - 1, said.text
    # The entry of an epoch is taken out; all else is as if it had never been, as far as keys go.
    thief.put(relay([entry for entry in entries if entry["n"] != ends[2]], thief.origin, thief.house.log_seed, thief.seeds))
    forger = Forger(story.pack, story.house.log_seed)
    forger.become(thief.lines)
    forger.without(ends[2])
    forger.files["ledger/checkpoint"] = (thief.state / "ledger/checkpoint").read_bytes()
    said = everywhere(auditor, forger.seal(), tmp_path, says=("ladder",))
    assert said.verdict == "FAIL" and said.checks["ladder"]["verdict"] == "FAIL", said.text
