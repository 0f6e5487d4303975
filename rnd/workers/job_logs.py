"""Pieces of what a job has written, for those who follow it (document: Stream logs)."""

from __future__ import annotations

import os

from rnd.rules.lifecycle import job_is_terminal
from rnd.types.enums import LogStream, ServiceType
from rnd.types.errors import UnfitFiles
from rnd.types.executions import JobExecution
from rnd.workers.files import OpenTree
from rnd.workers.job_folders import JobFolders


def read_log(
    folders: JobFolders, job: JobExecution, stream: LogStream, offset: int, limit_bytes: int
) -> tuple[bytes, bool]:
    """In a thread: return a piece of a captured stream, and whether no more can follow; nothing before it has begun.

    `job` must have been read before this is called: if it had ended then, nothing was written after it.
    """
    ended = job_is_terminal(job.status) or job.service_type is ServiceType.DATA
    piece = b""
    try:
        with OpenTree(folders.logs(job)) as tree:
            descriptor, _ = tree.open_file(f"{stream}.txt")
            try:
                piece = os.pread(descriptor, limit_bytes, offset)
            finally:
                os.close(descriptor)
    except (UnfitFiles, FileNotFoundError):
        pass  # it has not begun to write, or the job has put something else there
    return piece, ended and len(piece) < limit_bytes
