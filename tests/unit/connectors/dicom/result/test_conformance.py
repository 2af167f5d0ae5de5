"""The conformance statement: what it says of attributes and codes is what the objects hold."""

import re
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag

from connectors.dicom.result import concepts
from connectors.dicom.result.derived import IMPLEMENTATION_UID
from connectors.dicom.result.inherited import FROM_PATIENT_AND_STUDY, FROM_SPECIMEN
from connectors.dicom.result.objects import build_objects
from tests.reference.standard_tables import type_of
from tests.reference.standard_tables import violations as table_violations
from tests.reference.tid1500 import violations as template_violations
from tests.unit.connectors.dicom.results import full_result, make_result, placed_header, poor_header

STATEMENT = Path(__file__).parents[5] / "docs" / "dicom-conformance.md"
SECTIONS = {
    "annotations": "Microscopy Bulk Simple Annotations",
    "map": "Parametric Map",
    "report": "Comprehensive 3D SR",
}
_ROW = re.compile(r"\| (> )?(.+?) \| \(([0-9A-F]{4}),([0-9A-F]{4})\) \| (\w+) \| ([123]C?) \| .+ \|")

Row = tuple[str, str, str]  # (sequence it is in or "", tag, "name VR")


def section(title: str) -> str:
    """Return the text of a section, to the next heading."""
    _, _, rest = STATEMENT.read_text(encoding="utf-8").partition(f"### {title}\n")
    assert rest, title
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def said(title: str) -> dict[Row, str]:
    """Return the rows of a section's table: what they are, and the type that they give."""
    rows: dict[Row, str] = {}
    within = ""
    for nested, name, group, number, vr, kind in _ROW.findall(section(title)):
        tag = group + number
        rows[(within if nested else "", tag, f"{name} {vr}")] = kind
        within = within if nested else tag
    return rows


def held(kind: str) -> dict[Row, str]:
    """Return the attributes of two objects of a kind, of a rich and a poor slide, without what is copied from it."""
    rows: dict[Row, str] = {}
    results = full_result(placed_header()), make_result(5, 3, poor_header())
    made = [one for result in results for one in build_objects(result, maps=True) if one.kind == kind]
    for one in made:
        dataset = pydicom.dcmread(BytesIO(b"".join(one.chunks())))
        for element in dataset:
            if element.keyword in FROM_PATIENT_AND_STUDY + FROM_SPECIMEN:
                continue
            rows[_row("", element)] = type_of(dataset, (element.keyword,))
            if element.VR == "SQ" and element.keyword != "ContentSequence":
                for child in (child for item in element.value for child in item):
                    rows[_row(_hex(element.tag), child)] = type_of(dataset, (element.keyword, child.keyword))
    return rows


def _hex(tag: BaseTag) -> str:
    return f"{int(tag):08X}"


def _row(within: str, element: pydicom.DataElement) -> Row:
    return within, _hex(element.tag), f"{dictionary_description(element.tag)} {element.VR}"


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_attribute_is_in_the_table_and_the_other_way_round(kind: str) -> None:
    """Name, tag, VR and type, also one level down; of what all objects have, the strictest type of the three."""
    common, own, there = said("All objects"), said(SECTIONS[kind]), held(kind)
    assert set(common) | set(own) == set(there)
    assert own == {row: there[row] for row in own}
    assert all(common[row] <= there[row] for row in common)


def test_every_private_code_is_there_with_its_meaning() -> None:
    """And no other: the table of codes is that of `connectors.dicom.result.concepts`."""
    codes = [code for code in vars(concepts).values() if isinstance(code, Code)]
    codes += [concepts.component(0), concepts.principal_component(0)]
    ours = {code.value: code.meaning for code in codes if code.scheme_designator == concepts.SCHEME}
    text = STATEMENT.read_text(encoding="utf-8").partition("## 6. Coded terminology")[2].partition("## 7.")[0]
    rows = re.findall(r"^\| `(\w+)`(?: \.\.\.)? \| (.+?)(?: \.\.\.)? \|", text, re.MULTILINE)
    assert dict(rows) == ours
    assert len(rows) == len(ours)


def test_the_report_holds_what_its_table_says() -> None:
    """Each private item of a full report is in the table of its content."""
    *_, report = build_objects(full_result(placed_header()), maps=True)
    told = section(SECTIONS["report"])
    for code in private_codes(report.dataset):
        assert re.search(rf"\b{code}\b", told), code


def private_codes(item: Dataset) -> set[str]:
    """Return the private codes that name the items of a report."""
    found: set[str] = set()
    for child in item.get("ContentSequence", []):
        name = child.ConceptNameCodeSequence[0]
        found |= {name.CodeValue} if name.CodingSchemeDesignator == concepts.SCHEME else set()
        found |= private_codes(child)
    return found


def test_the_implementation_is_named() -> None:
    """Class UID and version name are those of the files."""
    text = STATEMENT.read_text(encoding="utf-8")
    assert f"| Implementation Class UID | {IMPLEMENTATION_UID} |" in text
    assert concepts.SCHEME_UID in text


def test_the_tables_of_the_standard_find_what_is_wrong() -> None:
    """The second opinion is one: what is missing, empty, foreign or lacks a functional group is found."""
    annotations, made, report = (one.dataset for one in build_objects(full_result(placed_header()), maps=True))
    assert table_violations(made) == []
    del annotations.Manufacturer
    annotations.ContentLabel = ""
    annotations.KVP = "1"
    del annotations.AnnotationGroupSequence[0].AnnotationGroupUID
    assert sorted(line.partition(": ")[2] for line in table_violations(annotations)) == [
        "AnnotationGroupUID (type 1) is missing",
        "ContentLabel (type 1) is empty",
        "KVP is in no module of the IOD",
        "Manufacturer (type 1) is missing",
    ]
    del made.PerFrameFunctionalGroupsSequence[0].FrameContentSequence
    assert table_violations(made) == ["functional groups: FrameContentSequence is missing"]
    del report.ContentSequence[0].ConceptCodeSequence
    assert [line.partition(": ")[2] for line in table_violations(report)] == ["ConceptCodeSequence (type 1) is missing"]


def test_the_template_finds_what_is_wrong() -> None:
    """An item that is missing, in no row, empty, or related as the IOD does not allow is found."""
    *_, one = build_objects(full_result(placed_header()), maps=True)
    report = one.dataset
    assert template_violations(report) == []
    (imaging,) = (item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    items = imaging.ContentSequence[0].ContentSequence
    digest = next(item for item in items if item.ConceptNameCodeSequence[0].CodeValue == "FILE_SHA256")
    digest.ContentSequence[0].RelationshipType = "CONTAINS"
    digest.TextValue = ""
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in items]
    del items[names.index("112040")]
    report.ContentSequence.append(digest)
    found = template_violations(report)
    assert "root: FILE_SHA256 is in no row" in found
    assert "root/126010/125007: 0 items 112040" in found
    assert "FILE_SHA256 is empty" in found
    assert "TEXT CONTAINS COMPOSITE is not allowed" in found
