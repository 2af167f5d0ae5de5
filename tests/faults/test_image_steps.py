"""infra/docker/try-install: the CPU image's build steps, executed in a clean Debian, make a worker that is healthy."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.services.process import find_program, unavailable

_SCRIPT = Path(__file__).parents[2] / "infra" / "docker" / "try-install"


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_the_cpu_image_can_be_built_and_run() -> None:
    """Build and last stage run as written; as user 10001 on a read-only root the program works and stops in order."""
    if os.getuid() != 0:
        unavailable("A clean root is made by root only.")
    find_program("debootstrap", "apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="slidewire-image-") as folder:
        done = subprocess.run(
            [_SCRIPT, "worker-cpu", folder, "sh", "-c", "id -u; touch /srv/slidewire/state/a /opt/slidewire/b; ls -A"],
            capture_output=True, text=True, check=False, timeout=1100,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert any(line.startswith("slidewire ") for line in lines)
    assert "efficientnet-lite0" in done.stdout
    assert "10001" in lines
    assert "/opt/slidewire/b" in done.stderr
    assert "Read-only file system" in done.stderr
    assert lines[-1] == "== worker-cpu: ended with 0; done"
