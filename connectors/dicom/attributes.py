"""Attributes of DICOM JSON (PS3.18 F) that comes from outside: read one by one, whatever is wrong with the rest."""

import math
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def value(item: Mapping[str, Any], tag: str) -> Any:
    """Return the first value of an attribute; None if it is absent or empty."""
    values = values_of(item, tag)
    return values[0] if values else None


def values_of(item: Mapping[str, Any], tag: str) -> list[Any]:
    """Return all values of an attribute."""
    element = item.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def items_of(item: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    """Return the items of a sequence."""
    return [part for part in values_of(item, tag) if isinstance(part, dict)]


def first_item(item: Mapping[str, Any], *tags: str) -> Mapping[str, Any]:
    """Follow sequences inwards by their first items; an empty item if one of them is absent."""
    for tag in tags:
        item = next(iter(items_of(item, tag)), {})
    return item


def integer(item: Mapping[str, Any], tag: str) -> int:
    """Return a whole number; 0 if it is absent or none."""
    try:
        return int(value(item, tag) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def number(item: Mapping[str, Any], tag: str) -> float:
    """Return a finite number; 0 if it is absent or none."""
    return next(iter(numbers(item, tag)), 0.0)


def numbers(item: Mapping[str, Any], tag: str) -> list[float]:
    """Return all values of an attribute as numbers, those in quotes (DS, IS), too; none if one is not finite."""
    try:
        found = [float(part) for part in values_of(item, tag)]
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(math.isfinite(part) for part in found) else []


def text(item: Mapping[str, Any], tag: str) -> str:
    """Return a text; "" if it is absent."""
    found = value(item, tag)
    return str(found).strip() if isinstance(found, str | int | float) else ""
