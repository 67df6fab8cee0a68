"""pg_dump, pg_restore and psql's restore: the same bytes out, and the same database in, as without the gateway."""

import dataclasses
import os
import pathlib
import struct
import subprocess

import pytest

from rig import postgres
from rig.need import need

SQL = (pathlib.Path(__file__).parent / "dump.sql").read_text()
# Without a key of our choice plain dumps carry a random one.
KEY = ["--restrict-key=rig"]
LARGE = SQL + "SELECT lo_from_bytea(900001, decode(repeat('00ff10', 30000), 'hex'));"
MASK = {"columns": ["shop.customers.email"], "tag": "pii", "with": "redact"}
CLOCK_INTEGERS = 7
CUSTOM_SINCE_ALGORITHM = (1, 15)


@pytest.fixture(scope="module", params=["distribution"])
def server(request, servers):
    """pg_dump dumps no server newer than itself, so it is the distribution's."""
    return servers(request.param)


def test_a_plain_dump_is_the_same(both):
    ways = both(SQL, shared=True)
    for options in ([], ["--inserts", "--rows-per-insert=50"], ["--schema-only", "--clean", "--if-exists"]):
        direct, gated = (dump(way, "--format=plain", *KEY, *options) for way in ways)
        assert len(direct) > 10_000 and direct.endswith(b"\\unrestrict rig\n\n")
        assert gated == direct, options


def test_a_custom_dump_is_the_same_but_for_its_clock(both):
    direct, gated = (dump(way, "--format=custom") for way in both(SQL, shared=True))
    assert clockless(gated) == clockless(direct)


def test_a_dump_by_several_sessions_of_one_snapshot_is_the_same(both, tmp_path):
    said = []
    for number, way in enumerate(both(SQL, shared=True)):
        where = tmp_path / str(number)
        dump(way, "--format=directory", "--jobs=3", "--compress=0", f"--file={where}")
        said.append({path.name: path.read_bytes() for path in where.iterdir()})
        said[-1]["toc.dat"] = clockless(said[-1]["toc.dat"])
    assert len(said[0]) > 8 and said[1] == said[0]


@pytest.mark.parametrize("load", [
    ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "plain"],
    ["pg_restore", "--jobs=3", "archive"],
    ["pg_restore", "--single-transaction", "--exit-on-error", "archive"],
], ids=["psql", "sessions", "one-transaction"])
def test_what_is_loaded_through_the_gateway_is_what_was_dumped(both, server, tmp_path, load):
    direct, gated = both()
    server.psql(SQL, direct.database)
    plain = dump(direct, "--format=plain", *KEY)
    (tmp_path / "plain").write_bytes(plain)
    (tmp_path / "archive").write_bytes(dump(direct, "--format=custom"))
    loaded = run(load[0], gated, "-d", gated.database, *load[1:], cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr.decode()
    assert dump(dataclasses.replace(direct, database=gated.database), "--format=plain", *KEY) == plain


def test_large_objects_are_refused_by_name_and_can_be_left_out(both):
    """pg_dump reads them by the protocol's FunctionCall, which the gateway does not speak."""
    direct, gated = both(LARGE, shared=True)
    assert b"lo_open('900001'" in dump(direct, "--format=plain")
    refused = run("pg_dump", gated, "--format=plain", gated.database)
    assert refused.returncode == 1 and b"the FunctionCall message is not supported" in refused.stderr
    without = [dump(way, "--format=plain", "--no-blobs", *KEY) for way in (direct, gated)]
    assert without[0] == without[1] and b"COPY shop.customers" in without[0]


def test_a_dump_of_tagged_columns_has_masked_cells(both):
    plain, masked = (dump(way, "--format=plain", *KEY) for way in both(SQL, shared=True, masks=[MASK]))
    assert plain.count(b"@secret.test") == 603 and b"@secret.test" not in masked
    # Row by row: the tagged cell differs, the others of the table and whatever else is dumped do not.
    one, other = rows(plain, b"shop.customers"), rows(masked, b"shop.customers")
    assert len(one) == len(other) == 603
    at = plain[plain.index(b"COPY shop.customers ("):].split(b"(", 1)[1].split(b")", 1)[0].split(b", ").index(b"email")
    assert all(mine[:at] + mine[at + 1:] == theirs[:at] + theirs[at + 1:] for mine, theirs in zip(one, other))
    for table in (b"shop.orders_old", b"shop.orders_new", b"shop.bookings", b"shop.child"):
        assert rows(plain, table) == rows(masked, table), table


def dump(way, *options):
    """What pg_dump wrote; it may say nothing."""
    done = run("pg_dump", way, *options, way.database)
    assert done.returncode == 0 and not done.stderr, f"{way.name}, {options}: {done.stderr.decode()[-3000:]}"
    return done.stdout


def run(name, way, *arguments, cwd=None):
    """A finished program, with the password where no process list shows it."""
    program = need(lambda: postgres.tool(name))
    environment = os.environ | {"PGHOST": way.host, "PGPORT": str(way.port), "PGUSER": way.user, "PGPASSWORD": way.password,
                                "PGSSLMODE": "verify-full", "PGSSLROOTCERT": way.ca}
    return subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, timeout=80, cwd=cwd,
                          stdin=subprocess.DEVNULL)


def rows(plain, table):
    """The cells of one table's COPY block."""
    start = plain.index(b"\nCOPY " + table + b" (")
    block = plain[plain.index(b"\n", start + 1) + 1 : plain.index(b"\n\\.\n", start)]
    return [line.split(b"\t") for line in block.split(b"\n")]


def clockless(archive):
    """An archive without the time it was made at: seven integers of the header, each a sign and its bytes."""
    assert archive[:5] == b"PGDMP"
    integer = 1 + archive[8]
    compression = 1 if struct.unpack("BB", archive[5:7]) >= CUSTOM_SINCE_ALGORITHM else integer
    at = 11 + compression
    return archive[:at] + bytes(CLOCK_INTEGERS * integer) + archive[at + CLOCK_INTEGERS * integer :]
