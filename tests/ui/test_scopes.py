"""A token that may only look: what it cannot do is disabled and says why, and what is tried all the same is told."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Locator, expect

from tests.ui.browser import Window
from tests.ui.canvas import CanvasPage, overlaps
from tests.ui.conftest import Open, Pair, make_workflow

NEEDS = "It needs a token of scope {}; this page is signed in with one of scope {}."


def signed_in(open_window: Open, peers: Pair, scope: Literal["read", "operate"], route: str = "#/workflows") -> Window:
    known = peers.home.call("token.list")["total"]
    token = peers.home.call("token.create", name=f"for {scope} {known}", scope=scope)["token"]
    return open_window(token=token, bypass_csp=True, route=route)


def expect_refused(button: Locator, needs: str, has: str) -> None:
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", NEEDS.format(needs, has))


def test_a_reader_sees_no_heap_where_nobody_has_placed_anything(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Unplaced to be read")
    first, second = (home.node(workflow_id, peers.services[name]) for name in ("text", "count"))
    home.connect(workflow_id, first, second)
    window = signed_in(open_window, peers, "read")
    canvas = CanvasPage(window, workflow_id)
    expect(canvas.node("count")).to_be_visible()
    assert overlaps(canvas) == []
    assert {row["gui_x"] for row in home.call("workflow.list_nodes", workflow_id=workflow_id)["items"]} == {0}


def test_a_reader_sees_what_runs_and_cannot_begin_anything(open_window: Open, peers: Pair) -> None:
    workflow_id = make_workflow(peers, "Only to be read")
    execution_id = peers.home.execute(workflow_id)
    assert peers.home.wait(execution_id)["status"] == "COMPLETED"
    window = signed_in(open_window, peers, "read")
    page = window.page
    expect(page.get_by_text("read only")).to_be_visible()
    for name in ("New workflow", "Import"):
        expect_refused(page.get_by_role("button", name=name).first, "operate", "read")
    page.get_by_role("button", name="Actions for Only to be read", exact=True).click()
    expect_refused(page.get_by_role("menuitem", name="Rename…"), "operate", "read")
    expect(page.get_by_role("menuitem", name="Export to a file")).to_be_enabled()
    page.keyboard.press("Escape")

    canvas = CanvasPage(window, workflow_id)
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")
    expect_refused(page.get_by_role("button", name="Execute…").first, "operate", "read")
    expect_refused(page.get_by_role("button", name="Add text", exact=True), "operate", "read")
    window.shot("canvas-read-only")
    before = canvas.places()
    canvas.move(canvas.node("count"), (0, 80))
    page.get_by_role("button", name="Show everything").click()
    page.get_by_role("button", name="Check", exact=True).click()
    expect(canvas.details.get_by_text("The drawing follows every rule.")).to_be_visible()
    assert before["count, STANDALONE"][1] - before["text, DATA"][1] == (
        canvas.places()["count, STANDALONE"][1] - canvas.places()["text, DATA"][1]
    )
    assert window.accessibility_problems() == []

    # Fields are greyed out as well, with the same reason above them.
    name = page.get_by_label("Name of the workflow")
    expect(name).to_be_disabled()
    canvas.details.get_by_text("Description", exact=True).click()
    expect(canvas.details.get_by_label("What it is for")).to_be_disabled()
    canvas.node("count").click()
    canvas.details.get_by_role("tab", name="Settings").click()
    for field in ("Name", "Command: as the service has it", "Pin to this revision"):
        expect(canvas.details.get_by_label(field, exact=field == "Name")).to_be_disabled()
    expect(canvas.details.get_by_text(NEEDS.format("operate", "read"))).to_be_visible()
    window.shot("canvas-read-only-node")
    assert window.accessibility_problems() == []
    canvas.wire("STDOUT of text to STDIN of count").focus()
    page.keyboard.press("Enter")
    for field in ("From (text)", "Destination file name", "Only these files"):
        expect(canvas.details.get_by_label(field)).to_be_disabled()
    page.keyboard.press("Escape")

    # By a key it can be tried; it is refused in words, and the drawing is as it was.
    canvas.node("count").click()
    page.keyboard.press("Delete")
    expect(page.get_by_text("Delete count: ")).to_contain_text("scope operate")
    expect(canvas.node("count")).to_be_visible()
    assert peers.home.call("workflow.list_nodes", workflow_id=workflow_id)["total"] == 2

    page.keyboard.press("Escape")
    canvas.details.get_by_role("button", name="Preview count.txt").click()
    expect(page.get_by_role("dialog").locator("pre")).to_have_text("10\n")


@pytest.mark.parametrize("scope", ["read", "operate"])
def test_only_the_owner_changes_what_is_offered_and_who_comes_in(
    open_window: Open, peers: Pair, scope: Literal["read", "operate"]
) -> None:
    window = signed_in(open_window, peers, scope, route="#/services")
    page = window.page
    expect_refused(page.get_by_role("button", name="New service").first, "admin", scope)
    page.get_by_role("button", name="Actions for count", exact=True).click()
    for action in ("Change…", "Deactivate", "Delete…"):
        expect_refused(page.get_by_role("menuitem", name=action), "admin", scope)
    page.keyboard.press("Escape")
    window.go("#/peers")
    for name in ("Invite a peer", "Join by invite", "Add a grant"):
        expect_refused(page.get_by_role("button", name=name).first, "admin", scope)
    assert window.accessibility_problems() == []
    window.go("#/node")
    expect(page.get_by_role("region", name="At a glance")).to_be_visible()
    expect(page.get_by_role("region", name="Tokens")).to_have_count(0)
    window.go("#/workflows")
    expect(page.get_by_role("button", name="New workflow").first).to_be_enabled(enabled=scope == "operate")
