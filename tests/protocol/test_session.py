"""One link: greeting first, each question one answer, and nothing that the other side says throws it over."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.codec import decode, encode
from rnd.protocol.messages import (
    Ack,
    ChunkAck,
    DataTransferComplete,
    Hello,
    JobCancel,
    JobCancelResponse,
    JobStatusUpdate,
    Message,
    Ping,
    Pong,
    Refusal,
)
from rnd.protocol.session import (
    Close,
    CloseCode,
    ControlLink,
    Deliver,
    IgnoreCause,
    Ignored,
    Instruction,
    Opened,
    Resolve,
    Send,
    Session,
    SessionState,
    newcomer_stays,
)
from rnd.types.enums import JobStatus
from rnd.types.errors import LinkNotOpen, MalformedMessage, NothingToAnswer, TooManyWaiting
from rnd.types.ids import NodeId, PeerId
from rnd.types.peers import RefusalCode
from tests.protocol.examples import EXECUTOR, ORCHESTRATOR, REPORT, TRANSFER, UID
from tests.protocol.strategies import messages

HELLO = Hello(protocol_min=1, protocol_max=1, instance_id="0" * 32, name="here", addresses=None)
THEIRS = replace(HELLO, instance_id="1" * 32, name="there")
CANCEL = JobCancel(execution_uid=UID, node_id=NodeId(2), reason="enough")
CANCELLED = JobCancelResponse(status=JobStatus.CANCELLED)
UPDATE = JobStatusUpdate(report=REPORT)


def new_session(questions_max: int = 256) -> Session:
    return Session(hello=HELLO, peer_id=EXECUTOR.peer_id, questions_max=questions_max)


def open_session(questions_max: int = 256) -> Session:
    """Return a session that has greeted (its message 1) and was greeted (their message 1)."""
    session = new_session(questions_max)
    session.greet()
    assert session.handle(encode(THEIRS, id=1)) == (Opened(hello=THEIRS, version=1),)
    return session


def only(instructions: tuple[Instruction, ...]) -> Instruction:
    (instruction,) = instructions
    return instruction


def said(instruction: Instruction) -> tuple[int | None, Message]:
    """Return what is sent, and to which message it answers."""
    assert isinstance(instruction, Send)
    envelope = decode(instruction.text)
    return envelope.reply_to, envelope.message


def closed_with(session: Session, text: str) -> tuple[CloseCode, str]:
    instruction = only(session.handle(text))
    assert isinstance(instruction, Close)
    assert session.state is SessionState.CLOSED
    return instruction.code, instruction.reason


def test_the_first_message_is_hello_with_number_1() -> None:
    envelope = decode(new_session().greet())
    assert (envelope.id, envelope.message) == (1, HELLO)


def test_the_greeting_is_said_once() -> None:
    session = new_session()
    session.greet()
    with pytest.raises(LinkNotOpen):
        session.greet()


def test_who_is_greeted_first_greets_before_all_else() -> None:
    greeting, opened = new_session().handle(encode(THEIRS, id=1))
    assert said(greeting) == (None, HELLO)
    assert opened == Opened(hello=THEIRS, version=1)


@pytest.mark.parametrize(
    "text",
    [
        encode(Ping(), id=1),
        encode(Ack(), id=1, reply_to=1),
        '{"v":1,"type":"job_pause","id":1}',
        '{"v":1,"type":"hello","id":1}',
        '{"v":2,"type":"hello","id":1}',
        "no message",
    ],
)
def test_anything_before_hello_closes_the_link(text: str) -> None:
    assert closed_with(new_session(), text)[0] is CloseCode.MALFORMED


def test_hello_is_said_once() -> None:
    assert closed_with(open_session(), encode(THEIRS, id=2)) == (CloseCode.MALFORMED, "hello is said once")


def test_the_addresses_in_hello_are_the_peers_own() -> None:
    stranger = replace(THEIRS, addresses=ORCHESTRATOR.record("192.0.2.1:30906"))
    assert closed_with(new_session(), encode(stranger, id=1))[0] is CloseCode.MALFORMED
    own = replace(THEIRS, addresses=EXECUTOR.record("192.0.2.1:30906"))
    session = new_session()
    session.greet()
    assert session.handle(encode(own, id=1)) == (Opened(hello=own, version=1),)


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [((1, 1), (1, 3), 1), ((1, 3), (2, 5), 3), ((2, 4), (1, 3), 3), ((1, 1), (2, 3), None)],
)
def test_the_highest_common_version_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], version: int | None
) -> None:
    session = Session(hello=replace(HELLO, protocol_min=ours[0], protocol_max=ours[1]), peer_id=EXECUTOR.peer_id)
    session.greet()
    their_hello = replace(THEIRS, protocol_min=theirs[0], protocol_max=theirs[1])
    instruction = only(session.handle(encode(their_hello, id=1)))
    if version is None:
        assert isinstance(instruction, Close)
        assert instruction.code is CloseCode.NO_COMMON_VERSION
    else:
        assert instruction == Opened(hello=their_hello, version=version)


def test_nothing_is_said_before_both_have_greeted() -> None:
    session = new_session()
    with pytest.raises(LinkNotOpen):
        session.ask(CANCEL)
    session.greet()
    with pytest.raises(LinkNotOpen):
        session.tell(ChunkAck(transfer_id=TRANSFER, offset=1))


def test_a_question_gets_its_answer() -> None:
    session = open_session()
    number, text = session.ask(CANCEL)
    assert decode(text).id == number == 2
    assert session.handle(encode(CANCELLED, id=2, reply_to=number)) == (Resolve(id=number, message=CANCELLED),)


def test_answers_may_come_in_any_order() -> None:
    session = open_session()
    first, _ = session.ask(CANCEL)
    second, _ = session.ask(UPDATE)
    assert session.handle(encode(Ack(), id=2, reply_to=second)) == (Resolve(id=second, message=Ack()),)
    assert session.handle(encode(CANCELLED, id=3, reply_to=first)) == (Resolve(id=first, message=CANCELLED),)


def test_a_second_answer_is_ignored() -> None:
    session = open_session()
    number, _ = session.ask(CANCEL)
    session.handle(encode(CANCELLED, id=2, reply_to=number))
    ignored = Ignored(reply_to=number, cause=IgnoreCause.NO_LONGER_AWAITED)
    assert session.handle(encode(CANCELLED, id=3, reply_to=number)) == (ignored,)


def test_an_answer_to_nothing_is_ignored() -> None:
    ignored = Ignored(reply_to=77, cause=IgnoreCause.NEVER_ASKED)
    assert open_session().handle(encode(Ack(), id=2, reply_to=77)) == (ignored,)


def test_an_answer_that_comes_after_all_is_ignored() -> None:
    session = open_session()
    number, _ = session.ask(CANCEL)
    session.give_up(number)
    assert only(session.handle(encode(CANCELLED, id=2, reply_to=number))) == Ignored(
        reply_to=number, cause=IgnoreCause.NO_LONGER_AWAITED
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (encode(Pong(), id=2, reply_to=2), RefusalCode.MALFORMED),
        ('{"v":1,"type":"job_cancel_response","id":2,"reply_to":2,"status":"GONE"}', RefusalCode.MALFORMED),
        ('{"v":1,"type":"job_vanished","id":2,"reply_to":2}', RefusalCode.UNSUPPORTED),
        (encode(Refusal(code=RefusalCode.BUSY, reason="later"), id=2, reply_to=2), RefusalCode.BUSY),
    ],
    ids=["of the wrong type", "malformed", "of unknown type", "an error"],
)
def test_who_asked_learns_of_an_answer_that_is_none_and_nobody_answers_it(text: str, code: RefusalCode) -> None:
    session = open_session()
    number, _ = session.ask(CANCEL)
    resolved = only(session.handle(text))
    assert isinstance(resolved, Resolve)
    assert isinstance(resolved.message, Refusal)
    assert (resolved.id, resolved.message.code) == (number, code)


def test_a_ping_is_answered_here() -> None:
    assert said(only(open_session().handle(encode(Ping(), id=2)))) == (2, Pong())


def test_a_request_is_delivered_and_answered_once() -> None:
    session = open_session()
    assert session.handle(encode(CANCEL, id=5)) == (Deliver(id=5, message=CANCEL),)
    envelope = decode(session.answer(5, CANCELLED))
    assert (envelope.id, envelope.reply_to, envelope.message) == (2, 5, CANCELLED)
    with pytest.raises(NothingToAnswer):
        session.answer(5, CANCELLED)


def test_only_what_answers_a_request_answers_it() -> None:
    session = open_session()
    session.handle(encode(CANCEL, id=2))
    with pytest.raises(NothingToAnswer):
        session.answer(2, Ack())
    with pytest.raises(NothingToAnswer):
        session.answer(3, CANCELLED)
    assert decode(session.answer(2, Refusal(code=RefusalCode.NOT_PERMITTED, reason="no"))).reply_to == 2


def test_an_answer_that_cannot_be_said_leaves_the_request_to_be_answered_otherwise() -> None:
    session = open_session()
    session.handle(encode(CANCEL, id=2))
    with pytest.raises(MalformedMessage):
        session.answer(2, JobCancelResponse(status="GONE"))  # type: ignore[arg-type]  # what a defect would say
    assert decode(session.answer(2, CANCELLED)).id == 2


def test_a_notice_is_delivered_and_not_answered() -> None:
    session = open_session()
    notice = ChunkAck(transfer_id=TRANSFER, offset=9)
    assert session.handle(encode(notice, id=2)) == (Deliver(id=2, message=notice),)
    with pytest.raises(NothingToAnswer):
        session.answer(2, Ack())
    assert decode(session.tell(notice)).message == notice


def test_the_end_of_a_transfer_is_asked_and_answered_with_one_type() -> None:
    session = open_session()
    complete = DataTransferComplete(transfer_id=TRANSFER, success=True, bytes_received=0, error=None)
    number, _ = session.ask(complete)
    assert session.handle(encode(complete, id=2)) == (Deliver(id=2, message=complete),)
    assert session.handle(encode(complete, id=3, reply_to=number)) == (Resolve(id=number, message=complete),)
    assert decode(session.answer(2, complete)).reply_to == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"v":1,"type":"job_cancel","id":2}', RefusalCode.MALFORMED),
        ('{"v":1,"type":"job_pause","id":2}', RefusalCode.UNSUPPORTED),
    ],
)
def test_what_cannot_be_taken_is_answered_with_an_error(text: str, code: RefusalCode) -> None:
    session = open_session()
    reply_to, refusal = said(only(session.handle(text)))
    assert isinstance(refusal, Refusal)
    assert (reply_to, refusal.code) == (2, code)
    assert session.state is SessionState.OPEN


def test_what_has_no_number_closes_the_link() -> None:
    assert closed_with(open_session(), '{"v":1,"type":"ping"}')[0] is CloseCode.MALFORMED


@pytest.mark.parametrize(
    "text", [encode(Ping(), id=1), '{"v":1,"type":"x","id":1}', '{"v":1,"type":"job_cancel","id":1}']
)
def test_a_number_that_was_used_closes_the_link(text: str) -> None:
    assert closed_with(open_session(), text) == (CloseCode.MALFORMED, "id: 1 does not follow 1")


def test_questions_that_wait_are_bounded_here() -> None:
    session = open_session(questions_max=2)
    session.ask(CANCEL)
    number, _ = session.ask(CANCEL)
    with pytest.raises(TooManyWaiting):
        session.ask(CANCEL)
    session.give_up(number)
    session.ask(CANCEL)


def test_questions_that_wait_are_bounded_there() -> None:
    session = open_session(questions_max=1)
    session.handle(encode(CANCEL, id=2))
    reply_to, refusal = said(only(session.handle(encode(CANCEL, id=3))))
    assert isinstance(refusal, Refusal)
    assert (reply_to, refusal.code) == (3, RefusalCode.BUSY)
    session.answer(2, CANCELLED)
    assert session.handle(encode(CANCEL, id=4)) == (Deliver(id=4, message=CANCEL),)


def test_the_end_tells_which_questions_stay_without_answer() -> None:
    session = open_session()
    numbers = (session.ask(CANCEL)[0], session.ask(UPDATE)[0])
    session.handle(encode(CANCEL, id=2))
    assert session.end() == numbers
    assert session.end() == ()
    assert session.handle(encode(CANCEL, id=3)) == ()
    with pytest.raises(LinkNotOpen):
        session.ask(CANCEL)
    with pytest.raises(NothingToAnswer):
        session.answer(2, CANCELLED)


@pytest.mark.parametrize("message", [HELLO, Ack(), ChunkAck(transfer_id=TRANSFER, offset=0)])
def test_only_requests_are_asked(message: Message) -> None:
    with pytest.raises(ValueError, match="no request"):
        open_session().ask(message)


@pytest.mark.parametrize("message", [HELLO, Ack(), CANCEL])
def test_only_notices_are_told(message: Message) -> None:
    with pytest.raises(ValueError, match="not told unasked"):
        open_session().tell(message)


texts = st.one_of(
    st.builds(
        lambda message, number, reply_to: encode(message, id=number, reply_to=reply_to if message.is_answer else None),
        messages,
        st.integers(1, 30),
        st.integers(1, 10),
    ),
    st.builds(
        lambda word, number, reply_to: json.dumps({"v": 1, "type": word, "id": number} | reply_to),
        st.sampled_from(["job_cancel", "hello", "x"]),
        st.integers(1, 30),
        st.just({}) | st.builds(lambda number: {"reply_to": number}, st.integers(1, 10)),
    ),
    st.text(max_size=5),
)


@given(st.lists(texts, max_size=12), st.booleans(), st.data())
def test_whatever_comes_each_message_has_one_answer_at_most_and_nothing_is_delivered_before_hello(
    said_to_us: list[str], begins_well: bool, data: st.DataObject
) -> None:
    session = new_session(questions_max=3)
    session.greet()
    incoming = [encode(THEIRS, id=1), *said_to_us] if begins_well else said_to_us
    asked: set[int] = set()
    resolved: list[int] = []
    answered: list[int | None] = []
    given = [1]
    is_open = is_closed = False
    for text in incoming:
        instructions = session.handle(text)
        assert not (is_closed and instructions)
        for instruction in instructions:
            match instruction:
                case Opened():
                    assert not is_open
                    is_open = True
                case Deliver(id=number, message=message):
                    assert is_open
                    if message.is_request() and data.draw(st.booleans()):
                        envelope = decode(session.answer(number, Refusal(code=RefusalCode.BUSY, reason="")))
                        answered.append(envelope.reply_to)
                        given.append(envelope.id)
                case Resolve(id=number):
                    assert number in asked
                    resolved.append(number)
                case Send(text=answer):
                    envelope = decode(answer)
                    answered.append(envelope.reply_to)
                    given.append(envelope.id)
                case Close():
                    is_closed = True
                case Ignored(reply_to=number):
                    assert number not in asked - set(resolved)
        if session.state is SessionState.OPEN and len(asked) - len(resolved) < 3:
            number, _ = session.ask(CANCEL)
            asked.add(number)
            given.append(number)
    assert None not in answered
    assert len(set(answered)) == len(answered)
    assert len(set(resolved)) == len(resolved)
    assert given == list(range(1, len(given) + 1))
    assert set(session.end()) == asked - set(resolved)


SMALL, LARGE = PeerId("rna"), PeerId("rnb")


@pytest.mark.parametrize(
    ("established", "newcomer", "stays"),
    [
        ((SMALL, "run 1"), (LARGE, "run 1"), False),
        ((LARGE, "run 1"), (SMALL, "run 1"), True),
        ((SMALL, "run 1"), (SMALL, "run 1"), True),
        ((LARGE, "run 1"), (LARGE, "run 1"), True),
        ((SMALL, "run 1"), (LARGE, "run 2"), True),
        ((LARGE, "run 1"), (SMALL, "run 2"), True),
        ((SMALL, "run 1"), (SMALL, "run 2"), True),
        ((LARGE, "run 1"), (LARGE, "run 2"), True),
    ],
)
def test_which_of_two_control_links_stays(
    established: tuple[PeerId, str], newcomer: tuple[PeerId, str], stays: bool
) -> None:
    first, second = (ControlLink(dialler=dialler, instance_id=run) for dialler, run in (established, newcomer))
    assert newcomer_stays(first, second) is stays


def test_both_ends_keep_the_same_of_two_links_whichever_they_saw_first() -> None:
    from_small, from_large = (ControlLink(dialler=dialler, instance_id="run") for dialler in (SMALL, LARGE))
    assert not newcomer_stays(from_small, from_large)
    assert newcomer_stays(from_large, from_small)
