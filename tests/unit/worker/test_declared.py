"""Declared encoders: what cannot be is named, what can be is found by its name, twice the same is once."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from connectors.endpoints import Credentials
from connectors.remote_encoder import RemoteModel
from models.domain.embedding import ResultKey
from models.domain.errors import SettingsInvalid
from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from models.encoders import registry
from models.encoders.onnx_runtime import OnnxModel
from models.encoders.suitability import check_digest, check_licence
from worker.declared import open_settings, register_declared
from worker.settings import EncoderSettings, load_settings
from worker.submission import Ways, prepare
from worker.wiring import Installation

_SECRET = "hunter2"
_ONNX = {"runtime": "onnx", "dimension": 4, "licence": "MIT"}
_REMOTE = {"runtime": "remote", "dimension": 4, "licence": "MIT", "server": {"url": "https://pf.test/predict"}}


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without encoders of other tests, and leave none."""
    monkeypatch.setattr(registry, "_registered", {})


def _declared(known: dict[str, Any], **changes: Any) -> EncoderSettings:
    return EncoderSettings.model_validate(known | changes)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("dimension = 4\nlicence = 'MIT'", "encoders.own.runtime"),
        ("runtime = 'hunter2'\ndimension = 4\nlicence = 'MIT'", "encoders.own.runtime"),
        ("runtime = 'onnx'\nlicence = 'MIT'", "encoders.own.dimension"),
        ("runtime = 'onnx'\ndimension = 0\nlicence = 'MIT'", "encoders.own.dimension"),
        ("runtime = 'onnx'\ndimension = 4", "encoders.own.licence"),
        ("runtime = 'onnx'\ndimension = 4\nlicence = ''", "encoders.own.licence"),
        ("runtime = 'remote'\ndimension = 4\nlicence = 'MIT'", "encoders.own .*needs a server"),
        ("runtime = 'remote'\ndimension = 4\nlicence = 'MIT'\nserver.auth = 'none'", "encoders.own.server.url"),
        *[
            (f"runtime = 'onnx'\ndimension = 4\nlicence = 'MIT'\n{line}", where)
            for line, where in [
                ("hunter2 = 1", "encoders.own.hunter2"),
                ("input_px = 0", "encoders.own.input_px"),
                ("input_px = 100\nresize_px = 99", "encoders.own .*resize_px"),
                ("spacings_um = [0.5, 0]", "encoders.own.spacings_um.1"),
                ("patches_px = [0]", "encoders.own.patches_px.0"),
                ("mean = [0.5, 0.5]", "encoders.own.mean"),
                ("mean = [0.5, 0.5, nan]", "encoders.own.mean.2"),
                ("std = [1, 0, 1]", "encoders.own.std.1"),
                ("value_range = [1, 0]", "encoders.own .*value_range"),
                ("interpolation = 'hunter2'", "encoders.own.interpolation"),
                ("sha256 = 'hunter2'", "encoders.own.sha256"),
                ("revision = ''", "encoders.own.revision"),
                ("server.url = 'https://pf.test/hunter2'", "encoders.own .*has no server"),
            ]
        ],
        *[
            (f"runtime = 'remote'\ndimension = 4\nlicence = 'MIT'\nserver.url = 'https://pf.test/p'\n{line}", where)
            for line, where in [
                ("weights = '/hunter2'", "encoders.own .*has no weights"),
                ("mean = [0.5, 0.5, 0.5]", "encoders.own .*has no mean"),
                ("server.secret = 7", "encoders.own.server.secret"),
                ("server.frames_per_request = 7", "encoders.own.server.frames_per_request"),
                ("input_px = 600", "encoders.own .*input_px"),
            ]
        ],
    ],
)
def test_what_cannot_be_is_named(text: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is missing, of another runtime, or of no use is named, never shown; nothing is registered."""
    file = tmp_path / "slidewire.toml"
    file.write_text(f"[encoders.own]\n{text}\n")
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(file))
    with pytest.raises(SettingsInvalid, match=where) as caught:
        open_settings()
    assert _SECRET not in str(caught.value).replace("encoders.own.hunter2", "")
    assert "own" not in registry.names()


@pytest.mark.parametrize("name", ["pixel-grid", "rudolfv", "a/b", "timm:x", ""])
def test_names_that_cannot_be(name: str) -> None:
    """A name that an installed encoder has, or that no file could have, is refused, with the setting's name."""
    with pytest.raises(SettingsInvalid, match=r"encoders\..*(already|no name)"):
        register_declared({name: _declared(_ONNX)})


def test_twice_the_same_is_once_and_another_is_refused() -> None:
    """Each command and worker registers what is declared; the same again is nothing new, another is a clash."""
    for known in (_ONNX, _REMOTE):
        name = known["runtime"]
        register_declared({name: _declared(known)})
        first = registry.find(name)
        register_declared({name: _declared(known)})
        assert registry.find(name) is first
        with pytest.raises(SettingsInvalid, match="already"):
            register_declared({name: _declared(known, dimension=5)})


def test_an_onnx_file_becomes_its_model(tmp_path: Path) -> None:
    """Every field reaches the spec; its weights are where they are said to be, and have to be the ones."""
    file = tmp_path / "own.onnx"
    file.write_bytes(b"weights")
    declared = _declared(
        _ONNX, input_px=96, resize_px=100, patches_px=[256, 512], spacings_um=[0.5, 1.0], source="here", revision="7",
        weights=file, sha256="a" * 64, interpolation="bicubic", value_range=[-1, 1], mean=[0.1, 0.2, 0.3],
        std=[1, 2, 3],
    )  # fmt: skip
    register_declared({"own": declared})
    model = registry.find("own")
    spec = model.spec
    assert isinstance(model, OnnxModel)
    assert model.weights(None) == file
    assert (spec.name, spec.dimension, spec.extra, spec.remote) == ("own", 4, "onnx", False)
    assert (spec.input_px, spec.resize_px, spec.patches_px, spec.spacings_um) == (96, 100, (256, 512), (0.5, 1.0))
    assert (spec.interpolation, spec.value_range) == ("bicubic", (-1.0, 1.0))
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert (spec.source, spec.revision, spec.weights_sha256) == ("here", "7", "a" * 64)
    check_licence(spec, ())  # declared is accepted


def test_a_server_becomes_its_model() -> None:
    """The server's fields reach the endpoint; the result says where the model is, and that nobody knows its weights."""
    server = {"url": "https://pf.test/predict/", "auth": "bearer", "secret": "env:PF_TOKEN", "connections": 4}
    register_declared({"own": _declared(_REMOTE, server=server, input_px=96)})
    model = registry.find("own")
    assert isinstance(model, RemoteModel)
    assert (model.endpoint.url, model.endpoint.name, model.endpoint.connections) == (
        "https://pf.test/predict", "own", 4,
    )  # fmt: skip
    assert model.endpoint.credentials == Credentials("bearer", secret="env:PF_TOKEN")
    assert (model.spec.source, model.spec.patches_px, model.spec.remote) == (server["url"], (96,), True)
    assert "server" in model.spec.preprocessing
    assert check_digest(model.spec, "", ()) == ("the model is remote: its weights are not known",)


def test_an_installation_knows_them(tmp_path: Path) -> None:
    """Workers and Python programs know what their settings declare."""
    settings = load_settings().model_copy(update={"state_folder": tmp_path, "encoders": {"own": _declared(_ONNX)}})
    with Installation(settings):
        assert registry.find("own").spec.dimension == 4


def test_settings_do_not_show_a_secret() -> None:
    """Neither the settings nor what is wrong with them show what a secret refers to."""
    server = {"url": "https://pf.test/predict", "secret": _SECRET}
    assert _SECRET not in repr(_declared(_REMOTE, server=server))
    with pytest.raises(ValidationError):
        _declared(_REMOTE, server=server | {"auth": "any"})


CHANGES: list[dict[str, Any]] = [
    {"mean": [0.5, 0.5, 0.5]}, {"std": [0.5, 0.5, 0.5]}, {"value_range": [-1, 1]}, {"interpolation": "bicubic"},
    {"resize_px": 256}, {"revision": "2"}, {"dimension": 5}, {"source": "elsewhere"},
]  # fmt: skip


def _key(declared: EncoderSettings, photo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ResultKey:
    monkeypatch.setattr(registry, "_registered", {})
    register_declared({"own": declared})
    settings = load_settings()
    request = EmbedRequest(
        str(photo), "own", OutputSpec(str(folder)), PatchSpec(patch_px=64, spacing_um=None, tissue_fraction=None)
    )
    return prepare(request, settings.open_endpoints(), Ways.of(settings)).key


def test_all_that_changes_the_numbers_changes_the_results_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one name, another normalisation or another server is another result; the same again is the same."""
    photo, file = tmp_path / "photo.png", tmp_path / "own.onnx"
    Image.new("RGB", (128, 128), (180, 90, 150)).save(photo)
    file.write_bytes(b"weights")
    known = _ONNX | {"weights": file}
    first = _key(_declared(known), photo, tmp_path, monkeypatch)
    assert _key(_declared(known), photo, tmp_path, monkeypatch) == first
    keys = [_key(_declared(known, **change), photo, tmp_path, monkeypatch).sha256 for change in CHANGES]
    assert len({first.sha256, *keys}) == len(CHANGES) + 1
    remote = [
        _key(
            _declared(_REMOTE, input_px=64, server={"url": f"https://{host}/predict"}), photo, tmp_path, monkeypatch
        ).sha256
        for host in ("one.test", "two.test")
    ]
    assert remote[0] != remote[1]
