"""Packs as things to hand over: the same command gives the same bytes, in parts, samples that nobody can steer, and what is no
pack. Both verifiers are asked (rig/pack.py)."""

import json
import pathlib
import shutil
import subprocess

import pytest

from rig.pack import BLOCK, Pack, archive, header


@pytest.fixture
def auditor(story):
    return story.house.auditor


@pytest.fixture
def thief(story, tmp_path):
    """A copy of the gateway's directory, to export from: an export writes to the ledger."""
    return story.elsewhere(tmp_path / "thief")


def test_the_same_head_gives_the_same_bytes(story, auditor, thief, tmp_path):
    pack = Pack(story.pack)
    head = tmp_path / "head"
    head.write_bytes(pack.files["ledger/checkpoint"])
    log = tmp_path / "own.csv"
    # The database's log has grown since; an earlier one is what it was.
    log.write_bytes(story.house.log().read_bytes())
    first = thief.export(tmp_path / "first.pack", "--postgres-log", log, "--checkpoint", head, since=story.since)
    second = thief.export(tmp_path / "second.pack", "--postgres-log", log, "--checkpoint", head, since=story.since)
    assert first.read_bytes() == second.read_bytes()
    assert Pack(first).rows("P05") == pack.rows("P05") and Pack(first).lines() == pack.lines()
    auditor.passes(first)
    # Another period is another pack; the entries are the same ones.
    later = pack.rows("P08")[1]["at"]
    third = thief.export(tmp_path / "third.pack", "--checkpoint", head, since=later)
    auditor.passes(third)
    assert Pack(third).lines() == pack.lines() and len(Pack(third).rows("P05")) < len(pack.rows("P05"))


def test_without_a_log_of_the_database_it_is_to_the_byte_the_same(story, thief, tmp_path):
    made = [thief.export(tmp_path / "a.pack")]
    head = tmp_path / "head"
    head.write_bytes(Pack(made[0]).files["ledger/checkpoint"])
    for name in ("b.pack", "c.pack"):
        made.append(thief.export(tmp_path / name, "--checkpoint", head))
    whole = made[0].read_bytes()
    assert [one.read_bytes() == whole for one in made] == [True, True, True]
    # Each export is on record behind that head.
    newer = Pack(thief.export(tmp_path / "d.pack"))
    assert [row["what"] for row in newer.rows("P14")][-3:] == [newer.rows("P14")[-1]["what"]] * 3


def test_in_parts(story, auditor, thief, tmp_path):
    """A pack of more than a megabyte, cut: the first part stands for all, joined they are the pack, and one that lacks tells."""
    whole = thief.export(tmp_path / "whole.pack")
    head = tmp_path / "head"
    head.write_bytes(Pack(whole).files["ledger/checkpoint"])
    thief.export(tmp_path / "cut.pack", "--checkpoint", head, "--split", "1MB")
    parts = sorted(tmp_path.glob("cut.pack.*"))
    assert len(parts) > 1 and not (tmp_path / "cut.pack").exists() and parts[0].name.endswith(".001")
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    assert all(part.stat().st_size <= 1_000_000 for part in parts)
    auditor.passes(parts[0])
    parts[-1].unlink()
    auditor.malformed(parts[0])


def drawn(auditor, pack, nonce, *words):
    said = auditor.run("sample", pack, "--nonce", nonce, "--json", *words)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_a_sample_that_nobody_steers(story, auditor, tmp_path):
    rows = Pack(story.pack).rows("P05")
    one, same, other = (drawn(auditor, story.pack, nonce) for nonce in ("the auditor's word", "the auditor's word", "another"))
    assert one == same and len(one["sample"]) == 25 == len(other["sample"])
    assert one["sample"] != other["sample"] and one["seed"] != other["seed"]
    for sample in (one["sample"], other["sample"]):
        assert all(row in rows for row in sample) and len({row["entry"] for row in sample}) == 25
    unpacked = Pack(story.pack).unpack(tmp_path / "unpacked")
    assert drawn(auditor, unpacked, "another")["sample"] == other["sample"]
    # All of a small population, in its order; the same word draws other rows of another head.
    assert drawn(auditor, story.pack, "w", "--population", "P12", "--count", "1000")["sample"] == Pack(story.pack).rows("P12")
    assert drawn(auditor, story.unseen, "another")["seed"] != other["seed"]
    assert auditor.run("sample", story.pack, "--nonce", "w", "--population", "P16").returncode == 1
    assert auditor.run("sample", story.pack, "--nonce", "w", "--population", "P99").returncode == 64


def hostile(pack):
    """Archives that are none, by name."""
    files = pack.all()
    whole = archive(files)
    size = len(files[0][1])
    first = BLOCK + size + -size % BLOCK
    note = files[1]

    def instead(path, data=b"x", **how):
        """A member in the place of the second."""
        made = header(path, len(data), **how) + data + bytes(-len(data) % BLOCK)
        return whole[:first] + made + whole[first:]

    yield "path traversal", instead("../../outside")
    yield "path traversal inside", instead("a/../../outside")
    yield "absolute", whole.replace(b"pack/MANIFEST.note", b"/etc/MANIFEST.note")
    yield "symlink", instead("link", b"", kind=b"2", link=b"/etc/passwd")
    yield "hard link", instead("link", b"", kind=b"1", link=b"pack/MANIFEST.json")
    yield "directory", instead("directory/", b"", kind=b"5")
    yield "device", instead("device", b"", kind=b"3")
    yield "another mode", instead("x", mode=b"0004755")
    yield "duplicate member", archive([*files[:3], files[2], *files[3:]])
    yield "manifest twice", archive([files[0], *files])
    yield "not in the manifest", archive([*files, ("surplus.txt", b"x")])
    yield "one is missing", archive(files[:-1])
    yield "another order", archive([files[0], note, files[3], files[2], *files[4:]])
    yield "no manifest", archive(files[1:])
    yield "cut in a member", whole[:len(whole) // 2]
    yield "cut at a member", whole[:first]
    yield "no end", whole[:-2 * BLOCK]
    yield "half an end", whole[:-BLOCK]
    yield "something behind it", whole + b"x"
    yield "zeros behind it", whole + bytes(BLOCK)
    yield "empty", b""
    yield "zeros", bytes(4 * BLOCK)
    yield "no archive", b"\x1f\x8b" + whole[2:]
    yield "a manifest that is none", archive([("MANIFEST.json", b"{}\n"), *files[1:]])
    yield "a manifest with a key twice", archive([("MANIFEST.json", b'{"pack_version":1,' + files[0][1][1:]), *files[1:]])


def test_what_is_no_pack(story, auditor, tmp_path):
    """Exit code 3, of both, and nothing is written anywhere."""
    pack = Pack(story.pack)
    auditor.passes(story.pack)
    place = tmp_path / "hostile.pack"
    wrong = []
    for name, data in hostile(pack):
        place.write_bytes(data)
        codes = auditor.run("verify", place, "--roots", auditor.roots).returncode, auditor.python(place).returncode
        # What the manifest names and the archive lacks is a failure of the manifest to the first, no container to the second.
        if codes != (3, 3) and (name, codes) != ("one is missing", (1, 3)):
            wrong.append((name, codes))
    assert wrong == []
    assert not (tmp_path / "outside").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["hostile.pack"]


def test_a_directory_with_links(story, auditor, tmp_path):
    """In a directory, too, nothing is followed: neither passes it."""
    root = Pack(story.pack).unpack(tmp_path / "unpacked")
    auditor.passes(root)
    place = root / "pack/trust/roots.txt"
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert auditor.run("verify", root, "--roots", auditor.roots).returncode in (1, 3)
    assert auditor.python(root).returncode == 3
    place.unlink()
    shutil.copy(tmp_path / "elsewhere", place)
    auditor.passes(root)
    (root / "pack/surplus").write_text("x")
    assert auditor.run("verify", root, "--roots", auditor.roots).returncode in (1, 3)
    assert auditor.python(root).returncode == 3


def test_what_export_refuses(story, thief, tmp_path):
    def export(*words):
        done = story.house.front.run("evidence", "export", *words, "--config", thief.config, check=False)
        return done.returncode

    there = tmp_path / "there"
    there.write_text("mine")
    assert export("--from", "2020-01-01", "--out", there) == 1 and there.read_text() == "mine"
    out = tmp_path / "out.pack"
    assert export("--from", "2026-01-02", "--to", "2026-01-01", "--out", out) == 64
    assert export("--from", "yesterday", "--out", out) == 64
    assert export("--from", "2020-01-01", "--control", "no-such-control", "--out", out) == 64
    head = tmp_path / "head"
    head.write_text("no note\n")
    assert export("--from", "2020-01-01", "--checkpoint", head, "--out", out) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []


def test_a_period_before_any_entry(story, auditor, thief, tmp_path):
    """A pack of nothing is one that passes, and says of each list that it is empty."""
    out = thief.export(tmp_path / "empty.pack", "--to", "2020-02-01", since="2020-01-01")
    auditor.passes(out)
    pack = Pack(out)
    populations = [name[12:15] for name in pack.files if name.startswith("populations/") and name.endswith(".ipe.json")]
    assert len(populations) == 20
    assert all(pack.ipe(one)["row_count"] == 0 for one in populations)
    assert pack.ipe("P05")["excluded"] and sum(each["count"] for each in pack.ipe("P05")["excluded"]) > 0
    assert not [name for name in pack.files if name.startswith("recordings/")]


def test_the_pack_hands_over_what_the_reader_needs(story, auditor, tmp_path):
    """Sums that the system's own program takes, and every list with its provenance."""
    root = Pack(story.pack).unpack(tmp_path / "unpacked") / "pack"
    done = subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pack = Pack(story.pack)
    for name in pack.files:
        if name.startswith("populations/") and name.endswith(".ipe.json"):
            ipe = json.loads(pack.files[name])
            assert ipe["timezone"] == "UTC" and ipe["origins"][0]["root"] == pack.manifest["checkpoints"][0]["root"]
            rows = pack.rows(ipe["population_id"]) if ipe["absent"] is None else []
            assert ipe["row_count"] == len(rows) and isinstance(ipe["excluded"], list)
    assert pathlib.Path(root / "ledger/checkpoint").read_bytes() == pack.files["ledger/checkpoint"]
