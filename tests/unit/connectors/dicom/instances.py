"""Levels in DICOM JSON, as a server sends them: small, and easily damaged."""

from collections.abc import Sequence
from typing import Any

from connectors.dicom.metadata import WHOLE_SLIDE_IMAGE
from models.domain.slide import SlideRef

Json = dict[str, Any]
REF = SlideRef("dicomweb", "https://pacs.test", "pacs", "1.2", "1.3")
TILE_PX = 64


def sequence(*items: Json) -> Json:
    """Return a sequence."""
    return {"vr": "SQ", "Value": list(items)}


def element(vr: str, *values: Any) -> Json:
    """Return an attribute."""
    return {"vr": vr, "Value": list(values)}


def measures(*spacing: Any) -> Json:
    """Return functional groups with a Pixel Spacing: millimetres, rows first."""
    return sequence({"00289110": sequence({"00280030": element("DS", *spacing)})})


def instance(uid: str, columns: int = 640, *kind: str, **more: Any) -> Json:
    """Return a level of 8-bit colour: `columns` x 320 px, 0.5 um/px at 640 columns; `more` by tag."""
    plain = {
        "00080016": ("UI", WHOLE_SLIDE_IMAGE),
        "00080018": ("UI", uid),
        "00280002": ("US", 3),
        "00280004": ("CS", "YBR_FULL_422"),
        "00280008": ("IS", -(-columns // TILE_PX) * 5),
        "00280010": ("US", TILE_PX),
        "00280011": ("US", TILE_PX),
        "00280100": ("US", 8),
        "00280102": ("US", 7),
        "00480001": ("FL", 0.32),
        "00480002": ("FL", 0.16 * 640 / columns),
        "00480006": ("UL", columns),
        "00480007": ("UL", 320),
        "00209311": ("CS", "TILED_FULL"),
    }
    item: Json = {tag: element(vr, one) for tag, (vr, one) in plain.items()}
    item["00080008"] = element("CS", *(kind or ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")))
    item["52009229"] = measures(0.16 * 640 / columns / 320, 0.32 / columns)
    return item | more


def without(item: Json, *tags: str) -> Json:
    """Return an instance without some attributes."""
    return {tag: held for tag, held in item.items() if tag not in tags}


def having(item: Json, tag: str, *values: Any) -> Json:
    """Return an instance with other values of an attribute."""
    return item | {tag: element("UN", *values)}


def placed(item: Json, places: Sequence[tuple[int, str, float | None]], columns: int) -> Json:
    """Return an instance whose frames say where they lie: tile, optical path, height."""
    groups = []
    for tile, path, height in places:
        row, column = divmod(tile, columns)
        position = {
            "0048021E": element("SL", column * TILE_PX + 1),
            "0048021F": element("SL", row * TILE_PX + 1),
        }
        if height is not None:
            position["0040074A"] = element("DS", height)
        group = {"0048021A": sequence(position)}
        if path:
            group["00480207"] = sequence({"00480106": element("SH", path)})
        groups.append(group)
    sparse = having(item, "00209311", "TILED_SPARSE")
    return having(sparse, "00280008", len(places)) | {"52009230": sequence(*groups)}


def parts_of(item: Json, sizes: Sequence[int]) -> list[Json]:
    """Return a level as the parts of a concatenation, of so many frames each."""
    parts, before = [], 0
    for number, size in enumerate(sizes, 1):
        part = having(item, "00080018", f"1.2.3.{number}")
        part = having(having(part, "00280008", size), "00209161", "1.2.3")
        part = having(having(part, "00209162", number), "00209163", len(sizes))
        parts.append(having(part, "00209228", before))
        before += size
    return parts
