"""timm, installed into a folder of its own: PyTorch's CPU build has no torchvision that fits, and timm imports one.

timm asks torchvision for what no encoder uses. Of torchvision's own operators, which do not load beside the CPU build,
only the two that its import looks up are declared, without any code; everything else is timm as published.
"""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PACKAGES = ("timm", "torchvision", "timm-ctp")
"""timm-ctp: the fork of timm 0.5.4 that CTransPath was published with, under a name of its own."""

_BEFORE = """
import sys
sys.path.append({site!r})
import torch
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def install(site: Path) -> Path:
    """Install timm and torchvision, without what they require, into a folder; return it."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return site


def run(site: Path, program: str, root: Path) -> str:
    """Run a program that may import timm, in the folder of the project; return what it printed."""
    whole = _BEFORE.format(site=str(site)) + dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", whole],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
