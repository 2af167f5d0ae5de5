"""How much memory the feed takes of a slide of 100,000 x 100,000 px: 152,881 frames, 198,916 patches, 30 GB of pixels.

``make bench-memory``: the slide is served frame by frame by a server in this process, and read by another.
"""

import json
import subprocess
import sys

from tests.services.virtual_slide import virtual_slide

_SIDE_PX = 100_000
_LINES = 20


def main() -> None:
    """Read the slide, and print a trace of about twenty lines and the last line as JSON."""
    with virtual_slide(_SIDE_PX) as server:
        command = [sys.executable, "-m", "tests.bench.feed_memory", server.series]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    trace = [json.loads(line) for line in said]
    for line in trace[:: max(1, len(trace) // _LINES)]:
        if "rss_mb" in line:
            bar = "#" * (line["rss_mb"] // 10)
            sys.stdout.write(f"{line['s']:>7.1f} s {line['patches']:>8} patches {line['rss_mb']:>5} MB {bar}\n")
    sys.stdout.write(said[-1] + "\n")


if __name__ == "__main__":
    main()
