"""The ICC profile in DICOM JSON: by optical path, inline or behind a URI, and never an exception."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.icc import icc_of
from models.domain.errors import ColorUnavailable
from models.imaging.color import MAX_PROFILE_BYTES, color_transform

_PROFILE = bytes(range(256)) * 3


def _inline(data: bytes) -> dict[str, Any]:
    return {"vr": "OB", "InlineBinary": base64.b64encode(data).decode()}


def _slide(*paths: tuple[str, dict[str, Any] | None]) -> dict[str, Any]:
    items = []
    for name, profile in paths:
        item = {"00480106": {"vr": "SH", "Value": [name]}}
        if profile is not None:
            item["00282000"] = profile
        items.append(item)
    return {"00480105": {"vr": "SQ", "Value": items}}


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"00480105": None},
        {"00480105": {"vr": "SQ"}},
        {"00480105": {"vr": "SQ", "Value": [None, 7]}},
        {"00282000": "x"},
        {"00282000": {"vr": "OB"}},
        {"00282000": {"vr": "OB", "InlineBinary": ""}},
        {"00282000": {"vr": "OB", "InlineBinary": 7, "BulkDataURI": ["u"]}},
        _slide(("1", None)),
    ],
)
def test_none_is_given(item: dict[str, Any]) -> None:
    """Metadata without a profile, or with something else in its place, give none."""
    assert icc_of(item, "") is None


@pytest.mark.parametrize("text", ["%%%", "AAA", "AAAA" * (MAX_PROFILE_BYTES // 3 + 2), "é"])
def test_an_inline_value_that_cannot_be_used(text: str) -> None:
    """What is no base64, or too large, is not taken for an absent profile, but for a broken one."""
    found = icc_of({"00282000": {"vr": "OB", "InlineBinary": text}}, "")
    assert isinstance(found, bytes)
    with pytest.raises(ColorUnavailable, match="broken"):
        color_transform(found, "srgb")


def test_inline() -> None:
    """A profile in the metadata comes back byte by byte."""
    assert icc_of(_slide(("1", _inline(_PROFILE))), "") == _PROFILE


def test_behind_a_uri() -> None:
    """A Bulk Data URI comes back as it is."""
    item = _slide(("1", {"vr": "OB", "BulkDataURI": "https://pacs.test/bulk/1"}))
    assert icc_of(item, "1") == "https://pacs.test/bulk/1"


def test_the_chosen_path() -> None:
    """Of several optical paths the one that is asked for counts; without a choice the first that has a profile."""
    item = _slide(("0", None), ("1", _inline(b"first")), ("2 ", _inline(b"second")))
    assert icc_of(item, "2") == b"second"
    assert icc_of(item, "") == b"first"
    assert icc_of(item, "0") is None
    assert icc_of(item, "3") is None


def test_at_the_top_level() -> None:
    """A profile outside of the optical paths stands in where the path has none."""
    item = _slide(("1", None)) | {"00282000": _inline(b"top")}
    assert icc_of(item, "1") == b"top"
    assert icc_of(_slide(("1", _inline(b"path"))) | {"00282000": _inline(b"top")}, "1") == b"path"


_KEYS = st.sampled_from(["00480105", "00480106", "00282000", "Value", "vr", "InlineBinary", "BulkDataURI"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _JSON, max_size=3), st.sampled_from(["", "1"]))
def test_junk(item: dict[str, Any], path: str) -> None:
    """Whatever JSON a server sends, there are bytes, a text or nothing."""
    assert isinstance(icc_of(item, path), bytes | str | None)
