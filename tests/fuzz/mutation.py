"""Inputs that are nearly right: specimens of a format with one to four things wrong, the same for the same seed.

Hypothesis makes up inputs from a grammar and shrinks what fails, at a thousand or so a second; here it is the number that counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any, Final

ODD_STRINGS: Final = (
    "", " ", ".", "..", "/", "//", "../../etc/passwd", "/etc/passwd", "a/../b", "-", "--", "*", "**", "[", "upload:x", "peer/service",
    "\0", "a\0b", "\n", "\r\n", "\x1b[2J", "\u202e", "\u200b", "\ud800", "\udfff", "\U0010ffff", "\N{SUPERSCRIPT TWO}",
    "\N{ARABIC-INDIC DIGIT ONE}", "\N{LATIN SMALL LETTER DOTLESS I}", "e\u0301", "\N{KELVIN SIGN}", "0", "-1", "1e9", "0x10", "1_000", "9" * 30,
    "9" * 5_000, "NaN", "true", "null", "127.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "2130706433:80", "0177.0.0.1:1", "a:99999",
    "rn" + "a" * 56, "A" * 64, "f" * 64, "00112233445566778899aabbccddeeff", "2026-01-31T12:00:00.000Z", "0000-00-00T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z", "x" * 300, "x" * 5_000, "\N{WHITE SMILING FACE}" * 300, "a/" * 600, "=", "====", "AAAA", "YQ==",
)  # fmt: skip
ODD_NUMBERS: Final = (
    0, -0.0, 1, -1, 2, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64,
    10**40, 0.5, -0.5, 1e-320, 1e300, 1.7976931348623157e308, 1e15,
)  # fmt: skip
ODD_VALUES: Final = (None, True, False, [], {}, [[]], [None], {"": None}, [{}], {"a": {"b": []}})
# What is no JSON, or what json.dumps would not write; each goes in as it stands.
RAW: Final = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5_000, "01", "1.", ".5", "+1", "0x1", "'a'", "\"\\ud800\"", "\"\\udc00\\ud800\"",
    '"\\u0000"', '"\\x"', "[" * 40 + "]" * 40, '{"a":' * 40 + "1" + "}" * 40, "[" * 3_000 + "]" * 3_000, "[" * 30_000, '{"a":' * 3_000,
    '{"a":1,"a":2}', '{"a":1,"a":1}', "[1,]", "[,]", "{,}", "tru", "nul", '"', "//", "\ufeff1", "[" + "0," * 400 + "0]", "1" + "0" * 400,
)  # fmt: skip
ODD_BYTES: Final = (
    b"", b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\n", b"\r\n", b"\t",
    b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"=", b"-", b"/", b"..", b"\n\n", b'"""', b"'''", b"#", b"%00", b"%", b"\x7f",
    b"0", b"9" * 20, b"9" * 5_000, b"A" * 300, b"[" * 2_000, b"\x00\x00\x00\x00\xff\xff\xff\xff", b"\xff" * 8, b"1e999", b"nan", b"inf",
)  # fmt: skip
TEXT_CHARACTERS_MAX: Final = 2 << 20
"""What is repeated in what is repeated would be larger than anything that any of the parsers is given."""
_MARK: Final = re.compile(r'"@@([0-9]{1,3})@@"')
_KEYS: Final = ("", "a", "type", "id", "v", "path", "__proto__", "__class__", "\0", "\ud800", "x" * 300)


class Mutator:
    """Makes inputs out of specimens; all of them follow from the source of randomness."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def of_bytes(self, specimen: bytes, *, other: bytes = b"") -> bytes:
        """Return bytes that differ from a specimen at one to four places; `other` may be spliced in."""
        data = bytearray(specimen)
        for _ in range(self.random.randint(1, 4)):
            self._change(data, other)
        return bytes(data)

    def of_text(self, specimen: str, *, other: str = "") -> str:
        """Return a text that differs from a specimen; half of a surrogate pair may be in it."""
        data = self.of_bytes(specimen.encode("utf-8", "surrogatepass"), other=other.encode("utf-8", "surrogatepass"))
        return data.decode("utf-8", "surrogateescape" if self.random.random() < 0.3 else "replace")

    def of_json(self, specimen: object) -> str:
        """Return the text of a value that differs from a specimen in structure, or in its letters."""
        if self.random.random() < 0.2:
            return self.of_text(json.dumps(specimen))
        value = specimen
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            value = self._grown(value)
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        text = _MARK.sub(lambda match: RAW[int(match[1]) % len(RAW)], text)
        text = text[:TEXT_CHARACTERS_MAX]
        return self.of_text(text) if self.random.random() < 0.1 else text

    def odd_value(self) -> Any:
        """Return a value that is rarely what is wanted."""
        kind = self.random.random()
        if kind < 0.45:
            return self.random.choice(ODD_STRINGS)
        if kind < 0.7:
            return self.random.choice(ODD_NUMBERS)
        if kind < 0.85:
            return self.random.choice(ODD_VALUES)
        return f"@@{self.random.randrange(len(RAW))}@@"

    def _change(self, data: bytearray, other: bytes) -> None:
        random = self.random
        size = len(data)
        at = random.randrange(size) if size else 0
        end = min(size, at + random.choice((1, 1, 1, 2, 4, 8, 32, 256)))
        match random.randrange(9):
            case 0 if size:
                data[at] ^= 1 << random.randrange(8)
            case 1 if size:
                data[at] = random.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = random.choice(ODD_BYTES)
            case 4:
                data[at:end] = random.choice(ODD_BYTES)
            case 5:
                data[at:at] = data[at:end] * random.choice((1, 2, 10))
            case 6:
                del data[at:]
            case 7:
                start = random.randrange(len(other)) if other else 0
                data[at:end] = other[start : start + random.choice((1, 8, 64, 512))]
            case _:
                data[at:at] = random.choice(ODD_STRINGS).encode("utf-8", "surrogatepass")

    def _grown(self, value: object) -> object:
        """Return a value with one thing changed somewhere in it; the given one stays as it is."""
        random = self.random
        if isinstance(value, dict) and value and random.random() < 0.85:
            key = random.choice(list(value))
            match random.randrange(10):
                case 0:
                    return {name: item for name, item in value.items() if name != key}
                case 1:
                    return {(random.choice(_KEYS) if name == key else name): item for name, item in value.items()}
                case 2:
                    return {**value, random.choice(_KEYS): self.odd_value()}
                case 3:
                    return {**value, key: value[random.choice(list(value))]}
                case _:
                    return {**value, key: self._grown(value[key])}
        if isinstance(value, list) and value and random.random() < 0.85:
            at = random.randrange(len(value))
            match random.randrange(8):
                case 0:
                    return value[:at] + value[at + 1 :]
                case 1:
                    return [*value[:at], self.odd_value(), *value[at:]]
                case 2:
                    return value * random.choice((2, 3, 50))
                case _:
                    return [*value[:at], self._grown(value[at]), *value[at + 1 :]]
        if isinstance(value, str) and value and random.random() < 0.4:
            return self.of_text(value, other=random.choice(ODD_STRINGS))
        if isinstance(value, int | float) and random.random() < 0.3:
            return value + random.choice((-1, 1, 2, -2))
        return self.odd_value()


def pieces(data: bytes, random: Random) -> Sequence[bytes]:
    """Return bytes cut at random places, as a network may deliver them."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 1, 3, 20))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
