"""A PostgreSQL client that keeps every byte: protocol 3.0 with clear-text and SCRAM-SHA-256 passwords, with or without TLS.

For comparing what two servers really said, and for sending what no driver would. Standard library only.
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct

PROTOCOL, SSL_REQUEST, CANCEL_REQUEST = 196608, 80877103, 80877102

# What may differ between two connections to the same server without meaning anything.
VARIES = {"K"}


class ServerError(Exception):
    """An ErrorResponse, with its fields by their one-letter codes."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')}")
        self.fields = fields

    @property
    def sqlstate(self):
        return self.fields.get("C")


class Closed(Exception):
    """The server hung up."""


def message(kind, body=b""):
    """A frontend message."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def cstring(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def fields(body):
    """The fields of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


class Connection:
    """One session. `startup` are extra parameters of the start-up packet."""

    def __init__(self, host, port, user, database, password, tls=None, timeout=20, **startup):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer, self.parameters, self.backend, self.notices = b"", {}, None, []
        if tls is not None:
            self._start_tls(tls, host)
        self._start(user, database, password, startup)

    def _start_tls(self, tls, host):
        self.socket.sendall(struct.pack("!II", 8, SSL_REQUEST))
        answer = self.socket.recv(1)
        if answer != b"S":
            raise Closed(f"no TLS here: {answer!r}")
        context = ssl.create_default_context(cafile=tls) if tls else ssl._create_unverified_context()
        self.socket = context.wrap_socket(self.socket, server_hostname=host)

    def _start(self, user, database, password, startup):
        pairs = {"user": user, "database": database, **startup}
        body = b"".join(cstring(k) + cstring(v) for k, v in pairs.items()) + b"\0"
        self.send(struct.pack("!II", len(body) + 8, PROTOCOL) + body)
        scram = None
        while True:
            kind, body = self.receive()
            if kind == "R":
                code = struct.unpack("!I", body[:4])[0]
                if code == 3:
                    self.send(message("p", cstring(password)))
                elif code == 10:
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
                elif code == 11:
                    self.send(message("p", scram.final(body[4:])))
                elif code == 12:
                    scram.verify(body[4:])
                elif code != 0:
                    raise Closed(f"authentication method {code} is not spoken here")
            elif kind == "S":
                name, value, _ = body.split(b"\0")
                self.parameters[name.decode()] = value.decode()
            elif kind == "K":
                self.backend = body
            elif kind == "E":
                raise ServerError(fields(body))
            elif kind == "N":
                self.notices.append(fields(body))
            elif kind == "Z":
                return

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next message: its kind and its body."""
        self._fill(5)
        length = struct.unpack("!I", self._buffer[1:5])[0]
        self._fill(1 + length)
        kind, body = self._buffer[:1].decode("latin-1"), self._buffer[5 : 1 + length]
        self._buffer = self._buffer[1 + length :]
        return kind, body

    def _fill(self, size):
        parts, have = [self._buffer], len(self._buffer)
        while have < size:
            data = self.socket.recv(262144)
            if not data:
                raise Closed("the server hung up")
            parts.append(data)
            have += len(data)
        self._buffer = b"".join(parts)

    def until_ready(self, copy_in=b"", after_copy=b""):
        """Every message up to and with ReadyForQuery. A CopyInResponse is answered with `copy_in` and `after_copy`."""
        said = []
        while True:
            kind, body = self.receive()
            said.append((kind, body))
            if kind == "G":
                self.send((message("d", copy_in) if copy_in else b"") + message("c") + after_copy)
            if kind == "Z":
                return said

    def simple(self, sql, copy_in=b""):
        """A simple query; every message of the answer."""
        self.send(message("Q", cstring(sql)))
        return self.until_ready(copy_in)

    def extended(self, sql, parameters=(), binary=False, rows=0, copy_in=b""):
        """Parse, Bind, Describe, Execute, Sync with text parameters; every message of the answer."""
        self.send(self.extended_messages(sql, parameters, binary, rows) + message("S"))
        # A server that copies in ignores the Sync it already got, so another one follows the data.
        return self.until_ready(copy_in, after_copy=message("S"))

    @staticmethod
    def extended_messages(sql, parameters=(), binary=False, rows=0):
        values = b"".join(
            struct.pack("!i", -1) if p is None else struct.pack("!i", len(p.encode())) + p.encode() for p in parameters
        )
        bind = cstring("") + cstring("") + struct.pack("!HH", 0, len(parameters)) + values
        bind += struct.pack("!HH", 1, 1) if binary else struct.pack("!H", 0)
        return (message("P", cstring("") + cstring(sql) + struct.pack("!H", 0)) + message("B", bind)
                + message("D", b"P" + cstring("")) + message("E", cstring("") + struct.pack("!I", rows)))

    def query(self, sql):
        """Rows of a simple query as lists of texts; an ErrorResponse is raised once the session is ready again."""
        said = self.simple(sql)
        for kind, body in said:
            if kind == "E":
                raise ServerError(fields(body))
        return [row(body) for kind, body in said if kind == "D"]

    def close(self):
        try:
            self.send(message("X"))
        except OSError:
            pass
        self.socket.close()

    def abort(self):
        """Drops the connection without a word."""
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def cancel(host, port, key):
    """Sends a cancel request with a BackendKeyData body, on a connection of its own."""
    with socket.create_connection((host, port), timeout=10) as line:
        line.sendall(struct.pack("!II", 8 + len(key), CANCEL_REQUEST) + key)
        line.settimeout(10)
        line.recv(1)


def row(body):
    """The values of a DataRow in text format."""
    count, at, values = struct.unpack("!H", body[:2])[0], 2, []
    for _ in range(count):
        size = struct.unpack("!i", body[at : at + 4])[0]
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode(errors="replace"))
        at += max(size, 0)
    return values


def comparable(said):
    """An answer without what may differ between two equal sessions: nothing but messages that a server times itself."""
    return [(kind, body) for kind, body in said if kind not in VARIES]


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding."""

    def __init__(self, password):
        self._password, self._nonce = password.encode(), base64.b64encode(os.urandom(18)).decode()
        self._bare, self._signature = f"n=,r={self._nonce}", None

    def first(self):
        return ("n,," + self._bare).encode()

    def final(self, challenge):
        parts = dict(part.split("=", 1) for part in challenge.decode().split(","))
        if not parts["r"].startswith(self._nonce):
            raise Closed("the server answered with another nonce")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        auth = f"{self._bare},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), auth, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, final):
        if base64.b64decode(final.decode().removeprefix("v=")) != self._signature:
            raise Closed("the server does not know the password")
