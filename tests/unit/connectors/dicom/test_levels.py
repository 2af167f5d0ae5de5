"""Instances become levels: joined, ranked, with their faults in words; and as EZ-WSI has them where it is right."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.levels import OpenedLevels, levels_of
from connectors.dicom.metadata import select_slide
from connectors.sources.dicom_files import DicomFilesSource
from models.domain.errors import NotASlide, SlideAmbiguous, SlidewireError
from models.domain.slide import Level, Reading, Slide, SlideRef
from tests.services.slides import SlideOnDisk
from tests.unit.connectors.dicom.instances import (
    REF,
    Json,
    element,
    having,
    instance,
    measures,
    parts_of,
    placed,
    sequence,
    without,
)

_COLUMNS, _TILES = 5, 25  # of an instance 320 px wide


def _opened(*items: Json, reading: Reading | None = None) -> OpenedLevels:
    wanted = reading or Reading()
    ref = SlideRef("dicomweb", REF.location, "pacs", "1.2", "1.3", reading=wanted)
    return levels_of(select_slide(items, (), wanted), ref, "slide")


def _slide(*items: Json) -> Slide:
    return _opened(*items).slide


def _level(*items: Json) -> Level:
    [level] = _slide(*items).levels
    return level


def _small(uid: str = "1.1", *kind: str) -> Json:
    return instance(uid, 320, *kind)


def _sparse(tiles: list[int], uid: str = "1.1") -> Json:
    return placed(_small(uid), [(tile, "", 0.0) for tile in tiles], _COLUMNS)


def test_no_instance_is_no_slide() -> None:
    """Without instances there is no slide."""
    with pytest.raises(NotASlide):
        levels_of(select_slide([_small()]).__class__((), ()), REF, "slide")


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([having(_small(), "00280008", 26)], "beyond its 25 places"),
        ([without(having(_small(), "00280008", 9), "00209311")], "do not say where they lie"),
        ([having(_small(), "00480303", 1 << 40)], "focal planes"),
        ([having(part, "00209228", 0) for part in parts_of(_small(), [12, 13])], "several frames hold the same tile"),
    ],
)
def test_levels_that_cannot_be_read_say_why(items: list[Json], problem: str) -> None:
    """A level whose frames cannot be placed has a problem, in words, and no tile can be had of it."""
    opened = _opened(*items)
    [level] = opened.slide.levels
    assert problem in level.problem
    assert opened.tilings[0].uids == ()
    assert [part.uid for part in level.instances] == [item["00080018"]["Value"][0] for item in items]


def test_gaps_are_faults_or_glass() -> None:
    """Rows 1 and 6: what a sparse level leaves out is glass; what a full one lacks, or a lost part held, is not."""
    sparse = _level(_sparse([0, 1, 2, 24]))
    assert (sparse.absent, sparse.background, sparse.problem) == (((3, 24),), (255, 255, 255), "")
    short = _level(having(_small(), "00280008", 20))
    assert (short.absent, short.background) == (((20, 25),), None)
    part = having(having(_sparse([0, 1]), "00209161", "1.2.3"), "00209163", 2)
    assert _level(part).background is None
    assert _level(having(part, "00209163", 1)).background == (255, 255, 255)
    assert _level(without(part, "00209163")).background is None
    assert _level(_sparse(list(range(_TILES)))).background is None, "nothing is absent"


def _srgb(luminance: float) -> int:
    """Return the sRGB sample of a grey (IEC 61966-2-1)."""
    return round((1.055 * luminance ** (1 / 2.4) - 0.055 if luminance > 0.0031308 else 12.92 * luminance) * 255)


@pytest.mark.parametrize("lightness", [100.0, 93.5, 50.0, 9.0])
@pytest.mark.parametrize("nested", [False, True])
def test_a_recommended_grey(lightness: float, nested: bool) -> None:  # noqa: FBT001 - parameter
    """A recommended absent pixel is CIELab in 16 bits (PS3.3 C.10.7.1.1), of the slide or of its optical path."""
    lab = {"00480015": element("US", round(lightness / 100 * 65535), 0x8080, 0x8080)}
    item = _sparse([3]) | ({"00480105": sequence(lab)} if nested else lab)
    grey = _srgb(((lightness + 16) / 116) ** 3)
    assert _level(item).background == (grey, grey, grey)


@pytest.mark.parametrize("lab", [[65535, 0, 0], [1, 2], ["a", 2, 3], [65536, 0, 0], [-1, 0x8080, 0x8080]])
def test_a_recommended_colour_that_is_none(lab: list[Any]) -> None:
    """[65535, 0, 0] is often meant for white and is no colour a screen can show: white, and a note."""
    found = _slide(having(_sparse([3]), "00480015", *lab))
    assert found.levels[0].background == (255, 255, 255)
    assert found.notes == ("absent tiles are white: the colour that the slide recommends for them is none",)


def test_levels_come_largest_first() -> None:
    """Levels are sorted by size, the wider of two alike first, in whatever order the server lists them."""
    high = without(having(having(_small("1.3"), "00480006", 160), "00480007", 640), "52009229")
    items = [_small("1.1"), instance("1.2", 640), high]
    items[2]["00280008"] = element("IS", 30)
    expected = [(640, 320), (160, 640), (320, 320)]
    for order in (items, items[::-1]):
        assert [(level.width_px, level.height_px) for level in _slide(*order).levels] == expected


def _dated(uid: str, *kind: str, **dates: str) -> Json:
    tags = {"acquired": "0008002A", "content": "00080023", "created": "00080012"}
    return _small(uid, *kind) | {tags[name]: element("DA", date) for name, date in dates.items()}


_DERIVED = ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")


@pytest.mark.parametrize(
    ("items", "taken"),
    [
        ([_dated("1.1", *_DERIVED, acquired="2026"), _dated("1.2", acquired="2025")], "1.2"),
        ([_dated("1.1", acquired="2025"), _dated("1.2", acquired="2026")], "1.2"),
        ([_dated("1.1", acquired="2025", content="2027"), _dated("1.2", acquired="2026", content="2026")], "1.2"),
        ([_dated("1.1", acquired="2025", content="2026"), _dated("1.2", acquired="2025", content="2027")], "1.2"),
        ([_dated("1.1", created="2026"), _dated("1.2")], "1.1"),
        ([_dated("1.1"), _dated("1.2")], "1.2"),
        ([having(_dated("1.2", acquired="2027"), "00280008", 24), _dated("1.1", *_DERIVED)], "1.1"),
        ([having(_dated("1.2", acquired="2027"), "00280008", 26), _dated("1.1", *_DERIVED)], "1.1"),
    ],
)
def test_a_level_that_is_there_twice(items: list[Json], taken: str) -> None:
    """Row 28: whole before not, ORIGINAL before DERIVED, then by dates, then by UID; listing order is nothing."""
    for order in (items, items[::-1]):
        slide = _slide(*order)
        assert [part.uid for level in slide.levels for part in level.instances] == [taken]
        [note] = slide.notes
        assert "twice" in note or "passed over: it has frames beyond its 25 places" in note


def test_planes_in_instances_of_their_own() -> None:
    """Instances of one size at several heights are one level with several planes, not one level twice."""
    origins = [{"00480008": sequence({"0040074A": element("DS", height)})} for height in (0, 2, 4)]
    items = [_small(f"1.{place}") | origin for place, origin in enumerate(origins)]
    with pytest.raises(SlideAmbiguous, match="3 focal planes"):
        _opened(*items)
    opened = _opened(*items, reading=Reading(focal_plane="3"))
    assert opened.tilings[0].uids == ("1.2",)
    assert opened.slide.notes == ("focal plane 3 of 3 was read",)


def test_a_path_may_be_named_by_its_light() -> None:
    """An optical path is found by the code of its illumination, too."""
    light = {"00220016": sequence({"00080100": element("SH", "111741"), "00080104": element("LO", "Transmission")})}
    paths = sequence({"00480106": element("SH", "A")} | light, {"00480106": element("SH", "B")})
    item = having(_small(), "00280008", 50) | {"00480105": paths}
    for wanted in ("A", "111741", "Transmission"):
        assert _opened(item, reading=Reading(optical_path=wanted)).tilings[0].number[0] == 1
    other = _opened(item, reading=Reading(optical_path="B")).tilings[0]
    assert (other.number[0], other.optical_path) == (26, "B")


def test_a_path_without_a_name_goes_by_its_place() -> None:
    """A path that the slide does not name is chosen by number, and has no identifier to look it up by."""
    paths = sequence({"00480106": element("SH", "A")}, {"00480106": element("SH", "A")})
    item = having(_small(), "00280008", 50) | {"00480105": paths}
    found = _opened(item, reading=Reading(optical_path="2")).tilings[0]
    assert (found.number[0], found.optical_path) == (26, "")


def test_a_level_without_the_chosen_path() -> None:
    """A level that lacks what was chosen cannot be read, and says so; the others can."""
    paths = sequence({"00480106": element("SH", "A")}, {"00480106": element("SH", "B")})
    below = without(_small("1.2"), "00480105") | {"00480105": sequence({"00480106": element("SH", "A")})}
    item = having(instance("1.1"), "00280008", 100) | {"00480105": paths}
    found = _opened(item, below, reading=Reading(optical_path="B")).slide.levels
    assert [level.problem for level in found] == [
        "",
        "it does not hold the optical path or focal plane that was chosen",
    ]


def test_nameless_parts_are_joined() -> None:
    """Row 5: parts without a common UID are joined by their size, and stay apart from an instance that is none."""
    parts = [without(part, "00209161") for part in parts_of(_small(), [10, 15])]
    level = _level(parts[1], parts[0])
    assert [(part.uid, part.frame_offset, part.frame_count) for part in level.instances] == [
        ("1.2.3.1", 0, 10),
        ("1.2.3.2", 10, 15),
    ]
    assert [part.uid for part in _level(parts[0], _small("1.9")).instances] == ["1.9"]


_CHANGES: dict[str, Callable[[Json], Json]] = {
    "uid": lambda item: having(item, "00080018", "1.7"),
    "width": lambda item: having(item, "00480006", 319),
    "height": lambda item: having(item, "00480007", 319),
    "tile width": lambda item: having(having(item, "00280011", 65), "00280010", 64),
    "tile height": lambda item: having(item, "00280010", 63),
    "frames": lambda item: having(item, "00280008", 24),
    "too many frames": lambda item: having(item, "00280008", 26),
    "offset": lambda item: having(having(item, "00280008", 24), "00209228", 1),
    "spacing": lambda item: having(item, "00480001", 0.321),
    "no spacing": lambda item: without(item, "00480001", "00480002", "52009229"),
    "photometric": lambda item: having(item, "00280004", "RGB"),
    "sparse": lambda item: placed(item, [(tile, "", 0.0) for tile in range(24)], _COLUMNS),
    "other order": lambda item: placed(item, [(tile, "", 0.0) for tile in (*range(22), 23, 22)], _COLUMNS),
    "glass": lambda item: having(
        placed(item, [(tile, "", 0.0) for tile in range(24)], _COLUMNS), "00480015", 60000, 0x8080, 0x8080
    ),
}


def test_digests_tell_instances_apart() -> None:
    """Whatever decides what an instance shows changes its digest; whatever does not, does not."""
    digests = {name: _level(change(_small())).instances[0].digest for name, change in _CHANGES.items()}
    digests["plain"] = _level(_small()).instances[0].digest
    assert len(set(digests.values())) == len(digests)
    indifferent = [
        copy.deepcopy(_small()),
        having(_small(), "00100010", {"Alphabetic": "Someone^Else"}),
        having(_small(), "00080012", "20270101"),
        dict(reversed(_small().items())),
        having(_small(), "00280008", "25"),
        having(_small(), "00480006", 320.0),
    ]
    assert {_level(item).instances[0].digest for item in indifferent} == {digests["plain"]}


@pytest.mark.parametrize("path", ["A", "B"])
def test_digests_tell_choices_apart(path: str) -> None:
    """Another optical path of the same instance is another digest."""
    paths = sequence({"00480106": element("SH", "A")}, {"00480106": element("SH", "B")})
    item = having(_small(), "00280008", 50) | {"00480105": paths}
    found = {one: _opened(item, reading=Reading(optical_path=one)).slide.levels[0].instances[0].digest for one in "AB"}
    assert found[path] != found["B" if path == "A" else "A"]


_WHOLE = having(_small(), "00480302", 1) | {
    "00480105": sequence({"00480106": element("SH", "1"), "00480015": element("US", 1, 2, 3)}),
    "00480008": sequence({"0040074A": element("DS", 1.0)}),
    "52009229": sequence(
        {
            "00289110": sequence({"00280030": element("DS", 0.0005, 0.001), "00180088": element("DS", 0.001)}),
            "0048021A": sequence({"0040074A": element("DS", 0.5)}),
        }
    ),
}
_BASES = [_WHOLE, _sparse(list(range(9))) | without(_WHOLE, "00209311", "00280008"), *parts_of(_WHOLE, [10, 15])]
_TAGS = sorted({tag for base in _BASES for tag in base} | {"00480303", "00480015", "00209163"})
_NESTED = ["0048021A", "0048021E", "0048021F", "0040074A", "00480207", "00480106", "00289110", "00280030", "00180088"]
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([0, -1, 1, 2, 3, 24, 25, 26, 1 << 24, 1 << 31, 1 << 62, 10**400, float("nan"), "1", "TILED_FULL"])
)  # fmt: skip
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*_NESTED, "Value", "vr"]), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_NESTED), st.fixed_dictionaries({"Value": st.lists(inner, max_size=3)}), max_size=4
        )
    ),
    max_leaves=12,
)
_ELEMENTS = _JSON | st.fixed_dictionaries({"vr": st.just("UN"), "Value": st.lists(_JSON, max_size=3)})
_DAMAGE = st.dictionaries(st.sampled_from(_TAGS), _ELEMENTS, max_size=5)
_READINGS = st.builds(
    Reading,
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(["", "1", "middle"]),
    st.sampled_from(["imaged-volume", "pixel-spacing", ""]),
)


@given(st.lists(st.tuples(st.sampled_from(_BASES), _DAMAGE), min_size=1, max_size=4), _READINGS)
def test_damage_is_an_error_of_ours(found: list[tuple[Json, Json]], reading: Reading) -> None:
    """Whatever JSON stands in the place of a slide's attributes: levels whose tiles can be had, or a typed error."""
    items = [base | damage for base, damage in found]
    opened, said = None, ""
    try:
        opened = _opened(*items, reading=reading)
    except SlidewireError as exc:
        said = str(exc)
    assert said.isprintable()
    if opened is None:
        return
    json.dumps(opened.slide.to_json())
    for level, tiling in zip(opened.slide.levels, opened.tilings, strict=True):
        assert level.instances
        assert level.spacing_um is None or all(1e-3 <= part <= 1e4 for part in level.spacing_um)
        if level.problem:
            continue
        assert len(tiling.instance) == level.rows * level.columns
        assert tiling.absent == level.absent
        counts = {part.uid: part.frame_count for part in level.instances}
        there = [tile for tile in range(len(tiling.instance)) if tiling.instance[tile] >= 0]
        for place in tiling.places(there):
            assert all(1 <= number <= counts[place.instance_uid] for number in place.numbers)


def test_levels_are_ez_wsis(cmu_slide: SlideOnDisk) -> None:
    """An ordinary slide: sizes, tiles, spacing to the last bit, and the frame at any place, as EZ-WSI's level map."""
    source = DicomFilesSource(SlideRef("dicom-files", str(cmu_slide.folder)))
    theirs = list(source.ez_wsi.levels)
    ours = source.slide.levels
    tilings = levels_of(select_slide(list(source._headers.values())), source.slide.ref, "x").tilings
    assert len(ours) == len(theirs)
    for level, tiling, other in zip(ours, tilings, theirs, strict=True):
        size = (other.width, other.height, other.frame_width, other.frame_height)
        assert (level.width_px, level.height_px, level.frame_width_px, level.frame_height_px) == size
        spacing = other.pixel_spacing
        assert level.spacing_um == (spacing.column_spacing_mm * 1000, spacing.row_spacing_mm * 1000)
        for x in range(0, level.width_px, 97):
            for y in range(0, level.height_px, 89):
                tile = y // level.frame_height_px * level.columns + x // level.frame_width_px
                [place] = tiling.places([tile])
                instance = other.get_instance_by_point(x, y)
                number = other.get_frame_number_by_point(x, y)
                assert place.instance_uid == instance.dicom_object.sop_instance_uid
                assert place.numbers == (instance.instance_frame_number_from_wholes_slide_frame_number(number),)
    source.close()


def test_spacing_reaches_the_level() -> None:
    """What was decided about the spacing is the level's, rows and columns the right way round."""
    item = without(_small(), "00480001", "00480002") | {"52009229": measures(0.001, 0.0005)}
    assert _level(item).spacing_um == pytest.approx((0.5, 1.0))
    two = _small() | {"52009229": measures(0.1, 0.1)}
    opened = _opened(two, reading=Reading(spacing_from="pixel-spacing"))
    assert opened.slide.levels[0].spacing_um == pytest.approx((100.0, 100.0))
    assert "pixel-spacing was believed" in opened.slide.notes[0]
