"""What rules can ask of a series is found in any order of its instances, and is not made up where it is not said."""

from itertools import permutations
from typing import Any

import pytest

from connectors.dicom.result.derived import IMPLEMENTATION_UID, MAKER, PRODUCT
from connectors.dicom.traits import traits_of
from models.domain.rule import Traits
from tests.unit.connectors.dicom.instances import element, having, instance, sequence, without

_SAID = {
    "00080060": element("CS", "SM"),
    "00081010": element("SH", "SCANNER-7 "),
    "00081030": element("LO", "HE, colon"),
    "00400518": sequence({"00080100": element("SH", "433466003"), "00080104": element("LO", "Microscope slide")}),
}


def test_all_that_a_slide_says() -> None:
    """Each trait is its attribute, the spacing that of the finest level, the finer of its two sides."""
    found = [instance("1.2", 320) | _SAID, instance("1.1", 640) | _SAID]
    expected = Traits(
        "pacs", "SM", "SCANNER-7", "HE, colon", ("433466003", "Microscope slide"), pytest.approx(0.5), "SCAN7"
    )
    assert traits_of("pacs", found, "SCAN7") == expected


def test_nothing_is_made_up() -> None:
    """What is not said is empty; rubbish in the answer is passed over."""
    assert traits_of("pacs", []) == Traits("pacs")
    assert traits_of("pacs", ["rubbish", None, {}, {"00080060": 7}, {"00080060": {"Value": "SM"}}]) == Traits("pacs")


def test_the_archive_before_the_sighting() -> None:
    """Who sent an instance is what its own file says, if the server tells (0002,0016)."""
    told = having(instance("1.1"), "00020016", "SCAN1")
    assert traits_of("pacs", [told], "SCAN7").calling_aet == "SCAN1"
    assert traits_of("pacs", [instance("1.1")], "SCAN7").calling_aet == "SCAN7"


def test_instances_that_differ() -> None:
    """The order of the answer decides nothing; what one instance does not say another may."""
    items = [
        having(instance("1.1"), "00081010", ""),
        having(instance("1.2"), "00081010", "B"),
        having(instance("1.3"), "00081010", "A") | {"00400518": _SAID["00400518"]},
    ]
    found = {traits_of("pacs", order) for order in permutations(items)}
    [traits] = found
    assert traits.station == "B"
    assert traits.container_types == ("433466003", "Microscope slide")


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"00080070": MAKER, "00081090": PRODUCT}, True),
        ({"00080070": MAKER}, False),
        ({"00080070": "Another", "00081090": PRODUCT}, False),
        ({"00020012": IMPLEMENTATION_UID}, True),
        ({"00020012": "1.2.3"}, False),
        ({"00080070": "Slidewire", "00081090": "Sample slide writer"}, False),
    ],
)
def test_our_own_results(changes: dict[str, str], *, ours: bool) -> None:
    """Maker and product together, or the implementation that wrote the file; the sample slide is no result."""
    item: dict[str, Any] = instance("1.1")
    for tag, said in changes.items():
        item = having(item, tag, said)
    assert traits_of("pacs", [item]).ours is ours


def test_a_spacing_that_is_not_known() -> None:
    """No slide, no spacing said, or two: none; a label's counts for nothing."""
    label = instance("1.1", 640, "ORIGINAL", "PRIMARY", "LABEL")
    unsaid = without(instance("1.1"), "00480001", "00480002", "52009229")
    contradictory = having(instance("1.1"), "00480001", 9.0)
    for item in (label, unsaid, contradictory):
        assert traits_of("pacs", [item]).spacing_um is None
    assert traits_of("pacs", [label, instance("1.2", 320)]).spacing_um == pytest.approx(1.0)


def test_texts_have_an_end() -> None:
    """A description of megabytes does not go on into messages and patterns."""
    long = having(instance("1.1"), "00081030", "x" * 5_000_000)
    assert len(traits_of("pacs", [long]).study_description) <= 1024
