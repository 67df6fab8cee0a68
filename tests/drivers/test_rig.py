"""The rig itself: what the other tests stand on works without the gateway."""

import pytest

from rig import idp, wire


def test_the_server_takes_scram_and_tls(server, authority):
    with wire.Connection(server.host, server.port, server.user, "postgres", server.password,
                         tls=str(authority.certificate)) as line:
        assert line.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [["t"]]


def test_the_server_refuses_a_wrong_password(server):
    with pytest.raises(wire.ServerError) as refused:
        wire.Connection(server.host, server.port, server.user, "postgres", "wrong")
    assert refused.value.sqlstate == "28P01"


def test_a_running_query_can_be_cancelled(server):
    with wire.Connection(server.host, server.port, server.user, "postgres", server.password) as line:
        line.send(wire.message("Q", wire.cstring("SELECT pg_sleep(30)")))
        wire.cancel(server.host, server.port, line.backend)
        errors = [wire.fields(body)["C"] for kind, body in line.until_ready() if kind == "E"]
        assert errors == ["57014"]


def test_a_person_has_groups_and_no_chain(provider):
    token = provider.person("ada")
    assert idp.claims(token)["groups"] == ["analyst"] and idp.chain(token) == []


def test_delegation_nests_the_actors(provider):
    token = provider.delegate(provider.delegate(provider.person("ada"), "agent"), "sub-agent")
    assert idp.claims(token)["sub"] == "ada" and idp.chain(token) == ["sub-agent", "agent"]


def test_a_service_has_groups(provider):
    claims = idp.claims(provider.service("pipeline"))
    assert (claims["sub"], claims["groups"], claims["aud"]) == ("pipeline", ["ci"], "chancery")


def test_keys_rotate(provider):
    before = {key["kid"] for key in provider.keys()}
    provider.rotate()
    assert before < {key["kid"] for key in provider.keys()}
