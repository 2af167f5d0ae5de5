"""The look at what arrived in a real PACS: jobs of what is whole, patience with what is not, and an account of it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.intake.protocol import Place, Sighting
from models.domain.errors import RequestError, SeriesNotFound
from models.domain.job import JobState
from tests.rows import structures
from tests.rows.structures import picture
from tests.services.hostile import Answer, Asked, HostileServer, passed_on
from tests.services.orthanc import Orthanc
from worker.cli.watch_view import explained
from worker.ledger.arrival_records import Arrival, ArrivalState, Patience
from worker.settings import Settings
from worker.watch.explain import explain
from worker.watch.look import MOST_WAIT_S, Look, Outcome
from worker.watch.rules import rules_of
from worker.wiring import Installation

_PATCHES = {"native": True, "patch_px": 32, "all_patches": True}
_RULE: dict[str, Any] = {"name": "slides", "encoder": "pixel-grid", "out": "/srv/out", "patches": _PATCHES}
_QUIET_S, _DEADLINE_H = 8.0, 1.0


@dataclass
class Archive:
    """A series that grows in a PACS, and a watch that looks at it; nothing runs."""

    orthanc: Orthanc
    server: HostileServer
    folder: Path
    installation: Installation

    def __post_init__(self) -> None:
        self.study_uid, self.series_uid = generate_uid(), generate_uid()
        self.installation.ledger.arrivals.open("pacs", Place())

    @property
    def looking(self) -> Look:
        """The look of a watch that has just started."""
        return Look(self.installation, rules_of(self.installation.settings, "pacs"))

    @property
    def arrival(self) -> Arrival:
        """The series as the ledger has it."""
        found = self.installation.ledger.arrivals.of_series("pacs", self.study_uid, self.series_uid)
        assert found is not None
        return found

    def store(self, *instances: FileDataset) -> Arrival:
        """Store instances of the series, and let the event log tell of it."""
        folder = self.folder / generate_uid()
        folder.mkdir(parents=True)
        for place, instance in enumerate(instances):
            instance.StudyInstanceUID, instance.SeriesInstanceUID = self.study_uid, self.series_uid
            instance.save_as(folder / f"{place}.dcm", enforce_file_format=True)
        self.orthanc.load(folder)
        return self.tell()

    def tell(self) -> Arrival:
        """Let the event log tell of the series."""
        arrivals, sighting = self.installation.ledger.arrivals, Sighting(self.study_uid, self.series_uid)
        watch = arrivals.find("pacs")
        assert watch is not None
        after = replace(watch.place, cursor=watch.place.cursor + 1)
        assert arrivals.read("pacs", watch.place, after, [sighting], Patience(_QUIET_S, _DEADLINE_H * 3600))
        return self.arrival

    def settle(self) -> Outcome:
        """Look at the series, and write down what was found, as the settler does."""
        seen = self.arrival
        outcome = self.looking.look(seen)
        arrivals = self.installation.ledger.arrivals
        if outcome.job is None:
            assert arrivals.decide(seen, outcome.decision)
        else:
            assert arrivals.submit(seen, outcome.decision, outcome.job) is not None
        return outcome

    def asked(self, what: str) -> list[str]:
        """Return the paths that were asked for and hold a word."""
        return [one.path for one in self.server.asked if what in one.path]


Opened = Callable[..., Archive]


@pytest.fixture
def opened(orthanc: Orthanc, tmp_path: Path) -> Iterator[Opened]:
    """Open archives: with an answer that comes before Orthanc's, and the settings of the rule that are not usual."""
    closing: list[Callable[[], None]] = []

    def open_archive(answer: Callable[[Asked], Answer | None] = lambda _: None, **rule: Any) -> Archive:
        server = HostileServer(answer, orthanc.dicomweb)
        server.start()
        settings = Settings(
            state_folder=tmp_path / f"state-{len(closing)}",
            ledger_url="",
            endpoints={"pacs": {"url": server.url}},
            rules=[_RULE | rule],
            watch={"quiet_s": _QUIET_S, "deadline_h": _DEADLINE_H},
        )
        installation = Installation(settings)
        closing.extend([server.stop, installation.ledger.close])
        return Archive(orthanc, server, tmp_path / "files", installation)

    yield open_archive
    for close in reversed(closing):
        close()


def _late(arrival: Arrival) -> Arrival:
    return replace(arrival, now=arrival.deadline_at)


def _label() -> FileDataset:
    dataset = structures.level(picture(1, 32, 32))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    return dataset


def test_a_slide_becomes_one_job(opened: Opened) -> None:
    """It is submitted once; told again, or with its label, it is not; a late level makes another job of it."""
    archive = opened()
    archive.store(structures.level(picture(1)))
    first = archive.settle()
    assert first.job is not None
    assert (first.decision.state, first.decision.rule) == (ArrivalState.SUBMITTED, "slides")
    assert archive.arrival.instances == 1
    for again in (archive.tell, lambda: archive.store(_label())):
        again()
        outcome = archive.settle()
        assert (outcome.decision.state, outcome.job) == (ArrivalState.SUBMITTED, None)
    assert outcome.decision.instances == 2
    job_id = archive.arrival.job_id
    archive.store(structures.level(picture(2, 300, 200), spacing_um=0.25))
    second = archive.settle()
    assert second.job is not None
    assert second.job.patches > first.job.patches
    assert archive.arrival.job_id != job_id
    assert archive.installation.ledger.jobs.get(job_id).state is JobState.CANCELLED


def test_parts_that_come_one_by_one(opened: Opened) -> None:
    """A slide is waited for ever longer, to the deadline, and then late; its last part makes it whole at any time."""
    archive = opened()
    parts = structures.concatenation(picture(1), [0, 3, 11])
    archive.store(parts[2], parts[0])
    waits = [archive.settle() for _ in range(3)]
    assert [one.decision.state for one in waits] == [ArrivalState.INCOMPLETE] * 3
    assert [one.decision.code for one in waits] == ["SLIDE_INCOMPLETE"] * 3
    assert [one.decision.again_s for one in waits] == [_QUIET_S, 2 * _QUIET_S, 4 * _QUIET_S]
    assert "missing of the 3 parts of its concatenation: 2." in waits[0].why
    assert archive.arrival.instances == 2
    often = replace(archive.arrival, tries=50)
    assert archive.looking.look(often).decision.again_s == MOST_WAIT_S
    nearly = replace(often, now=often.deadline_at - 7)
    assert archive.looking.look(nearly).decision.again_s == pytest.approx(7)
    late = archive.looking.look(_late(archive.arrival)).decision
    assert (late.state, late.code, late.rule) == (ArrivalState.OVERDUE, "SLIDE_INCOMPLETE", "slides")
    assert archive.installation.ledger.arrivals.decide(archive.arrival, late)
    archive.store(parts[1])
    assert archive.settle().job is not None


def test_a_label_alone_is_waited_for(opened: Opened) -> None:
    """Its slide may still come; where labels are series of their own, none ever does, and nobody is alarmed."""
    archive = opened()
    archive.store(_label())
    assert archive.settle().decision.state is ArrivalState.INCOMPLETE
    late = archive.looking.look(_late(archive.arrival)).decision
    assert (late.state, late.code) == (ArrivalState.PASSED_OVER, "NOT_A_SLIDE")
    assert archive.installation.ledger.arrivals.decide(archive.arrival, late)
    archive.store(structures.level(picture(1)))
    assert archive.settle().job is not None


@pytest.mark.parametrize("changes", [{"Modality": "CT"}, {"Manufacturer": MAKER, "ManufacturerModelName": PRODUCT}])
def test_what_no_rule_is_for_costs_one_small_request(opened: Opened, changes: dict[str, str]) -> None:
    """Neither the metadata of a large CT nor those of our own results are fetched."""
    archive = opened()
    dataset = structures.level(picture(1))
    for name, said in changes.items():
        setattr(dataset, name, said)
    archive.store(dataset, _other(dataset))
    archive.server.asked.clear()
    decision = archive.settle().decision
    assert decision.state is ArrivalState.PASSED_OVER
    assert decision.code == ("NO_RULE" if "Modality" in changes else "OWN_RESULT")
    assert decision.instances == 2
    [asked] = archive.server.asked
    assert "SeriesInstanceUID=" in asked.path


def _other(dataset: FileDataset) -> FileDataset:
    other = structures.level(picture(2))
    for name in ("Modality", "Manufacturer", "ManufacturerModelName"):
        setattr(other, name, getattr(dataset, name))
    return other


def test_a_server_that_cannot_search(opened: Opened) -> None:
    """One that refuses the search, or heeds no criterion, is read all the same; our own results are known there."""
    another = [{"0020000E": {"vr": "UI", "Value": ["1.2"]}, "00080060": {"vr": "CS", "Value": ["CT"]}}]
    unfiltered = Answer(200, json.dumps(another).encode(), {"Content-Type": "application/dicom+json"})
    for answer in (Answer(400), unfiltered, Answer(204)):
        archive = opened(lambda asked, said=answer: said if "SeriesInstanceUID=" in asked.path else None)
        archive.store(structures.level(picture(1)))
        assert archive.settle().job is not None
        dataset = structures.level(picture(3))
        dataset.Manufacturer, dataset.ManufacturerModelName = MAKER, PRODUCT
        archive.store(dataset)
        assert archive.settle().decision.code == "OWN_RESULT"


def test_a_series_that_is_gone(opened: Opened) -> None:
    """Deleted before it was looked at: passed over, with the reason."""
    archive = opened()
    archive.tell()
    decision = archive.settle().decision
    assert (decision.state, decision.code) == (ArrivalState.PASSED_OVER, "SERIES_NOT_FOUND")


@pytest.mark.parametrize(
    ("answer", "code", "again_s"),
    [
        (Answer(503, headers={"Retry-After": "120"}), "ENDPOINT_BUSY", 120.0),
        (Answer(503, headers={"Retry-After": "86400"}), "ENDPOINT_BUSY", MOST_WAIT_S),
        (Answer(401), "ACCESS_DENIED", None),
        (Answer(404), "ENDPOINT_FAILED", None),
        (Answer(200, b"<html>"), "RESPONSE_INVALID", None),
    ],
)
def test_a_server_that_fails(opened: Opened, answer: Answer, code: str, again_s: float | None) -> None:
    """No slide is lost by it: it is looked at again, as the server says, or soon; only nonsense has an end."""
    archive = opened(lambda asked: answer if asked.path.endswith("/metadata") else None)
    archive.store(structures.level(picture(1)))
    decision = archive.settle().decision
    assert (decision.state, decision.code) == (ArrivalState.SETTLING, code)
    assert 5 <= decision.again_s <= 60 if again_s is None else decision.again_s == again_s
    ended = archive.looking.look(_late(archive.arrival)).decision
    assert ended.state is (ArrivalState.FAILED if code == "RESPONSE_INVALID" else ArrivalState.SETTLING)


def test_a_slide_that_is_too_coarse(opened: Opened) -> None:
    """A finer level may come until the deadline; no pixel is read before, and afterwards it is late."""
    archive = opened(patches={"spacing_um": 0.25, "patch_px": 32})
    archive.store(structures.level(picture(1)))
    waits = archive.settle()
    assert (waits.decision.state, waits.decision.code) == (ArrivalState.INCOMPLETE, "SPACING_TOO_FINE")
    assert waits.decision.again_s == pytest.approx(_DEADLINE_H * 3600, abs=60)
    assert archive.asked("/frames/") == []
    late = archive.looking.look(_late(archive.arrival)).decision
    assert (late.state, late.code) == (ArrivalState.OVERDUE, "SPACING_TOO_FINE")
    archive.store(structures.level(picture(2, 300, 200), spacing_um=0.25))
    assert archive.settle().job is not None


def test_a_slide_that_nobody_can_embed(opened: Opened) -> None:
    """What lies in the slide or in the rule ends with its code; nothing is queued."""
    archive = opened()
    planes = structures.level(picture(1), structures.tiles_of(picture(1)) * 3)
    planes.TotalPixelMatrixFocalPlanes = 3
    archive.store(planes)
    assert (archive.settle().decision.state, archive.arrival.code) == (ArrivalState.FAILED, "SLIDE_AMBIGUOUS")
    small = opened(patches={"native": True, "patch_px": 512, "all_patches": True})
    small.store(structures.level(picture(1)))
    assert (small.settle().decision.state, small.arrival.code) == (ArrivalState.FAILED, "SLIDE_TOO_SMALL")
    again = small.installation.ledger.arrivals
    assert again.retry("pacs", Patience(_QUIET_S, 60.0)) == 1
    assert [one.serial for one in again.due("pacs", 5)] == [small.arrival.serial]


def test_a_slide_that_changes_while_it_is_looked_at(opened: Opened, orthanc: Orthanc) -> None:
    """What was found whole is what is queued; if it is not, it is looked at again."""
    asked_before: list[str] = []

    def answer(asked: Asked) -> Answer | None:
        if not asked.path.endswith("/metadata"):
            return None
        given = passed_on(asked, orthanc.dicomweb)
        asked_before.append(asked.path)
        kept = json.loads(given.body)[: len(asked_before)]
        return Answer(200, json.dumps(kept).encode(), {"Content-Type": "application/dicom+json"})

    archive = opened(answer)
    archive.store(structures.level(picture(1)), structures.level(picture(2, 300, 200), spacing_um=0.25))
    again = archive.settle()
    assert (again.decision.state, again.job) == (ArrivalState.SETTLING, None)
    assert again.decision.again_s == _QUIET_S
    assert archive.settle().job is not None


def test_explain(opened: Opened) -> None:
    """However the series is named, each criterion and level is told, and what would be done; nothing is written."""
    archive = opened(station=["SCAN*"])
    dataset = structures.level(picture(1))
    dataset.StationName = "SCAN7"
    archive.store(dataset)
    before = archive.arrival
    names = (
        f"pacs/{archive.study_uid}/{archive.series_uid}",
        f"{archive.study_uid}/{archive.series_uid}",
        archive.series_uid,
        f"{archive.server.url}/studies/{archive.study_uid}/series/{archive.series_uid}",
    )
    [told] = {json.dumps(_plain(explain(archive.installation, "pacs", name).to_json())) for name in names}
    said = json.loads(told)
    assert (said["would_be"], said["rule"], said["whole"]) == ("submitted", "slides", True)
    assert said["job"] == {"encoder": "pixel-grid", "patches": 12, "lane": "standard"}
    [rule] = said["rules"]
    assert {check["trait"]: check["found"] for check in rule["checks"]} == {"modality": "SM", "station": "SCAN7"}
    [level] = said["levels"]
    assert (level["width_px"], level["height_px"], level["lacks"]) == (150, 100, "")
    assert said["arrival"]["state"] == "settling"
    assert archive.series_uid not in told
    assert replace(archive.arrival, now=before.now) == before
    lines = "\n".join(explained(said))
    for words in ("rule slides: holds", "wanted: SCAN*; found: SCAN7", "level 0: 150 x 100 px", "12 patches"):
        assert words in lines
    archive.settle()
    job = explain(archive.installation, "pacs", archive.series_uid).to_json()["arrival"]
    assert (job["state"], job["job"], job["job_state"]) == ("submitted", archive.arrival.job_id, "queued")


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out what passes."""
    told["arrival"]["due_s"] = 7.0
    return told


def test_explain_what_is_not_taken(opened: Opened) -> None:
    """Also of a series that no rule is for all is told, of one that never came, and of one that is not whole."""
    archive = opened(station=["SCAN*"])
    parts = structures.concatenation(picture(1), [0, 3, 11])
    archive.tell()
    archive.store(parts[0])
    said = explain(archive.installation, "pacs", archive.series_uid).to_json()
    assert (said["would_be"], said["code"]) == ("passed-over", "NO_RULE")
    assert said["whole"] is False
    assert "missing of the 3 parts of its concatenation: 2, 3" in "\n".join(explained(said))
    archive.series_uid = generate_uid()
    fresh = structures.level(picture(5))
    fresh.StudyInstanceUID, fresh.SeriesInstanceUID, fresh.Modality = archive.study_uid, archive.series_uid, "OT"
    fresh.save_as(archive.folder / "fresh.dcm", enforce_file_format=True)
    archive.orthanc.load(archive.folder / "fresh.dcm")
    said = explain(archive.installation, "pacs", f"{archive.study_uid}/{archive.series_uid}").to_json()
    assert (said["code"], said["arrival"]) == ("NO_RULE", None)
    assert "it has never been seen" in "\n".join(explained(said))


def test_explain_refuses(opened: Opened) -> None:
    """What is no series of that archive is said so."""
    archive = opened()
    for name, error in (
        (generate_uid(), SeriesNotFound),
        (f"{generate_uid()}/{generate_uid()}", SeriesNotFound),
        ("no uid", RequestError),
        ("https://elsewhere.test/dicom-web/studies/1.2/series/1.3", RequestError),
    ):
        with pytest.raises(error):
            explain(archive.installation, "pacs", name)
