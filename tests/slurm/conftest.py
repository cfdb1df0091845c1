"""A Slurm for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Slurm, a_slurm, missing


def slurm_or_skip() -> None:
    """Skip a test where Slurm cannot be started, and say what is missing."""
    lacking = missing()
    if lacking:
        pytest.skip(f"Slurm: {lacking}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of one node with many slots, shared by a file's tests that do it no harm."""
    slurm_or_skip()
    with a_slurm(tmp_path_factory.mktemp("slurm") / "one", cpus=16) as slurm:
        yield slurm


@pytest.fixture
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of three nodes, for one test that may break it."""
    slurm_or_skip()
    with a_slurm(tmp_path_factory.mktemp("slurm") / "three", 3) as slurm:
        yield slurm
