"""The statements in corpus/, and how two answers to them are compared."""

import dataclasses
import pathlib
import re
import struct

from rig import wire

DIRECTORY = pathlib.Path(__file__).parent / "corpus"
FIRST_USER_OID = 16384


@dataclasses.dataclass(frozen=True)
class Case:
    """One statement; `name` starts with its file's."""

    name: str
    sql: str
    only_simple: bool
    only_text: bool
    unreadable: bool
    copy_in: bytes


def setup():
    return (DIRECTORY / "setup.sql").read_text()


def files():
    return sorted(path.stem for path in DIRECTORY.glob("*.sql") if path.stem != "setup")


def cases(stem):
    """The cases of one file, in order."""
    copy_in, found = (DIRECTORY / "copy.txt").read_bytes(), []
    for part in re.split(r"^-- ", (DIRECTORY / f"{stem}.sql").read_text(), flags=re.M)[1:]:
        title, _, sql = part.partition("\n")
        found.append(Case(f"{stem}: {title}", sql.strip(), "[simple]" in title, "[text]" in title, "[unreadable]" in title,
                          copy_in if "[copy]" in title else b""))
    return found


class Oids:
    """Numbers the objects of one database in the order they are seen, because two databases number them differently."""

    def __init__(self):
        self._seen = {}

    def __call__(self, oid):
        return oid if oid < FIRST_USER_OID else FIRST_USER_OID + self._seen.setdefault(oid, len(self._seen))


def normal(said, oids):
    """An answer in which object ids are numbered by order; every other byte as it came."""
    return [(kind, _part(kind, body, oids)) for kind, body in wire.comparable(said)]


def _part(kind, body, oids):
    # A notification begins with the process id of its sender.
    return _columns(body, oids) if kind == "T" else body[4:] if kind == "A" else body


def _columns(body, oids):
    """A RowDescription with its table and type ids renumbered."""
    count, at, out = struct.unpack("!H", body[:2])[0], 2, [body[:2]]
    for _ in range(count):
        end = body.index(b"\0", at) + 1
        table, number, kind, *rest = struct.unpack("!IhIhih", body[end : end + 18])
        out += [body[at:end], struct.pack("!IhIhih", oids(table), number, oids(kind), *rest)]
        at = end + 18
    return b"".join(out)


def play(connect, stem, mode):
    """Runs a file's cases on one connection; yields each case with its normalised answer."""
    oids = Oids()
    with connect() as line:
        for case in cases(stem):
            if mode == "extended" and case.only_simple:
                continue
            if mode == "simple":
                said = line.simple(case.sql, copy_in=case.copy_in)
            else:
                said = line.extended(case.sql, binary=mode == "binary" and not case.only_text, copy_in=case.copy_in)
            yield case, normal(said, oids)
