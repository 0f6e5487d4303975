"""Makes messages of every type from their annotations, for properties that hold for all of them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from rnd.protocol.fields import Binary, Items, Mark, Measure, Message, Text, Whole
from rnd.protocol.messages import MESSAGE_TYPES
from rnd.types.definitions import InterfacePeerPlan, JobPlan
from rnd.types.ids import SELF_PEER_JOB, ExecutionUid, PeerId, TransferId
from rnd.types.orders import JobStatusReport
from rnd.types.peers import AddressRecord
from tests.protocol.examples import Peer

PEERS = [Peer(number) for number in range(1, 5)]
ADDRESSES = ["192.0.2.1:30906", "[2001:db8::1]:1", "127.0.0.1:65535", "[::1]:30906", "10.0.0.1:80"]

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
whole = st.integers(0, 2**63 - 1)
peer_ids = st.sampled_from([peer.peer_id for peer in PEERS])
records = st.builds(
    lambda peer, addresses, moment: peer.record(*addresses, issued_at_ms=moment),
    st.sampled_from(PEERS),
    st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=4),
    whole,
)
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | storable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(storable, inner, max_size=4),
    max_leaves=10,
)


def job_peer(**values: Any) -> InterfacePeerPlan:
    """Return one end as a job on the wire has it: the self-peer is job 0 and nobody's files are named."""
    if values["peer_workflow_node_id"] is None:
        values["peer_job_execution_id"] = SELF_PEER_JOB
    return InterfacePeerPlan(**values | {"source_path": None})


def of(hint: Any, mark: Mark | None = None) -> st.SearchStrategy[Any]:
    """Return values of an annotation within its bounds."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return of(arguments[0], arguments[1])
    if origin in {Union, types.UnionType}:
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return st.none() | of(inner, mark)
    if origin is tuple:
        most = min(mark.most, 3) if isinstance(mark, Items) else 3
        return st.lists(of(arguments[0]), max_size=most).map(tuple)
    if origin is Mapping:
        return st.dictionaries(storable, json_values, max_size=4)
    if hint is PeerId:
        return peer_ids
    if hint is ExecutionUid:
        return st.from_regex("[0-9a-f]{32}", fullmatch=True)
    if hint is TransferId:
        return st.uuids().map(str)
    return plain(getattr(hint, "__supertype__", hint), mark)


def plain(kind: Any, mark: Mark | None) -> st.SearchStrategy[Any]:
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(mark.least, mark.most) if isinstance(mark, Whole) else whole
    if kind is float:
        return st.floats(0, mark.most if isinstance(mark, Measure) else 1e18)
    if kind is str:
        return st.from_regex(mark.pattern, fullmatch=True) if isinstance(mark, Text) and mark.pattern else storable
    if kind is datetime:
        return times
    if kind is AddressRecord:
        return records
    if kind is bytes:
        assert isinstance(mark, Binary)
        return st.binary(max_size=50)
    if issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    assert is_dataclass(kind)
    return record(kind)


def record(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    values = {field.name: of(hints[field.name]) for field in fields(kind)}
    if kind is JobStatusReport:
        values |= {"attempt": st.integers(1, 1000), "exit_signal": st.none() | st.integers(0, 255)}
        values |= {"exit_code": st.none() | st.integers(-(2**31), 2**31 - 1)}
    return st.builds(job_peer if kind is InterfacePeerPlan else kind, **values)


BY_TYPE: dict[str, st.SearchStrategy[Message]] = {word: record(kind) for word, kind in MESSAGE_TYPES.items()}
messages: st.SearchStrategy[Message] = st.one_of(*BY_TYPE.values())
jobs: st.SearchStrategy[JobPlan] = record(JobPlan)
