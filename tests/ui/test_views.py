"""Every view, in light and dark, wide and narrow: nothing that axe finds, nothing cut off at the side, and a picture of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.running_peers import running_peers
from tests.ui.browser import NARROW, WIDE, Scheme, Window
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open, Pair, make_single, make_workflow

LONG_WORKFLOW = (
    "A workflow whose long name goes on, as people do when nobody keeps them from it, and on to its very end"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What has been run before the views are looked at: ids by what came of it."""

    workflow: int
    completed: int
    failed: int
    failed_workflow: int


@pytest.fixture(scope="module")
def runs(peers: Pair) -> Runs:
    home = peers.home
    workflow = make_two_peers(peers, "Two texts")
    make_workflow(peers, LONG_WORKFLOW)
    failed_workflow = make_single(peers, "Depth of the sea", "broken")
    completed = home.execute(workflow)
    failed = home.execute(failed_workflow)
    assert home.wait(completed)["status"] == "COMPLETED"
    assert home.wait(failed)["status"] == "FAILED"
    return Runs(workflow=workflow, completed=completed, failed=failed, failed_workflow=failed_workflow)


def make_two_peers(peers: Pair, name: str) -> int:
    """Draw measurements (office) -> shout (office) -> home, and below text -> count -> home."""
    home, office = peers.home, peers.office
    workflow_id = int(
        home.call("workflow.create", name=name, description="The office's text, made loud there; ours, counted here.")[
            "id"
        ]
    )
    offered = {each["name"]: each for each in office.call("service.list")["items"]}
    measurements = home.remote_node(workflow_id, office, offered["measurements"], gui_x=0, gui_y=0)
    shout = home.remote_node(workflow_id, office, offered["shout"], gui_x=340, gui_y=0)
    text = home.node(workflow_id, peers.services["text"], gui_x=0, gui_y=220)
    count = home.node(workflow_id, peers.services["count"], gui_x=340, gui_y=220)
    home.connect(workflow_id, measurements, shout)
    home.connect(workflow_id, text, count)
    home.connect(workflow_id, shout, None, "STDOUT->MOUNT", destination_file_name="loud.txt")
    home.connect(workflow_id, count, None, "STDOUT->MOUNT", destination_file_name="count.txt")
    home.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=680, self_peer_y=120)
    return workflow_id


def heading(text: str) -> Callable[[Window, Runs], None]:
    def ready(window: Window, _runs: Runs) -> None:
        expect(window.page.get_by_role("heading", name=text, level=1)).to_be_visible()

    return ready


def canvas_shown(window: Window, _runs: Runs) -> None:
    canvas = CanvasPage(window)
    expect(canvas.node("shout")).to_be_visible()
    canvas.page.get_by_role("button", name="Show everything").click()
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")


def node_chosen(window: Window, runs: Runs) -> None:
    canvas_shown(window, runs)
    CanvasPage(window).node("shout").click()
    expect(CanvasPage(window).details.get_by_role("tab", name="Run")).to_be_visible()


def dialog_of(button: str) -> Callable[[Window, Runs], None]:
    def ready(window: Window, _runs: Runs) -> None:
        window.page.get_by_role("button", name=button).first.click()
        expect(window.page.get_by_role("dialog")).to_be_visible()

    return ready


def invited(window: Window, _runs: Runs) -> None:
    window.page.get_by_role("button", name="Invite a peer").first.click()
    expect(window.page.get_by_role("dialog").get_by_role("img", name="The invite as a QR code")).to_be_visible()


def preview(window: Window, _runs: Runs) -> None:
    window.page.get_by_role("button", name="Preview loud.txt").click()
    expect(window.page.get_by_role("dialog").locator("pre")).to_contain_text("TO BE")


def explain(window: Window, _runs: Runs) -> None:
    window.page.get_by_role("button", name="Explain broken").click()
    dialog = window.page.get_by_role("dialog")
    expect(dialog.locator(".note")).to_contain_text("What to do: Read what it wrote: stderr, under Logs.")
    expect(dialog.get_by_role("list")).to_have_count(0)
    dialog.get_by_text("Details", exact=True).click()
    expect(dialog.get_by_role("list")).to_contain_text("not ok")


def execution_shown(window: Window, _runs: Runs) -> None:
    expect(window.page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(window.page.get_by_role("button", name="Preview loud.txt")).to_be_visible()


def node_shown(window: Window, _runs: Runs) -> None:
    # Its heading is the peer's name, once that is known.
    expect(window.page.get_by_role("region", name="At a glance")).to_be_visible()


def wire_chosen(window: Window, runs: Runs) -> None:
    canvas_shown(window, runs)
    canvas = CanvasPage(window)
    canvas.wire("STDOUT of shout to this peer").focus()
    window.page.keyboard.press("Enter")
    expect(canvas.details.get_by_role("region", name="Transfer")).to_contain_text("Attempts")


def self_peer_chosen(window: Window, runs: Runs) -> None:
    canvas_shown(window, runs)
    CanvasPage(window).self_peer.click()
    expect(CanvasPage(window).details.get_by_role("region", name="Receives")).to_be_visible()


def logs(window: Window, _runs: Runs) -> None:
    window.page.get_by_role("button", name="Logs of broken").click()
    window.page.get_by_role("dialog").get_by_text("stderr", exact=True).click()
    expect(window.page.get_by_role("log")).to_contain_text("no such column")


def details_of(name: str) -> Callable[[Window, Runs], None]:
    def ready(window: Window, _runs: Runs) -> None:
        window.page.get_by_role("button", name=name, exact=True).first.click()
        expect(window.page.get_by_role("dialog")).to_be_visible()

    return ready


VIEWS: dict[str, tuple[str, Callable[[Window, Runs], None]]] = {
    "workflows": ("#/workflows", heading("Workflows")),
    "workflow": ("#/workflows/{workflow}", canvas_shown),
    "workflow-node": ("#/workflows/{workflow}", node_chosen),
    "workflow-wire": ("#/workflows/{workflow}", wire_chosen),
    "workflow-self-peer": ("#/workflows/{workflow}", self_peer_chosen),
    "workflow-connect": ("#/workflows/{workflow}", dialog_of("Add a connection…")),
    "workflow-execute": ("#/workflows/{workflow}", dialog_of("Execute…")),
    "executions": ("#/executions", heading("Executions")),
    "execution": ("#/executions/{completed}", execution_shown),
    "execution-failed": ("#/executions/{failed}", heading("Execution")),
    "execution-preview": ("#/executions/{completed}", preview),
    "execution-explain": ("#/executions/{failed}", explain),
    "execution-logs": ("#/executions/{failed}", logs),
    "services": ("#/services", heading("Services")),
    "services-new": ("#/services", dialog_of("New service")),
    "services-show": ("#/services", details_of("count")),
    "peers": ("#/peers", heading("Peers")),
    "peers-show": ("#/peers", details_of("office")),
    "peers-join": ("#/peers", dialog_of("Join by invite")),
    "peers-invite": ("#/peers", invited),
    "node": ("#/node", node_shown),
}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
PICTURED = {("wide", "light"), ("narrow", "dark")}
SIZES: dict[str, Any] = {"wide": WIDE, "narrow": NARROW}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_accessible_and_fits(open_window: Open, runs: Runs, view: str, size: str) -> None:
    route, ready = VIEWS[view]
    # axe is put into the page, which its policy would not allow; the policy itself is tested by all the other tests.
    window = open_window(size=SIZES[size], bypass_csp=True, route=route.format(**as_ids(runs)))
    ready(window, runs)
    for scheme in SCHEMES:
        window.page.emulate_media(color_scheme=scheme)
        settle(window.page)
        if (size, scheme) in PICTURED:
            window.shot(f"{view}-{size}-{scheme}")
        assert window.accessibility_problems() == [], scheme
    assert sideways(window.page) == []


def as_ids(runs: Runs) -> dict[str, int]:
    return {"workflow": runs.workflow, "completed": runs.completed, "failed": runs.failed}


def settle(page: Page) -> None:
    """Wait until what the view reads has come: nothing says any more that it is being read."""
    expect(page.locator(".loading")).to_have_count(0)
    page.evaluate("() => document.fonts.ready.then(() => new Promise(requestAnimationFrame))")


def sideways(page: Page) -> list[str]:
    """Return what makes the page wider than the window."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
          [...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => `${each.tagName}.${each.className}`)"""
    )
    return found


def test_views_of_a_peer_that_has_nothing_say_what_to_do(open_window: Open, tmp_path: Path) -> None:
    with running_peers(tmp_path, "new") as (peer,):
        window = open_window(peer, bypass_csp=True)
        page = window.page
        for route, title in EMPTY.items():
            window.go(route)
            expect(page.get_by_text(title, exact=True)).to_be_visible()
            settle(page)
            assert window.accessibility_problems() == [], route
            window.shot(f"empty-{route.removeprefix('#/')}")
        CanvasPage(window, peer.workflow("Nothing yet"))
        for words in ("An empty canvas", "No services yet", "Not executed yet"):
            expect(page.get_by_text(words, exact=True)).to_be_visible()
        assert window.accessibility_problems() == []
        window.shot("empty-canvas")
        window.context.close()  # before its daemon ends


EMPTY = {
    "#/workflows": "No workflow yet",
    "#/executions": "Nothing has been executed yet",
    "#/services": "This peer offers nothing yet",
    "#/peers": "No other peer yet",
    "#/node": "No job has run on this machine.",
}


def test_this_node_says_what_its_daemon_tells(open_window: Open, peers: Pair) -> None:
    home = peers.home
    status, machine = home.call("node.status"), home.call("node.capabilities")
    page = open_window(route="#/node").page
    daemon, hardware = (
        page.locator(".card").filter(has=page.get_by_role("heading", name=name)) for name in ("Daemon", "Machine")
    )
    for fact in (status["version"], status["peer_id"], status["api"]["url"], status["api"]["socket"]):
        expect(daemon).to_contain_text(str(fact))
    for address in status["peer_addresses"]:
        expect(daemon).to_contain_text(address)
    expect(hardware).to_contain_text(str(machine["cpu_cores"]))
    expect(hardware).to_contain_text(machine["architecture"])
    expect(page.get_by_role("region", name="At a glance").get_by_role("link")).to_have_text("1")


def test_a_round_trip_is_measured_and_shown(open_window: Open, peers: Pair) -> None:
    page = open_window(route="#/peers").page
    row = page.get_by_role("region", name="Peers").get_by_role("row").filter(has_text="office")
    expect(row).to_contain_text(re.compile(r"\d ms"))
    (known,) = peers.home.call("peer.list")["items"]
    assert known["rtt_ms"] >= 0


def test_explain_gives_no_advice_on_a_job_that_completed(open_window: Open, runs: Runs) -> None:
    window = open_window(route=f"#/executions/{runs.completed}")
    window.page.get_by_role("button", name="Explain count").click()
    dialog = window.page.get_by_role("dialog")
    expect(dialog.locator(".explain__because")).to_be_visible()
    expect(dialog.locator(".note")).to_have_count(0)


def test_results_come_before_the_timeline_whose_chart_shows_a_hundred_rows_at_first(
    open_window: Open, peers: Pair
) -> None:
    home = peers.home
    workflow_id = home.workflow("Many texts")
    for index in range(51):  # a job and a delivery each
        node = home.node(workflow_id, peers.services["text"], name=f"text {index}", gui_y=index * 100)
        home.connect(workflow_id, node, None, "STDOUT->MOUNT", destination_file_name=f"{index}.txt")
    execution_id = home.execute(workflow_id)
    assert home.wait(execution_id)["status"] == "COMPLETED"
    window = open_window(size={"width": 1600, "height": 900}, route=f"#/executions/{execution_id}")
    page = window.page
    rows = page.locator(".gantt__labels .gantt__label")
    expect(rows).to_have_count(100)
    expect(page.get_by_role("heading", name="Results (51)")).to_be_visible()
    titles = page.get_by_role("heading", level=2).all_inner_texts()
    assert titles.index("Results (51)") < titles.index("Timeline")
    page.get_by_role("heading", name="Timeline").evaluate("(heading) => heading.scrollIntoView()")
    window.shot("execution-timeline")
    page.get_by_role("button", name="Show all", exact=True).click()
    expect(rows).to_have_count(102)
    expect(page.get_by_role("button", name="Show all", exact=True)).to_have_count(0)
