"""What the two machines of a transfer share: its window, its states that are ends, and how long words may be
(docs/wire.md, section 5). `transfer_sending` and `transfer_receiving` are the machines.

Both are without clock, loop or files. Each is told what the other side says and what has become of the link, and
answers with instructions; nothing else may be done to a transfer. What the other side does against the rules ends it with
words for both, and nothing more is taken. A machine serves one link: where that is lost, a fresh one goes on at the
offset that the receiver names.
"""

from __future__ import annotations

from typing import Final

from rnd.protocol.instructions import TransferState

WINDOW_BYTES: Final = 32 << 20
"""How much a sender has on its way beyond the last acknowledgement."""
ACK_BYTES: Final = 4 << 20
"""How much a receiver takes before it acknowledges. With the longest frame it must fit in the window: else both wait."""
FRAME_BYTES: Final = 1 << 20
WORDS_MAX: Final = 1_000

OPEN: Final = frozenset({TransferState.OFFERED, TransferState.STREAMING, TransferState.ANNOUNCED})
ENDED: Final = frozenset(TransferState) - OPEN
"""Nothing more comes of a transfer in such a state; a machine whose link was lost leaves what it has to a fresh one."""


def cut_words(text: str | None, otherwise: str) -> str:
    """Return what the other side gave as its reason, not more of it than a person reads."""
    return text[:WORDS_MAX] if text else otherwise
