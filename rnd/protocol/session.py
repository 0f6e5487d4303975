"""What is said on one link, without the link: greeting, numbers, questions and their answers (docs/wire.md, 1 and 2).

The shell owns the websocket, its pings and its deadlines. It hands every text that comes in to `handle` and does what
the instructions say, in their order; it sends what `greet`, `ask`, `tell` and `answer` return, in the order of the calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from rnd.protocol.codec import VERSION, Envelope, decode, encode
from rnd.protocol.messages import Hello, Message, Ping, Pong, Refusal
from rnd.types.errors import LinkNotOpen, MalformedMessage, NothingToAnswer, TooManyWaiting, UnknownMessage
from rnd.types.ids import PeerId
from rnd.types.peers import RefusalCode

PROTOCOL_MIN: Final = VERSION
PROTOCOL_MAX: Final = VERSION
QUESTIONS_MAX: Final = 256
"""How many questions of either side may be without an answer on a link."""


class CloseCode(IntEnum):
    """Why a link is closed."""

    DONE = 1000
    GOING_AWAY = 1001
    NOT_PERMITTED = 1008
    MALFORMED = 4000
    DUPLICATE = 4001
    NO_COMMON_VERSION = 4002
    SILENT = 4003


class SessionState(StrEnum):
    """HELLO_EXPECTED until the peer has greeted, then OPEN, and CLOSED for good."""

    HELLO_EXPECTED = "hello_expected"
    OPEN = "open"
    CLOSED = "closed"


class IgnoreCause(StrEnum):
    """Why an answer is nobody's."""

    NEVER_ASKED = "never asked"
    NO_LONGER_AWAITED = "answered before, given up, or no question"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The peer has greeted; from now on both speak this version."""

    hello: Hello
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """The peer says this. If it is a request, `answer(id, ...)` has to follow some time."""

    id: int
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """The question `id` of this side has its answer. A `Refusal` may stand for an answer that could not be read."""

    id: int
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close the link. Nothing more is said or heard on it."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """An answer that nobody waits for; worth a line in a debug log and no more."""

    reply_to: int
    cause: IgnoreCause


Instruction = Opened | Deliver | Resolve | Send | Close | Ignored


@dataclass(slots=True)
class Session:
    """One link from its first message to its last. `peer_id` is who TLS says is at the other end."""

    hello: Hello
    peer_id: PeerId
    questions_max: int = QUESTIONS_MAX
    state: SessionState = field(default=SessionState.HELLO_EXPECTED, init=False)
    _last_given: int = field(default=0, init=False)
    _last_seen: int = field(default=0, init=False)
    _asked: dict[int, Message] = field(default_factory=dict, init=False, repr=False)
    _to_answer: dict[int, Message] = field(default_factory=dict, init=False, repr=False)

    def greet(self) -> str:
        """Return the `hello` of this side, which has to be sent before everything else.

        Where the peer was faster, it is among the instructions that its own greeting leads to.
        """
        if self._last_given:
            raise LinkNotOpen("the greeting was said already")
        return self._say(self.hello)

    def ask(self, message: Message) -> tuple[int, str]:
        """Return the number and the text of a request. Its answer comes as `Resolve` with that number.

        Raises `LinkNotOpen`, `TooManyWaiting`, or `MalformedMessage` where the message is out of bounds.
        """
        if not message.is_request():
            raise ValueError(f"{message.type} is no request")
        if len(self._asked) >= self.questions_max:
            raise TooManyWaiting(f"{len(self._asked)} questions to {self.peer_id} wait for an answer")
        text = self._say_when_open(message)
        self._asked[self._last_given] = message
        return self._last_given, text

    def tell(self, message: Message) -> str:
        """Return the text of a message that wants no answer. Raises `LinkNotOpen` and `MalformedMessage`."""
        if message.is_request() or message.is_answer or isinstance(message, Hello):
            raise ValueError(f"{message.type} is not told unasked")
        return self._say_when_open(message)

    def answer(self, to: int, message: Message) -> str:
        """Return the text of the one answer to a delivered request.

        Raises `NothingToAnswer` where it has one already or where the message does not answer it, `LinkNotOpen`, and
        `MalformedMessage` (the request may then be answered otherwise).
        """
        request = self._to_answer.get(to)
        if request is None:
            raise NothingToAnswer(f"message {to} of {self.peer_id} waits for no answer")
        if not _answers(message, request):
            raise NothingToAnswer(f"{message.type} does not answer {request.type}")
        text = self._say_when_open(message, reply_to=to)
        del self._to_answer[to]
        return text

    def give_up(self, question: int) -> None:
        """Wait no longer for the answer to a question; it is ignored if it comes after all."""
        self._asked.pop(question, None)

    def end(self) -> tuple[int, ...]:
        """Close the session and return the numbers of this side's questions that will never be answered."""
        unanswered = tuple(self._asked)
        self._asked.clear()
        self._to_answer.clear()
        self.state = SessionState.CLOSED
        return unanswered

    def handle(self, text: str) -> tuple[Instruction, ...]:
        """Return what to do about a text message that came in. It raises nothing, whatever the text is."""
        if self.state is SessionState.CLOSED:
            return ()
        try:
            envelope = decode(text)
        except MalformedMessage as error:
            if self.state is SessionState.HELLO_EXPECTED or error.id is None:
                return self._close(CloseCode.MALFORMED, error.reason)
            refusal = Refusal(code=RefusalCode.MALFORMED, reason=error.reason)
            return self._seen(error.id) or self._refuse(error.id, error.reply_to, refusal)
        except UnknownMessage as error:
            if self.state is SessionState.HELLO_EXPECTED:
                return self._close(CloseCode.MALFORMED, "the first message must be hello")
            refusal = Refusal(code=RefusalCode.UNSUPPORTED, reason=str(error))
            return self._seen(error.id) or self._refuse(error.id, error.reply_to, refusal)
        return self._seen(envelope.id) or self._take(envelope)

    def _take(self, envelope: Envelope) -> tuple[Instruction, ...]:
        """Return what to do about a well-formed message with a number of its own."""
        message = envelope.message
        if self.state is SessionState.HELLO_EXPECTED:
            if not isinstance(message, Hello):
                return self._close(CloseCode.MALFORMED, "the first message must be hello")
            return self._open(message)
        if isinstance(message, Hello):
            return self._close(CloseCode.MALFORMED, "hello is said once")
        if envelope.reply_to is not None:
            return self._take_answer(envelope.reply_to, message)
        if isinstance(message, Ping):
            return (Send(text=self._say(Pong(), reply_to=envelope.id)),)
        if message.is_request():
            if len(self._to_answer) >= self.questions_max:
                busy = Refusal(code=RefusalCode.BUSY, reason=f"{self.questions_max} questions wait for an answer here")
                return (Send(text=self._say(busy, reply_to=envelope.id)),)
            self._to_answer[envelope.id] = message
        return (Deliver(id=envelope.id, message=message),)

    def _open(self, theirs: Hello) -> tuple[Instruction, ...]:
        version = common_version(self.hello, theirs)
        if version is None:
            words = f"{theirs.protocol_min} to {theirs.protocol_max}"
            return self._close(CloseCode.NO_COMMON_VERSION, f"no version from {words} is spoken here")
        if theirs.addresses is not None and theirs.addresses.peer_id != self.peer_id:
            return self._close(CloseCode.MALFORMED, "the addresses in hello are another peer's")
        self.state = SessionState.OPEN
        opened = Opened(hello=theirs, version=version)
        return (opened,) if self._last_given else (Send(text=self.greet()), opened)

    def _take_answer(self, reply_to: int, message: Message) -> tuple[Instruction, ...]:
        question = self._asked.pop(reply_to, None)
        if question is None:
            is_known = reply_to <= self._last_given
            cause = IgnoreCause.NO_LONGER_AWAITED if is_known else IgnoreCause.NEVER_ASKED
            return (Ignored(reply_to=reply_to, cause=cause),)
        if not _answers(message, question):
            reason = f"{question.type} was answered by {message.type}"
            message = Refusal(code=RefusalCode.MALFORMED, reason=reason)
        return (Resolve(id=reply_to, message=message),)

    def _refuse(self, number: int, reply_to: int | None, refusal: Refusal) -> tuple[Instruction, ...]:
        """Refuse what cannot be taken. An answer is never answered: who waits for it learns of the refusal instead."""
        if reply_to is not None:
            return self._take_answer(reply_to, refusal)
        return (Send(text=self._say(refusal, reply_to=number)),)

    def _seen(self, number: int) -> tuple[Instruction, ...]:
        """Close the link if the peer's numbers do not grow: no message has two answers then."""
        if number <= self._last_seen:
            return self._close(CloseCode.MALFORMED, f"id: {number} does not follow {self._last_seen}")
        self._last_seen = number
        return ()

    def _close(self, code: CloseCode, reason: str) -> tuple[Instruction, ...]:
        self.state = SessionState.CLOSED
        return (Close(code=code, reason=reason),)

    def _say_when_open(self, message: Message, *, reply_to: int | None = None) -> str:
        if self.state is not SessionState.OPEN or not self._last_given:
            raise LinkNotOpen(f"the link to {self.peer_id} is not open")
        return self._say(message, reply_to=reply_to)

    def _say(self, message: Message, *, reply_to: int | None = None) -> str:
        """Return a message's text under the next number, which is used up only if the message can be said."""
        text = encode(message, id=self._last_given + 1, reply_to=reply_to)
        self._last_given += 1
        return text


def _answers(message: Message, question: Message) -> bool:
    return isinstance(message, Refusal) or message.type in question.answered_by


def common_version(ours: Hello, theirs: Hello) -> int | None:
    """Return the highest version that both sides speak, or `None`."""
    version = min(ours.protocol_max, theirs.protocol_max)
    return version if version >= max(ours.protocol_min, theirs.protocol_min) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLink:
    """What decides between two control links of a pair: who dialled it, and which run of the other daemon greeted."""

    dialler: PeerId
    instance_id: str


def newcomer_stays(established: ControlLink, newcomer: ControlLink) -> bool:
    """Say which of two control links of a pair stays; the other is closed with DUPLICATE.

    A peer that was restarted knows nothing of its old link, so the new one stays. Of two that were dialled from both
    sides, both ends keep that of the smaller peer_id. Who dialled twice has lost the first: the later one stays.
    """
    if established.instance_id != newcomer.instance_id:
        return True
    return newcomer.dialler <= established.dialler
