"""What `make audit` says about what pip-audit found."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "audit.py"
FINE = {"name": "fine", "version": "1", "vulns": []}
UNKNOWN = {"name": "mine", "skip_reason": "Dependency not found on PyPI"}
WEAK = {
    "name": "weak",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"], "description": "text"}],
}


@pytest.mark.parametrize(
    ("packages", "says", "code"),
    [
        ([FINE], "1 packages looked up, 0 known weaknesses", 0),
        ([FINE, UNKNOWN], "does not know them: mine", 0),
        ([UNKNOWN, UNKNOWN | {"name": "other"}], "audit skipped", 0),
        ([], "audit skipped", 0),
        ([FINE, WEAK, UNKNOWN], "weak 2.0: PYSEC-1 CVE-1, mended in 2.1", 1),
    ],
)
def test_nothing_that_was_not_looked_up_counts_as_fine(packages, says, code):
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    text, status = audit.summary(packages)
    assert says in text
    assert status == code
