"""Reconciliation against servers: a real PACS that slides are stored into meanwhile, and the dialects of others."""

import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

from connectors.archive import PAGE
from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.endpoints import Endpoint
from connectors.intake.protocol import Place
from models.domain.rule import Criteria, Rule
from tests.services.dialects.running import RunningDialect
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import load, renamed
from tests.services.slides import SlideOnDisk
from worker.intake_settings import WatchSettings
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision
from worker.watch.reconcile import Reconciler

_RULES = (Rule("slides", Criteria(modality=("SM",))),)
_WHOLE = WatchSettings(reconcile_days=0)
_TIMEOUT_S = 30.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a ledger in which an archive is watched."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        opened.arrivals.open("pacs", Place())
        yield opened


def arrived(ledger: Ledger) -> list[Arrival]:
    """Return what arrived and was not looked at yet."""
    return list(ledger.arrivals.items("pacs", ArrivalState.SETTLING))


def store_tiny(orthanc: Orthanc, study_uid: str) -> str:
    """Store an instance without pixels, of a series of its own; return the series' UID."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, generate_uid()
    dataset.StudyDate, dataset.Modality, dataset.PatientID = "20200101", "SM", study_uid[-16:]
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    requests.post(f"{orthanc.url}/instances", data=buffer.getvalue(), timeout=_TIMEOUT_S).raise_for_status()
    return str(dataset.SeriesInstanceUID)


def test_dialects_give_the_same_series(dialect: RunningDialect, ledger: Ledger) -> None:
    """Each product's limits, headers and tokens are kept to; a second search finds nothing new."""
    for _ in range(2):
        Reconciler(dialect.endpoint, ledger.arrivals, _RULES, _WHOLE).search()
        assert [(one.study_uid, one.series_uid, one.version) for one in arrived(ledger)] == [
            (dialect.slide.study_uid, dialect.slide.series_uid, 1)
        ]


def test_real_pacs_is_searched_by_days_and_for_undated_slides(
    cleared_orthanc: Orthanc, cmu_slide: SlideOnDisk, ledger: Ledger, tmp_path: Path
) -> None:
    """Slides of the last days and without one arrive with their numbers; a level that comes later is news."""
    today = f"{dt.datetime.now(dt.UTC):%Y%m%d}"
    wanted = [
        load(cleared_orthanc, renamed(cmu_slide, tmp_path / name, StudyDate=day, PatientID=name))
        for name, day in {"today": today, "undated": ""}.items()
    ]
    load(cleared_orthanc, renamed(cmu_slide, tmp_path / "old", StudyDate="20200101", PatientID="old"))
    load(cleared_orthanc, renamed(cmu_slide, tmp_path / "ct", StudyDate=today, PatientID="ct", Modality="CT"))
    ours = {"Manufacturer": MAKER, "ManufacturerModelName": PRODUCT}
    load(cleared_orthanc, renamed(cmu_slide, tmp_path / "ours", StudyDate=today, PatientID="ours", **ours))
    reconciler = Reconciler(Endpoint(cleared_orthanc.dicomweb, "pacs"), ledger.arrivals, _RULES, WatchSettings())
    reconciler.search()
    assert {one.series_uid for one in arrived(ledger)} == {one.slide.series_uid for one in wanted}
    assert {one.instances for one in arrived(ledger)} == {len(cmu_slide.levels)}
    for one in arrived(ledger):
        ledger.arrivals.decide(one, Decision(ArrivalState.SUBMITTED))
    reconciler.search()
    assert arrived(ledger) == []
    late = pydicom.dcmread(wanted[0].slide.levels[-1])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    late.save_as(tmp_path / "late.dcm", enforce_file_format=True)
    cleared_orthanc.load(tmp_path / "late.dcm")
    reconciler.search()
    assert [one.series_uid for one in arrived(ledger)] == [wanted[0].slide.series_uid]


@pytest.mark.faults
def test_slides_that_are_stored_between_pages_are_lost_to_nobody(cleared_orthanc: Orthanc, ledger: Ledger) -> None:
    """What the search at hand misses, or finds twice, the next one finds, once."""
    stored = {store_tiny(cleared_orthanc, generate_uid()) for _ in range(2 * PAGE + 30)}
    studies: list[str] = []

    def answer(asked: Asked) -> Answer | None:
        if "/studies?" in asked.path and "offset=0" not in asked.path and len(studies) < 20:
            studies.extend(generate_uid() for _ in range(10))
            stored.update(store_tiny(cleared_orthanc, study) for study in studies[-10:])
            listed = requests.get(f"{cleared_orthanc.url}/patients?limit=1&since=0", timeout=_TIMEOUT_S).json()
            gone = requests.get(f"{cleared_orthanc.url}/patients/{listed[0]}/series", timeout=_TIMEOUT_S).json()
            deleted.update(one["MainDicomTags"]["SeriesInstanceUID"] for one in gone)
            requests.delete(f"{cleared_orthanc.url}/patients/{listed[0]}", timeout=_TIMEOUT_S).raise_for_status()
        return None

    deleted: set[str] = set()
    with hostile_server(answer, cleared_orthanc.dicomweb) as server:
        reconciler = Reconciler(Endpoint(server.url, "pacs"), ledger.arrivals, _RULES, _WHOLE)
        reconciler.search()
        reconciler.search()
    assert len(studies) == 20
    assert {one.series_uid for one in arrived(ledger)} >= stored - deleted
    assert {one.version for one in arrived(ledger)} == {1}
