"""Evidence packs: read, changed, and put down again as a careful hand would; and both verifiers asked. Made from
docs/spec/pack.md, ledger.md and recording.md alone; shares no code with the program."""

import collections
import hashlib
import json
import pathlib
import struct
import subprocess
import sys

from .ledger import crc32c
from .process import ROOT
from .tlog import DASH, b64, expand, key_id, leaf_hash, root_of, sign

PYTHON = ROOT / "crates/evidence/python/verify.py"
ORIGINS = PYTHON.with_name("origins.py")
BLOCK = 512
WITHIN = ("session.open", "act.start", "act.done", "act.deny", "approval.request", "approval.use")


def dump(value):
    """JSON as entries and packs have it."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


# --- the container ---------------------------------------------------------------------------------------------------

def header(path, size, kind=b"0", link=b"", mode=b"0000644"):
    """The header of a member (POSIX ustar)."""
    front = f"pack/{path}".encode().ljust(100, b"\0") + mode + b"\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    rest = kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return front + b"%06o\0 " % (sum(front) + sum(rest) + 8 * 32) + rest


def members(data):
    """Path and bytes of each member of an archive that is one."""
    at = 0
    while data[at:at + BLOCK].strip(b"\0"):
        head = data[at:at + BLOCK]
        path, size = head[:100].rstrip(b"\0").decode(), int(head[124:135], 8)
        assert head == header(path.removeprefix("pack/"), size), path
        yield path.removeprefix("pack/"), data[at + BLOCK:at + BLOCK + size]
        at += BLOCK + size + -size % BLOCK
    assert len(data) == at + 2 * BLOCK


def archive(files):
    """An archive of (path, bytes)."""
    return b"".join(header(path, len(data)) + data + bytes(-len(data) % BLOCK) for path, data in files) + bytes(2 * BLOCK)


# --- entries ---------------------------------------------------------------------------------------------------------

def tile_path(level, index, width):
    """C2SP tlog-tiles: groups of three digits, and the width of a partial tile."""
    path, rest = f"{index % 1000:03}", index // 1000
    while rest:
        path, rest = f"x{rest % 1000:03}/{path}", rest // 1000
    return f"tile/{level}/{path}" + ("" if width == 256 else f".p/{width}")


def tiles(lines):
    """The files of `ledger/` behind the checkpoint, in their order."""
    hashes, made = [leaf_hash(line) for line in lines], {}
    for at in range(0, len(lines), 256):
        some, width = lines[at:at + 256], len(lines[at:at + 256])
        made["ledger/" + tile_path(0, at // 256, width)] = b"".join(hashes[at:at + 256])
        made["ledger/" + tile_path("entries", at // 256, width)] = b"".join(struct.pack(">H", len(one)) + one for one in some)
    level, below = 1, hashes
    while len(below) >= 256:
        below = [root_of(below[at:at + 256]) for at in range(0, len(below) // 256 * 256, 256)]
        for at in range(0, len(below), 256):
            made["ledger/" + tile_path(level, at // 256, len(below[at:at + 256]))] = b"".join(below[at:at + 256])
        level += 1
    return made


def seal_entry(entry, origin, seed):
    """Signs a `key.epoch` anew, with the key before it."""
    text = "\n".join(["chancery/epoch/1", origin, str(entry["e"]), entry["key"], str(entry["life_ms"]), str(entry["size"]),
                      entry["root"], ""])
    entry["sig"] = sign(seed, text.encode()).hex()


def relay(entries, origin, log=None, epochs=(), anew=False):
    """Lines of changed entries, consistent again in all that needs no key that is not here: places, rolling hashes, counts,
    references, roots, and the signatures of epochs as far as `log` and `epochs` (seeds by number) go. A key of an epoch that
    ended is not here, usually; then the newest that is signs in its place. `anew`: every epoch, not those behind a change alone."""
    lines, hashes, roll, moved = [], [], {}, {}
    epochs = dict(epochs)
    for old in entries:
        entry = {**old, "n": len(lines)}
        kind, session = entry["k"], entry.get("s")
        changed = anew or any(was != now for was, now in moved.items())
        if kind == "key.epoch" and changed:
            entry["size"], entry["root"] = entry["n"], root_of(hashes).hex()
            before = epochs.get(entry["e"] - 1) if entry["e"] else log
            if epochs or log:
                seal_entry(entry, origin, before or epochs[max(epochs)])
        if kind == "boot" and changed:
            entry["size"] = entry["n"] - (old["n"] - old["size"])
            entry["root"] = root_of(hashes[:entry["size"]]).hex()
        if "ref" in entry:
            entry["ref"] = [moved.get(ref, ref) for ref in entry["ref"]]
        if kind == "session.open":
            roll[session] = [bytes(32), 0, 0]
        if kind == "session.close":
            entry["roll"], entry["acts"], entry["leaves"] = roll[session][0].hex(), *roll[session][1:]
        line = dump(entry)
        lines.append(line)
        hashes.append(leaf_hash(line))
        was = old.get("n", -1)
        moved[f"{was}:{leaf_hash(dump(old)).hex()}"] = f"{entry['n']}:{hashes[-1].hex()}"
        if session in roll and (kind in WITHIN or (kind == "crash" and "q" in entry)):
            state = roll[session]
            state[:] = [hashlib.sha256(state[0] + hashes[-1]).digest(), state[1] + (kind == "act.start"), state[2] + 1]
    return lines


def note(origin, lines, *signers):
    """A checkpoint over these lines, signed under each name with each seed."""
    body = f"{origin}\n{len(lines)}\n{b64(root_of([leaf_hash(line) for line in lines]))}\n"
    signed = "".join(f"{DASH} {name} {b64(key_id(name, 1, expand(seed)[2]) + sign(seed, body.encode()))}\n" for name, seed in signers)
    return f"{body}\n{signed}".encode()


def sealed(name, manifest, seed):
    """What the log's key says of a manifest."""
    body = f"chancery/pack/1\n{sha(manifest)}\n"
    return f"{body}\n{DASH} {name} {b64(key_id(name, 1, expand(seed)[2]) + sign(seed, body.encode()))}\n".encode()


def vkey(name, seed):
    """A verifier key of signed-note."""
    public = expand(seed)[2]
    return f"{name}+{key_id(name, 1, public).hex()}+{b64(bytes([1]) + public)}"


# --- recordings ------------------------------------------------------------------------------------------------------

def unlz4(data, size):
    """The LZ4 block format."""
    out, at = bytearray(), 0
    while at < len(data):
        token = data[at]
        at += 1

        def length(start):
            nonlocal at
            total = start
            while start == 15:
                more = data[at]
                at += 1
                total += more
                if more != 255:
                    break
            return total

        literal = length(token >> 4)
        out += data[at:at + literal]
        at += literal
        if at >= len(data):
            break
        back = int.from_bytes(data[at:at + 2], "little")
        at += 2
        for _ in range(length(token & 15) + 4):
            out.append(out[-back])
    assert len(out) == size
    return bytes(out)


def blocks(data):
    """Header and stored payload of each block of a recording."""
    at = 0
    while at + 108 <= len(data):
        stored = int.from_bytes(data[at + 100:at + 104], "big")
        yield data[at:at + 108], data[at + 108:at + 108 + stored]
        at += 108 + stored


def decoded(data):
    """What a recording's blocks hold, one after the other."""
    return b"".join(unlz4(stored, int.from_bytes(head[96:100], "big")) if head[92] else stored for head, stored in blocks(data))


def named(block, session=None, number=None, before=None):
    """A block under another session, number or predecessor, with the right checksum."""
    head, stored = block
    head = head[:4] + (session or head[4:20]) + (head[20:28] if number is None else struct.pack(">Q", number)) + \
        (before or head[28:60]) + head[60:104]
    return head + struct.pack(">I", crc32c(head + stored)), stored


def chained(some):
    """Blocks numbered and chained anew, as one recording."""
    out, last = b"", bytes(32)
    for number, block in enumerate(some):
        head, stored = named(block, number=number, before=last)
        last = hashlib.sha256(b"\2" + head + stored).digest()
        out += head + stored
    return out


# --- a pack ----------------------------------------------------------------------------------------------------------

class Pack:
    """A pack's files, by path and in their order; the manifest and the sums are made when it is sealed."""

    def __init__(self, path):
        path = pathlib.Path(path)
        self.files = dict(members(path.read_bytes()))
        self.manifest = json.loads(self.files.pop("MANIFEST.json"))
        self._manifest, self._note = dump(self.manifest) + b"\n", self.files.pop("MANIFEST.note")

    @property
    def origin(self):
        return self.manifest["checkpoints"][0]["origin"]

    def lines(self):
        """The entries as they are stored."""
        found = []
        for path, data in self.files.items():
            at = 0
            while path.startswith("ledger/tile/entries/") and at < len(data):
                length = int.from_bytes(data[at:at + 2], "big")
                found.append(data[at + 2:at + 2 + length])
                at += 2 + length
        return found

    def entries(self):
        return [json.loads(line) for line in self.lines()]

    def rows(self, population):
        """A population's rows."""
        return [json.loads(line) for line in self.text("populations", population, ".jsonl").splitlines()]

    def ipe(self, population):
        return json.loads(self.text("populations", population, ".ipe.json"))

    def text(self, directory, population, end):
        return self.files[self.path(directory, population, end)].decode()

    def path(self, directory, population, end):
        return next(path for path in self.files if path.startswith(f"{directory}/{population}") and path.endswith(end))

    def control(self, control):
        """What the pack says of a control: its line of results.jsonl."""
        lines = map(json.loads, self.files["controls/results.jsonl"].decode().splitlines())
        return next(line for line in lines if line["control"] == control)

    def all(self):
        return [("MANIFEST.json", self._manifest), ("MANIFEST.note", self._note), *self.files.items()]

    def write(self, path):
        """As an archive."""
        pathlib.Path(path).write_bytes(archive(self.all()))
        return pathlib.Path(path)

    def unpack(self, directory):
        """As a directory."""
        for path, data in self.all():
            place = pathlib.Path(directory) / "pack" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return pathlib.Path(directory)


class Forger(Pack):
    """A pack that is changed. `seal` puts right what checksums say, and signs for it with the log's stolen seed."""

    def __init__(self, path, log):
        super().__init__(path)
        self.log = log

    def become(self, lines):
        """Other entries, with tiles that are theirs."""
        made, files = tiles(lines), {}
        for path, data in self.files.items():
            if not path.startswith("ledger/tile/"):
                files[path] = data
            if path == "ledger/checkpoint":
                files.update(made)
        self.files = files
        self.tell(lines)

    def put_rows(self, population, rows):
        """Other rows of a population, in all of its files."""
        jsonl = b"".join(dump(row) + b"\n" for row in rows)
        ipe = self.ipe(population)
        keys = [row["entry"] for row in rows if row["entry"] is not None]
        ipe |= {"row_count": len(rows), "sha256": sha(jsonl), "first_key": keys[0] if keys else None,
                "last_key": keys[-1] if keys else None}
        self.files[self.path("populations", population, ".jsonl")] = jsonl
        self.files[self.path("populations", population, ".csv")] = csv(ipe["columns"], rows)
        self.files[self.path("populations", population, ".ipe.json")] = dump(ipe) + b"\n"

    def populations(self):
        """The ids of those that are there."""
        return [path[12:15] for path in self.files if path.startswith("populations/") and path.endswith(".jsonl")]

    def without(self, at):
        """Every list of the pack, as it would be without entry `at`: rows of it are gone, numbers behind it are one less."""
        def shifted(row):
            entries = {key: value for key, value in row.items() if key == "entry" or key.endswith("_entry")}
            return row | {key: value - (value > at) for key, value in entries.items() if value is not None}

        for population in self.populations():
            rows = self.rows(population)
            kept = [shifted(row) for row in rows if at not in (row["entry"], row.get("end_entry"))]
            if kept != rows:
                self.put_rows(population, kept)
        approvals = map(json.loads, self.files["reviews/approvals.jsonl"].decode().splitlines())
        kept = [row | {"entry": row["entry"] - (row["entry"] > at)} for row in approvals if row["entry"] != at]
        self.files["reviews/approvals.jsonl"] = b"".join(dump(row) + b"\n" for row in kept)

    def tell(self, lines):
        """What the manifest and each list say of the head, whatever is signed."""
        self.manifest["checkpoints"][0] |= {"size": len(lines), "root": root_of([leaf_hash(line) for line in lines]).hex()}
        head = self.manifest["checkpoints"][0]
        for path in [path for path in self.files if path.endswith(".ipe.json")]:
            ipe = json.loads(self.files[path])
            ipe["origins"] = [one | {"size_to": head["size"], "root": head["root"]} for one in ipe["origins"]]
            self.files[path] = dump(ipe) + b"\n"

    def seal(self):
        """Right sums and a right manifest."""
        listed = [(path, data) for path, data in self.files.items() if path != "SHA256SUMS"]
        self.files.pop("SHA256SUMS", None)
        self.files["SHA256SUMS"] = "".join(f"{sha(data)}  {path}\n" for path, data in listed).encode()
        self.manifest["files"] = [{"path": path, "bytes": len(data), "sha256": sha(data)} for path, data in self.files.items()]
        self._manifest = dump(self.manifest) + b"\n"
        self._note = sealed(self.origin, self._manifest, self.log)
        return self


def csv(columns, rows):
    """RFC 4180, as pack.md says."""
    def field(value):
        text = value if isinstance(value, str) else "" if value is None else "; ".join(value) if isinstance(value, list) else \
            json.dumps(value)
        text = "'" + text if not isinstance(value, int) and text[:1] in ("=", "+", "-", "@", "\t", "\r") and text else text
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',;"\r\n') else text
    lines = [columns] + [[row[column] for column in columns] for row in rows]
    return "".join(",".join(map(field, line)) + "\r\n" for line in lines).encode()


# --- the two verifiers -----------------------------------------------------------------------------------------------

Said = collections.namedtuple("Said", "verdict bad checks controls theirs text")
Together = collections.namedtuple("Together", "code verdict packs origins")


class Auditor:
    """Holds roots from outside, and asks both verifiers."""

    def __init__(self, program, roots):
        self.program, self.roots = program, roots

    def run(self, *words):
        return subprocess.run([str(self.program), "evidence", *map(str, words)], capture_output=True, text=True, timeout=120)

    def python(self, pack, *words):
        words = [sys.executable, PYTHON, pack, "--roots", self.roots, *words]
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)

    def both(self, pack, checkpoints=(), policy=None, says=()):
        """What both say. They agree in the exit code, the verdict and the root, and in the checks that `says` names. The second
        verifier knows no witnesses: with a policy it is asked without, and need not agree."""
        heads = [word for head in checkpoints for word in ("--checkpoint", head)]
        outside = ["--policy", policy] if policy else []
        ours = self.run("verify", pack, "--roots", self.roots, "--json", *heads, *outside)
        theirs = self.python(pack, "--json", *(["--checkpoint", *checkpoints] if checkpoints else []))
        assert ours.stdout and theirs.stdout, (ours, theirs)
        one, other = json.loads(ours.stdout), json.loads(theirs.stdout)
        assert "checks" in one and "checks" in other, (ours.returncode, one, theirs.returncode, other)
        checks, others = ({each["check"]: each for each in said["checks"]} for said in (one, other))
        if not policy:
            assert (ours.returncode, one["verdict"], one["root"], one["entries"]) == \
                (theirs.returncode, other["verdict"], other["root"], other["size"]), (failing(one), failing(other))
        for name in says or (set(checks) & set(others) if one["verdict"] == "PASS" and not policy else ()):
            assert checks[name]["verdict"] == others[name]["verdict"], (name, failing(one), failing(other))
        controls = {each["control"]: each for each in one["controls"]}
        return Said(one["verdict"], one["first_bad_entry"], checks, controls, others, f"{failing(one)} {failing(other)}")

    def together(self, packs, *words):
        """What both say of several packs: the exit code, the verdict of all, that of each by its log, and what *origins* found, as
        texts of verdict and reason (None: it was not made). They agree in all of it, but for the words about the registry."""
        words = [*packs, *words, "--json"]
        ours = self.run("verify", *words)
        theirs = subprocess.run(list(map(str, [sys.executable, ORIGINS, *words])), capture_output=True, text=True, timeout=120)
        assert ours.returncode == theirs.returncode, (ours, theirs)
        if not ours.stdout:
            return Together(ours.returncode, None, {}, None)
        one, other = json.loads(ours.stdout), json.loads(theirs.stdout)
        verdicts = [{each["origin"]: (each["verdict"], each["root"]) for each in said["packs"]} for said in (one, other)]
        assert (one["verdict"], verdicts[0]) == (other["verdict"], verdicts[1]), (one, other)
        found = [said["origins"] and [f"{each['verdict']} {each['what'] or ''}".strip() for each in said["origins"]]
                 for said in (one, other)]
        plain = [some and sorted({text.split(" the registry")[0] for text in some}) for some in found]
        assert plain[0] == plain[1], found
        return Together(ours.returncode, one["verdict"], {origin: verdict for origin, (verdict, _) in verdicts[0].items()}, found[0])

    def passes(self, pack, **how):
        """That both pass it: what each test of tampering begins with."""
        said = self.both(pack, **how)
        assert (said.verdict, said.bad) == ("PASS", None), said.text
        return said

    def malformed(self, pack):
        """That neither takes it for a pack."""
        codes = self.run("verify", pack, "--roots", self.roots, "--json").returncode, self.python(pack, "--json").returncode
        assert codes == (3, 3), codes


def failing(said):
    return {each["check"]: (each["verdict"], each["entry"], each["what"]) for each in said["checks"] if each["verdict"] != "PASS"}
