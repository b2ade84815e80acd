"""A headless Chromium, driven through its debugging pipe: what a page loads, logs and shows."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PATIENCE_S = 60
"""Seconds without a word after which a browser is taken for dead."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


PALE_TEXTS = """
(() => {
  const channel = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = parse(getComputedStyle(node).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
    const svg = node.tagName === "text";
    const a = light(parse(svg ? getComputedStyle(node).fill : getComputedStyle(node).color));
    const b = light(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push([node.tagName, node.className.baseVal ?? node.className, ratio]);
  }
  return bad;
})()
"""
"""An expression that lists the texts below the contrast of AA, 4.5 to 1."""


def find_chromium():
    """Give the path of a Chromium on this machine, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Chromium:
    """One browser with one page; a context manager."""

    def __enter__(self):
        self._profile = tempfile.mkdtemp()
        to_browser, ours_out = os.pipe()
        ours_in, from_browser = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; first out of the way of both.
        theirs = [fcntl.fcntl(number, fcntl.F_DUPFD, 10) for number in (to_browser, from_browser)]

        def put_in_place():
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [find_chromium(), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=put_in_place,  # noqa: PLW1509 - it only duplicates descriptors
        )
        for number in (to_browser, from_browser, *theirs):
            os.close(number)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._number, self._rest, self.events = 0, b"", []
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._in.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method, **parameters):
        """Send a command and give its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._rest:
            # A browser that hangs or crashes, for want of memory say, shows nothing of our pages.
            answers, _, _ = select.select([self._in], [], [], PATIENCE_S)
            read = self._in.raw.read(1 << 20) if answers else b""
            if not read:
                pytest.skip("Chromium has ended" if answers else "Chromium does not answer")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, path, fragment="", *, width=1200, dark=False, scripts=True):
        """Open a file and wait until it is loaded; what happened before is forgotten."""
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        # Where only the fragment changes, nothing is loaded again.
        for url in ("about:blank", Path(path).resolve().as_uri() + fragment):
            self.events.clear()
            self.send("Page.navigate", url=url)
            self.wait_for("Page.loadEventFired")

    def wait_for(self, method):
        """Wait for an event."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression):
        """Give the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def requests(self):
        """List the addresses that the page asked for, itself left out."""
        urls = [event["params"]["request"]["url"] for event in self.of("Network.requestWillBeSent")]
        return urls[1:]

    def complaints(self):
        """List what the page logged, threw, or was refused."""
        found = [event["params"] for event in self.of("Runtime.exceptionThrown")]
        found += [event["params"] for event in self.of("Runtime.consoleAPICalled")]
        return found + [event["params"]["entry"]["text"] for event in self.of("Log.entryAdded")]

    def of(self, method):
        """List the events of one kind."""
        return [event for event in self.events if event.get("method") == method]

    def screenshot(self, path, *, selector=None):
        """Write a picture of the whole page, or of one element."""
        chosen = f"document.querySelector({json.dumps(selector or 'html')})"
        box = self.evaluate(
            f"(b => ({{x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}}))"
            f"({chosen}.getBoundingClientRect())"
        )
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip={**box, "scale": 1})
        Path(path).write_bytes(base64.b64decode(picture["data"]))
