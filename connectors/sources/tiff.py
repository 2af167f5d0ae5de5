"""Slides in TIFF files (SVS, OME-TIFF, pyramids of other writers), read tile by tile without fetching the file.

EZ-WSI reads DICOM and flat images; it has no pyramid in TIFF, so this source does not go through it, except for a flat
picture.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from connectors.endpoints import Endpoints
from connectors.flat_image import FlatImageSource, open_bucket_image, open_local_image
from connectors.protocols import Traffic
from connectors.ranges.bucket import GoogleFile, S3File
from connectors.ranges.http import HttpFile
from connectors.ranges.local import LocalFile
from connectors.ranges.reader import ByteRanges, FileFacts, RangeFile
from connectors.tiff.directory import Directory, read_directories
from connectors.tiff.image import TiffImage
from connectors.tiff.layout import Layout, is_flat, read_layout
from connectors.tiff.tiles import frame_of, photometric_of
from models.domain.errors import FrameMissing, NotASlide
from models.domain.patch import EncodedFrame
from models.domain.slide import Instance, Level, Slide, SlideRef, runs_of, safe_name

_SUFFIX = re.compile(r"(\.ome)?\.(svs|tiff?|btf)$", re.IGNORECASE)
_ICC_PROFILE = 34675
_MOST_PROFILE = 16 << 20
_WHITE = (255, 255, 255)
_EXPANSION = 4  # a compressed tile is never longer than its pixels by more; what claims to be is damaged
_LEAST_LIMIT = 1 << 20


class TiffSource:
    """A `Source` over a TIFF file.

    Parameters
    ----------
    ref : SlideRef
    ranges : ByteRanges
        Closed with this.
    layout : Layout
    """

    def __init__(self, ref: SlideRef, ranges: ByteRanges, layout: Layout) -> None:
        self._ranges, self._layout = ranges, layout
        finest = layout.levels[0][1]
        levels, kept, notes = [], [], list(layout.notes)
        for directory, image in layout.levels:
            level = _level(image, layout, ranges.facts)
            if level.absent and image is not finest and layout.aperio:
                # Aperio's encoder loses tiles of coarse levels that the finest has: they are no glass.
                notes.append(f"the level of {image.width_px} x {image.height_px} px lacks tiles and is not read")
                continue
            if level.absent:
                count = sum(stop - start for start, stop in level.absent)
                notes.append(f"{count} tiles of the level of {image.width_px} px are not stored; they are white")
            levels.append(level)
            kept.append((directory, image))
        self._levels = tuple(kept)
        name = safe_name(_SUFFIX.sub("", ranges.facts.name))
        self._slide = Slide(ref, tuple(levels), name, tuple(notes))

    @property
    def slide(self) -> Slide:
        """The slide's geometry, as the file's directories give it."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield tiles in order; neighbours in the file are read at once, several runs at a time."""
        image = self._levels[level][1]
        numbers = np.asarray(indices, np.int64)
        if not ((numbers >= 0) & (numbers < len(image.counts))).all():
            raise FrameMissing(f"{image.name} has {len(image.counts)} tiles at level {level}.")
        if not image.counts[numbers].all():
            raise FrameMissing(f"A tile of level {level} of {image.name} is not stored.")
        starts = image.offsets[numbers]
        ranges = list(zip(starts.tolist(), (starts + image.counts[numbers]).tolist(), strict=True))
        for index, data in zip(indices, self._ranges.many(ranges), strict=True):
            yield frame_of(image, index, data)

    def header(self, level: int) -> None:
        """Return None: the file is no DICOM."""
        del level

    def icc_profile(self, level: int) -> bytes | None:
        """Return the profile of a level, or of the finest if only that has one."""
        own = self._levels[level][0].raw(_ICC_PROFILE, _MOST_PROFILE)
        return own or self._levels[0][0].raw(_ICC_PROFILE, _MOST_PROFILE) or None

    @property
    def traffic(self) -> Traffic:
        """What was read so far."""
        return self._ranges.traffic

    def close(self) -> Traffic:
        """Let go of the file, and say what was read."""
        return self._ranges.close()


def _level(image: TiffImage, layout: Layout, facts: FileFacts) -> Level:
    """Return an image as a level; one whose tiles are not all in the file has a problem."""
    digest = hashlib.sha256(f"{facts.version} {image.width_px}x{image.height_px} {image.tile_width_px}".encode())
    digest.update(image.offsets.tobytes())
    digest.update(image.counts.tobytes())
    digest.update(image.tables)
    finest, spacing = layout.levels[0][1], layout.spacing_um
    if spacing:
        ratio = (finest.width_px / image.width_px, finest.height_px / image.height_px)
        spacing = (spacing[0] * ratio[0], spacing[1] * ratio[1])
    stored = int(np.count_nonzero(image.counts))
    absent = runs_of(image.counts == 0)
    return Level(
        image.width_px,
        image.height_px,
        image.tile_width_px,
        image.tile_height_px,
        spacing,
        photometric_of(image),
        (Instance("", 0, stored, digest.hexdigest()),),
        _problem(image, facts.size),
        absent,
        _WHITE if absent else None,
    )


def _problem(image: TiffImage, size: int) -> str:
    limit = max(_EXPANSION * image.tile_bytes, _LEAST_LIMIT)
    outside = (image.counts < 0) | (image.offsets < 0) | (image.offsets > size) | (image.counts > size - image.offsets)
    if outside.any():
        return f"{int(outside.sum())} of its {len(outside)} tiles lie outside the file, which is cut off or damaged"
    if (image.counts > limit).any():
        return f"a tile claims to have {int(image.counts.max())} bytes"
    return ""


def _open_file(ref: SlideRef, endpoints: Endpoints) -> RangeFile:
    anonymous = endpoints.cloud.kind == "none"
    if ref.location.startswith("gs://"):
        return GoogleFile(ref.location, anonymous=anonymous)
    if ref.location.startswith("s3://"):
        return S3File(ref.location, anonymous=anonymous)
    if ref.location.startswith(("http://", "https://")):
        return HttpFile(endpoints.of_ref(ref))
    return LocalFile(Path(ref.location))


def _directories(ref: SlideRef, ranges: ByteRanges) -> Sequence[Sequence[Directory]]:
    """Return the file's images; none of a local file that is no TIFF but for its name."""
    try:
        return read_directories(ranges)
    except NotASlide:
        if "://" in ref.location:
            raise
        return ()


def open_source(ref: SlideRef, endpoints: Endpoints) -> TiffSource | FlatImageSource:
    """Open a slide in a TIFF file: local, ``gs://``, ``s3://``, ``https://``.

    A picture without tiles and without a pyramid, on disk or in Cloud Storage, is handed to EZ-WSI, which also reads
    kinds of pixels that no slide has.
    """
    in_cloud_storage, local = ref.location.startswith("gs://"), "://" not in ref.location
    with ExitStack() as opened:
        ranges = ByteRanges(_open_file(ref, endpoints))
        opened.callback(ranges.close)
        images = _directories(ref, ranges)
        if not (is_flat(images) and (in_cloud_storage or local)):
            source = TiffSource(ref, ranges, read_layout(images, ranges.facts.name))
            opened.pop_all()
            return source
    return open_bucket_image(ref, endpoints) if in_cloud_storage else open_local_image(ref)
