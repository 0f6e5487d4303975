"""Invites: one line that brings two peers together, and the proofs that it leads to (docs/wire.md, section 3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from rnd.protocol.address_records import ADDRESSES_MAX, PORT_MAX, port_number
from rnd.rules.peer_id import key_from_peer_id
from rnd.types.errors import MalformedInvite
from rnd.types.ids import PeerId

SECRET_BYTES: Final = 16
LINE_CHARACTERS_MAX: Final = 2_048

_SCHEME: Final = "rnd-invite:"
_VERSION: Final = "1"
_PARTS: Final = 5
_SECRET_CHARACTERS: Final = 26
_CHECK_CHARACTERS: Final = 8
_KEY_LABEL: Final = b"rnd/1 invite key\n"
_ID_LABEL: Final = b"rnd/1 invite id\n"
_ID_CHARACTERS: Final = 16
_PROOF_LABEL: Final = "rnd/1 join"
_HOST_CHARACTERS_MAX: Final = 253
_HOST_LABEL: Final = re.compile("[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class JoinRole(StrEnum):
    """Who proves that it knows the secret."""

    JOINER = "joiner"
    INVITER = "inviter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What an invite says: whom to dial and where, and the secret that opens the door once."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteKey:
    """What is kept of an invite in place of its secret: its id, and the key that checks proofs."""

    invite_id: str
    key: bytes = field(repr=False)


def new_invite(peer_id: PeerId, addresses: Sequence[str], secret: bytes) -> str:
    """Return the line of an invite. `secret` are 16 random bytes that are used for nothing else.

    `addresses` are `host:port` with a numeric host or a name. Raises `MalformedInvite` where nobody could read the line.
    """
    digits = base64.b32encode(secret).decode("ascii").lower().rstrip("=")
    body = "/".join((_SCHEME + _VERSION, peer_id, digits, ",".join(addresses).lower()))
    line = f"{body}/{_check(body)}"
    parse_invite(line)
    return line


def parse_invite(line: str) -> Invite:
    """Return what an invite says. Raises `MalformedInvite` with what is wrong with it, in words for who pasted it."""
    text = line.strip()
    if not text.startswith(_SCHEME):
        raise MalformedInvite(f"this is not an invite: an invite begins with {_SCHEME}{_VERSION}/")
    if len(text) > LINE_CHARACTERS_MAX:
        raise MalformedInvite(f"this is too long for an invite, which has at most {LINE_CHARACTERS_MAX} characters")
    if text.split() != [text]:
        raise MalformedInvite("an invite is one line without spaces; this one was broken, join it to one line again")
    version, _, _ = text.removeprefix(_SCHEME).partition("/")
    if version != _VERSION and version.isascii() and version.isdigit():
        raise MalformedInvite(f"this invite has version {version}, and only version {_VERSION} is known here")
    body, parts = _checked_parts(text)
    _, peer_id, digits, addresses, _ = parts
    if not body.startswith(f"{_SCHEME}{_VERSION}/"):
        raise MalformedInvite(f"this is not an invite: an invite begins with {_SCHEME}{_VERSION}/")
    try:
        key_from_peer_id(peer_id)
    except ValueError as error:
        raise MalformedInvite(f"the peer that this invite names is none: {error}") from None
    return Invite(peer_id=PeerId(peer_id), addresses=_addresses(addresses), secret=_secret(digits))


def derive_key(secret: bytes) -> InviteKey:
    """Return what is kept of an invite, from its secret."""
    return InviteKey(
        invite_id=hashlib.sha256(_ID_LABEL + secret).hexdigest()[:_ID_CHARACTERS],
        key=hashlib.sha256(_KEY_LABEL + secret).digest(),
    )


def join_proof(key: bytes, role: JoinRole, *, inviter: PeerId, joiner: PeerId) -> str:
    """Return the proof (64 hexadecimal digits) that `role` knows the secret, for these two peers and no others."""
    text = f"{_PROOF_LABEL}\n{role}\n{inviter}\n{joiner}\n"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def proof_holds(proof: str, key: bytes, role: JoinRole, *, inviter: PeerId, joiner: PeerId) -> bool:
    """Say whether a proof is the right one, in a time that does not tell how nearly it is."""
    right = join_proof(key, role, inviter=inviter, joiner=joiner)
    return hmac.compare_digest(proof.encode(errors="replace"), right.encode())


def _checked_parts(text: str) -> tuple[str, list[str]]:
    """Return everything before the check, and all parts, once the check fits."""
    parts = text.split("/")
    body, _, check = text.rpartition("/")
    if len(parts) < _PARTS or (len(parts) == _PARTS and len(check) < _CHECK_CHARACTERS):
        raise MalformedInvite("this invite was cut: a part of it is missing, copy the whole line")
    if len(parts) > _PARTS or len(check) > _CHECK_CHARACTERS:
        raise MalformedInvite("there is more in this line than an invite; copy the line alone")
    if not hmac.compare_digest(check.encode(errors="replace"), _check(body).encode()):
        raise MalformedInvite("there is a typo in this invite: its check does not fit; copy the line again")
    return body, parts


def _check(body: str) -> str:
    digest = hashlib.sha256(body.encode(errors="replace")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:_CHECK_CHARACTERS]


def _secret(digits: str) -> bytes:
    """Return the bytes of a secret. Its last digit has two spare bits, which are 0: there is one way to write it."""
    try:
        secret = base64.b32decode(digits.upper() + "======") if len(digits) == _SECRET_CHARACTERS else b""
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or base64.b32encode(secret).decode("ascii").lower().rstrip("=") != digits:
        raise MalformedInvite(f"the secret of an invite is {_SECRET_CHARACTERS} letters a-z and digits 2-7")
    return secret


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(text.split(","))
    if len(addresses) > ADDRESSES_MAX:
        raise MalformedInvite(f"an invite has at most {ADDRESSES_MAX} addresses, not {len(addresses)}")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if port_number(port) is None or not _is_host(host):
            raise MalformedInvite(f"an address in an invite is host:port with a port up to {PORT_MAX}")
    return addresses


def _is_host(host: str) -> bool:
    """Say whether this is a name, an IPv4 address, or an IPv6 address in brackets, in lower case."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return "%" not in host and str(ipaddress.IPv6Address(host[1:-1])) != ""
        except ValueError:
            return False
    return len(host) <= _HOST_CHARACTERS_MAX and all(_HOST_LABEL.fullmatch(label) for label in host.split("."))
