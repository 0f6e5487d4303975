"""Addresses of peers: what is understood, and what is never dialled in any notation."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.addresses import PeerAddress, never_dialled, origin_of, parse_peer_address

NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255",
    "240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "::", "fe80::1", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0", "::ffff:224.0.0.1",
]  # fmt: skip
FINE = ["10.0.0.7", "127.0.0.1", "192.168.1.1", "203.0.113.9", "::1", "2001:db8::7", "fd12:3456::1", "::ffff:10.0.0.1"]


def written(host: str, port: int = 30070) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("host", FINE)
def test_ordinary_addresses_are_understood(host: str) -> None:
    address = parse_peer_address(written(host), names_allowed=False)
    assert (ip_address(address.host), address.port, address.is_name) == (ip_address(host), 30070, False)


@pytest.mark.parametrize("names_allowed", [True, False])
@pytest.mark.parametrize("host", NEVER)
def test_dangerous_addresses_are_never_dialled(host: str, names_allowed: bool) -> None:
    assert never_dialled(ip_address(host)) != ""
    with pytest.raises(ValueError, match="is never dialled"):
        parse_peer_address(written(host), names_allowed=names_allowed)


def test_an_address_with_a_zone_is_never_dialled() -> None:
    with pytest.raises(ValueError, match="an address with a zone is never dialled"):
        parse_peer_address("[2001:db8::1%eth0]:30070", names_allowed=True)


def test_a_name_is_understood_from_the_operator_only() -> None:
    expected = PeerAddress(host="peer.example.org", port=30070, is_name=True)
    assert parse_peer_address("Peer.Example.org:30070", names_allowed=True) == expected
    with pytest.raises(ValueError, match="never a name"):
        parse_peer_address("peer.example.org:30070", names_allowed=False)


# The system's resolver would take these for IPv4 addresses.
@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0xa9.254.169.254", "169.254.43518", "0251.0376.0251.0376",
                                  "010.0.0.1", "127.1", "0x"])  # fmt: skip
def test_an_ip_address_in_an_unusual_notation_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="neither an IP address"):
        parse_peer_address(f"{host}:30070", names_allowed=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "host:port"),
        ("peer", "host:port"),
        (":30070", "host:port"),
        ("10.0.0.1:", "a port"),
        ("10.0.0.1:0", "a port"),
        ("10.0.0.1:080", "a port"),
        ("10.0.0.1:65536", "a port"),
        ("10.0.0.1:+80", "a port"),
        ("10.0.0.1:8O", "a port"),
        ("10.0.0.1:\u0663\u0663", "a port"),
        ("2001:db8::1:30070", "in brackets"),
        ("[10.0.0.1]:30070", "brackets are for IPv6"),
        ("[peer]:30070", "no IPv6 address"),
        ("[]:30070", "no IPv6 address"),
        ("user@peer:30070", "nor a DNS name"),
        ("peer/path:30070", "nor a DNS name"),
        ("-peer:30070", "nor a DNS name"),
        ("peer.:30070", "nor a DNS name"),
        ("p\u00e9er:30070", "nor a DNS name"),
        (f"{'a' * 64}:30070", "nor a DNS name"),
        (f"{'a.' * 127}b:30070", "nor a DNS name"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_peer_address(text, names_allowed=True)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_that_is_understood_reads_back_as_itself(host: IPv4Address | IPv6Address, port: int) -> None:
    try:
        address = parse_peer_address(written(str(host), port), names_allowed=False)
    except ValueError:
        assert never_dialled(host) != ""
    else:
        assert parse_peer_address(str(address), names_allowed=False) == address
        assert ip_address(address.host) == host


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_either_refused_or_a_clean_address(text: str, names_allowed: bool) -> None:
    try:
        address = parse_peer_address(text, names_allowed=names_allowed)
    except ValueError:
        return
    assert str(address).isascii()
    assert address.is_name <= names_allowed
    assert address.is_name or never_dialled(ip_address(address.host)) == ""


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_wrapping(host: IPv4Address) -> None:
    number = int(host)
    wrapped = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1]
    assert {never_dialled(IPv6Address(outer)) for outer in wrapped} == {never_dialled(host)}


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_whole_64_counts_as_one_origin(host: IPv6Address, suffix: int) -> None:
    neighbour = IPv6Address(int(host) >> 64 << 64 | suffix)
    if host.ipv4_mapped is None and neighbour.ipv4_mapped is None:
        assert origin_of(host) == origin_of(neighbour)


def test_an_ipv4_address_is_one_origin_in_both_notations() -> None:
    assert origin_of(ip_address("::ffff:10.0.0.1")) == origin_of(ip_address("10.0.0.1")) == "10.0.0.1"
