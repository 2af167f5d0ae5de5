"""``slidewire report`` without what it needs."""

import sys
from typing import cast

import pytest

from models.domain.errors import ExtraMissing
from worker.cli.report import write_page
from worker.wiring import Installation


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without the libraries of the page the error says what to install, before anything is read."""
    for module in ("page", "figures", "charts"):
        monkeypatch.delitem(sys.modules, f"worker.report.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraMissing, match=r"slidewire\[report\]"):
        write_page(cast("Installation", None), "1f")
