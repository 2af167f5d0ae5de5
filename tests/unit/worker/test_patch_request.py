"""Path Foundation's request: every field of its contract, and every way to get one wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ez_wsi_dicomweb import patch_embedding_endpoints
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import RequestError, SlidewireError, SourceUnreadable
from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from worker.patch_request import read_patch_request

_SERIES = "https://pacs.test/dicom-web/studies/1.2/series/1.3"
_TOKEN = "ya29.s3cr3t"
_TEMPLATE = EmbedRequest("", "pixel-grid", OutputSpec("out"), PatchSpec(patch_px=128), notes=("from the template",))


def _instance(**changes: Any) -> dict[str, Any]:
    """Return an instance with all fields of the contract; None leaves one out."""
    item: dict[str, Any] = {
        "dicom_path": {"series_path": _SERIES, "instance_uids": ["1.4", "1.5"]},
        "bearer_token": _TOKEN,
        "patch_coordinates": [
            {"x_origin": 1, "y_origin": 2, "width": 224, "height": 224},
            {"x_origin": 30.0, "y_origin": 0, "width": 224.0, "height": 224},
        ],
        "extensions": {
            "require_patches_fully_in_source_image": "True",
            "image_dimensions": {"width_px": 1000, "height_px": 800},
            "transform_imaging_to_icc_profile": "NONE",
            "ez_wsi_state": {"dicom": {"level": 1}},
        },
    }
    item |= changes
    return {name: value for name, value in item.items() if value is not None}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], list[EmbedRequest]]:
    """Write a value as the request's JSON, and read it."""

    def written(data: Any) -> list[EmbedRequest]:
        path = tmp_path / "request.json"
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return read_patch_request(path, _TEMPLATE)

    return written


Read = Callable[[Any], list[EmbedRequest]]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 50_000, b"{'instances': 1}", b"9" * 5000])
def test_no_json(read: Read, data: bytes) -> None:
    """Broken text is named by file, never quoted."""
    with pytest.raises(RequestError, match=r"request\.json"):
        read(data)


@pytest.mark.parametrize("data", [None, [], {}, {"instances": []}, {"instances": {}}, {"instances": "ab"}, 7])
def test_no_instances(read: Read, data: Any) -> None:
    """JSON without a list of instances is none of these requests."""
    with pytest.raises(RequestError, match="instances"):
        read(data)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, and a folder, cannot be read."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SourceUnreadable, match=path.name):
            read_patch_request(path, _TEMPLATE)


def test_an_enormous_file(tmp_path: Path) -> None:
    """A file beyond all measure is not read into memory."""
    path = tmp_path / "request.json"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)  # sparse
    with pytest.raises(RequestError, match="256 MiB"):
        read_patch_request(path, _TEMPLATE)


def _patch(**changes: Any) -> dict[str, Any]:
    return _instance(patch_coordinates=[{"x_origin": 0, "y_origin": 0}, {"x_origin": 1, "y_origin": 2} | changes])


_WRONG = [
    (7, "no object"),
    (None, "no object"),
    (_instance(dicom_path="x"), "dicom_path"),
    (_instance(dicom_path={}), "series_path"),
    (_instance(dicom_path={"series_path": 7, "instance_uids": ["1"]}), "series_path"),
    (_instance(dicom_path={"series_path": "/etc/passwd", "instance_uids": ["1"]}), "no DICOMweb URL"),
    (_instance(dicom_path={"series_path": _SERIES}), "instance_uids"),
    (_instance(dicom_path={"series_path": _SERIES, "instance_uids": []}), "instance_uids"),
    (_instance(dicom_path={"series_path": _SERIES, "instance_uids": "1.4"}), "instance_uids"),
    (_instance(dicom_path={"series_path": _SERIES, "instance_uids": ["1.4", 5]}), "instance_uids"),
    (_instance(dicom_path=None), "needs dicom_path, or image_file_uri"),
    (_instance(dicom_path=None, image_file_uri="https://h/x.png"), "gs://"),
    (_instance(dicom_path=None, image_file_uri=["gs://b/x"]), "gs://"),
    (_instance(dicom_path=None, raw_image_bytes="AAAA"), "raw_image_bytes"),
    (_instance(patch_coordinates=None), "patch_coordinates needs at least one"),
    (_instance(patch_coordinates=[]), "patch_coordinates needs at least one"),
    (_instance(patch_coordinates={"x_origin": 0}), "patch_coordinates needs at least one"),
    (_instance(patch_coordinates=[7]), r"patch_coordinates\[0\]"),
    (_instance(patch_coordinates=[{"x_origin": 0}]), r"patch_coordinates\[0\] needs x_origin and y_origin"),
    (_patch(x_origin=1.5), r"patch_coordinates\[1\]\.x_origin is no whole number"),
    (_patch(x_origin="1"), r"patch_coordinates\[1\]\.x_origin"),
    (_patch(x_origin=True), r"patch_coordinates\[1\]\.x_origin"),
    (_patch(y_origin=None), r"patch_coordinates\[1\]\.y_origin"),
    (_patch(y_origin=float("nan")), r"patch_coordinates\[1\]\.y_origin"),
    (_patch(y_origin=float("inf")), r"patch_coordinates\[1\]\.y_origin"),
    (_patch(width=[]), r"patch_coordinates\[1\]\.width"),
    (_patch(width=64), "mixes patch sizes"),
    (_patch(height=64), "mixes patch sizes"),
    (_instance(patch_coordinates=[{"x_origin": 0, "y_origin": 0, "width": 0, "height": 0}]), "px"),
    (_instance(extensions="x"), "extensions is no object"),
    (_instance(extensions=[1]), "extensions is no object"),
    (_instance(extensions={"image_dimensions": {"width_px": 5}}), "needs width_px and height_px"),
    (_instance(extensions={"image_dimensions": [5, 5]}), "image_dimensions"),
    (_instance(extensions={"image_dimensions": {"width_px": 5, "height_px": 0}}), "1 px or more"),
    (_instance(extensions={"image_dimensions": {"width_px": 5, "height_px": 2.5}}), "height_px is no whole"),
    (_instance(extensions={"transform_imaging_to_icc_profile": "CMYK"}), "none of NONE, SRGB, ADOBERGB"),
    (_instance(extensions={"transform_imaging_to_icc_profile": 7}), "transform_imaging_to_icc_profile is none of"),
    (_instance(extensions={"transform_imaging_to_icc_profile": ["SRGB"]}), "transform_imaging_to_icc_profile"),
]


@pytest.mark.parametrize(("item", "what"), _WRONG)
def test_wrong_fields_are_named(read: Read, item: Any, what: str) -> None:
    """The message names the instance and the field, and never holds the token."""
    with pytest.raises(RequestError, match=what) as caught:
        read({"instances": [_instance(), item]})
    assert _TOKEN not in str(caught.value)
    if "px" not in what:
        assert "instances[1]" in str(caught.value)


def test_all_fields(read: Read) -> None:
    """An instance becomes a request: its series, instances, patches in their pixels, and the image's size."""
    [found] = read({"instances": [_instance()]})
    assert (found.source, found.instance_uids) == (_SERIES, ("1.4", "1.5"))
    assert found.patches == PatchSpec(
        patch_px=224,
        spacing_um=None,
        tissue_fraction=None,
        coordinates=((1, 2), (30, 0)),
        coordinate_space="instance",
        image_px=(1000, 800),
    )
    assert (found.encoder, found.output) == (_TEMPLATE.encoder, _TEMPLATE.output)


def test_the_least_there_can_be(read: Read) -> None:
    """Size, token and extensions may be left out; the patch is then the template's, and nothing is noted."""
    item = _instance(bearer_token=None, extensions=None, patch_coordinates=[{"x_origin": 5, "y_origin": 6}])
    [found] = read({"instances": [item]})
    assert found.patches.coordinates == ((5, 6),)
    assert (found.patches.patch_px, found.patches.image_px) == (128, None)
    assert found.notes == ("from the template",)


@pytest.mark.parametrize("profile", list(patch_embedding_endpoints.IccProfileNormalization))
def test_every_colour_space_of_the_client(
    read: Read, profile: patch_embedding_endpoints.IccProfileNormalization
) -> None:
    """Each value that EZ-WSI's client sends names a colour space, in any case of its letters."""
    for value in (profile.value, profile.value.lower()):
        [found] = read({"instances": [_instance(extensions={"transform_imaging_to_icc_profile": value})]})
        assert found.patches.color_profile == profile.value.lower()


@pytest.mark.parametrize("value", [None, "", "NONE"])
def test_the_commands_choices_hold(tmp_path: Path, value: str | None) -> None:
    """What the request leaves open is as the command says: colour space, missing frames, and whether to insist."""
    patches = PatchSpec(missing="mask", color_profile="srgb", color_required=True)
    path = tmp_path / "request.json"
    extensions = {"transform_imaging_to_icc_profile": value}
    path.write_text(json.dumps({"instances": [_instance(extensions=extensions)]}))
    [found] = read_patch_request(path, replace(_TEMPLATE, patches=patches))
    chosen = found.patches
    assert (chosen.missing, chosen.color_profile, chosen.color_required) == ("mask", "srgb", True)


def test_two_colour_spaces(tmp_path: Path) -> None:
    """Request and command may name the same colour space, but not two."""
    path = tmp_path / "request.json"
    extensions = {"transform_imaging_to_icc_profile": "ROMMRGB"}
    path.write_text(json.dumps({"instances": [_instance(extensions=extensions)]}))
    [found] = read_patch_request(path, replace(_TEMPLATE, patches=PatchSpec(color_profile="rommrgb")))
    assert found.patches.color_profile == "rommrgb"
    with pytest.raises(RequestError, match="contradict"):
        read_patch_request(path, replace(_TEMPLATE, patches=PatchSpec(color_profile="srgb")))


def test_an_image_in_a_bucket(read: Read) -> None:
    """image_file_uri names a source without instances; dicom_path goes before it."""
    [image, dicom] = read(
        {
            "instances": [
                _instance(dicom_path=None, image_file_uri="gs://b/f.png"),
                _instance(image_file_uri="gs://b/f.png"),
            ]
        }
    )
    assert (image.source, image.instance_uids) == ("gs://b/f.png", ())
    assert dicom.source == _SERIES


def test_instances_keep_their_order(read: Read) -> None:
    """One request an instance, in the file's order."""
    items = [_instance(dicom_path=None, image_file_uri=f"gs://b/{number}.png") for number in range(5)]
    assert [one.source for one in read({"instances": items})] == [f"gs://b/{number}.png" for number in range(5)]


def test_what_is_done_otherwise_is_noted(read: Read) -> None:
    """Token, state and loose edges are not done as asked; each leaves a note."""
    extensions = {"ez_wsi_state": {"patches": []}, "require_patches_fully_in_source_image": "False"}
    [found] = read({"instances": [_instance(extensions=extensions)]})
    assert found.notes[0] == "from the template"
    assert [word for word in ("token", "ez_wsi_state", "fully inside") for note in found.notes if word in note] == [
        "token",
        "ez_wsi_state",
        "fully inside",
    ]


def test_the_token_goes_nowhere(read: Read) -> None:
    """Not in the request, not in what the ledger keeps of it, not in its notes."""
    [found] = read({"instances": [_instance()]})
    assert _TOKEN not in repr(found)
    assert _TOKEN not in json.dumps(found.to_json())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from([*_instance(), "image_file_uri", "raw_image_bytes"])


@given(st.dictionaries(_FIELDS, _JSON, max_size=4), st.booleans())
def test_junk_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, junk: dict[str, Any], whole: bool) -> None:  # noqa: FBT001
    """Whatever stands in the fields, there are requests or one error of ours."""
    path = tmp_path_factory.getbasetemp() / "junk.json"
    path.write_text(json.dumps({"instances": [_instance() | junk if whole else junk]}))
    try:
        [found] = read_patch_request(path, _TEMPLATE)
    except SlidewireError:
        return
    assert found.patches.coordinates
