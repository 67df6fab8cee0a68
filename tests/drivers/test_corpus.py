"""Every statement of the corpus gives the same bytes through the gateway as from the server."""

import functools
import pathlib
import tempfile

import pytest

import corpus
from rig import gateway as gateways
from rig import wire
from rig.need import need

MODES = ["simple", "extended", "binary"]


def test_the_corpus_is_large():
    assert sum(len(corpus.cases(stem)) for stem in corpus.files()) >= 400


@pytest.fixture(scope="module")
def front(server, directory, authority, provider):
    """One gateway without masks for all files and modes: each has a resource, and so a database, of its own."""
    server.psql("CREATE DATABASE corpus")
    server.psql(corpus.setup(), "corpus")
    resources = {_name(stem, mode): (server, f"gated_{_name(stem, mode)}") for stem in corpus.files() for mode in MODES}
    where = pathlib.Path(tempfile.mkdtemp(prefix="corpus-", dir=directory))
    certificate, key = authority.issue(f"gateway-{where.name}")
    started = need(lambda: gateways.Gateway(where / "home", provider, resources, ca=authority.certificate,
                                            certificate=certificate, key=key)).prepare().start()
    yield started
    started.stop()
    server.psql("DROP DATABASE corpus")


def _name(stem, mode):
    return f"{stem}_{mode}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stem", corpus.files())
def test_the_gateway_changes_nothing(stem, mode, server, front, authority, provider):
    name = _name(stem, mode)
    direct = _play(server, f"direct_{name}", stem, mode,
                   lambda database: wire.Connection(server.host, server.port, server.user, database, server.password,
                                                    tls=str(authority.certificate)))
    gated = _play(server, f"gated_{name}", stem, mode, lambda _: front.connect(name, provider.person("ada")))
    assert [case for case, _ in direct] == [case for case, _ in gated]
    different = [(case, one, other) for (case, one), (_, other) in zip(direct, gated) if not _same(case, one, other)]
    for case, one, other in different:
        print(f"{case.name}\n  {case.sql[:200]}\n  direct: {str(one)[:600]}\n  gated:  {str(other)[:600]}")
    assert [case.name for case, *_ in different] == []


def _play(server, database, stem, mode, connect):
    server.psql(f"CREATE DATABASE {database} TEMPLATE corpus")
    try:
        return list(corpus.play(functools.partial(connect, database), stem, mode))
    finally:
        server.psql(f"DROP DATABASE {database} WITH (FORCE)")


def _same(case, one, other):
    """Equal to the byte; for what cannot be read, equal in kind: the gateway refuses it in the server's place."""
    if case.unreadable:
        return [kind for kind, _ in one] == [kind for kind, _ in other]
    return one == other
