"""Two hundred nodes: what happens to one of them draws that one again and no other. tools/bench/designer.py says how fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.running_peers import Peer, running_peers
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open

TEXTS = 199
ALL_RUN_WITHIN_MS = 90_000
# React tells its developer tools of every commit, in production too, and marks what it has rendered in it. This is such a
# tool: it keeps the names of the nodes that were rendered, and when the last was.
WATCH_RENDERS = """
const RENDERED = 1;
window.rendered = new Set();
window.renderedAt = 0;
const look = (fiber) => {
  const element = fiber.flags & RENDERED ? fiber.child?.stateNode : null;
  if (element instanceof Element && element.classList.contains("node")) {
    window.rendered.add(element.closest(".react-flow__node").getAttribute("aria-label"));
    window.renderedAt = performance.now();
  }
  if (fiber.child === fiber.alternate?.child) return;
  for (let child = fiber.child; child; child = child.sibling) look(child);
};
window.__REACT_DEVTOOLS_GLOBAL_HOOK__ = {
  supportsFiber: true,
  inject: () => 1,
  onCommitFiberRoot: (_id, root) => look(root.current),
  onCommitFiberUnmount: () => {},
};
"""
QUIET = "() => window.rendered.size > 0 && performance.now() - window.renderedAt > 1000"
IN_SIGHT = """() => {
  for (const node of document.querySelectorAll(".react-flow__node-service")) {
    const box = node.querySelector(".node__title").getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    if (node.contains(document.elementFromPoint(x, y))) return [node.getAttribute("aria-label"), x, y];
  }
  return null;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """A peer with a workflow of many texts that come home at once, and a gate that lets one through when it is opened."""

    peer: Peer
    workflow_id: int
    gate: Path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    folder = tmp_path_factory.mktemp("large")
    gate, text = folder / "open", folder / "text.txt"
    text.write_text("x\n")
    with running_peers(folder, "alone") as (peer,):
        data = peer.data("text", text)
        program = peer.program("gate", f"cat; until test -e {gate}; do sleep 0.1; done\n", confine="never")
        workflow_id = peer.workflow("Large")
        last = peer.node(workflow_id, program, gui_x=0, gui_y=-200)
        peer.connect(workflow_id, last, None, "STDOUT->MOUNT", destination_file_name="gate.txt")
        for index in range(TEXTS):
            place = {"gui_x": index % 20 * 320, "gui_y": index // 20 * 160}
            node = peer.node(workflow_id, data, name=f"text {index}", **place)
            if index:
                peer.connect(workflow_id, node, None, "STDOUT->MOUNT", destination_file_name=f"{index}.txt")
            else:
                peer.connect(workflow_id, node, last)
        yield Large(peer=peer, workflow_id=workflow_id, gate=gate)


@pytest.fixture
def canvas(open_window: Open, large: Large) -> CanvasPage:
    window = open_window(large.peer)
    window.context.add_init_script(WATCH_RENDERS)
    window.page.reload()
    canvas = CanvasPage(window, large.workflow_id)
    expect(canvas.page.locator(".react-flow__node-service")).to_have_count(TEXTS + 1)
    return canvas


def forget_renders(page: Page) -> None:
    """Forget what was rendered so far, once nothing has been for a while."""
    page.wait_for_function(QUIET)
    page.evaluate("() => window.rendered.clear()")


def rendered(page: Page) -> list[str]:
    """Return the names of the nodes that were rendered since, once no other follows."""
    page.wait_for_function(QUIET)
    names: list[str] = page.evaluate("() => [...window.rendered]")
    return names


def test_a_node_that_is_moved_is_the_only_one_that_is_drawn_again(canvas: CanvasPage) -> None:
    page = canvas.page
    forget_renders(page)
    name, x, y = page.evaluate(IN_SIGHT)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=8)
    page.mouse.up()
    canvas.expect_saved()
    assert rendered(page) == [name]


def test_a_job_that_ends_draws_its_own_node_again_and_no_other(canvas: CanvasPage, large: Large) -> None:
    page = canvas.page
    canvas.execute()
    state = ".react-flow__node .badge[data-state={}]"
    expect(page.locator(state.format("COMPLETED"))).to_have_count(TEXTS, timeout=ALL_RUN_WITHIN_MS)
    expect(page.locator(state.format("RUNNING"))).to_have_count(1)
    forget_renders(page)
    large.gate.touch()
    expect(canvas.state(canvas.node("gate"))).to_have_text("Completed")
    assert rendered(page) == ["gate, STANDALONE"]
