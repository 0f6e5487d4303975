"""What strangers wrote is shown as text: outputs, logs, names of services, nodes, workflows and files."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browser import Window
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import HOSTILE_NAME, Open, Pair

MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
IMAGE = "<img src=x onerror=\"document.title='owned'\">"
# Of what could run or load: none may come from outside of the bundle.
LIVE_ELEMENTS = "script:not([src='static/main.js']), iframe, object, embed, svg script, img:not([src^='blob:']), [onerror], [onload]"


def expect_harmless(page: Page) -> None:
    """Nothing that came from outside has become part of the page."""
    assert page.locator(LIVE_ELEMENTS).count() == 0
    assert "owned" not in page.title()


def make_hostile(peers: Pair) -> tuple[int, int]:
    """Run a workflow in which everything that has a name is called by markup; return workflow and execution."""
    home = peers.home
    workflow_id = int(
        home.call("workflow.create", name=HOSTILE_NAME, description=MARKUP)["id"],
    )
    text = home.node(workflow_id, peers.services["text"], gui_x=100, gui_y=100)
    node = home.node(workflow_id, peers.services["hostile"], gui_x=420, gui_y=100)
    home.connect(workflow_id, text, node)
    home.connect(workflow_id, node, None, "STDOUT->MOUNT", destination_file_name="<b>page.html")
    home.connect(workflow_id, node, None, "STDERR->MOUNT", destination_file_name="picture.svg")
    execution_id = home.execute(workflow_id)
    assert home.wait(execution_id)["status"] == "COMPLETED"
    return workflow_id, execution_id


@pytest.fixture(scope="module")
def hostile(peers: Pair) -> tuple[int, int]:
    return make_hostile(peers)


@pytest.fixture
def window(open_window: Open) -> Window:
    return open_window()


def test_outputs_that_are_pages_are_previewed_as_text(window: Window, hostile: tuple[int, int]) -> None:
    page = window.page
    window.go(f"#/executions/{hostile[1]}")
    page.get_by_role("button", name="Preview <b>page.html").click()
    preview = page.get_by_role("dialog")
    expect(preview.locator("pre")).to_contain_text('<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=')
    expect(preview.locator("pre")).to_contain_text("<b>bold</b>")
    assert preview.locator("b, svg:not(.icon) *:is(script)").count() == 0
    window.shot("preview-hostile")
    expect_harmless(page)
    preview.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Preview picture.svg").click()
    expect(page.get_by_role("dialog").locator("pre")).to_contain_text("<script>")
    expect_harmless(page)


def test_a_download_is_a_file_and_never_a_page(window: Window, hostile: tuple[int, int]) -> None:
    page = window.page
    window.go(f"#/executions/{hostile[1]}")
    with page.expect_download() as started:
        page.get_by_role("button", name="Download <b>page.html").click()
    download = started.value
    assert b"onload=" in download.path().read_bytes()
    assert "token" not in download.url
    expect(page.get_by_role("heading", level=1)).to_contain_text("Execution")
    expect_harmless(page)


def test_logs_are_text(window: Window, hostile: tuple[int, int]) -> None:
    page = window.page
    window.go(f"#/executions/{hostile[1]}")
    page.get_by_role("button", name="Logs of hostile").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("log")).to_contain_text("<!doctype html>")
    dialog.get_by_text("stderr", exact=True).click()
    expect(dialog.get_by_role("log")).to_contain_text('<script>document.title="owned"</script>')
    expect_harmless(page)


def test_names_with_markup_are_text_in_lists_and_on_the_canvas(
    window: Window, hostile: tuple[int, int], peers: Pair
) -> None:
    page = window.page
    expect(page.get_by_role("link", name=HOSTILE_NAME)).to_be_visible()
    expect(page.get_by_text(MARKUP)).to_be_visible()
    expect_harmless(page)

    canvas = CanvasPage(window, hostile[0])
    expect(page.get_by_label("Name of the workflow")).to_have_value(HOSTILE_NAME)
    canvas.node("hostile").click()
    page.get_by_label("Settings").or_(page.get_by_role("tab", name="Settings")).first.click()
    name = canvas.details.get_by_label("Name", exact=True)
    name.fill("<i>x</i>")
    name.press("Enter")
    expect(canvas.node("<i>x</i>")).to_be_visible()
    canvas.expect_saved()
    expect_harmless(page)

    window.go("#/executions")
    expect(page.get_by_role("link", name=HOSTILE_NAME).first).to_be_visible()
    expect_harmless(page)


def test_an_error_of_the_daemon_with_markup_is_text(window: Window) -> None:
    page = window.page
    document = {"format": "rnd.workflow/1", "name": "x", "nodes": [{"name": "n", "service_name": IMAGE}]}
    file = {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(document).encode()}
    page.get_by_label("Workflow file", exact=True).set_input_files(file)  # type: ignore[arg-type]  # a plain dict is one
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(IMAGE)
    expect_harmless(page)


def test_a_page_that_fails_says_so_and_can_be_loaded_again(window: Window, hostile: tuple[int, int]) -> None:
    page = window.page
    window.watch.expect("nothing matches")
    page.evaluate("() => { window.matchMedia = () => { throw new Error('nothing matches <b>any</b> more'); }; }")
    window.go(f"#/workflows/{hostile[0]}")
    expect(page.get_by_role("heading", name="The designer has failed")).to_be_visible()
    expect(page.get_by_text("nothing matches <b>any</b> more")).to_be_visible()
    page.get_by_role("button", name="Reload").click()
    CanvasPage(window)
    expect_harmless(page)
