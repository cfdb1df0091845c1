import pytest

from launcher.params import PARAMS, params_of, scalar


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ("train.py --lr 0.1 --seed 3", {"lr": 0.1, "seed": 3}),
        ("train.py --lr=1e-4 model.depth=4 +aug=mixup", {"lr": 1e-4, "model.depth": 4, "aug": "mixup"}),
        ("train.py --fast --lr 0.1", {"fast": True, "lr": 0.1}),
        ("train.py --shift -0.5 -lr -1e-3 -n 8", {"shift": -0.5, "lr": -1e-3, "n": 8}),
        ("python -m train -v -c code --amp -q", {"amp": True}),
        ("train.py --lr 0.1 --lr 0.2 lr=0.3", {"lr": 0.3}),
        ("train.py --out runs/7 --model=a/b if=/dev/zero --config big.yaml", {"config": "big.yaml"}),
        ("train.py --out {job_folder} --at {run_folder}", {}),
        ("train.py --size 1e999 --long 1_000", {"size": "1e999", "long": "1_000"}),
        ("train.py out/a=b data -v -- 5", {}),
        ("train.py", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_a_command_line_tells_parameters(words: str, params: dict[str, object]) -> None:
    read = params_of({}, words.split())
    assert read == params
    assert [*map(type, read.values())] == [*map(type, params.values())]


def test_the_values_of_a_sweep_come_first_whatever_they_hold_and_win() -> None:
    swept = {"data": "a/b", "lr": 0.1, "amp": False, "none": None, "hidden": [4, 8]}
    read = params_of({PARAMS: swept}, ["train.py", "--depth", "3", "--lr", "0.10001"])
    assert read == {**swept, "hidden": "[4, 8]", "depth": 3}
    assert next(iter(read)) == "data"


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
