"""The tables of PS3.3, as highdicom ships them: which attributes an object must have, may have and must not have.

The code that is tested uses none of them, so this is a second opinion beside dciodvfy. They know types, not conditions:
1C and 2C are looked at only where present.
"""

import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydicom.dataset import Dataset

_STRICTEST = ("1", "1C", "2", "2C", "3")
# The macros of the SR content (PS3.3 C.17.3) exclude each other; the tables list them all as one module.
_VALUE_OF = {
    "CONTAINER": "ContinuityOfContent",
    "TEXT": "TextValue",
    "NUM": "MeasuredValueSequence",
    "CODE": "ConceptCodeSequence",
    "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence",
    "COMPOSITE": "ReferencedSOPSequence",
}
_OF_OTHER_VALUES = {*_VALUE_OF.values(), "TemporalRangeType", "TabulatedValuesSequence", "GraphicData", "GraphicType"}
# PS3.3 A.75.4: in the shared groups or in those of every frame; the tables know each macro, not which are for whom.
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_OF_A_MAP = (
    "PixelMeasuresSequence",
    "FrameContentSequence",
    "PlanePositionSlideSequence",
    "ParametricMapFrameTypeSequence",
    "RealWorldValueMappingSequence",
)
_OF_OTHER_VALUES.add("ReferencedFrameOfReferenceUID")


@dataclass
class Node:
    """One attribute: its type, and those of the items below it; no `below`: the tables do not say."""

    type: str = "3"
    below: dict[str, "Node"] = field(default_factory=dict)


@cache
def _table(name: str) -> Any:
    return json.loads(pkgutil.get_data("highdicom", f"_standard/{name}.json") or b"")


@cache
def _tree(module: str) -> dict[str, Node]:
    root: dict[str, Node] = {}
    for row in _table("module_attribute_map")[module]:
        level = root
        for keyword in row["path"]:
            level = level.setdefault(keyword, Node()).below
        node = level.setdefault(row["keyword"], Node(row["type"]))
        node.type = min(node.type, row["type"], key=_STRICTEST.index)
    return root


def _merge(into: dict[str, Node], other: dict[str, Node]) -> None:
    for keyword, node in other.items():
        mine = into.setdefault(keyword, Node(node.type))
        mine.type = min(mine.type, node.type, key=_STRICTEST.index)
        _merge(mine.below, node.below)


@cache
def _merged(modules: frozenset[str]) -> dict[str, Node]:
    merged: dict[str, Node] = {}
    for module in sorted(modules):
        _merge(merged, _tree(module))
    return merged


def _uses(dataset: Dataset, module: str, all_of_them: tuple[str, ...]) -> bool:
    """Whether an object has an attribute that no other of the IOD's modules has."""
    others = {keyword for other in all_of_them if other != module for keyword in _tree(other)}
    return any(keyword in dataset for keyword in set(_tree(module)) - others)


def violations(dataset: Dataset) -> list[str]:
    """Return what the tables have against an object, one short sentence each."""
    iod = _table("sop_class_iod_map")[str(dataset.SOPClassUID)]
    usages = {row["key"]: row["usage"] for row in _table("iod_module_map")[iod]}
    there = frozenset(key for key, usage in usages.items() if usage == "M" or _uses(dataset, key, tuple(usages)))
    required, allowed = _merged(there), _merged(frozenset(usages))
    return [*_missing(dataset, required, iod), *_unknown(dataset, allowed, iod), *_groups(dataset)]


def _groups(dataset: Dataset) -> Iterator[str]:
    for keyword in _OF_A_MAP if _SHARED in dataset else ():
        frames = [keyword in item for item in dataset[_PER_FRAME].value]
        if not (keyword in dataset[_SHARED].value[0] or all(frames)):
            yield f"functional groups: {keyword} is missing"


def _missing(item: Dataset, tree: dict[str, Node], where: str) -> Iterator[str]:
    if "ValueType" in item:
        other = _OF_OTHER_VALUES - {_VALUE_OF[item.ValueType]}
        tree = {keyword: node for keyword, node in tree.items() if keyword in item or keyword not in other}
    for keyword, node in tree.items():
        if keyword not in item:
            if node.type in {"1", "2"}:
                yield f"{where}: {keyword} (type {node.type}) is missing"
            continue
        element = item[keyword]
        if node.type in {"1", "1C"} and element.is_empty:
            yield f"{where}: {keyword} (type {node.type}) is empty"
        for child in element.value if element.VR == "SQ" else []:
            below = _content_item() if keyword == "ContentSequence" else node.below
            if keyword in {_SHARED, _PER_FRAME}:
                below = {name: group for name, group in below.items() if name in child}
            yield from _missing(child, below, f"{where}/{keyword}")


@cache
def _content_item() -> dict[str, Node]:
    """Return what an item of Content Sequence holds: the same as the root, and its relationship (PS3.3 C.17.3)."""
    return _tree("sr-document-content") | {"RelationshipType": Node("1")}


def _unknown(item: Dataset, tree: dict[str, Node], where: str) -> Iterator[str]:
    for element in item:
        node = tree.get(element.keyword)
        if node is None:
            yield f"{where}: {element.keyword or element.tag} is in no module of the IOD"
        elif element.VR == "SQ":
            below = _content_item() if element.keyword == "ContentSequence" else node.below
            for child in element.value if below else []:
                yield from _unknown(child, below, f"{where}/{element.keyword}")


def type_of(dataset: Dataset, path: tuple[str, ...]) -> str:
    """Return the type of an attribute, the strictest of all modules that an object's IOD may have; "" if unknown."""
    iod = _table("sop_class_iod_map")[str(dataset.SOPClassUID)]
    tree = _merged(frozenset(row["key"] for row in _table("iod_module_map")[iod]))
    for keyword in path[:-1]:
        tree = tree[keyword].below
    return tree[path[-1]].type if path[-1] in tree else ""
