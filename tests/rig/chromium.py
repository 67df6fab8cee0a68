"""Chromium without a window, driven over a pipe in the DevTools protocol; standard library only."""

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

from . import Broken, Missing

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
]
SECONDS = 30


def program():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise Missing("chromium (apt-get install chromium)")


class Browser:
    """One browser with a profile of its own and no network; `open` makes a page in it."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True)
        (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
        # Chromium reads at descriptor 3 and writes at 4; these must not be in the way of each other.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs_in, theirs_out)]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        with open(directory / "log", "wb") as log:
            self.child = subprocess.Popen(
                [program(), *FLAGS, f"--user-data-dir={directory / 'profile'}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(3, 4), preexec_fn=place,
                env={**os.environ, "HOME": str(directory)},
            )
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self.ours_in, self.ours_out = ours_in, ours_out
        self.number, self.buffer, self.events = 0, b"", []

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            answer = self._next(end)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise Broken(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, end):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.ours_in], [], [], max(0, end - time.monotonic()))
            read = os.read(self.ours_in, 1 << 20) if ready else b""
            if not read:
                raise Broken("chromium does not answer")
            self.buffer += read
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, url):
        return Page(self, url)

    def stop(self):
        try:
            self.call("Browser.close")
            self.child.wait(10)
        except (Broken, OSError, subprocess.TimeoutExpired):
            self.child.kill()
            self.child.wait()
        os.close(self.ours_in)
        os.close(self.ours_out)


class Page:
    """A page, offline; what it asks the network for and what it complains of is kept."""

    def __init__(self, browser, url):
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.call("Page.navigate", url=url)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def evaluate(self, expression):
        """The value of an expression, promises awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise Broken(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def until(self, expression, seconds=SECONDS):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.evaluate(expression):
                return
            time.sleep(0.05)
        raise Broken(f"not within {seconds} s: {expression}")

    def choose(self, selector, files):
        """Chooses files as a person does with the dialog; none takes back what was chosen."""
        if not files:
            return self.evaluate(f"document.querySelector({json.dumps(selector)}).value = ''")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        return self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def seen(self, method):
        """The parameters of events of this page so far."""
        self.evaluate("0")
        return [event["params"] for event in self.browser.events
                if event.get("sessionId") == self.session and event["method"] == method]

    def screenshot(self, path, dark=False, width=900):
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))
