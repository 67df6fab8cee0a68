"""A certificate authority of the rig's own and server certificates for loopback, made by the openssl program."""

import pathlib
import shutil

from . import Missing
from .process import own, run_as


class Authority:
    """A throw-away CA in a directory: `ca.pem` is what clients trust."""

    def __init__(self, directory):
        if not shutil.which("openssl"):
            raise Missing("openssl (apt-get install openssl)")
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self._key = self.directory / "ca.pem", self.directory / "ca.key"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-days", "2", "-subj", "/CN=rig authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                      "-keyout", self._key, "-out", self.certificate)

    def issue(self, name, user=None):
        """Makes `name.pem` and `name.key` for localhost and 127.0.0.1, readable by one user only."""
        key, request, certificate = (self.directory / f"{name}.{end}" for end in ("key", "csr", "pem"))
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-subj", "/CN=localhost", "-keyout", key, "-out", request)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        )
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                      "-days", "2", "-extfile", extensions, "-out", certificate)
        key.chmod(0o600)
        own(key, user)
        return certificate, key

    @staticmethod
    def _openssl(*arguments):
        run_as(None, ["openssl", *arguments])
