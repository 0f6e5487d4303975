"""The token comes in by the fragment or by hand, is nowhere to be seen afterwards, and a wrong one is told so."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from tests.ui.browser import token_of
from tests.ui.conftest import Open, Pair


def test_the_token_of_the_address_is_taken_out_of_it_at_once(open_window: Open, peers: Pair) -> None:
    window = open_window(signed_in=False)
    page, token = window.page, token_of(peers.home)
    before = f"{window.url}/?before"
    page.goto(before)
    page.goto(f"{window.url}/#token={token}")
    expect(page.get_by_role("heading", name="Workflows")).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    assert token not in page.url
    history = page.evaluate("() => [document.referrer, location.href, history.length, document.cookie]")
    assert token not in json.dumps(history)
    assert page.evaluate("() => Object.keys(localStorage)") == []
    page.go_back()
    assert page.url == before  # no entry with the token lies between
    page.go_forward()
    expect(page.get_by_role("heading", name="Workflows")).to_be_visible()
    assert token not in page.url


def test_a_pasted_token_opens_the_designer_and_signing_out_closes_it(open_window: Open, peers: Pair) -> None:
    window = open_window(signed_in=False)
    page = window.page
    expect(page.get_by_role("heading", name="Sign in to rnd")).to_be_visible()
    window.shot("sign-in")
    page.get_by_label("Token").fill(f"  {token_of(peers.home)}\n")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Workflows")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Workflows")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to rnd")).to_be_visible()
    assert page.evaluate("() => Object.values(sessionStorage)") == []
    page.reload()
    expect(page.get_by_role("heading", name="Sign in to rnd")).to_be_visible()


def test_a_wrong_token_is_told_so(open_window: Open) -> None:
    page = open_window(signed_in=False).page
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Paste the token first.")).to_be_visible()
    page.get_by_label("Token").fill("rnd_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The daemon does not take this token")).to_be_visible()


def test_an_address_that_names_nothing_says_so(open_window: Open) -> None:
    window = open_window(route="#/nothing/here")
    expect(window.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    window.go("#/workflows/987654")
    expect(window.page.get_by_role("alert")).to_be_visible()
