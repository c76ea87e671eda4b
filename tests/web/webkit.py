"""WebKitGTK's own driver, over the WebDriver protocol, on a screen that is not there."""

import base64
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.programs import free_port, until

DRIVER, SCREEN = "WebKitWebDriver", "Xvfb"
BROWSERS = tuple(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
_WAIT_SECONDS = 90.0
_NO_SANDBOX = "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS"
"""Its sandbox needs user namespaces, which containers forbid. Only the test's own page is opened."""


def missing() -> str | None:
    """What is not installed here. None: all is there."""
    for program, package in ((DRIVER, "webkit2gtk-driver"), (SCREEN, "xvfb")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    return None if BROWSERS else "MiniBrowser is not installed: apt install webkit2gtk-driver"


class Tab:
    """A window of the browser."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = ""

    def open(self) -> None:
        """Begins a session; the browser starts."""
        options = {"binary": str(BROWSERS[0]), "args": ["--automation"]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        self._session = f"/session/{self._ask('POST', '/session', wanted)['sessionId']}"
        self._ask("POST", f"{self._session}/window/rect", {"width": 500, "height": 700})  # software draws

    def is_ready(self) -> bool:
        """Whether the driver takes sessions."""
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def go(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """What a script of the page returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def holds(self, expression: str) -> None:
        """Waits until an expression of the page is true."""
        until(lambda: self.run(f"return Boolean({expression})"), expression)

    def press(self, keys: str) -> None:
        """Presses and releases keys, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def screenshot(self) -> bytes:
        """A PNG of what is on the screen."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def close(self) -> None:
        if self._session:
            with suppress(OSError):
                self._ask("DELETE", self._session)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_WAIT_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None


@contextmanager
def webkit() -> Iterator[Tab]:
    """A tab of WebKitGTK within the block. It is skipped by whoever asks `missing` first."""
    port = free_port()
    with _screen() as display:
        env = os.environ | {"DISPLAY": display, "GDK_BACKEND": "x11", "LIBGL_ALWAYS_SOFTWARE": "1", _NO_SANDBOX: "1"}
        driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        tab = Tab(port)
        try:
            until(tab.is_ready, "the driver is ready")
            tab.open()
            yield tab
        finally:
            tab.close()
            driver.kill()
            driver.wait()


@contextmanager
def _screen() -> Iterator[str]:
    """An X server without a screen; gives its name."""
    command = [SCREEN, "-displayfd", "1", "-screen", "0", "1280x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        yield f":{server.stdout.readline().decode().strip()}"
    finally:
        server.kill()
        server.communicate()
