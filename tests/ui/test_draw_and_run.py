"""By mouse alone: a workflow is drawn, what is not allowed is refused in words, it runs, and what came home is read."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Route, expect

from tests.running_peers import running_peers
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open, Pair, make_single, make_workflow


def test_a_workflow_is_built_run_and_read_by_mouse_and_is_as_it_was_after_a_reload(
    open_window: Open, peers: Pair
) -> None:
    window = open_window()
    page = window.page
    page.get_by_role("button", name="New workflow").first.click()
    page.get_by_label("Name", exact=True).fill("Words by mouse")
    page.get_by_role("button", name="Create and open").click()
    canvas = CanvasPage(window)

    text = canvas.drop("text", (160, 120))
    shout = canvas.drop("shout", (470, 120))
    count = canvas.drop("count", (160, 400))
    canvas.draw(canvas.end(text, "STDOUT"), canvas.end(shout, "STDIN"))
    canvas.draw(canvas.end(shout, "STDOUT"), canvas.end(count, "STDIN"))
    canvas.draw(canvas.end(count, "STDOUT"), canvas.end(canvas.self_peer, "Results"))
    for name in (
        "STDOUT of text to STDIN of shout",
        "STDOUT of shout to STDIN of count",
        "STDOUT of count to this peer",
    ):
        expect(canvas.wire(name)).to_be_attached()
    canvas.move(shout, (64, 41))
    canvas.expect_saved()

    canvas.execute()
    for node in (text, shout, count):
        expect(canvas.state(node)).to_have_text("Completed")
    # Beside the badge there is room for the peer, not for the type as well.
    expect(shout.locator(".node__about")).to_have_text(re.compile(" · STANDALONE$"))
    page.get_by_role("button", name=re.compile("^Preview ")).click()
    preview = page.get_by_role("dialog")
    expect(preview.locator("pre")).to_have_text("10\n")
    preview.get_by_role("button", name="Close").click()
    window.shot("canvas")

    drawn = {
        node["service_name"]: (node["gui_x"], node["gui_y"])
        for node in peers.home.call("workflow.list_nodes", workflow_id=canvas.workflow_id)["items"]
    }
    assert all(x % 20 == 0 and y % 20 == 0 for x, y in drawn.values()), drawn
    canvas.expect_saved()
    before = canvas.places()
    page.reload()
    expect(canvas.node("count")).to_be_visible()
    expect(canvas.wire("STDOUT of count to this peer")).to_be_attached()
    assert canvas.places() == before
    assert len(before) == 4


def test_a_wrong_wire_is_refused_with_its_reason(open_window: Open, peers: Pair) -> None:
    window = open_window()
    canvas = CanvasPage(window, make_workflow(peers, "Wrong wires"))
    text, count = canvas.node("text"), canvas.node("count")
    measurements = canvas.drop("measurements", (200, 420))
    wires = page_wires(canvas)

    # DATA takes no input, so it has no end to let go on: the wire is let go on the node itself.
    canvas.draw(canvas.end(text, "STDOUT"), measurements)
    expect(window.page.get_by_text("Cannot download from DATA service on remote peer").first).to_be_visible()

    canvas.draw(canvas.end(count, "STDOUT"), canvas.end(count, "STDIN"))
    expect(window.page.get_by_text("Workflow has a cycle: count -> count").first).to_be_visible()

    canvas.draw(canvas.end(text, "STDOUT"), canvas.end(count, "STDERR"), release=False)
    reason = window.page.locator(".refused")
    expect(reason).to_contain_text("STDOUT -> STDERR is not allowed: type mismatch")
    # What an end is called stays to be read; only the end itself is dimmed.
    unfit = count.locator(".end--unfit").first
    expect(unfit).to_have_css("opacity", "1")
    expect(unfit.locator(".react-flow__handle")).to_have_css("opacity", "0.45")
    window.shot("canvas-refused")
    window.page.mouse.up()

    canvas.expect_saved()
    assert page_wires(canvas) == wires


def page_wires(canvas: CanvasPage) -> int:
    """Return how many wires the daemon holds."""
    listed = canvas.window.peer.call("workflow.list_connections", workflow_id=canvas.workflow_id)
    return int(listed["total"])


def test_undo_and_redo_reach_the_database(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Undone"))
    page = canvas.page
    canvas.node("count").click()
    page.keyboard.press("Delete")
    expect(canvas.node("count")).to_have_count(0)
    canvas.expect_saved()
    assert page_wires(canvas) == 0
    page.get_by_role("button", name=re.compile("^Undo: Delete count")).click()
    expect(canvas.node("count")).to_be_visible()
    expect(canvas.wire("STDOUT of text to STDIN of count")).to_be_attached()
    canvas.expect_saved()
    assert page_wires(canvas) == 2
    page.get_by_role("button", name=re.compile("^Redo: Delete count")).click()
    expect(canvas.node("count")).to_have_count(0)
    canvas.expect_saved()
    assert page_wires(canvas) == 0


def test_the_form_of_a_connection_begins_with_two_ends_that_fit(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Drawn already"))
    expect(canvas.wire("STDOUT of text to STDIN of count")).to_be_attached()
    canvas.page.get_by_role("button", name="Add a connection…").click()
    dialog = canvas.page.get_by_role("dialog", name="Add a connection")
    expect(dialog.get_by_text("These two fit together.")).to_be_visible()


def test_a_run_is_cancelled(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_single(peers, "Cancelled", "slow"))
    page = canvas.page
    canvas.execute()
    slow = canvas.node("slow")
    expect(canvas.state(slow)).to_have_text("Running")
    canvas.window.shot("canvas-running")
    canvas.details.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(canvas.state(slow)).to_have_text("Cancelled")
    run = canvas.details.get_by_role("region", name="Latest run")
    expect(run.locator(".badge").first).to_have_text("Cancelled")
    execution = peers.home.call("execution.list", workflow_id=canvas.workflow_id)["items"][0]
    assert execution["status"] == "CANCELLED"


def make_uploading(peers: Pair, name: str) -> int:
    """Draw two counts, called first and second, that each read a file of this peer; return the workflow's id."""
    workflow_id = peers.home.workflow(name)
    for gui_x, title in ((420, "first"), (820, "second")):
        node = peers.home.node(workflow_id, peers.services["count"], name=title, gui_x=gui_x, gui_y=100)
        peers.home.connect(workflow_id, None, node, "MOUNT->STDIN")
    return workflow_id


def test_cancel_while_a_file_goes_up_stops_it_and_runs_nothing(open_window: Open, peers: Pair, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one two\n")
    canvas = CanvasPage(open_window(), make_uploading(peers, "Cancelled upload"))
    page = canvas.page
    held: list[Route] = []
    page.route("**/upload/*", lambda route: held.append(route))  # playwright marks what it is given
    page.get_by_role("button", name="Execute…").first.click()
    dialog = page.get_by_role("dialog", name="Execute")
    for name in ("first", "second"):
        dialog.get_by_label(f"Upload a file for STDIN of {name}").set_input_files(file)
    with page.expect_request("**/upload/*"):
        dialog.get_by_role("button", name="Execute", exact=True).click()
    with page.expect_event("requestfailed", lambda request: "/upload/" in request.url):
        dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert len(held) == 1
    assert peers.home.call("execution.list", workflow_id=canvas.workflow_id)["total"] == 0


def test_a_run_that_was_refused_does_not_send_its_files_again(open_window: Open, peers: Pair, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("one two\n")
    canvas = CanvasPage(open_window(), make_uploading(peers, "Refused upload"))
    page = canvas.page
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/upload/" in request.url else None)
    page.get_by_role("button", name="Execute…").first.click()
    dialog = page.get_by_role("dialog", name="Execute")
    dialog.get_by_label("Upload a file for STDIN of first").set_input_files(file)
    path = dialog.get_by_label("Path of the input for STDIN of second")
    path.fill("/nowhere/at/all")
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("/nowhere/at/all")
    path.fill(str(file))
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(dialog).to_be_hidden()
    for name in ("first", "second"):
        expect(canvas.state(canvas.node(name))).to_have_text("Completed")
    assert len(sent) == 1


def test_a_failed_job_shows_why(open_window: Open, peers: Pair) -> None:
    window = open_window()
    canvas = CanvasPage(window, make_single(peers, "Failed", "broken"))
    canvas.execute()
    broken = canvas.node("broken")
    expect(canvas.state(broken)).to_have_text("Errored")
    run = canvas.details.get_by_role("region", name="Latest run")
    expect(run.locator(".badge").first).to_have_text("Failed")
    broken.click()
    panel = canvas.details
    expect(panel.get_by_role("alert")).to_contain_text("3")
    panel.get_by_role("button", name="stderr").click()
    expect(panel.get_by_role("log")).to_contain_text("no such column: depth")
    window.shot("canvas-failed")


def test_a_second_window_follows_drawing_and_running(open_window: Open, peers: Pair) -> None:
    workflow_id = make_workflow(peers, "Followed")
    one = CanvasPage(open_window(), workflow_id)
    other = CanvasPage(open_window(), workflow_id)
    one.drop("shout", (300, 420))
    expect(other.node("shout")).to_be_visible()
    one.node("shout").click()
    one.page.keyboard.press("Delete")
    expect(other.node("shout")).to_have_count(0)
    one.execute()
    expect(other.state(other.node("count"))).to_have_text("Completed")
    expect(other.details.get_by_role("button", name="Preview count.txt")).to_be_visible()


def test_the_canvas_says_when_the_daemon_is_away_and_goes_on_when_it_is_back(open_window: Open, tmp_path: Path) -> None:
    with running_peers(tmp_path, "away") as (peer,):
        text = tmp_path / "text.txt"
        text.write_text("x")
        workflow_id = peer.workflow("Away")
        node_id = peer.node(workflow_id, peer.data("text", text), gui_x=100, gui_y=100)
        window = open_window(peer)
        window.watch.expect("ERR_CONNECTION_REFUSED|WebSocket connection")
        canvas = CanvasPage(window, workflow_id)
        expect(canvas.node("text")).to_be_visible()
        peer.api_at = window.url.removeprefix("http://")

        peer.stop()
        banner = window.page.get_by_role("alert").filter(has_text="No connection to the daemon")
        expect(banner).to_be_visible()
        canvas.move(canvas.node("text"), (60, 60))
        expect(window.page.locator(".toolbar__saved")).to_contain_text("Not saved")
        window.shot("offline")

        peer.start()
        expect(banner).to_be_hidden(timeout=40_000)
        canvas.expect_saved()
        ((gui_x, gui_y),) = peer.rows("SELECT gui_x, gui_y FROM workflow_nodes WHERE id = ?", node_id)
        assert (gui_x, gui_y) == (160, 160)
        # The page hears of what others do again, and a run is followed to its end.
        peer.call("workflow.update_node", workflow_id=workflow_id, node_id=node_id, name="heard")
        expect(canvas.node("heard")).to_be_visible()
        peer.connect(workflow_id, node_id, None, "STDOUT->MOUNT", destination_file_name="home.txt")
        expect(canvas.wire("STDOUT of heard to this peer")).to_be_attached()
        peer.execute(workflow_id)
        expect(canvas.state(canvas.node("heard"))).to_have_text("Completed")
        window.page.keyboard.press("Escape")  # the node that was moved is still chosen
        expect(canvas.details.get_by_role("button", name="Preview home.txt")).to_be_visible()


def test_what_was_drawn_while_the_daemon_was_away_is_saved_though_its_page_was_left(
    open_window: Open, tmp_path: Path
) -> None:
    with running_peers(tmp_path, "left") as (peer,):
        text = tmp_path / "text.txt"
        text.write_text("x")
        workflow_id = peer.workflow("Left")
        node_id = peer.node(workflow_id, peer.data("text", text), gui_x=100, gui_y=100)
        window = open_window(peer)
        window.watch.expect("ERR_CONNECTION_REFUSED|WebSocket connection")
        canvas = CanvasPage(window, workflow_id)
        expect(canvas.node("text")).to_be_visible()
        peer.api_at = window.url.removeprefix("http://")

        peer.stop()
        expect(window.page.get_by_role("alert").filter(has_text="No connection to the daemon")).to_be_visible()
        canvas.move(canvas.node("text"), (60, 60))
        expect(window.page.locator(".toolbar__saved")).to_contain_text("Not saved")
        window.go("#/peers")
        expect(canvas.surface).to_have_count(0)

        peer.start()
        peer.until("SELECT gui_x FROM workflow_nodes WHERE id = ?", 160, node_id, within_s=40)
