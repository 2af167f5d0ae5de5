"""What the sink for a PACS makes of archives that refuse a kind, or hold something else under our UIDs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest

from connectors.dicom.result.objects import build_objects
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from connectors.sinks.stow import StowSink, open_sink
from models.domain.embedding import Output, ResultKey
from models.domain.errors import StoreMismatch, StoreRefused
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef
from tests.services.dialects.archive import Stored
from tests.services.dialects.products import Dcm4chee
from tests.services.dialects.refusing import Discards, RefusesByReason, RefusesByStatus
from tests.services.dialects.running import RunningDialect, running
from tests.services.dialects.server import Dialect
from tests.services.slides import SlideOnDisk
from tests.unit.connectors.dicom.placed import on_grid
from tests.unit.connectors.dicom.results import slide

Refusing = type[RefusesByReason] | type[RefusesByStatus] | type[Discards]
_STUDY = str(slide().StudyInstanceUID)


@pytest.fixture
def result() -> Result:
    """Give a small result with a map."""
    return on_grid([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2)], dimension=4)


@contextmanager
def _archive(product: type[Dialect], cmu_slide: SlideOnDisk) -> Iterator[RunningDialect]:
    with running(product, cmu_slide) as one:
        one.dialect.archive.held.clear()
        yield one


def _held(one: RunningDialect) -> list[str]:
    return sorted(str(stored.dataset.Modality) for stored in one.dialect.archive.find())


@pytest.fixture(params=[RefusesByReason, RefusesByStatus, Discards], ids=lambda product: str(product.name))
def refusing(request: pytest.FixtureRequest, cmu_slide: SlideOnDisk) -> Iterator[RunningDialect]:
    """Run each archive that takes no annotations, with nothing in it."""
    with _archive(request.param, cmu_slide) as one:
        yield one


def test_a_kind_that_is_refused_ends_it(refusing: RunningDialect, result: Result) -> None:
    """As long as nothing else was asked for, nothing is stored, and the message names the way out."""
    sink = StowSink(refusing.endpoint, _STUDY)
    with pytest.raises(StoreRefused, match="--annotations if-accepted") as caught:
        sink.write(result)
    assert _held(refusing) == []
    assert "annotations" in caught.value.message
    assert not [uid for uid in (_STUDY, result.key.uid("annotations")) if uid in caught.value.message]


def test_the_report_alone(refusing: RunningDialect, result: Result) -> None:
    """Where annotations may be left out, the report is there and says why; the rest of its notes stay."""
    sink = StowSink(refusing.endpoint, _STUDY, annotations="if-accepted")
    noted = replace(result, provenance=replace(result.provenance, notes=("upsampled",)))
    [report] = sink.write(noted)
    assert (report.kind, _held(refusing)) == ("report", ["SR"])
    assert "refused the annotations" in report.note
    [stored] = refusing.dialect.archive.find()
    texts = {str(element.value) for element in stored.dataset.iterall() if element.VR == "UT"}
    assert {report.note, "upsampled", result.provenance.result_key, result.embeddings.digest} <= texts
    assert sink.holds(report)
    assert sink.write(noted) == (report,)
    assert _held(refusing) == ["SR"]


def test_maps_may_be_left_out_with_them(refusing: RunningDialect, result: Result) -> None:
    """Maps are another kind, which the archive refuses, too: the report says both."""
    sink = StowSink(refusing.endpoint, _STUDY, maps=True, annotations="if-accepted")
    [report] = sink.write(result)
    assert "refused the annotations" in report.note
    assert "refused the map" in report.note
    assert _held(refusing) == ["SR"]


class _NoMaps(Dcm4chee):
    """Takes all but maps."""

    def refused(self, sent: Stored) -> int | None:
        """Refuse Parametric Maps."""
        return 0x0122 if sent.dataset.Modality == "OT" else None


def test_only_what_is_refused_is_left_out(cmu_slide: SlideOnDisk, result: Result) -> None:
    """Annotations that were stored stay, are sent once, and the report refers to them."""
    with _archive(_NoMaps, cmu_slide) as one:
        sink = StowSink(one.endpoint, _STUDY, maps=True, annotations="if-accepted")
        annotations, report = sink.write(result)
        assert [annotations.kind, report.kind] == ["annotations", "report"]
        assert annotations.note == ""
        assert "map" in report.note
        assert "annotations" not in report.note
        assert _held(one) == ["ANN", "SR"]
        stored = [stored for stored in one.dialect.archive.find() if stored.uid == report.instance_uid]
        uids = {str(element.value) for element in stored[0].dataset.iterall() if element.VR == "UI"}
        assert annotations.instance_uid in uids
        sent = [pydicom.dcmread(BytesIO(file)).Modality for asked in one.server.stored for file in asked.objects]
        assert sent.count("ANN") == 1
        asked = [asked for asked in one.server.asked if asked.path.endswith(annotations.instance_uid)]
        assert len(asked) == 2, "looked for once before it was sent, and read back once"


class _OneObjectOnly(Dcm4chee):
    """Takes the first annotations object, and no second."""

    def refused(self, sent: Stored) -> int | None:
        """Refuse what is not the first."""
        return 0x0122 if int(sent.dataset.InstanceNumber) > 1 else None


def test_half_of_the_annotations_is_no_refusal_of_the_kind(
    cmu_slide: SlideOnDisk, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that has one part and not the next ends the job: half a result is not told to be none."""
    monkeypatch.setattr("connectors.dicom.result.parts.PART_BYTES", 3 * 4 * 4)
    with _archive(_OneObjectOnly, cmu_slide) as one:
        sink = StowSink(one.endpoint, _STUDY, annotations="if-accepted")
        with pytest.raises(StoreRefused, match="annotations"):
            sink.write(result)
        assert _held(one) == ["ANN"]


def _other_number(dataset: pydicom.Dataset) -> None:
    values = dataset.AnnotationGroupSequence[0].MeasurementsSequence[1].MeasurementValuesSequence[0]
    numbers = np.frombuffer(values.FloatingPointValues, "<f4").copy()
    numbers[0] += 0.25
    values.FloatingPointValues = numbers.tobytes()


def _other_pixel(dataset: pydicom.Dataset) -> None:
    pixels = np.frombuffer(dataset.FloatPixelData, "<f4").copy()
    pixels[np.flatnonzero(np.isfinite(pixels))[0]] += 0.25
    dataset.FloatPixelData = pixels.tobytes()


def _other_digest(dataset: pydicom.Dataset) -> None:
    for element in dataset.iterall():
        if element.VR == "SQ":
            for item in element.value:
                names = item.get("ConceptNameCodeSequence")
                if names and "TextValue" in item and len(item.TextValue) == 64:
                    item.TextValue = "ab" * 32


_OTHERWISE: dict[str, Callable[[pydicom.Dataset], None]] = {
    "annotations": _other_number, "map": _other_pixel, "report": _other_digest,
}  # fmt: skip


def _parsed(made: ResultObject) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(b"".join(made.chunks())))


def _file(dataset: pydicom.Dataset) -> Stored:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return Stored(buffer.getvalue())


@pytest.mark.parametrize("kind", sorted(_OTHERWISE))
def test_other_values_under_our_uid(cmu_slide: SlideOnDisk, result: Result, kind: str) -> None:
    """Of every kind: an alarm, nothing sent, and what is there stays."""
    [made] = [made for made in build_objects(result, maps=True) if made.kind == kind]
    foreign = _parsed(made)
    _OTHERWISE[kind](foreign)
    with _archive(Dcm4chee, cmu_slide) as one:
        one.dialect.archive.put(_file(foreign))
        sink = StowSink(one.endpoint, _STUDY, maps=True, annotations="if-accepted")
        with pytest.raises(StoreMismatch, match=kind):
            sink.write(result)
        uids = [pydicom.dcmread(BytesIO(file)).SOPInstanceUID for asked in one.server.stored for file in asked.objects]
        assert made.dataset.SOPInstanceUID not in uids
        assert _file(foreign).file in [stored.file for stored in one.dialect.archive.find()]


@pytest.mark.parametrize("kind", sorted(_OTHERWISE))
def test_our_values_in_other_bytes(cmu_slide: SlideOnDisk, result: Result, kind: str) -> None:
    """An archive that has changed what is not ours (a patient's name that was put right) holds the result."""
    with _archive(Dcm4chee, cmu_slide) as one:
        sink = StowSink(one.endpoint, _STUDY, maps=True)
        first = sink.write(result)
        [output] = [output for output in first if output.kind == kind]
        [stored] = [stored for stored in one.dialect.archive.find() if stored.uid == output.instance_uid]
        corrected = pydicom.dcmread(BytesIO(stored.file))
        corrected.PatientName = "Noether^Emmy"
        one.dialect.archive.put(_file(corrected))
        sent = len(one.server.stored)
        assert sink.write(result) == first
        assert len(one.server.stored) == sent


@pytest.mark.parametrize("content", [b"", b"no DICOM", b"\0" * 128 + b"DICM"], ids=["empty", "text", "cut off"])
def test_what_is_no_object_under_our_uid(
    cmu_slide: SlideOnDisk, result: Result, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is given under our UID and cannot be read is an alarm, too."""
    with _archive(Dcm4chee, cmu_slide) as one:
        sink = StowSink(one.endpoint, _STUDY)
        monkeypatch.setattr(sink._web, "instance", lambda _: content)
        with pytest.raises(StoreMismatch, match="no DICOM"):
            sink.write(result)
        assert one.server.stored == []


def test_an_output_of_another_server(cmu_slide: SlideOnDisk) -> None:
    """A file, or an instance elsewhere, is not this archive's to tell of; it is not asked."""
    with _archive(Dcm4chee, cmu_slide) as one:
        sink = StowSink(one.endpoint, _STUDY)
        for uri in ("out/a.parquet", f"{one.server.url}-2/studies/1/series/2/instances/3"):
            assert not sink.holds(Output("report", uri, "ab"))
        assert one.server.asked == []


def test_a_refused_report_has_a_uid_of_its_own(result: Result) -> None:
    """Reports that say different things are different objects; that the same was refused is the same."""
    whole, without, again = (
        [made.dataset for made in build_objects(result, refused=refused)][-1]
        for refused in ({}, {"annotations": "refused (415)"}, {"annotations": "refused (0122H)"})
    )
    assert whole.SOPInstanceUID == result.key.uid("report")
    assert whole.SOPInstanceUID != without.SOPInstanceUID == again.SOPInstanceUID
    assert ResultKey(result.key.sha256) == result.key


def test_no_write_back_no_sink() -> None:
    """A request for files only opens no such sink."""
    from connectors.endpoints import Endpoints

    assert open_sink(OutputSpec("out"), SlideRef("image", "slide.png"), Endpoints()) is None
