"""A slide is the same after a stay in the ledger, and its arithmetic is that of the standard."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.slide import Instance, Level, Reading, Slide, SlideRef, SourceKind, SpacingFrom, safe_name

_TEXTS = st.text(max_size=12)
_SIDES = st.integers(1, 1 << 20)
_SPACINGS = st.floats(0.01, 100)
_INSTANCES = st.lists(st.builds(Instance, _TEXTS, st.integers(0, 99), st.integers(0, 99), _TEXTS), max_size=3)
_RUNS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=3)
_LEVELS = st.builds(
    Level,
    _SIDES,
    _SIDES,
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.none() | st.tuples(_SPACINGS, _SPACINGS),
    _TEXTS,
    _INSTANCES.map(tuple),
    _TEXTS,
    _RUNS.map(tuple),
    st.none() | st.tuples(*[st.integers(0, 255)] * 3),
)
_REFS = st.builds(
    SlideRef,
    st.sampled_from(get_args(SourceKind)),
    _TEXTS,
    _TEXTS,
    _TEXTS,
    _TEXTS,
    st.lists(_TEXTS, max_size=2).map(tuple),
    st.builds(Reading, _TEXTS, _TEXTS, st.sampled_from(get_args(SpacingFrom))),
)
_SLIDES = st.builds(Slide, _REFS, st.lists(_LEVELS, max_size=3).map(tuple), _TEXTS, st.lists(_TEXTS).map(tuple))


@given(_SLIDES)
def test_comes_back_from_json(slide: Slide) -> None:
    """What is written as JSON text is read as the same, hashable slide, to the last bit of a spacing."""
    found = Slide.from_json(json.loads(json.dumps(slide.to_json())))
    assert found == slide
    assert hash(found) == hash(slide)


@given(_LEVELS)
def test_tiles_cover_the_matrix_and_no_more(level: Level) -> None:
    """Columns and rows reach over the matrix by less than one tile."""
    assert 0 <= level.columns * level.frame_width_px - level.width_px < level.frame_width_px
    assert 0 <= level.rows * level.frame_height_px - level.height_px < level.frame_height_px


@pytest.mark.parametrize("text", ["", "..", "___", "../../etc/passwd", "Müller, Jürgen", "a\0b", "C:\\x", "n" * 300])
def test_names_are_safe(text: str) -> None:
    """Whatever a slide is called, its name is no path, not hidden, not empty, and of a length every system takes."""
    name = safe_name(text)
    assert name
    assert len(name) <= 100
    assert not set(name) & set("/\\:\0 ")
    assert not name.startswith(".")


def test_fine_spacing_is_the_finer_one() -> None:
    """Levels are compared by their finer axis; unknown stays unknown."""
    assert Level(1, 1, 1, 1, (0.5, 0.25), "RGB", ()).fine_spacing_um == 0.25
    assert Level(1, 1, 1, 1, None, "RGB", ()).fine_spacing_um is None
