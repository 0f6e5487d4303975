"""Where this peer can be reached, as it tells others: what the owner says, else what its machine's interfaces have."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from rnd.p2p.identity import Identity
from rnd.protocol.address_records import join_address, sign_addresses
from rnd.rules.addresses import never_dialled
from rnd.types.errors import MalformedAddresses
from rnd.types.peers import AddressRecord

ADDRESSES_MAX: Final = 4
_SIOCGIFADDR: Final = 0x8915
_IFREQ: Final = "256s"
_IF_INET6: Final = "/proc/net/if_inet6"


def own_record(
    identity: Identity, *, advertised: Sequence[str], host: str, port: int, issued_at_ms: int
) -> AddressRecord | None:
    """Return this peer's signed address record; `None` where nothing is worth telling.

    `advertised` are numeric `host:port` of the owner's; without any, `host` where it is one address, else those of the
    machine's interfaces.
    """
    found = list(advertised) or [join_address(each, port) for each in _listening_hosts(host)]
    addresses = list(dict.fromkeys(found))[:ADDRESSES_MAX]
    if not addresses:
        return None
    try:
        return sign_addresses(identity.peer_id, addresses, issued_at_ms=issued_at_ms, sign=identity.sign)
    except MalformedAddresses:
        return None  # an address in a form that others would not take; config refuses what the owner has given so


def _listening_hosts(host: str) -> list[str]:
    if not ip_address(host).is_unspecified:
        return [host]
    wanted = [*_ipv4_of_interfaces(), *(_ipv6_of_interfaces() if ":" in host else [])]
    usable = [each for each in wanted if not never_dialled(ip_address(each))]
    return sorted(usable, key=lambda each: ip_address(each).is_loopback)


def _ipv4_of_interfaces() -> list[str]:
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, struct.pack(_IFREQ, name.encode()[:15]))
            except OSError:
                continue  # an interface without an IPv4 address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _ipv6_of_interfaces() -> list[str]:
    try:
        with open(_IF_INET6, encoding="ascii") as table:
            words = [line.split()[0] for line in table]
    except OSError:
        return []
    return [str(ip_address(bytes.fromhex(word))) for word in words]
