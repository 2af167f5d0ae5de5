"""Requests: contradictions are refused at once, and a request is the same after a stay in the ledger."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import RequestError, VersionUnknown
from models.domain.request import (
    DEFAULT_PATCH_PX,
    FORMAT,
    ColorProfile,
    EmbedRequest,
    Missing,
    OutputSpec,
    PatchSpec,
    TissueMethod,
)
from models.domain.slide import Reading, SpacingFrom


@pytest.mark.parametrize("side", [-1, 0, 4097])
def test_senseless_patch_is_refused(side: int) -> None:
    """A patch has a side of 1 to 4096 px."""
    with pytest.raises(RequestError, match="px"):
        PatchSpec(patch_px=side)


@pytest.mark.parametrize("stride", [-224, 0])
def test_senseless_stride_is_refused(stride: int) -> None:
    """Patches that do not advance would never end."""
    with pytest.raises(RequestError, match="stride"):
        PatchSpec(stride_px=stride)


@pytest.mark.parametrize("spacing", [0.0, -0.5, 0.009, 1000.1, float("nan"), float("inf")])
def test_senseless_spacing_is_refused(spacing: float) -> None:
    """No zero, no negative, no NaN, nothing a microscope cannot do."""
    with pytest.raises(RequestError, match="spacing"):
        PatchSpec(spacing_um=spacing)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_senseless_tissue_fraction_is_refused(fraction: float) -> None:
    """A share is 0 to 1."""
    with pytest.raises(RequestError, match="tissue"):
        PatchSpec(tissue_fraction=fraction)


def test_empty_coordinates_are_refused() -> None:
    """A list of no patches is a mistake, unlike no list."""
    with pytest.raises(RequestError, match="coordinates"):
        PatchSpec(coordinates=())
    assert PatchSpec(coordinates=None).coordinates is None


@pytest.mark.parametrize("method", ["mask", "regions"])
def test_tissue_from_a_file_needs_the_file(method: TissueMethod) -> None:
    """A mask or regions without a file, or a file that nobody would look at, are refused."""
    with pytest.raises(RequestError, match=r"--mask.*--regions"):
        PatchSpec(tissue_method=method)
    assert PatchSpec(tissue_method=method, tissue_file="tissue.png").tissue_file == "tissue.png"
    for other in ("otsu", "ez-wsi"):
        with pytest.raises(RequestError, match=r"--mask.*--regions"):
            PatchSpec(tissue_method=other, tissue_file="tissue.png")


def test_a_required_profile_needs_a_colour_space() -> None:
    """To insist on a profile that is not used is a mistake."""
    with pytest.raises(RequestError, match="--color-profile"):
        PatchSpec(color_required=True)
    assert PatchSpec(color_required=True, color_profile="srgb").color_required


def test_nothing_is_invented_or_left_out_unless_asked() -> None:
    """The default is the strictest: no interpolation, no holes, the slide's own colours."""
    spec = PatchSpec()
    assert (spec.upsample, spec.missing, spec.color_profile, spec.color_required) == (False, "error", "none", False)


def test_result_must_go_somewhere() -> None:
    """Neither folder nor PACS, or files without a folder, are refused."""
    with pytest.raises(RequestError, match="--out"):
        OutputSpec()
    for extra in ({"dicom_files": True}, {"picture": True}):
        with pytest.raises(RequestError, match="--out"):
            OutputSpec(write_back=True, **extra)


@pytest.mark.parametrize("side", [1, 4096])
def test_bounds_are_inside(side: int) -> None:
    """The least and the largest value are accepted, and the stride is the patch if none is given."""
    assert PatchSpec(patch_px=side).step_px == side
    assert PatchSpec(patch_px=side, stride_px=7).step_px == 7
    assert PatchSpec(spacing_um=0.01, tissue_fraction=0.0).step_px == DEFAULT_PATCH_PX


_TEXTS = st.text(max_size=20)
_POINTS = st.tuples(st.integers(-10, 1 << 20), st.integers(-10, 1 << 20))
_TISSUE = st.sampled_from([("otsu", ""), ("ez-wsi", ""), ("mask", "tissue.png"), ("regions", "a.geojson")])
_COLOURS = st.tuples(st.sampled_from(get_args(ColorProfile)), st.booleans())
_PATCHES = st.builds(
    lambda tissue, colour, **fields: PatchSpec(
        tissue_method=tissue[0],
        tissue_file=tissue[1],
        color_profile=colour[0],
        color_required=colour[1] and colour[0] != "none",
        **fields,
    ),
    tissue=_TISSUE,
    colour=_COLOURS,
    upsample=st.booleans(),
    missing=st.sampled_from(get_args(Missing)),
    patch_px=st.integers(1, 4096),
    stride_px=st.none() | st.integers(1, 9000),
    spacing_um=st.none() | st.floats(0.01, 1000),
    tissue_fraction=st.none() | st.floats(0, 1),
    coordinates=st.none() | st.lists(_POINTS, min_size=1, max_size=4).map(tuple),
    coordinate_space=st.sampled_from(["level-0", "instance"]),
    image_px=st.none() | st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
)
_REQUESTS = st.builds(
    EmbedRequest,
    source=_TEXTS,
    encoder=_TEXTS,
    output=st.builds(OutputSpec, st.text(min_size=1, max_size=9), st.booleans(), st.booleans(), st.booleans()),
    patches=_PATCHES,
    weights=_TEXTS,
    options=st.lists(st.tuples(_TEXTS, _TEXTS), max_size=3).map(tuple),
    instance_uids=st.lists(_TEXTS, max_size=3).map(tuple),
    notes=st.lists(_TEXTS, max_size=3).map(tuple),
    reading=st.builds(Reading, _TEXTS, _TEXTS, st.sampled_from(get_args(SpacingFrom))),
)


@given(_REQUESTS)
def test_comes_back_from_json(asked: EmbedRequest) -> None:
    """What is written as JSON text is read as the same, hashable request."""
    found = EmbedRequest.from_json(json.loads(json.dumps(asked.to_json())))
    assert found == asked
    assert hash(found) == hash(asked)


_ASKED = EmbedRequest("a/slide", "pixel-grid", OutputSpec(folder="out"))


def test_what_was_written_before_forms_had_numbers_is_of_the_first() -> None:
    """A job that waited while Slidewire was upgraded is read as it was asked."""
    old = _ASKED.to_json()
    assert old.pop("format") == FORMAT == 1
    assert EmbedRequest.from_json(old) == _ASKED


def test_a_form_of_a_newer_version_is_not_guessed_at() -> None:
    """A higher number is refused though every field is known."""
    with pytest.raises(VersionUnknown, match="newer Slidewire") as caught:
        EmbedRequest.from_json(_ASKED.to_json() | {"format": FORMAT + 1})
    assert caught.value.retryable


@pytest.mark.parametrize("part", ["", "patches", "output", "reading"])
def test_a_field_of_a_newer_version_is_not_left_out(part: str) -> None:
    """What is asked for and not known here is refused, wherever it stands; its name is not told."""
    newer = _ASKED.to_json()
    (newer[part] if part else newer)["hue"] = "blue"
    with pytest.raises(VersionUnknown) as caught:
        EmbedRequest.from_json(newer)
    assert "hue" not in caught.value.message
