from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from launcher.api import JobError
from trueface.data.examples import examples
from trueface.evaluation.forward import answered
from trueface.evaluation.predictions import UNKNOWN, Answered, read, write
from trueface.runtime.errors import DataError
from trueface.runtime.progress import Watch


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_answers_keep_order_labels_and_names() -> None:
    inputs = torch.randn(5, 3)
    said = answered(layer(), examples(inputs, [0, 1, 0, 1, 1], [1] * 5), Watch(), list("abcde"))
    assert said.logits.shape == (5, 2)
    assert np.allclose(said.logits[:, 1], layer()(inputs).detach().numpy()[:, 0])
    assert (said.logits[:, 0] == 0).all()
    assert said.ids == tuple("abcde")
    assert said.labels("true").tolist() == [1] * 5


def test_accuracy_counts_those_whose_label_is_known() -> None:
    logits = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    said = Answered(logits=logits, trained=np.array([0, 0, 1]), true=np.array([1, UNKNOWN, 1]))
    assert said.accuracy("trained") == pytest.approx(2 / 3)
    assert said.accuracy("true") == pytest.approx(1 / 2)


def test_accuracy_without_a_known_label_is_none() -> None:
    some = examples(torch.randn(4, 3), [0, 1, 0, 1])
    assert answered(layer(), some, Watch()).accuracy("true") is None


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    some = examples(torch.randn(4, 3), [0, 1, 0, 1])
    said = answered(layer(), some, Watch(), list("abcd"))
    write(tmp_path / "answers" / "after.npz", {"forget": said, "test": said})
    found = read(tmp_path / "answers" / "after.npz")
    assert set(found) == {"forget", "test"}
    assert np.array_equal(found["test"].logits, said.logits)
    assert found["forget"].ids == said.ids


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "after.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"after\.npz"):
        read(path)


def test_a_pickle_in_disguise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "after.npz"
    with path.open("wb") as file:
        np.savez(file, test_logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"after\.npz"):
        read(path)


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = layer()
    next(model.parameters()).data.fill_(torch.inf)
    with pytest.raises(JobError, match="4 of 4 answers are no finite numbers"):
        answered(model, examples(torch.ones(4, 3), [0] * 4), Watch())


def test_a_set_without_samples_has_no_answer() -> None:
    with pytest.raises(JobError, match="not one of 0 samples"):
        answered(layer(), examples(torch.ones(0, 3), []), Watch())
