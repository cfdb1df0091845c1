"""Packages of extras that `make test` does not install. Tests that need one are skipped without it, except at night."""

import importlib.util
import os

import pytest

REQUIRED = "LAUNCHER_TESTS_EXTRAS"  # set by `make night`: a missing package is a failure


def need_extra(*packages: str) -> None:
    """Skip the test or its module if a package is not installed; fail if `make night` runs it."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing and os.environ.get(REQUIRED):
        pytest.fail(f"{', '.join(missing)} is not installed, although {REQUIRED} is set")
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed", allow_module_level=True)
