"""What libraries write while they are imported is kept from the screen; what anybody else writes is not."""

import os
import sys
from contextlib import suppress

import pytest

from models.encoders.tensorflow_runtime.import_noise import without_import_noise


def test_only_the_log_of_libraries_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    """Lines of absl and of TensorFlow go; a warning of ours, a traceback and half a line stay, in their order."""
    with without_import_noise():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1795384497.493425    9461 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1795384497.493425    9461 cuda_dnn.cc:8579] Unable to register cuDNN factory\n")
        os.write(2, b"2026-11-22 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN is on.\n")
        print("slidewire: IMPORTANT: I am said", file=sys.stderr, flush=True)
        os.write(2, b"no line end")
    os.write(2, b"; after")
    assert capfd.readouterr().err == "slidewire: IMPORTANT: I am said\nno line end; after"


def test_standard_error_is_given_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A library that does not load loses nothing of what was said."""
    with suppress(ImportError), without_import_noise():
        os.write(2, b"libcuda.so.1: cannot open\n")
        raise ImportError
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "libcuda.so.1: cannot open\nlater\n"
