"""A slide is picked out of whatever a series holds; rows of facts/dicom.md section 5 are named where they apply."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.metadata import WHOLE_SLIDE_IMAGE, select_slide, slide_of, value, values_of
from models.domain.errors import NotASlide, SeriesNotFound, SlidewireError
from models.domain.slide import SlideRef

_REF = SlideRef("dicomweb", "https://pacs.test", "pacs", "1.2", "1.3")


def _instance(uid: str, columns: int = 640, *kind: str, **more: Any) -> dict[str, Any]:
    """Return the DICOM JSON of one level of 8-bit colour, 0.5 um/px at 640 columns; `more` by keyword of four."""
    plain = {
        "00080016": ("UI", WHOLE_SLIDE_IMAGE),
        "00080018": ("UI", uid),
        "00280002": ("US", 3),
        "00280010": ("US", 64),
        "00280011": ("US", 64),
        "00280100": ("US", 8),
        "00280102": ("US", 7),
        "00280008": ("IS", (columns // 64) * 5),
        "00480001": ("FL", 0.32),
        "00480002": ("FL", 0.16),
        "00480006": ("UL", columns),
        "00480007": ("UL", 320),
    }
    item: dict[str, Any] = {tag: {"vr": vr, "Value": [one]} for tag, (vr, one) in plain.items()}
    item["00080008"] = {"vr": "CS", "Value": list(kind) or ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]}
    return item | more


def _without(item: dict[str, Any], *tags: str) -> dict[str, Any]:
    return {tag: element for tag, element in item.items() if tag not in tags}


def _with(item: dict[str, Any], tag: str, *values: Any) -> dict[str, Any]:
    return item | {tag: {"vr": "UN", "Value": list(values)}}


def _uids(items: tuple[dict[str, Any], ...]) -> list[str]:
    return [value(item, "00080018") for item in items]


def test_an_empty_series() -> None:
    """A server that knows nothing of the series answers with an empty list."""
    with pytest.raises(SeriesNotFound):
        select_slide([])


@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "THUMBNAIL", "label"])
def test_label_and_overview_are_never_selected(kind: str) -> None:
    """Rows 24: two labels or a tiled overview beside a slide change nothing, and no name selects them."""
    label = _instance("1.9", 640, "ORIGINAL", "PRIMARY", kind, "NONE")
    found = select_slide([label, _instance("1.1"), _instance("1.8", 64, "DERIVED", "PRIMARY", kind)])
    assert _uids(found.instances) == ["1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide([label, _instance("1.1")], ["1.9"])
    with pytest.raises(NotASlide):
        select_slide([label])


def test_other_objects_beside_a_slide_are_skipped() -> None:
    """Row 25: annotations in the same series are no level, also if they are asked for."""
    annotations = _with(_instance("1.5"), "00080016", "1.2.840.10008.5.1.4.1.1.91.1")
    assert _uids(select_slide([annotations, _instance("1.1")]).instances) == ["1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide([annotations, _instance("1.1")], ["1.5"])
    with pytest.raises(NotASlide, match="no whole-slide image"):
        select_slide([annotations])


def test_the_same_instance_twice_is_one() -> None:
    """Row 27: a server that lists an instance twice does not make a second level of it."""
    found = select_slide([_instance("1.1"), _instance("1.1"), _instance("1.2", 320)])
    assert _uids(found.instances) == ["1.1", "1.2"]
    assert "1 repeated" in found.notes[0]


def test_one_bad_instance_is_dropped() -> None:
    """Row 29: an instance that lacks what is needed is passed over with a reason, its siblings are used."""
    for tag in ("00480006", "00480007", "00080008", "00280010", "00280002", "00280102"):
        found = select_slide([_without(_instance("1.2", 320), tag), _instance("1.1")])
        assert _uids(found.instances) == ["1.1"]
        assert tag in found.notes[0]
        with pytest.raises(NotASlide, match=tag):
            select_slide([_without(_instance("1.2", 320), tag)])


@pytest.mark.parametrize(
    ("tag", "bad"),
    [
        ("00480006", 0),
        ("00480006", 1 << 31),
        ("00480007", -5),
        ("00480007", float("inf")),
        ("00480007", float("nan")),
        ("00280010", 0),
        ("00280011", "64 or so"),
        ("00280011", [64]),
        ("00280008", 1 << 31),
        ("00280100", 16),
        ("00280002", 1),
    ],
)
def test_senseless_numbers_are_dropped(tag: str, bad: Any) -> None:
    """Row 21: sizes of zero or of 2^31, deeper samples and greyscale are refused before anything is allocated."""
    with pytest.raises(NotASlide):
        select_slide([_with(_instance("1.1"), tag, bad)])


def test_spacing_is_taken_from_pixel_spacing() -> None:
    """Row 13: without Imaged Volume, Pixel Spacing (row, column) gives it, and a note says so."""
    measures = {"00289110": {"vr": "SQ", "Value": [{"00280030": {"vr": "DS", "Value": [0.0005, 0.00025]}}]}}
    item = _with(_without(_instance("1.1"), "00480001", "00480002"), "52009229", measures)
    before = copy.deepcopy(item)
    found = select_slide([item])
    assert value(found.instances[0], "00480001") == pytest.approx(0.00025 * 640)
    assert value(found.instances[0], "00480002") == pytest.approx(0.0005 * 320)
    assert "Pixel Spacing" in found.notes[0]
    assert item == before


def test_spacing_without_pixel_measures() -> None:
    """Row 14: Imaged Volume alone is enough, and nothing is changed or noted."""
    item = _instance("1.1")
    assert select_slide([item]).instances == (item,)
    assert select_slide([item]).notes == ()


@pytest.mark.parametrize("spacing", [[], [0.5], [0, 0], [-1, 1], ["a", "b"], [None, None], None])
def test_unknown_spacing_is_noted(spacing: Any) -> None:
    """A slide that says nothing usable about its spacing is read all the same, and that is noted."""
    measures = {"00289110": {"vr": "SQ", "Value": [{"00280030": {"vr": "DS", "Value": spacing}}]}}
    item = _with(_without(_instance("1.1"), "00480001", "00480002"), "52009229", measures)
    found = select_slide([item])
    assert "spacing is unknown" in found.notes[0]
    assert value(found.instances[0], "00480001") is None


def test_named_instances_are_taken_in_their_order() -> None:
    """Only the instances that a request names are used, each once; one that is not there is an error."""
    series = [_instance("1.1"), _instance("1.2", 320), _instance("1.3", 192)]
    assert _uids(select_slide(series, ["1.3", "1.1", "1.3"]).instances) == ["1.3", "1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide(series, ["1.1", "1.7"])


_TAGS = sorted(_instance("1"))
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*_TAGS, "Value", "vr"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_ELEMENTS = _JSON | st.fixed_dictionaries({"vr": st.just("UN"), "Value": st.lists(_JSON, max_size=2)})


@given(st.lists(_JSON | st.dictionaries(st.sampled_from([*_TAGS, "52009229"]), _ELEMENTS), max_size=4))
def test_junk_is_an_error_of_ours(metadata: list[Any]) -> None:
    """Whatever JSON a server sends, alone or in the place of a slide's attributes, nothing foreign is raised."""
    damaged = [_instance("1.1") | item if isinstance(item, dict) else item for item in metadata]
    for series in (metadata, damaged, [_without(_instance("1.1"), "00480001"), *damaged]):
        for wanted in ((), ("1.1",)):
            try:
                found = select_slide(series, wanted)
            except SlidewireError:
                continue
            assert found.instances


@given(_JSON)
def test_values_of_junk(element: Any) -> None:
    """Reading an attribute never raises and always gives a list."""
    assert isinstance(values_of({"00080018": element}, "00080018"), list)


@dataclass
class _Spacing:
    column_spacing_mm: float = 0.0005
    row_spacing_mm: float = 0.00025
    is_defined: bool = True


@dataclass
class _Part:
    """An instance as EZ-WSI holds it."""

    sop_instance_uid: str
    frame_count: int

    @property
    def dicom_object(self) -> "_Part":
        """Itself."""
        return self


@dataclass
class _EzLevel:
    """A level as EZ-WSI holds it: 5 x 3 frames."""

    parts: dict[int, int] = field(default_factory=lambda: {0: 15})
    width: int = 300
    height: int = 180
    frame_width: int = 64
    frame_height: int = 64
    tiled_full: bool = True
    photometric_interpretation: str = "YBR_FULL_422"
    pixel_spacing: _Spacing = field(default_factory=_Spacing)

    @property
    def instances(self) -> dict[int, _Part]:
        """By frame offset."""
        return {offset: _Part(f"1.2.{offset}", count) for offset, count in self.parts.items()}


def _problem(level: _EzLevel) -> str:
    return slide_of([level], _REF, "slide", ()).levels[0].problem


def test_no_level_is_no_slide() -> None:
    """An empty pyramid is an error."""
    with pytest.raises(NotASlide):
        slide_of([], _REF, "slide", ())


@pytest.mark.parametrize(
    ("parts", "tiled_full", "problem"),
    [
        ({0: 14}, True, "14 of 15 frames"),  # row 20
        ({0: 0}, True, "0 of 15 frames"),
        ({0: 5, 10: 5}, True, "10 of 15 frames"),  # row 6
        ({5: 10}, True, "10 of 15 frames"),
        ({0: 10, 8: 5}, True, "15 of 15 frames, or a part"),
        ({0: 30}, True, "focal planes or optical paths"),  # rows 11 and 12
        ({0: 9}, False, "TILED_SPARSE"),  # row 1
        ({0: 15, 15: 1}, True, "16 of 15"),
    ],
)
def test_levels_that_cannot_be_read_say_why(parts: dict[int, int], tiled_full: bool, problem: str) -> None:  # noqa: FBT001
    """A level whose frames cannot be found by row and column has a problem, in words."""
    assert problem in _problem(_EzLevel(parts, tiled_full=tiled_full))


@pytest.mark.parametrize(("parts", "tiled_full"), [({0: 15}, True), ({0: 10, 10: 5}, True), ({0: 15}, False)])
def test_whole_levels_have_no_problem(parts: dict[int, int], tiled_full: bool) -> None:  # noqa: FBT001
    """Rows 2 and 5: a full grid in one part or several, with or without the word TILED_FULL."""
    assert _problem(_EzLevel(parts, tiled_full=tiled_full)) == ""


def test_levels_come_largest_first_with_their_spacing() -> None:
    """Levels are sorted by size; spacing is (x, y) in micrometres, or None where EZ-WSI knows none."""
    small = _EzLevel({0: 1}, 60, 40, pixel_spacing=_Spacing(is_defined=False))
    slide = slide_of([small, _EzLevel()], _REF, "slide", ("noted",))
    assert [level.width_px for level in slide.levels] == [300, 60]
    assert [level.spacing_um for level in slide.levels] == [(0.5, 0.25), None]
    assert (slide.notes, slide.levels[0].photometric) == (("noted",), "YBR_FULL_422")


def test_digests_tell_instances_apart() -> None:
    """Another UID, size or frame count is another digest; the same instance has the same."""
    levels = [_EzLevel(), _EzLevel(), _EzLevel({1: 15}), _EzLevel({0: 14}), _EzLevel(width=299)]
    digests = [slide_of([level], _REF, "slide", ()).levels[0].instances[0].digest for level in levels]
    assert digests[0] == digests[1]
    assert len(set(digests)) == len(digests) - 1
