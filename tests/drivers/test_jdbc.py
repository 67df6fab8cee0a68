"""PostgreSQL's JDBC driver beyond a first query: batches, cursors, COPY, metadata, thresholds, cancels."""

import pathlib
import re
import shutil
import subprocess

import pytest

from rig import Missing
from rig.need import need

PROGRAM = pathlib.Path(__file__).parent / "clients/JdbcWork.java"
JAR = pathlib.Path("/usr/share/java/postgresql.jar")
SETUP = """
CREATE TABLE people (id integer PRIMARY KEY, name text DEFAULT 'nobody');
INSERT INTO people VALUES (1, 'Grace'), (2, 'Ümit 🙂'), (3, NULL);
COMMENT ON TABLE people IS 'who there is';
COMMENT ON COLUMN people.name IS 'what they are called';
CREATE TABLE orders (id serial PRIMARY KEY, person integer NOT NULL REFERENCES people, day date, price numeric(10, 2)[]);
CREATE INDEX by_name ON people (lower(name)) WHERE name IS NOT NULL;
CREATE VIEW names AS SELECT name FROM people;
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE DOMAIN zip AS varchar(5) NOT NULL;
CREATE TABLE odd ("a b" mood, zip zip, "C" timestamptz DEFAULT now());
CREATE FUNCTION twice(n integer, OUT double integer) LANGUAGE sql AS 'SELECT n * 2';
CREATE PROCEDURE nothing() LANGUAGE plpgsql AS 'BEGIN NULL; END';
"""


@pytest.fixture(scope="session")
def program(directory):
    """The compiled client: what comes behind `java -cp`."""
    need(driver)
    where = directory / "jdbc"
    subprocess.run(["javac", "-encoding", "UTF-8", "-cp", JAR, "-d", where, PROGRAM], check=True, timeout=80)
    return f"{where}:{JAR}"


def test_jdbc(both, program):
    direct, gated = (play(program, way) for way in both(SETUP))
    # That the scenarios were played at all, and did what they are for.
    assert {line.split(":")[0] for line in direct} == {
        "batch", "batch rewritten", "batch by simple queries", "cursor", "copy", "metadata", "threshold 0", "threshold 2",
        "threshold -1", "cancel", "types", "transactions", "notices",
    }
    assert [line for line in direct if line.startswith("cancel:")] == [
        "cancel: timeout 57014", "cancel: cancel 57014 ERROR: canceling statement due to user request", "cancel: true",
    ]
    for line in ["cursor: 15", "copy: [10002, 25013001]", "notices: channel to be heard", "metadata: int4 date"]:
        assert line in direct
    assert gated == direct


@pytest.mark.parametrize("server", ["distribution"], indirect=True)
def test_metadata_beside_a_tagged_column(both, program):
    """What IDEs ask first of a database in which a table that nobody asks for has a tag."""
    sql = SETUP + "CREATE SCHEMA vault; CREATE TABLE vault.secrets (word text);"
    mask = {"columns": ["vault.secrets.word"], "tag": "secret", "with": "redact"}
    direct, gated = (play(program, way, "metadata") for way in both(sql, masks=[mask]))
    assert gated == direct


def driver():
    if not shutil.which("java") or not shutil.which("javac"):
        raise Missing("a JDK (apt-get install default-jdk-headless)")
    if not JAR.exists():
        raise Missing("PostgreSQL's JDBC driver (apt-get install libpostgresql-jdbc-java)")


def play(program, way, *scenario):
    """What the program saw, by line."""
    url = f"jdbc:postgresql://{way.host}:{way.port}/{way.database}?sslmode=verify-full&sslrootcert={way.ca}"
    # Most of the time is the machine's start: no optimising compiler, the smallest collector.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8",
               "-Duser.timezone=UTC"]
    done = subprocess.run(["java", *options, "-cp", program, "JdbcWork", url, way.user, way.password, *scenario],
                          text=True, encoding="utf-8", capture_output=True, timeout=80)
    assert done.returncode == 0, f"{way.name}: {done.stderr[-3000:]}"
    # The driver makes specific names of routines from their object ids, which differ between databases.
    return re.sub(r"_\d{5,}", "_oid", done.stdout).splitlines()
