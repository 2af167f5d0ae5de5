"""TRIDENT: patch features and patch coordinates as its slide encoders and Patho-Bench read them (``trident/IO.py``)."""

from collections.abc import Iterator

from connectors.tables.bag import ABOUT, Bag
from connectors.tables.hdf5 import Attributes, Dataset, encode_hdf5
from connectors.tables.protocol import TableContent, TableFile
from models.domain.errors import ResultError

# What TRIDENT takes a slide's magnification for (`WSI._fetch_magnification`): finer than so many micrometres a pixel.
_NOMINAL = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))
_DIGITS = 4


class TridentTable:
    """``{mag}x_{px}px_{overlap}px_overlap/features_ENCODER/SLIDE.h5`` and ``.../patches/SLIDE_patches.h5``.

    Features: ``features`` (float32, (N, D)) and ``coords``. Patches: ``coords`` (int64, (N, 2), pixels of level 0) with
    the attributes that TRIDENT's readers ask for: ``patch_size``, ``patch_size_level0``, ``level0_magnification``,
    ``target_magnification``, ``overlap``, ``name``, ``savetodir``, ``level0_width``, ``level0_height``; what is unknown
    is the text ``None``, as there. Magnifications are TRIDENT's nominal ones; micrometres are in the provenance.
    """

    name = "trident"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield both files.

        Raises
        ------
        ResultError
            The spacing is unknown: TRIDENT goes by magnification, and refuses such slides itself.
        """
        bag = Bag.of(self.name, content)
        coords = self._coords(bag)
        run = f"{bag.folder}/{coords['target_magnification']:g}x_{bag.patch_px}px_{coords['overlap']}px_overlap"
        about = {ABOUT: bag.about_json}
        patches, features = f"{run}/patches", f"{run}/features_{bag.encoder}"
        made = {"coords": Dataset(bag.corners_px, {**coords, "savetodir": patches})}
        yield TableFile(f"{patches}/{bag.slide}_patches.h5", encode_hdf5(made, about))
        named = {"name": bag.slide, "savetodir": features, "encoder": bag.provenance.encoder}
        marks = bag.embeddings.fallbacks
        made = {
            "features": Dataset(bag.embeddings.matrix, named),
            "coords": made["coords"],
            **({} if marks is None else {"fallback": Dataset(marks)}),
        }
        yield TableFile(f"{features}/{bag.slide}.h5", encode_hdf5(made, about))

    def _coords(self, bag: Bag) -> Attributes:
        provenance = bag.provenance
        if provenance.level_0_spacing_um is None:
            raise ResultError(
                "The layout trident needs the slide's magnification, and its spacing is unknown: take the layout clam, "
                "numpy or parquet, or give the slide a spacing."
            )
        level_0 = _magnification(provenance.level_0_spacing_um[0])
        width, height = provenance.slide_px or ("None", "None")
        return {
            "patch_size": bag.patch_px,
            "patch_size_level0": bag.patch_level_0_px[0],
            "level0_magnification": level_0,
            "target_magnification": _rounded(level_0 / provenance.level_scale[0]),
            "overlap": bag.patch_px - bag.stride_px,
            "name": bag.slide,
            "level0_width": width,
            "level0_height": height,
        }


TABLE = TridentTable()


def _magnification(spacing_um: float) -> int | float:
    return next((nominal for finer_um, nominal in _NOMINAL if spacing_um < finer_um), _rounded(10 / spacing_um))


def _rounded(magnification: float) -> int | float:
    """Return a number that ``:g`` writes as briefly as TRIDENT does: 20, not 19.9999."""
    short = float(f"{magnification:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short
