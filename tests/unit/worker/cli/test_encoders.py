"""How encoders are shown: how each stands, and the steps that are left before it runs."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from models.domain.errors import ExtraMissing, WeightsInvalid
from models.encoders.pixel_grid import MODEL
from models.encoders.protocol import Encoder, EncoderSpec, Hub, Licence
from worker.cli import encoders_view
from worker.cli.encoders_view import Standing, WeightsState
from worker.cli.progress import download_bar
from worker.settings import Settings

_TERMS = Licence("The terms", "https://net.test/terms", ask=True)
_SPEC = replace(MODEL.spec, name="net:a b", source="https://net.test", hub=Hub("owner/net", ("model.bin",)))


@dataclass(frozen=True)
class _Model:
    """An encoder whose weights are where it is told."""

    spec: EncoderSpec = _SPEC
    found: Path | Exception | None = None

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Take all."""
        return options

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return or raise what was told."""
        assert given is None
        assert store is not None
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Fail: nothing is loaded for a list."""
        raise AssertionError((weights, options, device))


def _standing(spec: EncoderSpec, found: Path | Exception | None, **settings: object) -> Standing:
    return Standing.of(_Model(spec, found), Settings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "found", "state"),
    [
        (_SPEC, None, WeightsState.NOT_NEEDED),
        (_SPEC, Path("model.bin"), WeightsState.HERE),
        (_SPEC, WeightsInvalid("none"), WeightsState.TO_FETCH),
        (replace(_SPEC, hub=None), WeightsInvalid("none"), WeightsState.TO_GIVE),
        (_SPEC, ExtraMissing("none"), WeightsState.EXTRA_MISSING),
    ],
)
def test_how_weights_stand(spec: EncoderSpec, found: Path | Exception | None, state: WeightsState) -> None:
    """Here, to be fetched, to be given, or with an extra."""
    standing = _standing(spec, found)
    assert standing.weights == state
    assert standing.summary == state
    assert standing.to_json()["weights"] == state


def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found missing by its module, and is the first step, together with the hub's client."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    standing = _standing(replace(_SPEC, extra="onnx"), WeightsInvalid("none"))
    assert not standing.installed
    assert standing.summary == WeightsState.EXTRA_MISSING
    assert standing.to_json()["steps"][0] == "pip install 'slidewire[onnx,hub]'"
    assert _standing(replace(_SPEC, extra="none-such"), None).summary == WeightsState.EXTRA_MISSING


def test_the_steps_from_nothing() -> None:
    """Consent, weights, the command: in this order, as they are typed; what was accepted before stays accepted."""
    standing = _standing(replace(_SPEC, licence=_TERMS), WeightsInvalid("none"), accepted_licences=["Other"])
    steps = list(standing.steps())
    assert [command for command, _ in steps] == [
        'accepted_licences = ["Other", "The terms"]',
        "slidewire encoders fetch 'net:a b'",
        "slidewire embed SLIDE --encoder 'net:a b' --out out",
    ]
    assert "https://net.test/terms" in steps[0][1]
    assert "HF_TOKEN" in steps[1][1]
    assert standing.to_json()["licence_accepted"] is False


def test_the_steps_that_are_done_are_left_out() -> None:
    """With consent and weights, only the command is left."""
    standing = _standing(replace(_SPEC, licence=_TERMS), Path("model.bin"), accepted_licences=["The terms"])
    assert [command for command, _ in standing.steps()] == ["slidewire embed SLIDE --encoder 'net:a b' --out out"]


def test_weights_to_give_and_a_stain_to_choose() -> None:
    """The command names the options that it does not run without."""
    [(command, remark)] = _standing(replace(_SPEC, hub=None, stain="macenko"), WeightsInvalid("none")).steps()
    assert "--weights PATH" in command
    assert "--encoder-option stain_target=PATH" in command
    assert "https://net.test" in remark


def test_one_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Its spec in words, and numbered steps."""
    spec = replace(
        _SPEC, licence=_TERMS, patches_px=(256, 512), spacings_um=(0.5, 1.0), precisions=("fp32", "bf16"),
        weights_sha256="ab" * 32,
    )  # fmt: skip
    encoders_view.print_one(_standing(spec, WeightsInvalid("none")))
    said = capsys.readouterr().out
    for words in (
        "patches of 256 or 512 px, at 0.5 or 1 um/px (others are refused)",
        "fp32, bf16 (the first unless asked for)",
        "The terms https://net.test/terms",
        "asked for, not given",
        "owner/net: model.bin",
        "ab" * 32,
        spec.preprocessing,
        "  1. accepted_licences",
        "  3. slidewire embed",
    ):
        assert words in said
    encoders_view.print_one(_standing(replace(spec, strict_spacing=False), None))
    assert "(others are noted)" in capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A licence has its line once, marked if it asks for consent that nobody gave; families and absent ones follow."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(encoders_view.registry, "families", lambda: ("timm", "onnx"))
    asking = replace(_SPEC, licence=_TERMS)
    encoders_view.print_table([_standing(asking, None), _standing(_SPEC, None), _standing(asking, None)])
    said = capsys.readouterr().out
    assert said.count("The terms *") == 1
    assert "[2] Apache-2.0\n" in said
    assert "also any timm:NAME, any onnx:NAME" in said
    assert "RudolfV" in said
    encoders_view.print_table([_standing(asking, None, accepted_licences=["The terms"])])
    assert "*" not in capsys.readouterr().out


def test_json_keys() -> None:
    """Scripts find the whole spec, and how it stands."""
    found = _standing(_SPEC, None).to_json()
    assert json.loads(json.dumps(found))["hub"] == {"repository": "owner/net", "files": ["model.bin"]}
    assert {"name", "dimension", "licence", "weights", "runtime_installed", "licence_accepted", "steps"} <= set(found)


def test_a_bar_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe nothing is written; on a terminal the megabytes are."""
    with download_bar("net") as count:
        count(1_000_000, 2_000_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with download_bar("net") as count:
        count(1_000_000, 2_000_000)
    assert "1.0/2.0 MB" in capsys.readouterr().err
