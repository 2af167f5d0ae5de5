"""``slidewire demo --send``: the sample slide goes to a PACS, as a scanner would send it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
import requests

from connectors.endpoints import Endpoint
from models.domain.errors import AccessDenied, StoreRefused
from tests.services.command import Slidewire
from tests.services.http import Reply, StrictServer
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk
from worker.demo.delivery import deliver


def _instances(orthanc: Orthanc) -> Sequence[str]:
    return list(requests.get(f"{orthanc.url}/instances", timeout=30.0).json())


def test_sample_arrives_once(
    slidewire: Slidewire, cleared_orthanc: Orthanc, cmu_svs: Path, cmu_slide: SlideOnDisk
) -> None:
    """The named endpoint has the sample's levels afterwards, and no more when it is sent again."""
    sample = slidewire.folder / "out" / "sample" / cmu_svs.name
    sample.parent.mkdir(parents=True)
    sample.write_bytes(cmu_svs.read_bytes())
    there = slidewire.beside("sender", SLIDEWIRE_ENDPOINTS__PACS__URL=cleared_orthanc.dicomweb)
    said = there("demo", "--out", slidewire.folder / "out", "--send", "pacs", "--json")
    assert said.rc == 0, said
    assert said.json == {"endpoint": "pacs", "instances": len(cmu_slide.levels)}
    assert len(_instances(cleared_orthanc)) == len(cmu_slide.levels)
    deliver(cmu_slide.levels, Endpoint(cleared_orthanc.dicomweb))
    assert len(_instances(cleared_orthanc)) == len(cmu_slide.levels)
    assert not (slidewire.folder / "out" / "state").exists()


def test_unknown_endpoint(slidewire: Slidewire) -> None:
    """An endpoint that no setting names is refused, with how to name one, before anything is fetched."""
    said = slidewire("demo", "--out", slidewire.folder / "out", "--send", "nowhere", "--json")
    assert said.rc != 0
    assert said.json["error"]["code"] == "REQUEST_INVALID"
    assert "[endpoints.NAME]" in said.json["error"]["message"]
    assert not (slidewire.folder / "out").exists()


@pytest.mark.parametrize("listed", [[], 7, [None], [{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]])
def test_a_server_that_only_says_yes(server: StrictServer, cmu_slide: SlideOnDisk, listed: object) -> None:
    """Whoever answers 200 and does not list the instances afterwards has refused them."""
    taken = Reply(200, b"{}", {"Content-Type": "application/dicom+json"})
    search = Reply(200, json.dumps(listed).encode(), {"Content-Type": "application/dicom+json"})
    server.replies = [*[taken] * len(cmu_slide.levels), search]
    with pytest.raises(StoreRefused, match="does not take the sample slide"):
        deliver(cmu_slide.levels, Endpoint(server.url))
    assert len(server.asked) == len(cmu_slide.levels) + 1


def test_a_server_that_says_it_has_them(server: StrictServer, cmu_slide: SlideOnDisk) -> None:
    """409 for an instance that is there already, as Google and Azure answer, is no error."""
    uids = [str(pydicom.dcmread(level, stop_before_pixels=True).SOPInstanceUID) for level in cmu_slide.levels]
    listed = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]
    search = Reply(200, json.dumps(listed).encode(), {"Content-Type": "application/dicom+json"})
    server.replies = [*[Reply(409)] * len(cmu_slide.levels), search]
    deliver(cmu_slide.levels, Endpoint(server.url))
    assert len(server.asked) == len(cmu_slide.levels) + 1


def test_a_server_that_denies_access(server: StrictServer, cmu_slide: SlideOnDisk) -> None:
    """Missing rights are told as such, and not taken for a refusal of the slide."""
    server.replies = [Reply(403)]
    with pytest.raises(AccessDenied):
        deliver(cmu_slide.levels, Endpoint(server.url))
