from pathlib import Path

import pytest

from trueface.runtime import paths
from trueface.runtime.ids import model_folder_name
from trueface.training.history import Epoch, epochs, write_history


def an_epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        lr=0.001,
        loss=1 / number,
        accuracy=0.5,
        val_loss=0.7,
        val_accuracy=0.5,
        val_balanced_accuracy=None,
        seconds=1.5,
        images_per_s=100.0,
    )


def test_epochs_of_models_are_read_as_they_were_written(tmp_path: Path) -> None:
    long = "&".join(["gan2:pre"] * 40)  # too long for a folder's name
    for model in ("gan2:pre", long):
        folder = tmp_path / model_folder_name(model)
        write_history(paths.history(folder), [an_epoch(1), an_epoch(2)])
    rows = list(epochs(tmp_path, ["gan2:pre", "gan3:pre", long]))
    assert [(row["model"], row["epoch"]) for row in rows] == [
        ("gan2:pre", 1), ("gan2:pre", 2), (long, 1), (long, 2),
    ]  # fmt: skip
    assert rows[1]["loss"] == 0.5
    assert rows[1]["val_balanced_accuracy"] is None


@pytest.mark.parametrize(
    "content", [b"", b"epoch,lr\n1", b"epoch,lr\nx,1\n", b"\xff\xfe", b"a,b,c\n1,2,3\n"]
)
def test_a_history_that_is_damaged_has_the_epochs_that_can_be_read(
    tmp_path: Path, content: bytes
) -> None:
    path = paths.history(tmp_path / "m:pre")
    path.parent.mkdir()
    path.write_bytes(content)
    assert [row["epoch"] for row in epochs(tmp_path, ["m:pre"])] in ([], [1])
