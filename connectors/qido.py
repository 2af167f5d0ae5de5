"""One search of a DICOMweb server (QIDO-RS, PS3.18 10.6): a query in, DICOM JSON out."""

import hashlib
import json
from collections.abc import Iterable

from connectors.dicom.attributes import Json, text
from connectors.endpoints import Endpoint
from connectors.http import HttpSession, json_of
from models.domain.errors import ResponseInvalid

_JSON = "application/dicom+json"
_PAGE_BYTES = 64 << 20  # a hundred studies are some hundred kB; a server that ignores `limit` may send all it has


class Qido:
    """Searches one server.

    Parameters
    ----------
    endpoint : Endpoint
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._session = HttpSession(endpoint)
        self._base = endpoint.url.rstrip("/")
        self.label = endpoint.label
        self.query_characters = endpoint.url_characters - len(self._base) - 1

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def search(self, query: str, also: frozenset[int] = frozenset()) -> list[Json]:
        """Return what is found.

        Parameters
        ----------
        query : str
            Path and parameters below the base of the service; at most `query_characters` long.
        also : frozenset of int
            Statuses that mean that nothing is found, besides 204 (PS3.18 8.3.4.4).

        Raises
        ------
        ResponseInvalid
            The answer is no list of results.
        EndpointError
            There is none.
        """
        answer = self._session.fetch(f"{self._base}/{query}", _JSON, also, _PAGE_BYTES)
        if answer.status in also or not answer.body:
            return []
        found = json_of(answer, self.label, json.loads)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise ResponseInvalid(f"The {self.label} answered a search with JSON that is no list of results.")
        return found


def digest_of(items: Iterable[Json], tag: str) -> str:
    """Return the same for the same results, told apart by one attribute, in whatever order."""
    return hashlib.sha256("\n".join(sorted(text(item, tag) for item in items)).encode()).hexdigest()
