"""The table of de-identification: what the documentation says of it, and what PS3.15 asks for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from connectors.dicom.deidentification.confidentiality import (
    ATTRIBUTES,
    BASIC_PROFILE,
    CLEAN_STRUCTURED_CONTENT,
    KEPT_CONCEPTS,
    MODIFIED_DATES,
    SPECIMEN_NAMES,
    Action,
)
from connectors.dicom.deidentification.public_codes import public_code
from tests.unit.connectors.dicom.results import code

_DOCUMENT = Path(__file__).parents[5] / "docs" / "deidentification.md"
_READ = """
import json, sys
sys.path.insert(0, {site!r})
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as fields
actions = {{}}
for name in dir(fields):
    if name.endswith("_TAGS") and name != "ALL_TAGS":
        for tag in getattr(fields, name):
            actions.setdefault("{{:04X}}{{:04X}}".format(*tag[:2]), []).append(name[:-5].replace("_", "/"))
print(json.dumps(actions))
"""
# What may be done where the standard asks for something: at least as much (PS3.15 E.1.1, Table E.1-1a).
_ENOUGH = {
    "Z": {Action.PATIENT, Action.TEXT, Action.DAY, Action.ITEMS},
    "D": {Action.TEXT},
    "Z/D": {Action.PATIENT, Action.DAY},
    "X/Z/D": {Action.DAY},
    "U": {Action.UID},
}


def test_the_documentation_has_the_table() -> None:
    """Each row of docs/deidentification.md is an attribute, and each attribute a row; tag, place and actions agree."""
    rows = re.findall(
        r"^\| (\w+) \| (\(.{9}\)) \| (\w*) \| ([^|]*) \| ([^|]*) \|$", _DOCUMENT.read_text(), re.MULTILINE
    )
    assert len(rows) == len(ATTRIBUTES)
    for keyword, tag, inside, profile, action in rows:
        number = tag_for_keyword(keyword) or 0
        assert tag == f"({number >> 16:04X},{number & 0xFFFF:04X})"
        rule = ATTRIBUTES[keyword]
        assert (inside, profile.strip(), action) == (rule.inside, rule.profile, rule.action.value), keyword


def test_places_are_sequences_of_the_table() -> None:
    """An attribute in a sequence can be reached: the sequence is in the table and is gone through."""
    for keyword, rule in ATTRIBUTES.items():
        if rule.inside:
            assert ATTRIBUTES[rule.inside].action in {Action.ITEMS, Action.CODES}, keyword
        assert (dictionary_VR(keyword) == "SQ") == (rule.action in {Action.ITEMS, Action.CODES, Action.CONTENT}), (
            keyword
        )


def test_codes_are_the_standards() -> None:
    """Codes of methods, and of content that is kept, are published ones."""
    for known in (BASIC_PROFILE, CLEAN_STRUCTURED_CONTENT, MODIFIED_DATES, *KEPT_CONCEPTS, *SPECIMEN_NAMES):
        assert public_code(code(known.value, known.scheme_designator, "")) is not None, known


@pytest.mark.faults
def test_the_profile_is_kept(tmp_path: Path) -> None:
    """By another tool's copy of PS3.15 Table E.1-1 the actions are as said here, and enough is done of each."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*command, "dicom-anonymizer==2.1.0"], check=True, capture_output=True, timeout=280)
    program = _READ.format(site=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    asked = json.loads(done.stdout)
    assert len(asked) > 600
    for keyword, rule in ATTRIBUTES.items():
        actions = asked.get(f"{tag_for_keyword(keyword):08X}", [""])
        assert actions == [rule.profile.removesuffix(", C")], keyword
        assert not actions[0] or rule.action in _ENOUGH[actions[0]], keyword
