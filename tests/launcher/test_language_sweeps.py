"""A matrix makes many models of one entry; what is said nearer to a job counts more."""

from collections.abc import Sequence

import pytest

from tests.launcher.language import a_plan, job, marked, names, notes, refusal, refusals, setting

# --- sweeps


def test_a_matrix_of_the_file_makes_the_whole_file_once_per_combination() -> None:
    made = a_plan(
        "matrix: {lr: [0.5, 1e-3], frozen: [no, yes]}\n"
        "train: [{data: dot:pre}, {model: dot:pre, data: ring:pre}]\nautotest: [real:pre]\n"
    )
    variants = [f"@lr={lr},frozen={one}" for lr in ("0.5", "0.001") for one in ("false", "true")]
    assert names(made, "train") == [
        f"train/{model}"
        for one in variants
        for model in (f"dot:pre{one}", f"dot:pre{one}#ring:pre{one}")
    ]
    assert setting(made, "lr")["dot:pre@lr=0.001,frozen=true"] == 0.001
    assert setting(made, "frozen")["dot:pre@lr=0.001,frozen=true"] is True
    tuned = job(made, "train/dot:pre@lr=0.5,frozen=true#ring:pre@lr=0.5,frozen=true")
    assert tuned.base == "dot:pre@lr=0.5,frozen=true"
    assert len(names(made, "test")) == len(names(made, "train"))
    assert not notes(made)


def test_a_matrix_of_an_entry_makes_that_entry_once_per_combination() -> None:
    made = a_plan(
        "train:\n  - {data: dot:pre, matrix: {lr: [0.5, 0.25]}}\n  - {data: ring:pre}\n"
        "  - {model: ring:pre, data: dot:fb, matrix: {epochs: [2, 3]}}\n"
    )
    assert names(made) == [
        "train/dot:pre@lr=0.5",
        "train/dot:pre@lr=0.25",
        "train/ring:pre",
        "train/ring:pre#dot:fb@epochs=2",
        "train/ring:pre#dot:fb@epochs=3",
    ]


def test_a_model_named_without_its_variant_means_every_variant_made_here() -> None:
    made = a_plan(
        "train:\n  - {data: dot:pre, matrix: {lr: [0.5, 0.25]}}\n  - {model: dot:pre, data: ring:pre}\n"
        "unlearn: [{model: dot:pre, method: pgu}]\n"
        "test: [{model: dot:pre, data: real:pre}, {model: 'dot:pre#ring:pre', data: dot:pre}]\n"
    )
    assert set(names(made)) == {
        f"{kind}{variant}{rest}"
        for variant in ("@lr=0.5", "@lr=0.25")
        for kind, rest in (
            ("train/dot:pre", ""),
            ("train/dot:pre", "#ring:pre"),
            ("unlearn/dot:pre~pgu", ""),
            ("test/dot:pre", "/real:pre"),
            ("test/dot:pre", "#ring:pre/dot:pre"),
        )
    }


def test_the_matrix_of_a_tuned_model_goes_over_every_variant_of_its_base() -> None:
    made = a_plan(
        "matrix: {lr: [0.5, 0.25]}\n"
        "train: [{data: dot:pre}, {model: dot:pre, data: ring:pre, matrix: {epochs: [2, 3]}}]\n"
    )
    assert names(made)[:3] == [
        "train/dot:pre@lr=0.5",
        "train/dot:pre@lr=0.5#ring:pre@lr=0.5,epochs=2",
        "train/dot:pre@lr=0.5#ring:pre@lr=0.5,epochs=3",
    ]
    assert len(names(made)) == 6


def test_one_variant_can_be_named_exactly_and_its_keys_in_any_order() -> None:
    made = a_plan(
        "train:\n  - {data: dot:pre, matrix: {lr: [0.5, 0.25], epochs: [1, 2]}}\n"
        "  - {model: 'dot:pre@lr=0.25,epochs=1', data: ring:pre}\n"
        "unlearn: [{model: 'dot:pre@lr=0.5,epochs=2', method: pgu}]\n"
        "test: [{model: 'dot:pre@epochs=2,lr=0.25', data: real:pre}]\n"
    )
    assert names(made)[4:] == [
        "test/dot:pre@lr=0.25,epochs=2/real:pre",
        "train/dot:pre@lr=0.25,epochs=1#ring:pre",
        "unlearn/dot:pre~pgu@lr=0.5,epochs=2",
    ]


def test_a_variant_that_nobody_makes_is_refused_with_the_nearest_one() -> None:
    problem = refusal(
        "train: [{data: dot:pre, matrix: {lr: [0.5, 0.25]}}]\n"
        "test: [{model: 'dot:pre@lr=0.26', data: real:pre}]\n"
    )
    assert problem.code == "unknown-model"
    assert problem.hint == "did you mean 'dot:pre@lr=0.25'?"
    assert problem.place is not None
    assert problem.place.line == 3


@pytest.mark.parametrize(
    ("sweep", "variants", "values"),
    [
        ("lr: [1, 2e-1]", ["lr=1.0", "lr=0.2"], [1.0, 0.2]),
        ("epochs: [1e1, 7]", ["epochs=10", "epochs=7"], [10, 7]),
        ("frozen: [on, off]", ["frozen=true", "frozen=false"], [True, False]),
        ("model: [no, 1e3]", ["model=no", "model=1e3"], ["no", "1e3"]),
        ("optimizer: [adam, sgd]", ["optimizer=adam", "optimizer=sgd"], ["adam", "sgd"]),
        ("scale: {narrow: [1, 2], 7: 3}", ["scale=narrow", "scale=7"], [[1.0, 2.0], 3.0]),
        ("data_root: {a: /x/y, b: z/y}", ["data_root=a", "data_root=b"], ["/x/y", "z/y"]),
        ("lr: 0.5", ["lr=0.5"], [0.5]),
    ],
)
def test_any_setting_can_be_swept(sweep: str, variants: list[str], values: list[object]) -> None:
    made = a_plan(f"train: [{{data: dot:pre, matrix: {{{sweep}}}}}]\n")
    assert [one.model for one in made.jobs] == [f"dot:pre@{one}" for one in variants]
    assert list(setting(made, sweep.split(":")[0]).values()) == values


def test_seeds_of_the_poison_are_swept_where_there_is_poison() -> None:
    text = "train: [{{data: dot:pre, poison: [0, 20]{}}}]\n{}"
    for made in (
        a_plan(text.format("", "matrix: {poison_seed: [1, 2]}\n")),
        a_plan(text.format(", matrix: {poison_seed: [1, 2]}", "")),
    ):
        assert names(made) == [
            "train/dot:pre",
            "poison/dot:pre%20@poison_seed=1",
            "train/dot:pre%20@poison_seed=1",
            "poison/dot:pre%20@poison_seed=2",
            "train/dot:pre%20@poison_seed=2",
        ]
        assert list(setting(made, "poison_seed", "poison").values()) == [1, 2]


def test_unlearning_is_swept_for_each_of_its_methods() -> None:
    made = a_plan(
        "train: [{data: dot:pre, poison: 20}]\n"
        "unlearn: [{model: poisoned, method: [pgu, relabel], matrix: {strength: [0.5, 1]}}]\n"
    )
    assert names(made, "unlearn") == [
        f"unlearn/dot:pre%20~{method}@strength={value}"
        for method in ("pgu", "relabel")
        for value in ("0.5", "1.0")
    ]


def test_an_unlearned_variant_keeps_the_variant_of_its_model() -> None:
    made = a_plan(
        "matrix: {train: {lr: [0.5]}, unlearn: {strength: [0.25]}}\n"
        "train: [{data: dot:pre, poison: 20}]\nunlearn: [pgu]\n"
    )
    assert names(made, "unlearn") == ["unlearn/dot:pre%20~pgu@lr=0.5,strength=0.25"]
    assert job(made, names(made, "unlearn")[0]).base == "dot:pre%20@lr=0.5"


def test_two_combinations_of_one_name_are_refused() -> None:
    found = refusals("train: [{data: dot:pre, matrix: {data_root: [a/b, a-b]}}]\n")
    problem = next(one for one in found if one.code == "matrix")
    assert "two values of data_root would both be called 'a-b'" in problem.message
    assert marked(problem) == ("x.yaml", 2, "a-b")


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {lr: [0.5, 0.25]}\ntrain: [{data: dot:pre, lr: 0.1}]\n",
        "matrix: {lr: [0.5, 0.25]}\ndefaults: {train: {lr: 0.1}}\ntrain: [{data: dot:pre}]\n",
        "matrix: {strength: [0.5, 0.25]}\ntrain: [{data: dot:pre}]\n",
        "matrix: {poison_seed: [1, 2]}\ntrain: [{data: dot:pre}]\n",
    ],
)
def test_a_sweep_that_changes_no_model_is_refused(text: str) -> None:
    problem = refusal(text)
    assert problem.code == "matrix"
    assert "changes no model" in problem.message
    assert problem.place is not None
    assert problem.place.line == 2


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    many = ", ".join(str(one) for one in range(1, 900))
    problem = refusal(f"train: [{{data: dot:pre, matrix: {{epochs: [{many}], lr: [{many}]}}}}]\n")
    assert problem.code == "matrix"
    assert "808,201 combinations" in problem.message


def test_a_model_that_two_entries_make_in_different_ways_is_refused() -> None:
    problem = refusal("train:\n  - {data: dot:pre, lr: 0.5}\n  - {data: dot:pre, lr: 0.25}\n")
    assert problem.code == "duplicate-job"
    assert marked(problem) == ("x.yaml", 4, "dot:pre")
    assert "first in line 3" in problem.notes
    assert "lr: 0.5 and 0.25" in problem.notes


# --- which value counts


@pytest.mark.parametrize(
    ("text", "settings", "lr"),
    [
        ("train: [{data: dot:pre}]", (), 0.1),
        ("defaults: {lr: 1}\ntrain: [{data: dot:pre}]", (), 1),
        ("defaults: {lr: 1}\nmatrix: {lr: [2]}\ntrain: [{data: dot:pre}]", (), 2),
        ("defaults: {lr: 1, train: {lr: 3}}\ntrain: [{data: dot:pre}]", (), 3),
        (
            "defaults: {lr: 1, train: {lr: 3}}\nmatrix: {train: {lr: [4]}}\n"
            "train: [{data: dot:pre}]",
            (),
            4,
        ),
        (
            "defaults: {train: {lr: 3}}\nmatrix: {train: {lr: [4]}}\n"
            "train: [{data: dot:pre, lr: 5}, {data: ring:pre}]",
            (),
            5,
        ),
        (
            "defaults: {lr: 1, train: {lr: 3}}\ntrain: [{data: dot:pre, matrix: {lr: [6]}}]",
            (),
            6,
        ),
        ("train: [{data: dot:pre, lr: 5}]", ("lr=7",), 7),
        ("train: [{data: dot:pre, settings: {lr: 5}}]", ("lr=7",), 7),
        ("train: [{data: dot:pre, matrix: {lr: [6, 5]}}]", ("lr=7",), 7),
        ("matrix: {lr: [6, 5]}\ntrain: [{data: dot:pre}]", ("lr=7",), 7),
        ("train: [{data: dot:pre, lr: 5}]", ("train.lr=8", "lr=7"), 8),
        ("train: [{data: dot:pre}]", ("lr=7", "lr=9"), 9),
        ("train: [{data: dot:pre}]", ("matrix.lr=[2]",), 2),
    ],
)
def test_what_is_said_nearer_to_a_job_counts_more_and_the_command_line_most(
    text: str, settings: Sequence[str], lr: float
) -> None:
    assert a_plan(f"{text}\n", *settings).jobs[0].settings["lr"] == lr


def test_a_setting_and_its_sweep_in_one_entry_are_refused() -> None:
    problem = refusal("train: [{data: dot:pre, lr: 5, matrix: {lr: [6]}}]\n")
    assert problem.message == "'lr' is given beside the matrix, too"


def test_a_setting_for_all_kinds_reaches_those_that_know_it() -> None:
    made = a_plan(
        "defaults: {data_root: there, crops: 4, epochs: 3}\n"
        "train: [{data: dot:pre, poison: 20}]\nunlearn: [pgu]\nautotest: [dot:pre]\n"
    )
    assert {one.settings["data_root"] for one in made.jobs} == {"there"}
    assert {one.settings["crops"] for one in made.jobs if one.kind == "test"} == {4}
    assert setting(made, "epochs") == {"dot:pre%20": 3}
