"""What a machine could give at best: CPU seconds that a frame costs the server, the reader and the decoder, no more.

Each is measured by itself, in the same run as the feed: frames asked for in requests as large as the feed's, read by a
bare HTTP client that throws them away, decoded by libjpeg-turbo one after the other.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import simplejpeg

from connectors import multipart
from models.domain.slide import Slide
from tests.services.orthanc import Orthanc

_ACCEPT = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


@dataclass(frozen=True)
class FrameCost:
    """CPU seconds of a frame."""

    server_s: float
    read_s: float
    decode_s: float

    def frames_s(self) -> float:
        """Frames a second if every core did nothing else."""
        return (os.cpu_count() or 1) / (self.server_s + self.read_s + self.decode_s)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_cost(server: Orthanc, slide: Slide, frames_a_request: int) -> FrameCost:
    """Read and decode the finest level once, and count."""
    ref, [instance] = slide.ref, slide.levels[0].instances
    url = f"{ref.location}/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{instance.uid}/frames"
    server_before, before = cpu_s(server.pid), time.process_time()
    answers = list(_answers(url, instance.frame_count, frames_a_request))
    read_s, server_s = time.process_time() - before, cpu_s(server.pid) - server_before
    parts = [part.data for answer in answers for part in multipart.parse(*answer, "server")]
    before = time.process_time()
    for part in parts:
        simplejpeg.decode_jpeg(part, "RGB")
    decode_s = time.process_time() - before
    return FrameCost(*(seconds / len(parts) for seconds in (server_s, read_s, decode_s)))


def _answers(url: str, frames: int, frames_a_request: int) -> Iterator[tuple[bytes, str]]:
    with requests.Session() as session:
        for start in range(1, frames + 1, frames_a_request):
            numbers = ",".join(map(str, range(start, min(start + frames_a_request, frames + 1))))
            answer = session.get(f"{url}/{numbers}", headers={"Accept": _ACCEPT}, timeout=60)
            answer.raise_for_status()
            yield answer.content, answer.headers["Content-Type"]
