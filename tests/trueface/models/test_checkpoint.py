import pickle
from pathlib import Path

import pytest
import torch

from trueface.models.checkpoint import (
    git_commit,
    load,
    refuse_other_resolution,
    restore,
    save_model,
    versions,
)
from trueface.models.detectors import build
from trueface.runtime.errors import CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "checkpoints" / "best.pt"
    save_model(path, build("slim18", weights="none", seed=3), {"seed": 3, "job": "train/x"})
    return path


@pytest.mark.parametrize("name", ["slim18", "mesonet", "f3net"])
def test_a_model_comes_back_bit_for_bit_with_its_provenance(tmp_path: Path, name: str) -> None:
    saved = tmp_path / "best.pt"
    model = build(name, weights="none", seed=3)
    save_model(saved, model, {"seed": 3, "job": "train/x"})
    back = restore(saved, arch=name)
    assert load(saved).provenance == {"seed": 3, "job": "train/x"}
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, back.network.state_dict()[name]), name
    assert not back.training


def test_nothing_but_the_checkpoint_lies_in_its_folder(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"schema": 1, "state": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="cannot be read safely"):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_another_architecture_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="is a slim18, but the settings say model nodown18"):
        restore(saved, arch="nodown18")


def test_a_cut_off_checkpoint_is_named(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"best\.pt cannot be read safely"):
        load(saved)


def test_an_absent_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train this model first"):
        load(tmp_path / "best.pt")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of schema 1"):
        load(tmp_path / "other.pt")


def test_versions_and_commit_are_told(tmp_path: Path) -> None:
    assert versions()["torch"] == str(torch.__version__)
    assert git_commit(tmp_path) is None


def test_a_base_without_nodown_is_not_gone_on_with_as_if_it_had_it(tmp_path: Path) -> None:
    model = build("baseline18", weights="none", seed=1)
    save_model(tmp_path / "best.pt", model, {})
    base = load(tmp_path / "best.pt")
    refuse_other_resolution(base, nodown=False)
    with pytest.raises(CheckpointError, match="trained without nodown; leave the setting out"):
        refuse_other_resolution(base, nodown=True)
