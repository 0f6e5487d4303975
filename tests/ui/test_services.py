"""Services made, changed, unlocked and withdrawn by their form; files go up ahead of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Route, expect

from tests.ui.conftest import Open, Pair, make_single
from tests.ui.services_page import act_on, begin, row


def test_a_data_service_is_made_of_an_uploaded_file_and_unlocked(
    open_window: Open, peers: Pair, tmp_path: Path
) -> None:
    file = tmp_path / "Größe der Wörter.txt"
    file.write_text("uploaded\n" * 1000)
    window = open_window(route="#/services")
    dialog = begin(window, "DATA", "Uploaded words")
    dialog.get_by_test_id("upload-file").set_input_files(file)
    expect(dialog.get_by_role("button", name="Remove Gro-e-der-Worter.txt")).to_be_visible()
    dialog.get_by_label("Passphrase").fill("correct horse")
    dialog.get_by_label("May go to").select_option("here_only")
    dialog.get_by_role("button", name="Offer service").click()

    expect(row(window.page, "Uploaded words")).to_contain_text("1 file, 8.8 KB, encrypted")
    made = offered(peers, "Uploaded words")
    assert (made["encrypted"], made["egress"], made["size_bytes"]) == (True, "here_only", 9000)

    act_on(window.page, "Uploaded words", "Unlock…")
    dialog.get_by_label("Passphrase").fill("wrong horse")
    dialog.get_by_role("button", name="Unlock", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("The passphrase does not open DATA service Uploaded words")
    dialog.get_by_label("Passphrase").fill("correct horse")
    dialog.get_by_role("button", name="Unlock", exact=True).click()
    expect(window.page.get_by_text("Uploaded words is open until")).to_be_visible()


def test_files_that_go_up_together_are_all_kept_and_so_are_the_paths_typed_meanwhile(
    open_window: Open, peers: Pair, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("first.txt", "second.txt", "typed.txt")]
    for file in files:
        file.write_text(file.name)
    window = open_window(route="#/services")
    dialog = begin(window, "DATA", "Three files")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    window.page.route("**/upload/*", hold_the_first)
    with window.page.expect_request("**/upload/first.txt"):
        dialog.get_by_test_id("upload-file").set_input_files(files[:2])
    dialog.get_by_label("Paths on this machine").fill(str(files[2]))
    held[0].continue_()
    for name in ("first.txt", "second.txt"):
        expect(dialog.get_by_role("button", name=f"Remove {name}")).to_be_visible()
    expect(dialog.get_by_label("Paths on this machine")).to_have_value(str(files[2]))
    dialog.get_by_role("button", name="Offer service").click()

    expect(row(window.page, "Three files")).to_contain_text("3 files")
    assert offered(peers, "Three files")["size_bytes"] == sum(file.stat().st_size for file in files)


def test_a_program_is_offered_with_limits_and_a_mount_and_is_changed_by_what_differs(
    open_window: Open, peers: Pair
) -> None:
    window = open_window(route="#/services")
    dialog = begin(window, "STANDALONE", "Sorter")
    dialog.get_by_role("textbox", name="Program").fill("/usr/bin/sort")
    dialog.get_by_role("textbox", name="Arguments").fill("-n\n--key=2 3")
    dialog.get_by_text("Limits of one run").click()
    dialog.get_by_label("Memory").fill("512 MB")
    dialog.get_by_text("Interfaces", exact=True).click()
    dialog.get_by_role("button", name="Add a MOUNT").click()
    dialog.get_by_label("Interface 5: path").fill("/input")
    dialog.get_by_text("Environment and secrets").click()
    dialog.get_by_label("Environment").fill("LC_ALL=C")
    dialog.get_by_label("Secrets").fill("key=not to be shown")
    dialog.get_by_role("button", name="Offer service").click()
    expect(row(window.page, "Sorter")).to_be_visible()

    made = offered(peers, "Sorter")
    assert made["cmd"] == ["-n", "--key=2 3"]
    assert (made["limits"], made["env"], made["secret_names"]) == (
        {"memory_bytes": 512 << 20},
        {"LC_ALL": "C"},
        ["key"],
    )
    assert made["interfaces"][-1] == {
        "interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT", "required": False, "description": "",
    }  # fmt: skip

    act_on(window.page, "Sorter", "Change…")
    expect(dialog.get_by_role("textbox", name="Arguments")).to_have_value("-n\n--key=2 3")
    dialog.get_by_role("textbox", name="Arguments").fill("-r")
    dialog.get_by_role("button", name="Save").click()
    expect(row(window.page, "Sorter")).to_contain_text("/usr/bin/sort -r")
    changed = offered(peers, "Sorter")
    assert changed == {
        **made, "cmd": ["-r"], "revision": changed["revision"], "updated_at": changed["updated_at"],
    }  # fmt: skip


def test_a_form_says_every_field_that_is_wrong_and_the_daemon_the_rest(open_window: Open) -> None:
    window = open_window(route="#/services")
    dialog = begin(window, "STANDALONE", "")
    dialog.get_by_text("Limits of one run").click()
    dialog.get_by_label("Memory").fill("plenty")
    dialog.get_by_role("button", name="Offer service").click()
    expect(dialog.get_by_text("3 fields need another look.")).to_be_visible()
    expect(dialog.get_by_role("textbox", name="Name")).to_be_focused()

    dialog.get_by_role("textbox", name="Name").fill("Nothing there")
    dialog.get_by_role("textbox", name="Program").fill("/nowhere/at/all")
    dialog.get_by_label("Memory").fill("1 GB")
    dialog.get_by_role("button", name="Offer service").click()
    expect(dialog.get_by_role("alert")).to_contain_text("/nowhere/at/all")


def test_a_service_that_is_drawn_on_says_by_which_workflow_before_it_goes(open_window: Open, peers: Pair) -> None:
    service_id = peers.home.program("Leaving", "cat\n", confine="never")
    peers.services["leaving"] = service_id
    make_single(peers, "Draws on Leaving", "leaving")
    window = open_window(route="#/services")
    page = window.page
    act_on(page, "Leaving", "Deactivate")
    expect(row(page, "Leaving")).to_contain_text("Inactive")
    act_on(page, "Leaving", "Delete…")
    expect(page.get_by_role("dialog")).to_contain_text("1 workflow draws on it and will not execute: Draws on Leaving")
    page.get_by_role("dialog").get_by_role("button", name="Delete service").click()
    expect(row(page, "Leaving")).to_have_count(0)
    assert all(each["id"] != service_id for each in peers.home.call("service.list")["items"])


def offered(peers: Pair, name: str) -> dict[str, Any]:
    (found,) = (each for each in peers.home.call("service.list", limit=1000)["items"] if each["name"] == name)
    return dict(peers.home.call("service.get", service_id=found["id"]))
