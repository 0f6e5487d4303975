"""What axe-core finds in the middle of things: a wire in the hand, dialogs, menus, messages, errors; in light and in dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.running_peers import running_peers
from tests.ui.browser import Window
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open, Pair, make_single, make_workflow
from tests.ui.services_page import begin


def expect_accessible(window: Window) -> None:
    """Nothing is found, whatever the colours. The window has to be opened with bypass_csp."""
    for scheme in ("light", "dark"):
        window.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its words
        window.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert window.accessibility_problems() == [], scheme


def test_while_a_wire_is_held(open_window: Open, peers: Pair) -> None:
    window = open_window(bypass_csp=True)
    canvas = CanvasPage(window, make_workflow(peers, "Held"))
    count = canvas.node("count")
    canvas.draw(canvas.end(count, "STDERR"), canvas.end(canvas.self_peer, "Results"), release=False)
    expect(canvas.self_peer.locator(".end--fits")).to_be_visible()
    expect_accessible(window)
    canvas.page.mouse.up()
    canvas.draw(canvas.end(count, "STDOUT"), canvas.end(count, "STDERR"), release=False)
    expect(canvas.page.locator(".refused")).to_be_visible()
    expect_accessible(window)
    canvas.page.mouse.up()
    expect(canvas.page.locator(".toast").first).to_be_visible()  # why it was let go for nothing
    expect_accessible(window)


def test_a_failed_run_and_what_is_chosen_of_it(open_window: Open, peers: Pair) -> None:
    window = open_window(bypass_csp=True)
    canvas = CanvasPage(window, make_single(peers, "Failed to look at", "broken"))
    page = canvas.page
    canvas.execute()
    expect(canvas.state(canvas.node("broken"))).to_have_text("Errored")
    expect_accessible(window)
    canvas.node("broken").click()
    expect(canvas.details.get_by_role("log")).to_contain_text("no such column")
    expect_accessible(window)
    canvas.wire("STDOUT of text to STDIN of broken").focus()
    page.keyboard.press("Enter")
    expect(canvas.details.get_by_role("region", name="Transfer")).to_be_visible()
    expect_accessible(window)
    page.keyboard.press("Control+a")
    expect(canvas.details.get_by_role("button", name="Duplicate")).to_be_visible()
    expect_accessible(window)
    page.keyboard.press("Escape")
    canvas.details.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect_accessible(window)


def test_a_check_that_has_found_something(open_window: Open, peers: Pair) -> None:
    window = open_window(bypass_csp=True)
    home = peers.home
    service = home.program("gone to look at", "cat\n", confine="never")
    workflow_id = home.workflow("Problems to look at")
    home.node(workflow_id, service)
    home.call("service.set_status", service_id=service, status="INACTIVE")
    canvas = CanvasPage(window, workflow_id)
    canvas.page.get_by_role("button", name="Check", exact=True).click()
    expect(canvas.details.get_by_role("region", name="Problems")).to_be_visible()
    window.shot("canvas-problems")
    expect_accessible(window)


def test_the_page_that_asks_for_a_token(open_window: Open) -> None:
    window = open_window(signed_in=False, bypass_csp=True)
    expect(window.page.get_by_role("heading", name="Sign in to rnd")).to_be_visible()
    expect_accessible(window)
    window.page.get_by_role("button", name="Sign in").click()
    expect(window.page.get_by_text("Paste the token first.")).to_be_visible()
    expect_accessible(window)


def cancel(page: Page, peers: Pair) -> None:
    workflow_id = make_single(peers, "Cancelled to look at", "slow")
    page.evaluate("id => { location.hash = `#/executions/${id}`; }", peers.home.execute(workflow_id))
    page.get_by_role("button", name="Cancel", exact=True).click()


def delete_workflow(page: Page, peers: Pair) -> None:
    make_workflow(peers, "Deleted to look at")
    page.get_by_role("button", name="Actions for Deleted to look at", exact=True).click()
    page.get_by_role("menuitem", name="Delete…").click()


def refused_invite(page: Page, _peers: Pair) -> None:
    page.evaluate("() => { location.hash = '#/peers'; }")
    page.get_by_role("button", name="Join by invite").first.click()
    page.get_by_role("textbox", name="Invite").fill("no invite at all")
    page.get_by_role("button", name="Join", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()


def refused_file(page: Page, _peers: Pair) -> None:
    file = {"name": "broken.json", "mimeType": "application/json", "buffer": b"{"}
    page.get_by_label("Workflow file", exact=True).set_input_files(file)  # type: ignore[arg-type]  # a plain dict is one
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


def new_workflow(page: Page, _peers: Pair) -> None:
    page.get_by_role("button", name="New workflow").first.click()


def new_token(page: Page, _peers: Pair) -> None:
    page.evaluate("() => { location.hash = '#/node'; }")
    page.get_by_role("button", name="New token").click()


def shown_token(page: Page, peers: Pair) -> None:
    new_token(page, peers)
    page.get_by_role("textbox", name="Name").fill("shown to look at")
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_role("dialog").get_by_label("Token")).to_be_visible()


def preview(page: Page, peers: Pair) -> None:
    execution_id = peers.home.execute(make_single(peers, "Previewed to look at", "hostile"))
    assert peers.home.wait(execution_id)["status"] == "COMPLETED"
    page.evaluate("id => { location.hash = `#/executions/${id}`; }", execution_id)
    page.get_by_role("button", name="Preview out.html").click()
    expect(page.get_by_role("dialog").locator("pre")).to_contain_text("<script>")


def grant(page: Page, _peers: Pair) -> None:
    page.evaluate("() => { location.hash = '#/peers'; }")
    page.get_by_role("button", name="Add a grant").click()


def keys(page: Page, peers: Pair) -> None:
    page.evaluate("id => { location.hash = `#/workflows/${id}`; }", make_workflow(peers, "Keys to look at"))
    page.locator(".workbench").focus()
    page.keyboard.press("?")


@pytest.mark.parametrize(
    "opened",
    [new_workflow, delete_workflow, refused_file, cancel, refused_invite, grant, new_token, shown_token, preview, keys],
)
def test_a_dialog(open_window: Open, peers: Pair, opened: Callable[[Page, Pair], None]) -> None:
    window = open_window(bypass_csp=True)
    opened(window.page, peers)
    expect(window.page.get_by_role("dialog")).to_be_visible()
    expect_accessible(window)
    if opened is not shown_token:  # a token is not for pictures
        window.shot(f"dialog-{opened.__name__.replace('_', '-')}")


@pytest.mark.parametrize("kind", ["DATA", "DOCKER", "STANDALONE"])
def test_the_form_of_a_service_with_all_of_its_parts_open_and_fields_that_are_wrong(
    open_window: Open, peers: Pair, kind: str
) -> None:
    window = open_window(bypass_csp=True, route="#/services")
    dialog = begin(window, kind, "")
    for summary in dialog.locator("summary").all():
        summary.click()
    dialog.get_by_role("button", name="Offer service").click()
    expect(dialog.get_by_role("textbox", name="Name")).to_be_focused()
    expect_accessible(window)
    window.shot(f"services-{kind.lower()}-wrong")


def test_a_menu_and_an_address_that_leads_nowhere(open_window: Open, peers: Pair) -> None:
    window = open_window(bypass_csp=True)
    make_workflow(peers, "Menu to look at")
    window.page.get_by_role("button", name="Actions for Menu to look at", exact=True).click()
    expect(window.page.get_by_role("menu")).to_be_visible()
    expect_accessible(window)
    window.page.keyboard.press("Escape")
    window.go("#/workflows/987654")
    expect(window.page.get_by_role("alert")).to_be_visible()
    window.shot("not-found")
    expect_accessible(window)


def test_a_daemon_that_is_away(open_window: Open, tmp_path: Path) -> None:
    with running_peers(tmp_path, "gone") as (peer,):
        window = open_window(peer, bypass_csp=True)
        window.watch.expect("ERR_CONNECTION_REFUSED|WebSocket connection")
        canvas = CanvasPage(window, peer.workflow("Away to look at"))
        peer.stop()
        expect(window.page.get_by_role("alert").filter(has_text="No connection to the daemon")).to_be_visible()
        expect_accessible(window)
        canvas.window.go("#/executions")
        expect_accessible(window)
        window.context.close()
