"""The canvas of a workflow as a hand sees it: nodes, their ends, wires, and where things lie."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.ui.browser import Window

Point = tuple[float, float]


class CanvasPage:
    """The page of one workflow."""

    def __init__(self, window: Window, workflow_id: int | None = None) -> None:
        self.window = window
        if workflow_id is not None:
            window.go(f"#/workflows/{workflow_id}")
        self.surface.wait_for()

    @property
    def page(self) -> Page:
        return self.window.page

    @property
    def workflow_id(self) -> int:
        found = re.search(r"#/workflows/(\d+)$", self.page.url)
        assert found, self.page.url
        return int(found[1])

    # ---- what is there

    @property
    def surface(self) -> Locator:
        return self.page.locator(".surface")

    @property
    def details(self) -> Locator:
        return self.page.get_by_role("complementary", name="Details")

    @property
    def palette(self) -> Locator:
        return self.page.get_by_role("complementary", name="Services")

    @property
    def self_peer(self) -> Locator:
        return self.page.get_by_role("group", name="This peer, source and destination")

    def offer(self, name: str) -> Locator:
        """Return a service in the palette."""
        return self.palette.get_by_role("listitem").filter(has=self.page.get_by_text(name, exact=True))

    def node(self, name: str) -> Locator:
        return self.page.get_by_role("group").filter(has=self.page.get_by_text(name, exact=True))

    def wire(self, name: str) -> Locator:
        """Return a wire by what it is called, such as `STDOUT of text to STDIN of count`."""
        return self.page.get_by_role("group", name=name, exact=True)

    def end(self, node: Locator, label: str) -> Locator:
        """Return what a wire is drawn from or to, by the words beside it."""
        return node.locator(".end", has_text=label).locator(".react-flow__handle")

    def state(self, node: Locator) -> Locator:
        return node.locator(".badge")

    def expect_saved(self) -> None:
        expect(self.page.locator(".toolbar__saved")).to_have_text("Saved")

    # ---- what the hand does

    def drop(self, name: str, at: Point) -> Locator:
        """Drag a service out of the palette to a place on the canvas; return its node."""
        box = self.box()
        self.offer(name).drag_to(self.surface, target_position={"x": at[0], "y": at[1]})
        assert at[0] < box["width"]
        node = self.node(name)
        expect(node).to_be_visible()
        return node

    def draw(self, start: Locator, end: Locator, *, release: bool = True) -> None:
        """Draw a wire from one end to another, as a hand does: pressed, moved, let go."""
        (from_x, from_y), (to_x, to_y) = centre(start), centre(end)
        mouse = self.page.mouse
        mouse.move(from_x, from_y)
        mouse.down()
        mouse.move((from_x + to_x) / 2, (from_y + to_y) / 2, steps=5)
        mouse.move(to_x, to_y, steps=5)
        if release:
            mouse.up()

    def move(self, node: Locator, by: Point) -> None:
        x, y = centre(node.locator(".node__title"))
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + by[0], y + by[1], steps=8)
        mouse.up()

    def box(self) -> FloatRect:
        box = self.surface.bounding_box()
        assert box is not None
        return box

    def places(self) -> dict[str, tuple[int, int]]:
        """Return where every node lies on the screen, by its name."""
        return dict(self._places())

    def _places(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for node in self.page.locator(".react-flow__node").all():
            box = node.bounding_box()
            assert box is not None
            yield node.get_attribute("aria-label") or "", (round(box["x"]), round(box["y"]))

    # ---- running

    def execute(self) -> None:
        """Press Execute, and Execute again in the dialog that asks for what is not drawn."""
        self.page.get_by_role("button", name="Execute…").first.click()
        dialog = self.page.get_by_role("dialog", name="Execute")
        dialog.get_by_role("button", name="Execute", exact=True).click()
        expect(dialog).to_be_hidden()


def overlaps(canvas: CanvasPage) -> list[tuple[str, str]]:
    """Return the pairs of cards of which one lies on the other."""
    boxes = [
        (card.get_attribute("aria-label") or "", box)
        for card in canvas.page.locator(".react-flow__node").all()
        if (box := card.bounding_box())
    ]
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if a["x"] < b["x"] + b["width"] and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"] and b["y"] < a["y"] + a["height"]
    ]  # fmt: skip


def centre(locator: Locator) -> Point:
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
