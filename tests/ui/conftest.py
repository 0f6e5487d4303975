"""One browser for all tests of the designer, two paired peers for each module of them, a window for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.running_peers import Peer, pair, running_peers
from tests.ui.browser import ANSWERS_WITHIN_MS, Window, launch, window

LONG_NAME = "a-program-whose-owner-likes-to-say-everything-in-its-name-and-then-some-more-of-it"
HOSTILE_NAME = "<img src=x onerror=alert(1)><b>bold</b>"
TEXT = "To be, or not to be, that is the question\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two peers that know each other: `home`, whose designer is shown, and `office`, which offers services as well."""

    home: Peer
    office: Peer
    services: dict[str, int]
    """Ids by name; those of `office` as `office/NAME`."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=ANSWERS_WITHIN_MS)
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("ui")
    with running_peers(folder, "home", "office") as (home, office):
        pair(home, office)
        text = folder / "text.txt"
        text.write_text(TEXT)
        services = {
            "text": home.data("text", text, description="A line that everybody knows"),
            "count": home.program("count", "wc -w\n", confine="never", description="Counts words"),
            "office/shout": office.program("shout", "tr a-z A-Z\n", confine="never", description="Says it louder"),
            "office/text": office.data("measurements", text, description="A text of the office"),
            "slow": home.program("slow", "cat >/dev/null; echo begun; sleep 600\n", confine="never"),
            "broken": home.program(
                "broken", "cat >/dev/null; echo 'no such column: depth' >&2; exit 3\n", confine="never"
            ),
            "hostile": home.program("hostile", HOSTILE_PROGRAM, confine="never"),
            LONG_NAME: home.program(LONG_NAME, "cat\n", confine="never"),
        }
        yield Pair(home=home, office=office, services=services)


HOSTILE_PROGRAM = r"""cat >/dev/null
cat <<'END'
<!doctype html><svg xmlns="http://www.w3.org/2000/svg" onload="document.title='owned'"><script>document.title='owned'</script></svg>
<img src=x onerror="document.title='owned'"><b>bold</b>
END
echo '<script>document.title="owned"</script>' >&2
"""

Open = Callable[..., Window]


@pytest.fixture
def open_window(browser: Browser, peers: Pair) -> Iterator[Open]:
    """Open windows, by default on `home`; at the end of the test each is closed and its watch has to be content."""
    with ExitStack() as windows:

        def opened(peer: Peer | None = None, **more: Any) -> Window:
            context: AbstractContextManager[Window] = window(browser, peer or peers.home, **more)
            return windows.enter_context(context)

        yield opened


def make_workflow(peers: Pair, name: str) -> int:
    """Draw text -> count -> home on `home`; return the workflow's id."""
    home = peers.home
    workflow_id = home.workflow(name)
    text = home.node(workflow_id, peers.services["text"], gui_x=100, gui_y=100)
    count = home.node(workflow_id, peers.services["count"], gui_x=420, gui_y=100)
    home.connect(workflow_id, text, count)
    home.connect(workflow_id, count, None, "STDOUT->MOUNT", destination_file_name="count.txt")
    home.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=760, self_peer_y=100)
    return workflow_id


def make_single(peers: Pair, name: str, service: str) -> int:
    """Draw text -> SERVICE -> home on `home`; return the workflow's id."""
    home = peers.home
    workflow_id = home.workflow(name)
    text = home.node(workflow_id, peers.services["text"], gui_x=100, gui_y=100)
    node = home.node(workflow_id, peers.services[service], gui_x=420, gui_y=100)
    home.connect(workflow_id, text, node)
    home.connect(workflow_id, node, None, "STDOUT->MOUNT", destination_file_name="out.html")
    home.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=760, self_peer_y=100)
    return workflow_id
