"""infra/system/units: systemd takes them, and they keep what docs and images promise of a service."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.services.process import find_program
from worker.cli import app

_UNITS = Path(__file__).parents[3] / "infra" / "system" / "units"
_SERVICES = ("slidewire-worker@cpu.service", "slidewire-watch@pacs.service", "slidewire-migrate.service")
_SYSTEM = Path("/lib/systemd/system")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out the root of a machine that the units are installed on, the example of secrets in force."""
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(_UNITS, root / "etc/systemd/system")
    for example in root.rglob("*.example"):
        example.rename(example.with_suffix(""))
    for target in _SYSTEM.glob("*.target"):
        shutil.copy(target, root / "etc/systemd/system", follow_symlinks=True)
    program = root / "opt/slidewire/bin/slidewire"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return root


def _analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = find_program("systemd-analyze", "apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_systemd_has_no_complaint(machine: Path) -> None:
    """systemd-analyze verify knows every key and finds every unit and program that the units name."""
    done = _analyze("verify", f"--root={machine}", "--man=no", *_SERVICES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", _SERVICES)
def test_services_are_confined(machine: Path, service: str) -> None:
    """By systemd's own measure the exposure is at most 2 of 10, network and this machine's root included."""
    done = _analyze("security", "--offline=true", f"--root={machine}", "--threshold=20", "--no-pager", service)
    assert done.returncode == 0, done.stdout
    assert f"Overall exposure level for {service}" in done.stdout


def test_commands_exist() -> None:
    """Each unit runs a subcommand that slidewire has, and nothing else."""
    for unit in _UNITS.glob("*.service"):
        [command] = re.findall(r"^ExecStart=/opt/slidewire/bin/slidewire (.*)$", unit.read_text(), flags=re.MULTILINE)
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, unit.name


def test_a_hung_worker_comes_back_and_a_stopped_one_has_time() -> None:
    """Status 75 means start again, for ever; a stop may take the two minutes of a checkpoint."""
    for name in ("slidewire-worker@.service", "slidewire-watch@.service"):
        lines = (_UNITS / name).read_text().splitlines()
        assert {"Restart=on-failure", "RestartForceExitStatus=75", "StartLimitIntervalSec=0"} <= set(lines)
        assert {"Requires=slidewire-migrate.service", "After=slidewire-migrate.service network-online.target"} <= set(
            lines
        )
    assert "TimeoutStopSec=130" in (_UNITS / "slidewire-worker@.service").read_text().splitlines()


def test_no_secret_is_written_down() -> None:
    """Secrets come from files of root's: credentials, and an environment file; no unit holds one."""
    for file in (path for path in _UNITS.rglob("*") if path.is_file()):
        settings = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        for line in settings:
            assert not re.search(r"(?i)(password|secret|token)\w*=(?!file:%d/)", line), (file.name, line)
