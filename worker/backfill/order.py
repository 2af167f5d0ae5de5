"""What a backfill is to do: which archive, which days, and what is to become of each slide."""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from connectors.endpoints import Endpoint, Endpoints
from models.domain.errors import RequestError
from models.domain.request import EmbedRequest
from models.domain.slide import SlideRef
from worker.submission import anchored


@dataclass(frozen=True, slots=True)
class Order:
    """A backfill as it is asked for; the same order goes on where it stopped.

    Parameters
    ----------
    archive : str
        Name of an endpoint, or URL of a DICOMweb service.
    modality : str
        Of the series.
    first, last : date or None
        Days of study, both included; None: no bound.
    request : EmbedRequest
        For each slide; its source is left open.
    """

    archive: str
    modality: str
    first: dt.date | None
    last: dt.date | None
    request: EmbedRequest

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None and self.last < self.first:
            raise RequestError("--to is before --from: give the earlier day first.")
        if not self._is_url and "/" in self.archive:
            raise RequestError("A backfill takes a whole archive: the name of an endpoint, or a DICOMweb URL.")

    @property
    def _is_url(self) -> bool:
        return self.archive.startswith(("http://", "https://"))

    @property
    def wanted(self) -> Mapping[str, Any]:
        """The order as JSON."""
        return {
            "archive": self.archive.rstrip("/"),
            "modality": self.modality,
            "from": self.first.isoformat() if self.first else None,
            "to": self.last.isoformat() if self.last else None,
            # Without the number of its form: an upgraded Slidewire goes on with the same backfill.
            "request": asdict(anchored(self.request)),
        }

    @property
    def key(self) -> str:
        """The same for the same order."""
        return hashlib.sha256(json.dumps(self.wanted, sort_keys=True).encode()).hexdigest()

    def endpoint(self, endpoints: Endpoints) -> Endpoint:
        """Return the server that is searched.

        Raises
        ------
        RequestError
            No endpoint has that name.
        EndpointNotAllowed
            The URL is on no allow-list.
        """
        url = self.archive.rstrip("/")
        found = endpoints.of_url(url) if self._is_url else endpoints.named(self.archive)
        return endpoints.of_ref(SlideRef("dicomweb", url if self._is_url else found.url, found.name))

    def slide(self, study_uid: str, series_uid: str) -> EmbedRequest:
        """Return the request for one series."""
        below = f"studies/{study_uid}/series/{series_uid}" if self._is_url else f"{study_uid}/{series_uid}"
        return replace(self.request, source=f"{self.archive.rstrip('/')}/{below}")
