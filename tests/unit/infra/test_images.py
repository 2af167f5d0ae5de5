"""The Dockerfiles agree with each other, with the package, and with what a hospital may ask of an image."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.services.ports import free_port
from worker.cli import app
from worker.settings import Settings

_ROOT = Path(__file__).parents[3]
_FOLDER = _ROOT / "infra" / "docker"
_IMAGES = sorted(_FOLDER.glob("Dockerfile.*"))
_NAMES = [path.suffix.removeprefix(".") for path in _IMAGES]


def _instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines()]


def _last_stage(path: Path) -> list[tuple[str, str]]:
    """Return the instructions after the last FROM."""
    instructions = _instructions(path)
    return instructions[max(number for number, (name, _) in enumerate(instructions) if name == "FROM") :]


def _only(path: Path, name: str) -> str:
    """Return what follows an instruction that the last stage has exactly once."""
    [found] = [rest for instruction, rest in _last_stage(path) if instruction == name]
    return found


def _variables(path: Path) -> dict[str, str]:
    return dict(word.split("=", 1) for word in _only(path, "ENV").split())


def test_the_three_images() -> None:
    """There is a worker for machines without a GPU, and one for each framework with CUDA."""
    assert _NAMES == ["worker-cpu", "worker-tensorflow-cuda", "worker-torch-cuda"]


def test_images_differ_only_in_what_they_are_for() -> None:
    """But for names, extras and the GPU's variables the three are one file."""

    def neutral(path: Path) -> list[tuple[str, str]]:
        kept = [(name, rest) for name, rest in _instructions(path) if name != "LABEL"]
        text = [(name, re.sub(r"(application) \S+|( NVIDIA_\w+=\S+)", r"\1", rest)) for name, rest in kept]
        return [(name, rest.strip()) for name, rest in text]

    assert neutral(_IMAGES[0]) == neutral(_IMAGES[1]) == neutral(_IMAGES[2])


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_image_is_pinned_and_small_in_what_it_copies(path: Path) -> None:
    """It is built on one named release in two stages; nothing is fetched by ADD, and every source exists."""
    instructions = _instructions(path)
    assert [rest for name, rest in instructions if name == "ARG" and rest.startswith("BASE=")] == [
        "BASE=python:3.12-slim-bookworm"
    ]
    assert [rest for name, rest in instructions if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert "ADD" not in dict(instructions)
    assert ":latest" not in path.read_text()
    admitted = (_ROOT / ".dockerignore").read_text().split()
    for name, rest in instructions:
        for source in rest.split()[:-1] if name == "COPY" and not rest.startswith("--from") else []:
            assert (_ROOT / source).exists(), source
            assert f"!{source}" in admitted, source


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_image_holds_no_secret(path: Path) -> None:
    """No instruction sets anything that is called a password, a token, a secret or a key."""
    for name, rest in _instructions(path):
        assert not re.search(r"(?i)(password|passwd|token|secret|credential|_key)\w*=", rest), (name, rest)


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_image_runs_as_a_number_that_owns_its_volumes(path: Path) -> None:
    """User and group are the number that `install` makes, so that Kubernetes can see that it is not root."""
    user, _, group = _only(path, "USER").partition(":")
    steps = (_FOLDER / "install").read_text()
    assert int(user) > 0
    assert user == group
    assert f"useradd --system --uid {user} --gid {group}" in steps
    assert f"--owner={user} --group={group}" in steps
    folders = re.search(r"for folder in (.*); do", steps)
    assert folders is not None
    assert json.loads(_only(path, "VOLUME")) == [f"/srv/slidewire/{folder}" for folder in folders[1].split()]


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_what_is_written_lies_on_volumes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings read the image's variables: state, checkpoints and weights lie on the volumes, metrics are served."""
    for name, value in _variables(path).items():
        if name.startswith("SLIDEWIRE_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    folders = {settings.checkpoint_folder, settings.state_folder, settings.weights_folder}
    assert {str(folder) for folder in folders} == set(json.loads(_only(path, "VOLUME")))
    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", int(_only(path, "EXPOSE")))


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_health_is_asked_of_the_process(path: Path) -> None:
    """The health check is a subcommand, which asks the port that the image sets; there is time for a start."""
    options, _, command = _only(path, "HEALTHCHECK").partition(" CMD ")
    program, *subcommand = json.loads(command)
    assert program == json.loads(_only(path, "ENTRYPOINT"))[-1]
    done = CliRunner().invoke(app, subcommand, env=_variables(path) | {"SLIDEWIRE_METRICS_PORT": str(free_port())})
    assert done.exit_code == 1
    assert "no answer" in done.output
    assert "--start-period=" in options


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_signals_reach_the_program(path: Path) -> None:
    """The entry point is tini in exec form, the command is only the subcommand, and a stop is SIGTERM."""
    assert json.loads(_only(path, "ENTRYPOINT")) == ["tini", "--", "slidewire"]
    assert json.loads(_only(path, "CMD")) == ["worker"]
    assert _only(path, "STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_labels_say_what_it_is(path: Path) -> None:
    """OCI's annotations name the image, its licence and the package's version."""
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', _only(path, "LABEL")))
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    assert labels["title"] == f"slidewire-{path.suffix.removeprefix('.')}"
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]


@pytest.mark.parametrize("path", _IMAGES, ids=_NAMES)
def test_extras_exist(path: Path) -> None:
    """The build stage installs extras that pyproject.toml has, and no two that bring the same package."""
    [extras] = [
        rest.split()[-1].split(",") for name, rest in _instructions(path) if rest.startswith("install-slidewire a")
    ]
    known = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= set(known)
    assert not {"tensorflow", "tensorflow-cuda"} <= set(extras)


def test_only_gpu_images_ask_for_the_driver() -> None:
    """NVIDIA's toolkit gives the CUDA images the driver's compute part, and the CPU image nothing."""
    for path in _IMAGES:
        wanted = {name: value for name, value in _variables(path).items() if name.startswith("NVIDIA_")}
        expected = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
        assert wanted == (expected if path.suffix.endswith("-cuda") else {})


@pytest.mark.parametrize("arguments", [[], ["application"], ["everything"]])
def test_install_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """The install step without a verb, without extras or with another verb ends with 2 and changes nothing."""
    done = subprocess.run(["sh", _FOLDER / "install", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr
