"""The lines of deliveries, in the order of the transcripts (document: Transfer Protocol; Log Correlation Examples).

Where both ends are on this peer one worker does what two peers do elsewhere, so both sides' lines are written.
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


class SenderLog:
    """The lines of a delivery to another peer, from the request to the last chunk."""

    def __init__(self, transfer: Transfer, *, size_bytes: int, chunk_bytes: int) -> None:
        self._transfer = transfer
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._total = -(-size_bytes // chunk_bytes)
        self._done_bytes = 0
        self._told = 0

    def sent(self) -> None:
        """Say that the delivery is announced."""
        transfer_id = self._transfer.transfer_id
        log.info(LogEvent.TRANSFER_REQUEST_SENT, transfer_id=transfer_id, dest=self._transfer.dest_peer_id)
        log.info(LogEvent.TRANSFER_REQUEST_SIZE, size_bytes=self._size_bytes, transfer_id=transfer_id)

    def accepted(self, offset: int, *, sealed: bool) -> None:
        """Say that its bytes begin to move, from an offset of the stream on."""
        _log_accepted(self._transfer.transfer_id, sealed=sealed)
        if offset:
            log.info(LogEvent.TRANSFER_RESUMED, transfer_id=self._transfer.transfer_id, offset=offset)
            self._done_bytes = offset
            self._told = min(self._total, offset // self._chunk_bytes)
        log.info(LogEvent.SENDING_CHUNKS, transfer_id=self._transfer.transfer_id, total=self._total)

    def leave_out(self, files: int, count: int) -> None:
        """Say that so many files and bytes are not sent, since the receiver has them: no lines of their chunks."""
        log.info(LogEvent.TRANSFER_RECOGNISED, transfer_id=self._transfer.transfer_id, files=files, bytes=count)
        self._done_bytes += count
        self._told = min(self._total, self._done_bytes // self._chunk_bytes)

    def add(self, count: int) -> None:
        """Take note of bytes that were sent, the manifest's included; each chunk that is whole gets its line, at DEBUG."""
        self._done_bytes += count
        while self._told < min(self._total, self._done_bytes // self._chunk_bytes):
            self._told += 1
            log.debug(
                LogEvent.SENDING_CHUNK, transfer_id=self._transfer.transfer_id, chunk=self._told, total=self._total
            )


class ReceiverLog:
    """The lines of a delivery from another peer."""

    def __init__(self, transfer_id: TransferId, *, size_bytes: int, chunk_bytes: int) -> None:
        self._transfer_id = transfer_id
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._total = -(-size_bytes // chunk_bytes)
        self._done_bytes = 0
        self._told = 0

    def requested(self) -> None:
        """Say that another peer announces a delivery."""
        size = describe_size(self._size_bytes)
        log.info(LogEvent.RECEIVED_TRANSFER_REQUEST, transfer_id=self._transfer_id, size=size, bytes=self._size_bytes)

    def accepted(self, offset: int, *, sealed: bool) -> None:
        """Say that it may come, from an offset of the stream on."""
        _log_accepted(self._transfer_id, sealed=sealed)
        if offset:
            log.info(LogEvent.TRANSFER_RESUMED, transfer_id=self._transfer_id, offset=offset)
            self._done_bytes = offset
            self._told = min(self._total, offset // self._chunk_bytes)

    def leave_out(self, files: int, count: int) -> None:
        """Say that so many files and bytes are here already and do not come: no lines of their chunks."""
        log.info(LogEvent.TRANSFER_RECOGNISED, transfer_id=self._transfer_id, files=files, bytes=count)
        self._done_bytes += count
        self._told = min(self._total, self._done_bytes // self._chunk_bytes)

    def add(self, count: int) -> None:
        """Take note of bytes that were written; each chunk that is whole gets its line, at DEBUG."""
        self._done_bytes += count
        while self._told < min(self._total, self._done_bytes // self._chunk_bytes):
            self._told += 1
            log.debug(LogEvent.CHUNK_RECEIVED, transfer_id=self._transfer_id, chunk=self._told)

    def end(self) -> None:
        """Say that every chunk has come in."""
        log.info(LogEvent.RECEIVING_CHUNKS, chunks=describe_chunks(self._total), transfer_id=self._transfer_id)


def log_sender_completed(transfer: Transfer) -> None:
    """Say that the receiver has confirmed a delivery and that it is committed here."""
    log.info(LogEvent.TRANSFER_COMPLETED, transfer_id=transfer.transfer_id, bytes=transfer.size_bytes)


def log_receiver_completed(transfer: Transfer) -> None:
    """Say that what came is whole, verified, durable and committed."""
    log.info(LogEvent.TRANSFER_COMPLETED_RECEIVER, transfer_id=transfer.transfer_id, bytes=transfer.size_bytes)
    if transfer.result_id is not None and transfer.workflow_execution_id is not None:
        log.info(
            LogEvent.RESULT_DELIVERED,
            execution_id=transfer.workflow_execution_id,
            connection_id=transfer.connection_id,
            files=transfer.file_count,
            bytes=transfer.size_bytes,
        )


def _log_accepted(transfer_id: TransferId, *, sealed: bool) -> None:
    if sealed:
        log.info(LogEvent.TRANSFER_ACCEPTED, transfer_id=transfer_id, sealed=True)
    else:
        log.info(LogEvent.TRANSFER_ACCEPTED, transfer_id=transfer_id)
