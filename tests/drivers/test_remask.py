"""Who holds the originals masks them again, as the recording's mask maps say, and finds the recording, or what was changed
in it. Maps are read here from docs/spec/recording.md alone."""

import hashlib
import json
import struct

import pytest

from rig.pack import Forger, Pack, blocks, chained, decoded, leaf_hash
from test_sealed import REVIEW, approved, auditor, check, ended_session, entries, psql, sessions, unseal, until  # noqa: F401

CARD, SSN, IBAN = "4111 1111 1111 1111", "123-45-6789", "DE89370400440532013000"
TABLES = f"""
CREATE TABLE customers (id integer PRIMARY KEY, email text, card text, born date, balance numeric, note text);
INSERT INTO customers SELECT n, 'alice.' || n || '@example.com', '{CARD}', date '1984-03-07' + n, n * 1.5, 'note ' || n
    FROM generate_series(1, 50) n;
CREATE TABLE orders (id integer PRIMARY KEY, about text, doc jsonb);
INSERT INTO orders VALUES (1, 'visible words', '{{"a": "b"}}'), (2, 'paid with {CARD}, thanks', '{{"to": "bob@example.org"}}'),
    (3, 'tab	{SSN}', '[{CARD.replace(" ", "")}]'), (4, NULL, NULL);
"""
MASKS = [
    {"resource": "shop", "columns": ["public.customers.email"], "with": "partial", "tag": "contact"},
    {"resource": "shop", "columns": ["public.customers.card"], "with": "redact", "tag": "pci"},
    {"resource": "shop", "columns": ["public.customers.born"], "with": "generalise", "tag": "birth"},
    {"resource": "shop", "detect": ["card", "iban", "email", "ssn"], "with": "redact"},
]


@pytest.fixture
def shop(server, fresh_database, gateway, auditor):  # noqa: F811
    """A function that starts a gateway in front of a shop whose originals are kept for the auditor, or not."""

    def start(masks=MASKS, sealed=True):
        seal = {"to": [auditor.recipient], "purpose": "fraud investigation", "review": "custodian"} if sealed else None
        return gateway({"shop": (server, fresh_database(TABLES))}, masks=masks, reviews=[REVIEW], seal=seal)

    return start


def everything(line):
    """What a session can show, in each of the ways in which it is masked."""
    line.simple("SELECT * FROM customers ORDER BY id; SELECT id, note FROM customers; SELECT * FROM orders ORDER BY id")
    line.simple("SELECT upper(email), count(*) FROM customers GROUP BY 1")
    line.simple("SELECT c FROM customers c LIMIT 2")
    line.extended("SELECT id, email, born, balance FROM customers WHERE id < $1", ["9"], binary=True)
    line.extended("SELECT about, doc FROM orders", rows=2)
    line.simple("COPY customers TO STDOUT")
    line.simple("COPY customers TO STDOUT WITH (FORMAT binary)")
    line.simple("COPY orders TO STDOUT WITH (FORMAT csv)")
    line.simple("COPY (SELECT email, id FROM customers) TO STDOUT")
    # The gateway's own words: csv cannot be masked.
    (refused,) = [body for kind, body in line.simple("COPY customers TO STDOUT WITH (FORMAT csv)") if kind == "E"]
    assert b"cannot be masked" in refused
    for failing in ("SELECT email::int FROM customers", "INSERT INTO customers VALUES (1, 'x@example.com')",
                    f"SELECT '{IBAN} of carol@example.net'::int", "SELECT 1/0"):
        assert any(kind == "E" for kind, _ in line.simple(failing)), failing
    line.simple("UPDATE customers SET note = 'other' WHERE id = 3 RETURNING email, note")
    line.simple("DO $$ BEGIN RAISE NOTICE 'dave@example.com'; END $$")
    line.simple("SET application_name = 'a report'; RESET application_name; SET TimeZone = 'Europe/Berlin'")
    line.simple("LISTEN news; NOTIFY news, 'erin@example.com'")
    line.simple("SELECT 1")


def handed_out(front, provider, keys, directory):
    """The one session that ended, the directory that was handed out for it, and its opened segments."""
    session = ended_session(front)
    out = directory / f"{session}-handed"
    done = unseal(front, session, approved(front, provider, session), out)
    assert done.returncode == 0, done.stderr
    opened = []
    for path in sorted(out.glob("*.age")):
        opened.append(directory / f"{session}-{path.stem}.frames")
        opened[-1].write_bytes(keys.open(path))
    return session, out, opened


def packed(front):
    """A pack of all of it, up to the head that is signed when the gateway stops."""
    front.stop()
    pack = front.directory / "pack.tar"
    front.run("evidence", "export", "--from", "2020-01-01", "--out", pack, "--config", front.config)
    return pack


def remask(front, out, opened, pack):
    """Exit code, and for each check its verdict and what was found."""
    done = front.run("--json", "evidence", "remask", out, "--original", *opened, "--recording", pack, check=False)
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == {0: "PASS", 1: "FAIL", 2: "INCONCLUSIVE"}[done.returncode], done.stdout
    return done.returncode, {one["check"]: (one["verdict"], one["what"]) for one in said["checks"]}


def failing(checks):
    return {name for name, (verdict, _) in checks.items() if verdict == "FAIL"}


def recorded(data):
    """docs/spec/recording.md, Frames: (kind, command, bytes) of all frames; pieces are not joined."""
    at = 0
    while at < len(data):
        _, kind, command, length = struct.unpack_from(">qBQI", data, at)
        yield kind, command, data[at + 21:at + 21 + length]
        at += 21 + length


def recording_of(pack):
    """The path of the one recording that a pack has."""
    (path,) = [path for path in pack.files if path.startswith("recordings/")]
    return path


def changed(pack, target, change, stated=True):
    """A pack in which the session's frames became `change` of them. `stated`: its entries were rewritten to say so."""
    forged = Forger(pack, None)
    path = recording_of(forged)
    data = change(decoded(forged.files[path]))
    before, (head, _) = forged.files[path], next(blocks(forged.files[path]))
    head = head[:92] + bytes(4) + struct.pack(">II", len(data), len(data)) + head[104:]
    forged.files[path] = chained([(head, data)])

    def last(recording):
        head, stored = list(blocks(recording))[-1]
        return hashlib.sha256(b"\2" + head + stored).hexdigest().encode()

    if stated:
        assert any(last(before) in line and b'"session.close"' in line for line in forged.lines())
        forged.become([line.replace(last(before), last(forged.files[path])) for line in forged.lines()])
    return forged.write(target)


def with_a_pruned_entry(pack, target):
    """The pack, as it would be if its first entry had been pruned (docs/spec/pack.md, `ledger/kept`)."""
    forged = Forger(pack, None)
    path = next(path for path in forged.files if path.startswith("ledger/tile/entries/"))
    bundle, lines = forged.files[path], list(forged.lines())
    rest = bundle[2 + int.from_bytes(bundle[:2], "big"):]
    kept = bytes(2) + bytes(8) + leaf_hash(lines[0]) + rest
    forged.files = {other.replace("ledger/tile/entries/", "ledger/kept/") if other == path else other:
                    kept if other == path else data for other, data in forged.files.items()}
    return forged.write(target)


def swapped(data, old, new):
    assert len(old) == len(new) and data.count(old) > 0, old
    return data.replace(old, new, 1)


def remapped(data, change):
    """The frames, with another mask map in place of each for which `change` gives one."""
    out, at = b"", 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at + 17)
        head, body = data[at:at + 17], data[at + 21:at + 21 + length]
        if data[at + 8] == 8 and (other := change(json.loads(body))) is not None:
            body = json.dumps(other, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        out += head + struct.pack(">I", len(body)) + body
        at += 21 + length
    return out


def test_the_recording_is_what_masking_makes_of_the_originals(shop, provider, auditor, directory):  # noqa: F811
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        everything(line)
    session, out, opened = handed_out(front, provider, auditor, directory)
    pack = packed(front)
    code, checks = remask(front, out, opened, pack)
    assert code == 0, checks
    for name in ("commitments", "recording", "order", "rows", "copies", "texts", "parameters", "rest", "maps"):
        assert checks[name][0] == "PASS", checks
    for name in ("rows", "copies", "texts", "parameters", "rest"):
        assert int(checks[name][1].split()[0]) > 1, checks
    assert checks["maps"][1].endswith(" 0 not in full"), checks

    # What the maps say, by the specification.
    frames = list(recorded(decoded(Pack(pack).files[recording_of(Pack(pack))])))
    maps = [json.loads(body) for kind, _, body in frames if kind == 8]
    for body in (body for kind, _, body in frames if kind == 8):
        assert body == json.dumps(json.loads(body), separators=(",", ":"), sort_keys=True).encode()
    assert {one.get("shape") for one in maps} == {None, "rows", "copy-text", "copy-binary", "copy-other"}
    assert {one.get("text") for one in maps} >= {"own", "search", "replace"}
    assert all(one["detect"] == dict.fromkeys(("card", "email", "iban", "ssn"), "redact") for one in maps)
    whole = next(one for one in maps if one.get("shape") == "rows" and one["width"] == 6)
    told = {column["c"]: (column.get("op"), column.get("tag"), column["why"], column["n"]) for column in whole["columns"]}
    assert told[1] == ("partial", "contact", "tag", 50) and told[2] == ("redact", "pci", "tag", 50)
    assert told[3] == ("generalise", "birth", "tag", 50) and told[5] == (None, None, "search", 0) and 0 not in told
    assert any(column["why"] == "lost" and column["n"] for one in maps for column in one["columns"])
    assert any(column["why"] == "search" and column["n"] for one in maps for column in one["columns"])
    assert not any(word in json.dumps(maps) for word in ("alice", "4111", "visible"))

    replayed = front.run("session", "replay", session, "--config", front.config).stdout
    assert "masked: email partial 50 (tag contact), card redact 50 (tag pci), born generalise 50 (tag birth)" in replayed
    assert "card found" in replayed

    # Of a ledger with pruned entries the rest is found all the same.
    code, checks = remask(front, out, opened, with_a_pruned_entry(pack, directory / "pruned.tar"))
    assert code == 0, checks

    tampered_with(front, out, opened, pack)
    pack.unlink()
    check(front)


def tampered_with(front, out, opened, pack):
    """Whatever is changed is found, and named."""
    target = front.directory / "changed.tar"
    # An untagged cell, by somebody who rewrites the ledger, too.
    visible = changed(pack, target, lambda data: swapped(data, b"visible words", b"visible lords"))
    code, checks = remask(front, out, opened, visible)
    assert code == 1 and failing(checks) == {"rows"}, checks
    assert "command 1, result 3, row 1, message" in checks["rows"][1], checks
    # By somebody who does not.
    visible = changed(pack, target, lambda data: swapped(data, b"visible words", b"visible lords"), stated=False)
    code, checks = remask(front, out, opened, visible)
    assert code == 1 and {"recording", "rows"} <= failing(checks), checks
    # A masked cell: another mask than the one that the operator gives.
    mask = changed(pack, target, lambda data: swapped(data, b"a***@example.com", b"b***@example.com"))
    code, checks = remask(front, out, opened, mask)
    assert code == 1 and "rows" in failing(checks) and "command 1, row 1, message" in checks["rows"][1], checks
    # A map that says a masked column was shown, and one that counts otherwise.
    def shown(map_):
        left = [column for column in map_["columns"] if column.get("tag") != "pci"]
        return map_ | {"columns": left} if map_.get("shape") == "rows" else None

    code, checks = remask(front, out, opened, changed(pack, target, lambda data: remapped(data, shown)))
    assert code == 1 and "rows" in failing(checks), checks

    def counted(map_):
        more = [column | {"n": column["n"] + (column.get("tag") == "pci")} for column in map_["columns"]]
        return map_ | {"columns": more}

    code, checks = remask(front, out, opened, changed(pack, target, lambda data: remapped(data, counted)))
    assert code == 1 and failing(checks) == {"maps"}, checks
    # A map of another version is none of this program's.
    later = changed(pack, target, lambda data: remapped(data, lambda map_: map_ | {"detectors": 9}))
    code, checks = remask(front, out, opened, later)
    assert code == 2 and checks["rows"][0] == checks["copies"][0] == "INCONCLUSIVE" and "other detectors" in checks["rows"][1], checks
    # No map at all.
    code, checks = remask(front, out, opened, changed(pack, target, without_maps))
    assert code == 2 and "no map" in checks["rows"][1], checks
    # Another original.
    other = front.directory / "other.frames"
    other.write_bytes(opened[0].read_bytes().replace(b"visible words", b"visible lords", 1))
    code, checks = remask(front, out, [other], pack)
    assert code == 1 and failing(checks) == {"commitments"} and "none of the segments" in checks["commitments"][1], checks
    assert checks["order"][0] == "INCONCLUSIVE" and "segment 0 is not here" in checks["order"][1], checks


def without_maps(data):
    out, at = b"", 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at + 17)
        out += data[at:at + 21 + length] if data[at + 8] != 8 else b""
        at += 21 + length
    return out


def test_tokens_and_missing_segments_are_inconclusive_by_name(shop, provider, auditor, directory):  # noqa: F811
    front = shop([{"resource": "shop", "columns": ["public.customers.email"], "with": "token", "tag": "contact"}])
    with front.connect("shop", provider.person("ada")) as line:
        line.simple("SELECT id, email FROM customers")
        # More than a segment has room for.
        line.simple("SELECT repeat('x', 1000) FROM generate_series(1, 9000)")
        line.simple("SELECT note FROM customers")
    session, out, opened = handed_out(front, provider, auditor, directory)
    assert len(opened) > 1
    pack = packed(front)
    code, checks = remask(front, out, reversed(opened), pack)
    assert code == 2, checks
    assert [name for name, (verdict, _) in checks.items() if verdict != "PASS"] == ["rows"], checks
    assert "50 tokens" in checks["rows"][1] and "9100 of 9100 masked again" in checks["rows"][1], checks
    code, checks = remask(front, out, opened[:1], pack)
    assert code == 2 and failing(checks) == set(), checks
    assert "segment 1 is not here" in checks["commitments"][1] and "segment 1 is not here" in checks["order"][1], checks
    # The same from the directory that the pack was unpacked to.
    unpacked = Pack(pack).unpack(front.directory / "unpacked")
    assert remask(front, out, reversed(opened), unpacked)[0] == 2


def test_without_originals_maps_tell_what_was_masked_and_nothing_else(shop, provider):
    front = shop(sealed=False)
    assert "a***@example.com" in psql(front, provider.person("ada"), """
        SELECT about FROM orders WHERE id = 1;
        SELECT email FROM customers WHERE id = 1;
        SELECT about FROM orders WHERE id = 2;
    """)
    session = ended_session(front)
    pack = Pack(packed(front))
    maps = [(command, json.loads(body)) for kind, command, body in recorded(decoded(pack.files[recording_of(pack)])) if kind == 8]
    assert [command for command, _ in maps] == [2, 3], maps
    assert [one["hits"] for _, one in maps] == [{}, {"card": 1}]


def test_a_session_that_crashed_has_no_recording_in_a_pack(shop, provider, auditor, directory):  # noqa: F811
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        line.simple("SELECT repeat('x', 1000) FROM generate_series(1, 12000)")
        line.simple("UPDATE customers SET note = 'seen' WHERE id = 1")
        (open_session,) = until(lambda: sessions(front))
        until(lambda: [entry for entry in entries(front, open_session["session"]) if entry["kind"] == "raw.segment"])
        front.kill()
    front.start()
    session, out, opened = handed_out(front, provider, auditor, directory)
    pack = packed(front)
    done = front.run("evidence", "remask", out, "--original", *opened, "--recording", pack, check=False)
    assert done.returncode == 2 and "no recording" in done.stderr and "crash" in done.stderr, done
