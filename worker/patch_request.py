"""Path Foundation's request JSON, as Google's endpoint takes it, read into requests of ours.

The contract is that of the endpoint's ``instance.yaml``: ``{"instances": [{"dicom_path": {"series_path",
"instance_uids"} | "image_file_uri", "patch_coordinates": [{"x_origin", "y_origin", "width", "height"}],
"bearer_token", "extensions"}]}``. What is done otherwise than asked is recorded in the request's notes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.domain.errors import RequestError, SourceUnreadable
from models.domain.request import ColorProfile, EmbedRequest, PatchSpec

_MOST_BYTES = 1 << 28
# ``IccProfileNormalization`` of EZ-WSI's client, whose values the endpoint takes.
_PROFILES: dict[str, ColorProfile] = {
    "NONE": "none",
    "SRGB": "srgb",
    "ADOBERGB": "adobergb",
    "ROMMRGB": "rommrgb",
    "DISPLAYP3": "displayp3",
}


def read_patch_request(path: Path, template: EmbedRequest) -> list[EmbedRequest]:
    """Read a file of instances.

    Parameters
    ----------
    path : Path
    template : EmbedRequest
        Gives encoder, output, what becomes of missing frames, and patch size and colour space where an instance
        names none; its source is replaced.

    Returns
    -------
    list of EmbedRequest
        One an instance, in the file's order.

    Raises
    ------
    RequestError
        The file is no such request; the message names the instance and the field.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RequestError(f"{path.name} is larger than 256 MiB: split it.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc
    except (ValueError, RecursionError) as exc:
        raise RequestError(f"{path.name} is no JSON.") from exc
    instances = data.get("instances") if isinstance(data, Mapping) else None
    if not isinstance(instances, Sequence) or isinstance(instances, str) or not instances:
        raise RequestError(f'{path.name} is no patch request: it needs a list "instances" with at least one entry.')
    return [_instance(item, f"instances[{number}]", template) for number, item in enumerate(instances)]


def _instance(item: Any, where: str, template: EmbedRequest) -> EmbedRequest:
    if not isinstance(item, Mapping):
        raise RequestError(f"{where} is no object.")
    source, uids = _source(item, where)
    coordinates, patch_px = _coordinates(item.get("patch_coordinates"), where, template.patches.patch_px)
    extensions = item.get("extensions") or {}
    if not isinstance(extensions, Mapping):
        raise RequestError(f"{where}.extensions is no object.")
    patches = PatchSpec(
        patch_px=patch_px,
        spacing_um=None,
        tissue_fraction=None,
        coordinates=coordinates,
        coordinate_space="instance",
        image_px=_dimensions(extensions.get("image_dimensions"), where),
        missing=template.patches.missing,
        color_profile=_color(extensions.get("transform_imaging_to_icc_profile"), where, template.patches),
        color_required=template.patches.color_required,
    )
    notes = (*template.notes, *_notes(item, extensions))
    return replace(template, source=source, instance_uids=uids, patches=patches, notes=notes)


def _source(item: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    path = item.get("dicom_path")
    if path is not None:
        series = path.get("series_path") if isinstance(path, Mapping) else None
        uids = path.get("instance_uids") if isinstance(path, Mapping) else None
        if not isinstance(series, str) or not _is_texts(uids):
            raise RequestError(f"{where}.dicom_path needs series_path and a list of instance_uids.")
        if not series.startswith(("http://", "https://")):  # a request file opens no file of this machine
            raise RequestError(f"{where}.dicom_path.series_path is no DICOMweb URL.")
        assert uids is not None
        return series, tuple(uids)
    uri = item.get("image_file_uri")
    if isinstance(uri, str) and uri.startswith("gs://"):
        return uri, ()
    if "raw_image_bytes" in item:
        raise RequestError(f"{where} holds raw_image_bytes: put the image into a file or bucket, and name it.")
    raise RequestError(f"{where} needs dicom_path, or image_file_uri with a gs:// URI.")


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def _whole(value: Any, where: str) -> int:
    """Return an integer; integral floats are accepted, as Google's endpoint does."""
    # JSON as Python reads it knows NaN and Infinity, which are no integers.
    integral = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not integral:
        raise RequestError(f"{where} is no whole number.")
    return int(value)


def _coordinates(items: Any, where: str, patch_px: int) -> tuple[tuple[tuple[int, int], ...], int]:
    if not isinstance(items, list) or not items:
        raise RequestError(f"{where}.patch_coordinates needs at least one patch.")
    found: list[tuple[int, int]] = []
    sizes: set[int] = set()
    for number, item in enumerate(items):
        place = f"{where}.patch_coordinates[{number}]"
        if not isinstance(item, Mapping) or "x_origin" not in item or "y_origin" not in item:
            raise RequestError(f"{place} needs x_origin and y_origin.")
        found.append((_whole(item["x_origin"], f"{place}.x_origin"), _whole(item["y_origin"], f"{place}.y_origin")))
        sizes.update(_whole(item.get(side, patch_px), f"{place}.{side}") for side in ("width", "height"))
    if len(sizes) != 1:
        raise RequestError(f"{where} mixes patch sizes {sorted(sizes)}: patches are square and of one size.")
    return tuple(found), sizes.pop()


def _dimensions(value: Any, where: str) -> tuple[int, int] | None:
    if not value:
        return None
    if not isinstance(value, Mapping) or not {"width_px", "height_px"} <= set(value):
        raise RequestError(f"{where}.extensions.image_dimensions needs width_px and height_px.")
    size = tuple(
        _whole(value[side], f"{where}.extensions.image_dimensions.{side}") for side in ("width_px", "height_px")
    )
    if min(size) < 1:
        raise RequestError(f"{where}.extensions.image_dimensions must be 1 px or more.")
    return size[0], size[1]


def _color(value: Any, where: str, given: PatchSpec) -> ColorProfile:
    """Return the colour space that an instance names; NONE, which EZ-WSI's client always sends, leaves the choice."""
    place = f"{where}.extensions.transform_imaging_to_icc_profile"
    named = value.upper() if isinstance(value, str) and value else "NONE"
    if named not in _PROFILES or not isinstance(value, str | None):
        raise RequestError(f"{place} is none of {', '.join(_PROFILES)}.")
    profile = _PROFILES[named]
    if profile == "none":
        return given.color_profile
    if given.color_profile not in {"none", profile}:
        raise RequestError(f"{place} and --color-profile contradict each other: leave out one.")
    return profile


def _notes(item: Mapping[str, Any], extensions: Mapping[str, Any]) -> list[str]:
    notes = []
    if item.get("bearer_token"):
        notes.append("the bearer token in the request was not used or kept: the endpoint's own credentials were")
    if extensions.get("ez_wsi_state"):
        notes.append("ez_wsi_state in the request was not used: the slide's own metadata were read")
    if str(extensions.get("require_patches_fully_in_source_image", "True")).lower() == "false":
        notes.append("patches must lie fully inside the image, though the request does not insist")
    return notes
