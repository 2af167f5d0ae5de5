"""Published weights: where they lie on this machine, and how to get them."""

from pathlib import Path

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import EncoderSpec


def find_weights(spec: EncoderSpec, given: Path | None, store: Path | None) -> Path:
    """Return the given weights, or those that were fetched.

    Raises
    ------
    WeightsInvalid
        There are none, with how to get them.
    """
    if given is not None:
        if not given.exists():
            raise WeightsInvalid(f"The weights {given.name} are not there: check --weights.")
        return given
    del store
    raise WeightsInvalid(f"{spec.name} needs weights: slidewire encoders {spec.name} says how to get them.")
