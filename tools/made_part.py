"""The part of a page that a tool makes: it lies between two markers, and what is around them is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
END = "<!-- End of what is made. -->"


class MarkerGone(ValueError):
    """A page has lost one of the markers between which its made part lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePart:
    """What `tool`, a file of tools/, makes of the page `name` in docs/. `make` returns it as Markdown."""

    name: str
    tool: str
    make: Callable[[], str]

    @property
    def begin(self) -> str:
        """Return the marker before the part."""
        return f"<!-- What follows is made by tools/{self.tool}; do not edit it by hand. -->"

    def page(self) -> str:
        """Return the page with this part made anew. Raises `MarkerGone`."""
        page = (DOCS / self.name).read_text(encoding="utf-8")
        head, begin, rest = page.partition(self.begin)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise MarkerGone(f"docs/{self.name} has lost one of its two markers:\n{self.begin}\n{END}")
        return f"{head}{begin}\n\n{self.make()}\n\n{end}{tail}"

    def write(self) -> None:
        """Write the page with this part made anew. Raises `MarkerGone`."""
        (DOCS / self.name).write_text(self.page(), encoding="utf-8")


def table_of(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table; a bar within a cell does not end it."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(_row(cells) for cells in lines)


def _row(cells: tuple[str, ...]) -> str:
    if set(cells) == {"---"}:
        return "|" + "---|" * len(cells)
    return "|" + "|".join(f" {escaped} " if (escaped := cell.replace("|", "\\|")) else " " for cell in cells) + "|"
