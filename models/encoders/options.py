"""The options of encoders: ``--encoder-option NAME=VALUE``, checked at submission, part of the result's identity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, cast

from models.domain.errors import RequestError
from models.encoders.protocol import EncoderSpec, Precision

UNSUITED: Final = "unsuited"
UNPUBLISHED: Final = "weights"
Runtime = Literal["torch", "openvino"]
NetworkPrecision = Literal[Precision, "int8"]
"""What a network may be asked to compute in: `Precision`, and what only OpenVINO can do."""
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
    if "runtime" in checks:
        Computing.of(spec, settled)  # whether they go together
    return settled


@dataclass(frozen=True, slots=True)
class Computing:
    """How a network computes: what of it changes the numbers, be it in the last bit.

    Parameters
    ----------
    precision : NetworkPrecision
    deterministic : bool
        The same patch gives the same bytes in any batch, at any place, beside any others, on one kind of device.
    compiled : bool
        The network is compiled first.
    runtime : Runtime
        What runs the network once PyTorch has loaded it.

    Raises
    ------
    RequestError
        The runtime cannot do that.
    """

    precision: NetworkPrecision = "fp32"
    deterministic: bool = False
    compiled: bool = False
    runtime: Runtime = "torch"

    def __post_init__(self) -> None:
        if self.runtime == "torch" and self.precision == "int8":
            raise RequestError("precision=int8 is OpenVINO's: add --encoder-option runtime=openvino.")
        if self.runtime == "openvino" and self.precision == "fp16":
            raise RequestError("OpenVINO computes in fp32, bf16 or int8 on a processor: choose one as precision.")
        if self.runtime == "openvino" and self.compiled:
            raise RequestError("compile=yes is PyTorch's: leave it out with runtime=openvino.")

    @classmethod
    def of(cls, spec: EncoderSpec, options: Mapping[str, str]) -> Self:
        """Return what settled options say."""
        runtime = cast("Runtime", options.get("runtime", "torch"))
        usual = spec.precisions[0] if runtime == "torch" else "fp32"
        precision = cast("NetworkPrecision", options.get("precision", usual))
        return cls(precision, options.get("deterministic") == "yes", options.get("compile") == "yes", runtime)

    @staticmethod
    def checks(spec: EncoderSpec) -> dict[str, Check]:
        """Return the options that it has: ``precision``, ``deterministic``, ``compile``, ``runtime``."""
        return {
            "precision": one_of(*spec.precisions, "int8"),
            "deterministic": one_of("yes", "no"),
            "compile": one_of("yes", "no"),
            "runtime": one_of("torch", "openvino"),
        }
