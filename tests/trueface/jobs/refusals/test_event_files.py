from pathlib import Path

import pytest

from launcher.api import Draft, Kind
from trueface.jobs.classes.kinds import CLASSIFY
from trueface.jobs.kinds import TRAIN

DATA = {"train": "gan2:pre&real:pre", "classify": "cifar10:all"}
GIVEN = {"train": {"data_root": "data", "split_path": "splits"}, "classify": {"data_root": "data"}}


@pytest.mark.parametrize("kind", [TRAIN, CLASSIFY], ids=lambda kind: kind.name)
@pytest.mark.parametrize("wanted", [True, False])
def test_event_files_are_refused_where_nothing_can_write_them(
    tmp_path: Path, kind: Kind, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueface.jobs.refusals.event_files.PACKAGE", "no_such_package")
    data = DATA[kind.name]
    settings = kind.settings.model_validate({**GIVEN[kind.name], "tensorboard": wanted})
    draft = Draft(
        kind=kind.name, run="r", run_folder=tmp_path / "runs/r", folder=tmp_path, model=data,
        data=data, settings=settings.model_dump(mode="json"),
    )  # fmt: skip
    reasons = [reason for reason in kind.refusals(draft, ()) if "tensorboard" in reason]
    assert len(reasons) == wanted
    assert all("pip install 'launcher-trueface[tensorboard]'" in reason for reason in reasons)
