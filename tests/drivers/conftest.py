"""Fixtures: servers, provider and gateway are started once a run and shared; each test gets databases of its own."""

import dataclasses
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rig import gateway as gateways  # noqa: E402
from rig import audited, idp, postgres, process, tls, wire  # noqa: E402
from rig.need import need  # noqa: E402

SERVERS = ("distribution", "newest")
SECONDS_A_TEST = 90


class TooLong(BaseException):
    """A test took too long. Not an `Exception`: no test that expects a connection to end may take it for one."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails by name and the rest still runs. A test may ask for longer: `@pytest.mark.seconds(300)`."""
    mark = item.get_closest_marker("seconds")
    limit = mark.args[0] if mark else SECONDS_A_TEST

    def stop(*_):
        raise TooLong(f"not done after {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclasses.dataclass
class Path:
    """One way to a database: straight to the server, or through the gateway."""

    name: str
    host: str
    port: int
    user: str
    database: str
    password: str
    ca: str | None

    @property
    def url(self):
        quoted = self.password.replace("\\", "\\\\").replace("'", "\\'")
        tls_words = f"sslmode=verify-full sslrootcert={self.ca}" if self.ca else "sslmode=disable"
        return (f"host={self.host} port={self.port} user={self.user} dbname={self.database} "
                f"password='{quoted}' {tls_words}")

    def connect(self, **options):
        return wire.Connection(self.host, self.port, self.user, self.database, self.password, tls=self.ca, **options)


@pytest.fixture(scope="session")
def directory():
    """A directory that servers running as another user can reach too."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="chancery-rig-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def authority(directory):
    made = need(lambda: tls.Authority(directory / "ca"))
    (directory / "ca").chmod(0o755)
    return made


@pytest.fixture(scope="session")
def servers(directory, authority):
    """A function from "distribution" or "newest" to a running server."""
    running = {}

    def get(major):
        if major not in running:
            certificate, key = authority.issue(f"postgres-{major}", process.server_user())
            running[major] = need(lambda: postgres.Server(directory / f"pg-{major}", major, certificate, key).start())
        return running[major]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session")
def provider(directory):
    started = need(lambda: idp.Provider(directory / "idp").start())
    yield started
    started.stop()


@pytest.fixture(scope="session")
def story(directory, authority, provider):
    """What happened in a house that is audited (rig/audited.py), and the packs of it."""
    house = need(lambda: audited.House(directory, provider, authority))
    try:
        yield audited.Story(house).play()
    finally:
        house.close()


@pytest.fixture(scope="session", params=SERVERS)
def server(request, servers):
    return servers(request.param)


_count = 0


@pytest.fixture
def fresh_database(server):
    """A function that makes an empty database, or one from SQL, and returns its name; dropped after the test."""
    names = []

    def make(sql=""):
        global _count
        _count += 1
        name = f"rig_{_count}"
        server.psql(f"CREATE DATABASE {name}")
        names.append(name)
        if sql:
            server.psql(sql, name)
        return name

    yield make
    for name in names:
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def gateway(directory, authority, provider, request):
    """A function that starts a gateway in front of `{resource: (server, database)}`; ended after the test."""
    started = []

    def start(resources, issuer=None, tls_downstream=True, **options):
        where = pathlib.Path(tempfile.mkdtemp(prefix="gateway-", dir=directory))
        if tls_downstream:
            certificate, key = authority.issue(f"gateway-{where.name}")
            options |= {"certificate": certificate, "key": key}
        made = need(lambda: gateways.Gateway(where / "home", issuer or provider, resources, ca=authority.certificate, **options))
        started.append(made)
        return made.prepare().start()

    yield start
    for one in started:
        one.stop()


@pytest.fixture(params=("direct", "through the gateway"))
def path(request, server, fresh_database, gateway, provider, authority):
    """A function that makes a database from SQL and returns a `Path` to it; the test runs once for each way."""

    def make(sql=""):
        name = fresh_database(sql)
        return through(request.param, server, name, gateway, provider, authority)

    return make


@pytest.fixture
def both(server, fresh_database, gateway, provider, authority):
    """A function that makes two equal databases from SQL and returns a `Path` to each: (direct, through the gateway).

    With `shared` both ways lead to one database, for what only reads. Masks need not name the resource.
    """

    def make(sql="", shared=False, tls_downstream=True, masks=(), **options):
        name = fresh_database(sql)
        other = name if shared else fresh_database(sql)
        # Some clients write the name of the database down: the resource is called like it.
        masks = [{"resource": other, **mask} for mask in masks]
        front = gateway({other: (server, other)}, tls_downstream=tls_downstream, masks=masks, **options)
        ca = str(authority.certificate) if tls_downstream else None
        return (Path("direct", server.host, server.port, server.user, name, server.password, ca),
                Path("through the gateway", front.host, front.port, "ada", other, provider.person("ada"), ca))

    return make


def through(way, server, database, gateway, provider, authority):
    """The `Path` to a database, directly or through a gateway started for it."""
    if way == "direct":
        return Path(way, server.host, server.port, server.user, database, server.password, str(authority.certificate))
    started = gateway({"target": (server, database)})
    return Path(way, started.host, started.port, "ada", "target", provider.person("ada"), str(authority.certificate))
