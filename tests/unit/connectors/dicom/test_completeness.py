"""A slide is whole when each of its levels is, whatever the order; what it shows has one digest, and no label in it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.dicom.completeness import completeness_of, set_digest
from connectors.dicom.levels import levels_of
from connectors.dicom.metadata import select_slide
from models.domain.errors import NotASlide, SeriesNotFound
from tests.unit.connectors.dicom.instances import REF, Json, having, instance, parts_of

_FRAMES = 5  # of a level of up to 64 columns; a level has so many for each 64


def _level(number: int, columns: int, parts: int) -> list[Json]:
    """Return a level in one instance, or in the parts of a concatenation of its own."""
    whole = instance(f"1.{number}", columns)
    if parts == 1:
        return [whole]
    frames = _FRAMES * -(-columns // 64)
    sizes = [frames // parts] * (parts - 1)
    found = parts_of(whole, [*sizes, frames - sum(sizes)])
    named = [having(part, "00209161", f"2.{number}") for part in found]
    return [having(part, "00080018", f"3.{number}.{place}") for place, part in enumerate(named)]


_SLIDES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(
    lambda parts: [_level(number, 640 >> number, count) for number, count in enumerate(parts)]
)


def _flat(levels: list[list[Json]]) -> list[Json]:
    return [item for level in levels for item in level]


@settings(max_examples=25)
@given(_SLIDES, st.data())
def test_any_instance_that_is_lost(levels: list[list[Json]], data: st.DataObject) -> None:
    """Without a part its level is named; without a whole level there is a whole slide, but another one."""
    items = _flat(levels)
    complete = completeness_of(data.draw(st.permutations(items)))
    assert complete.whole
    assert complete.instances == len(items)
    assert complete.set_sha256 == completeness_of([*items, items[0]]).set_sha256
    index = data.draw(st.integers(0, len(levels) - 1))
    lost = data.draw(st.sampled_from(levels[index]))
    rest = [item for item in items if item is not lost]
    if not rest:
        with pytest.raises(SeriesNotFound):
            completeness_of(rest)
        return
    found = completeness_of(data.draw(st.permutations(rest)))
    assert found.set_sha256 != complete.set_sha256
    assert found.instances == len(rest)
    if len(levels[index]) == 1:
        assert found.whole
        assert found.slide is not None
        assert len(found.slide.levels) == len(levels) - 1
    else:
        assert not found.whole
        [missing] = found.missing
        assert missing.startswith(f"level {index} ({640 >> index} x 320 px): ")
        assert f"of the {len(levels[index])} parts of its concatenation" in missing


def test_the_digest_is_that_of_the_slide_that_is_read() -> None:
    """Opened as a source opens it, at another place and under another name, the slide has the same digest."""
    items = _flat([_level(0, 640, 3), _level(1, 320, 1)])
    opened = levels_of(select_slide(items), REF, "another name").slide
    assert set_digest(opened) == completeness_of(items).set_sha256


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda items: [*items, instance("9.1", 640, "ORIGINAL", "PRIMARY", "LABEL")], True),
        (lambda items: [*items, instance("9.1", 640, "DERIVED", "PRIMARY", "THUMBNAIL")], True),
        (lambda items: [having(item, "00080012", "20260101") for item in items], True),
        (lambda items: [*items, instance("9.1", 160)], False),
        (lambda items: [having(items[0], "00080018", "9.1"), *items[1:]], False),
        (lambda items: [having(items[0], "00280004", "RGB"), *items[1:]], False),
        (lambda items: [having(items[0], "00480001", 0.64), *items[1:]], None),
    ],
    ids=["label", "thumbnail", "date", "level", "uid", "pixels", "spacing"],
)
def test_what_makes_another_set(change: Any, *, same: bool | None) -> None:
    """A late level or another instance does; a label, or a date, does not; two spacings are refused."""
    items = _flat([_level(0, 640, 1), _level(1, 320, 2)])
    if same is None:
        with pytest.raises(Exception, match="contradicts itself"):
            completeness_of(change(items))
    else:
        assert (completeness_of(items).set_sha256 == completeness_of(change(items)).set_sha256) is same


def test_only_a_label_so_far() -> None:
    """It is a slide of which no level has come: not whole, and no error."""
    found = completeness_of([instance("9.1", 640, "ORIGINAL", "PRIMARY", "LABEL")])
    assert not found.whole
    assert (found.set_sha256, found.instances) == ("", 1)


def test_no_slide() -> None:
    """Other objects, and rubbish, are refused."""
    with pytest.raises(NotASlide):
        completeness_of([having(instance("1.1"), "00080016", "1.2.840.10008.5.1.4.1.1.2")])
    with pytest.raises(NotASlide):
        completeness_of(["rubbish", None, {}])
    with pytest.raises(SeriesNotFound):
        completeness_of([])


@pytest.mark.parametrize("said", [1 << 31, 10**30, -1, "many"])
def test_senseless_numbers_of_parts(said: Any) -> None:
    """They cost nothing: parts that cannot be are missing, and not counted up."""
    found = completeness_of([having(item, "00209163", said) for item in _level(0, 640, 2)])
    assert found.whole is (not isinstance(said, int) or said < 0)
    assert sum(map(len, found.missing)) < 300
