"""De-identification as it is set: the key that the settings refer to."""

from typing import TYPE_CHECKING

from connectors.secret import resolve_secret
from models.domain.errors import SettingsInvalid
from worker.settings import Settings

if TYPE_CHECKING:
    from connectors.dicom.deidentification.deidentify import Dates, Deidentification


def policy_of(settings: Settings, dates: "Dates" = "drop") -> "Deidentification":
    """Return how results are de-identified.

    Raises
    ------
    SettingsInvalid
        No key is set, the reference leads nowhere, or what it leads to is no key.
    """
    from connectors.dicom.deidentification.deidentify import Deidentification
    from connectors.dicom.deidentification.pseudonyms import HOW

    if not settings.deidentify_key:
        raise SettingsInvalid(
            "De-identified export needs a key: set deidentify_key (SLIDEWIRE_DEIDENTIFY_KEY) to file:PATH or env:NAME, "
            f"where the key is kept; {HOW}."
        )
    return Deidentification.of(resolve_secret(settings.deidentify_key), dates)
