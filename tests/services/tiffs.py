"""TIFF slides of every kind, made by tifffile, whose own reading of them is what ours is held against."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from connectors.endpoints import Credentials, Endpoints
from connectors.protocols import Source
from connectors.ranges.local import LocalFile
from connectors.ranges.reader import ByteRanges
from connectors.registry import open_source
from connectors.sources.tiff import TiffSource
from connectors.tiff.directory import read_directories
from connectors.tiff.layout import read_layout
from models.domain.slide import SlideRef
from models.imaging.decode import decode_frame

Pixels = NDArray[np.uint8]
APERIO = "Aperio Image Library v12.0.15\r\n{width}x{height} (256x256) JPEG/RGB Q=70|AppMag = 40|MPP = {mpp}|Left = 1"


def texture(width: int, height: int, seed: int = 1) -> Pixels:
    """Return pixels that differ everywhere and compress as tissue does."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def halved(pixels: Pixels) -> Pixels:
    """Return the next level, its sides rounded down."""
    size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class Kind:
    """How tiles are stored: tifffile's options, or an encoder of our own for what tifffile cannot write."""

    options: dict[str, Any] = field(default_factory=dict)
    encode: Callable[[Pixels], bytes] | None = None


def pillow_jpeg(stream: int, *, rgb: bool) -> Callable[[Pixels], bytes]:
    """Return an encoder: stream 0 whole files, 1 tables only, 2 without tables; as libtiff stores them."""

    def encode(pixels: Pixels) -> bytes:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=80, streamtype=stream, keep_rgb=rgb, subsampling=0)
        return file.getvalue()

    return encode


def _tables(*, rgb: bool) -> bytes:
    return pillow_jpeg(1, rgb=rgb)(np.zeros((16, 16, 3), np.uint8))


JPEG = 7  # TIFF Technical Note 2
KINDS = {
    "uncompressed": Kind({"compression": None}),
    "lzw": Kind({"compression": "lzw"}),
    "lzw-predictor": Kind({"compression": "lzw", "predictor": True}),
    "deflate": Kind({"compression": "deflate"}),
    "deflate-predictor": Kind({"compression": "deflate", "predictor": True}),
    "packbits": Kind({"compression": "packbits"}),
    "zstd": Kind({"compression": "zstd"}),
    "jpeg-rgb": Kind({"compression": JPEG, "compressionargs": {"outcolorspace": "rgb"}}, pillow_jpeg(0, rgb=True)),
    "jpeg-ycbcr": Kind({"compression": JPEG, "photometric": "ycbcr"}, pillow_jpeg(0, rgb=False)),
    "jpeg-rgb-tables": Kind(
        {"compression": JPEG, "compressionargs": {"outcolorspace": "rgb"}, "jpegtables": _tables(rgb=True)},
        pillow_jpeg(2, rgb=True),
    ),
    "jpeg-ycbcr-tables": Kind(
        {"compression": JPEG, "photometric": "ycbcr", "jpegtables": _tables(rgb=False)}, pillow_jpeg(2, rgb=False)
    ),
    "jpeg2000": Kind({"compression": 34712, "compressionargs": {"level": 0}}),
}


def tiles_of(pixels: Pixels, tile: tuple[int, int]) -> Iterator[Pixels]:
    """Yield the tiles (height, width) of an image row by row, the last ones filled up."""
    height, width = pixels.shape[:2]
    whole = np.pad(pixels, ((0, -height % tile[0]), (0, -width % tile[1]), (0, 0)), mode="edge")
    for y in range(0, height, tile[0]):
        for x in range(0, width, tile[1]):
            yield np.ascontiguousarray(whole[y : y + tile[0], x : x + tile[1]])


def write_level(
    file: tifffile.TiffWriter, pixels: Pixels, kind: Kind, tile: tuple[int, int] = (128, 160), **more: Any
) -> None:
    """Write one tiled image; `more` goes to tifffile."""
    options = {"photometric": "rgb", "metadata": None, "tile": tile} | kind.options | more
    if kind.encode is None:
        file.write(pixels, **options)
        return
    data = (kind.encode(part) for part in tiles_of(pixels, tile))
    file.write(data, shape=pixels.shape, dtype=np.uint8, **options)


def write_pyramid(path: Path, levels: Sequence[Pixels], kind: Kind, *, below: bool = False, **more: Any) -> Path:
    """Write a pyramid: as pages one after the other, or with the coarser levels in SubIFDs (`below`).

    `more` goes to tifffile: ``bigtiff``, ``byteorder`` to its file, the rest to the finest level.
    """
    outer = {name: more.pop(name) for name in ("bigtiff", "byteorder") if name in more}
    with tifffile.TiffWriter(path, **outer) as file:
        write_level(file, levels[0], kind, **({"subifds": len(levels) - 1} if below else {}), **more)
        for level in levels[1:]:
            write_level(file, level, kind, subfiletype=1)
    return path


def write_svs(path: Path, levels: Sequence[Pixels], kind: Kind, mpp: float = 0.25, **more: Any) -> Path:
    """Write what Aperio writes: the slide, a thumbnail in strips, its other levels, label and macro."""
    height, width = levels[0].shape[:2]
    about = APERIO.format(width=width, height=height, mpp=mpp)
    with tifffile.TiffWriter(path) as file:
        write_level(file, levels[0], kind, description=about, software=False, **more)
        small = texture(300, 300 * height // width, 7)
        file.write(small, photometric="rgb", rowsperstrip=16, metadata=None, software=False, description="Aperio\r\n")
        for level in levels[1:]:
            write_level(file, level, kind, software=False, description="Aperio Image Library v12.0.15")
        for mark, name, size in ((1, "label", (200, 190)), (9, "macro", (400, 150))):
            file.write(
                texture(*size, 8), photometric="rgb", rowsperstrip=16, metadata=None, software=False, subfiletype=mark,
                compression="lzw", predictor=True, description=f"Aperio Image Library v12.0.15\n{name}",
            )  # fmt: skip
    return path


def read_level(path: Path, page: int, below: int | None = None) -> Pixels:
    """Return tifffile's own reading of an image."""
    with tifffile.TiffFile(path) as file:
        found: Any = file.pages[page]
        return np.asarray((found if below is None else found.pages[below]).asarray())


def ycc_codestream(pixels: Pixels) -> bytes:
    """Return a JPEG 2000 codestream of YCbCr samples that says nothing of colour, as Aperio's 33003."""
    ycc = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., (0, 2, 1)]
    return bytes(
        imagecodecs.jpeg2k_encode(np.ascontiguousarray(ycc), level=0, codecformat="j2k", mct=False, reversible=True)
    )


def assembled(source: Source, level: int) -> Pixels:
    """Return a whole level as a source gives it."""
    one = source.slide.levels[level]
    high, wide = one.frame_height_px, one.frame_width_px
    canvas = np.full((one.rows * high, one.columns * wide, 3), 255, np.uint8)
    gone = {tile for start, stop in one.absent for tile in range(start, stop)}
    wanted = [tile for tile in range(one.rows * one.columns) if tile not in gone]
    for frame in source.frames(level, wanted):
        row, column = divmod(frame.index, one.columns)
        canvas[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = decode_frame(frame, one)
    return canvas[: one.height_px, : one.width_px]


def open_tiff(path: Path | str, endpoints: Endpoints | None = None) -> Source:
    """Open a TIFF file with the source that is tested; a local one also if it is an ordinary picture."""
    ref = SlideRef("tiff", str(path))
    if "://" in ref.location:
        return open_source(ref, endpoints or Endpoints(cloud=Credentials("none")))
    ranges = ByteRanges(LocalFile(Path(path)))
    try:
        return TiffSource(ref, ranges, read_layout(read_directories(ranges), Path(path).name))
    except BaseException:
        ranges.close()
        raise
