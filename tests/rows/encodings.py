"""Slides in every encoding: one level of the CMU section, its tiles encoded and packed as a test wants them."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import simplejpeg
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import generate_uid

from connectors.endpoints import Endpoints
from connectors.protocols import Source
from connectors.registry import open_source
from models.imaging.decode import decode_frame
from models.imaging.syntax import CODEC_OF_SYNTAX, JPEG_BASELINE, Codec
from tests.services.slides import SlideOnDisk

Pixels = NDArray[np.uint8]
LEVEL = -3  # 555 x 741 px: 3 x 3 tiles of 256 px
ENDPOINTS = Endpoints()


def item(body: bytes) -> bytes:
    """Return an item of a sequence of fragments (PS3.5 A.4), of even length."""
    body += b"\0" * (len(body) % 2)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def fragments(frames: Sequence[Sequence[bytes]], table: Sequence[int] = ()) -> bytes:
    """Return encapsulated pixel data of frames that are cut into fragments, with a table as it is given."""
    basic = item(b"".join(struct.pack("<I", offset) for offset in table))
    return basic + b"".join(item(part) for parts in frames for part in parts)


def offsets(frames: Sequence[Sequence[bytes]]) -> list[int]:
    """Return where each frame begins, from the first item after the table on."""
    sizes = [sum(len(item(part)) for part in parts) for parts in frames]
    return [sum(sizes[:place]) for place in range(len(sizes))]


@dataclass
class Encoding:
    """How a level is written.

    Parameters
    ----------
    syntax : str
        Transfer syntax that the file names.
    photometric : str
    encode : callable
        RGB of a tile to its bytes.
    pack : callable
        The encoded tiles to the value of Pixel Data.
    attributes : dict
        By keyword, set last; None deletes one.
    """

    syntax: str
    photometric: str
    encode: Callable[[Pixels], bytes]
    pack: Callable[[list[bytes]], bytes] | None = None
    attributes: dict[str, object] = field(default_factory=dict)


class EncodedSlide:
    """A series whose levels are written one by one.

    Parameters
    ----------
    template : SlideOnDisk
    folder : Path
    """

    def __init__(self, template: SlideOnDisk, folder: Path) -> None:
        self._template, self.folder = template, folder
        self._uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID")}
        folder.mkdir(parents=True)

    def tiles(self, level: int = LEVEL) -> list[Pixels]:
        """Return the RGB tiles of a level, as they were before anything here encodes them."""
        dataset = pydicom.dcmread(self._template.levels[level])
        frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
        return [np.asarray(simplejpeg.decode_jpeg(frame, "RGB")) for frame in frames]

    def write(self, how: Encoding, level: int = LEVEL, part: slice = slice(None)) -> Path:
        """Write a level, or some of its tiles; return the file."""
        dataset = pydicom.dcmread(self._template.levels[level])
        for name, uid in self._uids.items():
            setattr(dataset, name, uid)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        encoded = [how.encode(tile) for tile in self.tiles(level)[part]]
        dataset.file_meta.TransferSyntaxUID = how.syntax
        dataset.PhotometricInterpretation = how.photometric
        dataset.NumberOfFrames = len(encoded)
        native = CODEC_OF_SYNTAX[how.syntax] is Codec.NATIVE
        whole = b"".join(encoded) if native else encapsulate(encoded, has_bot=False)
        dataset.PixelData = how.pack(encoded) if how.pack else whole
        dataset["PixelData"].is_undefined_length = not native
        dataset["PixelData"].VR = "OB"
        for name, given in how.attributes.items():
            if given is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, given)
        path = self.folder / f"level{level}-{part.start or 0}.dcm"
        # dcmwrite and not save_as: it may change the byte order.
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        return path

    @property
    def location(self) -> str:
        """Study and series, as a DICOMweb URL ends."""
        return "studies/{StudyInstanceUID}/series/{SeriesInstanceUID}".format(**self._uids)


def decoded(source: Source, level: int = 0) -> list[Pixels]:
    """Fetch and decode every tile of a level."""
    geometry = source.slide.levels[level]
    frames = source.frames(level, range(geometry.rows * geometry.columns))
    return [decode_frame(frame, geometry) for frame in frames]


def each(source: Source, level: int = 0) -> Iterator[Callable[[], Pixels]]:
    """Yield, for every tile of a level, what fetches and decodes it."""
    geometry = source.slide.levels[level]
    for tile in range(geometry.rows * geometry.columns):
        yield lambda tile=tile: decode_frame(next(iter(source.frames(level, [tile]))), geometry)  # type: ignore[misc]


def open_folder(folder: Path) -> Source:
    """Open a slide in files."""
    return open_source(ENDPOINTS.locate(str(folder)), ENDPOINTS)


def jpeg(tile: Pixels) -> bytes:
    """Encode as scanners do: YCbCr, 4:4:4, good."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality=95, colorsubsampling="444"))


SCANNER = Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg)
