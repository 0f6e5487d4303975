"""How a file that a client has sent by `PUT /upload/NAME` is named where a path of this host could stand."""

from __future__ import annotations

import re
from typing import Final

UPLOAD_PREFIX: Final = "upload:"
UPLOAD_NAME_WORDS: Final = "1 to 128 letters, digits, '.', '_' and '-', not beginning with '.'"
UPLOAD_NAME_PATTERN: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
UPLOADS_FOLDER: Final = "uploads"
"""Below the data directory; each file in it is called as its upload is."""


def is_upload_name(name: str) -> bool:
    """Tell whether a client may use this name: letters, digits, `._-`, no leading dot, at most 128 characters."""
    return re.fullmatch(UPLOAD_NAME_PATTERN, name) is not None


def uploaded_name(path: str) -> str | None:
    """Return NAME of `upload:NAME`; `None` for anything else, which is then a path."""
    name = path.removeprefix(UPLOAD_PREFIX)
    return name if name != path and is_upload_name(name) else None
