"""By keyboard alone, wide and narrow: a workflow is built, run and read without a mouse, and the focus is always to be seen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browser import NARROW, WIDE, Window
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import Open, Pair, make_workflow

MOST_TABS = 120
# What has the focus, whether that is shown, and whether it is in sight. A wire shows it by its stroke, so that is compared
# with what it was when this was asked before.
FOCUSED = """() => {
  const at = document.activeElement;
  const before = window.strokes ?? new Map();
  window.strokes = new Map([...document.querySelectorAll(".react-flow__edge")].map((wire) => {
    const { stroke, strokeWidth } = getComputedStyle(wire.querySelector(".react-flow__edge-path"));
    return [wire, `${stroke} ${strokeWidth}`];
  }));
  const isWire = window.strokes.has(at);
  const drawn = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== "none";
  const shown = isWire
    ? before.has(at) && before.get(at) !== window.strokes.get(at)
    : [at, ...at.querySelectorAll(".node")].some((each) => drawn(getComputedStyle(each)));
  const box = at.getBoundingClientRect();
  const size = isWire ? box.width + box.height : Math.min(box.width, box.height);
  return {
    tag: at.tagName, name: at.getAttribute("aria-label") || at.textContent.slice(0, 60), shown,
    seen: size > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


class Keys:
    """A person who has a keyboard and no mouse, and who has to see where the focus is."""

    def __init__(self, window: Window) -> None:
        self.page: Page = window.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def tab_to(self, target: Locator, *, back: bool = False) -> None:
        """Press Tab until something has the focus; each stop on the way has to be visible, and to show the focus."""
        target.wait_for(state="attached")
        stops: list[Any] = []
        self.page.evaluate(FOCUSED)
        for _ in range(MOST_TABS):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.press("Shift+Tab" if back else "Tab")
            stop = self.page.evaluate(FOCUSED)
            stops.append(stop["name"])
            if stop["tag"] != "BODY":  # between the last control and the first the focus is in the browser's own frame
                assert stop["shown"], f"the focus is not shown at {stop}"
                assert stop["seen"], f"the focus is out of sight at {stop}"
        raise AssertionError(f"Tab does not lead there; it led to {stops}")

    def activate(self, target: Locator) -> None:
        self.tab_to(target)
        self.press("Enter")

    def choose(self, select: Locator, label: str) -> None:
        """Choose from a list by typing what it is called, as the browser has it."""
        self.tab_to(select)
        options = select.locator("option").all_inner_texts()
        self.press("Home", *["ArrowDown"] * options.index(label))
        expect(select.locator("option:checked")).to_have_text(label)


@pytest.mark.parametrize(("width", "size"), [(1280, WIDE), (820, NARROW)], ids=["1280", "820"])
def test_a_workflow_is_built_run_and_read_by_keyboard_alone(
    open_window: Open, peers: Pair, width: int, size: Any
) -> None:
    window = open_window(size=size)
    page, keys = window.page, Keys(window)
    keys.activate(page.get_by_role("button", name="New workflow").first)
    keys.type(f"Words by keyboard {width}")
    keys.press("Enter")
    canvas = CanvasPage(window)

    if not canvas.palette.is_visible():
        keys.activate(page.get_by_role("button", name="Show services"))
    keys.activate(page.get_by_role("button", name="Add text", exact=True))
    keys.activate(page.get_by_role("button", name="Add count", exact=True))
    expect(canvas.node("count")).to_be_attached()

    connect(keys, canvas, "text", "STDOUT", "count", "STDIN")
    connect(keys, canvas, "count", "STDOUT", "This peer (results)", "Results")
    keys.activate(page.get_by_role("button", name="Arrange automatically"))
    expect(canvas.wire("STDOUT of text to STDIN of count")).to_be_attached()
    expect(canvas.wire("STDOUT of count to this peer")).to_be_attached()

    # A node is chosen and moved by arrows.
    keys.tab_to(canvas.node("count"))
    before = canvas.node("count").bounding_box()
    keys.press("Enter", "ArrowDown", "ArrowDown")
    after = canvas.node("count").bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] > before["y"]
    keys.press("Escape")
    canvas.expect_saved()

    keys.activate(page.get_by_role("button", name="Execute…").first)
    expect(page.get_by_role("dialog", name="Execute")).to_be_visible()
    keys.press("Enter")
    expect(canvas.state(canvas.node("count"))).to_have_text("Completed")
    keys.activate(canvas.details.get_by_role("button", name="Preview stdout.txt"))
    expect(page.get_by_role("dialog").locator("pre")).to_have_text("10\n")
    window.shot(f"keyboard-{width}")
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    keys.activate(page.get_by_role("link", name="Executions"))
    expect(page.get_by_role("heading", name="Executions")).to_be_visible()


def connect(keys: Keys, canvas: CanvasPage, start: str, from_end: str, end: str, to_end: str) -> None:
    """Draw a wire by the form that takes the place of the mouse."""
    page = canvas.page
    keys.activate(page.get_by_role("button", name="Add a connection…"))
    dialog = page.get_by_role("dialog", name="Add a connection")
    keys.choose(dialog.get_by_label("From", exact=True), start)
    keys.choose(dialog.get_by_label("From interface"), from_end)
    keys.choose(dialog.get_by_label("To", exact=True), end)
    keys.choose(dialog.get_by_label("To interface"), to_end)
    expect(dialog.get_by_text("These two fit together.")).to_be_visible()
    keys.activate(dialog.get_by_role("button", name="Connect"))
    expect(dialog).to_be_hidden()


def test_the_form_of_a_connection_says_why_two_ends_do_not_fit(open_window: Open, peers: Pair) -> None:
    window = open_window()
    workflow_id = peers.home.workflow("Refused by form")
    peers.home.node(workflow_id, peers.services["text"])
    count = peers.home.node(workflow_id, peers.services["count"], gui_x=400)
    peers.home.node(workflow_id, peers.services["slow"], gui_x=800)
    assert count
    canvas, keys = CanvasPage(window, workflow_id), Keys(window)
    keys.activate(window.page.get_by_role("button", name="Add a connection…"))
    dialog = window.page.get_by_role("dialog", name="Add a connection")
    keys.choose(dialog.get_by_label("From", exact=True), "count")
    keys.choose(dialog.get_by_label("To", exact=True), "count")
    expect(dialog.get_by_role("status")).to_have_text("Workflow has a cycle: count -> count")
    expect(dialog.get_by_role("button", name="Connect")).to_be_disabled()
    keys.choose(dialog.get_by_label("To", exact=True), "text")
    expect(dialog.get_by_role("status")).to_contain_text("takes no input: its files are fixed")
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    assert peers.home.call("workflow.list_connections", workflow_id=canvas.workflow_id)["total"] == 0


def test_the_first_stop_leads_past_the_navigation(open_window: Open) -> None:
    window = open_window()
    page, keys = window.page, Keys(window)
    page.reload()
    page.get_by_role("heading", name="Workflows").wait_for()
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("key", ["Delete", "Backspace"])
def test_a_key_pressed_in_a_dialog_deletes_nothing_behind_it(open_window: Open, peers: Pair, key: str) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, f"{key} in a dialog"))
    page = canvas.page
    canvas.node("count").click()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press(key)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(canvas.node("count")).to_be_visible()
    canvas.node("count").click()
    page.keyboard.press(key)
    expect(canvas.node("count")).to_have_count(0)


def test_delete_works_wherever_the_focus_is_but_not_in_a_text(open_window: Open, peers: Pair) -> None:
    canvas = CanvasPage(open_window(), make_workflow(peers, "Delete anywhere"))
    page, details = canvas.page, canvas.details
    canvas.node("count").click()
    for text in (details.get_by_label("Name", exact=True), canvas.palette.get_by_label("Filter services")):
        text.fill("ab")
        text.press("Backspace")
        text.press("Delete")
        expect(text).to_have_value("a")
        text.fill("")
        text.press("Tab")
        expect(canvas.node("count")).to_be_visible()
    page.get_by_role("button", name="More", exact=True).click()
    page.keyboard.press("Delete")
    expect(page.get_by_role("menu")).to_be_visible()
    page.keyboard.press("Escape")
    expect(canvas.node("count")).to_be_visible()

    page.get_by_role("button", name="Check", exact=True).focus()
    page.keyboard.press("Backspace")
    expect(canvas.node("count")).to_have_count(0)
    canvas.node("text").click()
    details.get_by_label("Pin to this revision").focus()
    page.keyboard.press("Delete")
    expect(canvas.node("text")).to_have_count(0)
    # With nothing chosen a key leaves the focus where it is.
    page.get_by_role("link", name="Peers").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_role("link", name="Peers")).to_be_focused()
