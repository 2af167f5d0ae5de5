"""What rules can ask of a series, read out of its DICOM JSON: in part of a search's answer, wholly of its metadata."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from connectors.dicom.attributes import items_of, text
from connectors.dicom.metadata import SOP_INSTANCE, select_slide
from connectors.dicom.result.derived import IMPLEMENTATION_UID, MAKER, PRODUCT
from connectors.dicom.spacing import spacing_of
from models.domain.errors import SourceError
from models.domain.rule import Traits

_MODALITY, _STATION, _STUDY_DESCRIPTION = "00080060", "00081010", "00081030"
_MANUFACTURER, _MODEL, _IMPLEMENTATION = "00080070", "00081090", "00020012"
_CALLING_AET = "00020016"  # Source Application Entity Title (PS3.10 7.1)
_CONTAINER_TYPE = "00400518"
_CODES = ("00080100", "00080119", "00080120", "00080104")  # value, long value, URN, meaning
_MOST_CHARACTERS = 1024  # a Study Description has 64; what comes from outside may have more

ASKED_OF_SEARCH: Final = (_MODALITY, _MANUFACTURER, _MODEL)
"""Tags of which a search's answer for a series tells whether any rule can hold for it."""


def traits_of(endpoint: str, found: Sequence[Any], calling_aet: str = "") -> Traits:
    """Return what is known of a series.

    Parameters
    ----------
    endpoint : str
        Name of the archive.
    found : sequence
        DICOM JSON of its instances, in any order, or a search's answer for the series; checked, since it comes from
        outside.
    calling_aet : str
        Who sent it, where the instances do not say.

    Returns
    -------
    Traits
        A spacing that contradicts itself (see `spacing_of`) is not known.
    """
    # Instances of a series that differ are asked in the same order, whatever the archive's is.
    items = sorted((item for item in found if isinstance(item, Mapping)), key=lambda item: text(item, SOP_INSTANCE))
    return Traits(
        endpoint=endpoint,
        modality=_first(items, _MODALITY),
        station=_first(items, _STATION),
        study_description=_first(items, _STUDY_DESCRIPTION),
        container_types=_container_types(items),
        spacing_um=_finest_um(items),
        calling_aet=_first(items, _CALLING_AET) or calling_aet,
        ours=any(_is_ours(item) for item in items),
    )


def _first(items: Sequence[Mapping[str, Any]], tag: str) -> str:
    return next((said for item in items if (said := text(item, tag)[:_MOST_CHARACTERS])), "")


def _container_types(items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    codes = [code for item in items for code in items_of(item, _CONTAINER_TYPE)]
    said = [text(code, tag)[:_MOST_CHARACTERS] for code in codes for tag in _CODES]
    return tuple(dict.fromkeys(filter(None, said)))


def _finest_um(items: Sequence[Mapping[str, Any]]) -> float | None:
    try:
        spacings = [spacing_of(item).um for item in select_slide(items).instances]
    except SourceError:
        return None
    return min((min(spacing) for spacing in spacings if spacing), default=None)


def _is_ours(item: Mapping[str, Any]) -> bool:
    made_here = text(item, _MANUFACTURER) == MAKER and text(item, _MODEL) == PRODUCT
    return made_here or text(item, _IMPLEMENTATION) == IMPLEMENTATION_UID
