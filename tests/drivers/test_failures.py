"""What fails around the gateway: the issuer, the backend, the rules, a secret. Sessions and records outlive it."""

import pathlib
import tempfile

import pytest

from rig import idp, ledger, wire
from rig.gateway import DEFAULT_RULES
from rig.need import need

# What EXECUTE runs is known to the server alone: like DO and CALL it is an action of its own.
NO_WRITES = 'forbid (principal, action in [Action::"write", Action::"execute"], resource);'


@pytest.fixture(scope="module")
def server(servers):
    """One major is enough: nothing here depends on it."""
    return servers("distribution")


@pytest.fixture
def shop(server, fresh_database, gateway):
    """A function that starts a gateway in front of a fresh database with one table."""

    def start(**options):
        name = fresh_database("CREATE TABLE items (id integer PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'lamp')")
        return gateway({"shop": (server, name)}, **options)

    return start


@pytest.fixture
def own_provider(directory):
    """A provider that a test may stop."""
    started = need(lambda: idp.Provider(pathlib.Path(tempfile.mkdtemp(dir=directory))).start())
    yield started
    started.stop()


def entries(front, kind):
    return [entry for entry in ledger.entries(front.directory / "state") if entry["k"] == kind]


def test_a_dead_issuer_stops_nobody_it_vouched_for(shop, own_provider, gateway):
    front = shop(issuer=own_provider)
    token = own_provider.person("ada")
    with front.connect("shop", token) as line:
        own_provider.stop()
        assert line.query("SELECT name FROM items") == [["lamp"]]
        with front.connect("shop", token) as second:
            assert second.query("SELECT 2") == [["2"]]
    assert front.stop() == 0
    front.start()
    with front.connect("shop", token) as line:
        assert line.query("SELECT 3") == [["3"]]
    assert front.stop() == 0
    front.verify()


def test_a_gateway_that_never_saw_its_issuer_says_so_and_lets_nobody_in(shop, own_provider):
    token = own_provider.person("ada")
    own_provider.stop()
    front = shop(issuer=own_provider)
    status, said = front.ready()
    # Others may still be let in: it says what is missing and stays ready.
    assert status == 200 and "issuer" in said
    with pytest.raises(wire.ServerError) as refused:
        front.connect("shop", token)
    assert refused.value.sqlstate in ("28P01", "28000", "57P03")


def test_a_wrong_backend_password_shows_nothing_of_it(shop, server, provider):
    front = shop()
    front.run("secret", "rotate", front.secret(server), "--config", front.config, stdin="not the password\n")
    with pytest.raises(wire.ServerError) as refused:
        front.connect("shop", provider.person("ada"))
    assert refused.value.sqlstate != "28P01", "the client's own token was good"
    assert "not the password" not in str(refused.value.fields) and server.user not in str(refused.value.fields)
    front.run("secret", "rotate", front.secret(server), "--config", front.config, stdin=server.password + "\n")
    with front.connect("shop", provider.person("ada")) as line:
        assert line.query("SELECT 1") == [["1"]]
    assert front.stop() == 0
    assert [entry["change"] for entry in entries(front, "secret.change")] == ["set", "rotated", "rotated"]
    front.verify()


def test_a_backend_that_is_down_is_a_named_refusal(shop, provider, server, gateway):
    class Absent:
        host, port, user, password = "127.0.0.1", 1, "nobody", "x"

    front = gateway({"shop": (Absent, "shop")})
    with pytest.raises(wire.ServerError) as refused:
        front.connect("shop", provider.person("ada"))
    assert refused.value.sqlstate.startswith("08") or refused.value.sqlstate == "57P03"
    assert front.stop() == 0
    front.verify()


def test_a_rotated_secret_works_without_a_restart(shop, server, provider):
    front = shop()
    with front.connect("shop", provider.person("ada")) as old:
        server.psql("CREATE ROLE shopkeeper LOGIN SUPERUSER PASSWORD 'first word'")
        try:
            front.run("secret", "rotate", front.secret(server), "--user", "shopkeeper", "--config", front.config,
                      stdin="first word\n")
            with front.connect("shop", provider.person("ada")) as line:
                assert line.query("SELECT current_user") == [["shopkeeper"]]
            assert old.query("SELECT current_user") == [[server.user]]
        finally:
            server.psql("DROP ROLE shopkeeper")


def test_bad_rules_change_nothing_and_are_noticed(shop, provider):
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        (front.directory / "policies/rig.cedar").write_text("permit (principal, action, resource")
        front.reload()
        front.wait_for_log("the old ones stay")
        assert line.query("SELECT 1") == [["1"]]
        line.query("INSERT INTO items VALUES (2, 'chair')")
        with front.connect("shop", provider.person("ada")) as second:
            assert second.query("SELECT count(*) FROM items") == [["2"]]
        status, said = front.ready()
        assert status == 503 and "rule" in said
        (front.directory / "policies/rig.cedar").write_text(DEFAULT_RULES)
        front.reload()
        front.wait_for_log("rules are in force")
        assert front.ready()[0] == 200
    assert front.stop() == 0
    assert [entry["code"] for entry in entries(front, "alert")] != []
    front.verify()


@pytest.mark.parametrize("how", ["SIGHUP", "a changed file"])
def test_new_rules_bind_sessions_that_live(shop, provider, how):
    front = shop()
    with front.connect("shop", provider.person("ada")) as line:
        line.simple("PREPARE later AS INSERT INTO items VALUES (3, 'x')")
        line.query("INSERT INTO items VALUES (2, 'chair')")
        (front.directory / "policies/rig.cedar").write_text(DEFAULT_RULES + NO_WRITES)
        if how == "SIGHUP":
            front.reload()
        front.wait_for_log("rules are in force")
        for sql in ("INSERT INTO items VALUES (3, 'table')", "EXECUTE later"):
            with pytest.raises(wire.ServerError) as refused:
                line.query(sql)
            assert refused.value.sqlstate == "42501", sql
        assert line.query("SELECT count(*) FROM items") == [["2"]]
    assert front.stop() == 0
    digests = [entry["p"] for entry in entries(front, "policy.apply")]
    assert len(set(digests)) == 2
    assert entries(front, "act.deny")[-1]["p"] == digests[-1]
    front.verify()


def test_a_session_whose_opening_is_no_longer_allowed_ends(shop, provider):
    front = shop()
    line = front.connect("shop", provider.person("ada"))
    assert line.query("SELECT 1") == [["1"]]
    (front.directory / "policies/rig.cedar").write_text('forbid (principal, action, resource);')
    front.reload()
    front.wait_for_log("rules are in force")
    with pytest.raises((wire.ServerError, wire.Closed, OSError)):
        line.query("SELECT 2")
    with pytest.raises(wire.ServerError) as refused:
        front.connect("shop", provider.person("ada"))
    assert refused.value.sqlstate in ("28000", "42501")
    assert front.stop() == 0
    assert len(entries(front, "session.close")) == len(entries(front, "session.open"))
    front.verify()

