"""Which images of a TIFF file are the levels of a slide: SVS, OME-TIFF, and pyramids of other writers."""

from collections.abc import Sequence
from dataclasses import dataclass

from connectors.tiff.directory import Directory
from connectors.tiff.image import TiffImage, is_tiled, read_image, size_of
from connectors.tiff.spacing import DESCRIPTION, Spacing, is_aperio, spacing_of
from models.domain.errors import NotASlide, PixelsUnsupported, SlideAmbiguous, SourceError

_SUBFILE, _SOFTWARE, _XMP, _NDPI = 254, 305, 700, 65420
_REDUCED = 1
_ROUNDING_PX = 2.0  # by which a level's sides may miss the ratio: halved again and again, each time rounded


@dataclass(frozen=True, slots=True)
class Layout:
    """The levels of a slide, finest first.

    Parameters
    ----------
    levels : tuple of (Directory, TiffImage)
    spacing_um : (float, float) or None
        Of the finest.
    aperio : bool
        It is an SVS file.
    notes : tuple of str
        What was assumed, and what was left out.
    """

    levels: tuple[tuple[Directory, TiffImage], ...]
    spacing_um: Spacing
    aperio: bool
    notes: tuple[str, ...]


def is_flat(images: Sequence[Sequence[Directory]]) -> bool:
    """Whether a file has neither tiles nor a pyramid: an ordinary picture, best read whole."""
    return not any(len(parts) > 1 or is_tiled(parts[0]) for parts in images)


def read_layout(images: Sequence[Sequence[Directory]], name: str) -> Layout:
    """Find the levels.

    Parameters
    ----------
    images : sequence of sequence of Directory
        As `read_directories` gives them.
    name : str
        The file's, for messages.

    Raises
    ------
    PixelsUnsupported
        The finest level cannot be read, or the file is of a kind that only looks like a pyramid.
    SlideAmbiguous
        Several images of one size: focal planes, channels, points in time.
    SourceUnreadable
        The finest level contradicts itself.
    """
    _refuse_strangers(images[0][0], name)
    description = images[0][0].text(DESCRIPTION)
    aperio = is_aperio(description)
    main = [parts[0] for parts in images]
    finest = main[0] if aperio else max(main, key=_rank)
    image = read_image(finest, name)
    twins = [one for one in main if size_of(one) == size_of(finest) and is_tiled(one) == is_tiled(finest)]
    if len(twins) > 1 and not aperio:
        raise SlideAmbiguous(
            f"{name} holds {len(twins)} images of one size (focal planes, channels or points in time): "
            "save the one to embed as a file of its own."
        )
    below = next(parts[1:] for parts in images if parts[0] is finest)
    others = [one for one in main if one is not finest]
    candidates = below or [one for one in others if is_tiled(one) or (not aperio and _is_reduced(one))]
    coarser, notes = _coarser(image, candidates, name)
    left = len(others) if below else len(others) - len(candidates)
    if left:
        notes.append(f"{left} other pictures in the file (label, overview, thumbnail) are not read")
    spacing, remark = spacing_of(finest, description, (image.width_px, image.height_px))
    return Layout(((finest, image), *coarser), spacing, aperio, (*notes, *([remark] if remark else [])))


def _rank(directory: Directory) -> tuple[bool, int]:
    """Order images: tiled before others, then by their area."""
    width, height = size_of(directory)
    return is_tiled(directory), width * height


def _is_reduced(directory: Directory) -> bool:
    return bool(directory.number(_SUBFILE, 0) & _REDUCED)


def _coarser(
    finest: TiffImage, candidates: Sequence[Directory], name: str
) -> tuple[list[tuple[Directory, TiffImage]], list[str]]:
    """Return the candidates that show the same as the finest level, largest first, and why others do not count."""
    levels: list[tuple[Directory, TiffImage]] = []
    notes: list[str] = []
    strangers = 0
    for directory in sorted(candidates, key=_rank, reverse=True):
        width, height = size_of(directory)
        last = levels[-1][1] if levels else finest
        if not _shows_all(finest, width, height):
            strangers += 1
        elif width >= last.width_px or height >= last.height_px:
            notes.append(f"a second level of {width} x {height} px is not read")
        else:
            try:
                levels.append((directory, read_image(directory, name)))
            except SourceError as exc:
                notes.append(f"the level of {width} x {height} px is not read ({exc.code})")
    if strangers:
        notes.append(f"{strangers} images of another shape than the slide (label, overview) are not read")
    return levels, notes


def _shows_all(finest: TiffImage, width: int, height: int) -> bool:
    """Whether an image of this size can be the whole slide at a lower resolution."""
    if min(width, height) < 1 or width > finest.width_px or height > finest.height_px:
        return False
    ratio = finest.width_px / width if finest.width_px >= finest.height_px else finest.height_px / height
    return (
        abs(finest.width_px / ratio - width) <= _ROUNDING_PX and abs(finest.height_px / ratio - height) <= _ROUNDING_PX
    )


def _refuse_strangers(directory: Directory, name: str) -> None:
    """Refuse scanners' own formats whose tiles overlap, or whose levels are padded: they would be read wrongly."""
    software = directory.text(_SOFTWARE, 200)
    vendor = next(
        (name for mark, name in (("Philips", "Philips"), ("MedScan", "Trestle")) if software.startswith(mark)), ""
    )
    if b"<iScan" in directory.raw(_XMP, 1 << 20):
        vendor = "Ventana"
    if _NDPI in directory:
        vendor = "Hamamatsu"
    if "leica-microsystems.com/scn" in directory.text(DESCRIPTION, 4096):
        vendor = "Leica SCN"
    if vendor:
        raise PixelsUnsupported(
            f"{name} is a {vendor} file: Slidewire does not know how its tiles lie. "
            "Export it as DICOM, SVS or OME-TIFF."
        )
    if not any(size_of(directory)):
        raise NotASlide(f"{name} is a TIFF file without an image.")
