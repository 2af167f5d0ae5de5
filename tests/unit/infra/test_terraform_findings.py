"""checkov, in an environment of its own, finds nothing in infra/terraform/gcp that is not explained where it is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[3] / "infra" / "terraform" / "gcp"
_CHECKOV = "checkov==3.3.30"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Install checkov beside everything else, and return what it says; it asks nobody."""
    site = tmp_path_factory.mktemp("checkov")
    subprocess.run([sys.executable, "-m", "venv", str(site)], check=True, timeout=60)
    install = [str(site / "bin" / "pip"), "install", "--quiet", _CHECKOV]
    subprocess.run(install, check=True, capture_output=True, timeout=280)
    command = [str(site / "bin" / "checkov"), "--directory", str(_FOLDER), "--framework", "terraform"]
    done = subprocess.run(
        [*command, "--skip-download", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    return dict(json.loads(done.stdout))


@pytest.mark.faults
@pytest.mark.timeout(480)
def test_every_finding_is_explained(findings: dict[str, Any]) -> None:
    """All files are read, nothing fails, and what is passed over has a reason beside it."""
    assert findings["summary"]["parsing_errors"] == 0
    assert findings["summary"]["passed"] > 50
    assert [check["check_id"] for check in findings["results"]["failed_checks"]] == []
    reasons = [text for path in _FOLDER.glob("*.tf") for text in re.findall(r"checkov:skip=\w+:(.+)", path.read_text())]
    assert len(reasons) == findings["summary"]["skipped"]
    assert all(len(reason) > 40 for reason in reasons)
