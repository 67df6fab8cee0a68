"""How fast the disk makes records durable when many wait at once: the ceiling of strict mode."""

import os
import pathlib
import threading
import time


def group_commit(directory, waiters=32, seconds=2.0, size=200):
    """`waiters` threads each wait for their own record; one syncer writes and fdatasyncs what has gathered.

    Returns records a second, syncs a second and the median wait in microseconds.
    """
    path = pathlib.Path(directory) / f"probe.{os.getpid()}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    turn, end = threading.Condition(), time.monotonic() + seconds
    state, waits = {"pending": [], "issued": 0, "durable": 0, "syncs": 0}, []

    def wait_for_own():
        record = os.urandom(size)
        while time.monotonic() < end:
            start = time.perf_counter()
            with turn:
                state["issued"] += 1
                mine = state["issued"]
                state["pending"].append(record)
                turn.notify_all()
                while state["durable"] < mine:
                    turn.wait(1)
            waits.append(time.perf_counter() - start)

    threads = [threading.Thread(target=wait_for_own) for _ in range(waiters)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with turn:
                if not state["pending"]:
                    turn.wait(0.05)
                batch, state["pending"], up_to = state["pending"], [], state["issued"]
            if batch:
                os.write(file, b"".join(batch))
                os.fdatasync(file)
                state["syncs"] += 1
            with turn:
                state["durable"] = up_to
                turn.notify_all()
    finally:
        os.close(file)
        path.unlink()
    return len(waits) / seconds, state["syncs"] / seconds, sorted(waits)[len(waits) // 2] * 1e6
