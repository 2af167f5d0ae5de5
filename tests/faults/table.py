"""Prints the table of docs/reliability.md from the records that the fault tests have left:
``python -m tests.faults.table``.
"""

import json
from collections import defaultdict
from typing import Any

from tests.faults.conftest import RECORDS

_HEAD = (
    "| # | fault | injected by | times | jobs lost | results doubled | the jobs hit end with | longest recovery |",
    "|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Print one row for each fault and way of injecting it; a test that ran twice counts with its last record."""
    last: dict[str, dict[str, Any]] = {}
    for line in RECORDS.read_text().splitlines():
        record = json.loads(line)
        last[record["test"]] = record
    rows: dict[tuple[int, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in last.values():
        rows[record["number"], record["what"], record["how"], record["outcome"]].append(record)
    print("\n".join(_HEAD))
    for (number, what, how, outcome), records in sorted(rows.items()):
        times = sum(record["times"] for record in records)
        known = [record["recovery_s"] for record in records if record["recovery_s"] is not None]
        longest = f"{max(known):.1f} s" if known else ""
        # A test that finds a job lost or a result doubled fails and leaves no record.
        print(f"| {number} | {what} | {how} | {times} | 0 | 0 | {outcome} | {longest} |")


if __name__ == "__main__":
    main()
