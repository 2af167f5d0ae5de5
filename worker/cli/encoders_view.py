"""How encoders stand on this machine: what they are, whether they can run, and what is still to be done for that."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from json import dumps
from shlex import quote
from typing import Any, Final, Self

import typer

from models.domain.errors import ExtraMissing, LicenceNotAccepted, SlidewireError
from models.encoders import registry
from models.encoders.protocol import EncoderSpec, Model
from models.encoders.suitability import check_licence
from worker.settings import Settings

_WIDTH = 22
# The module that an extra brings, where it has another name.
_MODULES: Final = {"hub": "huggingface_hub", "onnx": "onnxruntime"}


class WeightsState(StrEnum):
    """How the weights of an encoder stand."""

    HERE = "here"
    NOT_NEEDED = "not needed"
    TO_FETCH = "to fetch"
    TO_GIVE = "give --weights"
    EXTRA_MISSING = "extra missing"


@dataclass(frozen=True, slots=True)
class Standing:
    """One encoder on this machine.

    Parameters
    ----------
    spec : EncoderSpec
    weights : WeightsState
    installed : bool
        What it computes with is there.
    accepted : tuple of str
        Licences that somebody here agreed to.
    """

    spec: EncoderSpec
    weights: WeightsState
    installed: bool
    accepted: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, settings: Settings) -> Self:
        """Look at an encoder without importing its runtime and without reading its weights."""
        spec = model.spec
        installed = not spec.extra or _has(spec.extra)
        try:
            found = model.weights(None, settings.weights_folder)
            state = WeightsState.HERE if found is not None else WeightsState.NOT_NEEDED
        except ExtraMissing:
            state = WeightsState.EXTRA_MISSING
        except SlidewireError:
            state = WeightsState.TO_FETCH if spec.hub is not None else WeightsState.TO_GIVE
        return cls(spec, state, installed, tuple(settings.accepted_licences))

    @property
    def consented(self) -> bool:
        """Whether its licence asks for no consent, or has it."""
        try:
            check_licence(self.spec, self.accepted)
        except LicenceNotAccepted:
            return False
        return True

    @property
    def summary(self) -> str:
        """How it stands, in two words."""
        return self.weights if self.installed else WeightsState.EXTRA_MISSING

    def to_json(self) -> dict[str, Any]:
        """Return its spec, how it stands, and the steps that are left before it runs."""
        return {
            **asdict(self.spec),
            "weights": str(self.weights),
            "runtime_installed": self.installed,
            "licence_accepted": self.consented,
            "steps": [command for command, _ in self.steps()],
        }

    def steps(self) -> Iterator[tuple[str, str]]:
        """Yield what is left to do before it runs: what to type or write, and a remark."""
        spec, licence = self.spec, self.spec.licence
        fetching = self.weights == WeightsState.TO_FETCH
        missing = [spec.extra] if not self.installed or self.weights == WeightsState.EXTRA_MISSING else []
        if fetching and not _has("hub"):
            missing.append("hub")
        if missing:
            yield f"pip install 'slidewire[{','.join(missing)}]'", ""
        if not self.consented:
            names = dumps([*self.accepted, licence.name])
            yield f"accepted_licences = {names}", f"in slidewire.toml, if you accept it: {licence.url or licence.name}"
        if fetching:
            token = "with HF_TOKEN set, if the hub wants its terms agreed to; " if licence.ask else ""
            yield f"slidewire encoders fetch {quote(spec.name)}", f"{token}or give your copy with --weights"
        given = " --weights PATH" if self.weights == WeightsState.TO_GIVE else ""
        stain = " --encoder-option stain_target=PATH" if spec.stain else ""
        remark = f"weights: {spec.source}" if given else ""
        yield f"slidewire embed SLIDE --encoder {quote(spec.name)}{given}{stain} --out out", remark


def _has(extra: str) -> bool:
    name = _MODULES.get(extra, extra)
    if name in sys.modules:
        return sys.modules[name] is not None
    return find_spec(name) is not None


def survey(settings: Settings) -> list[Standing]:
    """Return how all encoders that have names of their own stand."""
    return [Standing.of(registry.find(name), settings) for name in registry.names()]


def print_table(found: Sequence[Standing]) -> None:
    """Print a line an encoder, the licences, and what cannot be listed."""
    from rich.console import Console
    from rich.table import Table

    licences = list(dict.fromkeys((one.spec.licence.name, one.consented) for one in found))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("encoder", no_wrap=True)
    for heading in ("numbers", "px"):
        table.add_column(heading, justify="right")
    for heading in ("um/px", "precision"):
        table.add_column(heading)
    table.add_column("extra", no_wrap=True)
    table.add_column("licence", justify="right")
    table.add_column("weights")
    for one in found:
        spec = one.spec
        spacings = " ".join(f"{spacing:g}" for spacing in spec.spacings_um) or "any"
        licence = f"[{licences.index((spec.licence.name, one.consented)) + 1}]"
        numbers = (str(spec.dimension), str(spec.input_px), spacings, " ".join(spec.precisions))
        table.add_row(spec.name, *numbers, spec.extra or "-", licence, one.summary)
    console = Console(highlight=False, markup=False)
    console.print(table, markup=False)
    for note in (*_terms(licences), *_others()):
        console.print(note, soft_wrap=True)


def _terms(licences: Sequence[tuple[str, bool]]) -> Iterator[str]:
    yield "\nlicences"
    for number, (name, consented) in enumerate(licences, 1):
        yield f"[{number}] {name}" + ("" if consented else " *")
    if not all(consented for _, consented in licences):
        yield "*   asks for consent: slidewire encoders NAME says how to give it"


def _others() -> Iterator[str]:
    families = [f"{family}:NAME" for family in registry.families()]
    if families:
        yield f"\nalso any {', any '.join(families)}"
    yield from (f"not here: {why}" for why in registry.ABSENT.values())


def print_one(standing: Standing) -> None:
    """Print what an encoder is, in words, and what is to be done to run it."""
    for label, text in _words(standing):
        typer.echo(f"{label:<{_WIDTH}} {text}")
    typer.echo("\nTo run it:")
    for number, (command, remark) in enumerate(standing.steps(), 1):
        typer.echo(f"  {number}. {command}")
        if remark:
            typer.echo(f"     ({remark})")


def _words(standing: Standing) -> Iterator[tuple[str, str]]:
    spec, licence = standing.spec, standing.spec.licence
    sizes = " or ".join(str(size) for size in spec.patches_px)
    spacings = " or ".join(f"{spacing:g}" for spacing in spec.spacings_um)
    others = "others are refused" if spec.strict_spacing else "others are noted"
    yield "encoder", spec.name
    yield "what it is", spec.family
    yield "gives", f"{spec.dimension} numbers a patch (float32)"
    size = f"patches of {sizes} px" if sizes else "patches of any size"
    yield "takes", f"{size}, " + (f"at {spacings} um/px ({others})" if spacings else "at any spacing")
    yield "network's input", f"{spec.input_px} x {spec.input_px} px"
    yield "pre-processing", spec.preprocessing
    yield "precision", ", ".join(spec.precisions) + (" (the first unless asked for)" if spec.precisions[1:] else "")
    extra = f"extra {spec.extra!r}, {'installed' if standing.installed else 'not installed'}"
    yield "computed with", extra if spec.extra else "the core, always there"
    yield "licence", f"{licence.name} {licence.url}".strip()
    if licence.ask:
        yield "consent", "given (accepted_licences)" if standing.consented else "asked for, not given"
    yield "source", spec.source
    yield "revision", spec.revision
    if spec.hub is not None:
        yield "on the hub", f"{spec.hub.repository}: {', '.join(spec.hub.files)}"
    yield "sha256 of weights", spec.weights_sha256 or "not declared"
    yield "weights", standing.weights
