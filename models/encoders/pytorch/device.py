"""Where and how PyTorch computes: the device by its name, the type of its numbers, switches that change them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.domain.errors import RequestError, SettingsInvalid
from models.encoders.options import Computing, NetworkPrecision


def choose_device(name: str) -> Any:
    """Return the device that a name stands for.

    Parameters
    ----------
    name : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` (the first) or ``cuda:N``.

    Returns
    -------
    torch.device

    Raises
    ------
    SettingsInvalid
        There is no such device.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(f"cuda:{number}" for number in range(count))]
    chosen = {"auto": there[min(1, count)], "cuda": "cuda:0"}.get(name, name)
    if chosen not in there:
        raise SettingsInvalid(f"The setting device is {name!r}, but PyTorch finds only {', '.join(there)} here.")
    return torch.device(chosen)


def choose_dtype(precision: NetworkPrecision, device: Any) -> Any:
    """Return the type that the weights and all that flows through the network have.

    LayerNorm, softmax and sums inside a matrix product accumulate in float32 whatever it is. A CPU without instructions
    for bfloat16 gives right numbers, too, only slower than with float32.

    Returns
    -------
    torch.dtype

    Raises
    ------
    RequestError
        fp16 on a CPU, which has next to nothing for it.
    """
    import torch

    if precision == "fp16" and device.type == "cpu":
        raise RequestError("--encoder-option precision=fp16 needs a GPU: take bf16 or fp32 on a CPU.")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@contextmanager
def exact_numbers(computing: Computing, device: Any) -> Iterator[None]:
    """Within a block, float32 is float32 (no TF32), and in deterministic mode only reproducible kernels are used."""
    import torch

    before = (
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if computing.deterministic and device.type == "cuda":
        # cuBLAS sums in one order only with a workspace of its own for each stream; it looks when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.set_float32_matmul_precision("highest")
        if computing.deterministic:
            torch.use_deterministic_algorithms(mode=True)
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=computing.deterministic, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
