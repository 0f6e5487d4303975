"""The page of services as a hand sees it: its rows, their actions, and the form of a new one."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from tests.ui.browser import Window, choose


def begin(window: Window, kind: str, name: str) -> Locator:
    """Open the form of a new service and return its dialog."""
    window.page.get_by_role("button", name="New service").first.click()
    dialog = window.page.get_by_role("dialog")
    dialog.get_by_role("radio", name=kind).check()
    dialog.get_by_role("textbox", name="Name").fill(name)
    return dialog


def act_on(page: Page, service: str, action: str) -> None:
    choose(page.get_by_role("button", name=f"Actions for {service}", exact=True), action)


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("button", name=name, exact=True))
