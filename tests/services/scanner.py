"""Two real Orthancs: a scanner that sends by DIMSE (PS3.4 B), and the archive that it sends to."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from tests.services.orthanc import Orthanc, start_orthanc
from tests.services.ports import free_port

_TIMEOUT_S = 120.0
SCANNER, ARCHIVE = "SCANNER", "ARCHIVE"


@dataclass(frozen=True)
class SmallSeries:
    """Some instances without pixels, a few hundred bytes each: for what does not look inside.

    Parameters
    ----------
    study_uid, series_uid : str
    instance_uids : tuple of str
    """

    study_uid: str
    series_uid: str
    instance_uids: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Study and series UID."""
        return self.study_uid, self.series_uid

    def files(self, padding: int = 0) -> Iterator[bytes]:
        """Yield the DICOM files, larger by so many bytes."""
        for uid in self.instance_uids:
            yield _file(self, uid, padding)


def small_series(instances: int = 1) -> SmallSeries:
    """Make a series up that no archive has."""
    return SmallSeries(generate_uid(), generate_uid(), tuple(generate_uid() for _ in range(instances)))


def _file(series: SmallSeries, uid: str, padding: int) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study_uid, series.series_uid
    dataset.PatientID, dataset.Modality = series.study_uid, "SM"
    dataset.EncapsulatedDocument = bytes(padding)
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def store(orthanc: Orthanc, *series: SmallSeries, padding: int = 0) -> None:
    """Store series through Orthanc's REST API."""
    with requests.Session() as session:
        for one in series:
            for file in one.files(padding):
                session.post(f"{orthanc.url}/instances", data=file, timeout=_TIMEOUT_S).raise_for_status()


def holdings(orthanc: Orthanc) -> dict[tuple[str, str], int]:
    """Return what an Orthanc has: the number of instances by study and series UID."""
    found = requests.get(f"{orthanc.url}/series?expand", timeout=_TIMEOUT_S).json()
    # After the series, while others come in: their studies are there by now.
    studies = requests.get(f"{orthanc.url}/studies?expand", timeout=_TIMEOUT_S).json()
    uids = {study["ID"]: study["MainDicomTags"]["StudyInstanceUID"] for study in studies}
    return {
        (uids[one["ParentStudy"]], one["MainDicomTags"]["SeriesInstanceUID"]): len(one["Instances"]) for one in found
    }


@dataclass(frozen=True)
class Laboratory:
    """The scanner's side and the archive, both running."""

    scanner: Orthanc
    archive: Orthanc

    def send(self, series: Iterable[SmallSeries] | None = None) -> bool:
        """Let the scanner send series, or all it has, by C-STORE; whether every one of them went through."""
        url = f"{self.scanner.url}/modalities/archive/store"
        answer = requests.post(url, json=self._ids(series), timeout=_TIMEOUT_S)
        return answer.ok and answer.json()["FailedInstancesCount"] == 0

    def begin_to_send(self) -> None:
        """Let the scanner send all it has, and do not wait for it."""
        url = f"{self.scanner.url}/modalities/archive/store"
        wanted = {"Resources": self._ids(None), "Asynchronous": True}
        requests.post(url, json=wanted, timeout=_TIMEOUT_S).raise_for_status()

    def _ids(self, series: Iterable[SmallSeries] | None) -> list[str]:
        url = self.scanner.url
        if series is None:
            return list(requests.get(f"{url}/series", timeout=_TIMEOUT_S).json())
        found = [requests.post(f"{url}/tools/lookup", data=one.series_uid, timeout=_TIMEOUT_S).json() for one in series]
        return [one[0]["ID"] for one in found]


@contextmanager
def laboratory(folder: Path, **options: object) -> Iterator[Laboratory]:
    """Run both for the length of a block; `options` are the archive's, over what is shipped."""
    port = free_port()
    archive = start_orthanc(
        folder / "archive", {"DicomServerEnabled": True, "DicomPort": port, "DicomAet": ARCHIVE} | options
    )
    try:
        peers = {"archive": [ARCHIVE, "127.0.0.1", port]}
        scanner = start_orthanc(folder / "scanner", {"DicomAet": SCANNER, "DicomModalities": peers})
        try:
            yield Laboratory(scanner, archive)
        finally:
            scanner.stop()
    finally:
        archive.stop()
