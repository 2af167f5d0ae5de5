"""A slide: where it is, its levels, their geometry in pixels and micrometres.

Everything here is JSON-ready plain data, so that a plan made today is the same plan tomorrow.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

SourceKind = Literal["dicomweb", "dicom-files", "image", "gcs", "tiff"]
SpacingFrom = Literal["", "imaged-volume", "pixel-spacing"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def safe_name(text: str) -> str:
    """Return a text as a file name that is safe everywhere."""
    return _UNSAFE.sub("_", text).strip("._")[:100] or "slide"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a slide is read where it leaves a choice; what is left open here and in the slide is refused.

    Parameters
    ----------
    optical_path : str
        Optical Path Identifier (0048,0106); "": the only one.
    focal_plane : str
        1-based number from the slide's surface upwards, or ``middle``; "": the only one.
    spacing_from : str
        Which attribute to believe if Imaged Volume and Pixel Spacing contradict each other.
    """

    optical_path: str = ""
    focal_plane: str = ""
    spacing_from: SpacingFrom = ""


@dataclass(frozen=True, slots=True)
class SlideRef:
    """Where a slide is.

    Parameters
    ----------
    kind : str
        Which source opens it; a name of the entry-point group ``slidewire.sources``.
    location : str
        The DICOMweb base URL, folder, file, or the URI of a file (``gs://``, ``s3://``, ``https://``).
    endpoint : str
        Name of the configured endpoint, or "" for a raw URL or file.
    study_uid, series_uid : str
        DICOM only.
    instance_uids : tuple of str
        DICOM only: read the level these instances make up; empty for the whole series.
    reading : Reading
    """

    kind: SourceKind
    location: str
    endpoint: str = ""
    study_uid: str = ""
    series_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM instance of a level (several make up a concatenation), or the whole of an image file.

    Parameters
    ----------
    uid : str
        SOP Instance UID, or "" for an image file.
    frame_offset : int
        Frames of the level that come before this instance's first (0-based).
    frame_count : int
    digest : str
        sha256 of what identifies the pixels: the instance's metadata, or the bytes of an image file.
    """

    uid: str
    frame_offset: int
    frame_count: int
    digest: str


def runs_of(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return where a mask, shape (N,), is set: runs (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid: a grid of tiles, numbered in row-major order from 0.

    A tile's number is its place; which instance and frame hold it is the source's business.

    Parameters
    ----------
    width_px, height_px : int
        Total pixel matrix.
    frame_width_px, frame_height_px : int
        Tile size; tiles at the right and bottom edge reach over the matrix.
    spacing_um : (float, float) or None
        Micrometres per pixel (x, y); None if the source does not say.
    photometric : str
        Photometric Interpretation (0028,0004) of the encoded frames.
    instances : tuple of Instance
        In order of their frame offset.
    problem : str
        Why the level cannot be read; "" if it can.
    absent : tuple of (int, int)
        Runs of tiles (start, stop) that the slide does not hold.
    background : (int, int, int) or None
        RGB that absent tiles stand for (PS3.3 C.8.12.4.1.3: a sparse level leaves empty glass out); None: an absent
        tile is a fault.
    """

    width_px: int
    height_px: int
    frame_width_px: int
    frame_height_px: int
    spacing_um: tuple[float, float] | None
    photometric: str
    instances: tuple[Instance, ...]
    problem: str = ""
    absent: tuple[tuple[int, int], ...] = ()
    background: tuple[int, int, int] | None = None

    @property
    def columns(self) -> int:
        """Tiles a row."""
        return -(-self.width_px // self.frame_width_px)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height_px // self.frame_height_px)

    @property
    def fine_spacing_um(self) -> float | None:
        """The finer of the two spacings, as EZ-WSI compares levels; None if unknown."""
        return min(self.spacing_um) if self.spacing_um else None


@dataclass(frozen=True, slots=True)
class Slide:
    """A slide opened: its levels, largest first.

    Parameters
    ----------
    ref : SlideRef
    levels : tuple of Level
    name : str
        A file-name-safe name of the slide.
    notes : tuple of str
        What had to be assumed or corrected to read it.
    """

    ref: SlideRef
    levels: tuple[Level, ...]
    name: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a slide from `to_json`'s data."""
        ref = dict(data["ref"])
        ref["instance_uids"] = tuple(ref["instance_uids"])
        ref["reading"] = Reading(**ref["reading"])
        levels = []
        for item in data["levels"]:
            fields = dict(item)
            fields["instances"] = tuple(Instance(**instance) for instance in fields["instances"])
            fields["spacing_um"] = tuple(fields["spacing_um"]) if fields["spacing_um"] else None
            fields["absent"] = tuple((start, stop) for start, stop in fields["absent"])
            fields["background"] = tuple(fields["background"]) if fields["background"] else None
            levels.append(Level(**fields))
        return cls(SlideRef(**ref), tuple(levels), data["name"], tuple(data["notes"]))
