"""Attributes are read whatever they hold."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.attributes import first_item, integer, items_of, number, numbers, text, value, values_of

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["A", "Value", "vr"]), inner),
    max_leaves=8,
)


@given(_JSON)
def test_junk_is_nothing(junk: Any) -> None:
    """Reading an attribute never raises, whatever is in its place, and gives what its name says."""
    item = {"A": junk}
    values = values_of(item, "A")
    assert value(item, "A") is (values[0] if values else None)
    assert all(isinstance(part, dict) for part in items_of(item, "A"))
    assert isinstance(integer(item, "A"), int)
    assert math.isfinite(number(item, "A"))
    assert all(math.isfinite(part) for part in numbers(item, "A"))
    assert isinstance(text(item, "A"), str)
    assert isinstance(first_item(item, "A", "A"), dict)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        ([1, "a"], []),
        ([1, None], []),
        ([float("nan")], []),
        ([1, "Infinity"], []),
        ([10**400], []),
        (["0.0005", 2], [0.0005, 2.0]),
    ],
)
def test_numbers_are_all_or_none(given: list[Any], found: list[float]) -> None:
    """Numbers in quotes are numbers (PS3.18 F.2.3 lets DS and IS be strings); one that is none spoils them all."""
    assert numbers({"A": {"vr": "DS", "Value": given}}, "A") == found


def test_sequences_are_followed_inwards() -> None:
    """The first item of the first item, or an empty one."""
    inner = {"B": {"vr": "SQ", "Value": [{"C": 1}, {"C": 2}]}}
    item = {"A": {"vr": "SQ", "Value": ["junk", inner]}}
    assert first_item(item, "A", "B") == {"C": 1}
    assert first_item(item, "A", "X", "B") == {}
    assert first_item(item) == item
