"""Addresses of peers: how they are written, and which are never dialled (design: Peers).

Addresses come from other people, in signed records and in invites, and dialling one is a request that the daemon makes
from inside its own network. So places that answer by where a request comes from, above all the metadata services of
clouds, are never dialled, in whatever notation they are given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

MAX_NAME_CHARACTERS: Final = 253

IpAddress = IPv4Address | IPv6Address

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_NEVER: Final[tuple[tuple[IPv4Network | IPv6Network, str], ...]] = (
    (IPv4Network("0.0.0.0/8"), "an unspecified address"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("240.0.0.0/4"), "a reserved or broadcast address"),
    (IPv4Network("100.100.100.200/32"), "a cloud's metadata service"),
    (IPv4Network("168.63.129.16/32"), "a cloud's metadata service"),
    (IPv4Network("192.0.0.192/32"), "a cloud's metadata service"),
    (IPv6Network("::/128"), "an unspecified address"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("fec0::/10"), "a site-local address"),
    (IPv6Network("ff00::/8"), "a multicast address"),
    (IPv6Network("fd00:ec2::/32"), "a cloud's metadata service"),
    (IPv6Network("fd20:ce::254/128"), "a cloud's metadata service"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """Where a peer may be dialled: an IP address in its shortest form, or a DNS name in lower case, and a port."""

    host: str
    port: int
    is_name: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_peer_address(text: str, *, names_allowed: bool) -> PeerAddress:
    """Return the address of `host:port` or `[v6]:port`.

    `names_allowed` is for what this peer's own operator wrote: the name in somebody's record could lead anywhere, at
    any later time. Raises `ValueError` that says what is wrong, also for an address that is never dialled.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("an address of a peer is host:port")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("a port is a number from 1 to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [2001:db8::1]:30070")
    try:
        address = ip_address(host)
    except ValueError:
        if bracketed:
            raise ValueError("between the brackets stands no IPv6 address") from None
        return PeerAddress(host=_checked_name(host, names_allowed=names_allowed), port=int(port), is_name=True)
    if bracketed and address.version == 4:
        raise ValueError("brackets are for IPv6 addresses")
    reason = never_dialled(address)
    if reason:
        raise ValueError(f"{reason} is never dialled")
    return PeerAddress(host=str(address), port=int(port))


def never_dialled(address: IpAddress) -> str:
    """Return what kind of address this is if it is never dialled; "": it may be."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "an address with a zone"
        inner = _embedded(address)
        if inner is not None:
            return never_dialled(inner)
    for network, reason in _NEVER:
        if address in network:
            return reason
    return ""


def origin_of(address: IpAddress) -> str:
    """Return who an address is counted as: itself, or for IPv6 its /64, since a whole one belongs to one customer."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets for this IPv6 address may end up at."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    number = int(address)
    if any(address in network for network in _TRANSLATED) or 1 < number < 1 << 32:
        return IPv4Address(number & 0xFFFF_FFFF)
    return None


def _checked_name(host: str, *, names_allowed: bool) -> str:
    if not names_allowed:
        raise ValueError("an address from another peer is an IP address, never a name")
    name = host.lower()
    labels = name.split(".")
    if len(name) > MAX_NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host is neither an IP address nor a DNS name")
    # The system would read 2852039166 and 0xa9fea9fe as IPv4 addresses.
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise ValueError("the host is neither an IP address in its usual form nor a DNS name")
    return name
