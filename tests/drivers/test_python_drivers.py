"""asyncpg and psycopg beyond a first query: cursors, timeouts, bulk copies, introspection, notifications, pipelines."""

import asyncio
import datetime
import decimal
import ssl

import pytest

asyncpg = pytest.importorskip("asyncpg")
psycopg = pytest.importorskip("psycopg")

SETUP = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE place AS (street text, number integer);
CREATE DOMAIN zip AS text CHECK (VALUE ~ '^[0-9]+$');
CREATE TABLE people (id integer PRIMARY KEY, name text);
INSERT INTO people VALUES (1, 'Grace'), (2, 'Ümit 🙂');
CREATE TABLE kinds (mood mood, home place, homes place[], zip zip, during tstzrange, price numeric, about jsonb, moods mood[]);
"""
# A table that no test asks for, with a tag: sessions that have nothing to do with it should notice nothing.
ELSEWHERE = "CREATE SCHEMA vault; CREATE TABLE vault.secrets (word text);"
TAG = {"columns": ["vault.secrets.word"], "tag": "secret", "with": "redact"}
SECONDS_A_WAIT = 20


def test_asyncpg(both):
    direct, gated = (asyncio.run(play(way)) for way in both(SETUP))
    assert direct["cursor"] == [list(range(1, 26)), [26, 27], 28, [1, 2, 3]]
    assert direct["timeouts"] == ["TimeoutError", "TimeoutError", "after"]
    assert direct["copied"][0] == "COPY 1000" and len(direct["copied"][-1]) > 10_000
    for scenario, said in direct.items():
        assert gated[scenario] == said, scenario


async def play(way):
    """What each scenario saw, on one connection."""
    line = await connect(way)
    said = {
        "cursor": await cursor(line), "timeouts": await timeouts(line), "copied": await copied(line),
        "introspected": await introspected(line), "errors": await errors(line), "pooled": await pooled(way),
        "heard": await heard(line, way),
    }
    await line.close()
    return said


async def connect(way):
    return await asyncpg.connect(host=way.host, port=way.port, user=way.user, database=way.database, password=way.password,
                                 ssl=ssl.create_default_context(cafile=way.ca))


async def cursor(line):
    async with line.transaction():
        rows = [row[0] async for row in line.cursor("SELECT n FROM generate_series(1, $1::int) n", 25, prefetch=4)]
        by_hand = await line.cursor("SELECT n FROM generate_series(1, 40) n")
        await by_hand.forward(25)
        page, one = await by_hand.fetch(2), await by_hand.fetchrow()
        statement = await line.prepare("SELECT n FROM generate_series(1, 3) n")
        return [rows, [row[0] for row in page], one[0], [row[0] async for row in statement.cursor()]]


async def timeouts(line):
    said = []
    for ask in (line.fetch("SELECT pg_sleep(60)", timeout=0.7), line.execute("SELECT pg_sleep(60)", timeout=0.7)):
        try:
            await ask
        except Exception as error:
            said.append(type(error).__name__)
    return [*said, await line.fetchval("SELECT 'after'")]


async def copied(line):
    await line.execute("CREATE TABLE copied (id int, name text, at timestamptz, price numeric, tags text[])")
    at = datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)
    records = [(n, None if n % 7 == 0 else f"näme {n}", at, decimal.Decimal(n) / 8, ["a", None] * (n % 3)) for n in range(1000)]
    said = [await line.copy_records_to_table("copied", records=records)]
    try:
        await line.copy_records_to_table("copied", records=[(1, "a", at, 1, []), ("not a number", "b", at, 1, [])])
    except Exception as error:
        said.append(type(error).__name__)

    async def source():
        for piece in (b"7000,se", b"ven,,", b",{}\n"):
            yield piece

    said.append(await line.copy_to_table("copied", source=source(), format="csv"))
    said.append(await line.fetchval("SELECT md5(string_agg(c::text, ';' ORDER BY id)) FROM copied c"))
    out = []

    async def keep(piece):
        out.append(piece)

    said.append(await line.copy_from_query("SELECT * FROM copied WHERE id < $1 ORDER BY id", 500, output=keep, format="binary"))
    return [*said, b"".join(out)]


async def introspected(line):
    """For types it does not know asyncpg asks the catalog by a long recursive statement."""
    statement = await line.prepare("INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *")
    span = asyncpg.Range(datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), None)
    row = await statement.fetchrow("sad", ("Main \"St\"", 1), [("a", 2), None], "0815", span, decimal.Decimal("1.50"),
                                   '{"a": 1}', ["glad", "sad"])
    kinds = [[(one.name, one.kind, one.schema) for one in statement.get_parameters()],
             [(one.name, one.type.name, one.type.kind) for one in statement.get_attributes()]]
    await line.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=lambda text: ("decoded", text))
    await line.reload_schema_state()
    return [kinds, repr(row), repr(await line.fetchrow("SELECT * FROM kinds"))]


async def errors(line):
    said = []
    for ask in (line.fetchval("SELECT 1 / $1::int", 0), line.execute("INSERT INTO people VALUES (1, 'twice')"),
                line.executemany("INSERT INTO people VALUES ($1, $2)", [(5, "a"), (6, "b"), (5, "twice")])):
        try:
            await ask
        except asyncpg.PostgresError as error:
            said.append({k: v for k, v in error.as_dict().items() if k != "where"})
    # A batch is one transaction: nothing of it stays.
    return [*said, await line.fetchval("SELECT array_agg(id ORDER BY id) FROM people")]


async def pooled(way):
    """What a connection leaves behind is reset when it goes back to the pool, in one text of several statements."""
    async with asyncpg.create_pool(host=way.host, port=way.port, user=way.user, database=way.database, password=way.password,
                                   ssl=ssl.create_default_context(cafile=way.ca), min_size=1, max_size=2) as pool:
        async with pool.acquire() as line:
            await line.execute("SET work_mem = '1234kB'; CREATE TEMP TABLE left_behind (n int)")
        together = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(20)))
        return [together, sorted({await pool.fetchval("SHOW work_mem") for _ in range(2)})]


async def heard(line, way):
    said, every = [], asyncio.Event()

    def listener(_line, _pid, channel, payload):
        said.append((channel, payload))
        if len(said) == 2:
            every.set()

    await line.add_listener("channel", listener)
    other = await connect(way)
    await other.execute("NOTIFY channel, 'one'")
    await other.execute("SELECT pg_notify('channel', $1)", "zwei ß")
    await other.close()
    await asyncio.wait_for(every.wait(), SECONDS_A_WAIT)
    await line.remove_listener("channel", listener)
    return said


def test_psycopg(both):
    direct, gated = (play_psycopg(way) for way in both(SETUP))
    assert direct["pipeline"][0] == [10, 11, 12] and direct["pipeline"][2] == [1, 2, 10, 11, 12]
    assert direct["raw pipeline"] == [
        ("TUPLES_OK", b"1", None), ("FATAL_ERROR", None, b"22012"), ("PIPELINE_ABORTED", None, None),
        ("PIPELINE_SYNC", None, None),
        ("TUPLES_OK", b"4", None), ("COMMAND_OK", None, None), ("FATAL_ERROR", None, b"42P01"), ("PIPELINE_SYNC", None, None),
        ("TUPLES_OK", b"7", None), ("PIPELINE_SYNC", None, None),
    ]
    assert direct["notified"] == [("channel", "eins"), ("channel", "zwei ß")]
    assert direct["server side"][0] == [1, 2, 3, 4, 5, 6, 7]
    for scenario, said in direct.items():
        assert gated[scenario] == said, scenario


def play_psycopg(way):
    with psycopg.connect(way.url, autocommit=True) as line:
        return {
            "pipeline": pipeline(line), "raw pipeline": raw_pipeline(line), "notified": notified(line, way),
            "server side": server_side(line), "copied": copied_by_psycopg(line), "streamed": streamed(line),
            "two phase": two_phase(line),
        }


def pipeline(line):
    """After an error the server skips to the next Sync; which statement said what, `raw_pipeline` tells."""
    said = []
    with pytest.raises(psycopg.errors.DivisionByZero):
        with line.pipeline():
            line.execute("SELECT %s::int", [1])
            line.execute("SELECT 1 / %s::int", [0])
            line.execute("INSERT INTO people VALUES (%s, 'gone')", [99])
    with line.pipeline():
        many = line.cursor()
        many.executemany("INSERT INTO people VALUES (%s, %s) RETURNING id", [(n, "p") for n in (10, 11, 12)], returning=True)
        said.append([rows.fetchone()[0] for rows in many.results()])
    try:
        with line.pipeline(), line.transaction():
            line.execute("INSERT INTO people VALUES (50, 'gone')")
            line.execute("INSERT INTO people VALUES (1, 'twice')")
    except psycopg.Error as error:
        said.append((error.sqlstate, error.diag.constraint_name, error.diag.message_detail))
    said.append(line.execute("SELECT array_agg(id ORDER BY id) FROM people").fetchone()[0])
    return said


def raw_pipeline(line):
    """What libpq itself says of three rounds in one flight: one with an error, one whose last fails, one that is well."""
    raw, said, syncs = line.pgconn, [], 0
    raw.nonblocking = 0
    raw.enter_pipeline_mode()
    for sql in ("SELECT 1", "SELECT 1 / 0", "DELETE FROM people", None, "SELECT 4", "CREATE TEMP TABLE made ()",
                "TABLE nowhere", None, "SELECT 7", None):
        raw.pipeline_sync() if sql is None else raw.send_query_params(sql.encode(), None)
    while syncs < 3:
        result = raw.get_result()
        if result is None:
            continue
        status = psycopg.pq.ExecStatus(result.status).name
        syncs += status == "PIPELINE_SYNC"
        value = result.get_value(0, 0) if status == "TUPLES_OK" else None
        said.append((status, value, result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)))
    raw.exit_pipeline_mode()
    return said


def notified(line, way):
    said = []
    line.execute("LISTEN channel")
    with psycopg.connect(way.url, autocommit=True) as other:
        other.execute("NOTIFY channel, 'eins'")
        other.execute("SELECT pg_notify('channel', %s)", ["zwei ß"])
    said += [(one.channel, one.payload) for one in line.notifies(timeout=SECONDS_A_WAIT, stop_after=2)]
    line.execute("UNLISTEN *")
    return said


def server_side(line):
    said = []
    with line.transaction():
        with line.cursor("first") as one, line.cursor("second", scrollable=True, withhold=True) as other:
            one.itersize = 3
            one.execute("SELECT generate_series(1, %s)", [7])
            other.execute("SELECT n, 'row ' || n FROM generate_series(1, 20) n")
            said.append([n for (n,) in one])
            said += [other.fetchmany(4), other.fetchone()]
            other.scroll(-3)
            said.append(other.fetchone())
            other.scroll(18, mode="absolute")
            said.append(other.fetchall())
        with line.cursor("third", binary=True) as binary:
            binary.execute("SELECT 1::int8, 'x'::text, '{1,NULL}'::int[]")
            said.append(binary.fetchone())
    return said


def copied_by_psycopg(line):
    line.execute("CREATE TABLE copied (id int, name text, at timestamptz)")
    with line.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "timestamptz"])
            for n in range(500):
                copy.write_row((n, None if n % 3 else "ü" * n, datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)))
        with pytest.raises(ZeroDivisionError):
            with cursor.copy("COPY copied FROM STDIN") as copy:
                copy.write_row((1000, "gone", None))
                raise ZeroDivisionError
        with cursor.copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            return b"".join(copy)


def streamed(line):
    with line.cursor() as cursor:
        return [row for row in cursor.stream("SELECT n, repeat('x', n) FROM generate_series(1, 50) n")]


def two_phase(line):
    """Refused by a server that prepares no transactions, in the same words."""
    line.execute("BEGIN; INSERT INTO people VALUES (70, 'gone')")
    try:
        line.execute("PREPARE TRANSACTION 'one'")
    except psycopg.Error as error:
        said = [error.sqlstate, str(error)]
    line.execute("ROLLBACK")
    return [*said, line.info.transaction_status.name]


@pytest.mark.parametrize("server", ["distribution"], indirect=True)
def test_asyncpg_asks_for_types_beside_a_tagged_column(both):
    direct, gated = (asyncio.run(two_types(way)) for way in both(SETUP + ELSEWHERE, masks=[TAG]))
    assert gated == direct


async def two_types(way):
    line = await connect(way)
    try:
        return [await line.fetch("SELECT mood FROM kinds"), await line.fetch("SELECT zip, homes FROM kinds")]
    finally:
        await line.close()


@pytest.mark.parametrize("server", ["distribution"], indirect=True)
def test_errors_of_parameters_beside_a_tagged_column(both):
    direct, gated = (parameter_errors(way) for way in both(SETUP + ELSEWHERE, masks=[TAG]))
    assert gated == direct


def parameter_errors(way):
    said = []
    with psycopg.connect(way.url, autocommit=True) as line:
        for sql in ("INSERT INTO people VALUES (%s, 'twice')", "SELECT 1 / (%s - 1)", "SELECT %s::text::date"):
            with pytest.raises(psycopg.Error) as failed:
                line.execute(sql, [1])
            said.append((failed.value.sqlstate, failed.value.diag.message_primary))
    return said
