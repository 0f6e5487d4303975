"""On a tablet, by fingers alone: a workflow is drawn, moved, looked at closer, run and read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from playwright.sync_api import CDPSession, Locator, expect

from tests.ui.browser import NARROW
from tests.ui.canvas import CanvasPage, Point, centre
from tests.ui.conftest import Open, Pair

SCALE = "() => new DOMMatrix(getComputedStyle(document.querySelector('.react-flow__viewport')).transform).a"


class Fingers:
    """Fingers on the glass: taps by the browser's own touch screen, and ways of one or two of them."""

    def __init__(self, canvas: CanvasPage) -> None:
        self.page = canvas.page
        self._session: CDPSession = canvas.window.context.new_cdp_session(canvas.page)

    def tap(self, target: Locator) -> None:
        target.tap()

    def slide(self, *ways: tuple[Point, Point], steps: int = 8) -> None:
        """Put a finger down at the beginning of each way, move them together, and lift them."""
        self._send("touchStart", [start for start, _ in ways])
        for step in range(1, steps + 1):
            part = step / steps
            self._send("touchMove", [(x + (to_x - x) * part, y + (to_y - y) * part) for (x, y), (to_x, to_y) in ways])
        self._send("touchEnd", [])

    def _send(self, kind: str, points: Sequence[Point]) -> None:
        touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


@pytest.fixture
def canvas(open_window: Open, peers: Pair) -> CanvasPage:
    return CanvasPage(open_window(size=NARROW, touch=True), peers.home.workflow("By touch"))


def test_a_workflow_is_built_run_and_read_by_touch_alone(canvas: CanvasPage, peers: Pair) -> None:
    page, fingers = canvas.page, Fingers(canvas)
    if not canvas.palette.is_visible():
        fingers.tap(page.get_by_role("button", name="Show services"))
    for name in ("text", "count"):
        fingers.tap(page.get_by_role("button", name=f"Add {name}", exact=True))
    fingers.tap(page.get_by_role("button", name="Hide services"))
    fingers.tap(page.get_by_role("button", name="Arrange automatically"))
    text, count = canvas.node("text"), canvas.node("count")
    canvas.expect_saved()

    fingers.slide((centre(canvas.end(text, "STDOUT")), centre(canvas.end(count, "STDIN"))))
    expect(canvas.wire("STDOUT of text to STDIN of count")).to_be_attached()
    fingers.slide((centre(canvas.end(count, "STDOUT")), centre(canvas.end(canvas.self_peer, "Results"))))
    expect(canvas.wire("STDOUT of count to this peer")).to_be_attached()

    before = canvas.places()
    x, y = centre(count.locator(".node__title"))
    fingers.slide(((x, y), (x, y + 120)))
    canvas.expect_saved()
    after = canvas.places()
    assert {name for name, place in after.items() if place != before[name]} == {"count, STANDALONE"}

    fingers.tap(page.get_by_role("button", name="Execute…").first)
    fingers.tap(page.get_by_role("dialog").get_by_role("button", name="Execute", exact=True))
    expect(canvas.state(count)).to_have_text("Completed")
    canvas.window.shot("canvas-tablet")
    fingers.tap(canvas.details.get_by_role("button", name="Preview stdout.txt"))
    expect(page.get_by_role("dialog").locator("pre")).to_have_text("10\n")


def test_one_finger_pushes_the_canvas_and_two_bring_it_nearer(canvas: CanvasPage, peers: Pair) -> None:
    peers.home.node(canvas.workflow_id, peers.services["count"], gui_x=100, gui_y=100)
    node = canvas.node("count")
    expect(node).to_be_visible()
    fingers, box = Fingers(canvas), canvas.box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3  # nothing lies there
    before, scale = canvas.places()["count, STANDALONE"], canvas.page.evaluate(SCALE)
    fingers.slide(((x, y), (x + 60, y + 40)))
    after = canvas.places()["count, STANDALONE"]
    assert (round(after[0] - before[0]), round(after[1] - before[1])) == (60, 40)
    fingers.slide(((x - 30, y), (x - 60, y)), ((x + 30, y), (x + 60, y)))
    assert canvas.page.evaluate(SCALE) > scale * 1.5
