"""The device by its name, and switches that are as they were when a block is left."""

import pytest
import torch

from models.domain.errors import RequestError, SettingsInvalid
from models.encoders.options import Computing
from models.encoders.pytorch.device import choose_device, choose_dtype, exact_numbers

_CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch count two GPUs, which cannot be had here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch find none, wherever this runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3", "mps", "gpu", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """The setting is named, what it says, and what there is; a CPU is not taken instead."""
    with pytest.raises(SettingsInvalid, match=rf"setting device is '{name}', but PyTorch finds only cpu here"):
        choose_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_too_many_is_refused() -> None:
    """Of two GPUs there is no third."""
    with pytest.raises(SettingsInvalid, match="only cpu, cuda:0, cuda:1"):
        choose_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "chosen"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_devices_by_name(name: str, chosen: str) -> None:
    """A GPU if there is one, the one that is named, or none if that is asked for."""
    assert choose_device(name) == torch.device(chosen)


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_is_the_cpu() -> None:
    """Nobody has to say so."""
    assert choose_device("auto") == _CPU


def test_half_precision_needs_a_gpu() -> None:
    """It is refused on a CPU with what to take instead, and is there on a GPU."""
    with pytest.raises(RequestError, match="fp16 needs a GPU: take bf16 or fp32"):
        choose_dtype("fp16", _CPU)
    assert choose_dtype("fp16", torch.device("cuda:0")) is torch.float16
    assert choose_dtype("bf16", _CPU) is torch.bfloat16
    assert choose_dtype("fp32", _CPU) is torch.float32


def _switches() -> tuple[object, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )


@pytest.fixture
def loose() -> object:
    """Set all switches to what is fast and inexact; give them as they then stand."""
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(mode=False, warn_only=True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        yield _switches()
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("deterministic", [False, True])
def test_switches_hold_within_the_block_only(loose: object, *, deterministic: bool) -> None:
    """No TF32 and no benchmarks in it; if asked for, reproducible kernels, by no mere warning; then all as before."""
    with exact_numbers(Computing(deterministic=deterministic), _CPU):
        assert _switches() == ("highest", deterministic, not deterministic, False, False, deterministic)
    assert _switches() == loose


def test_switches_are_put_back_after_a_failure(loose: object) -> None:
    """A batch that fails leaves nothing behind."""
    with pytest.raises(ZeroDivisionError), exact_numbers(Computing(deterministic=True), _CPU):
        raise ZeroDivisionError
    assert _switches() == loose


@pytest.mark.parametrize(
    ("device", "deterministic", "said"),
    [("cuda:0", True, ":4096:8"), ("cuda:0", False, None), ("cpu", True, None)],
)
def test_cublas_is_told_in_deterministic_mode(
    monkeypatch: pytest.MonkeyPatch, device: str, said: str | None, *, deterministic: bool
) -> None:
    """The variable that cuBLAS looks at is set for it, only on a GPU, and never over what somebody has set."""
    import os

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with exact_numbers(Computing(deterministic=deterministic), torch.device(device)):
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == said
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with exact_numbers(Computing(deterministic=True), torch.device("cuda:0")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
