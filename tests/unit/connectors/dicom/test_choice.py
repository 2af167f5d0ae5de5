"""Between optical paths and focal planes somebody chooses: the slide, the request, or nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.choice import Choices, choose
from models.domain.errors import SlideAmbiguous
from models.domain.slide import Reading

_TWO = Choices((("HE", 0.0), ("DF", 0.0)), {"HE": frozenset({"brightfield", "one"}), "DF": frozenset({"one"})})
_DEEP = Choices((("1", 3.0), ("1", 0.0), ("1", 1.5)))
_FLAT = Choices((("1", 1.5),))


@pytest.mark.parametrize(
    ("levels", "reading", "words"),
    [
        ([_TWO], Reading(), r"^The slide has 2 optical paths: choose HE, DF with --optical-path\.$"),
        ([_FLAT, _TWO], Reading(), "choose HE, DF"),
        ([_TWO], Reading(optical_path="IF"), r"^There is no optical path IF: the slide has HE, DF\.$"),
        ([_FLAT], Reading(optical_path="IF"), "the slide has 1"),
        ([_TWO], Reading(optical_path="one"), "2 optical paths are called one: choose HE, DF"),
        ([_DEEP], Reading(), r"^The slide has 3 focal planes: choose with --focal-plane 1 to 3, or middle\.$"),
        ([_DEEP, _FLAT], Reading(focal_plane="4"), "no focal plane 4: the slide has 1 to 3"),
        ([_FLAT], Reading(focal_plane="2"), "no focal plane 2: the slide has 1 to 1"),
        ([_DEEP], Reading(focal_plane="٣"), "no focal plane"),
    ],
)
def test_what_nobody_chose_is_refused(levels: list[Choices], reading: Reading, words: str) -> None:
    """Rows 11 and 12: several and no choice, or a choice that is not there, name what there is."""
    with pytest.raises(SlideAmbiguous, match=words):
        choose(levels, reading, [])


@pytest.mark.parametrize(("wanted", "path"), [("HE", "HE"), ("DF", "DF"), ("brightfield", "HE")])
def test_a_path_by_identifier_or_name(wanted: str, path: str) -> None:
    """An identifier counts, and a name that only one path has; the note says what was chosen of what."""
    notes: list[str] = []
    assert choose([_TWO], Reading(optical_path=wanted), notes) == ((path, 0.0),)
    assert notes == [f"optical path {path} was read, of HE, DF"]


def test_an_identifier_before_a_name() -> None:
    """A path is its identifier's, also if another is called so."""
    level = Choices((("A", 0.0), ("B", 0.0)), {"A": frozenset({"B"})})
    assert choose([level], Reading(optical_path="B"), []) == (("B", 0.0),)


@pytest.mark.parametrize(("wanted", "height"), [("1", 0.0), ("2", 1.5), ("3", 3.0), ("middle", 1.5)])
def test_planes_count_from_the_slides_surface(wanted: str, height: float) -> None:
    """Plane 1 is the lowest, in whatever order the frames come; a level of one plane shows that."""
    notes: list[str] = []
    assert choose([_FLAT, _DEEP], Reading(focal_plane=wanted), notes) == (("1", 1.5), ("1", height))
    assert notes == [f"focal plane {int(height / 1.5) + 1} of 3 was read"]


def test_the_middle_of_an_even_number() -> None:
    """Of two middle planes the lower is taken."""
    level = Choices(tuple(("1", float(height)) for height in range(4)))
    assert choose([level], Reading(focal_plane="middle"), []) == (("1", 1.0),)


def test_a_level_that_lacks_the_choice() -> None:
    """A level without the path or plane that others have is none to read; it stops nobody."""
    assert choose([_TWO, _FLAT], Reading(optical_path="DF"), []) == (("DF", 0.0), None)
    lower = Choices((("1", 0.0), ("1", 1.0)))
    assert choose([_DEEP, lower], Reading(focal_plane="3"), []) == (("1", 3.0), None)


def test_nothing_to_choose_is_not_noted() -> None:
    """An ordinary slide is read without a word, also if its only path is asked for."""
    notes: list[str] = []
    assert choose([], Reading(optical_path="x"), notes) == ()
    assert choose([_FLAT], Reading(optical_path="1", focal_plane="1"), notes) == (("1", 1.5),)
    assert notes == []


_NAME = st.text(max_size=60)


@given(st.lists(st.tuples(_NAME, st.floats(0, 9)), min_size=1, max_size=40, unique=True), _NAME, _NAME)
def test_messages_are_one_line(views: list[tuple[str, float]], path: str, plane: str) -> None:
    """Whatever a slide calls its paths, and whatever is asked for: a view of the slide, or one short line."""
    said = ""
    try:
        [view] = choose([Choices(tuple(views))], Reading(optical_path=path, focal_plane=plane), [])
    except SlideAmbiguous as exc:
        said = str(exc)
    assert said or view in views
    assert said.isprintable()
    assert len(said) < 600
