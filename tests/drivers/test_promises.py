"""What the gateway promises, seen by a client that keeps every byte."""

import pathlib
import tempfile

import pytest

from rig import idp, postgres, wire
from rig.need import need

CUSTOMERS = """
CREATE TABLE customers (id integer PRIMARY KEY, name text, email text);
INSERT INTO customers VALUES (1, 'Grace', 'grace@secret.test'), (2, 'Alan', 'alan@secret.test');
CREATE VIEW contacts AS SELECT name, email FROM customers;
"""
READ_ONLY = """
permit (principal, action in [Action::"connect", Action::"read", Action::"export"], resource);
"""
MASK = {"resource": "shop", "columns": ["public.customers.email"], "tag": "pii", "with": "redact"}


@pytest.fixture
def shop(server, fresh_database, gateway):
    """A function that starts a gateway in front of a shop's database and returns both."""

    def start(**options):
        name = fresh_database(CUSTOMERS)
        return gateway({"shop": (server, name)}, **options), name

    return start


def said_errors(said):
    return [wire.fields(body) for kind, body in said if kind == "E"]


def test_a_denied_write_changes_nothing_and_the_session_goes_on(shop, server, provider):
    front, name = shop(rules=READ_ONLY)
    with front.connect("shop", provider.person("ada")) as line:
        for ask in (line.simple, line.extended):
            errors = said_errors(ask("DELETE FROM customers"))
            assert [error["C"] for error in errors] == ["42501"]
            assert line.query("SELECT count(*) FROM customers") == [["2"]]
        pipelined = line.extended_messages("DELETE FROM customers") + line.extended_messages("SELECT 1")
        line.send(pipelined + wire.message("S"))
        after = line.until_ready()
        assert [kind for kind, _ in after if kind in "EDZ"] == ["E", "Z"]
    assert server.psql("SELECT count(*) FROM customers;", name) == "2\n"


def test_a_masked_value_never_arrives(shop, provider):
    front, _ = shop(masks=[MASK])
    attempts = [
        "SELECT * FROM customers", "SELECT email FROM customers", "SELECT c.email AS name FROM customers c",
        "SELECT email || '' FROM customers", "SELECT upper(email) FROM customers", "SELECT * FROM contacts",
        "SELECT customers FROM customers", "SELECT row_to_json(c) FROM customers c", "SELECT string_agg(email, ',') FROM customers",
        "WITH x AS (SELECT email AS e FROM customers) SELECT e FROM x", "COPY customers TO STDOUT",
        "COPY (SELECT email FROM customers) TO STDOUT", "SELECT (SELECT email FROM customers WHERE id = 1)",
        "SELECT max(email) FROM customers", "UPDATE customers SET name = name RETURNING email",
        "SELECT 1 / (CASE WHEN email IS NULL THEN 1 ELSE 0 END) FROM customers",
        "SELECT email::integer FROM customers",
    ]
    with front.connect("shop", provider.person("ada")) as line:
        for sql in attempts:
            for ask in (line.simple, line.extended):
                raw = b"".join(body for _, body in ask(sql)).lower()
                assert b"secret.test" not in raw, sql
        named = line.query("SELECT name FROM customers ORDER BY id")
        assert named == [["Grace"], ["Alan"]]


@pytest.mark.parametrize("token", ["", "not-a-token", "a.b.c", "x" * 20000])
def test_what_is_no_token_is_refused(shop, token):
    front, _ = shop()
    with pytest.raises((wire.ServerError, wire.Closed, ConnectionError)) as refused:
        front.connect("shop", token)
    if isinstance(refused.value, wire.ServerError):
        # What is longer than any token is not even read.
        assert refused.value.sqlstate == ("54000" if len(token) > 16384 else "28P01")


def test_a_token_of_another_issuer_is_refused(shop, directory):
    front, _ = shop()
    stranger = need(lambda: idp.Provider(pathlib.Path(tempfile.mkdtemp(dir=directory))).start())
    try:
        with pytest.raises(wire.ServerError) as refused:
            front.connect("shop", stranger.person("ada"))
        assert refused.value.sqlstate in ("28P01", "28000")
    finally:
        stranger.stop()


def test_a_token_with_a_changed_signature_is_refused(shop, provider):
    front, _ = shop()
    token = provider.person("ada")
    head, body, signature = token.split(".")
    with pytest.raises(wire.ServerError):
        front.connect("shop", f"{head}.{body}.{signature[:-4]}AAAA")


def test_an_unknown_resource_looks_like_a_forbidden_one(shop, provider):
    nobody = "nobody@" + provider.issuer
    front, _ = shop(rules=f'permit (principal == User::"{nobody}", action, resource);')
    refused = []
    for name in ("shop", "no-such-thing"):
        with pytest.raises(wire.ServerError) as error:
            front.connect(name, provider.person("ada"))
        refused.append((error.value.sqlstate, error.value.fields["M"].replace(name, "NAME")))
    assert refused[0][0] == refused[1][0]


def test_a_delegated_token_is_accepted(shop, provider):
    front, _ = shop()
    token = provider.delegate(provider.delegate(provider.person("ada"), "agent"), "sub-agent")
    with front.connect("shop", token) as line:
        assert line.query("SELECT 1") == [["1"]]


def test_a_new_key_of_the_issuer_is_accepted(shop, provider):
    front, _ = shop()
    with front.connect("shop", provider.person("ada")) as line:
        assert line.query("SELECT 1") == [["1"]]
    # A token with an unknown key makes the gateway fetch at most twice a minute; it has fetched nothing after this.
    assert front.stop() == 0
    front.start()
    provider.rotate()
    with front.connect("shop", provider.person("ada")) as line:
        assert line.query("SELECT 2") == [["2"]]


def test_the_backend_password_never_reaches_the_client_or_the_log(shop, server, provider):
    front, _ = shop()
    with front.connect("shop", provider.person("ada")) as line:
        raw = b"".join(body for _, body in line.simple("SELECT current_user, current_setting('application_name')"))
        assert server.password.encode() not in raw
    front.stop()
    for path in front.directory.rglob("*"):
        if path.is_file():
            assert server.password.encode() not in path.read_bytes(), path


def test_the_ledger_is_whole_after_an_orderly_end(shop, provider):
    front, _ = shop()
    with front.connect("shop", provider.person("ada")) as line:
        for n in range(50):
            line.query(f"SELECT {n}")
        line.query("UPDATE customers SET name = 'G' WHERE id = 1")
    assert front.stop() == 0
    front.verify()


@pytest.mark.parametrize("durability", ["balanced", "strict"])
def test_the_ledger_is_whole_after_a_kill(shop, server, provider, durability):
    front, name = shop(durability=durability)
    line = front.connect("shop", provider.person("ada"))
    for n in range(20):
        line.query(f"INSERT INTO customers VALUES ({100 + n}, 'n', 'e')")
    line.send(wire.message("Q", wire.cstring("SELECT pg_sleep(20)")))
    front.kill()
    line.abort()
    front.start()
    with front.connect("shop", provider.person("ada")) as line:
        assert line.query("SELECT count(*) FROM customers") == [["22"]]
    assert front.stop() == 0
    front.verify()


def test_a_changed_byte_in_the_ledger_is_found(shop, provider):
    front, _ = shop()
    with front.connect("shop", provider.person("ada")) as line:
        for n in range(20):
            line.query(f"SELECT {n}")
    assert front.stop() == 0
    front.verify()
    files = [path for path in (front.directory / "state").rglob("*") if path.is_file() and "ledger" in str(path)]
    biggest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(biggest.read_bytes())
    at = len(content.rstrip(b"\0")) // 2
    content[at] ^= 1
    biggest.write_bytes(content)
    assert front.run("ledger", "verify", "--config", front.config, check=False).returncode == 1
