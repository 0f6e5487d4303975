"""Peers that meet by an invite on the page, are denied and forgotten there; grants, tokens, and the history of runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.running_peers import running_peers
from tests.ui.browser import choose, wait_for
from tests.ui.conftest import Open, Pair, make_single

NEW_LINK = "(a link)"
"""Among the methods that were called: where a connection to the daemon was made."""


def test_two_peers_meet_by_an_invite_and_part_again(open_window: Open, tmp_path: Path) -> None:
    with running_peers(tmp_path, "inn", "guest") as (inn, guest):
        host = open_window(inn, route="#/peers")
        host.page.get_by_role("button", name="Invite a peer").first.click()
        invite = host.page.get_by_label("Invite", exact=True).inner_text()
        expect(host.page.get_by_role("img", name="The invite as a QR code")).to_be_visible()
        expect(host.page.get_by_role("timer")).to_contain_text("left.")

        other = open_window(guest, route="#/peers")
        other.page.get_by_role("button", name="Join by invite").first.click()
        other.page.get_by_role("textbox", name="Invite").fill(invite[:40])
        other.page.get_by_role("button", name="Join", exact=True).click()
        expect(other.page.get_by_role("alert")).to_be_visible()
        other.page.get_by_role("textbox", name="Invite").fill(f"rnd peer join {invite}\n")
        other.page.get_by_role("button", name="Join", exact=True).click()
        expect(peer_row(other.page)).to_contain_text("Connected")
        host.page.keyboard.press("Escape")
        expect(peer_row(host.page)).to_contain_text("Allowed")
        expect(peer_row(host.page)).to_contain_text("Connected")

        act(host.page, "Deny…")
        host.page.get_by_role("button", name="Deny peer").click()
        expect(peer_row(host.page)).to_contain_text("Denied")
        expect(peer_row(other.page)).to_contain_text("Not connected")
        act(host.page, "Allow")
        expect(peer_row(host.page)).to_contain_text("Allowed")
        act(host.page, "Remove…")
        host.page.get_by_role("button", name="Remove peer").click()
        expect(host.page.get_by_text("No other peer yet")).to_be_visible()
        assert inn.call("peer.list")["items"] == []
        for window in (host, other):  # before its daemon ends
            window.context.close()


def test_one_invite_is_made_however_often_the_connection_breaks(open_window: Open) -> None:
    window = open_window()
    links: list[WebSocketRoute] = []
    calls: list[str] = []

    def through(link: WebSocketRoute) -> None:
        server = link.connect_to_server()
        links.append(link)
        calls.append(NEW_LINK)

        def to_daemon(text: str | bytes) -> None:
            calls.append(str(json.loads(text).get("method")))
            server.send(text)

        link.on_message(to_daemon)

    window.page.route_web_socket(re.compile("/ws$"), through)
    window.page.reload()
    window.go("#/peers")
    window.page.get_by_role("button", name="Invite a peer").first.click()
    invite = window.page.get_by_label("Invite", exact=True)
    first = invite.inner_text()
    before = len(calls)
    links[-1].close()
    # The page is back and reads again: not what it read now and then before it noticed.
    wait_for(window.page, lambda: NEW_LINK in calls[before:] and "peer.list" in calls[calls.index(NEW_LINK, before) :])
    expect(invite).to_have_text(first)
    assert calls.count("peer.invite") == 1
    window.page.get_by_role("button", name="New invite").click()
    expect(invite).not_to_have_text(first)
    assert calls.count("peer.invite") == 2


def test_a_grant_and_a_token_are_given_and_taken_back(open_window: Open, peers: Pair) -> None:
    window = open_window(route="#/peers")
    page = window.page
    page.get_by_role("button", name="Add a grant").click()
    page.get_by_role("dialog").get_by_label("Service").select_option(label="text")
    page.get_by_role("dialog").get_by_label("Jobs at once").fill("2")
    page.get_by_role("button", name="Add grant").click()
    grants = page.get_by_role("region", name="Grants")
    expect(grants).to_contain_text("2 jobs at once")
    grants.get_by_role("button", name="Remove this grant").click()
    expect(page.get_by_text("No grant", exact=True)).to_be_visible()

    window.go("#/node")
    page.get_by_role("button", name="New token").click()
    page.get_by_role("textbox", name="Name").fill("for a script")
    page.get_by_label("Scope").select_option("read")
    page.get_by_role("button", name="Create token").click()
    token = page.get_by_role("dialog").get_by_label("Token").inner_text()
    page.get_by_role("button", name="I have kept it").click()

    reader = open_window(signed_in=False)
    reader.page.get_by_label("Token").fill(token)
    reader.page.get_by_role("button", name="Sign in").click()
    expect(reader.page.get_by_role("heading", name="Workflows", level=1)).to_be_visible()
    page.get_by_role("button", name="Revoke for a script").click()
    page.get_by_role("button", name="Revoke token").click()
    expect(reader.page.get_by_text("The daemon does not take this token")).to_be_visible()


def test_runs_are_found_by_workflow_and_state_and_their_pages_are_turned(open_window: Open, peers: Pair) -> None:
    home = peers.home
    workflow_id = make_single(peers, "Often run", "count")
    for _ in range(52):
        home.wait(home.execute(workflow_id))
    window = open_window(route=f"#/executions?workflow={workflow_id}")
    page = window.page
    expect(page.get_by_text("1 to 50 of 52")).to_be_visible()
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_text("51 to 52 of 52")).to_be_visible()
    page.get_by_label("State").select_option("FAILED")
    expect(page.get_by_text("No such execution")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_label("Workflow", exact=True)).to_have_value("")
    newest = home.execute(workflow_id)
    expect(page.get_by_role("link", name=f"#{newest}", exact=True)).to_be_visible()


def peer_row(page: Page) -> Locator:
    return page.get_by_role("region", name="Peers").locator("tbody tr").first


def act(page: Page, action: str) -> None:
    choose(peer_row(page).get_by_role("button", name="Actions for"), action)
