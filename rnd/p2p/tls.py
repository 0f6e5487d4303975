"""TLS between peers: version 1.3 only, both sides prove their key, and nobody but the key is trusted (design: Peers).

Python's ssl has no callback that judges a certificate, so what may come through is said by what a context trusts: the
canonical certificate of each peer that may come, or the published anchor, which lets everybody come and say who they
are. That second trust is never put into a client's context.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from typing import Final

from rnd.p2p.certificates import anchor_certificate, canonical_certificate, peer_id_of_certificate
from rnd.p2p.identity import Identity
from rnd.types.enums import TlsGate
from rnd.types.errors import CertificateNotCanonical
from rnd.types.ids import PeerId

# STRICT is the default from Python 3.13 on; PARTIAL_CHAIN lets a peer's own certificate be what is trusted.
_VERIFY_FLAGS: Final = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN


class ServerGate:
    """Whom the listener's TLS lets through, changed while it listens. `context` is the listener's.

    `open` lets every peer through that holds its key. `pinned` lets the admitted peers through and, while an invite is
    live, every peer, since the one who was invited is not known yet. Whoever comes through has still to be admitted by
    the listener; a connection that is up is not ended by a change.
    """

    def __init__(self, identity: Identity, gate: TlsGate) -> None:
        self._identity = identity
        self._gate = gate
        self._admitted: frozenset[PeerId] = frozenset()
        self._invite_is_live = False
        self._current = self._context_of_now()
        # Trusts nobody itself: should OpenSSL ever skip the callback, nobody comes through.
        self.context = server_context(identity, trusted=())
        self.context.sni_callback = self._choose_trust

    @property
    def anyone_passes(self) -> bool:
        """Say whether unknown peers get through TLS at the moment."""
        return self._gate is TlsGate.OPEN or self._invite_is_live

    def set_admitted(self, peers: Iterable[PeerId]) -> None:
        """Let exactly these peers through a pinned gate from now on. Raises `ValueError` for what is no peer id."""
        admitted = frozenset(peers)
        if admitted != self._admitted:
            self._change(admitted, invite_is_live=self._invite_is_live)

    def set_invite_live(self, live: bool) -> None:
        """Say whether a one-time invite is live, so that an unknown peer may come to accept it."""
        if live != self._invite_is_live:
            self._change(self._admitted, invite_is_live=live)

    def _change(self, admitted: frozenset[PeerId], *, invite_is_live: bool) -> None:
        before = self._admitted, self._invite_is_live
        self._admitted, self._invite_is_live = admitted, invite_is_live
        try:
            self._current = self._context_of_now()
        except ValueError:
            self._admitted, self._invite_is_live = before
            raise

    def _context_of_now(self) -> ssl.SSLContext:
        if self.anyone_passes:
            return server_context(self._identity, trusted=[anchor_certificate()])
        return server_context(self._identity, trusted=map(canonical_certificate, self._admitted))

    def _choose_trust(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called once in every handshake, also where the client names no server. Only the trust and our certificate
        # change with the context; verify mode, flags and the check of the handshake stay the listener's.
        connection.context = self._current


def server_context(identity: Identity, *, trusted: Iterable[bytes]) -> ssl.SSLContext:
    """Return a context that lets clients through which prove the key of a canonical certificate that is trusted.

    `trusted` are certificates in DER: those of peers, or the anchor's for any peer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no resumption: every connection is judged by the trust of its time
    context.sslobject_class = _CanonicalPeer
    return _furnish(context, identity, trusted)


def client_context(identity: Identity, expected_peer_id: PeerId) -> ssl.SSLContext:
    """Return a context that speaks to one peer only. Raises `ValueError` for what is no peer id."""
    expected = canonical_certificate(expected_peer_id)

    class ExpectedPeer(ssl.SSLObject):
        """A connection that ends with the handshake unless the certificate is the expected one to the byte."""

        def do_handshake(self) -> None:
            super().do_handshake()
            if self.getpeercert(True) != expected:
                raise ssl.SSLCertVerificationError("another certificate than that of the expected peer")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.sslobject_class = ExpectedPeer
    return _furnish(context, identity, [expected])


class _CanonicalPeer(ssl.SSLObject):
    """A connection that ends with the handshake unless the certificate follows from its key.

    The anchor's key is published, so anybody can make other certificates that TLS finds in order.
    """

    def do_handshake(self) -> None:
        super().do_handshake()
        try:
            peer_id_of_certificate(self.getpeercert(True) or b"")
        except CertificateNotCanonical as error:
            raise ssl.SSLCertVerificationError(str(error)) from error


def _furnish(context: ssl.SSLContext, identity: Identity, trusted: Iterable[bytes]) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _VERIFY_FLAGS
    _load_own_key(context, identity)
    # Given as data, certificates do not enter the list of names that a server sends to every client.
    certificates = b"".join(trusted)
    if certificates:
        context.load_verify_locations(cadata=certificates)
    return context


def _load_own_key(context: ssl.SSLContext, identity: Identity) -> None:
    """Hand key and certificate over in a file that exists in memory only, since ssl takes no bytes."""
    certificate = ssl.DER_cert_to_PEM_cert(canonical_certificate(identity.peer_id))
    fd = os.memfd_create("rnd-identity", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(identity.private_key_pem() + certificate.encode("ascii"))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
