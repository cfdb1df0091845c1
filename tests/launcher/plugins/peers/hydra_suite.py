"""Hydra's own tests of launchers, for `hydra/launcher=launcher`."""

import pytest
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

BATCHES = ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("launcher", [])])
class TestLauncher(LauncherTestSuite):  # type: ignore[misc]  # of an extra
    """Sweeps in this process."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("launcher", BATCHES)])
class TestBatches(BatchedSweeperTestSuite):  # type: ignore[misc]  # of an extra
    """Sweeps of several batches."""


FLAGS = ["-m", "hydra/launcher=launcher"]


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, FLAGS)])
class TestIntegration(IntegrationTestSuite):  # type: ignore[misc]  # of an extra
    """Apps of their own."""
