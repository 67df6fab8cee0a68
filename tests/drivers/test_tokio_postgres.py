"""tokio-postgres (Rust): one program plays its scenarios against both; what it saw is equal."""

import json
import subprocess

import pytest

from rig import Missing
from rig.need import need
from rig.process import ROOT

PEOPLE = "CREATE TABLE people (id integer PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'Grace'), (2, 'Ümit 🙂');"
SETUP = PEOPLE + """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE place AS (street text, number integer);
CREATE DOMAIN zip AS text CHECK (VALUE ~ '^[0-9]+$');
CREATE TABLE kinds (mood mood, at place[], zip zip);
"""


@pytest.fixture(scope="module")
def program():
    """The client, which `cargo xtask ci --only drivers` builds."""

    def built():
        path = ROOT / "target/debug/tokio-postgres-client"
        if not path.exists():
            raise Missing("the tokio-postgres client (cargo build --target-dir target "
                          "--manifest-path tests/drivers/tokio-postgres/Cargo.toml)")
        return path

    return need(built)


def test_tokio_postgres(both, program):
    # Without TLS on the client's leg: every other client has it, and this one would need a second TLS library for it.
    ways = both(SETUP, tls_downstream=False)
    direct, gated = (play(program, way) for way in ways)
    assert direct["pipelined"]["answers"][:2] == ["22012", "(100, 50)"]
    assert direct["cancelled"] == ["57014", "after"]
    assert direct["portals"][0] == direct["portals"][1] == [1, 2, 3] and direct["portals"][3] == [4]
    assert direct["copied"]["out"] == 2002 and direct["copied"]["into text"] == 2
    assert direct["transactions"] == ["25006", [1, 2, 50]]
    assert direct["notified"] == [["channel", "one"], ["channel", ""], ["channel", "drei ß"], ["channel", "to myself"]]
    for scenario, said in direct.items():
        assert gated[scenario] == said, scenario
    assert gated.keys() == direct.keys()


def play(program, way):
    done = subprocess.run([program, way.url], text=True, encoding="utf-8", capture_output=True, timeout=60)
    assert done.returncode == 0, f"{way.name}: {done.stderr}"
    return json.loads(done.stdout)
