"""Public codes: what DICOM's context groups list passes, in their words; nothing else does."""

import pytest

from connectors.dicom.deidentification.public_codes import public_code
from tests.unit.connectors.dicom.results import code


@pytest.mark.parametrize(
    ("item", "value", "meaning"),
    [
        (code("12710003", "SCT", "what the clinic says"), ("12710003", "SCT"), "hematoxylin stain"),
        (code("T-04000", "SRT", "left one"), ("76752008", "SCT"), "Breast structure (body structure)"),
        (code("113100", "DCM", ""), ("113100", "DCM"), "Basic Application Confidentiality Profile"),
    ],
    ids=["SCT", "retired", "DCM"],
)
def test_words_are_the_standards(item: object, value: tuple[str, str], meaning: str) -> None:
    """A published code keeps its value, a retired one gets today's; the meaning is never the item's."""
    found = public_code(item)  # type: ignore[arg-type]
    assert found is not None
    assert ((found.value, found.scheme_designator), found.meaning) == (value, meaning)


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("12710003", "99CLINIC"), ("4711", "SCT"), ("T-0", "SRT"), ("", ""), ("12710003", "DCM"), ("Meyer", "L")],
)
def test_others_are_none(value: str, scheme: str) -> None:
    """Codes of a hospital, of no scheme, or that no context group lists: their words could be anything."""
    assert public_code(code(value, scheme, "meaning")) is None


def test_an_item_without_a_code_is_none() -> None:
    """An item that holds something else, or nothing."""
    item = code("12710003", "SCT", "x")
    del item.CodeValue
    assert public_code(item) is None
