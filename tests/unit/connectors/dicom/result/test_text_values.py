"""Values of text: what is made fit, and what is refused."""

import pytest

from connectors.dicom.result.text_values import fit, is_date, is_offset, is_time


@pytest.mark.parametrize(
    ("vr", "text", "fitted"),
    [
        ("LO", "  liver \r\n biopsy\t2 ", "liver   biopsy 2"),
        ("LT", "  first\r\nsecond \\ third  ", "  first\r\nsecond \\ third"),
        ("SH", "a\x00\x1b\ud800b", "ab"),
        ("PN", "a^b^c^d^e=山田^太郎", "a^b^c^d^e=山田^太郎"),
        ("LO", "細" * 64, "細" * 64),
        ("PN", "=".join(["n" * 64] * 3), "=".join(["n" * 64] * 3)),
        ("DA", "20240229", "20240229"),
        ("DA", "1996.03.27", "19960327"),
        ("DA", "", ""),
        ("TM", "2359", "2359"),
        ("DT", "2024", "2024"),
        ("DT", "20240229101112.5+0530", "20240229101112.5+0530"),
        ("AS", "069Y", "069Y"),
        ("CS", "ISO_IR 192", "ISO_IR 192"),
        ("UT", "x" * 100_000, "x" * 100_000),
    ],
)
def test_what_fits_stays_what_it_is(vr: str, text: str, fitted: str) -> None:
    """Idle spaces and what cannot be written go; a line break in a line becomes a space; old dates become new ones."""
    assert fit(vr, text) == fitted


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("LO", "x" * 65),
        ("SH", "x" * 17),
        ("CS", "X" * 17),
        ("CS", "female"),
        ("AE", "x" * 17),
        ("ST", "x" * 1025),
        ("LT", "x" * 10241),
        ("PN", "n" * 65 + "=x"),
        ("PN", "x=" + "n" * 65),
        ("PN", "a^b^c^d^e^f"),
        ("DA", "20260231"),
        ("DA", "2026"),
        ("DA", "٢٠٢٦٠١١٠"),
        ("TM", "24"),
        ("TM", "10:11"),
        ("TM", "٠٩"),
        ("DT", "yesterday"),
        ("DT", "2024-02-29"),
        ("DT", "20240229+9900"),
        ("AS", "69"),
    ],
)
def test_what_does_not_fit_is_refused_without_being_repeated(vr: str, text: str) -> None:
    """Too long, of other characters, or no such day: an error that does not hold the value."""
    with pytest.raises(ValueError, match=r"too|of its kind") as caught:
        fit(vr, text)
    assert text not in str(caught.value)


def test_what_is_too_long_may_be_left_so() -> None:
    """On request; then it is still rid of what cannot be written."""
    assert fit("LO", "P" * 70 + "\x07 ", whole=False) == "P" * 70


def test_days_times_and_offsets() -> None:
    """The calendar and the clock decide, not the form alone."""
    assert [is_date(text) for text in ("20240229", "20230229", "2024022", "")] == [True, False, False, False]
    assert [is_time(text) for text in ("235959.999999", "1", "236000", "")] == [True, False, False, False]
    assert [is_offset(text) for text in ("+0530", "-1200", "0530", "CET", "+9900")] == [True, True, False, False, False]
