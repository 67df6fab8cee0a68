"""Another house's witness (C2SP tlog-witness): where its Python is, and its server."""

import os
import pathlib
import subprocess

from . import Broken, Missing
from .process import RIG, Process, accepts, free_port


def aics():
    """A Python that has aics-witness: the one that `make setup` made, or the one that CHANCERY_AICS names."""
    python = os.environ.get("CHANCERY_AICS") or RIG / "aics/bin/python"
    try:
        done = subprocess.run([python, "-c", "import aics_witness, aics_tlog"], capture_output=True, timeout=30)
    except OSError:
        done = None
    if done is None or done.returncode != 0:
        raise Missing("aics-witness (make setup, or a Python that has it in CHANCERY_AICS)")
    return str(python)


class Server:
    """Its server on loopback, for one log."""

    def __init__(self, directory, name, origin, key):
        self.python, self.directory, self.port = aics(), pathlib.Path(directory), free_port()
        self.config = self.directory / "witness.json"
        self.directory.mkdir(parents=True, exist_ok=True)
        said = self.run("init", "--name", name, "--listen", f"127.0.0.1:{self.port}")
        self.key = said.strip().splitlines()[-1].strip()
        self.run("add-log", "--origin", origin, "--vkey", key)
        arguments = [self.python, "-m", "aics_witness", "serve", "--config", self.config]
        self.process = Process("aics-witness", arguments, self.directory / "log")
        self.process.wait_until(lambda: accepts(self.port))
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, command, *arguments):
        words = [self.python, "-m", "aics_witness", command, "--config", self.config, *arguments]
        done = subprocess.run(list(map(str, words)), text=True, capture_output=True, timeout=60)
        if done.returncode != 0:
            raise Broken(f"aics-witness {command}: {done.stderr[-1000:]}")
        return done.stdout

    def stop(self):
        return self.process.stop()
