"""What the entries of an evidence pack say and what belongs to them: sessions, recordings, directory, rules, approvals,
populations and controls, by docs/spec/pack.md, ledger.md and recording.md alone. It is taken by verify.py, which must
lie beside it, proves the entries, and hands them over one by one: `python3 verify.py PACK --roots ROOTS`.
Not checked: SSH signatures of approvals (their digests are), what recordings hold and their CRC (their chains are),
`.csv`, rows of P19 and P20 (their number is), columns besides entry and time but for those of P05 and some of P08,
results of controls besides the number of exceptions of segregation and approval-binding."""
import hashlib, json, re, struct
from verify import DIGEST, FAIL, ID, INCONCLUSIVE, KINDS, TIME, like, microseconds, one_line, sha256
MAX_BLOCK, MAX_LINE = 1 << 20, 1 << 20
# Forms of pack.md, see `like` in verify.py.
LINK = {"issuer": ".*", "kind": "user|service|agent", "subject": ".*"}
CHAIN = {"a": ID, "salt": DIGEST, "principal": {"groups": [".*"], **LINK}, "actors": [LINK]}
APPROVAL = {"entry": int, "key": ".*", "signature": ".*"}
RESULT = {"control": ".*", "criteria": [".*"], "exceptions": int, "populations": [".*"], "predicate": ".*",
          "result": "holds|exceptions|not tested", "tested": int, "title": ".*", "untested": None}
IPE = {"columns": [".*"], "criteria": [".*"], "excluded": [{"count": int, "reason": ".*"}], "query": ".*",
       "title": ".*", **dict.fromkeys(("absent first_key generated_at last_key origins period_from period_to "
                                       "population_id row_count sha256 system timezone").split())}
# pack.md, Populations, as SQL: the entries that begin a row, and for each the one that completes it.
FIRST = "(SELECT min(x.n) FROM e x WHERE x.n>e.n AND {})".format
ROWS = [("P01", "k='principal'", "NULL"), ("P05", "k='act.deny'", "n"), ("P09", "k='boot'", "n"),
        ("P04", "k='session.open'", FIRST("x.s=e.s AND (x.k='session.close' OR x.k='crash' AND x.q IS NULL)")),
        ("P05", "k='act.start'", FIRST("x.s=e.s AND x.q=e.q AND x.k IN ('act.done', 'crash')")),
        ("P06", "k='approval.request'", FIRST("""x.rev=e.rev AND (x.k IN ('approval.use', 'approval.end')
            OR x.k='approval.decide' AND x.d NOT LIKE '["approve"%')""")),
        ("P08", "k='policy.apply'", FIRST("x.k='policy.apply'")), ("P10", "k='secret.change'", "n"),
        ("P11", "k='act.done' AND masked>0", "n"), ("P12", "k IN ('act.deny', 'alert')", "n"),
        ("P13", "k='rec.segment'", "n"), ("P14", "k IN ('view', 'export', 'unseal')", "n"),
        ("P15", "k IN ('retention.run', 'retention.done', 'hold.set', 'hold.lift', 'shred') OR k LIKE 'prune.%'", "n"),
        ("P17", "k='key.epoch'", "n")]
ROW = "session command resource outcome rows masked rules text".split()  # kept of each row, and of each entry:
COLUMNS = "n t k s q a by c p ch rev cm com sig until d out rows masked needed file".split()

# What must not be found at the end: entries (NULL: one that is not known). With a question mark: makes inconclusive.
# In `e` are the entries, in `act request decide yes spend` some of them; in `chain link rules signed recording block
# row` what is in files; in `due` the rows that must be there: each has its first entry `n`, and `last` completes it.
QUERIES = """
lines: entries are only hashes, and no entry says that just these were pruned, and no younger ones
    SELECT n FROM gone WHERE NOT EXISTS (SELECT 1 FROM said WHERE (said.first, said.dropped, said.cr)=
    (gone.first, gone.dropped, gone.cr) AND last>=since)
sessions: a command is started twice
    SELECT max(n) FROM e WHERE k='act.start' GROUP BY s, q HAVING count(*)>1
directory: the line of the chain has not the commitment stated here
    SELECT n FROM e JOIN chain USING (a) WHERE k='principal' AND e.com<>chain.com
directory: a chain has a line and no entry
    SELECT NULL FROM chain WHERE a NOT IN (SELECT a FROM e WHERE k='principal')
directory: the line of the chain is not in the order of these entries
    WITH p AS (SELECT chain.rowid AS line, min(n) AS n FROM e JOIN chain USING (a) WHERE k='principal' GROUP BY line)
    SELECT later.n FROM p JOIN p later ON later.line=p.line+1 WHERE later.n<p.n
rules: the rule set was not put in force before
    SELECT n FROM act WHERE NOT EXISTS (SELECT 1 FROM e x WHERE x.k='policy.apply' AND x.p=act.p AND x.n<act.n)
rules?: the text of the rule set is not here
    SELECT n FROM act WHERE PERIOD AND p NOT IN (SELECT p FROM rules)
rules: a text is here of what was never in force
    SELECT NULL FROM rules WHERE p NOT IN (SELECT p FROM e WHERE k='policy.apply')
approvals: the signature is of no approval.decide, or of one that states another
    SELECT signed.n FROM signed LEFT JOIN decide USING (n) WHERE decide.sig IS NOT signed.sig
approvals?: the signature is not here
    SELECT n FROM decide WHERE PERIOD AND sig IS NOT NULL AND n NOT IN (SELECT n FROM signed)
recordings: no block of the session has the hash stated here
    SELECT n FROM lacks WHERE s NOT IN old AND s IN (SELECT s FROM recording)
recordings: it is not the last block of the session whose hash is stated here
    SELECT n FROM e JOIN block b ON b.s=e.s AND b.hash=cm WHERE k='session.close'
    AND number<(SELECT max(number) FROM block WHERE s=e.s)
recordings: blocks are missing in this session
    SELECT n FROM hole LEFT JOIN opened USING (s) WHERE s NOT IN old
recordings?: blocks of this session are not here, and files of its time were pruned
    SELECT n FROM lacks WHERE s IN old AND s IN (SELECT s FROM e JOIN due USING (n) WHERE pop='P04')
    UNION SELECT n FROM hole JOIN opened USING (s) WHERE s IN old
recordings: the session has a recording that its close does not state
    SELECT n FROM e WHERE k='session.close' AND cm IS NULL AND s IN (SELECT s FROM block)
recordings: a recording is of no session of the ledger
    SELECT NULL FROM block WHERE s NOT IN (SELECT s FROM e WHERE k='session.open')
recordings?: no entry states the last blocks of this session, which is open or ended in a crash
    SELECT min(e.n) FROM e JOIN (SELECT s, max(number) AS last FROM block GROUP BY s) USING (s)
    LEFT JOIN block ON block.s=e.s AND hash=cm GROUP BY e.s HAVING max(coalesce(number, 0))<last
recordings: the recording of this session, which is of the period, is not here
    SELECT n FROM e WHERE cm IS NOT NULL AND s NOT IN (SELECT s FROM recording) AND s NOT IN old
    AND s IN (SELECT s FROM e JOIN due USING (n) WHERE pop='P04')
populations?: one is not here
    SELECT NULL FROM judged WHERE pop NOT IN (SELECT pop FROM present)
populations: a row for this entry is not here
    SELECT n FROM due WHERE pop IN (SELECT pop FROM present) AND (pop, n) NOT IN (SELECT pop, n FROM row)
populations: a row is here that this entry does not give
    SELECT n FROM row WHERE (pop, n) NOT IN (SELECT pop, n FROM due)
populations: another number of rows is here for this entry
    SELECT n FROM (SELECT pop, n, count(*) AS have FROM row GROUP BY pop, n) r JOIN due USING (pop, n) JOIN e USING (n)
    WHERE have <> CASE pop WHEN 'P01' THEN ifnull((SELECT links FROM chain WHERE chain.a=e.a), 1)
    WHEN 'P06' THEN max(1, (SELECT count(*) FROM decide WHERE decide.rev=e.rev)) ELSE 1 END
populations: the row has another time than the entry
    SELECT row.n FROM row JOIN due USING (pop, n) JOIN e USING (n) WHERE at<>e.t
populations: the row before this one is completed by a later entry
    SELECT b.n FROM row a JOIN row b ON b.rowid=a.rowid+1 AND b.pop=a.pop JOIN due x ON (x.pop, x.n)=(a.pop, a.n)
    JOIN due y ON (y.pop, y.n)=(b.pop, b.n)
    WHERE (x.last IS NULL, ifnull(x.last, x.n)) > (y.last IS NULL, ifnull(y.last, y.n))
populations: the row of P05 says another thing than the entry
    SELECT row.n FROM row JOIN e USING (n) JOIN due USING (n, pop) LEFT JOIN e done ON done.n=last AND done.k='act.done'
    WHERE pop='P05' AND ((session, command, resource) IS NOT (e.s, e.q, e.c)
    OR done.n AND (outcome, row.rows, row.masked) IS NOT (done.out, done.rows, done.masked))
populations: the row of P08 names another rule set, or a text that is not here
    SELECT row.n FROM row JOIN e USING (n) WHERE pop='P08' AND (rules IS NOT e.p OR text IS NOT NULL
    AND (text<>'rules/' || e.p || '.rules' OR e.p NOT IN (SELECT p FROM rules)))
"""
# pack.md, Controls: the exceptions of the controls that are found anew. Each entry is an exception once, for the first
# of its reasons. They are no failure of the pack; another number of them in controls/results.jsonl is one.
EXCEPTIONS = """
decision: nobody asked for a decision on this command
    SELECT n FROM decide WHERE n NOT IN (SELECT d.n FROM decide d JOIN request r USING (rev, ch) WHERE r.n<d.n)
segregation: nobody asked for what is approved
    SELECT n FROM yes WHERE n NOT IN (SELECT y.n FROM yes y JOIN request r USING (rev) WHERE r.n<y.n)
segregation: who approved has a part in the request
    SELECT y.n FROM yes y JOIN request r USING (rev) WHERE y.by=r.a OR EXISTS
    (SELECT 1 FROM link JOIN link x USING (issuer, subject) WHERE link.a=y.by AND x.a=r.a)
segregation: who approved or who asked is not in the directory
    SELECT y.n FROM yes y JOIN request r USING (rev) WHERE y.by NOT IN (SELECT a FROM chain) OR r.a NOT IN
    (SELECT a FROM chain)
approval-binding: nobody asked for this command under this review
    SELECT n FROM spend WHERE n NOT IN (SELECT u.n FROM spend u JOIN request r USING (rev, ch) WHERE r.n<u.n)
approval-binding: the approval was used before
    SELECT u.n FROM spend u JOIN spend x USING (rev) WHERE x.n<u.n
approval-binding: it is used past its limit
    SELECT u.n FROM spend u JOIN request r USING (rev, ch) WHERE r.n<u.n AND u.t>r.until
approval-binding: a review rule that was needed did not approve this command before
    SELECT u.n FROM spend u JOIN request r USING (rev, ch), json_each(r.needed) rule WHERE r.n<u.n AND NOT EXISTS
    (SELECT 1 FROM yes WHERE yes.rev=u.rev AND yes.ch=u.ch AND yes.n<u.n AND json_extract(yes.d, '$[1]')=rule.value)
approval-binding: it ran under a review of which no use is here
    SELECT n FROM e WHERE k='act.start' AND rev IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM spend u WHERE u.rev=e.rev AND u.s=e.s AND u.q=e.q AND u.ch=e.ch AND u.n<e.n)
"""

class Lists:
    """What is compared with the entries. `v`: the verifier, which calls what is here while it reads the pack."""
    def __init__(self, v):
        self.v, self.db, self.sessions, self.tables, self.stated = v, v.db, {}, {}, {}
        self.gone = -1, 0, 0, None  # the last segment that lost entries: its first; of the hashes first, number, digest
        self.judged = sorted({pop for pop, _, _ in ROWS})
        self.db.executescript(f"""
            CREATE TABLE e (n INTEGER PRIMARY KEY, {','.join(COLUMNS[1:])}); CREATE INDEX e_k ON e (k, p);
            CREATE INDEX e_s ON e (s, q); CREATE INDEX e_rev ON e (rev); CREATE TABLE chain (a PRIMARY KEY, com, links);
            CREATE TABLE link (a, issuer, subject, UNIQUE (a, issuer, subject)); CREATE TABLE rules (p PRIMARY KEY);
            CREATE TABLE signed (n PRIMARY KEY, sig); CREATE TABLE block (s, number, hash, PRIMARY KEY (s, hash));
            CREATE TABLE recording (s PRIMARY KEY); CREATE TABLE hole (s PRIMARY KEY);
            CREATE TABLE row (pop, n, at, {','.join(ROW)}); CREATE INDEX row_n ON row (pop, n);
            CREATE TABLE gone (first PRIMARY KEY, n, dropped, cr, since); CREATE TABLE said (first, dropped, cr, last);
            CREATE TABLE present (pop PRIMARY KEY); CREATE TABLE judged (pop PRIMARY KEY);
            INSERT INTO judged VALUES {','.join(f"('{pop}')" for pop in self.judged)};
            CREATE VIEW opened AS SELECT s, min(n) AS n FROM e WHERE k='session.open' GROUP BY s;
            CREATE VIEW old AS SELECT s FROM opened WHERE n < (SELECT max(f.n) FROM e p JOIN e f USING (file)
                WHERE p.k='prune.recording' AND f.k='rec.segment' AND f.n<p.n);
            CREATE VIEW lacks AS SELECT * FROM e WHERE cm IS NOT NULL AND NOT EXISTS (SELECT 1 FROM block b
                WHERE b.s=e.s AND b.hash=e.cm);
            CREATE VIEW lost AS SELECT g.dropped, max(last) AS last FROM gone g JOIN said USING (first) GROUP BY first;
            CREATE VIEW act AS SELECT * FROM e WHERE k IN ('session.open', 'act.start', 'act.deny');
            CREATE VIEW request AS SELECT * FROM e WHERE k='approval.request';
            CREATE VIEW decide AS SELECT * FROM e WHERE k='approval.decide';
            CREATE VIEW yes AS SELECT * FROM decide WHERE d LIKE '["approve"%';
            CREATE VIEW spend AS SELECT * FROM e WHERE k='approval.use'""")
    def hold(self, *words):
        return self.v.hold(*words)
    def insert(self, table, *row):
        return self.v.insert(table, *(v if v is None or type(v) in (int, str) else json.dumps(v) for v in row))

    def pruned(self, first, n, leaf):
        """pack.md, Pruned entries: what is left of an entry of the segment that begins with the entry `first`."""
        if first != self.gone[0]:
            if not self.hold(self.gone[0] < first <= n, "lines", n, "it was pruned from a segment that is not here"):
                return True
            self.gone = first, n, 0, hashlib.sha256()
        _, at, count, hashes = self.gone
        hashes.update(leaf)
        self.gone = first, at, count + 1, hashes
        since = self.v.last["t"] if self.v.last else 0  # it is not older than the entry before it
        self.db.execute("REPLACE INTO gone VALUES (?, ?, ?, ?, ?)", (first, at, count + 1, hashes.hexdigest(), since))
        return True

    def missing(self):
        """pack.md, Pruned entries: how many can be of the period, and the last instant of any, also in words."""
        return self.db.execute("""SELECT ifnull(sum(dropped), 0), max(last), strftime('%Y-%m-%d %H:%M:%S UTC',
            max(last) / 1000000, 'unixepoch') FROM lost WHERE last>=?""", (self.v.since,)).fetchone()

    def entry(self, e, n, leaf):
        """ledger.md, Sessions: what begins in one is closed once, then the session; its close states its leaves."""
        if e["k"] in KINDS:
            self.insert("e", n, *map(e.get, COLUMNS[1:]))
        if e["k"] == "prune.ledger":
            self.insert("said", e["first"], e["dropped"], e["cr"], e["last"])
        kind, s = e["k"], self.sessions.get(e.get("s"))
        command = kind in ("act.start", "act.done") or kind == "crash" and "q" in e
        if kind == "session.open":
            self.hold(not s, "sessions", n, "a session is opened that is open")
            s = self.sessions[e["s"]] = {"n": n, "acts": 0, "leaves": 0, "roll": bytes(32), "open": set()}
        elif command or kind in ("session.close", "crash"):
            if not self.hold(s, "sessions", n, "the session of this entry is not open"):
                return
            if kind == "act.start":
                s["open"].add(e["q"])
                s["acts"] += 1
            elif command:
                self.hold(e["q"] in s["open"], "sessions", n, "a command is closed that is not open")
                s["open"].discard(e["q"])
            else:
                self.hold(not s["open"], "sessions", n, "a session is closed with a command that is open")
                has = s["acts"], s["leaves"], s["roll"].hex()
                rolls = kind == "crash" or has == (e["acts"], e["leaves"], e["roll"])
                self.hold(rolls, "rolling", n, "the close states other commands or leaves than the session has")
                del self.sessions[e["s"]]
        if s and (command or kind in ("session.open", "act.deny", "approval.request", "approval.use")):
            s["leaves"], s["roll"] = s["leaves"] + 1, sha256(s["roll"] + leaf)

    def read_directory(self, path, file):
        for row in objects(file, CHAIN):
            com = sha256(b"chancery/principal/1" + bytes.fromhex(row["salt"]) + canonical(row)).hex()
            new = self.insert("chain", row["a"], com, 1 + len(row["actors"]))
            self.hold(new, "directory", None, f"the chain {row['a']} has two lines")
            for link in (row["principal"], *row["actors"]):
                self.insert("link", row["a"], link["issuer"], link["subject"])

    def read_rules(self, path, file):
        while file.read(1 << 20):
            pass
        self.hold(file.raw.hash.hexdigest() == path[6:70], "rules", None, f"{path} has not the digest that is its name")
        self.insert("rules", path[6:70])

    def read_reviews(self, path, file):
        last = -1
        for row in objects(file, APPROVAL):
            self.hold(row["entry"] > last, "approvals", row["entry"], "the signature is not in the order of its entry")
            last = row["entry"]
            self.insert("signed", last, sha256(row["signature"].encode("utf-8")).hex())

    def read_recordings(self, path, file):
        """recording.md, Block: the chain of a session. What entries state of it is compared at the end."""
        s, last, at = path[11:43], bytes(32), 0
        self.insert("recording", s)
        for head in iter(lambda: file.read(108), b""):
            magic, session, number, before, codec, zero, decoded, stored, _ = struct.unpack(
                ">4s16sQ32s32xB3sIII", head.ljust(108, b"\0"))
            payload = file.read(stored) if stored <= decoded <= MAX_BLOCK else None
            whole = magic == b"CRB2" and codec <= 1 and not any(zero) and payload is not None and len(payload) == stored
            if not whole or codec == 0 and stored != decoded:
                raise ValueError(f"block {at} is not whole")
            gap = number > at  # blocks that were pruned, or taken away: judged at the end
            follows = session.hex() == s and (gap or (number, before) == (at, last))
            self.hold(follows, "recordings", None, f"{path}: block {at} is of another session or place")
            if gap:
                self.insert("hole", s)
            last, at = sha256(b"\2" + head + payload), number + 1
            self.insert("block", s, at, last.hex())
        self.hold(at, "recordings", None, f"{path} is empty")

    def read_populations(self, path, file):
        """pack.md, Populations: what `.ipe.json` says of the rows. The rows themselves are compared at the end."""
        pop, kind, m, h = path[12:15], path[16:], self.v.manifest, self.v.head
        table = self.tables.setdefault(pop, {"row_count": 0, "first_key": None, "last_key": None, "columns": None})
        for row in objects(file, dict) if kind == "jsonl" else ():
            n, columns = row.get("entry"), table["columns"] or row.keys()
            placed = pop not in self.judged or like(n, int) and like(row.get("at"), TIME)
            if columns != row.keys() or not placed:
                raise ValueError("a row has other columns than the first, or neither entry nor time")
            first, last = table["first_key"], table["last_key"]  # a row of P19 may have no entry
            table.update(row_count=table["row_count"] + 1, first_key=n if first is None else first,
                         last_key=last if n is None else n, columns=columns)
            if pop in self.judged:
                self.insert("row", pop, n, microseconds(row["at"]), *map(row.get, ROW))
        table.update({"sha256": file.raw.hash.hexdigest()} if kind == "jsonl" else {})
        if kind == "ipe.json":
            ipe = one_line(file.read(MAX_LINE + 1), IPE)
            columns = ipe["columns"]
            origins = [{"origin": h["origin"], "root": h["root"], "size_from": 0, "size_to": h["size"]}]
            named = columns[:2] == ["entry", "at"] and sorted(columns) == sorted(table["columns"] or columns)
            wanted = {**table, "population_id": pop, "system": h["origin"], "period_from": m["period"]["from"],
                      "period_to": m["period"]["to"], "generated_at": m["created_at"], "timezone": "UTC",
                      "origins": origins, "columns": columns if named else None}
            wrong = [key for key in sorted(wanted) if ipe.get(key, wanted[key]) != wanted[key]]
            count, last, _ = self.missing()
            said = [(x["count"], microseconds(x["reason"][-27:])) for x in ipe["excluded"] if "pruned" in x["reason"]]
            wrong += [] if said == [(count, last)][:count] else ["excluded"]
            self.hold(not wrong, "populations", None, f"{path} is wrong about {' '.join(wrong)}")
            if ipe["absent"] is None:
                self.insert("present", pop)
            elif table["row_count"]:
                raise ValueError("there are rows of what is absent")

    def read_controls(self, path, file):
        """pack.md, Controls: how many exceptions each control is said to have."""
        for row in objects(file, RESULT) if path == "controls/results.jsonl" else ():
            found = row["exceptions"]
            said = {"holds": found == 0, "exceptions": 0 < found, "not tested": found == 0}[row["result"]]
            said = said and (row["result"] == "not tested") == (row["untested"] is not None)
            self.hold(said, "controls", None, f"the result of {row['control']} does not follow from its exceptions")
            self.hold(row["control"] not in self.stated, "controls", None, f"{row['control']} is there twice")
            self.stated[row["control"]] = found

    def end(self):
        """What was read against the entries, which are rows `e` of the database now."""
        v, first = self.v, min((s["n"] for s in self.sessions.values()), default=None)
        self.hold(first is None, "sessions", first, f"open at the end: {len(self.sessions)} sessions", INCONCLUSIVE)
        count, _, when = self.missing()
        pruned = f"{count} entries, written up to {when}, were pruned: what of the period they said is missing"
        self.hold(not count, "populations", None, pruned, INCONCLUSIVE)
        pops = [file["path"][:15] for file in v.manifest["files"] if file["path"].startswith("populations/")]
        three = pops == [pop for pop in pops[::3] for _ in range(3)]
        self.hold(three, "populations", None, "a population has not three files")
        rows = " UNION ALL ".join(f"SELECT '{pop}' AS pop, n, t, {last} AS last FROM e WHERE {begins}"
                                  for pop, begins, last in ROWS)
        self.db.execute(f"""CREATE TABLE due AS SELECT pop, i.n, last FROM ({rows}) i LEFT JOIN e l ON l.n=last
            WHERE i.t<{v.until} AND (i.t>={v.since} OR l.t IS NULL OR l.t>={v.since})""")
        self.db.execute("CREATE INDEX due_n ON due (pop, n)")
        period = f"t>={v.since} AND t<{v.until}"
        for check, unsure, what, query in re.findall(r"(\w+)(\??): (.*)((?:\n .*)+)", QUERIES):
            query = f"SELECT * FROM ({query.replace('PERIOD', period)}) ORDER BY 1 IS NULL, 1"
            row = self.db.execute(query).fetchone()
            self.hold(row is None, check, row and row[0], what, INCONCLUSIVE if unsure else FAIL)
        self.controls(period)

    def controls(self, period):
        """pack.md, Controls: the exceptions that are found here, and whether as many are stated."""
        found = {"segregation": {}, "approval-binding": {}, "decision": {}}
        for control, what, query in re.findall(r"([\w-]+): (.*)((?:\n .*)+)", EXCEPTIONS):
            for n, in self.db.execute(f"SELECT n FROM e WHERE {period} AND n IN ({query})"):
                found[control].setdefault(n, what)
        asked = set(self.v.manifest["controls"]) or {"segregation", "approval-binding"}
        missing = "" if self.stated else "controls/results.jsonl is not here, or empty"
        self.hold(not missing, "controls", None, missing, INCONCLUSIVE)
        same = asked <= self.stated.keys() and (not self.v.manifest["controls"] or asked == self.stated.keys())
        self.hold(missing or same, "controls", None, "the results are not those of the controls that were asked for")
        for control, exceptions in found.items():
            for n, what in sorted(exceptions.items()):
                self.v.exceptions.append({"control": control, "entry": n, "what": what})
            same = self.stated.get(control, len(exceptions)) == len(exceptions)
            self.hold(same, "controls", None, f"{control} has {len(exceptions)} exceptions by the entries")

def canonical(chain):
    """ledger.md, Command digest: the canonical chain."""
    def sized(*texts):
        return b"".join(len(data).to_bytes(8, "big") + data for data in (text.encode("utf-8") for text in texts))
    def link(of):
        return sized(of["issuer"], of["subject"]) + bytes([("user", "service", "agent").index(of["kind"])])
    principal, groups = chain["principal"], chain["principal"]["groups"]
    return b"".join([link(principal), len(groups).to_bytes(8, "big"), sized(*groups), *map(link, chain["actors"])])

def objects(file, form):
    return (one_line(line, form) for line in iter(lambda: file.readline(MAX_LINE + 1), b""))
