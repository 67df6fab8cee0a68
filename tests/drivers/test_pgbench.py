"""pgbench in all its modes, with seeded scripts: nothing fails, and both databases end with the same rows."""

import os
import re
import subprocess

import pytest

from rig import postgres
from rig.need import need

CLIENTS, TRANSACTIONS = 4, 12
PIPELINED = """\\set aid random(1, 100000 * :scale)
\\set delta random(-5000, 5000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
SELECT count(*) FROM pgbench_tellers;
\\endpipeline
"""
RUNS = [(mode, script) for script in ("tpcb-like", "select-only") for mode in ("simple", "extended", "prepared")]
RUNS += [(mode, "pipelined") for mode in ("extended", "prepared")]
# Sums that do not depend on the order in which clients came: every addition commutes, and every random number is seeded.
STATE = """
SELECT 'accounts', aid, abalance FROM pgbench_accounts WHERE abalance <> 0 ORDER BY aid;
SELECT 'tellers', tid, tbalance FROM pgbench_tellers ORDER BY tid;
SELECT 'branches', bid, bbalance FROM pgbench_branches ORDER BY bid;
SELECT 'history', tid, bid, aid, delta FROM pgbench_history ORDER BY tid, bid, aid, delta;
SELECT 'all', count(*), sum(aid), sum(length(filler)) FROM pgbench_accounts;
"""


@pytest.mark.seconds(240)
def test_pgbench(both, server, tmp_path):
    program = need(lambda: postgres.tool("pgbench"))
    script = tmp_path / "pipelined.sql"
    script.write_text(PIPELINED)
    states = []
    for way in both():
        run(program, way, "--initialize", "--scale=1", "--quiet")
        for seed, (mode, name) in enumerate(RUNS, 1):
            which = f"--file={script}" if name == "pipelined" else f"--builtin={name}"
            said = run(program, way, f"--protocol={mode}", which, f"--random-seed={seed}", f"--client={CLIENTS}",
                       "--jobs=2", f"--transactions={TRANSACTIONS}", "--no-vacuum")
            assert done(said) == (CLIENTS * TRANSACTIONS, 0), f"{way.name}, {mode}, {name}:\n{said}"
        states.append(server.psql(STATE, way.database))
    assert states[0].count("history|") == CLIENTS * TRANSACTIONS * sum(name != "select-only" for _, name in RUNS)
    assert states[0] == states[1]


@pytest.mark.parametrize("server", ["distribution"], indirect=True)
def test_a_server_side_load_and_a_custom_partitioning(both, server):
    program = need(lambda: postgres.tool("pgbench"))
    states = []
    for way in both():
        run(program, way, "--initialize", "--init-steps=dtGvpf", "--partitions=3", "--quiet")
        states.append(server.psql(STATE, way.database))
    assert "all|100000|5000050000|" in states[0] and states[0] == states[1]


def run(program, way, *options):
    """What pgbench printed, with the password where no process list shows it."""
    environment = os.environ | {"PGPASSWORD": way.password, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": way.ca}
    ended = subprocess.run([program, "-h", way.host, "-p", str(way.port), "-U", way.user, *options, way.database],
                           env=environment, text=True, capture_output=True, timeout=120)
    assert ended.returncode == 0, f"{way.name}, {options}: {ended.stderr[-2000:]}"
    return ended.stdout + ended.stderr


def done(said):
    """Transactions processed and failed, as pgbench counted them."""
    processed = re.search(r"transactions actually processed: (\d+)/\d+", said)
    failed = re.search(r"failed transactions: (\d+)", said)
    assert processed and failed and "ERROR" not in said, said
    return int(processed[1]), int(failed[1])
