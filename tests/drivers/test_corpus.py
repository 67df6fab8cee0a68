"""Every statement of the corpus gives the same bytes through the gateway as from the server."""

import pytest

import corpus
from conftest import through

MODES = ["simple", "extended", "binary"]


def test_the_corpus_is_large():
    assert sum(len(corpus.cases(stem)) for stem in corpus.files()) >= 220


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stem", corpus.files())
def test_two_direct_runs_agree(stem, mode, server, fresh_database, gateway, provider, authority):
    """The comparison itself is sound: the same server answers the same twice."""
    _compare(stem, mode, ("direct", "direct"), server, fresh_database, gateway, provider, authority)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stem", corpus.files())
def test_the_gateway_changes_nothing(stem, mode, server, fresh_database, gateway, provider, authority):
    _compare(stem, mode, ("direct", "through the gateway"), server, fresh_database, gateway, provider, authority)


def _compare(stem, mode, ways, server, fresh_database, gateway, provider, authority):
    runs = []
    for way in ways:
        to = through(way, server, fresh_database(corpus.setup()), gateway, provider, authority)
        runs.append(list(corpus.play(to.connect, stem, mode)))
    first, second = runs
    assert [case for case, _ in first] == [case for case, _ in second]
    different = [(case, one, other) for (case, one), (_, other) in zip(first, second) if not _same(case, one, other)]
    for case, one, other in different:
        print(f"{case.name}\n  {case.sql[:200]}\n  {ways[0]}: {str(one)[:600]}\n  {ways[1]}: {str(other)[:600]}")
    assert [case.name for case, *_ in different] == []


def _same(case, one, other):
    """Equal to the byte; for what cannot be read, equal in kind: the gateway refuses it in the server's place."""
    if case.unreadable:
        return [kind for kind, _ in one] == [kind for kind, _ in other]
    return one == other
