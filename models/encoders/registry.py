"""The encoders there are: found by entry point and loaded on first use, or registered by the running program."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from models.domain.errors import EmbeddingInvalid, RequestError, UnknownEncoder, WeightsInvalid
from models.encoders.protocol import Encoder, Model, check_rows
from models.members import load_member, members

GROUP: Final = "slidewire.encoders"
FAMILIES: Final = "slidewire.encoder_families"
"""Functions from the rest of a name ``FAMILY:REST`` to a model."""
ABSENT: Final[Mapping[str, str]] = {"rudolfv": "RudolfV (Aignostics) has no public weights"}
"""Encoders that people ask for and nobody can run."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_registered: dict[str, Model] = {}


def names() -> tuple[str, ...]:
    """Return the names of all registered encoders, sorted; those of families are without number."""
    return tuple(sorted({*members(GROUP), *_registered}))


def families() -> tuple[str, ...]:
    """Return the prefixes that stand for many encoders, sorted."""
    return tuple(sorted(members(FAMILIES)))


def register(model: Model) -> None:
    """Add an encoder to those of this process; a package does it for all processes with an entry point.

    Raises
    ------
    RequestError
        Another one has its name, or it is no name: files and commands hold it.
    """
    name = model.spec.name
    if not _NAME.fullmatch(name):
        raise RequestError(f"{name[:64]!r} is no name for an encoder: letters, digits, dots, dashes, at most 64.")
    if name in {*members(GROUP), *ABSENT} or _registered.setdefault(name, model) is not model:
        raise RequestError(f"There is an encoder {name!r} already: give this one another name.")


def find(name: str) -> Model:
    """Return the encoder registered under `name`, or the one of a family.

    Raises
    ------
    UnknownEncoder
        With the names that exist.
    """
    if name in _registered:
        return _registered[name]
    family, colon, rest = name.partition(":")
    if colon and family in members(FAMILIES):
        of_family: Model = load_member(FAMILIES, family)(rest)
        return of_family
    if name in ABSENT:
        raise UnknownEncoder(f"{ABSENT[name]}: there is nothing to run.")
    if name not in members(GROUP):
        choices = [*names(), *(f"{one}:NAME" for one in families())]
        raise UnknownEncoder(f"There is no encoder {name!r}; there are: {', '.join(choices)}.")
    model: Model = load_member(GROUP, name)
    return model


def load(model: Model, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
    """Load a model and try it on a patch of noise, so that one that does not work costs no patch.

    Raises
    ------
    ExtraMissing, RequestError
    WeightsInvalid
        The file is not this model's, or what comes out is not what its spec says.
    EmbeddingInvalid
        So it is, and the model has no weights.
    """
    encoder, spec = model.load(weights, options, device), model.spec
    side = spec.patches_px[0] if spec.patches_px else spec.input_px
    noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    rows = encoder.encode(noise)
    try:
        check_rows(rows, 1, spec.dimension)
    except EmbeddingInvalid as exc:
        if weights is None:
            raise
        raise WeightsInvalid(f"The weights are not those of {spec.name}: {exc.message}") from exc
    if not np.isfinite(rows.matrix).all():
        if weights is None:
            raise EmbeddingInvalid(f"The encoder {spec.name} gives NaN or infinity.")
        raise WeightsInvalid(f"{spec.name} gives NaN or infinity with these weights: they are damaged.")
    return encoder
