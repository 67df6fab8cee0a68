"""The gateway under test. Everything the rig assumes about the program stands in this one file.

The assumptions, in the order they are used:
  chancery init DIR                              makes DIR with chancery.toml, policies/, keys and a new ledger
  chancery secret set NAME --user U --config F   reads the password as one line on standard input
  chancery check --config FILE                   exit 0 when the configuration is good
  chancery serve --config FILE                   runs in the foreground; ends on SIGTERM with exit 0
  chancery session list|show|replay … --config F beside a running gateway or without one
  chancery ledger verify --config FILE           exit 0 when the ledger is whole
The rig writes its own chancery.toml over the one that `init` made.
"""

import json
import os
import pathlib
import signal
import ssl
import subprocess
import urllib.error
import urllib.request

from . import Broken, Missing, wire
from .process import ROOT, Process, accepts, cpu_seconds, free_port, pss_kib

DEFAULT_RULES = """\
permit (principal, action in [Action::"connect", Action::"read", Action::"write", Action::"define", Action::"export",
        Action::"import", Action::"execute", Action::"grant", Action::"administer"], resource);
"""


def binary(profile="debug"):
    """The program: CHANCERY_BIN, or what cargo built."""
    path = pathlib.Path(os.environ.get("CHANCERY_BIN") or ROOT / "target" / profile / "chancery")
    if not path.exists():
        how = {"dist": "make dist", "release": "cargo build --release -p chancery-cli"}.get(profile, "cargo build -p chancery-cli")
        raise Missing(f"the gateway's binary ({how})")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    if done.returncode != 0 or "chancery" not in done.stdout:
        raise Missing(f"a gateway in {path.name}: --version said nothing")
    return path


class Gateway:
    """One gateway on loopback in front of one or more PostgreSQL servers.

    `resources` maps a resource's name to (server, database); `masks` and `reviews` are lists of tables for
    chancery.toml; `rules` is Cedar text; `durability` is "balanced" or "strict"; `seal` is a table for each resource.
    """

    def __init__(self, directory, provider, resources, *, rules=DEFAULT_RULES, masks=(), reviews=(), ca=None,
                 certificate=None, key=None, durability="balanced", profile="debug", upstream_tls=False, ledger=None,
                 archive=None, archive_how=None, environment=None, exports=(),
                 retention=None, name="gw-a", seal=None):
        self.directory, self.provider, self.resources = pathlib.Path(directory), provider, resources
        self.rules, self.masks, self.reviews, self.durability = rules, masks, reviews, durability
        self.ca, self.certificate, self.key, self.upstream_tls = ca, certificate, key, upstream_tls
        self.ledger, self.archive, self.archive_how, self.exports = ledger, archive, archive_how, exports
        self.name, self.seal, self.retention = name, seal, retention
        self.environment = {**os.environ, **(environment or {})}
        self.program = binary(profile)
        self.host, self.port, self.https, self.process = "127.0.0.1", free_port(), free_port(), None
        self.config = self.directory / "chancery.toml"

    # --- what the program is told ------------------------------------------------------------------------------------

    def configuration(self):
        """The text of chancery.toml."""
        tables = [("gateway", {"name": "rig", "state": str(self.directory / "state")})]
        if self.archive:
            tables[0][1]["archive"] = self.archive
            tables.append(("archive", self.archive_how or {}))
        if self.certificate:
            tables.append(("tls", {"certificate": str(self.certificate), "key": str(self.key)}))
        listen = {"postgres": f"{self.host}:{self.port}"}
        if self.certificate:
            listen["https"] = f"{self.host}:{self.https}"
        tables.append(("listen", listen))
        issuer = {"url": self.provider.issuer, "audience": self.provider.audience, "groups": "groups"}
        tables.append(("[issuer]", issuer))
        for name, (server, database) in self.resources.items():
            tables.append(("[resource]", {
                "name": name, "protocol": "postgres", "address": f"{server.host}:{server.port}", "database": database,
                "secret": self.secret(server), "labels": {"env": "rig"}, "durability": self.durability,
                "tls": {"mode": "verify-full", "ca": str(self.ca)} if self.upstream_tls else {"mode": "disable"},
                **({"seal": self.seal} if self.seal else {}),
            }))
        if self.ledger:
            tables.append(("ledger", self.ledger))
        tables += [("[export]", export) for export in self.exports]
        if self.retention:
            tables.append(("retention", self.retention))
        tables += [("[mask]", mask) for mask in self.masks]
        tables.append(("policy", {"directory": "policies"}))
        tables += [("[review]", review) for review in self.reviews]
        return "\n".join(f"[{name}]\n{toml(table)}" for name, table in tables)

    def prepare(self):
        """A state directory, a configuration and the secrets."""
        self.prepare_state()
        return self.prepare_rest()

    def prepare_state(self):
        """The state directory alone: its roots are there."""
        self.run("init", self.directory, "--name", self.name)

    def prepare_rest(self):
        """What `prepare` does besides."""
        self.config.write_text(self.configuration())
        policies = self.directory / "policies"
        policies.mkdir(exist_ok=True)
        for example in policies.glob("*.cedar"):
            example.unlink()
        (policies / "rig.cedar").write_text(self.rules)
        for server in {server.port: server for server, _ in self.resources.values()}.values():
            self.run("secret", "set", self.secret(server), "--user", server.user, "--config", self.config,
                     stdin=server.password + "\n")
        return self

    @staticmethod
    def secret(server):
        """The name of a server's credential."""
        return f"server-{server.port}"

    def start(self):
        """Serves, and waits until the port answers."""
        arguments = [self.program, "serve", "--config", self.config]
        self.process = Process("chancery", arguments, self.directory / "serve.log", env=self.environment)
        self.process.wait_until(lambda: accepts(self.port))
        return self

    def remote(self, token, *arguments):
        """Runs a command against its API as whoever the token speaks for; the finished process whatever its exit code."""
        where = {"CHANCERY_GATEWAY": f"https://localhost:{self.https}", "CHANCERY_CA": str(self.ca), "CHANCERY_TOKEN": token}
        return self.run(*arguments, check=False, environment=where)

    def run(self, *arguments, stdin="", check=True, environment=None):
        """Runs the program to its end; with `check` off, the finished process whatever its exit code."""
        done = subprocess.run([str(self.program), *map(str, arguments)], input=stdin, text=True, capture_output=True, timeout=60,
                              env=self.environment | (environment or {}))
        if check and done.returncode != 0:
            words = " ".join(map(str, arguments))
            raise Broken(f"chancery {words}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def reload(self):
        """Asks it to read configuration and rules again; what came of it is in its log."""
        self.process.child.send_signal(signal.SIGHUP)

    def wait_for_log(self, words, seconds=10):
        """Waits until its log says so."""
        self.process.wait_until(lambda: words in self.process.tail(20000), seconds)

    def ready(self):
        """The status of /health/ready and what it says."""
        return self.ask("/health/ready")

    def ask(self, path):
        """The status of what needs no token, and what it says."""
        try:
            answer = urllib.request.urlopen(f"https://{self.host}:{self.https}{path}", timeout=10,
                                            context=ssl.create_default_context(cafile=self.ca))
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            return answer.status, answer.read().decode()

    def verify(self):
        """Checks the ledger from outside; returns what was said."""
        return self.run("ledger", "verify", "--config", self.config).stdout

    def stop(self):
        """Ends it in order; the exit code."""
        return self.process.stop() if self.process else None

    def kill(self):
        """Ends it as a power cut would."""
        if self.process:
            self.process.kill()

    # --- how clients reach it ----------------------------------------------------------------------------------------

    def url(self, resource, token, user="ada"):
        """A libpq connection string: the token is the password, the resource is the database."""
        tls = f"sslmode=verify-full sslrootcert={self.ca}" if self.certificate else "sslmode=disable"
        return f"host={self.host} port={self.port} user={user} dbname={resource} password={token} {tls}"

    def connect(self, resource, token, user="ada", **options):
        """A raw connection (wire.py)."""
        tls = str(self.ca) if self.certificate else None
        return wire.Connection(self.host, self.port, user, resource, token, tls=tls, **options)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def pss(self):
        return pss_kib(self.process.pid)


def toml(table):
    """A flat table as TOML lines; inner tables inline."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(str(value))
