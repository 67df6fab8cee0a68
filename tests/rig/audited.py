"""A small house that is audited: a database with a log of its own, a gateway with masks, review rules and a witness, people and
agents who do what people and agents do, and the packs that are made of it."""

import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import ssl
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from . import gateway as gateways
from . import ledger, postgres, wire
from .pack import Auditor, note, relay, vkey
from .process import Process, accepts, free_port
from .tlog import expand

RULES = """
@id("all-connect")
permit (principal, action == Action::"connect", resource);
@id("all-read")
permit (principal, action in [Action::"read", Action::"export", Action::"execute"], resource);
@id("notes-are-free")
permit (principal, action in [Action::"write", Action::"import"], resource == Table::"shop/public.notes");
@id("dba-may-plant")
permit (principal in Group::"dba", action in [Action::"write", Action::"import"], resource == Table::"shop/public.vault");
@id("orders-are-reviewed")
permit (principal, action == Action::"write", resource == Table::"shop/public.orders") when { context.reviews.contains("dba") };
@id("annex-is-reviewed")
permit (principal, action == Action::"write", resource == Table::"annex/public.orders") when { context.reviews.contains("dba") };
@id("urgent-is-brief")
permit (principal, action == Action::"write", resource == Table::"shop/public.urgent") when { context.reviews.contains("brief") };
"""
LOOSE = '\n@id("loosened")\npermit (principal, action == Action::"unmask", resource in Tag::"pii");\n'
REVIEWS = [
    {"name": "dba", "reviewers": ['Group::"dba"'], "quorum": 1, "expires": "10m", "assurance": "signed"},
    {"name": "brief", "reviewers": ['Group::"dba"'], "quorum": 1, "expires": "2s", "assurance": "signed"},
]
MASKS = [
    {"resource": "shop", "columns": ["public.customers.email", "public.vault.tagged"], "tag": "pii", "with": "redact"},
    {"resource": "shop", "columns": ["public.customers.card"], "tag": "pii", "with": "partial"},
]
SHOP = """
CREATE TABLE orders (id integer PRIMARY KEY, item text, amount integer);
INSERT INTO orders SELECT n, 'lamp', n * 10 FROM generate_series(1, 20) n;
CREATE TABLE urgent (id integer PRIMARY KEY, item text);
INSERT INTO urgent VALUES (1, 'bell');
CREATE TABLE notes (id integer PRIMARY KEY, words text);
CREATE TABLE customers (id integer PRIMARY KEY, name text, email text, card text);
INSERT INTO customers VALUES (1, 'Mina', 'mina@customers.test', '4111111111111111'),
                             (2, 'Oskar', 'oskar@customers.test', '5500005555555559');
CREATE TABLE vault (id integer PRIMARY KEY, tagged text, plain text);
"""
ANNEX = "CREATE TABLE orders (id integer PRIMARY KEY, item text, amount integer); INSERT INTO orders VALUES (1, 'lamp', 10);"
LOGS = ["logging_collector=on", "log_destination=csvlog", "log_filename=own.log", "log_rotation_age=0", "log_connections=on",
        "log_statement=all", "lc_messages=C", "log_timezone=UTC"]
REVIEW = re.compile(r"rev-[0-9a-f]{32}")


def wait(check, seconds=20):
    """Waits until `check` gives something."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > end:
            assert found, "it did not come to pass"
            return found
        time.sleep(0.05)


class Witness:
    """`chancery witness` for one log."""

    def __init__(self, program, directory, key):
        self.program, self.file = program, pathlib.Path(directory) / "witness"
        self.key = json.loads(self.run("init", self.file, "--name", "witness.example/outside", "--json"))["key"]
        self.run("add", self.file, key)
        self.port, self.process = free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def run(self, *words):
        return subprocess.run([self.program, "witness", *map(str, words)], check=True, text=True, capture_output=True,
                              timeout=30).stdout

    def start(self):
        words = [self.program, "witness", "serve", self.file, "--listen", f"127.0.0.1:{self.port}"]
        self.process = Process("witness", words, self.file.with_suffix(".log")).wait_until(lambda: accepts(self.port))

    def size(self):
        return json.loads(self.run("show", self.file, "--json"))["logs"][0]["size"]

    def stop(self):
        return self.process.stop()


class Held:
    """A command that waits for a review."""

    def __init__(self, line, data):
        self.line = line
        line.send(data)
        while True:
            kind, body = line.receive()
            said = REVIEW.search(body.decode(errors="replace")) if kind in "NE" else None
            if said:
                break
            assert kind not in "EZ", (kind, body)
        self.review = said[0]

    def end(self):
        """SQLSTATE of its error, or None."""
        errors = [wire.fields(body)["C"] for kind, body in self.line.until_ready() if kind == "E"]
        return errors[0] if errors else None


def payload(shown):
    """What is signed (docs/spec/pack.md), of a review as the API shows it."""
    fields = (b"chancery/approval/1", b"approve", bytes.fromhex(shown["id"][4:]), bytes.fromhex(shown["digest"]),
              shown["needed"][0]["rule"].encode(), bytes.fromhex(shown["rules"]), struct.pack(">q", shown["expires_at_micros"]),
              struct.pack(">Q", shown["uses"]), shown["resource"].encode())
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


def query(sql):
    return wire.message("Q", wire.cstring(sql))


class House:
    """Everything, in a directory of its own. Not started."""

    def __init__(self, directory, provider, authority, settings=LOGS, **options):
        self.where = pathlib.Path(tempfile.mkdtemp(prefix="house-", dir=directory))
        self.where.chmod(0o755)
        self.provider, self.seeds, self.packs = provider, {}, 0
        self.server = postgres.Server(self.where / "pg", settings=settings).start()
        for name, sql in (("shop", SHOP), ("annex", ANNEX)):
            self.server.psql(f"CREATE DATABASE {name}")
            self.server.psql(sql, name)
        certificate, key = authority.issue(f"house-{self.where.name}")
        options = {"rules": RULES, "masks": MASKS, "reviews": REVIEWS, "ledger": {"witnesses": "witnesses.policy"}} | options
        self.front = gateways.Gateway(self.where / "home", provider,
                                      {"shop": (self.server, "shop"), "annex": (self.server, "annex")}, ca=authority.certificate,
                                      certificate=certificate, key=key, **options)
        self.front.prepare_state()
        self.state, self.roots = self.front.directory / "state", self.where / "auditor.roots"
        shutil.copy(self.state / "ledger.vkey", self.roots)
        self.learn()
        self.witness = Witness(self.front.program, self.where, self.roots.read_text().split()[0])
        self.policy = self.front.directory / "witnesses.policy"
        self.policy.write_text(f"witness outside {self.witness.key} {self.witness.url}\nquorum outside\n")
        self.front.prepare_rest()
        self.learn()
        self.auditor = Auditor(self.front.program, self.roots)
        for name in ("dora", "rex", "ada", "ada-admin"):
            self.enrol(name)
            self.learn()

    def learn(self):
        """What somebody knows who copied every key from the beginning."""
        for line in (self.state / "keys/epoch").read_text().splitlines():
            number, seed = line.split()
            self.seeds[int(number)] = bytes.fromhex(seed)
        self.log_seed = (self.state / "keys/log-ed25519.seed").read_bytes()

    def enrol(self, name):
        key = self.where / f"{name}.key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True, timeout=20)
        self.front.run("reviewer", "add-key", name, f"{key}.pub", "--config", self.front.config)

    # --- people ------------------------------------------------------------------------------------------------------

    def token(self, name, *agents):
        """The token of a person, or of the last of these agents acting for them."""
        token = self.provider.person(name)
        for agent in agents:
            token = self.provider.delegate(token, agent)
        return token

    def connect(self, name, *agents, resource="shop"):
        return self.front.connect(resource, self.token(name, *agents), user=name)

    def work(self, name, *agents, first=0, count=3):
        """A session that reads and writes."""
        with self.connect(name, *agents) as line:
            for number in range(first, first + count):
                line.query(f"INSERT INTO notes VALUES ({number}, 'words')")
                line.query("SELECT count(*) FROM notes")

    def review(self, word, review, name, *agents, key=None):
        """`chancery review WORD` as somebody; the finished process."""
        file = self.where / f"{name}.token"
        file.write_text(self.token(name, *agents))
        words = ["--key", self.where / f"{key or name}.key", "--yes"] if word == "approve" else []
        environment = os.environ | {"CHANCERY_GATEWAY": f"https://localhost:{self.front.https}", "CHANCERY_CA": str(self.front.ca),
                                    "CHANCERY_TOKEN_FILE": str(file)}
        return self.front.run("review", word, review, *words, check=False, environment=environment)

    def api(self, token, path, body=None):
        """Status and answer of the API."""
        request = urllib.request.Request(f"https://localhost:{self.front.https}/api/v1/{path}",
                                         None if body is None else json.dumps(body).encode(),
                                         {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        try:
            answer = urllib.request.urlopen(request, timeout=20, context=ssl.create_default_context(cafile=self.front.ca))
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            return answer.status, json.load(answer)

    def shown(self, review, name="dora"):
        """A review as the API shows it. A client is told of one a moment before others can see it."""
        token = self.token(name)
        return wait(lambda: (answer := self.api(token, f"reviews/{review}"))[0] == 200 and answer[1])

    def answer(self, review, name, *agents, over=None):
        """An approval straight to the API, signed by a key of the person over a review; the status."""
        signature = self.signed(payload(self.shown(over or review)), name)
        body = {"rule": "dba", "assurance": "signed", "key": self.public(name), "signature": signature}
        return self.api(self.token(name, *agents), f"reviews/{review}/approve", body)[0]

    def signed(self, payload, name):
        """An SSH signature of a reviewer over these bytes."""
        return subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "chancery-approval@v1", "-f", self.where / f"{name}.key"],
                              input=payload, capture_output=True, check=True, timeout=20).stdout.decode()

    def public(self, name):
        return (self.where / f"{name}.key.pub").read_text().strip()

    # --- the gateway -------------------------------------------------------------------------------------------------

    def entries(self):
        return ledger.entries(self.state)

    def start(self):
        self.front.start()
        self.learn()

    def stop(self):
        self.learn()
        assert self.front.stop() == 0
        self.learn()

    def witnessed(self):
        """Waits until the witness has seen all that stands in the ledger."""
        wait(lambda: self.witness.size() >= sum(1 for _ in ledger.frames(self.state)), 30)
        return self.witness.size()

    def rules(self, text):
        """Puts other rules in force."""
        before = sum(entry["k"] == "policy.apply" for entry in self.entries())
        (self.front.directory / "policies/rig.cedar").write_text(text)
        self.front.reload()
        wait(lambda: sum(entry["k"] == "policy.apply" for entry in self.entries()) > before)

    def export(self, *words, since="2020-01-01", name=None):
        """A pack of everything, or what the words say; its path."""
        self.packs += 1
        out = self.where / (name or f"{self.packs}.pack")
        self.front.run("evidence", "export", "--from", since, "--out", out, *words, "--config", self.front.config)
        return out

    def log(self):
        """The database's own log."""
        return self.server.data / "log/own.csv"

    def close(self):
        self.front.stop()
        self.witness.stop()
        self.server.stop()


def letters(count=24):
    """A secret that no detector takes for anything."""
    return "".join(chr(ord("a") + byte % 26) for byte in secrets.token_bytes(count))



class Thief:
    """A copy of the gateway's directory, in the hands of somebody who can do with it what they like."""

    def __init__(self, story, home):
        self.house, self.home, self.state, self.config = story.house, home, home / "state", home / "chancery.toml"
        self.config.write_text(self.config.read_text().replace(str(self.house.front.directory), str(home)))
        self.origin = (self.state / "origin").read_text().strip()
        self.lines = [frame.line for frame in ledger.frames(self.state)]
        newest = dict(line.split() for line in (self.state / "keys/epoch").read_text().splitlines())
        self.seeds = {int(number): bytes.fromhex(seed) for number, seed in newest.items()}
        self.log_seed = story.house.log_seed

    def another(self):
        """Makes it another log of the same name: with keys of its own, and the entries signed by them."""
        entries, self.log_seed = [json.loads(line) for line in self.lines], hashlib.sha256(b"log").digest()
        self.seeds = {entry["e"]: hashlib.sha256(b"epoch %d" % entry["e"]).digest() for entry in entries if entry["k"] == "key.epoch"}
        for entry in entries:
            if entry["k"] == "key.epoch":
                entry["key"] = expand(self.seeds[entry["e"]])[2].hex()
        self.put(relay(entries, self.origin, self.log_seed, self.seeds, anew=True))
        (self.state / "keys/log-ed25519.seed").write_bytes(self.log_seed)
        (self.state / "keys/epoch").write_text(f"{max(self.seeds)} {self.seeds[max(self.seeds)].hex()}\n")
        roots = self.state / "ledger.vkey"
        roots.write_text(f"{vkey(self.origin, self.log_seed)}\n{vkey(self.origin + '/epoch/0', self.seeds[0])}\n")
        return roots

    def signers(self, epoch=None):
        """The log's key and that of an epoch, as a head is signed; the newest, or one that was stolen while it ran."""
        epoch = max(self.seeds) if epoch is None else epoch
        return (self.origin, self.log_seed), (f"{self.origin}/epoch/{epoch}", {**self.house.seeds, **self.seeds}[epoch])

    def put(self, lines):
        """Puts the ledger down anew, under a head that the stolen keys sign."""
        for file in (self.state / "ledger/entries").glob("*.seg"):
            file.unlink()
        frames = b"".join(struct.pack("<II", len(line), ledger.crc32c(line)) + line for line in lines)
        (self.state / "ledger/entries" / f"{0:020}.seg").write_bytes(b"CLEDGER1" + bytes(8) + frames + bytes(4096))
        for gone in ("tiles", "checkpoints", "witnessed"):
            place = self.state / "ledger" / gone
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        (self.state / "ledger/checkpoint").write_bytes(note(self.origin, lines, *self.signers()))
        self.lines = lines

    def export(self, out, *words, since="2020-01-01"):
        """A pack of it, made by the program itself."""
        self.house.front.run("evidence", "export", "--from", since, "--out", out, *words, "--config", self.config)
        return out


# --- what happens in the house ---------------------------------------------------------------------------------------

# Ways to ask for what is tagged.
ODD_WAYS = [
    "SELECT * FROM vault", "SELECT tagged FROM vault", "SELECT v.tagged AS plain FROM vault v", "SELECT vault FROM vault",
    "SELECT tagged || '' FROM vault", "SELECT upper(tagged) FROM vault", "SELECT reverse(tagged) FROM vault",
    "SELECT substr(tagged, 2) FROM vault", "SELECT left(tagged, 20), right(tagged, 20) FROM vault", "SELECT max(tagged) FROM vault",
    "SELECT string_agg(tagged, ',') FROM vault", "SELECT array_agg(tagged) FROM vault", "SELECT json_agg(v) FROM vault v",
    "SELECT row_to_json(v) FROM vault v", "SELECT to_jsonb(v) ->> 'tagged' FROM vault v", "SELECT tagged::bytea FROM vault",
    "SELECT encode(tagged::bytea, 'escape') FROM vault", "SELECT md5(plain), tagged FROM vault", "TABLE vault",
    "WITH x AS (SELECT tagged AS t FROM vault) SELECT t FROM x", "SELECT (SELECT tagged FROM vault WHERE id = 1)",
    "SELECT tagged FROM vault UNION SELECT plain FROM vault", "SELECT a.tagged FROM vault a JOIN vault b USING (id)",
    "SELECT tagged::integer FROM vault", "SELECT 1 / (CASE WHEN tagged IS NULL THEN 1 ELSE 0 END) FROM vault",
    "COPY vault TO STDOUT", "COPY (SELECT tagged FROM vault) TO STDOUT", "COPY vault TO STDOUT WITH (FORMAT csv)",
    "SELECT coalesce(nullif(tagged, 'x'), 'y') FROM vault", "SELECT tagged FROM vault ORDER BY tagged LIMIT 10",
    "SELECT regexp_matches(tagged, '.*') FROM vault", "SELECT xmlelement(name a, tagged) FROM vault",
    "SELECT pg_read_file(tagged) FROM vault", "SELECT format('%s', tagged) FROM vault",
    "DO $$ DECLARE t text; BEGIN SELECT tagged INTO t FROM vault WHERE id = 2; RAISE EXCEPTION '%', t; END $$",
    "DECLARE c CURSOR WITH HOLD FOR SELECT tagged FROM vault; FETCH ALL FROM c; CLOSE c",
]
SECRETS = 1000


class Story:
    """What happened once in a house, and what came of each."""

    def __init__(self, house):
        self.house, self.answers, self.heard = house, {}, b""
        self.tagged = [f"canary{letters()}" for _ in range(SECRETS // 2)]
        self.plain = [f"canary{letters()}" for _ in range(SECRETS // 2)]

    def play(self):
        house = self.house
        # What came before was setting up.
        self.since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
        wait(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) >= self.since)
        house.start()
        self.canaries()
        for first, who in enumerate([("ada",), ("ada", "agent"), ("ada", "agent", "sub-agent"), ("dora",), ("rex",)]):
            house.work(*who, first=100 * first)
        with house.connect("ada") as line:
            self.masked = line.query("SELECT * FROM customers ORDER BY id")
            self.refused = [wire.fields(body)["C"] for kind, body in line.simple("DROP TABLE orders") if kind == "E"]
        self.approvals()
        self.selves()
        self.swaps()
        self.flicker()
        house.stop()
        house.start()
        house.work("rex", first=1000)
        self.killed()
        house.witnessed()
        house.stop()
        self.pack = house.export("--postgres-log", house.log(), since=self.since)
        # The last head that the witness cosigned, and the whole state: keys of today, too.
        self.seen = house.where / "seen"
        shutil.copy(house.state / "ledger/witnessed", self.seen)
        shutil.copytree(house.front.directory, house.where / "copy")
        self.unseen = self.unwitnessed()
        return self

    def unwitnessed(self):
        """Some more, while the witness is away; its pack."""
        house = self.house
        house.witness.stop()
        house.start()
        house.work("rex", first=3000)
        house.stop()
        pack = house.export("--postgres-log", house.log(), since=self.since)
        house.witness.start()
        return pack

    def elsewhere(self, directory):
        """The gateway's directory as it was when the first pack was made, copied to another place: a `Thief`."""
        shutil.copytree(self.house.where / "copy", directory)
        return Thief(self, pathlib.Path(directory))

    def canaries(self):
        with self.house.connect("dora") as line:
            for number, (tagged, plain) in enumerate(zip(self.tagged, self.plain)):
                line.extended("INSERT INTO vault VALUES ($1, $2, $3)", [str(number), tagged, plain])
        with self.house.connect("ada", "agent") as line:
            for sql in ODD_WAYS:
                for ask in (line.simple, line.extended):
                    self.heard += b"".join(body for _, body in ask(sql))
            line.extended("SELECT id FROM vault WHERE tagged = $1", [self.tagged[0]])
            line.simple(f"SELECT id FROM vault WHERE tagged = '{self.tagged[1]}'")

    def hold(self, line, data, name):
        held = Held(line, data)
        self.answers[name] = {"review": held.review}
        return held

    def approvals(self):
        """One approved and run, one denied."""
        house = self.house
        with house.connect("ada", "agent") as line:
            held = self.hold(line, query("UPDATE orders SET amount = 1 WHERE id = 1"), "approved")
            done = house.review("approve", held.review, "dora")
            self.answers["approved"] |= {"code": done.returncode, "end": held.end(), "said": done.stdout + done.stderr}
            held = self.hold(line, query("UPDATE orders SET amount = 2 WHERE id = 2"), "denied")
            done = house.review("deny", held.review, "rex")
            self.answers["denied"] |= {"code": done.returncode, "end": held.end()}

    def selves(self):
        """Self-approval: as one of the reviewers; through an agent; from another account."""
        house = self.house

        def attempt(name, who, by, sql="UPDATE orders SET amount = 3 WHERE id = 3"):
            with house.connect(*who) as line:
                held = self.hold(line, query(sql), name)
                self.answers[name]["code"] = code = house.review("approve", held.review, *by).returncode
                if code != 0:
                    # Past the program's own refusal, straight to the API, with a signature that holds.
                    self.answers[name]["status"] = house.answer(held.review, *by)
                    assert house.review("deny", held.review, "rex").returncode == 0
                self.answers[name]["end"] = held.end()

        attempt("as admin", ("dora",), ("dora",))
        attempt("own agent asked", ("dora", "agent"), ("dora",))
        attempt("own agent answers", ("dora",), ("dora", "agent"))
        attempt("other account", ("ada",), ("ada-admin",))

    def swaps(self):
        """An approval of one thing for another."""
        house = self.house
        text, parametrised = "UPDATE orders SET amount = 4 WHERE id = 4", "UPDATE orders SET amount = 5 WHERE id = $1"

        def extended(value):
            return wire.Connection.extended_messages(parametrised, [value]) + wire.message("S")

        def swap(name, first, second, resource="shop"):
            with house.connect("ada") as one, house.connect("ada", resource=resource) as two:
                kept, other = self.hold(one, first, f"{name}: signed"), self.hold(two, second, f"{name}: used for")
                house.shown(other.review)
                status = house.answer(other.review, "dora", over=kept.review)
                assert house.review("deny", other.review, "rex").returncode == 0
                self.answers[f"{name}: used for"] |= {"status": status, "end": other.end()}
                assert house.review("deny", kept.review, "rex").returncode == 0
                kept.end()

        swap("text", query(text), query(text.replace("id = 4", "id = 5")))
        swap("parameter", extended("4"), extended("5"))
        swap("resource", query("UPDATE orders SET amount = 6 WHERE id = 1"), query("UPDATE orders SET amount = 6 WHERE id = 1"),
             "annex")
        with house.connect("ada") as line:
            held = self.hold(line, query("UPDATE urgent SET item = 'x' WHERE id = 1"), "late")
            self.answers["late"]["end"] = held.end()
            self.answers["late"]["code"] = house.review("approve", held.review, "dora").returncode
            sql = query("UPDATE orders SET amount = 7 WHERE id = 7")
            held = self.hold(line, sql, "once")
            assert house.review("approve", held.review, "dora").returncode == 0
            self.answers["once"]["end"] = held.end()
            held = self.hold(line, sql, "twice")
            again = house.review("approve", self.answers["once"]["review"], "dora").returncode
            assert house.review("deny", held.review, "rex").returncode == 0
            self.answers["twice"] |= {"code": again, "end": held.end()}

    def flicker(self):
        """The rules are loosened for a moment."""
        house = self.house
        before = len(house.entries())
        house.rules(RULES + LOOSE)
        with house.connect("ada", "agent") as line:
            self.unmasked = line.query("SELECT email FROM customers ORDER BY id")
        house.rules(RULES)
        with house.connect("ada", "agent") as line:
            self.masked_again = line.query("SELECT email FROM customers ORDER BY id")
        self.flickered = range(before, len(house.entries()))

    def killed(self):
        """Killed while a write runs."""
        house = self.house
        line = house.connect("ada")
        line.send(query("INSERT INTO notes SELECT 5000, pg_sleep(20)::text"))
        wait(lambda: [entry for entry in house.entries() if entry["k"] == "act.start" and entry["x"] == "write"][-1:])
        wait(lambda: "pg_sleep(20)" in house.log().read_text())
        house.learn()
        house.front.kill()
        line.abort()
        house.start()
        house.work("ada", first=2000)
