"""The watch of a page bites, so that its silence in all the other tests means something."""

from __future__ import annotations

import pytest

from tests.ui.browser import Window
from tests.ui.conftest import Open, Pair

INLINE_SCRIPT = """() => {
  const script = document.createElement("script");
  script.textContent = "document.title = 'run'";
  document.body.append(script);
}"""
INLINE_STYLE = """() => { document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>x</p>"); }"""
OTHER_ORIGIN = "() => fetch('http://127.0.0.1:9/').catch(() => null)"
FRAME = """() => { document.body.insertAdjacentHTML("beforeend", "<iframe src='/'></iframe>"); }"""


def seen(window: Window, record: list[str]) -> None:
    """Wait until what the page has done has come back from the browser: frame by frame, for a few seconds at most."""
    for _ in range(200):
        if record:
            return
        window.page.evaluate("() => new Promise(requestAnimationFrame)")
    raise AssertionError("the watch has seen nothing")


@pytest.mark.parametrize("act", [INLINE_SCRIPT, INLINE_STYLE, OTHER_ORIGIN, FRAME])
def test_what_the_policy_forbids_is_not_done_and_is_noticed(open_window: Open, act: str) -> None:
    window = open_window(signed_in=False)
    window.page.evaluate(act)
    seen(window, window.watch.violations)
    assert window.page.title() != "run"
    with pytest.raises(AssertionError):
        window.watch.settle()
    forget(window)


def test_errors_and_warnings_of_the_page_are_noticed(open_window: Open) -> None:
    for act in (
        "() => console.error('broken')",
        "() => console.warn('odd')",
        "() => { setTimeout(() => { throw new Error('uncaught'); }); }",
    ):
        window = open_window(signed_in=False)
        window.page.evaluate(act)
        seen(window, window.watch.errors)
        with pytest.raises(AssertionError):
            window.watch.settle()
        forget(window)


def test_an_error_that_a_test_expects_passes(open_window: Open) -> None:
    window = open_window(signed_in=False)
    window.watch.expect("^error: broken")
    window.page.evaluate("() => console.error('broken')")
    seen(window, window.watch.errors)
    window.watch.settle()


def test_a_request_that_leaves_the_origin_is_noticed(open_window: Open, peers: Pair) -> None:
    window = open_window(signed_in=False, bypass_csp=True)
    window.page.evaluate("() => fetch('http://127.0.0.1:9/').catch(() => null)")
    seen(window, window.watch.strays)
    assert window.watch.strays == ["http://127.0.0.1:9/"]
    forget(window)


def test_axe_finds_what_is_wrong(open_window: Open) -> None:
    window = open_window(signed_in=False, bypass_csp=True)
    window.page.evaluate("() => { document.body.insertAdjacentHTML('beforeend', '<button></button>'); }")
    assert any(problem.startswith("button-name") for problem in window.accessibility_problems())


def forget(window: Window) -> None:
    """Take what was provoked off the record, so that the window may close."""
    for record in (window.watch.violations, window.watch.errors, window.watch.strays):
        record.clear()
