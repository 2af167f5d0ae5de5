"""Read embeddings back in a Python program: from an archive, from DICOM files, from a table."""

from typing import TYPE_CHECKING

from models.domain.errors import ResultNotFound
from worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from connectors.dicom.readback.stored import StoredEmbeddings
    from connectors.export import Choice


def read_embeddings(
    source: str, choice: "Choice | None" = None, settings: Settings | None = None
) -> "StoredEmbeddings":
    """Return stored embeddings, whole and verified by their digest.

    Parameters
    ----------
    source : str
        A series of results, or of a slide that results refer to, in a PACS (DICOMweb URL or
        ``ENDPOINT/STUDY_UID/SERIES_UID``); a DICOM file, or a folder of them; a ``.parquet`` or ``.npz`` table of
        Slidewire's.
    choice : connectors.export.Choice or None
        Which annotation group to read, and whether annotations or a map, where there are several.
    settings : Settings or None
        None: from the environment and the settings file.

    Raises
    ------
    ResultNotFound
        There are none, or several to choose from.
    ResultCorrupt
        A number is missing, or the digest is not the recorded one.
    """
    from connectors.export import read_stored

    found = read_stored([str(source)], (settings or load_settings()).open_endpoints(), choice)
    first = next(found, None)
    if first is None or next(found, None) is not None:
        raise ResultNotFound("There are several results: give the series, or the files, of one.")
    return first.stored
