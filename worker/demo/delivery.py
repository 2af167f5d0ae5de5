"""Takes the sample slide to a PACS, as a scanner would: STOW-RS (PS3.18 10.5), one request a file."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pydicom

from connectors.dicom.attributes import text
from connectors.dicom.metadata import SOP_INSTANCE
from connectors.endpoints import Endpoint
from connectors.http import HttpSession, json_of, retrying
from connectors.upload import Upload
from models.domain.errors import StoreRefused

_JSON = "application/dicom+json"
_THERE_ALREADY = frozenset({409})  # Google and Azure say so of a second time; the sample's bytes are always the same


def deliver(files: Sequence[Path], endpoint: Endpoint) -> None:
    """Store the files of one series; those that are there already stay as they are.

    Parameters
    ----------
    files : sequence of Path
        DICOM files of one series, each small enough for memory.
    endpoint : Endpoint

    Raises
    ------
    StoreRefused
        The server does not have all of them afterwards, whatever it said.
    EndpointError
        It cannot be reached, or refuses us.
    """
    session = HttpSession(endpoint)
    try:
        for file in files:
            _post(session, file.read_bytes())
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        place = f"studies/{headers[0].StudyInstanceUID}/series/{headers[0].SeriesInstanceUID}/instances"
        found = json_of(session.fetch(f"{endpoint.url}/{place}", _JSON), endpoint.label, json.loads)
    finally:
        session.close()
    there = {text(one, SOP_INSTANCE) for one in found if isinstance(one, dict)} if isinstance(found, list) else set()
    if not there.issuperset(str(header.SOPInstanceUID) for header in headers):
        raise StoreRefused(f"The {endpoint.label} does not take the sample slide: does it accept this kind and size?")


def _post(session: HttpSession, content: bytes) -> None:
    upload = Upload(lambda: [content], len(content), hashlib.sha256(content).hexdigest())
    retrying(lambda: session.post_once(f"{session.endpoint.url}/studies", upload, _JSON, _THERE_ALREADY))
