"""Protocols without input and output: bytes in, bytes out; clocks, randomness, files and sockets stay outside."""
