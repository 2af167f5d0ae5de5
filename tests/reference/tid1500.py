"""PS3.16 TID 1500 and the templates it includes, row by row, as far as a report on a machine's work needs them.

Written after the tables of PS3.16, not after the code that makes the report, but without their text at hand: TID 1500,
1204, 1001, 1002, 1004, 1006, 1009, 1501, 4019, 300. PixelMed's DicomSRValidator, which has them, agrees
(docs/dicom-conformance.md). A row is: relationship, value type, concept, how many there may be, rows below it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

MANY = 1 << 30


@dataclass(frozen=True)
class Row:
    """One row of a template; `concepts` of (value, scheme), empty: any."""

    relationship: str
    value_type: str
    concepts: tuple[tuple[str, str], ...]
    least: int
    most: int
    below: tuple["Row", ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    closed: bool = True


def _dcm(*values: str) -> tuple[tuple[str, str], ...]:
    return tuple((value, "DCM") for value in values)


_LANGUAGE = (  # TID 1204
    Row("HAS CONCEPT MOD", "CODE", _dcm("121049"), 1, 1, (Row("HAS CONCEPT MOD", "CODE", _dcm("121046"), 0, 1),)),
)
_OBSERVER = (  # TID 1002: a device, TID 1004
    Row("HAS OBS CONTEXT", "CODE", _dcm("121005"), 1, 1, values=_dcm("121006", "121007")),
    Row("HAS OBS CONTEXT", "UIDREF", _dcm("121012"), 1, 1),
    *(Row("HAS OBS CONTEXT", "TEXT", _dcm(name), 0, 1) for name in ("121013", "121014", "121015", "121016", "121017")),
)
_SUBJECT = (  # TID 1006: a specimen, TID 1009; the patient is implied where the row is absent
    Row("HAS OBS CONTEXT", "CODE", _dcm("121024"), 0, 1, values=_dcm("121025", "121026", "121027")),
    Row("HAS OBS CONTEXT", "UIDREF", _dcm("121039"), 0, 1),
    Row("HAS OBS CONTEXT", "TEXT", _dcm("121041"), 0, 1),
    Row("HAS OBS CONTEXT", "TEXT", _dcm("111700"), 0, 1),
)
_ALGORITHM = (  # TID 4019
    Row("HAS CONCEPT MOD", "CODE", _dcm("111000"), 0, 1),
    Row("HAS CONCEPT MOD", "TEXT", _dcm("111001"), 1, 1),
    Row("HAS CONCEPT MOD", "TEXT", _dcm("111003"), 1, 1),
    Row("HAS CONCEPT MOD", "TEXT", _dcm("111002"), 0, MANY),
)
_GROUP = (  # TID 1501, extensible
    Row("HAS OBS CONTEXT", "TEXT", _dcm("112039"), 1, 1),
    Row("HAS OBS CONTEXT", "UIDREF", _dcm("112040"), 1, 1),
    Row("CONTAINS", "CODE", _dcm("121071"), 0, 1),
    *_ALGORITHM,
    Row("CONTAINS", "IMAGE", _dcm("121112", "260753009"), 0, MANY),
    Row("CONTAINS", "NUM", (), 1, MANY),
)
_ROOT = (  # TID 1500
    *_LANGUAGE,
    *_OBSERVER,
    *_SUBJECT,
    Row("HAS CONCEPT MOD", "CODE", _dcm("121058"), 1, MANY),
    Row("CONTAINS", "CONTAINER", _dcm("111028"), 0, 1, closed=False),
    Row(
        "CONTAINS",
        "CONTAINER",
        _dcm("126010"),
        1,
        1,
        (Row("CONTAINS", "CONTAINER", _dcm("125007"), 1, MANY, _GROUP, closed=False),),
    ),
)
TITLES = _dcm("126000", "126001", "126002", "126003")  # CID 7021

# PS3.3 Table A.35.13-2, the rows that a report without spatial coordinates can use.
_VALUES = {"TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"}
_REFERENCES = {"IMAGE", "WAVEFORM", "COMPOSITE"}
_ALLOWED = {
    ("CONTAINER", "CONTAINS"): _VALUES | _REFERENCES | {"CONTAINER"},
    ("CONTAINER", "HAS OBS CONTEXT"): _VALUES | {"COMPOSITE"},
    ("CONTAINER", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
    **{
        (parent, relationship): _VALUES | _REFERENCES | {"CONTAINER"}
        for parent in ("TEXT", "CODE", "NUM")
        for relationship in ("HAS PROPERTIES", "INFERRED FROM")
    },
    **{(parent, "HAS CONCEPT MOD"): {"TEXT", "CODE"} for parent in ("TEXT", "CODE", "NUM", "IMAGE", "COMPOSITE")},
}


def violations(report: Dataset) -> list[str]:
    """Return what is wrong with a report's content, one sentence each."""
    found = [] if _concept(report) in TITLES else ["the title is not of CID 7021"]
    template = report.get("ContentTemplateSequence") or [Dataset()]
    if (template[0].get("MappingResource"), template[0].get("TemplateIdentifier")) != ("DCMR", "1500"):
        found.append("the root does not name DCMR 1500")
    return found + list(_rows(report, _ROOT, "root", closed=True)) + list(_relations(report))


def _rows(parent: Dataset, rows: tuple[Row, ...], where: str, *, closed: bool) -> Iterator[str]:
    children = list(parent.get("ContentSequence") or [])
    left = list(children)
    for row in rows:
        fitting = [child for child in children if _fits(child, row)]
        left = [child for child in left if child not in fitting]
        name = row.concepts[0][0] if row.concepts else row.value_type
        if not row.least <= len(fitting) <= row.most:
            yield f"{where}: {len(fitting)} items {name}"
        for child in fitting:
            if row.values and _value(child) not in row.values:
                yield f"{where}: {name} has a value of another context group"
            if row.below or row.closed:
                yield from _rows(child, row.below, f"{where}/{name}", closed=row.closed and bool(row.below))
    if closed:
        yield from (f"{where}: {_concept(child)[0]} is in no row" for child in left)


def _fits(child: Dataset, row: Row) -> bool:
    same = child.get("RelationshipType") == row.relationship and child.get("ValueType") == row.value_type
    if not row.concepts:
        return same
    return same and _concept(child)[0] in {value for value, _ in row.concepts}


def _relations(parent: Dataset) -> Iterator[str]:
    for child in parent.get("ContentSequence") or []:
        allowed = _ALLOWED.get((parent.ValueType, child.get("RelationshipType", "")), set())
        if child.get("ValueType") not in allowed:
            yield f"{parent.ValueType} {child.get('RelationshipType')} {child.get('ValueType')} is not allowed"
        if "ConceptNameCodeSequence" not in child:
            yield f"a {child.get('ValueType')} has no concept name"
        if child.get("ValueType") == "TEXT" and not child.get("TextValue"):
            yield f"{_concept(child)[0]} is empty"
        if child.get("ValueType") == "NUM" and len(child.get("MeasuredValueSequence") or []) != 1:
            yield f"{_concept(child)[0]} has no value"
        yield from _relations(child)


def _concept(item: Dataset) -> tuple[str, str]:
    codes = item.get("ConceptNameCodeSequence") or [Dataset()]
    return str(codes[0].get("CodeValue", "")), str(codes[0].get("CodingSchemeDesignator", ""))


def _value(item: Dataset) -> tuple[str, str]:
    (code,) = item.ConceptCodeSequence
    return str(code.CodeValue), str(code.CodingSchemeDesignator)
