"""A timestamp authority (RFC 3161) made of `openssl ts` behind a small HTTP server: what it signs is another house's work, and so is
`verify`, with which our answers are compared. What it is not: an authority that anybody should rely on."""

import http.server
import pathlib
import shutil
import subprocess
import threading

from . import Missing

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {where}/serial
crypto_device = builtin
signer_cert = {where}/tsa.pem
certs = {where}/chain.pem
signer_key = {where}/tsa.key
signer_digest = {digest}
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = {ess}
"""

SIGNS = "keyUsage=critical,digitalSignature\n"
RSA, EC, EC384 = ["rsa:2048"], ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], ["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]


class Authority:
    """A root, a certificate between, and the authority's own; serves until `stop`.

    `change` is done to each answer before it is sent.
    """

    def __init__(self, directory, key=RSA, digest="sha256", ess="sha256"):
        if not shutil.which("openssl"):
            raise Missing("openssl (apt-get install openssl)")
        self.where = pathlib.Path(directory)
        self.where.mkdir(parents=True)
        self.ca, self.change, self.requests = self.where / "root.pem", lambda answer: answer, 0
        (self.where / "serial").write_text("01\n")
        (self.where / "tsa.cnf").write_text(CONFIG.format(where=self.where, digest=digest, ess=ess))
        authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        self._certificate("root", key, authority, None)
        self._certificate("between", key, authority, "root")
        self._certificate("tsa", key, SIGNS + "extendedKeyUsage=critical,timeStamping\n", "between")
        (self.where / "chain.pem").write_text((self.where / "between.pem").read_text())
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.requests += 1
                length = int(self.headers.get("Content-Length", 0))
                assert self.headers["Content-Type"] == "application/timestamp-query" and length < 4096
                answer = outer.change(outer.reply(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tsa"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _openssl(self, *arguments, check=True):
        return subprocess.run(["openssl", *map(str, arguments)], check=check, capture_output=True, timeout=60)

    def _certificate(self, name, key, extensions, issuer, subject=None):
        at = {end: self.where / f"{name}.{end}" for end in ("key", "csr", "pem", "ext")}
        at["ext"].write_text(extensions)
        self._openssl("req", "-newkey", *key, "-nodes", "-subj", f"/CN=rig {subject or name}", "-keyout", at["key"], "-out", at["csr"])
        by = ["-signkey", at["key"]]
        if issuer:
            by = ["-CA", self.where / f"{issuer}.pem", "-CAkey", self.where / f"{issuer}.key", "-CAcreateserial"]
        self._openssl("x509", "-req", "-in", at["csr"], *by, "-days", "3650", "-extfile", at["ext"], "-out", at["pem"])

    def reply(self, request):
        """What `openssl ts` answers."""
        question, answer = self.where / "question", self.where / "answer"
        question.write_bytes(request)
        self._openssl("ts", "-reply", "-config", self.where / "tsa.cnf", "-queryfile", question, "-out", answer)
        return answer.read_bytes()

    def signed_by(self, answer, extensions, subject="tsa"):
        """The same statement, signed by a certificate with these extensions: `openssl ts` does not sign by every one."""
        self._certificate("other", EC, extensions, "between", subject)
        at = {end: self.where / f"other.{end}" for end in ("tsr", "token", "info", "cms", "pem", "key")}
        at["tsr"].write_bytes(answer)
        self._openssl("ts", "-reply", "-in", at["tsr"], "-token_out", "-out", at["token"])
        self._openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", at["token"], "-out", at["info"])
        self._openssl("cms", "-sign", "-nodetach", "-binary", "-cades", "-md", "sha256", "-econtent_type", "1.2.840.113549.1.9.16.1.4",
                      "-signer", at["pem"], "-inkey", at["key"], "-certfile", self.where / "between.pem", "-in", at["info"],
                      "-outform", "DER", "-out", at["cms"])
        body = bytes.fromhex("3003020100") + at["cms"].read_bytes()
        return b"\x30\x82" + len(body).to_bytes(2, "big") + body

    def holds(self, note, request, response, ca=None):
        """Whether `openssl ts -verify` takes the answer for this request, and for this note."""
        paths = [self.where / f"check.{end}" for end in ("note", "tsq", "tsr")]
        for path, data in zip(paths, (note, request, response)):
            path.write_bytes(data)
        common = ["ts", "-verify", "-in", paths[2], "-CAfile", ca or self.ca]
        return all(self._openssl(*common, *by, check=False).returncode == 0
                   for by in (["-queryfile", paths[1]], ["-data", paths[0]]))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
