"""Snakemake's own tests of executors, for `--executor launcher`."""

from snakemake.common.tests import TestWorkflowsLocalStorageBase


class TestWorkflows(TestWorkflowsLocalStorageBase):  # type: ignore[misc]  # of an extra
    """Workflows with files on this machine."""

    __test__ = True

    def get_executor(self) -> str:
        """Return the name of the executor."""
        return "launcher"

    def get_executor_settings(self) -> None:
        """Return its settings."""
