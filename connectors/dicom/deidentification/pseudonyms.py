"""Pseudonyms: what a secret key makes of an identifier; the same key always the same, another key another.

Everything is HMAC-SHA256 (RFC 2104) over a kind and the identifier. Who has no key can neither go back nor try out
guesses, which an unkeyed digest of a number of eight digits allows within seconds (PS3.15 E.1.1).
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from uuid import UUID

from models.domain.errors import SettingsInvalid

_LEAST_BYTES = 16
_LEAST_DISTINCT = 8  # of 16 random bytes fewer are different once in 10^11
_TEXT_BYTES = 10  # 16 characters of base32: the longest that VR SH holds (PS3.5 6.2)
_DAYS = 3650
HOW = "make one with: openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What one key makes of identifiers.

    Parameters
    ----------
    key : bytes
        Secret and random, 16 bytes or more; never shown.

    Raises
    ------
    SettingsInvalid
        The key is too short, or hardly random.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < _LEAST_BYTES:
            raise SettingsInvalid(f"The de-identification key has fewer than {_LEAST_BYTES} bytes: {HOW}.")
        if len(set(self.key)) < _LEAST_DISTINCT:
            raise SettingsInvalid(f"The de-identification key repeats itself and is soon guessed: {HOW}.")

    def text(self, kind: str, *words: str) -> str:
        """Return 16 characters A-Z and 2-7 (80 bits), which fit every VR of an identifier."""
        return base64.b32encode(self._digest(kind, *words)[:_TEXT_BYTES]).decode()

    def uid(self, uid: str) -> str:
        """Return a UID for a UID: "2.25." + a UUID of version 8 (PS3.5 B.2, RFC 9562 5.8)."""
        number = int.from_bytes(self._digest("uid", uid)[:16], "big")
        number = number & ~(0xF << 76) | 0x8 << 76  # version
        number = number & ~(0x3 << 62) | 0x2 << 62  # variant
        return f"2.25.{UUID(int=number).int}"

    def sha256(self, kind: str, *words: str) -> str:
        """Return a digest in place of a digest: 64 hexadecimal digits."""
        return self._digest(kind, *words).hex()

    def days(self, *words: str) -> int:
        """Return by how many days the dates of a patient go back: 1 to 3650."""
        return 1 + int.from_bytes(self._digest("days", *words)[:8], "big") % _DAYS

    def _digest(self, kind: str, *words: str) -> bytes:
        message = json.dumps([kind, *words]).encode()  # unambiguous, whatever is in the words
        return hmac.new(self.key, message, hashlib.sha256).digest()
