from pathlib import Path

import pytest

from launcher.api import UsageError, Words
from trueface.data.settings import TestSettings
from trueface.jobs.flags import classic_words, read_word_flags, validate_flags, word_flags, words
from trueface.runtime.errors import DataError
from trueface.training.settings import TrainSettings

WHERE = {"data_root": "data", "split_path": "splits"}


def test_settings_that_differ_from_defaults_become_flags() -> None:
    given = {**WHERE, "lr": 1e-4, "freeze": True, "freeze_bn": False, "jpeg_qual": [30, 100]}
    assert list(classic_words(given, TrainSettings)) == [
        *("--data_root", "data", "--split_path", "splits"),
        *("--jpeg_qual", "30", "100", "--freeze", "--no-freeze_bn"),
    ]
    assert list(words(given, TrainSettings)) == [
        *("--data-root", "data", "--split-path", "splits"),
        *("--jpeg-qual", "30,100", "--freeze", "--no-freeze-bn"),
    ]


def test_classic_command_saves_no_weights_by_default() -> None:
    kept = list(classic_words({"save_weights": True}, TrainSettings))
    assert kept == ["--save_weights"]
    assert list(classic_words({"save_weights": False}, TrainSettings)) == []


def test_typed_texts_become_numbers() -> None:
    made = validate_flags(TrainSettings, {**WHERE, "lr": "1e-3", "resize_scale": ["0.2", "1"]})
    assert (made.lr, made.resize_scale) == (1e-3, (0.2, 1.0))


def test_flags_use_dashes_as_the_command_does() -> None:
    with pytest.raises(UsageError, match="--split-path is required"):
        validate_flags(TestSettings, {"data_root": "x"}, dashes=True)


def test_classic_command_tests_with_training_batch_size() -> None:
    assert list(classic_words({"batch_size": 8}, TestSettings)) == ["--batch_size", "8"]
    assert list(classic_words({"batch_size": 64}, TestSettings)) == []


def test_user_words_round_trip_through_flags() -> None:
    own = Words(subsets={"a": ("A",), "b": ("B-*", "C=D")}, modifiers={"wa": ("X/Y",)})
    flags = list(word_flags(own))
    assert flags == ["--subsets", "a=A", "--subsets", "b=B-*,C=D", "--modifiers", "wa=X/Y"]
    assert read_word_flags(flags[1:4:2], flags[5:]) == own


@pytest.mark.parametrize("text", ["mine", "mine=", "=X", ""])
def test_word_without_folders_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="WORD=FOLDER"):
        read_word_flags((), [text])


def test_words_of_data_root_apply_unless_a_flag_overrides_them(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("subsets: {a: [A], b: [B]}\nmodifiers: {c23: [c23]}\n")
    words = read_word_flags(["b=Mine"], [], str(tmp_path))
    assert words == Words(subsets={"a": ("A",), "b": ("Mine",)}, modifiers={"c23": ("c23",)})
    assert read_word_flags(["b=Mine"], [], tmp_path / "nowhere") == Words(subsets={"b": ("Mine",)})
    (tmp_path / "dataset.yaml").write_text("subsets: {a: ")
    with pytest.raises(DataError, match=r"cannot read .*dataset\.yaml"):
        read_word_flags([], [], tmp_path)
