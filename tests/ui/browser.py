"""The designer in a real Chromium: pages that are signed in, and a watch that lets nothing odd pass unseen.

The watch of a page writes down every violation of the policy, every error on the console or uncaught, and every request
that leaves the daemon's origin. `settle` fails for any of them that the test has not said it expects.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright, Request, WebSocket

from tests.running_peers import Peer

PROJECT = Path(__file__).resolve().parents[2]
SCREENSHOTS = PROJECT / "docs" / "screenshots"
AXE = PROJECT / "tools" / "ui" / "node_modules" / "axe-core" / "axe.min.js"
ANSWERS_WITHIN_MS = 15_000
MAP_DRAWN_WITHIN_MS = 800
"""The small map of the canvas follows what happens about twice a second."""
# Without the prefix RND_, of which a daemon refuses what it does not know, and tools/test hands nothing on.
CHROMIUM = os.environ.get("UI_CHROMIUM", "")
KEEPS_SCREENSHOTS = bool(os.environ.get("UI_SCREENSHOTS"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 820, "height": 1100}

Scheme = Literal["light", "dark"]

# Runs before anything of the page, in every document of it.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""

# In a picture the temporary folder of the test is called as it would be on a person's machine.
RENAME = """([from, to]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
}"""


@dataclass
class Watch:
    """What happened on a page that a person would not see."""

    origin: str
    violations: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """Let errors on the console pass that match: those of a daemon that the test has stopped, say."""
        self.expected.append(re.compile(pattern))

    def settle(self) -> None:
        """Fail for what nobody expected."""
        errors = [error for error in self.errors if not any(pattern.search(error) for pattern in self.expected)]
        assert (self.violations, errors, self.strays) == ([], [], [])

    def attach(self, context: BrowserContext) -> None:
        context.expose_binding("reportViolation", lambda _source, text: self.violations.append(text))
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("request", self._on_request)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("page", lambda page: page.on("websocket", self._on_websocket))

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and f"{url.scheme}://{url.netloc}" != self.origin:
            self.strays.append(request.url)

    def _on_websocket(self, websocket: WebSocket) -> None:
        if not websocket.url.startswith(self.origin.replace("http", "ws", 1) + "/"):
            self.strays.append(websocket.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


class Window:
    """One signed-in page of one peer's designer, in a context (storage, cookies) of its own."""

    def __init__(self, peer: Peer, context: BrowserContext, page: Page, watch: Watch) -> None:
        self.peer = peer
        self.context = context
        self.page = page
        self.watch = watch

    @property
    def url(self) -> str:
        return self.watch.origin

    def go(self, route: str) -> None:
        """Show a route such as `#/services`, as a link would."""
        self.page.evaluate("route => { location.hash = route; }", route)

    def shot(self, name: str) -> None:
        """Keep a picture of the page for the documentation, where that is asked for (UI_SCREENSHOTS=1, as tools/screenshots does)."""
        if KEEPS_SCREENSHOTS:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(MAP_DRAWN_WITHIN_MS)
            self.page.evaluate(RENAME, [str(self.peer.data_dir.parent), "/srv/rnd"])
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled", caret="hide")

    def accessibility_problems(self) -> list[str]:
        """Return what axe-core finds wrong with the page as it is. The context has to be made with bypass_csp."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {each['help']} {node['target']} {node.get('failureSummary', '')}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


def wait_for(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until something holds that the page itself does not show, or fail in time."""
    deadline = time.monotonic() + ANSWERS_WITHIN_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "it has not come about"
        page.evaluate("() => new Promise(requestAnimationFrame)")


def choose(button: Locator, action: str) -> None:
    """Open a menu by its button and choose from it.

    A menu closes when what is below it is scrolled, and the news of scrolling to its button come a frame later.
    """
    button.scroll_into_view_if_needed()
    button.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    button.click()
    button.page.get_by_role("menuitem", name=action).click()


def launch(playwright: Playwright) -> Browser:
    """Start Debian's Chromium; nothing is ever downloaded."""
    program = CHROMIUM or shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium, or name one in UI_CHROMIUM"
    return playwright.chromium.launch(executable_path=program, args=FLAGS)


def token_of(peer: Peer) -> str:
    return (peer.data_dir / "api_token").read_text().strip()


@contextlib.contextmanager
def window(
    browser: Browser,
    peer: Peer,
    *,
    size: Any = None,
    scheme: Scheme = "light",
    bypass_csp: bool = False,
    touch: bool = False,
    token: str = "",
    signed_in: bool = True,
    route: str = "#/workflows",
) -> Iterator[Window]:
    """Open a window on a peer; close it at the end, and fail for what its watch has seen."""
    origin = peer.call("node.status")["api"]["url"]
    context = browser.new_context(
        viewport=size or WIDE, color_scheme=scheme, bypass_csp=bypass_csp, reduced_motion="reduce", locale="en-GB",
        timezone_id="UTC", has_touch=touch,
    )  # fmt: skip
    context.set_default_timeout(ANSWERS_WITHIN_MS)
    watch = Watch(origin)
    watch.attach(context)
    try:
        page = context.new_page()
        page.goto(f"{origin}/#token={token or token_of(peer)}" if signed_in else f"{origin}/")
        opened = Window(peer, context, page, watch)
        if signed_in:
            page.get_by_role("navigation").first.wait_for()
            opened.go(route)
        yield opened
    finally:
        with contextlib.suppress(Exception):  # the test's own failure says more
            context.close()
    watch.settle()
