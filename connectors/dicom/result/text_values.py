"""What the value representations of text allow (PS3.5 Table 6.2-1): values are made fit, or refused."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

# PS3.5 6.2: the longest value in characters; of PN a component group, of UC, UR and UT what 32 bits of length hold.
_LONGEST: Final = {"AE": 16, "CS": 16, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024}
_PARAGRAPHS = {"LT", "ST", "UT"}  # may hold line breaks, backslashes, and spaces at their beginning
SEVERAL = {"AE", "AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UC", "UI"}  # a backslash stands between values

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")  # PS3.5 6.1.3; lone surrogates
_BREAKS = re.compile(r"[\t\n\f\r]+")
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_CODE = re.compile(r"[A-Z0-9 _]*")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_OLD_DATE = re.compile(r"([0-9]{4})\.([0-9]{2})\.([0-9]{2})")  # ACR-NEMA's, in PS3.5 until 2004


def is_date(text: str) -> bool:
    """Whether there is such a day (DA)."""
    if not re.fullmatch(r"[0-9]{8}", text, re.ASCII):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 - only whether there is such a day
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """Whether there is such a time of day (TM)."""
    return bool(_TIME.fullmatch(text)) and text.isascii()


def is_offset(text: str) -> bool:
    """Whether that is an offset from UTC (PS3.3 C.12.1.1.8)."""
    return bool(_OFFSET.fullmatch(text)) and text.isascii()


def _is_moment(text: str) -> bool:
    moment, sign, zone = re.fullmatch(r"([^+-]*)([+-]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # fits all
    if sign and not is_offset(sign + zone):
        return False
    date, time = moment[:8], moment[8:]
    return is_date(f"{date}0101"[:8] if len(date) < 8 and len(date) % 2 == 0 else date) and (not time or is_time(time))


_RULES: Final[dict[str, Callable[[str], object]]] = {
    "AS": _AGE.fullmatch,
    "CS": _CODE.fullmatch,
    "DA": is_date,
    "DT": _is_moment,
    "TM": is_time,
}


def fit(vr: str, text: str, *, whole: bool = True) -> str:
    """Return a value as its value representation allows it; what it says stays the same.

    Gone are characters that cannot be written and idle spaces; a line break in a line is a space.

    Parameters
    ----------
    vr : str
        A value representation of text.
    text : str
    whole : bool
        Refuse what is too long; otherwise leave it as it is.

    Raises
    ------
    ValueError
        It says what the value representation does not allow; the message does not repeat it.
    """
    text = _UNWRITABLE.sub("", text)
    text = text.rstrip(" ") if vr in _PARAGRAPHS else _BREAKS.sub(" ", text).strip(" ")
    if vr == "DA":
        text = _OLD_DATE.sub(r"\1\2\3", text)
    if not text:
        return text
    if vr == "PN" and any(group.count("^") > 4 for group in text.split("=")):
        raise ValueError("too many components")
    if whole and max(map(len, text.split("=") if vr == "PN" else [text])) > _LONGEST.get(vr, len(text)):
        raise ValueError("too long")
    if vr in _RULES and not _RULES[vr](text):
        raise ValueError("not of its kind")
    return text
