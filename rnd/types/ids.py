"""Ids as distinct types, so that a node id never travels where a job id is meant.

Integer ids are row ids of this peer's database and mean nothing elsewhere; peer ids, execution uids and transfer ids
are strings that mean the same on every peer.
"""

from __future__ import annotations

from typing import Final, NewType

PeerId = NewType("PeerId", str)
ExecutionUid = NewType("ExecutionUid", str)
TransferId = NewType("TransferId", str)

ServiceId = NewType("ServiceId", int)
WorkflowId = NewType("WorkflowId", int)
NodeId = NewType("NodeId", int)
ConnectionId = NewType("ConnectionId", int)
ExecutionId = NewType("ExecutionId", int)
WorkflowJobId = NewType("WorkflowJobId", int)
JobExecutionId = NewType("JobExecutionId", int)
JobInterfaceId = NewType("JobInterfaceId", int)
InterfacePeerId = NewType("InterfacePeerId", int)
ResultId = NewType("ResultId", int)

SELF_PEER_JOB: Final = JobExecutionId(0)
"""The job id under which the self-peer (the orchestrator as a place, not as an executor) appears in paths and rows."""
