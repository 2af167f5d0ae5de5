"""The report: valid with and without annotations, complete, the same to the byte, read by highdicom."""

from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
from pydicom.dataset import Dataset

from connectors.dicom.annotations import build_annotations
from connectors.dicom.derived import to_bytes
from connectors.dicom.report import build_report
from tests.unit.connectors.dicom.results import (
    INSTANCE_UID,
    SPECIMEN_UID,
    dciodvfy,
    make_result,
    poor_header,
    rich_header,
)
from tests.unit.connectors.dicom.test_header import HOSTILE

HEADERS = [pytest.param(rich_header(), id="rich"), pytest.param(poor_header(), id="poor")]


def report(
    count: int, dimension: int, header: dict[str, Any], notes: tuple[str, ...] = ("No ICC profile.",)
) -> Dataset:
    """Return the report of a result, with its annotations if there are patches."""
    result = make_result(count, dimension, header, notes)
    return build_report(result, build_annotations(result) if count else None)


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
    read = hd.sr.srread(BytesIO(to_bytes(build_report(result, build_annotations(result)))))
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
    found = texts(build_report(result, build_annotations(result)))
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
    found = texts(build_report(result, None))
    assert not {"SPACING_X", "SPACING_Y", "SPACING_ASKED", "TISSUE_SHARE"} & set(found)
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
