"""The one tree of errors. A class's docstring is the sentence a user may read; facts are attributes.

Application errors carry the JSON-RPC code and the stable word of the contract (`data.error`), and a hint that says
what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rnd.types.ids import ConnectionId, NodeId


class RndError(Exception):
    """Something went wrong that rnd has a name for."""


class ApplicationError(RndError):
    """A refusal that a client can act on."""

    code: ClassVar[int]
    error: ClassVar[str]
    default_hint: ClassVar[str]

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.reason = reason


class NotFound(ApplicationError):
    """There is no such workflow, node, connection, execution, job, service or peer."""

    code = 1000
    error = "NOT_FOUND"
    default_hint = "List what there is with the matching list method and use an id from there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a workflow or a service; `check` names the rule, `message` says it to a person.

    `place` is where it stands in a document, whose parts have no ids: `connections[0]`.
    """

    check: str
    message: str
    node_id: NodeId | None = None
    connection_id: ConnectionId | None = None
    place: str | None = None


class ValidationFailed(ApplicationError):
    """The workflow or service breaks rules; `problems` lists all of them at once."""

    code = 1100
    error = "VALIDATION_FAILED"
    default_hint = "Mend every problem listed in data.problems and try again."

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        super().__init__("; ".join(problem.message for problem in problems), hint=hint)
        self.problems = tuple(problems)


class Conflict(ApplicationError):
    """The thing is in the wrong state for this call, or the name is taken, or it is in use."""

    code = 1200
    error = "CONFLICT"
    default_hint = "Read the object again; its state has to change before this call can work."


class PeerUnreachable(ApplicationError):
    """There is no link to that peer."""

    code = 1300
    error = "PEER_UNREACHABLE"
    default_hint = "Check that the peer runs and that its address is right."


class LinkEnded(PeerUnreachable):
    """The link to that peer has ended before its answer came; whether the peer has taken the question is not known."""


class NotAdmitted(PeerUnreachable):
    """That peer lets this one have no link; its owner can change that at any time."""

    default_hint = (
        "Its owner has to let this peer in: rnd peer allow there, or rnd peer invite there and rnd peer join here."
    )


class PeerRefused(ApplicationError):
    """The other peer said no; `reason` is its own words."""

    code = 1301
    error = "PEER_REFUSED"
    default_hint = "Ask the owner of that peer, or choose another service."

    def __init__(self, message: str, *, hint: str = "", reason: str = "", word: str = "") -> None:
        """`word` is the code of the wire's refusal, where there is one."""
        super().__init__(message, hint=hint, reason=reason)
        self.word = word


class ExecutorUnavailable(ApplicationError):
    """What would run this is not there: no container engine, no image, no binary."""

    code = 1400
    error = "EXECUTOR_UNAVAILABLE"
    default_hint = "See node.status for which executors work here and why the others do not."


class TransferFailed(ApplicationError):
    """Data could not be delivered whole and verified."""

    code = 1500
    error = "TRANSFER_FAILED"
    default_hint = "rnd transfers says which and why; execution.retry runs what did not complete."


class PermissionDenied(ApplicationError):
    """The token's scope or the peer's grant does not allow it."""

    code = 1600
    error = "PERMISSION_DENIED"
    default_hint = "Use a token of a wider scope, or ask the owner."


class LimitExceeded(ApplicationError):
    """A size, rate or quota is exceeded."""

    code = 1700
    error = "LIMIT_EXCEEDED"
    default_hint = "Ask for less, or raise the limit in the configuration."


class TimedOut(ApplicationError):
    """A bounded wait ended."""

    code = 1800
    error = "TIMED_OUT"
    default_hint = "Try again, with a longer timeout if the call takes one."


class StaleState(RndError):
    """A transition found another state than the one it starts from; whoever asked acts on old news."""


class JobFailed(RndError):
    """A job cannot go on; the message is what its row and its owner will be told."""


class UnfitFiles(JobFailed):
    """A file or folder cannot be carried: a link, a special file, a bad name, too big, too many, or it changed."""

    def __init__(self, message: str, *, relative_path: str = "") -> None:
        super().__init__(message)
        self.relative_path = relative_path


class CalledOff(RndError):
    """The work was cancelled while it went on; nothing of it stays visible."""


class ToldToStop(RndError):
    """This peer is stopping; what had come stays for its next start."""


class SealBroken(RndError):
    """Sealed bytes were changed, cut, reordered, or sealed under another key or for another purpose."""


class CertificateNotCanonical(RndError):
    """A peer showed another certificate than the one that follows from its key; who it is stays open."""


class MalformedMessage(RndError):
    """What was said is no message of the wire, or is out of bounds.

    `id` and `reply_to` are its own, where they can be read.
    """

    def __init__(
        self,
        reason: str,
        *,
        id: int | None = None,  # noqa: A002  the wire's own word
        reply_to: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id
        self.reply_to = reply_to


class UnknownMessage(RndError):
    """A peer sent a message of a type that this version does not know."""

    def __init__(
        self,
        type: str,  # noqa: A002  the wire's own word
        *,
        id: int,  # noqa: A002  the wire's own word
        reply_to: int | None = None,
    ) -> None:
        super().__init__(f"messages of type {type!r} are not known here")
        self.type = type
        self.id = id
        self.reply_to = reply_to


class LinkNotOpen(RndError):
    """The peers have not greeted each other yet, or the link is closed."""


class TooManyWaiting(RndError):
    """As many questions as the link may have open are waiting for an answer; ask again later."""


class NothingToAnswer(RndError):
    """The peer did not ask this, has its answer already, or the answer does not fit the question."""


class MalformedInvite(RndError):
    """This is not an invite as it was made; the message says what is wrong with it and never quotes it."""


class MalformedAddresses(RndError):
    """A record of addresses breaks the rules of such records, or its peer did not sign it."""


class KeyFileUnsafe(RndError):
    """A key file can be read by others or holds no key; rnd does not start with it and never replaces it."""


class DatabaseNotNow(RndError):
    """The database takes no write at the moment. Nothing was changed; the same write may well succeed later."""


class DatabaseGone(RndError):
    """The database cannot be worked with any more; the daemon has to stop."""


class DatabaseCorrupt(DatabaseGone):
    """The database does not pass its own check. It is never recreated silently."""


class DatabaseTooNew(DatabaseGone):
    """The database was written by a newer rnd; this one would damage it."""


class DatabaseBusy(DatabaseNotNow):
    """Somebody else holds the database's write lock, longer than rnd waits for it. Nothing was changed."""


class DatabaseFull(DatabaseNotNow):
    """There is no space left for the database. Nothing was changed."""


class DatabaseFailed(DatabaseGone):
    """The database could not be read or written; the message says what the system answered."""


class DatabaseClosed(DatabaseGone):
    """The database is closed or closing; the daemon is on its way down."""


class AddressInUse(OSError):
    """Another process listens there already."""
