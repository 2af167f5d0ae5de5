"""One series of an archive: what a search says of it, and its metadata."""

from collections.abc import Sequence
from typing import Any

from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors.dicom.attributes import Json, text
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, require_uid
from connectors.qido import Qido
from models.domain.errors import EndpointError, RequestError, ResponseInvalid, SeriesNotFound

RELATED_INSTANCES = "00201209"

_STUDY, _SERIES = "0020000D", "0020000E"
_NOT_THERE = frozenset({404, 410})


class OneSeries:
    """Asks a server for one series.

    Parameters
    ----------
    endpoint : Endpoint
    study_uid, series_uid : str
    """

    def __init__(self, endpoint: Endpoint, study_uid: str, series_uid: str) -> None:
        self._endpoint = endpoint
        self._study_uid = require_uid(study_uid, "Study Instance UID")
        self._series_uid = require_uid(series_uid, "Series Instance UID")

    def found(self, tags: Sequence[str]) -> Json:
        """Return what a search says of the series; nothing if the server does not find it, or does not search so.

        Parameters
        ----------
        tags : sequence of str
            Attributes to ask for; a server may leave some of them out.

        Raises
        ------
        EndpointError
            The server does not answer.
        """
        fields = "".join(f"&includefield={tag}" for tag in (*tags, RELATED_INSTANCES))
        qido = Qido(self._endpoint)
        try:
            answers = qido.search(
                f"studies/{self._study_uid}/series?SeriesInstanceUID={self._series_uid}{fields}", _NOT_THERE
            )
        except ResponseInvalid:
            return {}
        finally:
            qido.close()
        # A server that does not heed the criterion gives all series of the study.
        return next((answer for answer in answers if text(answer, _SERIES) == self._series_uid), {})

    def metadata(self) -> list[Any]:
        """Return the DICOM JSON of its instances; not checked.

        Raises
        ------
        SeriesNotFound, EndpointError
        """
        web = DicomWeb(self._endpoint)
        base = self._endpoint.url.rstrip("/")
        try:
            return web.metadata(dicom_path.FromString(f"{base}/studies/{self._study_uid}/series/{self._series_uid}"))
        finally:
            web.session.close()


def study_of(endpoint: Endpoint, series_uid: str) -> str:
    """Return the UID of the study that a series belongs to, by a search of the whole server.

    Raises
    ------
    SeriesNotFound
        The server does not find it.
    RequestError
        It does not search for series without a study.
    """
    series_uid = require_uid(series_uid, "Series Instance UID")
    qido = Qido(endpoint)
    try:
        answers = qido.search(f"series?SeriesInstanceUID={series_uid}&includefield={_STUDY}")
    except EndpointError as exc:
        if exc.retryable or not isinstance(exc, ResponseInvalid):
            raise
        raise RequestError(
            f"The {endpoint.label} does not search for a series without its study: give STUDY_UID/SERIES_UID."
        ) from exc
    finally:
        qido.close()
    found = next((answer for answer in answers if text(answer, _SERIES) == series_uid), None)
    if found is None:
        raise SeriesNotFound(f"The {endpoint.label} finds no such series: check its UID, or give STUDY_UID/SERIES_UID.")
    return require_uid(text(found, _STUDY), "Study Instance UID")
