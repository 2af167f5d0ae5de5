"""Where a fleet saturates: 100,000 slides on 1 to 128 workers, from measured rates.

``make simulate`` prints finishing time, the busy share of what workers use and share, and the first bottleneck.
``python -m tests.bench.simulate_fleet --check`` runs 40 jobs on one and on two real workers, too, and compares.
"""

import argparse
import sys
from dataclasses import fields, replace

from tests.bench.fleet import Fleet, Outcome, Rates

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128)
SLIDES = 100_000
_LONG_S = 3 * 86400


def line(workers: int, outcome: Outcome) -> str:
    """Return one line of the table."""
    long = f"{outcome.seconds / 86400:.1f} d" if outcome.seconds > _LONG_S else f"{outcome.seconds / 3600:.1f} h"
    busy = "".join(f" | {share:6.1%}" for share in outcome.busy.values())
    rate = f"{outcome.patches / outcome.seconds:,.0f}"
    return f"| {workers} | {long} | {rate}{busy} | {outcome.bottleneck} | {outcome.crashes} |\n"


def main() -> None:
    """Simulate, and print a table; each rate is an option."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=SLIDES)
    parser.add_argument("--check", action="store_true", help="compare with real workers")
    for rate in fields(Rates):
        parser.add_argument(f"--{rate.name.replace('_', '-')}", type=float, default=rate.default)
    options = parser.parse_args()
    if options.check:
        from tests.bench.real_fleet import compare

        compare()
        return
    rates = replace(Rates(), **{rate.name: getattr(options, rate.name) for rate in fields(Rates)})
    sys.stdout.write(f"{options.slides:,} slides, {rates}\n")
    sys.stdout.write("| workers | in all | patches/s | GPUs | cores | archive | ledger | feeder | first | crashes |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|---|\n")
    for workers in WORKERS:
        sys.stdout.write(line(workers, Fleet(workers, options.slides, rates).run()))


if __name__ == "__main__":
    main()
