#!/usr/bin/env python3
"""Measures the gateway side by side with plain proxies, interleaved, and prints Markdown. README.md says how to read it."""

import argparse
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import isolate  # noqa: E402
import probe  # noqa: E402
import report  # noqa: E402
import targets  # noqa: E402
from rig import Broken, gateway, postgres, tls, wire  # noqa: E402
from rig.process import cpu_seconds, server_user  # noqa: E402

EVERY = "direct,haproxy,pgbouncer,chancery,chancery-mask,chancery-tls,chancery-strict"
PARTS = ("probe", "pgbench", "bulk", "connect", "idle", "ledger", "evidence")
RATED = {"tps", "MB/s", "conn/s"}


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default=EVERY, help="in order; the first is the base of all ratios")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--modes", default="simple,extended,prepared")
    parser.add_argument("--scale", type=int, default=10, help="pgbench scale")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the wide COPY; the narrow one is a fifth")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the SELECT")
    parser.add_argument("--sessions", type=int, default=500, help="idle sessions held")
    parser.add_argument("--entries", type=int, default=2_000_000, help="entries of the ledger that is verified")
    parser.add_argument("--profile", help="which build of the gateway, the directory in target: dist, or release with --quick")
    parser.add_argument("--directory", default=None, help="where servers and ledgers live (a real disk)")
    parser.add_argument("--quick", action="store_true", help="one short round of everything: does it run at all?")
    chosen = parser.parse_args()
    chosen.profile = chosen.profile or ("release" if chosen.quick else "dist")
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.scale, chosen.clients = 1, 1, 1, "1,8"
        chosen.megabytes, chosen.rows, chosen.sessions, chosen.entries = 20, 100_000, 50, 200_000
    return chosen


class Bench:
    """One run: the server, the targets, and a report that fills."""

    def __init__(self, chosen, directory):
        self.chosen, self.directory, self.report = chosen, directory, report.Report()
        authority = tls.Authority(directory / "ca")
        (directory / "ca").chmod(0o755)
        certificate, key = authority.issue("postgres", server_user())
        settings = (f"max_connections={chosen.sessions + 200}", "shared_buffers=256MB")
        ledger = ROOT / "target/release/examples/verify"
        self.ledger = ledger if ledger.exists() else None
        self.server = postgres.Server(directory / "pg", "distribution", certificate, key, settings).start()
        self.targets, self.missing, self.provider = targets.start_all(
            chosen.targets.split(","), directory, self.server, authority, chosen.profile
        )

    def stop(self):
        for target in self.targets:
            target.stop()
        if self.provider:
            self.provider.stop()
        self.server.stop()

    def run(self):
        parts = self.chosen.only.split(",")
        if "pgbench" in parts or "connect" in parts:
            self.pgbench(self.targets[0], ["-i", "-q", "-s", str(self.chosen.scale)])
        for round_ in range(1, self.chosen.rounds + 1):
            print(f"bench: round {round_} of {self.chosen.rounds}", file=sys.stderr)
            for part in parts:
                getattr(self, f"measure_{part}")(round_)

    def measured(self, round_, case, target, work):
        """Runs `work`, which returns its count of operations and its metrics, and adds CPU per operation."""
        before, server_before = target.cpu(), cpu_seconds(self.server.process.pid)
        try:
            count, unit, scale, metrics = work()
        except (Broken, wire.ServerError, wire.Closed, OSError, ValueError) as error:
            print(f"bench: {case}: {target.name} failed: {str(error).strip()[-300:]}", file=sys.stderr)
            return
        used, server_used = target.cpu() - before, cpu_seconds(self.server.process.pid) - server_before
        proxy = {f"proxy_CPU_{unit}": used / count * scale} if target.pid else {}
        self.report.add(round_, case, target.name, **metrics, **proxy, **{f"server_CPU_{unit}": server_used / count * scale})

    def measure_pgbench(self, round_):
        for mode in self.chosen.modes.split(","):
            for clients in map(int, self.chosen.clients.split(",")):
                for target in self.targets:
                    self.measured(round_, f"pgbench -S, {mode}, {clients} clients", target,
                                  lambda: self.select_only(target, mode, clients))

    def select_only(self, target, mode, clients, extra=()):
        for old in self.directory.glob("lat.*"):
            old.unlink()
        said = self.pgbench(target, ["-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(2, clients)), "-T",
                                     str(max(1, round(self.chosen.seconds))), "--log", "--log-prefix=lat",
                                     "--sampling-rate=0.2", *extra])
        times = sorted(int(line.split()[2]) for log in self.directory.glob("lat.*") for line in open(log))
        at = lambda part: times[int(len(times) * part)] if times else None  # noqa: E731
        count, tps = figures(said)
        return count, "us/tx", 1e6, {"tps": tps, "p50_us": at(0.5), "p99_us": at(0.99)}

    def measure_connect(self, round_):
        for clients in (1, 8):
            for target in self.targets:
                self.measured(round_, f"connections, {clients} at a time", target, lambda: self.connects(target, clients))

    def connects(self, target, clients):
        said = self.pgbench(target, ["-C", "-S", "-n", "-c", str(clients), "-j", str(min(2, clients)), "-T",
                                     str(max(1, round(self.chosen.seconds)))])
        count, tps = figures(said)
        return count, "ms/conn", 1e3, {"conn/s": tps}

    def pgbench(self, target, arguments):
        environment = os.environ | {"PGPASSWORD": target.secret()}
        done = subprocess.run([postgres.tool("pgbench"), *arguments, target.url()], env=environment, text=True,
                              capture_output=True, cwd=self.directory, timeout=600)
        if done.returncode != 0:
            raise Broken(done.stderr)
        return done.stdout

    def measure_bulk(self, round_):
        megabytes, rows = self.chosen.megabytes, self.chosen.rows
        wide = f"COPY (SELECT i, repeat('x', 490) FROM generate_series(1, {megabytes * 2000}) i) TO STDOUT"
        narrow = f"COPY (SELECT i, 'row number' FROM generate_series(1, {megabytes * 10000}) i) TO STDOUT"
        select = f"SELECT i AS id, i % 10 AS branch, repeat('ab', 30) AS filler FROM generate_series(1, {rows}) i"
        for case, sql in (("COPY out, 500-byte rows", wide), ("COPY out, 20-byte rows", narrow), (f"SELECT of {rows:,} rows", select)):
            for target in self.targets:
                self.measured(round_, case, target, lambda: self.drain(target, sql))

    def drain(self, target, sql):
        with self.connect(target) as line:
            start, size = time.perf_counter(), drain(line, sql)
            seconds = time.perf_counter() - start
        return size, "s/GB", 1e9, {"MB/s": size / seconds / 1e6}

    def measure_idle(self, round_):
        for target in (target for target in self.targets if target.pid):
            before, held = target.pss(), []
            try:
                held = [self.connect(target) for _ in range(self.chosen.sessions)]
                time.sleep(2)
                self.report.add(round_, f"{self.chosen.sessions} idle sessions", target.name, **{
                    "KiB/session": (target.pss() - before) / len(held), "PSS_before_MiB": before / 1024})
            except (OSError, wire.ServerError, wire.Closed) as error:
                print(f"bench: idle: {target.name} failed after {len(held)}: {error}", file=sys.stderr)
            for line in held:
                line.close()
            time.sleep(1)

    def measure_probe(self, round_):
        records, syncs, wait = probe.group_commit(self.directory, 32, min(2.0, self.chosen.seconds))
        self.report.add(round_, "disk: 32 waiters, group commit", "fdatasync", **{
            "records/s": records, "syncs/s": syncs, "p50_us": wait})

    def measure_ledger(self, round_):
        """Appending and verifying on one thread, without a gateway: crates/store/examples/verify.rs."""
        if self.ledger:
            place = self.directory / "ledger-alone"
            done = subprocess.run([self.ledger, place, str(self.chosen.entries)], text=True, capture_output=True, timeout=1800)
            shutil.rmtree(place, ignore_errors=True)
            found = re.search(r"appended: (\d+).*verified: (\d+).*most: +(\d+) kB", done.stdout, re.S)
            if done.returncode != 0 or not found:
                print(f"bench: ledger: {done.stderr.strip()[-300:]}", file=sys.stderr)
                return
            appended, verified, peak = map(int, found.groups())
            self.report.add(round_, f"ledger of {self.chosen.entries:,} entries, one thread", "chancery", **{
                "appended/s": appended, "verified/s": verified, "peak_MiB": peak / 1024})

    def measure_evidence(self, round_):
        """A pack of everything that this run put on record, made and verified by the program: entries a second of CPU."""
        target = next((one for one in self.targets if one.name == "chancery"), None)
        if not target:
            return
        home, pack = self.directory / "chancery", self.directory / f"pack-{round_}.tar"
        program = gateway.binary(self.chosen.profile)
        make = [program, "evidence", "export", "--from", "2020-01-01", "--out", pack, "--config", home / "chancery.toml", "--json"]
        check = [program, "evidence", "verify", pack, "--roots", home / "state/ledger.vkey", "--json"]
        entries, figures = 0, {}
        for word, command in (("exported", make), ("verified", check)):
            with tempfile.TemporaryFile() as said:
                child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                said.seek(0)
                text = said.read().decode()
            if child.returncode != 0:
                print(f"bench: evidence: {text.strip()[-300:]}", file=sys.stderr)
                pack.unlink(missing_ok=True)
                return
            entries = json.loads(text)["entries"]
            figures |= {f"{word}/s_CPU": entries / (used.ru_utime + used.ru_stime), f"{word}_peak_MiB": used.ru_maxrss / 1024}
        self.report.add(round_, f"evidence pack of about {entries // 100_000 / 10} million entries", "chancery", **figures)
        pack.unlink()

    def connect(self, target):
        secure = None if target.sslmode == "disable" else ""
        return wire.Connection("127.0.0.1", target.port, target.user, target.database, target.secret(), tls=secure, timeout=300)


def figures(said):
    """Transactions and transactions a second, as pgbench says them."""
    count = re.search(r"transactions actually processed: (\d+)", said)
    tps = re.search(r"^tps = ([\d.]+)", said, re.M)
    if not count or not tps:
        raise Broken(f"pgbench said no figures: {said[-300:]}")
    return int(count[1]), float(tps[1])


def drain(line, sql):
    """Runs SQL and throws the answer away; its size in bytes. An answer that ends in an error is one."""
    line.send(wire.message("Q", wire.cstring(sql)))
    buffer, size, tail = bytearray(1 << 18), 0, b""
    while tail[-6:-1] != b"Z\0\0\0\5":
        got = line.socket.recv_into(buffer)
        if not got:
            raise wire.Closed("the server hung up")
        size += got
        tail = (tail + bytes(buffer[max(0, got - 512):got]))[-512:]
    if size < 1000:
        raise Broken(f"the answer is too short to be one: {tail!r}")
    return size


def main():
    chosen = options()
    alone = isolate.isolate()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="chancery-bench-", dir=chosen.directory))
    directory.chmod(0o755)
    bench = Bench(chosen, directory)
    try:
        bench.run()
    finally:
        bench.stop()
        shutil.rmtree(directory, ignore_errors=True)
    bench.report.save(ROOT / ".rig/bench/raw.tsv")
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"## Benchmark: {len(os.sched_getaffinity(0))} cores, {model}, Linux {platform.release()}\n")
    print(f"{chosen.rounds} rounds of {chosen.seconds} s, interleaved; ratios to `{bench.targets[0].name}` of the same round, "
          f"median [min..max]; {'own cpu cgroup' if alone else 'NO cpu cgroup: ratios are blurred'}; "
          f"PostgreSQL {bench.server.major}.\n")
    print(bench.report.markdown(bench.targets[0].name, RATED))
    for missing in bench.missing:
        print(f"Not measured: {missing.splitlines()[0]}")
    return 2 if bench.missing else 0


if __name__ == "__main__":
    sys.exit(main())
