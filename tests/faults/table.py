"""Prints the tables of faults from the records that the fault tests have left: ``python -m tests.faults.table`` that of
docs/reliability.md, ``python -m tests.faults.table intake`` that of docs/pacs.md.
"""

import json
import sys
from collections import defaultdict
from typing import Any

from tests.faults.conftest import RECORDS

_HEAD = (
    "| # | fault | injected by | times | jobs lost | results doubled | the jobs hit end with | longest recovery |",
    "|---|---|---|---|---|---|---|---|",
)
_HEAD_OF_INTAKE = (
    "| # | fault | injected by | times | slides lost | embedded twice | until all were embedded |",
    "|---|---|---|---|---|---|---|",
)
_FIRST_OF_INTAKE = 40


def main() -> None:
    """Print one row for each fault and way of injecting it; a test that ran twice counts with its last record."""
    intake = sys.argv[1:] == ["intake"]
    last: dict[str, dict[str, Any]] = {}
    for line in RECORDS.read_text().splitlines():
        record = json.loads(line)
        if (record["number"] >= _FIRST_OF_INTAKE) == intake:
            last[record["test"]] = record
    rows: dict[tuple[int, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in last.values():
        rows[record["number"], record["what"], record["how"], record["outcome"]].append(record)
    print("\n".join(_HEAD_OF_INTAKE if intake else _HEAD))
    for (number, what, how, outcome), records in sorted(rows.items()):
        times = sum(record["times"] for record in records)
        known = [record["recovery_s"] for record in records if record["recovery_s"] is not None]
        longest = f"{max(known):.1f} s" if known else ""
        # A test that finds a job lost or a result doubled fails and leaves no record.
        ends = [longest] if intake else [outcome, longest]
        print(f"| {number} | {what} | {how} | {times} | 0 | 0 | {' | '.join(ends)} |")


if __name__ == "__main__":
    main()
