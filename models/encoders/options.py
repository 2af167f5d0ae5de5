"""The options of encoders: ``--encoder-option NAME=VALUE``, checked at submission, part of the result's identity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self, cast

from models.domain.errors import RequestError
from models.encoders.protocol import EncoderSpec, Precision

UNSUITED: Final = "unsuited"
UNPUBLISHED: Final = "weights"
Check = Callable[[str], str]
"""Returns a value as it is recorded, or raises `RequestError`."""


def one_of(*values: str) -> Check:
    """Return a check that lets these values through."""

    def check(value: str) -> str:
        if value not in values:
            raise RequestError(f"{value!r} is none of {', '.join(values)}")
        return value

    return check


# Any encoder may be told to take patches that it is not meant for, and weights that are not the published ones.
_COMMON: Final[Mapping[str, Check]] = {UNSUITED: one_of("allow"), UNPUBLISHED: one_of("unpublished")}


def settle_options(spec: EncoderSpec, options: Mapping[str, str], checks: Mapping[str, Check]) -> dict[str, str]:
    """Check options against those that an encoder has, beside the common ones.

    Raises
    ------
    RequestError
        Names the option, and what it may be.
    """
    known = {**_COMMON, **checks}
    settled = {}
    for name, value in sorted(options.items()):
        if name not in known:
            raise RequestError(f"The encoder {spec.name} has no option {name}; it has: {', '.join(sorted(known))}.")
        try:
            settled[name] = known[name](value)
        except RequestError as exc:
            raise RequestError(f"--encoder-option {name}: {exc.message.rstrip('.')}.") from exc
    return settled


@dataclass(frozen=True, slots=True)
class Computing:
    """How a network computes: what of it changes the numbers, be it in the last bit.

    Parameters
    ----------
    precision : Precision
    deterministic : bool
        The same patch gives the same bytes in any batch, at any place, beside any others, on one kind of device.
    compiled : bool
        The network is compiled first.
    """

    precision: Precision = "fp32"
    deterministic: bool = False
    compiled: bool = False

    @classmethod
    def of(cls, spec: EncoderSpec, options: Mapping[str, str]) -> Self:
        """Return what settled options say."""
        precision = cast("Precision", options.get("precision", spec.precisions[0]))
        return cls(precision, options.get("deterministic") == "yes", options.get("compile") == "yes")

    @staticmethod
    def checks(spec: EncoderSpec) -> dict[str, Check]:
        """Return the options that it has: ``precision``, ``deterministic``, ``compile``."""
        return {
            "precision": one_of(*spec.precisions),
            "deterministic": one_of("yes", "no"),
            "compile": one_of("yes", "no"),
        }
