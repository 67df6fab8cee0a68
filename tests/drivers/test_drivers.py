"""Real drivers, directly and through the gateway: the same scenario, the same answers."""

import asyncio
import json
import pathlib
import shutil
import ssl
import subprocess

import pytest

from rig import Missing, postgres
from rig.need import need
from rig.process import RIG, node

CLIENTS = pathlib.Path(__file__).parent / "clients"
SETUP = "CREATE TABLE people (id integer PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'Grace'), (2, 'Ümit 🙂')"
EXPECTED = {
    "parameter": 42, "text": ["Grace", "Ümit 🙂"], "prepared": ["Grace", "Ümit 🙂"], "count": 2, "sqlstate": "22012",
    "after": 1,
}


def test_psql(path):
    to = path(SETUP)
    need(lambda: postgres.tool("psql"))
    assert postgres.psql(to.url, "SELECT name FROM people ORDER BY id;") == "Grace\nÜmit 🙂\n"
    failed = postgres.psql(to.url, "\\set VERBOSITY verbose\nSELECT 1 / 0;", check=False)
    assert failed.returncode == 3 and "22012" in failed.stderr
    assert postgres.psql(to.url, "COPY people TO STDOUT;") == "1\tGrace\n2\tÜmit 🙂\n"
    postgres.psql(to.url, "COPY people FROM STDIN;\n3\tAlan\n\\.\n")
    assert postgres.psql(to.url, "SELECT count(*) FROM people;") == "3\n"
    assert "id|integer" in postgres.psql(to.url, "\\d people\n")


def test_psycopg(path):
    psycopg = pytest.importorskip("psycopg")
    to = path(SETUP)
    said = {}
    with psycopg.connect(to.url, autocommit=True) as line:
        said["parameter"] = line.execute("SELECT %s::int + 1", [41]).fetchone()[0]
        said["text"] = [name for (name,) in line.execute("SELECT name FROM people ORDER BY id")]
        said["prepared"] = [
            line.execute("SELECT name FROM people WHERE id = %s", [i], prepare=True).fetchone()[0] for i in (1, 2)
        ]
        with line.transaction() as block:
            line.execute("INSERT INTO people VALUES (9, 'gone')")
            raise psycopg.Rollback(block)
        said["count"] = line.execute("SELECT count(*) FROM people").fetchone()[0]
        with pytest.raises(psycopg.errors.DivisionByZero) as failed:
            line.execute("SELECT 1 / 0")
        said["sqlstate"] = failed.value.sqlstate
        said["after"] = line.execute("SELECT 1").fetchone()[0]
        assert said == EXPECTED
        with line.pipeline():
            cursors = [line.execute("SELECT %s::int", [i]) for i in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(20))
        with line.cursor() as cursor:
            with cursor.copy("COPY people FROM STDIN") as copy:
                copy.write_row((3, "Alan"))
            with cursor.copy("COPY (SELECT id FROM people ORDER BY id) TO STDOUT") as copy:
                assert b"".join(copy) == b"1\n2\n3\n"
        with line.transaction(), line.cursor("named") as cursor:
            cursor.itersize = 2
            assert [n for (n,) in cursor.execute("SELECT generate_series(1, 5)")] == [1, 2, 3, 4, 5]
        binary = line.execute("SELECT 1::int8, 'x'::text, '{1,2}'::int[]", binary=True).fetchone()
        assert binary == (1, "x", [1, 2])


def test_psycopg_cancel(path):
    psycopg = pytest.importorskip("psycopg")
    to = path()
    with psycopg.connect(to.url, autocommit=True) as line:
        line.execute("SELECT 1")
        generator = line.pgconn
        generator.send_query(b"SELECT pg_sleep(30)")
        line.cancel_safe(timeout=10)
        answer = generator.get_result()
        assert answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert generator.get_result() is None
        assert line.execute("SELECT 2").fetchone() == (2,)


def test_asyncpg(path):
    asyncpg = pytest.importorskip("asyncpg")
    to = path(SETUP)

    async def scenario():
        context = ssl.create_default_context(cafile=to.ca) if to.ca else False
        line = await asyncpg.connect(host=to.host, port=to.port, user=to.user, database=to.database,
                                     password=to.password, ssl=context)
        said = {"parameter": await line.fetchval("SELECT $1::int + 1", 41)}
        said["text"] = [row["name"] for row in await line.fetch("SELECT name FROM people ORDER BY id")]
        statement = await line.prepare("SELECT name FROM people WHERE id = $1")
        said["prepared"] = [await statement.fetchval(i) for i in (1, 2)]
        block = line.transaction()
        await block.start()
        await line.execute("INSERT INTO people VALUES (9, 'gone')")
        await block.rollback()
        said["count"] = await line.fetchval("SELECT count(*) FROM people")
        try:
            await line.fetchval("SELECT 1 / 0")
        except asyncpg.PostgresError as error:
            said["sqlstate"] = error.sqlstate
        said["after"] = await line.fetchval("SELECT 1")
        await line.executemany("INSERT INTO people VALUES ($1, $2)", [(n, f"p{n}") for n in range(10, 30)])
        assert await line.fetchval("SELECT count(*) FROM people") == 22
        await line.copy_records_to_table("people", records=[(100, "copied")])
        await line.close()
        return said

    assert asyncio.run(scenario()) == EXPECTED


def test_node_postgres(path):
    def client():
        if not (RIG / "npm/node_modules/pg").exists():
            raise Missing("npm package pg (make setup)")
        return node()

    program = need(client)
    to = path(SETUP)
    target = {"host": to.host, "port": to.port, "user": to.user, "database": to.database, "password": to.password,
              "ca": to.ca}
    done = subprocess.run([program, CLIENTS / "node_pg.mjs", json.dumps(target)], cwd=RIG / "npm", text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED


def test_jdbc(path):
    jar = pathlib.Path("/usr/share/java/postgresql.jar")

    def client():
        if not shutil.which("java") or not shutil.which("javac"):
            raise Missing("a JDK (apt-get install default-jdk-headless)")
        if not jar.exists():
            raise Missing("PostgreSQL's JDBC driver (apt-get install libpostgresql-jdbc-java)")

    need(client)
    to = path(SETUP)
    words = f"?sslmode=verify-full&sslrootcert={to.ca}" if to.ca else "?sslmode=disable"
    url = f"jdbc:postgresql://{to.host}:{to.port}/{to.database}{words}"
    done = subprocess.run(["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", jar,
                           CLIENTS / "Jdbc.java", url, to.user, to.password],
                          text=True, encoding="utf-8", capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED
