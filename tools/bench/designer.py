"""How smooth a large drawing is in the designer: frame times in Chromium without a graphics card.

    python tools/bench/designer.py [--nodes 200] [--wires 400] [--rounds 3]

Draws a workflow of so many nodes and wires on a real daemon, opens it in the browser, and drags the canvas, zooms and drags a node.
Prints a row for each act with the time between two frames: half of them, 95 of 100, the longest; and how many tasks of the page took
more than 50 ms, as the browser itself counts them. Needs the extra `ui` and
chromium. Nothing here is a test: machines differ; the aim is 50 ms at 95 of 100 in software rendering.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from playwright.sync_api import Page, sync_playwright  # noqa: E402 - the project is not installed here

from tests.running_peers import Peer, running_peers  # noqa: E402 - the same
from tests.ui.browser import launch, window  # noqa: E402 - the same

RECORD = """() => {
  const times = [];
  let last = performance.now();
  let on = true;
  const frame = (now) => { times.push(now - last); last = now; if (on) requestAnimationFrame(frame); };
  requestAnimationFrame((now) => { last = now; requestAnimationFrame(frame); });
  const long = [];
  const observer = new PerformanceObserver((list) => long.push(...list.getEntries().map((entry) => entry.duration)));
  observer.observe({ type: "longtask" });
  window.stopRecording = () => {
    on = false;
    long.push(...observer.takeRecords().map((entry) => entry.duration));
    observer.disconnect();
    return [times, long];
  };
}"""
NODE_IN_SIGHT = """() => {
  for (const node of document.querySelectorAll(".react-flow__node-service")) {
    const box = node.querySelector(".node__title").getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    if (node.contains(document.elementFromPoint(x, y))) return [node.getAttribute("data-id"), x, y];
  }
  return null;
}"""
PLACE_OF = "id => document.querySelector(`.react-flow__node[data-id='${id}']`).style.transform"
EMPTY_PLACE = """() => {
  const pane = document.querySelector(".react-flow__pane");
  const box = pane.getBoundingClientRect();
  for (let y = box.top + 40; y < box.bottom - 40; y += 12)
    for (let x = box.left + 40; x < box.right - 40; x += 12)
      if (document.elementFromPoint(x, y) === pane) return [x, y];
  return null;
}"""


def draw(peer: Peer, nodes: int, wires: int) -> int:
    """Make a workflow of rows of nodes, each fed by nodes of the row before; return its id."""
    peer.program("step", "cat\n", confine="never")
    across = max(2, round(math.sqrt(nodes)))
    names = [f"step-{number}" for number in range(nodes)]
    drawn = [
        {"name": name, "service_name": "step", "gui_x": number // across * 320, "gui_y": number % across * 160}
        for number, name in enumerate(names)
    ]
    connections: list[dict[str, Any]] = []
    for distance in range(across):
        for number in range(across, nodes):
            if len(connections) == wires:
                break
            before = number // across * across - across + (number + distance) % across
            connections.append(
                {
                    "from": names[before], "from_interface_type": "STDOUT",
                    "to": names[number], "to_interface_type": "STDIN",
                }
            )  # fmt: skip
    document = {"format": "rnd.workflow/1", "name": "large", "nodes": drawn, "connections": connections}
    assert len(connections) == wires, f"so few nodes have room for {len(connections)} wires"
    return int(peer.call("workflow.import", document=document)["id"])


def record(page: Page, act: Callable[[], None]) -> tuple[list[float], list[float]]:
    """Return the times between frames and those of long tasks, in milliseconds, while something is done."""
    page.evaluate(RECORD)
    act()
    times, long_tasks = page.evaluate("() => window.stopRecording()")
    return times, long_tasks


def drag(page: Page, start: tuple[float, float], way: tuple[float, float], turns: float = 1, steps: int = 60) -> None:
    """Drag to and fro: after a whole number of turns it lies where it began, after a quarter more at the end of its way."""
    x, y = start
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, steps + 1):
        turn = math.sin(step / steps * turns * 2 * math.pi)
        page.mouse.move(x + way[0] * turn, y + way[1] * turn)
    page.mouse.up()


def zoom(page: Page, place: tuple[float, float]) -> None:
    page.mouse.move(*place)
    for step in range(40):
        page.mouse.wheel(0, 60 if step % 20 < 10 else -60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--wires", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {}
    long_tasks: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_peers(Path(folder), "home") as (peer,),
        sync_playwright() as playwright,
    ):
        workflow_id = draw(peer, arguments.nodes, arguments.wires)
        browser = launch(playwright)
        with window(browser, peer) as opened:
            page = opened.page
            began = time.perf_counter()
            opened.go("#/workflows")
            opened.go(f"#/workflows/{workflow_id}")
            page.wait_for_function(
                "count => document.querySelectorAll('.react-flow__edge').length >= count", arg=arguments.wires
            )
            shown_s = time.perf_counter() - began
            place = page.evaluate(EMPTY_PLACE)
            assert place, "no empty place on the canvas"
            for _ in range(arguments.rounds):
                for what, act in acts(page, (place[0], place[1])).items():
                    times, long = record(page, act)
                    figures.setdefault(what, []).extend(times)
                    long_tasks.setdefault(what, []).extend(long)
        browser.close()
    load = os.getloadavg()[0]
    print(f"{arguments.nodes} nodes, {arguments.wires} wires; drawn in {shown_s:.2f} s; load {load:.1f}\n")
    print("| act | frames | half within | 95 of 100 within | longest | long tasks |\n|---|---|---|---|---|---|")
    for what, times in figures.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        half = statistics.median(times)
        slow = long_tasks[what]
        longest = f", up to {max(slow):.0f} ms" if slow else ""
        print(f"| {what} | {len(times)} | {half:.0f} ms | {p95:.0f} ms | {max(times):.0f} ms | {len(slow)}{longest} |")
    everything = [each for times in figures.values() for each in times]
    p95 = round(statistics.quantiles(everything, n=20)[-1], 1)
    print(json.dumps({"p95_ms": p95, "frames": len(everything), "long_tasks": sum(map(len, long_tasks.values()))}))
    return 0


def acts(page: Page, place: tuple[float, float]) -> dict[str, Callable[[], None]]:
    """Return what is done, by its name."""

    def drag_node() -> None:
        found = page.evaluate(NODE_IN_SIGHT)
        assert found, "no node is in sight"
        node, x, y = found
        before = page.evaluate(PLACE_OF, node)
        drag(page, (x, y), (60, 40), turns=1.25)
        assert page.evaluate(PLACE_OF, node) != before, "the node has not moved"

    return {
        "drag the canvas": lambda: drag(page, place, (200, 120)),
        "zoom": lambda: zoom(page, place),
        "drag a node": drag_node,
    }


if __name__ == "__main__":
    sys.exit(main())
