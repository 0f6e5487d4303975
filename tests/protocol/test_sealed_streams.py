"""The seal of a transfer: golden vectors, any stream whole, and whatever somebody does on the way refused in words."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol import sealing
from rnd.protocol.frames import PAYLOAD_BYTES_MAX, Frame
from rnd.protocol.instructions import Accept, Complete, Finish, Offer, SendBytes, TellPresent, TransferState
from rnd.protocol.sealed_streams import (
    CHUNK_BYTES_MAX,
    ChunkOpener,
    ChunkSealer,
    ReceiverSeal,
    SealRefused,
    SenderSeal,
    Ways,
    accept_text,
    answer_seal,
    offer_text,
)
from rnd.protocol.sealing import TAG_BYTES
from rnd.protocol.transfer_messages import SealShare
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.protocol.transfer_sending import SendTransfer
from rnd.rules.peer_id import key_from_peer_id, peer_id_from_key
from rnd.types.errors import SealBroken
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from tests.protocol.parcels import DUTY, ENDS, TRANSFER, Parcel

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden" / "sealed_transfer.json").read_text(encoding="utf-8")
)


def identity(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def peer_id(number: int) -> PeerId:
    return peer_id_from_key(identity(number).public_key().public_bytes_raw())


SENDER, RECEIVER, STRANGER = 1, 2, 5
WAYS = Ways(sender=peer_id(SENDER), receiver=peer_id(RECEIVER))
PARCEL = Parcel({"a.txt": b"what was promised", "empty": b"", "b": b"\0" * 100})
OFFER = replace(PARCEL.offer, encrypted=True)
STREAM = PARCEL.stream
ENDS_HERE = len(STREAM)
PIECE = 40


def sender_seal(offer: Offer = OFFER, *, ways: Ways = WAYS, secret: int = 3, signer: int = SENDER) -> SenderSeal:
    return SenderSeal(offer, ways, secret=bytes([secret]) * 32, sign=identity(signer).sign)


def receiver_seal(
    theirs: SealShare, offer: Offer = OFFER, *, ways: Ways = WAYS, secret: int = 4, signer: int = RECEIVER
) -> ReceiverSeal:
    return ReceiverSeal(offer, ways, theirs, secret=bytes([secret]) * 32, sign=identity(signer).sign)


def agreed(offset: int = 0, *, offer: Offer = OFFER, secret: int = 3) -> tuple[ChunkSealer, ChunkOpener]:
    sender = sender_seal(offer, secret=secret)
    share, opener = receiver_seal(sender.share, offer).agree(offset)
    return sender.agree(offset, share), opener


def seal_all(
    sealer: ChunkSealer, stream: bytes = STREAM, *, start: int = 0, piece: int = PIECE
) -> list[tuple[int, bytes]]:
    """Return offset and bytes of every chunk from `start` on."""
    chunks = []
    for offset in range(start, len(stream), piece):
        plain = stream[offset : offset + piece]
        into = bytearray(len(plain) + TAG_BYTES)
        sealer.seal(memoryview(plain), offset=offset, into=memoryview(into))
        chunks.append((offset, bytes(into)))
    return chunks


def open_all(opener: ChunkOpener, chunks: list[tuple[int, bytes]]) -> bytes:
    plain = b""
    for offset, sealed in chunks:
        into = bytearray(len(sealed) - TAG_BYTES)
        opener.open(memoryview(sealed), offset=offset, into=memoryview(into))
        plain += into
    return plain


# ---- golden


def golden_offer() -> Offer:
    fields = dict(GOLDEN["offer"])
    ends = type(ENDS)(
        ordering_peer_id=PeerId(fields.pop("ordering_peer_id")),
        execution_uid=ExecutionUid(fields.pop("execution_uid")),
        connection_id=ConnectionId(fields.pop("connection_id")),
        source_job_execution_id=JobExecutionId(fields.pop("source_job_execution_id")),
        dest_job_execution_id=JobExecutionId(fields.pop("dest_job_execution_id")),
    )
    return Offer(ends=ends, transfer_id=TransferId(fields.pop("transfer_id")), **fields)


def golden_seals() -> tuple[SenderSeal, ReceiverSeal]:
    sender = SenderSeal(golden_offer(), WAYS, secret=bytes.fromhex(GOLDEN["sender_secret"]), sign=identity(SENDER).sign)
    secret = bytes.fromhex(GOLDEN["receiver_secret"])
    return sender, ReceiverSeal(golden_offer(), WAYS, sender.share, secret=secret, sign=identity(RECEIVER).sign)


def test_the_golden_texts_and_shares() -> None:
    sender, receiver = golden_seals()
    share, _ = receiver.agree(GOLDEN["offset"])
    text = offer_text(golden_offer(), WAYS, sender.share.key)
    assert text.decode() == GOLDEN["offer_text"]
    assert accept_text(text, GOLDEN["offset"], b"", share.key).decode() == GOLDEN["accept_text"]
    assert sender.share == SealShare(**GOLDEN["sender_seal"])
    assert share == SealShare(**GOLDEN["receiver_seal"])


@pytest.mark.parametrize("answer", GOLDEN["other_answers"], ids=lambda answer: answer["present"] or "null")
def test_the_golden_answers_that_say_what_is_there(answer: dict[str, Any]) -> None:
    present = None if answer["present"] is None else base64.b64decode(answer["present"])
    sender, receiver = golden_seals()
    share, _ = receiver.agree(answer["offset"], present=present)
    assert share.signature == answer["signature"]
    middle = "-" if present is None else answer["present"]
    text = f"rnd/1 sealed accept\n{GOLDEN['offer_text']}{answer['offset']}\n{middle}\n{share.key}\n".encode()
    Ed25519PublicKey.from_public_bytes(key_from_peer_id(WAYS.receiver)).verify(bytes.fromhex(share.signature), text)
    sender.agree(answer["offset"], share, present=present)


def test_the_golden_chunks_both_ways() -> None:
    sender, receiver = golden_seals()
    share, opener = receiver.agree(GOLDEN["offset"])
    sealer = sender.agree(GOLDEN["offset"], share)
    for chunk in GOLDEN["chunks"]:
        plain = bytes.fromhex(chunk["plain"])
        sealed = bytearray(len(plain) + TAG_BYTES)
        sealer.seal(memoryview(plain), offset=chunk["offset"], into=memoryview(sealed))
        assert sealed.hex() == chunk["sealed"]
        opened = bytearray(len(plain))
        opener.open(memoryview(sealed), offset=chunk["offset"], into=memoryview(opened))
        assert opened == plain


def test_the_golden_vectors_follow_from_the_words_of_the_wire() -> None:
    """Made once more from docs/wire.md and the primitives alone."""
    offer = GOLDEN["offer"]
    lines = [
        "rnd/1 sealed offer",
        WAYS.sender,
        WAYS.receiver,
        *(
            str(offer[name])
            for name in (
                "transfer_id", "stream", "ordering_peer_id", "execution_uid", "connection_id", "source_job_execution_id",
                "dest_job_execution_id", "file_count", "entry_count", "size_bytes", "manifest_bytes", "manifest_sha256",
            )
        ),
        GOLDEN["sender_seal"]["key"],
    ]  # fmt: skip
    signed = "".join(line + "\n" for line in lines)
    answer = f"rnd/1 sealed accept\n{signed}{GOLDEN['offset']}\n\n{GOLDEN['receiver_seal']['key']}\n".encode()
    for who, share, text in (
        (WAYS.sender, GOLDEN["sender_seal"], signed.encode()),
        (WAYS.receiver, GOLDEN["receiver_seal"], answer),
    ):
        Ed25519PublicKey.from_public_bytes(key_from_peer_id(who)).verify(bytes.fromhex(share["signature"]), text)
    secret = X25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN["sender_secret"]))
    shared = secret.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(GOLDEN["receiver_seal"]["key"])))
    transcript = hashlib.sha256(answer).digest()
    key = HKDF(algorithm=SHA256(), length=32, salt=transcript, info=b"rnd/1 sealed transfer").derive(shared)
    end = offer["manifest_bytes"] + offer["size_bytes"]
    is_last = False
    for number, chunk in enumerate(GOLDEN["chunks"]):
        plain = bytes.fromhex(chunk["plain"])
        is_last = chunk["offset"] + len(plain) == end
        nonce = bytes(3) + struct.pack(">Q", number) + bytes([is_last])
        associated = transcript + struct.pack(">Q", chunk["offset"])
        assert AESGCM(key).encrypt(nonce, plain, associated).hex() == chunk["sealed"]
    assert is_last


# ---- streams


@given(stream=st.binary(min_size=1, max_size=300), piece=st.integers(1, 300), data=st.data())
def test_any_stream_in_any_pieces_from_any_offset_opens_again(stream: bytes, piece: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(stream) - 1))
    offer = replace(OFFER, manifest_bytes=0, size_bytes=len(stream))
    sealer, opener = agreed(start, offer=offer)
    chunks = seal_all(sealer, stream, start=start, piece=piece)
    assert open_all(opener, chunks) == stream[start:]
    assert sum(len(sealed) for _, sealed in chunks) == len(stream) - start + TAG_BYTES * len(chunks)


def test_no_plain_byte_is_in_what_travels() -> None:
    sealer, _ = agreed()
    sealed = b"".join(chunk for _, chunk in seal_all(sealer))
    assert b"promised" not in sealed
    assert b"a.txt" not in sealed
    assert bytes(16) not in sealed


def test_no_two_attempts_share_a_key() -> None:
    first, second = (seal_all(agreed(secret=secret)[0]) for secret in (3, 6))
    assert {sealed for _, sealed in first}.isdisjoint(sealed for _, sealed in second)


def test_older_versions_of_the_library_seal_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = seal_all(agreed()[0])
    monkeypatch.setattr(sealing, "_FILLS_BUFFERS", False)
    sealer, opener = agreed()
    slow = seal_all(sealer)
    assert slow == quick
    assert open_all(opener, slow) == STREAM


def flipped(sealed: bytes, at: int) -> bytes:
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]


def sealed_as_last(offset: int, length: int) -> bytes:
    """Seal a chunk of the middle as if the stream ended with it."""
    sealer, _ = agreed(offer=OFFER)
    sealer._stream_bytes = offset + length  # what only a liar would say
    return seal_all(sealer, STREAM[:length])[0][1]


CHUNKS = seal_all(agreed()[0])
TAMPERED: dict[str, Callable[[], list[tuple[int, bytes]]]] = {
    "a bit of the content": lambda: [(0, flipped(CHUNKS[0][1], 3))],
    "a bit of the tag": lambda: [(0, flipped(CHUNKS[0][1], PIECE + 15))],
    "cut short": lambda: [(0, CHUNKS[0][1][:-1])],
    "cut to its tag": lambda: [(0, CHUNKS[0][1][-17:])],
    "longer": lambda: [(0, CHUNKS[0][1] + b"\0")],
    "moved": lambda: [(0, CHUNKS[1][1])],
    "moved with its header": lambda: [(PIECE, CHUNKS[1][1])],
    "under another offset": lambda: [(7, CHUNKS[0][1])],
    "repeated": lambda: [CHUNKS[0], CHUNKS[0]],
    "repeated as the next": lambda: [CHUNKS[0], (PIECE, CHUNKS[0][1])],
    "left out": lambda: [CHUNKS[0], CHUNKS[2]],
    "two swapped": lambda: [CHUNKS[0], (PIECE, CHUNKS[2][1]), (2 * PIECE, CHUNKS[1][1])],
    "the last put early": lambda: [(0, CHUNKS[-1][1])],
    "the middle as the last": lambda: [(0, sealed_as_last(0, PIECE))],
    "of another attempt": lambda: [seal_all(agreed(secret=6)[0])[0]],
    "of another transfer": lambda: [
        seal_all(agreed(offer=replace(OFFER, transfer_id=TransferId("other")))[0])[0],
    ],
    "of another connection": lambda: [
        seal_all(agreed(offer=replace(OFFER, ends=replace(ENDS, connection_id=ConnectionId(9))))[0])[0]
    ],
    "of another manifest": lambda: [seal_all(agreed(offer=replace(OFFER, manifest_sha256="0" * 64))[0])[0]],
    "of an attempt at another offset": lambda: [(0, seal_all(agreed(PIECE)[0], start=PIECE)[0][1])],
    "not sealed at all": lambda: [(0, STREAM[: PIECE + TAG_BYTES])],
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_chunk_that_is_not_the_next_one_does_not_open(name: str) -> None:
    _, opener = agreed()
    with pytest.raises(SealBroken, match="is not what the sender has sealed there"):
        open_all(opener, TAMPERED[name]())


def test_after_a_chunk_that_did_not_open_the_right_one_does_not_either() -> None:
    _, opener = agreed()
    with pytest.raises(SealBroken):
        open_all(opener, [(0, flipped(CHUNKS[0][1], 0))])
    with pytest.raises(SealBroken):
        open_all(opener, CHUNKS)


# ---- the agreement


CHANGED: dict[str, Callable[[Offer], Offer]] = {
    "transfer_id": lambda it: replace(it, transfer_id=TransferId("ffffffff-ffff-4fff-8fff-ffffffffffff")),
    "stream": lambda it: replace(it, stream=it.stream + 1),
    "ordering_peer_id": lambda it: replace(it, ends=replace(it.ends, ordering_peer_id=peer_id(STRANGER))),
    "execution_uid": lambda it: replace(it, ends=replace(it.ends, execution_uid=ExecutionUid("f" * 32))),
    "connection_id": lambda it: replace(it, ends=replace(it.ends, connection_id=ConnectionId(99))),
    "source job": lambda it: replace(it, ends=replace(it.ends, source_job_execution_id=JobExecutionId(99))),
    "dest job": lambda it: replace(it, ends=replace(it.ends, dest_job_execution_id=JobExecutionId(99))),
    "file_count": lambda it: replace(it, file_count=it.file_count + 1),
    "entry_count": lambda it: replace(it, entry_count=it.entry_count + 1),
    "size_bytes": lambda it: replace(it, size_bytes=it.size_bytes + 1),
    "manifest_bytes": lambda it: replace(it, manifest_bytes=it.manifest_bytes + 1),
    "manifest_sha256": lambda it: replace(it, manifest_sha256="0" * 64),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_receiver_refuses_an_offer_that_was_changed(name: str) -> None:
    with pytest.raises(SealRefused, match="signature is not that of peer"):
        receiver_seal(sender_seal().share, CHANGED[name](OFFER))


@pytest.mark.parametrize(
    "share",
    [
        sender_seal(signer=STRANGER).share,
        sender_seal(ways=replace(WAYS, receiver=peer_id(STRANGER))).share,
        sender_seal(ways=Ways(sender=WAYS.receiver, receiver=WAYS.sender)).share,
        replace(sender_seal().share, key=sender_seal(secret=6).share.key),
        replace(sender_seal().share, signature="0" * 128),
        replace(sender_seal().share, signature=""),
    ],
    ids=["another signer", "meant for another peer", "the other way round", "key swapped", "zeros", "none"],
)
def test_a_receiver_refuses_what_its_sender_has_not_signed(share: SealShare) -> None:
    with pytest.raises(SealRefused, match="signature is not that of peer"):
        receiver_seal(share)


def with_files(present: bytes | None) -> SealShare:
    """Return a true answer in which the receiver has said that it has these files."""
    return receiver_seal(sender_seal().share).agree(0, present=present)[0]


def from_stranger(offset: int) -> SealShare:
    """Return the answer of somebody in the middle, who agrees on a key of his own."""
    return receiver_seal(sender_seal().share, secret=6, signer=STRANGER).agree(offset)[0]


ANSWERS: dict[str, tuple[Callable[[], SealShare | None], str]] = {
    "without a seal": (lambda: None, "accepted without a seal"),
    "by somebody in the middle": (lambda: from_stranger(0), "signature is not that of peer"),
    "with the middle's key under the true signature": (
        lambda: replace(receiver_seal(sender_seal().share).agree(0)[0], key=from_stranger(0).key),
        "signature is not that of peer",
    ),
    "to another offset": (lambda: receiver_seal(sender_seal().share).agree(5)[0], "signature is not that of peer"),
    "with files that it has and somebody has taken out": (
        lambda: with_files(bytes([1])),
        "signature is not that of peer",
    ),
    "without the word that it will look for some": (lambda: with_files(None), "signature is not that of peer"),
    "to another offer": (
        lambda: receiver_seal(sender_seal(secret=6).share).agree(0)[0],
        "signature is not that of peer",
    ),
    "with the sender's own part": (lambda: sender_seal().share, "signature is not that of peer"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_sender_sends_nothing_unless_its_receiver_has_signed_for_it(name: str) -> None:
    answer, words = ANSWERS[name]
    machine = SendTransfer(OFFER, seal=sender_seal())
    machine.accept(0, answer())
    assert machine.state is TransferState.FAILED
    assert words in machine.reason
    assert machine.sealer is None
    assert machine.take() == Complete(transfer_id=TRANSFER, success=False, error=machine.reason)
    assert machine.take() is None


# Points of low order of Curve25519 (RFC 7748, section 6.1; https://cr.yp.to/ecdh.html), with which every shared secret is 0.
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("key", LOW_ORDER)
def test_a_key_that_shares_no_secret_is_refused_on_both_sides_whoever_has_signed_it(key: str) -> None:
    text = offer_text(OFFER, WAYS, key)
    with pytest.raises(SealRefused, match="none with which a secret can be shared"):
        receiver_seal(SealShare(key=key, signature=identity(SENDER).sign(text).hex()))
    sender = sender_seal()
    answer = accept_text(offer_text(OFFER, WAYS, sender.share.key), 0, b"", key)
    with pytest.raises(SealRefused, match="none with which a secret can be shared"):
        sender.agree(0, SealShare(key=key, signature=identity(RECEIVER).sign(answer).hex()))


def test_sealed_and_open_never_pass_for_each_other() -> None:
    plain = replace(OFFER, encrypted=False)
    share = sender_seal().share
    for offer, theirs in ((OFFER, None), (plain, share)):
        with pytest.raises(SealRefused, match="a sealed transfer comes with a seal"):
            answer_seal(offer, WAYS, theirs, secret=bytes(32), sign=identity(RECEIVER).sign)
    assert answer_seal(plain, WAYS, None, secret=bytes(32), sign=identity(RECEIVER).sign) is None
    machine = SendTransfer(plain)
    machine.accept(0, share)
    assert machine.state is TransferState.FAILED
    assert "sealed what was not offered sealed" in machine.reason
    with pytest.raises(ValueError, match="has a seal"):
        SendTransfer(OFFER)
    with pytest.raises(ValueError, match="has a seal"):
        ReceiveTransfer(OFFER, DUTY, sender_peer_id=DUTY.source_peer_id)


def test_the_machines_agree_and_count_plain_bytes() -> None:
    sender = SendTransfer(OFFER, seal=(seal := sender_seal()), frame_bytes=PAYLOAD_BYTES_MAX)
    receiver = ReceiveTransfer(OFFER, DUTY, sender_peer_id=DUTY.source_peer_id, seal=receiver_seal(seal.share))
    (accept,) = receiver.begin()
    assert isinstance(accept, Accept)
    sender.accept(accept.offset, accept.seal)
    assert sender.state is TransferState.STREAMING
    assert sender.sealer is not None
    assert receiver.opener is not None
    assert open_all(receiver.opener, seal_all(sender.sealer)) == STREAM
    assert sender.frame_bytes == CHUNK_BYTES_MAX == PAYLOAD_BYTES_MAX - TAG_BYTES


@pytest.mark.parametrize("here", [(), (0,), (2,), (0, 2)], ids=str)
def test_the_seal_ends_where_the_stream_without_what_is_here_ends(here: tuple[int, ...]) -> None:
    sender = SendTransfer(OFFER, entries=PARCEL.entries, seal=(seal := sender_seal()), frame_bytes=PIECE)
    receiver = ReceiveTransfer(
        OFFER, DUTY, sender_peer_id=DUTY.source_peer_id, seal=receiver_seal(seal.share), recognises=True
    )
    (accept,) = receiver.begin()
    assert isinstance(accept, Accept)
    sender.accept(accept.offset, accept.seal, present=accept.present)
    manifest = PARCEL.manifest.data
    carry(sender, receiver, STREAM)
    assert receiver.received == sender.sent == len(manifest)
    told = [step for step in receiver.recognise(frozenset(here), bytes_read=0) if isinstance(step, TellPresent)]
    sender.take_present(told[0].present, bytes_read=0)
    stream = PARCEL.stream_without(here)
    carry(sender, receiver, stream)
    assert receiver.received == sender.sent == len(stream)
    assert receiver.take_complete(success=True, error=None) == [Finish()]


def carry(sender: SendTransfer, receiver: ReceiveTransfer, stream: bytes) -> None:
    """Send, sealed, what may be sent now."""
    assert sender.sealer is not None
    assert receiver.opener is not None
    while (step := sender.take()) is not None:
        if isinstance(step, SendBytes):
            plain = stream[step.offset : step.offset + step.length]
            sealed = bytearray(step.length + TAG_BYTES)
            sender.sealer.seal(memoryview(plain), offset=step.offset, into=memoryview(sealed))
            opened = memoryview(bytearray(step.length))
            receiver.opener.open(memoryview(sealed), offset=step.offset, into=opened)
            assert opened == plain
            receiver.take_frame(Frame(stream=step.stream, offset=step.offset, payload=opened))
            sender.acknowledge(receiver.received)
