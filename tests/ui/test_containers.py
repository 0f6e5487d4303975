"""Containers: offered by the form, given other words and folders on the canvas, run in a real engine, and read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.docker.engine import IMAGE, connect, import_image, running_engine
from tests.running_peers import Peer, running_peers
from tests.ui.canvas import CanvasPage
from tests.ui.conftest import TEXT, Open
from tests.ui.services_page import act_on, begin, row


@dataclass(frozen=True, slots=True, kw_only=True)
class Harbour:
    """A peer with a container engine, that offers one text."""

    peer: Peer
    text: int


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    folder = tmp_path_factory.mktemp("harbour")
    with pytest.MonkeyPatch.context() as patch:
        # An engine is started by the first worker for all; here no other module needs one, whichever worker this is.
        patch.setenv("PYTEST_XDIST_WORKER", "gw0")
        with running_engine(folder / "dockerd.log", folder / "users of the engine"):
            client = connect()
            import_image(client)
            client.close()
            text = folder / "text.txt"
            text.write_text(TEXT)
            with running_peers(folder, "harbour") as (peer,):
                yield Harbour(peer=peer, text=peer.data("text", text))


def test_a_container_is_offered_by_the_form_and_changed_by_what_differs(open_window: Open, harbour: Harbour) -> None:
    peer = harbour.peer
    window = open_window(peer, route="#/services")
    dialog = begin(window, "DOCKER", "Loud")
    dialog.get_by_role("textbox", name="Image").fill(IMAGE)
    dialog.get_by_role("textbox", name="Entrypoint").fill("/bin/sh\n-c")
    dialog.get_by_role("textbox", name="Arguments").fill("tr a-z A-Z")
    dialog.get_by_text("Container", exact=True).click()
    dialog.get_by_label("Network").select_option("bridge")
    dialog.get_by_role("textbox", name=re.compile("^User")).fill("1000:1000")
    dialog.get_by_label("Size of /tmp").fill("16 MB")
    dialog.get_by_label("Capabilities given back").fill("CHOWN SETUID")
    dialog.get_by_label("Root file system is read-only").uncheck()
    window.shot("services-docker")
    dialog.get_by_text("Interfaces", exact=True).click()
    dialog.get_by_role("button", name="Add a MOUNT").click()
    dialog.get_by_label("Interface 5: path").fill("/input")
    dialog.get_by_text("Limits of one run").click()
    dialog.get_by_label("Memory").fill("64 MB")
    dialog.get_by_role("button", name="Offer service").click()
    expect(row(window.page, "Loud")).to_be_visible()

    (found,) = (each for each in peer.call("service.list")["items"] if each["name"] == "Loud")
    made = peer.call("service.get", service_id=found["id"])
    asked = {
        "entrypoint": ["/bin/sh", "-c"], "cmd": ["tr a-z A-Z"], "network": "bridge", "user": "1000:1000",
        "tmpfs_bytes": 16 << 20, "cap_add": ["CHOWN", "SETUID"], "read_only_root": False,
        "limits": {"memory_bytes": 64 << 20},
    }  # fmt: skip
    assert {name: made[name] for name in asked} == asked
    assert [each["path"] for each in made["interfaces"] if each["interface_type"] == "MOUNT"] == ["/input"]

    act_on(window.page, "Loud", "Change…")
    expect(dialog.get_by_role("textbox", name="Image")).to_have_value(made["image"])
    dialog.get_by_text("Container", exact=True).click()
    dialog.get_by_label("Network").select_option("none")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    changed = peer.call("service.get", service_id=found["id"])
    assert changed == {
        **made, "network": "none", "revision": changed["revision"], "updated_at": changed["updated_at"],
    }  # fmt: skip


def test_an_image_that_is_nowhere_is_told_in_the_form(open_window: Open, harbour: Harbour) -> None:
    window = open_window(harbour.peer, route="#/services")
    dialog = begin(window, "DOCKER", "Nowhere")
    dialog.get_by_role("button", name="Offer service").click()
    expect(dialog.get_by_role("textbox", name="Image")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_role("textbox", name="Image").fill("127.0.0.1:9/nowhere:1")
    dialog.get_by_role("button", name="Offer service").click()
    expect(dialog.get_by_role("alert")).to_contain_text("127.0.0.1:9/nowhere:1")


def test_a_node_has_an_entrypoint_a_command_folders_and_a_file_name_of_its_own(
    open_window: Open, harbour: Harbour
) -> None:
    peer = harbour.peer
    mount = {
        "interface_type": "MOUNT",
        "path": "/input",
        "mount_function": "INPUT",
        "required": False,
        "description": "",
    }
    streams = [{"interface_type": each, "path": ""} for each in ("STDIN", "STDOUT", "STDERR", "LOGS")]
    service = peer.call(
        "service.create", name="Plain", service_type="DOCKER", image=IMAGE, cmd=["true"], interfaces=[*streams, mount]
    )["id"]
    workflow_id = peer.workflow("Of its own")
    text = peer.node(workflow_id, harbour.text, gui_x=0, gui_y=0)
    node = peer.node(workflow_id, service, gui_x=340, gui_y=0)
    peer.connect(workflow_id, text, node, "STDOUT->MOUNT", to_interface_path="/input")
    peer.connect(workflow_id, node, None, "STDOUT->MOUNT")
    peer.call("workflow.set_ui_state", workflow_id=workflow_id, self_peer_x=680, self_peer_y=0)
    canvas = CanvasPage(open_window(peer), workflow_id)
    details = canvas.details

    canvas.node("Plain").click()
    for label, words in (("Entrypoint", "/bin/sh\n-c"), ("Command", "cat /words/*; echo over")):
        details.get_by_label(f"{label}: as the service has it").uncheck()
        field = details.get_by_label(label, exact=True)
        field.fill(words)
        field.press("Tab")
    path = details.get_by_label("Path of folder 1")
    path.fill("/words")
    path.press("Tab")
    expect(canvas.wire("STDOUT of text to MOUNT /words of Plain")).to_be_attached()
    details.get_by_role("button", name="Add a folder").click()
    details.get_by_label("Function of /data").select_option("OUTPUT")
    canvas.window.shot("canvas-node-settings")
    canvas.wire("STDOUT of Plain to this peer").focus()
    canvas.page.keyboard.press("Enter")
    name = details.get_by_label("Destination file name")
    name.fill("read.txt")
    name.press("Tab")
    canvas.expect_saved()

    stored = {each["id"]: each for each in peer.call("workflow.list_nodes", workflow_id=workflow_id)["items"]}[node]
    assert (stored["entrypoint"], stored["cmd"]) == (["/bin/sh", "-c"], ["cat /words/*; echo over"])
    folders = {
        each["path"]: each["mount_function"] for each in stored["interfaces"] if each["interface_type"] == "MOUNT"
    }
    assert folders == {"/words": "INPUT", "/data": "OUTPUT"}
    canvas.execute()
    expect(canvas.state(canvas.node("Plain"))).to_have_text("Completed")
    canvas.page.keyboard.press("Escape")
    details.get_by_role("button", name="Preview read.txt").click()
    expect(canvas.page.get_by_role("dialog").locator("pre")).to_have_text(f"{TEXT}over\n")
