"""A run on the canvas: shown where what is drawn is what has run, and told of wires between two other peers as far as can be known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.running_peers import Peer, introduce, running_peers
from tests.ui.browser import wait_for
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open, Pair, make_workflow


def test_a_node_that_is_changed_shows_the_state_of_the_earlier_run_no_more(open_window: Open, peers: Pair) -> None:
    workflow_id = make_workflow(peers, "Changed since")
    canvas = CanvasPage(open_window(), workflow_id)
    page, details = canvas.page, canvas.details
    count, text = canvas.node("count"), canvas.node("text")
    wire = canvas.wire("STDOUT of text to STDIN of count")
    changed = page.get_by_role("status").filter(has_text="The drawing has changed since")
    canvas.execute()
    expect(canvas.state(count)).to_have_text("Completed")
    execution_id = peers.home.call("execution.list", workflow_id=workflow_id)["items"][0]["id"]
    canvas.move(count, (0, 80))
    count.click()
    details.get_by_role("tab", name="Settings").click()
    details.get_by_label("Name", exact=True).fill("words")
    details.get_by_label("Name", exact=True).press("Tab")
    count = canvas.node("words")
    canvas.expect_saved()
    expect(canvas.state(count)).to_have_text("Completed")  # its place and its name are nothing that runs
    expect(changed).to_have_count(0)

    details.get_by_label("Command: as the service has it").uncheck()
    expect(details.get_by_label("Command: as the service has it")).to_be_focused()  # though what is shown has changed
    canvas.expect_saved()
    expect(canvas.state(count)).to_have_text("Completed")  # nothing is stored before something is written
    assert peers.home.call("workflow.list_nodes", workflow_id=workflow_id)["items"][1]["cmd"] is None
    details.get_by_label("Command", exact=True).fill("-l")
    details.get_by_label("Command", exact=True).press("Tab")
    expect(canvas.state(count)).to_have_count(0)
    expect(canvas.state(text)).to_have_text("Completed")
    expect(canvas.wire("STDOUT of text to STDIN of words")).to_contain_text("Arrived")
    expect(changed).to_contain_text(f"Execution {execution_id} is shown.")
    expect(details.get_by_text(f"Changed since execution {execution_id} ran it")).to_be_visible()
    expect(details.locator(".panel__header .badge")).to_have_count(0)
    canvas.window.shot("canvas-changed")

    page.get_by_role("button", name="Undo: Change the command").click()
    expect(details.get_by_label("Command: as the service has it")).to_be_checked()
    expect(canvas.state(count)).to_have_text("Completed")
    expect(changed).to_have_count(0)
    expect(wire.or_(canvas.wire("STDOUT of text to STDIN of words"))).to_contain_text("Arrived")
    page.keyboard.press("Escape")
    expect(details.get_by_role("region", name="Results")).to_contain_text("from count")  # as it was called then


def test_another_run_is_shown_on_the_drawing_as_it_is_then(open_window: Open, peers: Pair) -> None:
    workflow_id = make_workflow(peers, "Run again")
    canvas = CanvasPage(open_window(), workflow_id)
    canvas.execute()
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")
    canvas.drop("shout", (200, 420))
    changed = canvas.page.get_by_role("status").filter(has_text="The drawing has changed since")
    expect(changed).to_be_visible()
    canvas.draw(canvas.end(canvas.node("text"), "STDOUT"), canvas.end(canvas.node("shout"), "STDIN"))
    canvas.execute()
    expect(canvas.state(canvas.node("shout"))).to_have_text("Completed")
    expect(changed).to_have_count(0)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer, Peer]]:
    """`home`, `left` and `right`, who all know each other."""
    with running_peers(tmp_path_factory.mktemp("three"), "home", "left", "right") as (home, left, right):
        introduce((home, left), (home, right), (left, right))
        yield home, left, right


def test_a_wire_between_two_other_peers_says_what_their_jobs_tell_of_it(
    open_window: Open, three: tuple[Peer, Peer, Peer], tmp_path: Path
) -> None:
    home, left, right = three
    gate = tmp_path / "open"
    wait = f"until test -e {gate}; do sleep 0.1; done; echo through\n"
    start, end = left.offer("gate", wait), right.offer("end", "cat\n")
    workflow_id = home.workflow("Between others")
    first = home.remote_node(workflow_id, left, start, gui_x=0, gui_y=0)
    last = home.remote_node(workflow_id, right, end, gui_x=340, gui_y=0)
    home.connect(workflow_id, first, last)
    home.connect(workflow_id, last, None, "STDOUT->MOUNT", destination_file_name="end.txt")
    home.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=680, self_peer_y=0)
    window = open_window(home)
    canvas = CanvasPage(window, workflow_id)
    canvas.execute()
    wire = canvas.wire("STDOUT of gate to STDIN of end")
    expect(canvas.state(canvas.node("gate"))).to_have_text("Running")
    expect(wire).to_contain_text("Waiting")
    window.shot("canvas-other-peers")
    gate.touch()
    expect(canvas.state(canvas.node("end"))).to_have_text("Completed")
    expect(wire).to_contain_text("Arrived")
    expect(canvas.wire("STDOUT of end to this peer")).to_contain_text("8 B")
    wire.focus()
    canvas.page.keyboard.press("Enter")
    transfer = canvas.details.get_by_role("region", name="Transfer")
    expect(transfer).to_contain_text("only their peers know")
    expect(transfer.get_by_role("progressbar")).to_have_count(0)
    assert home.call("transfer.list")["total"] == 1


def test_the_list_of_services_says_price_and_who_is_away_and_follows_what_other_peers_offer(
    open_window: Open, three: tuple[Peer, Peer, Peer]
) -> None:
    home, left, right = three
    dear = left.offer("dear", "cat\n", pricing_amount=2.5, pricing_type="PER_JOB")
    right.offer("far", "cat\n")
    canvas = CanvasPage(open_window(home), home.workflow("Offers"))
    page, palette = canvas.page, canvas.palette
    expect(canvas.offer("dear")).to_contain_text("STANDALONE · 2.5 per job")
    expect(canvas.offer("far")).to_contain_text("STANDALONE · Free")

    # Of the peer that stays, nothing goes from the list while that is read again for the one that goes.
    page.evaluate(WATCH_DEAR)
    right.call("peer.set_state", peer_id=home.peer_id, state="denied")
    wait_for(page, lambda: not home.call("peer.get", peer_id=right.peer_id)["connected"])
    page.evaluate(COME_BACK)
    expect(palette.get_by_text("Offline")).to_have_count(1)
    expect(canvas.offer("far")).to_have_count(0)
    expect(canvas.offer("dear")).to_be_visible()
    assert page.evaluate("() => window.missed") is False

    left.call("service.update", service_id=dear["id"], pricing_amount=3)
    page.evaluate(COME_BACK)
    expect(canvas.offer("dear")).to_contain_text("3 per job")
    right.call("peer.set_state", peer_id=home.peer_id, state="allowed")
    home.call("peer.connect", peer_id=right.peer_id)
    page.evaluate(COME_BACK)
    expect(canvas.offer("far")).to_be_visible()


# Somebody looks at the window again. Without that it takes ten seconds, or thirty.
COME_BACK = "() => dispatchEvent(new Event('focus'))"
WATCH_DEAR = """() => {
  window.missed = false;
  const isThere = () => [...document.querySelectorAll(".offer__name")].some((name) => name.textContent === "dear");
  const look = () => { window.missed ||= !isThere(); };
  new MutationObserver(look).observe(document.querySelector(".palette__list"), { childList: true, subtree: true });
}"""
