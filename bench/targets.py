"""What is measured: the server itself, two plain proxies, and the gateway in four settings."""

import dataclasses
import os
import pathlib
import shutil

from rig import Broken, Missing, gateway, idp
from rig.process import Process, accepts, cpu_seconds, free_port, own, pss_kib, server_user

MASKS = [{"resource": "bench", "columns": ["public.pgbench_accounts.filler"], "tag": "pii", "with": "redact"}]


@dataclasses.dataclass
class Target:
    """One way to the server. `pid` is the proxy whose CPU and memory are charged; None for the server itself."""

    name: str
    port: int
    password: object  # a text, or a function that returns a fresh one
    user: str = "postgres"
    database: str = "postgres"
    sslmode: str = "disable"
    pid: int | None = None
    process: Process | None = None

    def secret(self):
        return self.password() if callable(self.password) else self.password

    def url(self):
        return f"host=127.0.0.1 port={self.port} user={self.user} dbname={self.database} sslmode={self.sslmode}"

    def cpu(self):
        return cpu_seconds(self.pid) if self.pid else 0.0

    def pss(self):
        return pss_kib(self.pid) if self.pid else None

    def stop(self):
        if self.process:
            self.process.stop()


def program(name, package):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Missing(f"{name} (apt-get install {package})")
    return found


def direct(server):
    return Target("direct", server.port, server.password)


def haproxy(directory, server):
    """Plain forwarding of bytes: the floor of any proxy."""
    port, where = free_port(), pathlib.Path(directory) / "haproxy"
    where.mkdir()
    (where / "cfg").write_text(
        f"global\n  maxconn 9000\ndefaults\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"  maxconn 4000\nlisten pg\n  mode tcp\n  bind 127.0.0.1:{port} backlog 4096\n  server a 127.0.0.1:{server.port}\n"
    )
    process = Process("haproxy", [program("haproxy", "haproxy"), "-db", "-f", where / "cfg"], where / "log")
    process.wait_until(lambda: accepts(port))
    return Target("haproxy", port, server.password, pid=process.pid, process=process)


def pgbouncer(directory, server):
    """A pooler in session mode: it reads the protocol's frames, decides nothing and records nothing."""
    port, user, where = free_port(), server_user(), pathlib.Path(directory) / "pgbouncer"
    where.mkdir()
    own(where, user)
    (where / "users").write_text(f'"{server.user}" "{server.password}"\n')
    (where / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {where}/users\npool_mode = session\n"
        "default_pool_size = 1100\nmax_client_conn = 4000\nlog_connections = 0\nlog_disconnections = 0\n"
        "listen_backlog = 4096\nignore_startup_parameters = extra_float_digits,search_path\n"
    )
    for name in ("users", "ini"):
        own(where / name, user)
    process = Process("pgbouncer", [program("pgbouncer", "pgbouncer"), "-q", where / "ini"], where / "log", user=user)
    process.wait_until(lambda: accepts(port))
    return Target("pgbouncer", port, server.password, pid=process.pid, process=process)


class Chancery:
    """The gateway in one setting. Its provider's tokens are renewed for every measurement."""

    SETTINGS = {
        "chancery": {},
        "chancery-mask": {"masks": MASKS},
        "chancery-tls": {"tls": True},
        "chancery-strict": {"durability": "strict"},
    }

    def __init__(self, directory, server, provider, authority):
        self.directory, self.server = pathlib.Path(directory), server
        self.provider, self.authority = provider, authority

    def start(self, name, profile="release"):
        options = dict(self.SETTINGS[name])
        tls = options.pop("tls", False)
        if tls:
            options["certificate"], options["key"] = self.authority.issue(name)
        made = gateway.Gateway(self.directory / name, self.provider, {"bench": (self.server, "postgres")},
                               ca=self.authority.certificate, profile=profile, **options)
        made.prepare().start()
        return Target(name, made.port, lambda: self.provider.service("pipeline"), user="pipeline", database="bench",
                      sslmode="require" if tls else "disable", pid=made.process.pid, process=made.process)


def start_all(names, directory, server, authority, profile):
    """Starts the targets asked for. What is missing is returned by name beside them, never left out in silence."""
    started, missing, provider = [], [], None
    for name in names:
        try:
            if name == "direct":
                started.append(direct(server))
            elif name == "haproxy":
                started.append(haproxy(directory, server))
            elif name == "pgbouncer":
                started.append(pgbouncer(directory, server))
            elif name in Chancery.SETTINGS:
                gateway.binary(profile)
                provider = provider or idp.Provider(os.path.join(directory, "idp")).start()
                started.append(Chancery(directory, server, provider, authority).start(name, profile))
            else:
                raise Missing(f"a target of this name; there are: direct, haproxy, pgbouncer, {', '.join(Chancery.SETTINGS)}")
        except (Missing, Broken) as error:
            missing.append(f"{name}: {error}")
    return started, missing, provider
