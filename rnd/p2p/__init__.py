"""Peers: this one's identity, and the links to others (document: Architecture Components)."""
