"""Every parser of bytes that somebody else has a hand in, what it is fed with, and the errors that it may raise."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rnd.api.auth import allow_list, token_of_header
from rnd.api.envelope import request_problem
from rnd.api.method_table import build_table
from rnd.api.parameters import BadParameter, bind
from rnd.p2p.certificates import canonical_certificate, peer_id_of_certificate
from rnd.protocol import joining
from rnd.protocol.address_records import split_address
from rnd.protocol.codec import decode, encode
from rnd.protocol.fields import Message
from rnd.protocol.frames import FrameRefused, read_frame, write_header
from rnd.protocol.invites import parse_invite
from rnd.protocol.manifest import Announced, Manifest, ManifestReader, ManifestRefused, write_manifest
from rnd.protocol.recognition import PresentRefused, read_present, write_present
from rnd.protocol.sealing import KdfHeader, ScryptParameters, header_from_json, header_to_json, open_small, seal_small
from rnd.rules.addresses import parse_peer_address
from rnd.rules.globs import compile_globs, glob_problem
from rnd.rules.peer_id import key_from_peer_id
from rnd.rules.reading import MalformedDocument
from rnd.rules.strict_json import NotStrictJson, parse
from rnd.rules.upload_names import is_upload_name, uploaded_name
from rnd.rules.workflow_file import parse_workflow_file
from rnd.types.errors import (
    CertificateNotCanonical,
    MalformedAddresses,
    MalformedInvite,
    MalformedMessage,
    SealBroken,
    UnknownMessage,
    ValidationFailed,
)
from rnd.types.executions import FileEntry
from tests.fuzz.mutation import Mutator, pieces
from tests.fuzz.schemas import Schemas
from tests.protocol.examples import EXAMPLES, EXECUTOR, ORCHESTRATOR

GOLDEN: Final = Path(__file__).resolve().parent.parent / "protocol" / "golden"
FOLDERS_MAX: Final = 1_000
EMPTY: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser. `specimen` makes the next input, `parse` reads it; `errors` are the only ones that are documented."""

    name: str
    specimen: Callable[[Mutator], Any]
    parse: Callable[[Any], object]
    errors: tuple[type[Exception], ...]


# ---------------------------------------------------------------- the wire

ENTRIES: Final = (
    FileEntry(relative_path="a.txt", size_bytes=3, sha256="0" * 64, executable=False),
    FileEntry(relative_path="b/c/d.bin", size_bytes=1 << 33, sha256="f" * 64, executable=True),
    FileEntry(relative_path="empty/", size_bytes=0, sha256="", executable=False),
    FileEntry(relative_path="Größe \U0001f600/x", size_bytes=0, sha256=EMPTY, executable=False),
)
MANIFEST: Final = write_manifest(ENTRIES)


def frame(mutator: Mutator) -> bytes:
    data = bytearray(16) + mutator.random.randbytes(mutator.random.choice((0, 1, 5, 100)))
    write_header(data, stream=mutator.random.getrandbits(32), offset=mutator.random.getrandbits(64))
    return mutator.of_bytes(bytes(data)) if mutator.random.random() < 0.9 else mutator.random.randbytes(16)


def manifest_text(mutator: Mutator) -> bytes:
    if mutator.random.random() < 0.4:
        return mutator.of_bytes(MANIFEST.data, other=b'["a/b",0,"' + EMPTY.encode() + b'",false]\n')
    lines = [json.loads(line) for line in MANIFEST.data.splitlines()]
    at = mutator.random.randrange(len(lines))
    text = "\n".join(mutator.of_json(each) if place == at else json.dumps(each) for place, each in enumerate(lines))
    return f"{text}\n".encode("utf-8", "surrogatepass")


def manifest(mutator: Mutator) -> tuple[Sequence[bytes], Announced]:
    """Return a manifest, and what its sender has said of it: most often what keeps it from being refused at once."""
    data = manifest_text(mutator)
    honest = mutator.random.random() < 0.7
    lines = data.count(b"\n")
    announced = Announced(
        manifest_bytes=len(data) if honest else MANIFEST.file_count,
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        entry_count=lines if honest else 4,
        file_count=mutator.random.choice((3, lines)),
        size_bytes=mutator.random.choice((MANIFEST.size_bytes, 1 << 62)),
    )
    return [data], announced


def manifest_in_pieces(mutator: Mutator) -> tuple[Sequence[bytes], Announced]:
    (data,), announced = manifest(mutator)
    return pieces(data, mutator.random), announced


def read_manifest(came: tuple[Sequence[bytes], Announced]) -> None:
    reader = ManifestReader(came[1], max_folders=FOLDERS_MAX)
    for piece in came[0]:
        reader.feed(piece)
    for entry in reader.finish():
        entry.relative_path.encode()


def peer_id(mutator: Mutator) -> str:
    """Return what is nearly a peer id; of some the check fits."""
    if mutator.random.random() < 0.5:
        return mutator.of_text(ORCHESTRATOR.peer_id, other=EXECUTOR.peer_id)
    payload = mutator.of_bytes(b"\x01" + ORCHESTRATOR.key.public_key().public_bytes_raw())
    check = hashlib.sha256(b"rnd-peer-id" + payload).digest()[:2]
    return "rn" + base64.b32encode(payload + check).decode().lower().rstrip("=")


INVITE: Final = str(json.loads((GOLDEN / "invite.json").read_text(encoding="utf-8"))["line"])


def invite(mutator: Mutator) -> str:
    """Return what is nearly an invite; of half of them the check fits."""
    if mutator.random.random() < 0.5:
        return mutator.of_text(INVITE)
    body, _, check = INVITE.rpartition("/")
    body = mutator.of_text(body)
    digest = hashlib.sha256(body.encode(errors="replace")).digest()
    return f"{body}/{base64.b32encode(digest).decode().lower()[: len(check)]}"


ADDRESSES: Final = (
    "192.0.2.1:30906",
    "[2001:db8::1]:1",
    "lab.example.org:65535",
    "[::ffff:10.0.0.1]:80",
    "[fe80::1%eth0]:22",
    "0x7f.1:80",
)


def address(mutator: Mutator) -> str:
    return mutator.of_text(mutator.random.choice(ADDRESSES), other=mutator.random.choice(ADDRESSES))


def read_address(text: str) -> None:
    for names_allowed in (True, False):
        try:
            str(parse_peer_address(text, names_allowed=names_allowed)).encode("ascii")
        except UnicodeError:  # it is a ValueError, and no refusal
            raise AssertionError("an address was taken that is not ASCII") from None
        except ValueError:
            pass
    split_address(text)


def messages_in(module: str) -> Callable[[Mutator], str]:
    texts = [encode(each, id=3, reply_to=to) for each, to in EXAMPLES if type(each).__module__.endswith(module)]
    values = [json.loads(text) for text in texts]
    assert values, module
    return lambda mutator: mutator.of_json(mutator.random.choice(values))


def read_message(text: str) -> None:
    again(decode(text).message)


def again(message: Message) -> None:
    """What was taken can be said again: it holds nothing that cannot be stored or sent on."""
    encode(message, id=1, reply_to=1 if message.is_answer else None)


JOINS: Final = [json.loads(line) for line in (GOLDEN / "join.txt").read_text(encoding="utf-8").splitlines()]


def read_joining(text: str) -> None:
    for read in (joining.decode_question, joining.decode_answer):
        with contextlib.suppress(MalformedMessage):
            read(text)


def present(mutator: Mutator) -> bytes:
    return mutator.of_bytes(write_present({0, 1}, len(ENTRIES)))


CERTIFICATES: Final = [canonical_certificate(peer.peer_id) for peer in (ORCHESTRATOR, EXECUTOR)]


def certificate(mutator: Mutator) -> bytes:
    data = mutator.of_bytes(CERTIFICATES[0], other=CERTIFICATES[1])
    return data if mutator.random.random() < 0.5 else data.ljust(461, b"\0")[:461]


# ---------------------------------------------------------------- keys

HEADER: Final = json.loads(header_to_json(KdfHeader(parameters=ScryptParameters(n=1 << 17, r=8, p=1), salt=bytes(16))))
ARGON: Final = {"version": 1, "kdf": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 65_536, "salt": "00" * 16}
SEALED: Final = seal_small(bytes(32), b"a data key of 32 bytes, or so", purpose="test", nonce=bytes(12))


def key_header(mutator: Mutator) -> str:
    return mutator.of_json(mutator.random.choice((HEADER, ARGON)))


def read_key_header(text: str) -> None:
    """What is taken costs no more than its bounds: 256 MiB, and some seconds."""
    match header_from_json(text).parameters:
        case ScryptParameters(n=n, r=r, p=p):
            assert 128 * n * r <= 256 << 20, (n, r)
            assert p <= 4
        case argon:
            assert argon.memory_kib <= 256 << 10, argon
            assert argon.iterations <= 10, argon


# ---------------------------------------------------------------- the API

TABLE: Final = build_table()
SCHEMAS: Final = Schemas(TABLE)


CALL: Final = {"jsonrpc": "2.0", "id": 1, "method": "workflow.get", "params": {"workflow_id": 1}}


def body(mutator: Mutator) -> bytes:
    """Return what is nearly a call, or a batch of some."""
    batch = mutator.random.random() < 0.3
    return mutator.of_json([CALL, CALL] if batch else CALL).encode("utf-8", "surrogatepass")


def read_body(text: bytes) -> None:
    value = parse(text)
    for member in value if isinstance(value, list) else [value]:
        request_problem(member)


def arguments(mutator: Mutator) -> tuple[str, dict[str, Any]]:
    """Return a call of any method with parameters that are near what its schema wants."""
    return SCHEMAS.call(mutator)


def read_arguments(call: tuple[str, dict[str, Any]]) -> None:
    method, named = call
    bind(TABLE.methods[method].parameters, (), named)


HOSTS: Final = allow_list(("127.0.0.1", 30_069), allowed_hosts=("peer.example.org", "other:80"))
HEADERS: Final = (
    "127.0.0.1:30069", "localhost:30069", "[::1]:30069", "peer.example.org", "http://127.0.0.1:30069", "null", "Bearer rnd_AAAA",
    "Basic " + base64.b64encode(b"me:rnd_AAAA").decode(), "basic dTpw", "Bearer",
)  # fmt: skip


def header(mutator: Mutator) -> str:
    return mutator.of_text(mutator.random.choice(HEADERS), other=mutator.random.choice(HEADERS))


def read_header(text: str) -> None:
    """A header that was changed admits no host that is not on the list, in any spelling."""
    if HOSTS.admits_host([text]):
        assert text.lower() in HOSTS.hosts
    HOSTS.admits_origin([text])
    token = token_of_header(text)
    assert token is None or 0 < len(token) <= 512


def globs(mutator: Mutator) -> tuple[list[str], str]:
    random = mutator.random
    pattern = random.choice(
        ("a/**/*.csv", "*.tx?", "out/", "[!a-c]*/b", "**/a/**/b/**/c", "*a*a*a*a*a*b", "[[]]", "[z-a]")
    )
    path = random.choice(("a/b/c.csv", "a" * 255, "a/" * 60 + "b", "out/x", "[", "\udcff"))
    return [mutator.of_text(pattern, other=path) for _ in range(random.choice((1, 3)))], mutator.of_text(
        path, other=pattern
    )


def read_globs(given: tuple[list[str], str]) -> None:
    matches = compile_globs([pattern for pattern in given[0] if glob_problem(pattern) is None])
    matches(given[1])


def upload_name(mutator: Mutator) -> str:
    return mutator.of_text(mutator.random.choice(("model.bin", "upload:model.bin", "a" * 128, "_-.")))


def read_upload_name(text: str) -> None:
    """What is taken is one plain name, whatever folder it is put into."""
    name = uploaded_name(text) or text
    if is_upload_name(name):
        assert name.isascii()
        assert "/" not in name
        assert name not in (".", "..")
        assert len(name) <= 128
        assert name.isprintable()
        assert not name.startswith(".")


# ---------------------------------------------------------------- workflow files

WORKFLOW: Final[Mapping[str, Any]] = {
    "format": "rnd.workflow/1",
    "name": "Count words",
    "services": {
        "text": {"service_type": "DATA"},
        "wc": {"service_type": "STANDALONE", "interfaces": [{"interface_type": "STDIN"}, {"interface_type": "MOUNT", "path": "/in"}]},
    },
    "nodes": [
        {"name": "text", "service_name": "text", "pin": 3},
        {"name": "lines", "service_name": "wc", "cmd": ["-l"], "gui_x": 40, "order": 2},
        {"name": "words", "service_name": "far/wc", "cmd": [], "interfaces": [], "entrypoint": ["/bin/wc"]},
    ],
    "connections": [
        {"from": "text", "from_interface_type": "STDOUT", "to": "lines", "to_interface_type": "STDIN"},
        {"from": None, "to": "words", "to_interface_type": "STDIN", "source_path": "/etc/hosts"},
        {"from": "lines", "from_interface_type": "STDOUT", "include": ["*.txt"], "destination_file_name": "n"},
    ],
    "layout": {"zoom_level": 2, "pan_x": 0.5},
}  # fmt: skip


def workflow(mutator: Mutator) -> str:
    return mutator.of_json(dict(WORKFLOW))


def read_workflow(text: str) -> None:
    parse_workflow_file(parse(text.encode("utf-8", "surrogatepass")))


PARSERS: Final = (
    Parser(name="frame", specimen=frame, parse=read_frame, errors=(FrameRefused,)),
    Parser(name="manifest", specimen=manifest, parse=read_manifest, errors=(ManifestRefused,)),
    Parser(name="manifest in pieces", specimen=manifest_in_pieces, parse=read_manifest, errors=(ManifestRefused,)),
    Parser(name="peer id", specimen=peer_id, parse=key_from_peer_id, errors=(ValueError,)),
    Parser(name="invite", specimen=invite, parse=parse_invite, errors=(MalformedInvite,)),
    Parser(name="address", specimen=address, parse=read_address, errors=(MalformedAddresses,)),
    *(
        Parser(name=f"{kind} message", specimen=messages_in(kind), parse=read_message, errors=(MalformedMessage, UnknownMessage))
        for kind in ("link_messages", "job_messages", "transfer_messages")
    ),
    Parser(name="join", specimen=lambda mutator: mutator.of_json(mutator.random.choice(JOINS)), parse=read_joining, errors=()),
    Parser(name="present", specimen=present, parse=lambda bits: read_present(bits, ENTRIES), errors=(PresentRefused,)),
    Parser(name="certificate", specimen=certificate, parse=peer_id_of_certificate, errors=(CertificateNotCanonical,)),
    Parser(name="key header", specimen=key_header, parse=read_key_header, errors=(ValueError,)),
    Parser(
        name="sealed key",
        specimen=lambda mutator: mutator.of_bytes(SEALED),
        parse=lambda sealed: open_small(bytes(32), sealed, purpose="test"),
        errors=(SealBroken,),
    ),
    Parser(name="JSON-RPC body", specimen=body, parse=read_body, errors=(NotStrictJson,)),
    Parser(name="parameters", specimen=arguments, parse=read_arguments, errors=(BadParameter, ValidationFailed)),
    Parser(name="header", specimen=header, parse=read_header, errors=()),
    Parser(name="globs", specimen=globs, parse=read_globs, errors=()),
    Parser(name="upload name", specimen=upload_name, parse=read_upload_name, errors=()),
    Parser(name="workflow JSON", specimen=workflow, parse=read_workflow, errors=(MalformedDocument, NotStrictJson)),
)  # fmt: skip

__all__ = ["PARSERS", "Manifest", "Parser"]
