#!/usr/bin/env python3
"""Verifies the evidence packs of several logs together, by docs/spec/pack.md and registry.md alone: each by itself, as
verify.py does, which must lie beside this file; and with the registry's key whether there is a pack of each log that is
registered, as far as it was registered (the check *origins*). Shares no code with the writer. Not checked: witnesses
and timestamps of the registry, and what verify.py does not check.
Exit: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 MALFORMED container or manifest of a pack, 64 usage."""
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
if __name__ == "__main__":  # no module of Python's is taken from beside this file
    sys.path[:] = [p for p in sys.path if os.path.realpath(p) != HERE]
import argparse
import base64
import functools
import importlib.util
import json

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("verify", os.path.join(HERE, "verify.py"))
verify = sys.modules["verify"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)
# A registered head is looked at as an entry of the registry, and again as a checkpoint of its log.
verify.ed25519_holds = functools.lru_cache(1 << 16)(verify.ed25519_holds)
PASS, FAIL, INCONCLUSIVE, must = verify.PASS, verify.FAIL, verify.INCONCLUSIVE, verify.must

MAX_LINE, MAX_LINES, MAX_LOGS, MAX_ENTRIES, MAX_STAMPS = 4096, 200_000, 1000, 256_000_000, 64
# registry.md, Entries: forms of what every entry has, and of the kinds; see `like` in verify.py.
LOG = r"[!#-*,-\[\]-~]{1,200}"
COMMON = {"v": 1, "o": LOG, "n": int, "t": None, "log": LOG}
JOIN = {"k": "origin[.]join", "key": r"\S+", "ladder": r"\S+", **COMMON}
HEAD = {"k": "origin[.](head|retire)", "grew": "first|proven|claimed", "root": verify.DIGEST, "sigs": [".*"],
        "size": int, **COMMON}


class NoRoots(Exception):
    """The roots of a pack's log are not known. With the log: why the registry does not hold, if it does not."""


class Log:
    """A log that joined: its roots, its registered heads as `read_note` gives them, and when it retired or None."""

    def __init__(self, log, root_key):
        self.log, self.root_key, self.heads, self.retired = log, root_key, [], None

    def misses(self, pack):
        """What is wrong with a pack of it."""
        if pack.log != self.log:
            return "was not verified with the key by which it is registered"
        if not self.heads:
            return None
        _, size, root, _ = self.heads[-1]
        if pack.size < size:
            return f"has {pack.size} entries, and {size} are registered"
        if pack.size == size and pack.root != root:
            return f"has other entries than the {size} that are registered"
        if self.retired is not None and pack.size > size:
            return f"retired with {size} entries and has {pack.size}"
        return None


class Registry:
    """registry.md: the entries that its checkpoints cover, and what is wrong with them. `copies`: name, entries and
    notes of each; `notes`: checkpoints from elsewhere."""

    def __init__(self, name, key, copies, notes):
        self.name, self.key, self.wrong, self.logs, self.time, self.tree = name, key, [], {}, None, verify.Tree()
        self.is_here = copies != []
        copies = [(whose, entries, list(map(read_note, some))) for whose, entries, some in copies]
        if not copies:
            self.wrong.append((INCONCLUSIVE, "no pack has a copy of the registry, and none was handed in"))
            return
        covered = [self.covered(*copy) for copy in copies]
        longest = max(range(len(copies)), key=lambda at: len(covered[at]))
        for (whose, _, _), lines in zip(copies, covered):
            first = covered[longest].startswith(lines)
            self.hold(first, f"is not the beginning of that in {copies[longest][0]}", whose)
        self.read(copies[longest][1], [note for _, _, some in copies for note in some] + notes)

    def hold(self, holds, what, whose=None, verdict=FAIL):
        if not holds:
            self.wrong.append((verdict, f"the registry in {whose} {what}" if whose else f"the registry: {what}"))

    def covered(self, whose, entries, notes):
        """The bytes of the entries of which a copy's checkpoints speak."""
        size = max((note[1] for note in notes if note), default=0)
        lines = entries.split(b"\n")[:-1]
        self.hold(size <= len(lines), "lacks entries of which its checkpoints speak", whose)
        return b"".join(line + b"\n" for line in lines[:size])

    def read(self, entries, notes):
        """registry.md, Verification: lines, checkpoints and tail."""
        heads = {}
        for note in notes:
            mine = note and note[0] == self.name and note[3](self.name, self.key)
            self.hold(mine, "a checkpoint is none, or not signed by its key")
            if mine:
                self.hold(heads.setdefault(note[1], note[2]) == note[2], f"it was forked at {note[1]} entries")
        last = max(heads, default=0)
        *lines, rest = entries.split(b"\n")
        for n, line in enumerate(lines[:last]):
            try:
                self.take(line, n)
            except ValueError as problem:
                self.hold(False, f"entry {n}: {problem}")
            self.tree.push(verify.sha256(b"\0" + line))
            if n + 1 in heads:
                self.hold(heads[n + 1] == self.tree.root(), f"the root signed for {n + 1} entries is another")
        self.hold(last <= len(lines), f"entries {len(lines)} to {last - 1} are signed and missing")
        self.hold(last, "no checkpoint covers an entry", verdict=INCONCLUSIVE)
        self.hold(len(lines) <= last and not rest, "bytes follow that no checkpoint covers", verdict=INCONCLUSIVE)

    def take(self, line, n):
        """registry.md, Entries: one that has the form and fits; ValueError says why not."""
        must(len(line) <= MAX_LINE and n < MAX_LINES, "too long a line, or too many", ValueError)
        e = verify.decode(line)
        form = type(e) is dict and (JOIN if e.get("k") == "origin.join" else HEAD)
        whole = form and verify.like(e, form) and type(e["t"]) is int and dump(e) == line
        must(whole and b"\\" not in line, "it has not the form of an entry", ValueError)
        on = (e["n"], e["o"]) == (n, self.name) and (self.time is None or e["t"] >= self.time)
        must(on, "it has another place, is another registry's, or earlier than the one before", ValueError)
        if form is JOIN:
            self.join(e)
        else:
            self.head(e)
        self.time = e["t"]

    def join(self, e):
        log, root_key = verify.roots(f"{e['key']}\n{e['ladder']}".encode("utf-8"))
        must(log[0] == e["log"] and root_key, "the keys are not those of the log", ValueError)
        known = log[0] in self.logs or log[0] == self.name or log[1] in {one.log[1] for one in self.logs.values()}
        must(not known and len(self.logs) < MAX_LOGS, "the log or its key joined before, or too many did", ValueError)
        self.logs[log[0]] = Log(log, root_key)

    def head(self, e):
        known, sigs, name = self.logs.get(e["log"]), e["sigs"], e["log"]
        must(known and known.retired is None, "the log has not joined, or has retired", ValueError)
        epoch = all(sig.startswith(f"{name}/epoch/") for sig in sigs[1:])
        must(len(sigs) in (1, 2) and sigs[0].startswith(f"{name} ") and epoch, "others signed the head", ValueError)
        body = f"{name}\n{e['size']}\n{base64.b64encode(bytes.fromhex(e['root'])).decode()}\n"
        note = verify.read_note((body + "\n" + "".join(f"\u2014 {sig}\n" for sig in sigs)).encode("utf-8"))
        must(e["size"] and note[3](*known.log), "the head is not signed by the log's key", ValueError)
        must((e["grew"] == "first") == (not known.heads), "it says the wrong thing of the head before", ValueError)
        _, size, root, _ = known.heads[-1] if known.heads else (None, 0, None, None)
        grows = e["size"] > size or e["size"] == size and note[2] == root
        must(grows, "the log is shorter than it was, or has another root", ValueError)
        known.heads.append(note)
        known.retired = e["t"] if e["k"] == "origin.retire" else None


class Pack:
    """A pack: what stands in front of it is read at once, the whole of it by `run`."""

    def __init__(self, path):
        self.path, self.log, self.copy = path, None, None
        pack, front = self.open(), verify.Verifier(("", bytes(32)), None)  # for the manifest; who signed comes later
        front.read_manifest(pack)
        self.origin, self.since, self.until, self.last = front.head["origin"], front.since, front.until, front.created
        files = {}
        for name in (file["path"] for file in front.manifest["files"] if file["path"].startswith("registry/")):
            file, most = pack.member(name), MAX_ENTRIES if name == "registry/entries" else verify.MAX_NOTE
            must(file.raw.size <= most, f"{name} has more than {most} bytes")
            files[name] = file.read()
        if files:
            notes = [data for name, data in files.items() if name.endswith(("checkpoint", "witnessed", ".note"))]
            self.copy = path, files.get("registry/entries", b""), notes

    def open(self):
        return verify.Folder(self.path) if os.path.isdir(self.path) else verify.Archive(self.path)

    def run(self, log, root_key, notes):
        verifier = verify.Verifier(log, root_key, notes, verify.beside(self.path))
        result = verifier.run(self.open())
        self.log, self.size, self.root = log, result["size"], bytes.fromhex(result["root"])
        return result


def judge(registry, packs):
    """pack.md, Packs of several logs: what is wrong, or one PASS."""
    found, since, until = list(registry.wrong), min(pack.since for pack in packs), max(pack.until for pack in packs)
    if registry.is_here:
        for name, known in sorted(registry.logs.items()):
            mine = [pack for pack in packs if pack.origin == name]
            gone = known.retired is not None and known.retired < since
            what = "is registered and was not handed in" if not mine and not gone else None
            what = known.misses(mine[0]) if len(mine) == 1 else what
            found += [(FAIL, f"{name} {what}")] if what else []
        found += [(FAIL, f"{pack.origin} was handed in and is not registered")
                  for pack in packs if pack.origin not in registry.logs]
    found += twice(packs)
    short = [pack.origin for pack in packs if pack.since != since or pack.until < until and pack.until <= pack.last]
    found += [(INCONCLUSIVE, f"the period of {origin} is shorter than that of other packs") for origin in short[:1]]
    return found or [(PASS, None)]


def twice(packs):
    origins = [pack.origin for pack in packs]
    return [(FAIL, f"{origin} was handed in twice") for origin in sorted({*origins}) if origins.count(origin) > 1]


def dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def read_note(data):
    """A checkpoint, or None if it is none."""
    try:
        return verify.read_note(data)
    except ValueError:
        return None


def directory(path):
    """registry.md, Files: a registry, or a copy of it."""
    def read(name, most):
        with open(os.path.join(path, name), "rb") as file:
            data = file.read(most + 1)
        must(len(data) <= most, f"{name} has more than {most} bytes", ValueError)
        return data
    stamps, names = os.path.join(path, "stamps"), ["checkpoint"]
    names += ["witnessed"] if os.path.exists(os.path.join(path, "witnessed")) else []
    answers = sorted(name for name in os.listdir(stamps) if name.endswith(".tsr")) if os.path.isdir(stamps) else []
    names += [os.path.join("stamps", name[:-3] + "note") for name in answers[-MAX_STAMPS:]]
    notes = [read(name, verify.MAX_NOTE) for name in names]  # before the entries that they cover
    return path, read("entries", MAX_ENTRIES), notes


def key_of(text):
    log, root_key = verify.roots(verify.handed_in(text) if os.path.isfile(text) else text.encode("utf-8"))
    must(root_key is None, "more than one key", ValueError)
    return log


def run(given, log_roots, registry_key, notes, own):
    """What is said of all packs: their results, and what *origins* found, None if it was not made."""
    packs, copies = [Pack(path) for path in given.packs], own
    for pack in packs:
        copies += [pack.copy] if pack.copy and pack.copy[1:] not in [copy[1:] for copy in copies] else []
    ours = [note for note in notes if registry_key and note[0] == registry_key[0]]
    registry = Registry(*registry_key, copies, ours) if registry_key else None
    registered, origins = registry.logs if registry else {}, {pack.origin for pack in packs}
    for pack in packs:
        known = registered.get(pack.origin)
        if pack.origin not in log_roots and known:
            log_roots[pack.origin] = known.log, known.root_key
        if pack.origin not in log_roots:
            failed = next((what for verdict, what in registry.wrong if verdict == FAIL), None) if registry else None
            raise NoRoots(pack.origin, failed)
    results = []
    for at, pack in enumerate(packs):
        heads = registered[pack.origin].heads if pack.origin in registered else []
        stray = [note for note in notes if at == 0 and note not in ours and note[0] not in origins]
        mine = [note for note in notes if note[0] == pack.origin] + stray
        results.append({"pack": pack.path, "origin": pack.origin, **pack.run(*log_roots[pack.origin], mine + heads)})
    found = judge(registry, packs) if registry else twice(packs) or None
    return results, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda problem: parser.exit(64, f"{parser.format_usage()}{problem}\n")
    parser.add_argument("packs", nargs="+", metavar="PACK", help="an archive, the first of its parts, or a directory")
    parser.add_argument("--registry-key", metavar="KEY", help="the registry's public key, or a file, from elsewhere")
    parser.add_argument("--registry", metavar="DIR", help="a copy of the registry, from elsewhere")
    parser.add_argument("--roots", nargs="+", action="extend", default=[], metavar="FILE",
                        help="keys of each log and of its epoch 0, from elsewhere; else those of the registry")
    parser.add_argument("--checkpoint", nargs="+", action="extend", default=[], metavar="NOTE", help="from elsewhere")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        log_roots = {log[0]: (log, root_key) for log, root_key in map(verify.roots, map(verify.handed_in, given.roots))}
        notes = [verify.read_note(verify.handed_in(path)) for path in given.checkpoint]
        registry_key = key_of(given.registry_key) if given.registry_key else None
        own = [directory(given.registry)] if given.registry else []
    except (OSError, ValueError) as problem:
        parser.error(f"the roots, checkpoints or registry: {problem}")
    if not (log_roots or registry_key) or given.registry and not registry_key:
        parser.error("the roots of the logs, or the registry's key, are needed")
    inside = [os.path.realpath(path) + os.sep for path in given.packs]
    if any(os.path.realpath(roots).startswith(pack) for roots in given.roots for pack in inside):
        parser.error("the roots are in a pack that they are to verify")
    try:
        results, found = run(given, log_roots, registry_key, notes, own)
    except NoRoots as unknown:
        origin, failed = unknown.args
        if not failed:
            parser.error(f"the roots of {origin} are not known")
        say(given, [], [(FAIL, failed)])
        sys.exit(1)
    except Exception as problem:  # whatever it is, the packs were not verified
        what = str(problem) if isinstance(problem, verify.Malformed) else f"{type(problem).__name__}: {problem}"
        print(dump({"verdict": "MALFORMED", "what": what}).decode() if given.json else f"MALFORMED {ascii(what)[1:-1]}")
        sys.exit(3)
    sys.exit({PASS: 0, FAIL: 1, INCONCLUSIVE: 2}[say(given, results, found)])


def say(given, results, found):
    """Prints all of it, and gives the gravest verdict."""
    verdicts = [result["verdict"] for result in results] + [verdict for verdict, _ in found or []]
    verdict = max(verdicts, key=verify.GRAVITY.index)
    if given.json:
        origins = None if found is None else [
            {"check": "origins", "verdict": verdict, "what": what} for verdict, what in found]
        print(json.dumps({"verdict": verdict, "packs": results, "origins": origins}))
        return verdict
    for result in results:
        print(f"PACK {ascii(result['pack'])[1:-1]} of {ascii(result['origin'])[1:-1]}")
        for c in result["checks"] + [{**x, "verdict": "EXCEPTION"} for x in result["exceptions"]]:
            at = "" if c["entry"] is None else f" entry {c['entry']}"
            print(f"{c['verdict']} {c.get('check') or c['control']}{at} {ascii(c['what'] or '')[1:-1]}".rstrip())
        bad = "" if result["first_bad_entry"] is None else f" first bad entry: {result['first_bad_entry']}"
        print(f"{result['verdict']} size {result['size']} root {result['root']}{bad}")
    for one, what in found or []:
        print(f"{one} origins {ascii(what or '')[1:-1]}".rstrip())
    if not given.registry_key:
        print("not checked: origins (without --registry-key nothing says whether there are packs of other gateways)")
    print(f"{verdict} packs {len(results)}")
    return verdict


if __name__ == "__main__":
    main()
