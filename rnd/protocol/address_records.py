"""Where a peer can be reached, signed by itself (docs/wire.md, section 2, Address records).

Whether an address may be dialled at all is another question and not decided here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rnd.rules.peer_id import key_from_peer_id
from rnd.types.errors import MalformedAddresses
from rnd.types.ids import PeerId
from rnd.types.peers import AddressRecord

ADDRESSES_MAX: Final = 4
PORT_MAX: Final = 65_535

_LABEL: Final = "rnd/1 addresses"
_PORT: Final = re.compile("[1-9][0-9]{0,4}")
_ISSUED_AT_MS_MAX: Final = 2**63 - 1
_SIGNATURE_BYTES: Final = 64
_SIGNATURE_CHARACTERS: Final = 88


def split_address(text: str) -> tuple[str, int]:
    """Return host (without brackets) and port of an address whose host is numeric and which is written canonically.

    Raises `MalformedAddresses`: one peer's address has one way to be written, so that a signed text has one as well.
    """
    host, _, port_digits = text.rpartition(":")
    port = port_number(port_digits)
    if port is None:
        raise MalformedAddresses(f"{_shown(text)}: a port from 1 to {PORT_MAX} is missing")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise MalformedAddresses(f"{_shown(text)}: the host must be numeric") from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise MalformedAddresses(f"{_shown(text)}: neither an IPv4 address in IPv6 form nor a zone is taken")
    canonical = join_address(str(address), port)
    if text != canonical:
        raise MalformedAddresses(f"{_shown(text)}: must be written {canonical}")
    return bare, port


def join_address(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_number(digits: str) -> int | None:
    """Return the port that a text names in decimal digits without leading zeros, or `None`."""
    if not _PORT.fullmatch(digits) or int(digits) > PORT_MAX:
        return None
    return int(digits)


def text_to_sign(peer_id: PeerId, issued_at_ms: int, addresses: Sequence[str]) -> bytes:
    """Return the text whose signature makes a record."""
    lines = (_LABEL, peer_id, str(issued_at_ms), *addresses)
    return "".join(f"{line}\n" for line in lines).encode()


def sign_addresses(
    peer_id: PeerId, addresses: Sequence[str], *, issued_at_ms: int, sign: Callable[[bytes], bytes]
) -> AddressRecord:
    """Return this peer's own record; `sign` is its identity's. Raises `MalformedAddresses` if nobody would take it."""
    signature = base64.b64encode(sign(text_to_sign(peer_id, issued_at_ms, addresses))).decode("ascii")
    record = AddressRecord(peer_id=peer_id, addresses=tuple(addresses), issued_at_ms=issued_at_ms, signature=signature)
    verify_record(record)
    return record


def verify_record(record: AddressRecord) -> None:
    """Raise `MalformedAddresses` unless a record keeps to the rules and its own peer has signed it."""
    if len(record.addresses) > ADDRESSES_MAX:
        raise MalformedAddresses(f"a record has at most {ADDRESSES_MAX} addresses, not {len(record.addresses)}")
    if len(set(record.addresses)) != len(record.addresses):
        raise MalformedAddresses("a record has the same address twice")
    for address in record.addresses:
        split_address(address)
    if not 0 <= record.issued_at_ms <= _ISSUED_AT_MS_MAX:
        raise MalformedAddresses("a record is issued at a time in milliseconds since 1970")
    try:
        public_key = Ed25519PublicKey.from_public_bytes(key_from_peer_id(record.peer_id))
    except ValueError as error:
        raise MalformedAddresses(f"a record names its peer: {error}") from None
    try:
        public_key.verify(
            _signature_bytes(record.signature), text_to_sign(record.peer_id, record.issued_at_ms, record.addresses)
        )
    except InvalidSignature:
        raise MalformedAddresses("the signature of a record is not its peer's") from None


def _signature_bytes(text: str) -> bytes:
    try:
        signature = base64.b64decode(text if len(text) == _SIGNATURE_CHARACTERS else "", validate=True)
    except ValueError:
        signature = b""
    if len(signature) != _SIGNATURE_BYTES or base64.b64encode(signature).decode("ascii") != text:
        raise MalformedAddresses("the signature of a record is 64 bytes in base64")
    return signature


def _shown(text: str) -> str:
    return repr(text[:64])
