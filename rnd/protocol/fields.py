"""What the fields of messages may hold: the bounds of docs/wire.md, written into the annotations of the messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from rnd.types.peers import AddressRecord, Caller

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one text message, as UTF-8."""
MARKS_MAX: Final = 250_000
"""Of `[`, `{` and `,` in one text message, strings included: what a text costs to read is bounded before it is read."""
ITEMS_MAX: Final = 5_000
"""Of a list, where its field says nothing else: as many as a workflow has connections."""
JOBS_MAX: Final = 1_000
"""As many as a workflow has nodes."""
NAME_CHARACTERS_MAX: Final = 256
SENTENCE_CHARACTERS_MAX: Final = 4_096
ARGUMENT_CHARACTERS_MAX: Final = 131_072
"""Of any string within a job; Linux takes no longer argument (MAX_ARG_STRLEN, execve(2))."""
LOG_BYTES_MAX: Final = 1024 * 1024
PRESENT_BYTES_MAX: Final = 1024 * 1024
"""Of the bits that say which entries of a manifest are there: for eight million of them."""
RECORDS_MAX: Final = 100
SECONDS_MAX: Final = 1e9
NUMBER_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Text:
    """A string. What is only meant `for_people` is cut and cleaned when it is written, so that it can always be said."""

    longest: int = SENTENCE_CHARACTERS_MAX
    for_people: bool = False
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int = NUMBER_MAX


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that is not negative."""

    most: float = float(2**63)


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    most: int = ITEMS_MAX


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes, as base64."""

    longest: int


@dataclass(frozen=True, slots=True)
class Inline:
    """The fields of this record are fields of the message itself."""


@dataclass(frozen=True, slots=True)
class Absent:
    """This field is left out where it has its default: peers of earlier releases neither say nor know it. `bound` is for the
    rest.
    """

    bound: Text | None = None


Mark = Text | Whole | Measure | Items | Binary | Inline | Absent

Name = Annotated[str, Text(longest=NAME_CHARACTERS_MAX)]
Sentence = Annotated[str, Text(for_people=True)]
InstanceId = Annotated[str, Text(pattern="[0-9a-f]{32}")]
InviteId = Annotated[str, Text(pattern="[0-9a-f]{16}")]
Sha256 = Annotated[str, Text(pattern="[0-9a-f]{64}")]
KeyDigits = Annotated[str, Text(pattern="[0-9a-f]{64}")]
SignatureDigits = Annotated[str, Text(pattern="[0-9a-f]{128}")]
Seconds = Annotated[float, Measure(most=SECONDS_MAX)]
PresentBits = Annotated[bytes, Binary(longest=PRESENT_BYTES_MAX)]
StreamNumber = Annotated[int, Whole(most=2**32 - 1)]
ProtocolVersion = Annotated[int, Whole(least=1, most=65_535)]
Records = Annotated[tuple[AddressRecord, ...], Items(RECORDS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What all messages have: their word on the wire, who may send them, and which types may answer them."""

    type: ClassVar[str]
    caller: ClassVar[Caller]
    answered_by: ClassVar[tuple[str, ...]] = ()
    """Types of answers; empty where the message is no request. `error` answers every request besides."""
    is_answer: ClassVar[bool] = False

    @classmethod
    def is_request(cls) -> bool:
        """Say whether a message of this type, sent unasked, wants an answer."""
        return bool(cls.answered_by)
