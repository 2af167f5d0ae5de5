"""Sources that lack things, lie, or write in other scripts: every object of their results is valid all the same."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest
from pydicom.dataset import Dataset

from connectors.dicom.result.objects import build_objects
from models.domain.errors import SourceError
from tests.reference.standard_tables import violations
from tests.unit.connectors.dicom.results import (
    dciodvfy,
    full_result,
    make_result,
    placed_header,
    poor_header,
    rich_header,
)

Header = dict[str, Any]
Change = Callable[[Header], None]

_PATIENT_AND_STUDY = (
    "0010",
    "0012",
    "00080020",
    "00080030",
    "00080050",
    "00080090",
    "00081030",
    "00200010",
    "00321033",
)


def without(*starts: str) -> Change:
    """Take away the attributes whose tags start so."""

    def change(header: Header) -> None:
        for key in [key for key in header if key.startswith(starts)]:
            del header[key]

    return change


def having(**attributes: tuple[str, list[Any]]) -> Change:
    """Set attributes: tag -> (value representation, values)."""

    def change(header: Header) -> None:
        header.update({key[1:]: {"vr": vr, "Value": values} for key, (vr, values) in attributes.items()})

    return change


def specimens(count: int) -> Change:
    """Put so many specimens into the container."""

    def change(header: Header) -> None:
        one = header["00400560"]["Value"][0]
        uids = [{"00400554": {"vr": "UI", "Value": [f"1.2.3.{number}"]}} for number in range(count)]
        header["00400560"]["Value"] = [one | uid for uid in uids]

    return change


def all_vrs_wrong(header: Header) -> None:
    """Say of each attribute that it is something else."""
    for attribute in header.values():
        attribute["vr"] = "LO" if attribute["vr"] != "LO" else "FD"


def all_empty(header: Header) -> None:
    """Leave only the UIDs a value."""
    for key, attribute in header.items():
        if attribute["vr"] != "UI":
            header[key] = {"vr": attribute["vr"]}


def all_values(value: Any) -> Change:
    """Give each attribute but the UIDs the same value."""

    def change(header: Header) -> None:
        for key, attribute in header.items():
            if attribute["vr"] != "UI":
                header[key] = {"vr": attribute["vr"], "Value": [value]}

    return change


def _name(**groups: str) -> tuple[str, list[Any]]:
    return "PN", [groups]


CASES: dict[str, Change] = {
    "no specimen": without("00400560"),
    "no container": without("00400512"),
    "no frame of reference": without("00200052"),
    "no patient and no study": without(*_PATIENT_AND_STUDY),
    "no dates at all": without("00080020", "00080030", "0008002A", "00080023", "00080033"),
    "no manufacturer": without("00080070"),
    "japanese": having(
        _00100010=_name(Alphabetic="Yamada^Tarou", Ideographic="山田^太郎", Phonetic="やまだ^たろう"),
        _00080005=("CS", ["", "ISO 2022 IR 87"]),
    ),
    "korean": having(
        _00100010=_name(Alphabetic="Hong^Gildong", Ideographic="洪^吉洞", Phonetic="홍^길동"),
        _00080005=("CS", ["", "ISO 2022 IR 149"]),
    ),
    "arabic": having(_00100010=_name(Alphabetic="قباني^لنزار"), _00080005=("CS", ["ISO_IR 127"])),
    "emoji": having(_00100010=_name(Alphabetic="🔬^🧬"), _00081030=("LO", ["🩸 study"])),
    "a name with too many parts": having(_00100010=_name(Alphabetic="a^b^c^d^e^f^g")),
    "a name as plain text": having(_00100010=("PN", ["Doe^Jane"])),
    "an over-long name": having(_00100010=_name(Alphabetic="A" * 100 + "^B")),
    "over-long text": having(
        _00080050=("SH", ["A" * 40]),
        _00200010=("SH", ["S" * 40]),
        _00081030=("LO", ["D" * 500]),
        _00400512=("LO", ["C" * 100]),
        _00080070=("LO", ["M" * 100]),
        _00120063=("LO", ["X" * 100]),
    ),
    "half a clinical trial": having(_00120010=("LO", ["Sponsor"]), _00120051=("ST", ["after 2 weeks"])),
    "a clinical trial without its sites": having(
        _00120010=("LO", ["Sponsor"]),
        _00120020=("LO", ["T-1"]),
        _00120040=("LO", ["Subject 7"]),
        _00120051=("ST", ["after 2 weeks"]),
    ),
    "a method without a name in the preparation": having(
        _00400560=(
            "SQ",
            [
                {
                    "00400551": {"vr": "LO", "Value": ["S"]},
                    "00400554": {"vr": "UI", "Value": ["1.2.3"]},
                    "00400610": {
                        "vr": "SQ",
                        "Value": [{"00400612": {"vr": "SQ", "Value": [{"0040A040": {"vr": "CS", "Value": ["CODE"]}}]}}],
                    },
                }
            ],
        )
    ),
    "de-identified nobody says how": without("00120063"),
    "dates as in 1985": having(_00080020=("DA", ["2026.01.10"])),
    "invalid dates and times": having(
        _00080020=("DA", ["2026.01.10"]),
        _00080030=("TM", ["8 o'clock"]),
        _0008002A=("DT", ["yesterday"]),
        _00080023=("DA", ["20260231"]),
        _00080033=("TM", ["256199"]),
        _00100030=("DA", ["1956"]),
        _00101010=("AS", ["69"]),
    ),
    "invalid codes": having(_00100040=("CS", ["female"]), _00120062=("CS", ["maybe"]), _00280303=("CS", ["weird"])),
    "numbers that are none": having(_00101030=("DS", ["heavy"]), _00101020=("DS", [1.8000000000000000444])),
    "more values than allowed": having(_00100020=("LO", ["P1", "P2"]), _00080050=("SH", ["A1", "A2"])),
    "empty sequences": having(_00400560=("SQ", []), _00400513=("SQ", []), _00081032=("SQ", [])),
    "sequences of nothing": having(_00400560=("SQ", [{}]), _00081032=("SQ", [{}]), _00081110=("SQ", [{}])),
    "codes without a meaning": having(_00081032=("SQ", [{"00080100": {"vr": "SH", "Value": ["1"]}}])),
    "several specimens in a container": specimens(3),
    "a specimen without its UID": having(_00400560=("SQ", [{"00400551": {"vr": "LO", "Value": ["S26"]}}])),
    "a time zone": having(_00080201=("SH", ["+0530"])),
    "a time zone that is none": having(_00080201=("SH", ["CET"])),
    "de-identified with codes": having(
        _00120062=("CS", ["YES"]),
        _00120064=(
            "SQ",
            [
                {
                    "00080100": {"vr": "SH", "Value": ["113100"]},
                    "00080102": {"vr": "SH", "Value": ["DCM"]},
                    "00080104": {"vr": "LO", "Value": ["Basic Application Confidentiality Profile"]},
                }
            ],
        ),
        _00280303=("CS", ["REMOVED"]),
    ),
    "control characters": having(
        _00100010=_name(Alphabetic="A\x00\x1b^\nB"),
        _00081030=("LO", ["line\r\nline\x07"]),
        _00400512=("LO", ["C\t1"]),
        _00104000=("LT", ["a\r\nb\x00"]),
    ),
    "a backslash in an identifier": having(_00100020=("LO", ["P\\1"]), _00400512=("LO", ["C\\1"])),
    "a frame of reference of no length": having(_00200052=("UI", [""])),
    "a specimen UID that is none": having(
        _00400560=("SQ", [{"00400551": {"vr": "LO", "Value": ["S"]}, "00400554": {"vr": "UI", "Value": ["x"]}}])
    ),
    "all value representations wrong": all_vrs_wrong,
    "all values empty": all_empty,
    "all values null": all_values(None),
    "all values objects": all_values({"a": 1}),
    "all values numbers": all_values(7),
    "all values blank": all_values("   "),
}


# Without these the image lies nowhere: there is no map, and the report says so.
UNPLACED = [CASES[name] for name in ("no frame of reference", "a frame of reference of no length")]
UNPLACED += [change for name, change in CASES.items() if name.startswith("all values")]


@pytest.mark.filterwarnings("ignore:The value length:UserWarning", "ignore:Invalid value:UserWarning")
@pytest.mark.parametrize("change", CASES.values(), ids=CASES.keys())
def test_every_object_is_valid_and_readable(change: Change, tmp_path: Path) -> None:
    """No Error of dciodvfy, nothing against the tables of PS3.3, parsed by pydicom and highdicom, free of warnings."""
    header = placed_header()
    change(header)
    made = list(build_objects(full_result(header), maps=True))
    kinds = ["annotations", "report"] if change in UNPLACED else ["annotations", "map", "report"]
    assert [one.kind for one in made] == kinds
    for one in made:
        data = b"".join(one.chunks())
        lines = dciodvfy(data, tmp_path)
        assert [line for line in lines if line.startswith("Error")] == [], one.kind
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = pydicom.dcmread(BytesIO(data))
            assert all(element.value is not None or element.is_empty for element in read.iterall())  # all are decoded
            assert violations(read) == [], one.kind
            parse(one.kind, read)


def parse(kind: str, dataset: Dataset) -> None:
    """Have highdicom take an object apart."""
    if kind == "annotations":
        read = hd.ann.MicroscopyBulkSimpleAnnotations.from_dataset(dataset, copy=False)
        (group,) = read.get_annotation_groups()
        assert len(group.get_graphic_data("2D")) == 30
    elif kind == "map":
        assert hd.pm.ParametricMap.from_dataset(dataset, copy=False).get_frames().dtype.kind == "f"
    else:
        assert (
            len(hd.sr.Comprehensive3DSR.from_dataset(dataset, copy=False).content.get_image_measurement_groups()) == 1
        )


@pytest.mark.parametrize("tag", ["00080016", "00080018", "0020000D", "0020000E"])
@pytest.mark.parametrize("value", ["", "1.2.x", "1" * 65, ".", "1..2", None])
def test_without_its_own_uids_nothing_is_written(tag: str, value: Any) -> None:
    """A UID of no length, or one that is none, is an error that says what to do, before any object is there."""
    header = poor_header() | {tag: {"vr": "UI", "Value": [value]}}
    with pytest.raises(SourceError, match="Write the result to a folder"):
        next(build_objects(make_result(3, 4, header)))


def test_a_patient_id_that_is_too_long_is_copied_as_it_is(tmp_path: Path) -> None:
    """Archives file by it: with another, or none, the objects would lie apart from their slide. It is the one error."""
    header = rich_header()
    having(_00100020=("LO", ["P" * 70 + "\x00"]))(header)
    for one in build_objects(make_result(3, 4, header)):
        assert one.dataset.PatientID == "P" * 70
        errors = [line for line in dciodvfy(b"".join(one.chunks()), tmp_path) if line.startswith("Error")]
        assert ["Patient ID" in line for line in errors] == [True, False]


def test_names_in_other_scripts_arrive_as_they_are() -> None:
    """Whatever character set the slide was written in, its JSON is UTF-8, and so are the objects."""
    header = rich_header()
    CASES["korean"](header)
    for one in build_objects(make_result(3, 4, header)):
        read = pydicom.dcmread(BytesIO(b"".join(one.chunks())))
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert str(read.PatientName) == "Hong^Gildong=洪^吉洞=홍^길동"


def test_what_says_that_the_slide_was_de_identified_is_carried_over() -> None:
    """Flag, method and codes are in every object; so is what became of the dates."""
    header = rich_header()
    CASES["de-identified with codes"](header)
    for one in build_objects(make_result(3, 4, header)):
        assert one.dataset.PatientIdentityRemoved == "YES"
        assert one.dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert one.dataset.LongitudinalTemporalInformationModified == "REMOVED"
