"""`slidewire encoders`: what is listed, and weights that come from a hub into the store and are used from there."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.encoders import registry
from tests.services.command import ROOT, Said, Slidewire
from tests.services.hub import HubServer, Repository
from tests.services.ports import wait_until

_TOKEN = "hf_s3cr3tT0k3n"
_REPOSITORY = "owner/net"
_ACCEPTED = '["Terms of the test"]'
_EMBED = ("--encoder", "fetched", "--all-patches", "--out", "out", "--json")
# Prints what heavy was imported, and the processor's seconds, after a command.
_PROBE = """
import sys, time
sys.argv = ["slidewire", "encoders", "--json"]
from worker.cli import main
try:
    main()
except SystemExit:
    pass
print({"torch", "tensorflow", "celery", "onnxruntime", "huggingface_hub"} & set(sys.modules), file=sys.stderr)
print(time.process_time(), file=sys.stderr)
"""


def _matrix() -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(5).normal(size=(3, 50_000)).astype(np.float32))
    return file.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Write a small image."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (300, 300, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def fetching(slidewire: Slidewire, hub: HubServer, tmp_path: Path) -> Slidewire:
    """Give the command with an installed package whose encoder's weights lie on a hub, gated, with a token for them."""
    installed = tmp_path / "installed"
    about = installed / "fetched_encoder-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fetched-encoder\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[slidewire.encoders]\nfetched = fetched_encoder:MODEL\n")
    hub.repositories[_REPOSITORY] = Repository({"model.npy": _matrix()}, gated=True)
    hub.members[_TOKEN] = {_REPOSITORY}
    slidewire.environment |= {
        "PYTHONPATH": f"{installed}:{ROOT / 'tests' / 'packages' / 'fetched_encoder'}",
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": _TOKEN,
        "HF_HOME": str(tmp_path / "untouched"),
        "SLIDEWIRE_ACCEPTED_LICENCES": _ACCEPTED,
    }
    return slidewire


def _store(slidewire: Slidewire) -> Path:
    return Path(slidewire.environment["SLIDEWIRE_STATE_FOLDER"]) / "weights"


def _refused(said: Said, code: str) -> str:
    message = str(said.json["error"]["message"])
    assert (said.rc, said.json["error"]["code"]) == (1, code), said
    assert said.stderr == f"slidewire: {code}: {message}\n"
    return message


def test_the_list(slidewire: Slidewire) -> None:
    """On a narrow terminal all is there: names whole, states, licences, and who cannot be listed."""
    slidewire.environment["COLUMNS"] = "80"
    said = slidewire.program("encoders")
    assert (said.rc, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert set(registry.names()) <= {line.split(" ")[0] for line in lines}
    assert "RudolfV (Aignostics) has no public weights" in said.stdout
    assert {registry.find(name).spec.licence.name for name in registry.names()} <= {
        re.sub(r"^\[\d+\] | \*$", "", line) for line in lines
    }
    listed = slidewire.done("encoders").json
    assert [one["name"] for one in listed] == list(registry.names())


def test_the_list_is_quick_and_light(slidewire: Slidewire) -> None:
    """No runtime is imported for it, nor the hub's client."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=slidewire.variables() | {"PYTHONPATH": str(ROOT)}, cwd=slidewire.folder,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    heavy, seconds = done.stderr.splitlines()
    assert heavy == "set()"
    assert float(seconds) < 4.0, "an import too many: it is about one second on a quiet machine"
    assert json.loads(done.stdout)


def test_one_in_words(slidewire: Slidewire) -> None:
    """The words of its spec, and numbered what is to be typed."""
    said = slidewire("encoders", "efficientnet-lite0")
    assert (said.rc, said.stderr) == (0, "")
    for words in ("1280 numbers", "patches of any size", "Apache-2.0", "57934424", "extra 'torch', installed"):
        assert words in said.stdout
    assert said.stdout.endswith("1. slidewire embed SLIDE --encoder efficientnet-lite0 --out out\n")
    assert slidewire.done("encoders", "pixel-grid").json["weights"] == "not needed"
    assert slidewire("encoders", "--json", "pixel-grid").json["name"] == "pixel-grid"
    for arguments in (("nobody",), ("fetch", "nobody")):
        slidewire.failed("ENCODER_UNKNOWN", "encoders", *arguments)
    assert "no weights on the hub" in slidewire.failed("REQUEST_INVALID", "encoders", "fetch", "pixel-grid").stderr


def test_from_nothing_to_an_embedding(fetching: Slidewire, hub: HubServer, photo: Path, tmp_path: Path) -> None:
    """The shown steps, one by one, lead to a table; then the hub may go; the token is nowhere."""
    said = [fetching.program("encoders", "fetched")]
    assert "consent                given" in said[-1].stdout
    assert "1. slidewire encoders fetch fetched" in said[-1].stdout
    said.append(fetching.program("encoders", "fetch", "fetched", "--json"))
    assert (said[-1].rc, said[-1].stderr, said[-1].json["already"]) == (0, "", False)
    said.append(fetching.program("encoders", "fetch", "fetched"))
    assert "are here already" in said[-1].stdout
    assert said[-1].stdout.endswith(f"{said[-2].json['path']}\n")
    hub.stop()
    said.append(fetching.program("encoders", "fetched", "--json"))
    assert said[-1].json["weights"] == "here"
    assert said[-1].json["steps"] == ["slidewire embed SLIDE --encoder fetched --out out"]
    said.append(fetching.program("embed", photo, *_EMBED))
    assert said[-1].json["state"] == "succeeded", said[-1]
    table = pq.read_table(said[-1].output("parquet")["uri"])
    assert json.loads(table.schema.metadata[b"slidewire"])["weights_sha256"] == said[1].json["sha256"]
    files = [path for path in (*tmp_path.rglob("*"),) if path.is_file()]
    assert not [path for path in files if _TOKEN.encode() in path.read_bytes()]
    assert not [one for one in said if _TOKEN in one.stdout + one.stderr]
    assert not (tmp_path / "untouched").exists(), "the hub's client keeps files of its own"


@pytest.fixture
def gated(slidewire: Slidewire, hub: HubServer) -> str:
    """Give an encoder whose licence asks for consent and whose weights the hub gives to members only."""
    specs = [registry.find(name).spec for name in registry.names()]
    spec = next(spec for spec in specs if spec.hub is not None and spec.licence.ask and not spec.weights_sha256)
    assert spec.hub is not None
    files = {pattern.replace("*", "part"): _matrix() for pattern in spec.hub.files}
    pinned = spec.revision if spec.revision != "main" else "c" * 40
    hub.repositories[spec.hub.repository] = Repository(files, pinned, gated=True)
    hub.members[_TOKEN] = set()
    licences = json.dumps([spec.licence.name])
    slidewire.environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "SLIDEWIRE_ACCEPTED_LICENCES": licences}
    return spec.name


def test_the_licence_comes_first(slidewire: Slidewire, hub: HubServer, gated: str) -> None:
    """Without consent nobody is asked for a byte; the line to write is shown, and is enough."""
    licences = slidewire.environment.pop("SLIDEWIRE_ACCEPTED_LICENCES")
    licence = registry.find(gated).spec.licence
    assert licence.url in slidewire.failed("LICENCE_NOT_ACCEPTED", "encoders", "fetch", gated).stderr
    assert hub.asked == []
    step = slidewire.done("encoders", gated).json["steps"][0]
    assert f"  1. {step}\n     (in slidewire.toml" in slidewire("encoders", gated).stdout
    assert step == f"accepted_licences = {licences}"
    (slidewire.folder / "slidewire.toml").write_text(step)
    assert slidewire.done("encoders", gated).json["licence_accepted"] is True
    assert "HF_TOKEN" in slidewire.failed("ACCESS_DENIED", "encoders", "fetch", gated).stderr


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({}, "ACCESS_DENIED", "agree to the licence"),
        ({"HF_TOKEN": _TOKEN}, "ACCESS_DENIED", "to the account whose token is in HF_TOKEN"),
        ({"HF_TOKEN": _TOKEN + "-old"}, "ACCESS_DENIED", "does not know the token"),
        ({"HF_TOKEN": _TOKEN + "\n"}, "SETTINGS_INVALID", "HF_TOKEN"),
        ({"HF_ENDPOINT": f"http://me:{_TOKEN}@localhost"}, "SETTINGS_INVALID", "HF_ENDPOINT"),
        ({"HF_HUB_OFFLINE": "1"}, "REQUEST_INVALID", "HF_HUB_OFFLINE"),
        ({"SLIDEWIRE_WEIGHTS": "/proc/none"}, "OUTPUT_UNAVAILABLE", "cannot be written"),
    ],
)
def test_what_is_in_the_way(slidewire: Slidewire, gated: str, change: dict[str, str], code: str, says: str) -> None:
    """One line that says what to do, and never the token."""
    slidewire.environment |= change
    said = slidewire.failed(code, "encoders", "fetch", gated)
    assert says in said.stderr
    assert _TOKEN not in said.stdout + said.stderr
    assert not [path for path in _store(slidewire).rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_fetch_that_is_killed(fetching: Slidewire, hub: HubServer, photo: Path) -> None:
    """What it left is used by nobody but the next fetch, which goes on from there."""
    hub.faults.hold_at = 200_000
    running = fetching.start("encoders", "fetch", "fetched")
    assert hub.held.wait(60.0)
    wait_until(lambda: any(path.stat().st_size for path in _store(fetching).rglob(".*.part")), "some of it to be kept")
    running.kill()
    [part] = _store(fetching).rglob(".*.part")
    assert _TOKEN not in running.log
    reached = part.stat().st_size
    assert 0 < reached <= 200_000
    assert "slidewire encoders fetch fetched" in _refused(fetching.program("embed", photo, *_EMBED), "WEIGHTS_INVALID")
    assert not (fetching.folder / "out").exists()
    path = Path(fetching.program("encoders", "fetch", "fetched", "--json").json["path"])
    assert path.read_bytes() == _matrix()
    assert hub.ranges[-1] == f"bytes={reached}-"
    assert not part.exists()


def test_weights_that_are_damaged(fetching: Slidewire, photo: Path) -> None:
    """A bit that flipped is found before a patch is spent, and a second fetch repairs it."""
    path = Path(fetching.program("encoders", "fetch", "fetched", "--json").json["path"])
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "slidewire encoders fetch fetched" in _refused(fetching.program("embed", photo, *_EMBED), "WEIGHTS_INVALID")
    assert not (fetching.folder / "out").exists()
    assert fetching.program("encoders", "fetch", "fetched", "--json").json["already"] is False
    assert path.read_bytes() == content
