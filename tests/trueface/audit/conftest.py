"""A sound experiment for each test."""

from pathlib import Path

import pytest

from tests.trueface.audit.build import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a run without a fault, written anew."""
    return Lab(tmp_path)
