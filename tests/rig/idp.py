"""A real OpenID provider (npm oidc-provider): people, services, delegated tokens, rotating keys."""

import base64
import json
import pathlib
import ssl
import urllib.error
import urllib.parse
import urllib.request

from . import Broken, Missing
from .process import RIG, ROOT, Process, free_port, node

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
PASSWORD_GRANT = "urn:chancery:rig:password"

PEOPLE = {
    "ada": {"password": "ada-password", "groups": ["analyst"]},
    "dora": {"password": "dora-password", "groups": ["dba"]},
    "rex": {"password": "rex-password", "groups": ["dba"]},
    # Ada's other account.
    "ada-admin": {"password": "ada-admin-password", "groups": ["dba"]},
}
CLIENTS = {
    "terminal": {"secret": "terminal-secret", "groups": []},
    "pipeline": {"secret": "pipeline-secret", "groups": ["ci"]},
    "agent": {"secret": "agent-secret", "groups": ["agents"]},
    "sub-agent": {"secret": "sub-agent-secret", "groups": ["agents"]},
    "short-lived": {"secret": "short-lived-secret", "groups": ["ci"], "ttl": 2},
}


class Provider:
    """One provider. Tokens are JWTs signed RS256, for one audience."""

    def __init__(self, directory, audience="chancery", authority=None):
        self.directory, self.audience = pathlib.Path(directory), audience
        self.port, self.process = free_port(), None
        self._certificate = authority.issue("idp") if authority else None
        self._ca = authority.certificate if authority else None
        self.issuer = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"

    def start(self):
        if not (RIG / "npm/node_modules/oidc-provider").exists():
            raise Missing("npm package oidc-provider (make setup)")
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {"port": self.port, "audience": self.audience, "people": PEOPLE, "clients": CLIENTS}
        if self._certificate:
            config["certificate"], config["key"] = map(str, self._certificate)
        path = self.directory / "idp.json"
        path.write_text(json.dumps(config))
        program = ROOT / "tests/rig/node/idp.mjs"
        self.process = Process("oidc-provider", [node(), program, path], self.directory / "idp.log", cwd=RIG / "npm")
        self.process.wait_until(lambda: "ready http" in self.process.tail())
        return self

    def person(self, name, through="terminal"):
        """A person's token, as after a login."""
        return self._token(through, grant_type=PASSWORD_GRANT, username=name, password=PEOPLE[name]["password"])

    def service(self, client):
        """A service's own token."""
        return self._token(client, grant_type="client_credentials")

    def delegate(self, token, client):
        """The token of `client` acting for whoever `token` speaks for; earlier actors stay in the chain."""
        return self._token(client, grant_type=EXCHANGE, subject_token=token, subject_token_type=ACCESS_TOKEN,
                           actor_token=self.service(client), actor_token_type=ACCESS_TOKEN)

    def rotate(self, drop=False):
        """Signs with a new key from now on; with `drop`, older keys are no longer published."""
        self._post("/rig/rotate" + ("?drop=1" if drop else ""), {})

    def keys(self):
        """The published key set."""
        with self._open(f"{self.issuer}/jwks") as answer:
            return json.load(answer)["keys"]

    def stop(self):
        if self.process:
            self.process.stop()

    def _token(self, client, **form):
        form |= {"client_id": client, "client_secret": CLIENTS[client]["secret"]}
        return json.loads(self._post("/token", form))["access_token"]

    def _post(self, path, form):
        request = urllib.request.Request(self.issuer + path, urllib.parse.urlencode(form).encode(), method="POST")
        with self._open(request) as answer:
            return answer.read()

    def _open(self, request):
        context = ssl.create_default_context(cafile=self._ca) if self._ca else None
        try:
            return urllib.request.urlopen(request, timeout=10, context=context)
        except urllib.error.HTTPError as error:
            raise Broken(f"provider said {error.code}: {error.read().decode(errors='replace')}") from None


def claims(token):
    """The claims of a JWT, unverified: for tests to look at."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def chain(token):
    """The actors of a token, newest first."""
    link, names = claims(token).get("act"), []
    while link:
        names.append(link["sub"])
        link = link.get("act")
    return names
