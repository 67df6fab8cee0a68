#!/usr/bin/env python3
"""Builds what is shipped and measured, target/dist/chancery: a release build that is laid out by what it does at work.

Three steps (profile-guided optimization): an instrumented build, the benchmark's workloads as training, a build with what
was learnt. The second build is made again only when the first one changed. Nothing of it needs the network.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "target" / "pgo"
TRAINING = ("--targets direct,chancery,chancery-mask,chancery-tls,chancery-strict --only pgbench,bulk,connect --rounds 1 "
            "--seconds 3 --clients 8,32 --megabytes 50 --rows 200000 --profile dist").split()


def fail(what, hint):
    print(f"dist: {what}\n  hint: {hint}", file=sys.stderr)
    sys.exit(2)


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def host():
    return next(line.split()[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host:"))


def profdata():
    tool = pathlib.Path(output("rustc", "--print", "sysroot")) / "lib/rustlib" / host() / "bin/llvm-profdata"
    if not tool.exists():
        fail("llvm-profdata of this Rust is missing", "rustup component add llvm-tools")
    return tool


def build(flags, directory):
    """The binary. A target is named so that build scripts and macros are not instrumented."""
    environment = os.environ | {"CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--package", "chancery-cli", "--target", host(),
                    "--target-dir", directory], check=True, cwd=ROOT, env=environment)
    return pathlib.Path(directory) / host() / "release/chancery"


def train(instrumented, learnt, tool):
    raw = WORK / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    environment = os.environ | {"CHANCERY_BIN": str(instrumented), "LLVM_PROFILE_FILE": str(raw / "%p-%m.profraw")}
    subprocess.run([sys.executable, ROOT / "bench/run.py", *TRAINING], check=True, cwd=ROOT, env=environment,
                   stdout=subprocess.DEVNULL)
    # A workload that failed leaves a gateway that learnt nothing: its layout would be worse than none.
    if sum(part.stat().st_size for part in raw.glob("*.profraw")) < 1 << 20:
        fail("the training left no profile", "does `make bench BENCH=--quick` run?")
    subprocess.run([tool, "merge", "-o", learnt, *raw.glob("*.profraw")], check=True)
    shutil.rmtree(raw)


def main():
    tool = profdata()
    WORK.mkdir(parents=True, exist_ok=True)
    print("dist: an instrumented build", file=sys.stderr)
    instrumented = build([f"-Cprofile-generate={WORK / 'raw'}"], WORK / "first")
    learnt = WORK / f"{hashlib.sha256(instrumented.read_bytes()).hexdigest()[:16]}.profdata"
    if not learnt.exists():
        for old in WORK.glob("*.profdata"):
            old.unlink()
        print("dist: training, two minutes", file=sys.stderr)
        train(instrumented, learnt, tool)
    print("dist: the build with what was learnt", file=sys.stderr)
    made = build([f"-Cprofile-use={learnt}"], WORK / "second")
    place = ROOT / "target/dist/chancery"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(made, place.with_suffix(".new"))
    place.with_suffix(".new").rename(place)
    print(f"dist: {place.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
