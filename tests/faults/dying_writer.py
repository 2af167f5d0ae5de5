"""A writer of a result that is killed at a named moment: ``python -m tests.faults.dying_writer FOLDER MOMENT``.

The result has a Parquet file, a folder of three files as a table, and DICOM objects. MOMENT is ``never``,
``table:N`` (as the N-th file of the folder has been written), ``renamed:N`` (after the N-th rename of a folder) or
``dicom:N`` (before the N-th object).
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.sinks import disk, files
from connectors.sinks.files import FilesSink, Wanted
from connectors.tables.protocol import TableContent, TableFile, TableFolder
from connectors.tables.registry import find_table
from tests.unit.connectors.dicom.results import make_result, rich_header

FOLDER = TableFolder(
    "slide.zarr", (TableFile("chunk/0", b"new"), TableFile("chunk/1", b"new, too"), TableFile("zarr.json", b"{}"))
)


class _Toy:
    name = "toy"

    def write(self, content: TableContent) -> Iterator[TableFile | TableFolder]:
        """Yield the folder."""
        del content
        yield FOLDER


class _Fuse:
    """Kills this process at the N-th call."""

    def __init__(self, number: int) -> None:
        self._left = number

    def burn(self) -> None:
        """Count."""
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> None:
    """Arm this process."""
    what, _, number = moment.partition(":")
    fuse = _Fuse(int(number or 0))
    write, rename, build = disk._write_through, Path.rename, files.build_objects

    def write_and_burn(path: Path, chunks: Any) -> None:
        write(path, chunks)
        if path.name in {"0", "1", "zarr.json"}:
            fuse.burn()

    def rename_and_burn(source: Path, target: Path) -> Path:
        done = rename(source, target)
        fuse.burn()
        return done

    def build_and_burn(*arguments: Any, **options: Any) -> Iterator[Any]:
        for made in build(*arguments, **options):
            fuse.burn()
            yield made

    if what == "table":
        disk._write_through = write_and_burn
    elif what == "renamed":
        Path.rename = rename_and_burn  # type: ignore[method-assign,assignment]
    elif what == "dicom":
        files.build_objects = build_and_burn  # type: ignore[assignment]


def main(folder: str, moment: str) -> None:
    """Write the result."""
    files.find_table = lambda name: _Toy() if name == "toy" else find_table(name)
    arm(moment)
    for output in FilesSink(folder, Wanted(("toy",), dicom=True)).write(make_result(3, 4, rich_header())):
        print(output.kind, output.sha256, Path(output.uri).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
