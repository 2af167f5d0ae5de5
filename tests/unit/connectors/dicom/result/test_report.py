"""The report: valid with and without annotations, complete, the same to the byte, read by highdicom."""

import copy
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from connectors.dicom.result.derived import to_bytes
from connectors.dicom.result.objects import build_objects
from connectors.dicom.result.report import build_report
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from models.domain.embedding import Embeddings, Output
from tests.reference.tid1500 import violations
from tests.unit.connectors.dicom.result.test_header import HOSTILE
from tests.unit.connectors.dicom.results import (
    INSTANCE_UID,
    SERIES_UID,
    SPECIMEN_UID,
    dciodvfy,
    full_result,
    make_result,
    placed_header,
    poor_header,
    rich_header,
)

HEADERS = [pytest.param(rich_header(), id="rich"), pytest.param(poor_header(), id="poor")]


def report_of(result: Result) -> Dataset:
    """Return the report of a result, which comes after its other objects."""
    *_, report = build_objects(result)
    assert report.kind == "report"
    return report.dataset


def report(
    count: int, dimension: int, header: dict[str, Any], notes: tuple[str, ...] = ("No ICC profile.",)
) -> Dataset:
    """Return the report of a result, with its annotations if there are patches."""
    return report_of(make_result(count, dimension, header, notes))


def texts(item: Dataset) -> dict[str, list[Any]]:
    """Return the values of all content items by the value of their concept's code."""
    found: dict[str, list[Any]] = {}
    for child in item.get("ContentSequence", []):
        name = child.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in child else ""
        if child.ValueType == "NUM":
            found.setdefault(name, []).append(float(child.MeasuredValueSequence[0].NumericValue))
        else:
            found.setdefault(name, []).append(child.get("TextValue") or child.get("UID"))
        for key, values in texts(child).items():
            found.setdefault(key, []).extend(values)
    return found


@pytest.mark.parametrize("count", [0, 300])
@pytest.mark.parametrize("dimension", [8, 384])
@pytest.mark.parametrize("header", HEADERS)
def test_dciodvfy_finds_no_error(header: dict[str, Any], dimension: int, count: int, tmp_path: Path) -> None:
    """David Clunie's validator has nothing against the report but warnings, also without patches."""
    lines = dciodvfy(to_bytes(report(count, dimension, header)), tmp_path)
    assert "Comprehensive3DSR" in lines
    assert [line for line in lines if line.startswith("Error")] == []


def test_highdicom_reads_it_as_a_measurement_report() -> None:
    """Another library finds the template, the measurements, the algorithm and the evidence."""
    result = make_result(300, 384, rich_header())
    read = hd.sr.srread(BytesIO(to_bytes(report_of(result))))
    (group,) = read.content.get_image_measurement_groups()
    values = {item.name.value: item.value for item in group.get_measurements()}
    assert (values["PATCHES"], values["DIMENSION"], values["GRID_PATCHES"]) == (300, 384, 305)
    assert (values["SPACING_X"], values["SPACING_Y"], values["SPACING_ASKED"]) == (1 / 3, 0.499, 0.5)
    assert (values["LEVEL"], values["TISSUE_SHARE"]) == (1, 0.1)
    assert group.source_images[0].referenced_sop_instance_uid == INSTANCE_UID
    evidence = {str(instance) for _, _, instance, _ in read.get_evidence()}
    assert evidence == {INSTANCE_UID, result.key.uid("annotations")}


def test_it_says_how_the_result_came_about() -> None:
    """Encoder, weights, licence, pre-processing, digest and every note are there as text."""
    result = make_result(40, 8, rich_header(), ("First note.", "Second\nnote."))
    object.__setattr__(result.provenance, "encoder_options", (("precision", "bf16"),))
    found = texts(report_of(result))
    assert found["VALUES_SHA256"] == [result.embeddings.digest]
    assert found["MODEL_SHA256"] == ["ab" * 32]
    assert found["MODEL_LICENCE"] == ["Apache-2.0"]
    assert found["111001"] == ["efficientnet-lite0"]
    assert found["111003"] == ["r1"]
    assert {f"weights_sha256={'ab' * 32}", "precision=bf16"} <= set(found["111002"])
    assert found["NOTE"] == ["First note.", "Second note."]
    assert found["RESULT_KEY"] == [result.key.sha256]
    assert found["121039"] == [SPECIMEN_UID]
    assert found["111700"] == ["S26-17-A-1"]


def test_what_is_unknown_is_left_out() -> None:
    """No spacing, no tissue threshold and no weights leave no invented number."""
    result = make_result(4, 8, poor_header())
    changes = {"spacing_um": None, "tissue_fraction": None, "requested_spacing_um": None, "weights_sha256": ""}
    for name, value in changes.items():
        object.__setattr__(result.provenance, name, value)
    found = texts(build_report(result, ()))
    assert not {"SPACING_X", "SPACING_Y", "SPACING_ASKED", "TISSUE_SHARE", "FALLBACKS", "FILE_SHA256"} & set(found)
    assert found["MODEL_SHA256"] == ["none"]


def test_the_same_result_is_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no random number: a year later the bytes are the same."""
    first = to_bytes(report(50, 8, rich_header()))

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("datetime.datetime", Later)
    monkeypatch.setattr("time.time", lambda: 1_930_000_000.0)
    assert to_bytes(report(50, 8, rich_header())) == first


def test_a_hostile_header_is_written_all_the_same(tmp_path: Path) -> None:
    """Nonsense in the header neither raises nor warns on the way to the file."""
    specimen = {"00400560": {"vr": "SQ", "Value": [{"00400554": {"vr": "UI", "Value": ["x"]}}, 4]}}
    data = to_bytes(report(5, 8, poor_header() | HOSTILE | specimen))
    assert "Comprehensive3DSR" in dciodvfy(data, tmp_path)


def digests(report: Dataset) -> dict[str, str]:
    """Return each digest of a file by the UID or the name of the file that is said below it."""
    found = {}
    (imaging,) = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for item in imaging.ContentSequence[0].ContentSequence:
        if item.ConceptNameCodeSequence[0].CodeValue == "FILE_SHA256":
            (below,) = item.ContentSequence
            if below.ValueType == "COMPOSITE":
                assert below.RelationshipType == "INFERRED FROM"
                found[str(below.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)] = str(item.TextValue)
            else:
                assert (below.RelationshipType, below.ValueType) == ("HAS PROPERTIES", "TEXT")
                found[str(below.TextValue)] = str(item.TextValue)
    return found


def test_each_object_before_it_is_there_with_the_digest_of_its_file() -> None:
    """Annotations and map are named by UID, with the sha256 of what lies in the folder, and are evidence by series."""
    *others, made = build_objects(full_result(placed_header()), maps=True)
    digested = {str(other.dataset.SOPInstanceUID): sha256(b"".join(other.chunks())).hexdigest() for other in others}
    assert [other.kind for other in others] == ["annotations", "map"]
    assert digests(made.dataset) == digested | {"gs://bucket/slide.parquet": "ab" * 32}
    (study,) = made.dataset.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        str(series.SeriesInstanceUID): [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence]
        for series in study.ReferencedSeriesSequence
    }
    assert evidence == {SERIES_UID: [INSTANCE_UID]} | {
        str(other.dataset.SeriesInstanceUID): [str(other.dataset.SOPInstanceUID)] for other in others
    }


def test_parts_of_a_large_result_are_one_series_in_the_evidence() -> None:
    """A series is named once, with all of its instances, and each instance has its digest."""
    result = make_result(40, 8, rich_header())
    (first, _) = build_objects(result)
    second_part = copy.deepcopy(first.dataset)
    second_part.SOPInstanceUID = result.key.uid("annotations/2")
    second = ResultObject("annotations", 2, second_part, first.values_sha256)
    report = build_report(result, [first, second])
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    _, series = study.ReferencedSeriesSequence
    uids = [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
    assert uids == [first.dataset.SOPInstanceUID, second_part.SOPInstanceUID]
    assert digests(report) == {uids[0]: first.sha256, uids[1]: second.sha256}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("/home/jane.doe/slides/out/S.lite0.0f0f.parquet", "S.lite0.0f0f.parquet"),
        ("file:///home/jane.doe/S.h5", "S.h5"),
        ("C:\\Users\\jane.doe\\S.h5", "S.h5"),
        ("/home/jane.doe/S.zarr/", "S.zarr"),
        ("gs://bucket/run 7/S.parquet", "gs://bucket/run 7/S.parquet"),
        ("s3://key:secret@bucket/S.parquet?X-Amz-Signature=secret#secret", "s3://bucket/S.parquet"),
    ],
)
def test_a_table_is_named_without_what_is_nobodys_business(uri: str, said: str) -> None:
    """Of a path the last part, of a URI neither user nor query."""
    report = report_of(replace(make_result(4, 8, rich_header()), written=(Output("parquet", uri, "cd" * 32),)))
    assert digests(report)[said] == "cd" * 32


def test_of_what_was_written_only_tables_are_said() -> None:
    """The report has the same bytes in a folder and in a PACS, whichever was written first."""
    result = make_result(4, 8, rich_header())
    table = Output("trident", "/out/S.trident.h5", "01" * 32)
    objects = tuple(
        Output(kind, f"/out/S.{kind}", "02" * 32) for kind in ("annotations", "map", "report", "picture", "page")
    )
    assert to_bytes(report_of(replace(result, written=(*objects, table)))) == to_bytes(
        report_of(replace(result, written=(table,)))
    )


def test_holes_and_fallbacks_are_counted() -> None:
    """Patches with numbers, share of the grid, patches without numbers, patches without stain normalisation."""
    whole = make_result(40, 8, rich_header()).embeddings
    matrix = whole.matrix.copy()
    matrix[:3] = np.nan
    fallbacks = np.arange(40) >= 35
    embeddings = Embeddings(matrix, whole.boxes, whole.positions_px, whole.positions_um, fallbacks)
    result = replace(make_result(40, 8, rich_header()), embeddings=embeddings)
    found = texts(report_of(result))
    assert (found["PATCHES"], found["HOLES"], found["FALLBACKS"]) == ([37], [3], [5])
    assert found["GRID_SHARE"] == [pytest.approx(37 / 45)]
    assert found["VALUES_SHA256"] == [embeddings.digest]
    assert texts(report(40, 8, rich_header()))["HOLES"] == [0]


def test_hundreds_of_notes_take_no_time_that_matters() -> None:
    """A thousand notes are a report of a thousand items, each as it was said."""
    notes = tuple(f"note {number}" for number in range(1000))
    assert texts(report(4, 8, rich_header(), notes))["NOTE"] == list(notes)


def test_it_fulfils_the_templates() -> None:
    """TID 1500 and those that it includes: what is mandatory is there, with value type, relationship and number."""
    for header, notes in ((rich_header(), ("One.", "Two.")), (poor_header(), ())):
        for count in (0, 40):
            assert violations(report(count, 8, header, notes)) == []
