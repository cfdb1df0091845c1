import pytest

from launcher.results.rows import options_of, scalar, swept
from tests.build import a_spec
from tests.launcher.toylab import laboratory


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("train.py --lr 0.1 --seed 3", {"lr": "0.1", "seed": "3"}),
        ("train.py --lr=0.1 model.depth=4", {"lr": "0.1", "model.depth": "4"}),
        ("train.py --fast --lr 0.1", {"fast": True, "lr": "0.1"}),
        ("train.py --shift -0.5 data/", {"shift": "-0.5"}),
        ("train.py out/a=b -v --", {}),
        ("train.py", {}),
    ],
)
def test_the_options_of_a_program_are_its_settings(words: str, options: dict[str, object]) -> None:
    assert options_of(words.split()) == options


def test_settings_are_swept_in_which_jobs_of_a_kind_differ_and_that_count() -> None:
    jobs = [
        a_spec(kind="train", settings={"lr": lr, "epochs": 3, "threads": threads})
        for lr, threads in ((0.1, 1), (0.2, 2), (0.1, 3))
    ]
    jobs += [a_spec(kind="test", settings={"crops": 1, "lr": 7})]
    assert swept(jobs, laboratory()) == {"train": ("lr",), "test": ()}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("3", 3), ("-1e-4", -1e-4), (".5", 0.5), ("1_000", "1_000"), ("nan", "nan"), ("x", "x"),
        ("1.2.3", "1.2.3"), (True, True), (None, None), ([1, 2], "[1, 2]"), ("", ""),
    ],
)  # fmt: skip
def test_texts_that_are_numbers_are_numbers(value: object, cell: object) -> None:
    assert scalar(value) == cell
    assert type(scalar(value)) is type(cell)
