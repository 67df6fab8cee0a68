"""Events of OCSF on their way: into a file, and over HTTP to somebody who refuses, goes away and comes back. Each entry's
event arrives; nobody who works through the gateway waits for it."""

import http.server
import json
import threading
import time

import pytest

from rig import ledger, ocsf
from rig.process import free_port

TOKEN = "s3cr3t-of-the-collector"


@pytest.fixture(scope="module")
def server(servers):
    """One major is enough: nothing here depends on it."""
    return servers("distribution")


class Collector:
    """Takes lines of JSON, or answers with what `refuse` says."""

    def __init__(self, port):
        self.port, self.refuse, self.requests, self.lines, self.refused = port, 0, [], [], 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests.append((self.path, self.headers["authorization"], self.headers["content-type"]))
                if collector.refuse:
                    collector.refused += 1
                else:
                    collector.lines += body.decode().splitlines()
                self.send_response(collector.refuse or 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.listening = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.listening.serve_forever, daemon=True).start()

    def stop(self):
        self.listening.shutdown()
        self.listening.server_close()


def until(what, seconds=30):
    """Waits for it; returns what it is."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.1)
    return found


def parsed(lines):
    return [json.loads(line) for line in lines]


def sequence(events):
    return [event["metadata"]["sequence"] for event in events]


def kinds(events):
    return [event["metadata"]["event_code"] for event in events]


@pytest.fixture
def work(gateway, provider, authority, server, fresh_database):
    """A function that starts a gateway with these exports, and one that works through it."""
    database = fresh_database("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")

    def start(exports):
        front = gateway({"shop": (server, database)}, exports=exports)

        def some():
            from rig import wire

            with wire.Connection(front.host, front.port, "ada", "shop", provider.person("ada"),
                                 tls=str(authority.certificate)) as one:
                assert one.query("SELECT a FROM t")
                one.simple("UPDATE t SET a = 2")

        return front, some

    return start


def test_events_in_a_file_are_all_entries_over_a_restart(work, tmp_path):
    out = tmp_path / "events.jsonl"
    front, some = work([{"name": "siem", "to": f"file:{out}", "format": "ocsf"}])
    some()
    until(lambda: out.exists() and "session.close" in out.read_text())
    front.stop()
    first = parsed(out.read_text().splitlines())
    assert sequence(first) == list(range(len(first)))
    assert kinds(first)[-1] == "shutdown"
    front.start()
    some()
    until(lambda: kinds(parsed(out.read_text().splitlines())).count("session.close") == 2)
    front.stop()

    events = parsed(out.read_text().splitlines())
    entries = ledger.entries(front.directory / "state")
    assert sequence(events) == list(range(len(entries)))
    for event, entry in zip(events, entries):
        assert event["metadata"]["event_code"] == entry["k"]
        assert ocsf.wrong(event) == [], event
    done = [event for event in events if event["metadata"]["event_code"] == "act.done"]
    assert {event["database"]["name"] for event in done} == {"shop"}
    assert all(event["actor"]["user"]["name"] for event in done)
    assert {1, 5} <= {event["activity_id"] for event in done}


def test_standard_output_has_the_events_and_the_log_does_not(work):
    front, some = work([{"name": "out", "to": "stdout", "format": "ocsf"}])
    some()
    log = front.directory / "serve.log"
    until(lambda: '"event_code":"session.close"' in log.read_text())
    front.stop()
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert sequence(parsed(lines)) == list(range(len(lines)))


@pytest.mark.seconds(150)
def test_who_refuses_or_is_away_gets_all_of_it_later_and_nobody_waits(work, tmp_path):
    port = free_port()
    collector = Collector(port)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    export = {"name": "siem", "to": f"http://127.0.0.1:{port}/ingest", "format": "ocsf", "token": str(token)}
    front, some = work([export])
    some()
    until(lambda: "session.close" in "".join(collector.lines))
    assert set(collector.requests) == {("/ingest", f"Bearer {TOKEN}", "application/x-ndjson")}

    collector.refuse = 503
    some()
    until(lambda: collector.refused >= 2)
    _, health = front.ready()
    assert "events of export siem are not delivered: it answered 503" in health
    collector.refuse = 0
    until(lambda: kinds(parsed(collector.lines)).count("session.close") == 2)

    collector.stop()
    began = time.monotonic()
    some()
    assert time.monotonic() - began < 10
    until(lambda: "not delivered" in front.ready()[1])
    front.stop()
    collector_again = Collector(port)
    front.start()
    until(lambda: "session.close" in "".join(collector_again.lines))
    collector_again.stop()

    # At least once: what arrived twice is the same, and nothing is left out.
    events = {}
    for event in parsed(collector.lines + collector_again.lines):
        assert events.setdefault(event["metadata"]["sequence"], event) == event
    assert sorted(events) == list(range(len(events)))
    assert TOKEN not in (front.directory / "serve.log").read_text()


def test_a_place_in_another_ledger_is_noticed(work, tmp_path):
    out = tmp_path / "events.jsonl"
    front, some = work([{"name": "siem", "to": f"file:{out}", "format": "ocsf"}])
    some()
    until(lambda: out.exists() and "session.close" in out.read_text())
    front.stop()
    place = front.directory / "state/exports/siem"
    text = place.read_text()
    last = next(line for line in text.splitlines() if line.startswith("last "))
    place.write_text(text.replace(last, "last " + "0" * 64))
    before = out.read_text()
    front.start()
    until(lambda: "the ledger is not the one whose events were sent" in front.ready()[1])
    front.stop()
    assert out.read_text() == before
