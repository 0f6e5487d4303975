"""The lines of a delivery whose two ends are on this peer (document: Transfer Protocol; Log Correlation Examples).

One worker does what two peers do elsewhere, so both sides' lines are written, in the order of the transcripts.
"""

from __future__ import annotations

from pathlib import Path

from rnd.log import get_logger
from rnd.types.executions import Transfer
from rnd.types.ids import TransferId
from rnd.types.log_events import LogEvent, describe_chunks, describe_size

log = get_logger()


def log_initiated(transfer: Transfer, *, source: str, destination: Path) -> None:
    """Say that a delivery begins; `destination` is relative to the data directory."""
    log.info(
        LogEvent.INITIATING_TRANSFER,
        transfer_id=transfer.transfer_id,
        source=source,
        dest=destination,
        job_id=transfer.source_job_execution_id,
        peer=transfer.dest_peer_id,
    )


class DeliveryLog:
    """The lines from the request to the last chunk, once it is known how much there is to carry."""

    def __init__(self, transfer: Transfer, *, size_bytes: int, chunk_bytes: int) -> None:
        self._transfer_id: TransferId = transfer.transfer_id
        self._dest = transfer.dest_peer_id
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._total = -(-size_bytes // chunk_bytes)
        self._done_bytes = 0
        self._told = 0

    def begin(self) -> None:
        """Say that the delivery is announced and accepted, and that its bytes begin to move."""
        transfer_id, size_bytes = self._transfer_id, self._size_bytes
        log.info(LogEvent.TRANSFER_REQUEST_SENT, transfer_id=transfer_id, dest=self._dest)
        log.info(LogEvent.TRANSFER_REQUEST_SIZE, size_bytes=size_bytes, transfer_id=transfer_id)
        log.info(
            LogEvent.RECEIVED_TRANSFER_REQUEST,
            transfer_id=transfer_id,
            size=describe_size(size_bytes),
            bytes=size_bytes,
        )
        log.info(LogEvent.TRANSFER_ACCEPTED, transfer_id=transfer_id)
        log.info(LogEvent.SENDING_CHUNKS, transfer_id=transfer_id, total=self._total)

    def add(self, count: int) -> None:
        """Take note of bytes that have moved; each chunk that is whole gets its lines, at DEBUG."""
        self._done_bytes += count
        whole = self._total if self._done_bytes >= self._size_bytes else self._done_bytes // self._chunk_bytes
        while self._told < whole:
            self._told += 1
            log.debug(LogEvent.SENDING_CHUNK, transfer_id=self._transfer_id, chunk=self._told, total=self._total)
            log.debug(LogEvent.CHUNK_RECEIVED, transfer_id=self._transfer_id, chunk=self._told)

    def end(self) -> None:
        """Say that every chunk has come in."""
        log.info(LogEvent.RECEIVING_CHUNKS, chunks=describe_chunks(self._total), transfer_id=self._transfer_id)


def log_completed(transfer: Transfer) -> None:
    """Say that a delivery is committed as whole and verified, and what came home where the self-peer received it."""
    log.info(LogEvent.TRANSFER_COMPLETED_RECEIVER, transfer_id=transfer.transfer_id, bytes=transfer.size_bytes)
    log.info(LogEvent.TRANSFER_COMPLETED, transfer_id=transfer.transfer_id, bytes=transfer.size_bytes)
    if transfer.result_id is not None and transfer.workflow_execution_id is not None:
        log.info(
            LogEvent.RESULT_DELIVERED,
            execution_id=transfer.workflow_execution_id,
            connection_id=transfer.connection_id,
            files=transfer.file_count,
            bytes=transfer.size_bytes,
        )
