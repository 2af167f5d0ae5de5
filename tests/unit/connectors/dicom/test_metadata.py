"""A slide is picked out of whatever a series holds; rows of facts/dicom.md section 5 are named where they apply."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.attributes import value
from connectors.dicom.metadata import frame_count, kinds_of, select_slide
from models.domain.errors import NotASlide, SeriesNotFound, SlidewireError, SpacingContradictory
from models.domain.slide import Reading
from tests.unit.connectors.dicom.instances import Json, having, instance, measures, without


def _uids(items: tuple[Json, ...]) -> list[str]:
    return [value(item, "00080018") for item in items]


def test_an_empty_series() -> None:
    """A server that knows nothing of the series answers with an empty list."""
    with pytest.raises(SeriesNotFound):
        select_slide([])


@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "THUMBNAIL", "label"])
def test_label_and_overview_are_never_selected(kind: str) -> None:
    """Rows 24: two labels or a tiled overview beside a slide change nothing, and no name selects them."""
    label = instance("1.9", 640, "ORIGINAL", "PRIMARY", kind, "NONE")
    found = select_slide([label, instance("1.1"), instance("1.8", 64, "DERIVED", "PRIMARY", kind)])
    assert _uids(found.instances) == ["1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide([label, instance("1.1")], ["1.9"])
    with pytest.raises(NotASlide):
        select_slide([label])


def test_other_objects_beside_a_slide_are_skipped() -> None:
    """Row 25: annotations in the same series are no level, also if they are asked for."""
    annotations = having(instance("1.5"), "00080016", "1.2.840.10008.5.1.4.1.1.91.1")
    assert _uids(select_slide([annotations, instance("1.1")]).instances) == ["1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide([annotations, instance("1.1")], ["1.5"])
    with pytest.raises(NotASlide, match="no whole-slide image"):
        select_slide([annotations])


def test_the_same_instance_twice_is_one() -> None:
    """Row 27: a server that lists an instance twice does not make a second level of it."""
    found = select_slide([instance("1.1"), instance("1.1"), instance("1.2", 320)])
    assert _uids(found.instances) == ["1.1", "1.2"]
    assert "1 repeated" in found.notes[0]


def test_one_bad_instance_is_dropped() -> None:
    """Row 29: an instance that lacks what is needed is passed over with a reason, its siblings are used."""
    for tag in ("00480006", "00480007", "00080008", "00280010", "00280002", "00280102"):
        found = select_slide([without(instance("1.2", 320), tag), instance("1.1")])
        assert _uids(found.instances) == ["1.1"]
        assert tag in found.notes[0]
        with pytest.raises(NotASlide, match=tag):
            select_slide([without(instance("1.2", 320), tag)])


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
        select_slide([having(instance("1.1"), tag, bad)])


def test_spacing_is_completed_for_ez_wsi() -> None:
    """Row 13: without Imaged Volume, Pixel Spacing (row, column) gives it, and a note says so."""
    item = without(instance("1.1"), "00480001", "00480002") | {"52009229": measures(0.0005, 0.00025)}
    before = copy.deepcopy(item)
    found = select_slide([item])
    [given] = found.for_ez_wsi()
    assert value(given, "00480001") == pytest.approx(0.00025 * 640)
    assert value(given, "00480002") == pytest.approx(0.0005 * 320)
    assert "Pixel Spacing" in found.notes[0]
    assert list(found.instances) == [before]  # what a result inherits is not made up
    given.clear()
    assert item == before


def test_an_ordinary_instance_is_left_alone() -> None:
    """Where everything is there and agrees, nothing is changed or noted."""
    item = instance("1.1")
    found = select_slide([item])
    assert found.instances[0] is item
    assert found.notes == ()


def test_a_contradiction_needs_a_decision() -> None:
    """Row 15: a slide of two spacings is refused unless the reading decides."""
    item = instance("1.1") | {"52009229": measures(0.001, 0.001)}
    with pytest.raises(SpacingContradictory):
        select_slide([item])
    for believe in ("imaged-volume", "pixel-spacing"):
        [note] = select_slide([item], (), Reading(spacing_from=believe)).notes  # type: ignore[arg-type]
        assert f"{believe} was believed" in note


def test_unknown_spacing_is_noted() -> None:
    """A slide that says nothing of its spacing is read all the same, and that is noted."""
    found = select_slide([without(instance("1.1"), "00480001", "52009229")])
    assert "spacing is unknown" in found.notes[0]


@pytest.mark.parametrize("uid", ["", "1.2/../1.3", "1.2?x=1", "one", "1" * 65, 7, None, [], "1.2 1.3", ".1"])
def test_what_is_no_uid_is_no_instance(uid: Any) -> None:
    """A UID becomes part of a URL: what is none is passed over, whatever else it may be."""
    found = select_slide([having(instance("1.1"), "00080018", uid), instance("1.1")])
    assert _uids(found.instances) == ["1.1"]
    assert "1 repeated or nameless" in found.notes[0]


def test_a_padded_uid_is_the_same_instance() -> None:
    """A server that pads UIDs names the same instance."""
    found = select_slide([having(instance("1.1"), "00080018", "1.1 "), instance("1.1")], ["1.1"])
    assert len(found.instances) == 1


@pytest.mark.parametrize(("said", "frames"), [(9, 9), ("9", 9), (0, 1), (-3, 1), (None, 1), ("many", 1)])
def test_frames_are_one_or_more(said: Any, frames: int) -> None:
    """An instance that does not say how many frames it has, has one."""
    assert frame_count(having(instance("1.1"), "00280008", said)) == frames


@pytest.mark.parametrize(
    "values", [["LABEL"], ["ORIGINAL\\PRIMARY\\LABEL\\NONE"], [" label "], ["A", None, 3, "Label"]]
)
def test_image_types_in_any_form(values: list[Any]) -> None:
    """An Image Type is found in capitals or not, with spaces, and in one piece."""
    assert "LABEL" in kinds_of(having(instance("1.1"), "00080008", *values))


def test_named_instances_are_taken_in_their_order() -> None:
    """Only the instances that a request names are used, each once; one that is not there is an error."""
    series = [instance("1.1"), instance("1.2", 320), instance("1.3", 192)]
    assert _uids(select_slide(series, ["1.3", "1.1", "1.3"]).instances) == ["1.3", "1.1"]
    with pytest.raises(SeriesNotFound):
        select_slide(series, ["1.1", "1.7"])


_TAGS = sorted(instance("1"))
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
    damaged = [instance("1.1") | item if isinstance(item, dict) else item for item in metadata]
    for series in (metadata, damaged, [without(instance("1.1"), "00480001"), *damaged]):
        for wanted in ((), ("1.1",)):
            try:
                found = select_slide(series, wanted)
            except SlidewireError:
                continue
            assert found.instances
