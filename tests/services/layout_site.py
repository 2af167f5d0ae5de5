"""The tools whose layouts Slidewire writes, as published, in an environment of their own.

SpatialData and wsidata (LazySlide's reader) with all they need; hs2p and slide2vec without, since their readers need
little of it. PyTorch is borrowed from the project's environment. TRIDENT, CLAM and STAMP are in no registry.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent

WHOLE = ("spatialdata==0.7.3", "anndata==0.12.19", "zarr==3.1.6")
ALONE = (
    "wsidata==0.12.0", "openslide-python", "openslide-bin", "opencv-python-headless", "hs2p==6.1.0",
    "slide2vec==7.1.4", "omegaconf", "antlr4-python3-runtime==4.9.3",
)  # fmt: skip

# slide2vec's own __init__ imports all its encoders, and what they need; its reader is one file.
_BEFORE = """
import importlib.machinery, sys, types
sys.path.append({borrowed!r})
_found = importlib.machinery.PathFinder.find_spec("slide2vec")
sys.modules["slide2vec"] = types.ModuleType("slide2vec")
sys.modules["slide2vec"].__path__ = list(_found.submodule_search_locations)
"""


def install(site: Path) -> Path:
    """Make the environment; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(site)], check=True, capture_output=True, timeout=120)
    python = site / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *WHOLE], check=True, capture_output=True, timeout=900)
    subprocess.run([*pip, "--no-deps", *ALONE], check=True, capture_output=True, timeout=300)
    return python


def run(python: Path, program: str, folder: Path) -> str:
    """Run a program that may import the tools, in a folder; return what it printed."""
    whole = _BEFORE.format(borrowed=sysconfig.get_path("purelib")) + dedent(program)
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", whole],
        cwd=folder, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
