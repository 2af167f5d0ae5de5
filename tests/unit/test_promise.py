"""The promise: README and docs say the same, and each clause and each fault is held by a test that exists."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_RELIABILITY = (_ROOT / "docs" / "reliability.md").read_text()
_LINK = re.compile(r"\[`(?P<name>\w+)`\]\(\.\./(?P<path>[\w/.]+)\)")
_FAULTS = range(1, 32)


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = _RELIABILITY.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_readme_makes_the_promise_that_is_tested() -> None:
    """Word for word, clause by clause."""
    readme = " ".join((_ROOT / "README.md").read_text().replace("\n> ", "\n").split())
    clauses = [row[0] for row in _rows("The promise, and the tests that hold it")]
    assert len(clauses) == 5
    assert [clause for clause in clauses if clause not in readme] == []


@pytest.mark.parametrize("row", _rows("The promise, and the tests that hold it"), ids=lambda row: row[0])
def test_each_clause_is_held_by_tests_that_exist(row: list[str]) -> None:
    """Every link leads to a file that defines the test it names."""
    links = list(_LINK.finditer(row[1]))
    assert links
    for link in links:
        text = (_ROOT / link["path"]).read_text()
        assert re.search(rf"^(def|class) {link['name']}\b", text, re.MULTILINE), link["name"]


def test_every_fault_of_the_plan_is_in_the_table() -> None:
    """Numbered 1 to 31; none lost a job, none doubled a result."""
    rows = _rows("The faults")
    assert {int(row[0]) for row in rows} == set(_FAULTS)
    assert {(row[4], row[5]) for row in rows} == {("0", "0")}
