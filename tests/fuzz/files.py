"""The parsers of files: those that owners write, and those that a job which runs as the daemon's user could write as well."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rnd.cli.failures import CommandFailed
from rnd.cli.workflow_files import read_document
from rnd.config import ConfigInvalid, load_config
from rnd.p2p.identity import Identity, load_identity
from rnd.protocol.instructions import Ends, Offer
from rnd.rules.reading import MalformedDocument
from rnd.rules.workflow_file import parse_workflow_file
from rnd.services import container_record, run_files
from rnd.services.run_end import observation
from rnd.services.vault import load_vault
from rnd.types.errors import KeyFileUnsafe
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.workers.part_notes import PartNotes
from tests.api.live_api import SystemEntropy
from tests.fuzz.mutation import Mutator
from tests.fuzz.parsers import MANIFEST, WORKFLOW, Parser
from tests.protocol.examples import ORCHESTRATOR


class Files:
    """Specimens as files below a folder, each time the same ones; on a disk of memory that costs no more than the parser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.uid = os.getuid()

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def parsers(self) -> Sequence[Parser]:
        """Return the parsers of files, each of which reads what its specimen was written to."""
        return (
            Parser(name="workflow file JSON", specimen=workflow_json, parse=self.read_workflow(".json"), errors=CLIENT),
            Parser(name="workflow file TOML", specimen=workflow_toml, parse=self.read_workflow(".toml"), errors=CLIENT),
            Parser(
                name="configuration", specimen=configuration, parse=self.read_configuration, errors=(ConfigInvalid,)
            ),
            Parser(name="run record", specimen=run_record, parse=self.read_run_record, errors=()),
            Parser(name="container record", specimen=container_steps, parse=self.read_container_record, errors=()),
            Parser(name="part note", specimen=part_note, parse=self.read_part_note, errors=()),
            Parser(name="identity", specimen=identity, parse=self.read_identity, errors=(KeyFileUnsafe,)),
            Parser(name="vault key", specimen=vault_key, parse=self.read_vault, errors=(KeyFileUnsafe,)),
        )

    def read_workflow(self, suffix: str) -> Callable[[bytes], object]:
        def read(content: bytes) -> None:
            document = read_document(str(self.write(f"workflow{suffix}", content)))
            with contextlib.suppress(MalformedDocument):
                parse_workflow_file(document)

        return read

    def read_configuration(self, content: bytes) -> None:
        load_config(environment={"HOME": "/"}, config_file=self.write("rnd.toml", content))

    def read_run_record(self, content: bytes) -> None:
        """Whatever a job has made of its record: what is read of it can be stored, sent and asked the system for."""
        folder = str(self.folder)
        for kind in (run_files.RECORD, run_files.CANCEL, run_files.FAULT):
            self.write(f"{RUN}.{kind}", content)
        grace_s = run_files.cancel_grace_s(folder, RUN)
        assert grace_s is None or int(grace_s * 1000) < 1 << 31  # poll(2) takes no more
        run_files.read_fault(folder, RUN)
        record = run_files.read(folder, RUN)
        if record is None:
            return
        json.dumps(run_files.handle(record.started, folder))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.close(os.pidfd_open(record.started.keeper_pid))
        if record.ended is not None:
            seen = observation(record.ended)
            STORE.execute(
                "INSERT INTO ends VALUES (?, ?, ?, ?)",
                (seen.exit_code, seen.signal, seen.reason, seen.leftovers_killed),
            )
            STORE.rollback()

    def read_container_record(self, content: bytes) -> None:
        self.write(f"{RUN}.{container_record.RECORD}", content)
        container_record.read(str(self.folder), RUN)

    def read_part_note(self, content: bytes) -> None:
        notes = PartNotes(self.folder / "input")
        note, manifest, *_ = (self.folder / f".input.part{end}" for end in (".json", ".manifest"))
        note.write_bytes(content)
        manifest.write_bytes(MANIFEST.data)
        found = notes.read(OFFER, max_folders=100)
        assert found is None or OFFER.manifest_bytes <= found.offset <= OFFER.stream_bytes

    def read_identity(self, content: bytes) -> None:
        self.write("identity.key", content).chmod(0o600)
        load_identity(self.folder, SystemEntropy()).sign(b"")

    def read_vault(self, content: bytes) -> None:
        self.write("vault.key", content).chmod(0o600)
        load_vault(self.folder, SystemEntropy())


CLIENT: Final = (CommandFailed,)
RUN: Final = "job-7"
STORE: Final = sqlite3.connect(":memory:")
STORE.execute("CREATE TABLE ends (exit_code INTEGER, signal INTEGER, reason TEXT, leftovers INTEGER) STRICT")
OFFER: Final = Offer(
    transfer_id=TransferId("01234567-89ab-cdef-0123-456789abcdef"),
    stream=1,
    ends=Ends(
        ordering_peer_id=PeerId(ORCHESTRATOR.peer_id),
        execution_uid=ExecutionUid("0" * 32),
        connection_id=ConnectionId(1),
        source_job_execution_id=JobExecutionId(1),
        dest_job_execution_id=JobExecutionId(2),
    ),
    file_count=MANIFEST.file_count,
    entry_count=len(MANIFEST.entries),
    size_bytes=MANIFEST.size_bytes,
    manifest_bytes=len(MANIFEST.data),
    manifest_sha256=MANIFEST.sha256,
)

TOML: Final = b"""format = "rnd.workflow/1"
name = "Count words"
[services.text]
service_type = "DATA"
[[nodes]]
name = "text"
service_name = "text"
gui_x = 40
cmd = ["-l", "a"]
[[connections]]
from = "text"
from_interface_type = "STDOUT"
source_path = "~/a"
include = ["*.txt"]
layout = {zoom_level = 2.5}
"""
CONFIGURATION: Final = b"""data_dir = "/srv/rnd"
api = "127.0.0.1:30069"
allowed_hosts = ["a", "b:1"]
log_level = "INFO"
data_codec = "base64"
advertise = ["192.0.2.1:1"]
[limits]
disk_floor_bytes = 1_000_000
rpc_batch = 50
"""
ODD_TOML: Final = (
    b"a = " + b"[" * 900, b"a = " + b"{a=" * 400, b"a = 1979-05-27T07:32:00Z", b"name = 1979-05-27", b"gui_x = nan", b"[[a]]\n[a]",
    b"a.b.c.d = 1\na.b = 2", b"a" + b".a" * 60 + b" = 1", b"gui_x = 0x" + b"f" * 5_000, b"gui_x = " + b"9" * 5_000, b"name = '''", b"\r",
    b'data_dir = "~nobody\\u0000"', b'data_dir = "~' + b"x" * 300 + b'"', b'peer = "[::1%eth0]:1"', b"[limits]\ndisk_floor_bytes = inf",
    b'name = "\\ud800"', b"[" + b"a." * 60 + b"a]", b"[limits]\nrpc_batch = " + b"1" * 400,
)  # fmt: skip


def workflow_json(mutator: Mutator) -> bytes:
    return mutator.of_json(dict(WORKFLOW)).encode("utf-8", "surrogatepass")


def workflow_toml(mutator: Mutator) -> bytes:
    return toml(mutator, TOML)


def configuration(mutator: Mutator) -> bytes:
    return toml(mutator, CONFIGURATION)


def toml(mutator: Mutator, specimen: bytes) -> bytes:
    """Return a file that is nearly right, most often one that is TOML still: a line that says something else."""
    random = mutator.random
    if random.random() < 0.3:
        return mutator.of_bytes(specimen)
    lines = specimen.splitlines()
    at = random.randrange(len(lines))
    key = lines[at].partition(b" = ")[0]
    value = json.dumps(mutator.odd_value()).encode()
    odd = random.choice(ODD_TOML) if random.random() < 0.1 else mutator.of_bytes(lines[at])
    lines[at] = random.choice((key + b" = " + value, odd))
    return b"\n".join(lines)


STARTED: Final = {
    "engine_name": RUN,
    "keeper_pid": 4_194_000,
    "keeper_start": 12_345,
    "boot_id": "b",
    "started_at": "2026-01-31T12:00:00.000Z",
    "secrets_directory": "",
}
ENDED: Final[dict[str, Any]] = {
    "phase": "EXITED",
    "exit_code": 3,
    "signal": None,
    "reason": "",
    "started_at": "2026-01-31T12:00:00.000Z",
    "ended_at": "2026-01-31T12:00:00.000Z",
    "streams_cut": ["STDOUT"],
    "leftovers_killed": 1,
    "grace_s": 5,
    "fault": "a",
}


def run_record(mutator: Mutator) -> bytes:
    """Return a record of which one line is odd; a cancel and a fault are read from such lines as well."""
    random = mutator.random
    kind = random.random()
    if kind < 0.3:
        return mutator.of_json(ENDED).encode("utf-8", "surrogatepass")
    first = mutator.of_json(STARTED) if kind < 0.5 else json.dumps(STARTED)
    second = mutator.of_json(ENDED) if kind > 0.45 else json.dumps(ENDED)
    data = f"{first}\n{second}\n".encode("utf-8", "surrogatepass")
    return mutator.of_bytes(data) if kind > 0.9 else data


BEGUN: Final = {
    "begun": {
        "engine_name": RUN,
        "program": "/bin/true",
        "stdin_files": ["/a"],
        "read_only_root": True,
        "stream_bytes": 1,
        "memory_bytes": 2,
        "disk_bytes": None,
        "before_bytes": 0,
        "secrets_directory": "",
    }
}
STEPS: Final = (
    {"created": "c" * 64},
    {"starting": "e"},
    {"feeding": True},
    {"cancel": 3.5},
    {"fault": "f"},
    {"ended": ENDED},
)


def container_steps(mutator: Mutator) -> bytes:
    lines = [BEGUN, *STEPS]
    at = mutator.random.randrange(len(lines))
    text = "\n".join(mutator.of_json(each) if place == at else json.dumps(each) for place, each in enumerate(lines))
    return f"{text}\n".encode("utf-8", "surrogatepass")


NOTE: Final = {
    "manifest_sha256": OFFER.manifest_sha256,
    "boot_id": "b",
    "stamps": "0" * 64,
    "present": base64.b64encode(b"\x01").decode(),
    "offset": OFFER.manifest_bytes,
}


def part_note(mutator: Mutator) -> bytes:
    return mutator.of_json(NOTE).encode("utf-8", "surrogatepass")


PEM: Final = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32)))).private_key_pem()


def identity(mutator: Mutator) -> bytes:
    """Return a key file that is nearly right, in its letters or in what they stand for."""
    if mutator.random.random() < 0.4:
        return mutator.of_bytes(PEM)
    begin, *lines, end = PEM.splitlines()
    der = mutator.of_bytes(base64.b64decode(b"".join(lines)))
    return b"\n".join((begin, base64.b64encode(der), end, b""))


def vault_key(mutator: Mutator) -> bytes:
    return mutator.of_bytes(bytes(range(32)))
