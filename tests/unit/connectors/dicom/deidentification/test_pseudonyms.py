"""Pseudonyms: keyed, unambiguous, of a form that every archive takes."""

import hashlib
import subprocess
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.config import RAISE
from pydicom.valuerep import validate_value

from connectors.dicom.deidentification.pseudonyms import Pseudonyms
from models.domain.errors import SettingsInvalid

KEY = bytes(range(32))
NAMES = Pseudonyms(KEY)


def test_they_are_hmac_sha256() -> None:
    """OpenSSL makes the same of the same key: who has it can tell a pseudonym again with any tool."""
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{KEY.hex()}"]
    done = subprocess.run(command, input=b'["patient", "P-1", ""]', capture_output=True, check=True)
    assert NAMES.sha256("patient", "P-1", "") == done.stdout.decode().split()[-1]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_texts_fit_every_identifier(words: list[str]) -> None:
    """Sixteen characters that SH, LO and PN hold, whatever the words are."""
    made = NAMES.text(*words)
    assert len(made) == 16
    for vr in ("SH", "LO", "PN"):
        validate_value(vr, made, RAISE)


@given(st.text(max_size=70))
def test_uids_are_uids(words: str) -> None:
    """A UID of PS3.5 B.2 whose UUID says of itself that it is nobody's clock or name (version 8)."""
    made = NAMES.uid(words)
    assert uid.UID(made).is_valid
    found = UUID(int=int(made.removeprefix("2.25.")))
    assert (found.version, found.variant) == (8, "specified in RFC 4122")


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_other_words_are_another_pseudonym(one: list[str], two: list[str]) -> None:
    """Words are not run together: ("ab", "c") is not ("a", "bc")."""
    assert (NAMES.text("kind", *one) == NAMES.text("kind", *two)) == (one == two)


def test_kinds_are_apart() -> None:
    """The same number as a patient and as an accession is not the same pseudonym."""
    assert NAMES.text("patient", "17") != NAMES.text("AccessionNumber", "17")


def test_another_key_is_another_pseudonym() -> None:
    """Nothing of an identifier shows without the key."""
    other = Pseudonyms(hashlib.sha256(KEY).digest())
    assert NAMES.text("patient", "17") != other.text("patient", "17")
    assert NAMES.uid("1.2.3") != other.uid("1.2.3")
    assert NAMES.sha256("result", "ab") != other.sha256("result", "ab")


def test_the_key_is_not_shown() -> None:
    """It is in no log line and no traceback that shows what it is in."""
    assert "key" not in repr(NAMES)


def test_days_are_spread_over_ten_years() -> None:
    """Every patient goes back by 1 to 3650 days, about as many by each."""
    days = [NAMES.days("patient", str(number)) for number in range(2000)]
    assert min(days) >= 1
    assert max(days) <= 3650
    assert 1700 < sum(days) / len(days) < 1950
    assert len(set(days)) > 1200


@pytest.mark.parametrize("key", [b"", bytes(range(15)), bytes(64), b"abcabcab" * 4], ids=len)
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    """Too short, or hardly random: no pseudonym is made with it."""
    with pytest.raises(SettingsInvalid, match="openssl rand -hex 32"):
        Pseudonyms(key)
