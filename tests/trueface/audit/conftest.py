"""A sound experiment for each test."""

from pathlib import Path

import pytest

from tests.trueface.audit.build import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a newly written run without a fault."""
    return Lab(tmp_path)
