"""What else the canvas does: files and passphrases at a run, problems where they are, copies, files, layout, pictures."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.ui.browser import wait_for
from tests.ui.canvas import CanvasPage, overlaps
from tests.ui.conftest import LONG_NAME, Open, Pair, make_single, make_workflow

BIG_BYTES = 512 * 1024 * 1024
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_input_files_are_uploaded_when_it_runs(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Uploaded")
    count = home.node(workflow_id, peers.services["count"], gui_x=320)
    home.connect(workflow_id, None, count, "MOUNT->STDIN")
    home.connect(workflow_id, count, None, "STDOUT->MOUNT")
    canvas = CanvasPage(open_window(), workflow_id)
    page = canvas.page
    page.get_by_role("button", name="Execute…").first.click()
    dialog = page.get_by_role("dialog", name="Execute")
    file = {"name": "wörds (1).txt", "mimeType": "text/plain", "buffer": b"one two three"}
    dialog.get_by_label("Upload a file for STDIN of count").set_input_files(file)  # type: ignore[arg-type]  # a plain dict is one
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")
    page.get_by_role("button", name="Preview stdout.txt").click()
    expect(page.get_by_role("dialog").locator("pre")).to_have_text("3\n")


def test_encrypted_data_asks_for_its_passphrase(open_window: Open, peers: Pair, tmp_path: Path) -> None:
    home = peers.home
    secret = tmp_path / "secret.txt"
    secret.write_text("a b c d\n")
    service = home.data("secret", secret, passphrase="correct horse")
    workflow_id = home.workflow("Locked")
    data = home.node(workflow_id, service)
    count = home.node(workflow_id, peers.services["count"], gui_x=320)
    home.connect(workflow_id, data, count)
    canvas = CanvasPage(open_window(), workflow_id)
    page = canvas.page
    page.get_by_role("button", name="Execute…").first.click()
    dialog = page.get_by_role("dialog", name="Execute")
    passphrase = dialog.get_by_label("Passphrase for secret")
    expect(passphrase).to_have_attribute("type", "password")
    passphrase.fill("wrong")
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("passphrase")
    passphrase.fill("correct horse")
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")
    assert "correct horse" not in page.content()


@pytest.mark.parametrize("button", ["Check", "Plan"])
def test_problems_are_marked_on_the_nodes_that_have_them(open_window: Open, peers: Pair, button: str) -> None:
    home = peers.home
    service = home.program(f"gone for {button}", "cat\n", confine="never")
    workflow_id = home.workflow("Problems")
    home.node(workflow_id, peers.services["text"])
    gone = home.node(workflow_id, service, gui_x=320)
    assert gone
    home.call("service.set_status", service_id=service, status="INACTIVE")
    canvas = CanvasPage(open_window(), workflow_id)
    node = canvas.node(f"gone for {button}")
    expect(node.locator(".mark")).to_have_count(0)
    canvas.page.get_by_role("button", name=button, exact=True).click()
    expect(node.locator(".mark")).to_contain_text("Problem")
    problems = canvas.details.get_by_role("region", name="Problems")
    expect(problems.get_by_role("listitem").first).to_be_visible()
    problems.get_by_role("button").filter(
        has_text=re.compile("INACTIVE|not ACTIVE|inactive", re.IGNORECASE)
    ).first.click()
    expect(canvas.details.get_by_role("heading", level=2)).to_have_text(f"gone for {button}")


def test_a_waiting_node_says_in_words_what_it_waits_for(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Waiting")
    text = home.node(workflow_id, peers.services["text"])
    slow = home.node(workflow_id, peers.services["slow"], gui_x=320)
    count = home.node(workflow_id, peers.services["count"], gui_x=640)
    home.connect(workflow_id, text, slow)
    home.connect(workflow_id, slow, count)
    canvas = CanvasPage(open_window(), workflow_id)
    canvas.execute()
    expect(canvas.state(canvas.node("slow"))).to_have_text("Running")
    canvas.node("count").click()
    why = canvas.details.get_by_role("region", name="Why")
    expect(why).to_contain_text("The input from slow comes when that job has ended; it is running.")
    canvas.window.shot("canvas-waiting")
    home.call("execution.cancel", execution_id=home.call("execution.list", workflow_id=workflow_id)["items"][0]["id"])
    expect(canvas.state(canvas.node("count"))).to_have_text("Cancelled")


def test_wires_say_how_much_has_passed(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Bytes"))
    canvas.execute()
    wire = canvas.wire("STDOUT of text to STDIN of count")
    expect(wire).to_contain_text("Arrived")
    expect(wire).to_contain_text("42 B")


def test_a_run_is_retried(open_window: Open, peers: Pair, tmp_path: Path) -> None:
    home = peers.home
    switch = tmp_path / "switch"
    service = home.program("moody", f"cat >/dev/null; test -e {switch} && echo fine\n", confine="never")
    peers.services["moody"] = service
    canvas = CanvasPage(open_window(), make_single(peers, "Retried", "moody"))
    canvas.execute()
    expect(canvas.state(canvas.node("moody"))).to_have_text("Errored")
    switch.touch()
    canvas.details.get_by_role("button", name="Retry").click()
    canvas.page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(canvas.state(canvas.node("moody"))).to_have_text("Completed")


def test_a_picture_is_previewed_from_a_blob(open_window: Open, peers: Pair, tmp_path: Path) -> None:
    home = peers.home
    picture = tmp_path / "pixel.png"
    picture.write_bytes(PIXEL)
    workflow_id = home.workflow("Picture")
    data = home.node(workflow_id, home.data("pixel", picture))
    home.connect(workflow_id, data, None, "STDOUT->MOUNT")
    execution_id = home.execute(workflow_id)
    assert home.wait(execution_id)["status"] == "COMPLETED"
    window = open_window(route=f"#/executions/{execution_id}")
    window.page.get_by_role("button", name="Preview pixel.png").click()
    image = window.page.get_by_role("dialog").get_by_role("img", name="Content of pixel.png")
    expect(image).to_be_visible()
    assert str(image.get_attribute("src")).startswith("blob:")
    assert image.evaluate("image => image.naturalWidth") == 1


def test_nodes_are_copied_with_their_wires_between_windows(open_window: Open, peers: Pair) -> None:
    one = CanvasPage(open_window(), make_workflow(peers, "Copied from"))
    one.node("text").click()
    one.page.keyboard.press("Control+a")
    one.page.keyboard.press("Control+d")
    expect(one.page.locator(".react-flow__node")).to_have_count(5)
    one.expect_saved()
    assert inner_wires(peers, one.workflow_id) == 2

    one.page.keyboard.press("Control+c")
    other = CanvasPage(open_window(), peers.home.workflow("Copied to"))
    expect(other.page.get_by_text("An empty canvas")).to_be_visible()
    other.page.bring_to_front()
    other.page.locator(".workbench").focus()
    other.page.keyboard.press("Control+v")
    expect(other.page.locator(".react-flow__node")).to_have_count(3)
    other.expect_saved()
    assert peers.home.call("workflow.list_nodes", workflow_id=other.workflow_id)["total"] == 2
    assert inner_wires(peers, other.workflow_id) == 1


def inner_wires(peers: Pair, workflow_id: int) -> int:
    """Return how many wires lead from a node to a node."""
    listed = peers.home.call("workflow.list_connections", workflow_id=workflow_id)["items"]
    return sum(each["from_node_id"] is not None and each["to_node_id"] is not None for each in listed)


def test_a_file_without_places_is_laid_out_and_goes_out_as_it_came_in(open_window: Open, peers: Pair) -> None:
    document = {
        "format": "rnd.workflow/1",
        "name": "Imported",
        "nodes": [{"name": "a", "service_name": "text"}, {"name": "b", "service_name": "count"}],
        "connections": [
            {"from": "a", "from_interface_type": "STDOUT", "to": "b", "to_interface_type": "STDIN"},
            {"from": "b", "from_interface_type": "STDOUT", "destination_file_name": "n.txt"},
        ],
    }
    window = open_window()
    file = {"name": "imported.json", "mimeType": "application/json", "buffer": json.dumps(document).encode()}
    window.page.get_by_label("Workflow file", exact=True).set_input_files(file)  # type: ignore[arg-type]  # a plain dict is one
    canvas = CanvasPage(window)
    expect(canvas.node("b")).to_be_visible()
    canvas.expect_saved()
    places = {
        (node["gui_x"], node["gui_y"])
        for node in peers.home.call("workflow.list_nodes", workflow_id=canvas.workflow_id)["items"]
    }
    assert len(places) == 2
    window.page.get_by_role("button", name="More", exact=True).click()
    with window.page.expect_download() as started:
        window.page.get_by_role("menuitem", name="Export to a file").click()
    exported = json.loads(started.value.path().read_text())
    assert exported == peers.home.call("workflow.export", workflow_id=canvas.workflow_id)
    assert [node["name"] for node in exported["nodes"]] == ["a", "b"]


def test_a_file_that_is_no_workflow_says_what_is_wrong(open_window: Open) -> None:
    page = open_window().page
    file = {"name": "broken.json", "mimeType": "application/json", "buffer": b"{"}
    page.get_by_label("Workflow file", exact=True).set_input_files(file)  # type: ignore[arg-type]  # a plain dict is one
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("broken.json is not JSON")


def test_zoom_keeps_its_bounds_and_snapping_is_kept(open_window: Open, peers: Pair) -> None:
    window = open_window()
    canvas = CanvasPage(window, make_workflow(peers, "Zoomed"))
    page = canvas.page
    expect(canvas.node("count")).to_be_visible()
    box = canvas.box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    for direction, bound in ((1, 0.5), (-1, 2.0)):
        for _ in range(40):
            page.mouse.wheel(0, direction * 200)
        page.wait_for_function(
            "bound => new DOMMatrix(getComputedStyle(document.querySelector('.react-flow__viewport')).transform).a === bound",
            arg=bound,
        )
    snap = page.get_by_role("button", name="Snap to grid")
    expect(snap).to_have_attribute("aria-pressed", "true")
    snap.click()
    page.get_by_role("button", name="Show everything").click()
    canvas.expect_saved()
    page.reload()
    expect(page.get_by_role("button", name="Snap to grid")).to_have_attribute("aria-pressed", "false")
    canvas.move(canvas.node("count"), (33, 17))
    canvas.expect_saved()
    ui_state = peers.home.call("workflow.get_ui_state", workflow_id=canvas.workflow_id)
    assert ui_state["snap_to_grid"] is False
    assert 0.5 <= ui_state["zoom_level"] <= 2
    listed = peers.home.call("workflow.list_nodes", workflow_id=canvas.workflow_id)["items"]
    assert any(node["gui_x"] % 20 or node["gui_y"] % 20 for node in listed)


def test_a_canvas_that_nobody_touches_asks_for_nothing(open_window: Open, peers: Pair) -> None:
    window = open_window()
    calls: list[str] = []
    window.page.on(
        "websocket",
        lambda socket: socket.on("framesent", lambda frame: calls.append(str(json.loads(frame).get("method")))),
    )
    window.page.reload()
    canvas = CanvasPage(window, make_workflow(peers, "Left alone"))
    expect(canvas.node("count")).to_be_visible()
    canvas.expect_saved()
    assert "workflow.list_nodes" in calls
    # What a view reads again after an event it gathers for less than this.
    window.page.wait_for_timeout(2_000)
    calls.clear()
    window.page.wait_for_timeout(2_000)
    assert [call for call in calls if call.startswith("workflow.")] == []


def test_a_field_that_only_has_the_cursor_follows_what_others_change(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Cursor")
    node_id = home.node(workflow_id, peers.services["count"])
    canvas = CanvasPage(open_window(), workflow_id)
    canvas.node("count").click()
    name = canvas.details.get_by_label("Name", exact=True)
    name.click()
    home.call("workflow.update_node", workflow_id=workflow_id, node_id=node_id, name="theirs")
    expect(name).to_have_value("theirs")
    name.press("Tab")
    expect(canvas.node("theirs")).to_be_visible()
    canvas.expect_saved()
    assert home.call("workflow.list_nodes", workflow_id=workflow_id)["items"][0]["name"] == "theirs"
    name.fill("ours")
    name.press("Tab")
    expect(canvas.node("ours")).to_be_visible()


def test_arguments_with_line_breaks_are_edited_as_json(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Lines")
    node_id = home.node(workflow_id, peers.services["count"])
    home.call("workflow.update_node", workflow_id=workflow_id, node_id=node_id, cmd=["-c", "one\ntwo"])
    canvas = CanvasPage(open_window(), workflow_id)
    canvas.node("count").click()
    command = canvas.details.get_by_label("Command", exact=True)
    expect(command).to_have_value(r'["-c","one\ntwo"]')
    command.fill('["-c"')
    expect(canvas.details.get_by_text("No JSON list of texts")).to_be_visible()
    command.fill(r'["-c", "one\nthree"]')
    command.press("Tab")
    canvas.expect_saved()
    assert home.call("workflow.list_nodes", workflow_id=workflow_id)["items"][0]["cmd"] == ["-c", "one\nthree"]


def test_a_description_keeps_its_paragraphs(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Described")
    home.call("workflow.update", workflow_id=workflow_id, description="What it is.\n\nWhat it needs.")
    canvas = CanvasPage(open_window(), workflow_id)
    if not canvas.details.is_visible():
        canvas.page.get_by_role("button", name="Show details").click()
    canvas.details.get_by_text("Description", exact=True).click()
    description = canvas.details.get_by_label("What it is for")
    expect(description).to_have_value("What it is.\n\nWhat it needs.")
    description.press("Control+End")
    canvas.page.keyboard.press("Enter")
    canvas.page.keyboard.type("What it gives.")
    description.blur()
    canvas.window.go("#/workflows")
    described = canvas.page.get_by_text("What it gives.")
    expect(described.first).to_be_visible()
    stored = home.call("workflow.get", workflow_id=workflow_id)["description"]
    assert stored == "What it is.\n\nWhat it needs.\nWhat it gives."


def test_problems_of_a_plan_stay_and_are_said_to_be_older_than_a_change(open_window: Open, peers: Pair) -> None:
    home = peers.home
    service = home.program("gone for a plan", "cat\n", confine="never")
    workflow_id = home.workflow("Old plan")
    home.node(workflow_id, peers.services["text"])
    home.node(workflow_id, service, gui_x=320)
    home.call("service.set_status", service_id=service, status="INACTIVE")
    canvas = CanvasPage(open_window(), workflow_id)
    canvas.page.get_by_role("button", name="Plan", exact=True).click()
    problems = canvas.details.get_by_role("region", name="Problems")
    expect(problems.get_by_role("heading")).to_have_text(re.compile("Plan.*problem"))
    canvas.move(canvas.node("gone for a plan"), (0, 60))
    canvas.page.keyboard.press("Escape")
    canvas.expect_saved()
    expect(problems).to_be_visible()
    expect(problems.get_by_text("before your last change")).to_have_count(0)
    home.node(workflow_id, peers.services["count"], gui_x=640)
    expect(problems.get_by_text("before your last change")).to_be_visible()
    expect(problems.get_by_role("heading")).to_have_text(re.compile("Plan.*problem"))


def test_the_canvas_is_pushed_by_hand_and_by_its_map_and_found_again_there(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Pushed"))
    page = canvas.page
    expect(canvas.node("count")).to_be_visible()
    box, mouse = canvas.box(), page.mouse
    before = canvas.places()
    mouse.move(box["x"] + 300, box["y"] + 150)
    mouse.down()
    mouse.move(box["x"] + 250, box["y"] + 80, steps=6)
    mouse.up()
    pushed = canvas.places()
    assert {(pushed[name][0] - x, pushed[name][1] - y) for name, (x, y) in before.items()} == {(-50, -70)}

    small = page.get_by_role("img", name="Map of the canvas").bounding_box()
    assert small is not None
    x, y = small["x"] + small["width"] / 2, small["y"] + small["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + 20, y, steps=6)
    mouse.up()
    mapped = canvas.places()
    (moved,) = {(mapped[name][0] - x, mapped[name][1] - y) for name, (x, y) in pushed.items()}
    assert moved[0] < -20  # what is looked at goes right, so what is drawn goes left, by more than the hand
    assert moved[1] == 0
    canvas.expect_saved()
    page.reload()
    expect(canvas.node("count")).to_be_visible()
    assert canvas.places() == mapped


def test_words_of_a_wire_are_read_over_a_card_that_it_passes_behind(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("Behind")
    text = home.node(workflow_id, peers.services["text"], gui_x=0, gui_y=0)
    home.node(workflow_id, peers.services["slow"], gui_x=320, gui_y=0)
    count = home.node(workflow_id, peers.services["count"], gui_x=640, gui_y=0)
    home.connect(workflow_id, text, count, destination_file_name="words.txt")
    home.call("workflow.set_ui_state", workflow_id=workflow_id, pan_x=5000, pan_y=0)  # where a larger window has looked
    canvas = CanvasPage(open_window(), workflow_id)
    expect(canvas.node("slow")).to_be_visible()
    assert overlaps(canvas) == []  # the card of this peer, which nobody has placed, does not lie under one
    label = canvas.page.locator(".wire__label span", has_text="words.txt")
    assert label.evaluate(ON_TOP) == [True, True]
    canvas.wire("STDOUT of text to STDIN of count").focus()
    canvas.page.keyboard.press("Enter")
    expect(canvas.details.get_by_label("Destination file name")).to_have_value("words.txt")
    assert label.evaluate(ON_TOP) == [True, True]  # though a chosen wire is drawn over cards
    canvas.window.shot("canvas-behind")


ON_TOP = """(label) => {
  const box = label.getBoundingClientRect();
  label.style.pointerEvents = "auto";  // else it is seen, and not found
  const all = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return [all.some((each) => each.matches(".node, .node *")), all[0] === label];
}"""


def test_what_a_program_adds_without_a_place_lies_beside_what_is_there(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = home.workflow("One by one")
    home.node(workflow_id, peers.services["text"])
    canvas = CanvasPage(open_window(), workflow_id)
    expect(canvas.node("text")).to_be_visible()
    assert overlaps(canvas) == []
    canvas.expect_saved()
    home.node(workflow_id, peers.services["count"])
    expect(canvas.node("count")).to_be_visible()
    assert overlaps(canvas) == []
    canvas.expect_saved()
    rows = home.call("workflow.list_nodes", workflow_id=workflow_id)["items"]
    assert len({(row["gui_x"], row["gui_y"]) for row in rows}) == 2
    expect(canvas.page.get_by_role("button", name="Undo", exact=True)).to_be_disabled()


def test_each_drag_is_undone_by_itself_and_what_else_was_done_too(open_window: Open, peers: Pair) -> None:
    home = peers.home
    canvas = CanvasPage(open_window(), make_workflow(peers, "Undone step by step"))
    page, count = canvas.page, canvas.node("count")
    expect(count).to_be_visible()

    def stored() -> tuple[object, ...]:
        canvas.expect_saved()
        node = home.call("workflow.list_nodes", workflow_id=canvas.workflow_id)["items"][1]
        wires = home.call("workflow.list_connections", workflow_id=canvas.workflow_id)["items"]
        return node["gui_y"], node["name"], sorted(wire["destination_file_name"] or "" for wire in wires)

    states = [stored()]
    for _ in range(2):  # in less than a second
        canvas.move(count, (0, 60))
        states.append(stored())
    name = canvas.details.get_by_label("Name", exact=True)
    name.fill("words")
    name.press("Tab")
    expect(canvas.node("words")).to_be_visible()
    states.append(stored())
    canvas.wire("STDOUT of words to this peer").focus()
    page.keyboard.press("Enter")
    file_name = canvas.details.get_by_label("Destination file name")
    file_name.fill("n.txt")
    file_name.press("Tab")
    states.append(stored())
    canvas.draw(canvas.end(canvas.node("words"), "STDERR"), canvas.end(canvas.self_peer, "Results"))
    expect(canvas.wire("STDERR of words to this peer")).to_be_attached()
    states.append(stored())
    assert len({str(state) for state in states}) == 6

    for state in reversed(states[:-1]):
        page.get_by_role("button", name=re.compile("^Undo")).click()
        assert stored() == state
    expect(page.get_by_role("button", name=re.compile("^Undo"))).to_be_disabled()
    for state in states[1:]:
        page.get_by_role("button", name=re.compile("^Redo")).click()
        assert stored() == state


def test_a_wire_let_go_on_its_own_card_says_why_it_is_none_and_messages_leave_the_map_free(
    open_window: Open, peers: Pair
) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Own card"))
    page, count = canvas.page, canvas.node("count")
    toast = page.locator(".toast")
    canvas.end(count, "STDERR").click()  # only pressed
    canvas.draw(canvas.end(count, "STDERR"), count.locator(".node__title"))
    expect(toast).to_have_count(1)
    expect(toast).to_contain_text("Workflow has a cycle: count -> count")
    for width in (1280, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        message, small = toast.bounding_box(), page.get_by_role("img", name="Map of the canvas").bounding_box()
        assert message is not None
        assert small is not None
        assert message["x"] + message["width"] < small["x"], width


def test_a_file_that_was_sent_for_a_run_that_is_given_up_is_not_left_behind(
    open_window: Open, peers: Pair, tmp_path: Path
) -> None:
    home = peers.home
    file = tmp_path / "given-up.txt"
    file.write_text("x")
    workflow_id = home.workflow("Given up")
    for title in ("first", "second"):
        node = home.node(workflow_id, peers.services["count"], name=title)
        home.connect(workflow_id, None, node, "MOUNT->STDIN")
    page = CanvasPage(open_window(), workflow_id).page
    page.get_by_role("button", name="Execute…").first.click()
    dialog = page.get_by_role("dialog", name="Execute")
    dialog.get_by_label("Upload a file for STDIN of first").set_input_files(file)
    dialog.get_by_label("Path of the input for STDIN of second").fill("/nowhere/at/all")
    dialog.get_by_role("button", name="Execute", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("/nowhere/at/all")

    def is_there() -> bool:
        return "given-up.txt" in [each["name"] for each in home.call("upload.list")["items"]]

    assert is_there()
    dialog.get_by_role("button", name="Cancel").click()
    wait_for(page, lambda: not is_there())


def test_a_wire_says_how_fast_it_is_and_a_node_what_it_writes_while_it_goes_on(
    open_window: Open, peers: Pair, tmp_path: Path
) -> None:
    home, office = peers.home, peers.office
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(BIG_BYTES)
    workflow_id = home.workflow("Going on")
    data = home.remote_node(workflow_id, office, office.give("big", big), gui_x=0, gui_y=0)
    slow = home.node(workflow_id, peers.services["slow"], gui_x=340, gui_y=200)
    home.connect(workflow_id, data, None, "STDOUT->MOUNT")
    home.connect(workflow_id, home.node(workflow_id, peers.services["text"], gui_x=0, gui_y=200), slow)
    home.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=680, self_peer_y=0)
    canvas = CanvasPage(open_window(), workflow_id)
    expect(canvas.node("big")).to_be_visible()
    execution_id = home.execute(workflow_id)
    canvas.page.wait_for_function(SAYS_A_RATE)  # looks at every frame: on a fast machine it does not last
    expect(canvas.state(canvas.node("slow"))).to_have_text("Running")
    canvas.node("slow").click()
    expect(canvas.details.get_by_role("log")).to_contain_text("begun")
    expect(canvas.state(canvas.node("slow"))).to_have_text("Running")
    home.call("execution.cancel", execution_id=execution_id)
    expect(canvas.state(canvas.node("slow"))).to_have_text("Cancelled")


SAYS_A_RATE = r"""() => [...document.querySelectorAll(".wire__label")]
  .some((label) => /^Active · [\d.]+ .?B\/s/.test(label.innerText))"""


def test_the_name_of_a_workflow_is_read_whole_where_there_is_room(open_window: Open, peers: Pair) -> None:
    home = peers.home
    name = "Measurements of the North Sea, cleaned and counted"
    workflow_id = home.workflow(name)
    home.node(workflow_id, peers.services[LONG_NAME])
    window = open_window(size={"width": 1440, "height": 900})
    canvas = CanvasPage(window, workflow_id)
    field = canvas.page.get_by_label("Name of the workflow")
    expect(field).to_have_value(name)
    assert field.evaluate("(field) => field.scrollWidth <= field.clientWidth")
    canvas.node(LONG_NAME).click()
    expect(canvas.details.get_by_role("heading", level=2)).to_have_text(LONG_NAME)
    window.shot("canvas-long-names")
