"""Conformance of every registered table layout: a new one is held to the same rules by being registered."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from connectors.tables.protocol import Table, TableContent, TableFolder
from connectors.tables.registry import find_table, table_names
from models.domain.errors import ResultError
from tests.unit.connectors.tables.contents import (
    files_of,
    foreign,
    make_content,
    told,
    with_fallbacks,
    with_holes,
)

_SAFE = re.compile(r"[A-Za-z0-9._-]+")
# For tests in another process: a hash of all files, where Python's own hashes and addresses are other ones.
_ELSEWHERE = """
import hashlib, sys
from connectors.tables.registry import find_table
from tests.unit.connectors.tables.contents import files_of, make_content
for name, data in sorted(files_of(find_table(sys.argv[1]), make_content(30)).items()):
    print(hashlib.sha256(data).hexdigest(), name)
"""


@pytest.fixture(params=table_names())
def table(request: pytest.FixtureRequest) -> Table:
    """Give one registered layout after the other."""
    return find_table(request.param)


def test_is_registered_under_its_name(table: Table) -> None:
    """What a user asks for is what the layout calls itself."""
    assert find_table(table.name) is table


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_content(0),
        lambda: make_content(1),
        lambda: make_content(30),
        lambda: with_holes(make_content(3), [0, 1, 2]),
        lambda: with_fallbacks(with_holes(make_content(9), [4]), [0, 4, 8]),
    ],
    ids=["no patch", "one patch", "thirty", "holes only", "holes and fallbacks"],
)
def test_writes_the_same_bytes_twice(table: Table, make: Callable[[], TableContent]) -> None:
    """Whatever is in a result, it is written, and two writers leave the same files, which a digest can name."""
    one, other = files_of(table, make()), files_of(table, make())
    assert one
    assert all(one.values())
    assert one == other


def test_writes_the_same_bytes_in_another_process(table: Table) -> None:
    """Nothing of the process, its memory or the time is in the files."""
    hashed = [
        subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, table.name],
            capture_output=True, text=True, check=True, env={"PYTHONPATH": ".", "PYTHONHASHSEED": seed, "TZ": zone},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]  # fmt: skip
    assert hashed[0]
    assert hashed[0] == hashed[1]


def test_paths_are_safe_and_its_own(table: Table) -> None:
    """No part of a path needs quoting, leads elsewhere or is used twice, whatever slide and encoder are called."""
    content = replace(told(make_content(3), encoder="timm:re/sNet 18@Größe"), slide="..")
    made = list(table.write(content))
    paths = [file.path for file in made]
    inside = [inner.path for folder in made if isinstance(folder, TableFolder) for inner in folder.files]
    assert len(set(paths)) == len(paths)
    assert len(set(inside)) == len(inside)
    for part in (part for path in paths + inside for part in path.split("/")):
        assert _SAFE.fullmatch(part), part
        assert part not in {".", ".."}


def test_other_recipes_and_slides_do_not_meet(table: Table) -> None:
    """Two results never share a path: not two slides, not two ways to embed one slide."""
    one = make_content(3)
    others = [
        replace(one, slide="S-2", name="S-2.efficientnet-lite0"),
        replace(told(one, recipe="f" * 64), name="S-1.another"),
    ]
    for other in others:
        assert not files_of(table, one).keys() & files_of(table, other).keys()


def test_says_how_it_came_about(table: Table) -> None:
    """Some file names the model, the key of the result, the digest of its values and how many holes there are."""
    content = with_holes(make_content(7), [2, 3])
    told_all = b"".join(_unescaped(data) for data in files_of(table, content).values())
    for fact in (
        content.provenance.result_key,
        content.provenance.weights_sha256,
        content.embeddings.digest,
    ):
        assert fact.encode() in told_all
    assert re.search(rb'"holes": ?2\b', told_all)


def _unescaped(data: bytes) -> bytes:
    """Return data with JSON inside JSON, and texts of four bytes a character, as plain as other JSON."""
    return data.replace(b'\\"', b'"') + data.replace(b"\x00", b"")


def test_values_are_not_changed_by_writing(table: Table) -> None:
    """A layout reads the embeddings, and leaves them as they are for the next."""
    content = with_fallbacks(with_holes(make_content(9), [4]), [1])
    before = content.embeddings.matrix.tobytes()
    files_of(table, content)
    assert content.embeddings.matrix.tobytes() == before


def test_foreign_results_are_written_or_refused(table: Table) -> None:
    """Of a result with much unknown a layout makes a table, or says in an error of ours what it lacks."""
    content = foreign()
    try:
        files = files_of(table, content)
    except ResultError as exc:
        assert table.name in exc.message  # noqa: PT017 - either is right
        assert "spacing" in exc.message  # noqa: PT017
    else:
        assert files


def test_spacing_is_all_that_a_foreign_result_lacks(table: Table) -> None:
    """With a spacing, every layout takes what other programs have left."""
    content = foreign()
    spacing = {"spacing_um": (0.5, 0.5), "level_0_spacing_um": (0.125, 0.125)}
    um = content.embeddings.positions_px * 0.125
    assert files_of(table, replace(told(content, **spacing), embeddings=replace(content.embeddings, positions_um=um)))


def test_a_folder_is_nothing_without_its_last_file(table: Table) -> None:
    """A folder that is not complete is not mistaken for a table: the file that readers open first is the last."""
    for folder in table.write(make_content(4)):
        if isinstance(folder, TableFolder):
            assert "/" not in folder.files[-1].path
            assert json.loads(folder.files[-1].content)


def test_large_matrices_are_all_there(table: Table) -> None:
    """A matrix of more than one chunk takes at least its own bytes, halved where a layout halves."""
    count, dimension = 6000, 768
    total = sum(len(data) for data in files_of(table, make_content(count, dimension)).values())
    assert total >= count * dimension * np.dtype(np.float16).itemsize
