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


# --- settings that are tied


TIED = "[{lr: 0.5, epochs: 1}, {lr: 0.25, epochs: 2}]"


@pytest.mark.parametrize(
    "text",
    [
        f"matrix: {TIED}\ntrain: [{{data: dot:pre}}]\n",
        f"matrix: {{train: {TIED}}}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {TIED}}}]\n",
        "matrix:\n  - {lr: 0.5, epochs: 1}\n  - {epochs: 2, lr: 0.25}\ntrain: [{data: dot:pre}]\n",
    ],
    ids=["file", "kind", "entry", "any order"],
)
def test_a_list_in_a_matrix_ties_settings_together(text: str) -> None:
    made = a_plan(text)
    assert names(made) == ["train/dot:pre@lr=0.5,epochs=1", "train/dot:pre@lr=0.25,epochs=2"]
    assert list(setting(made, "lr").values()) == [0.5, 0.25]
    assert list(setting(made, "epochs").values()) == [1, 2]


def test_an_item_of_a_tied_list_is_a_product_of_its_own() -> None:
    made = a_plan(
        "matrix: [{lr: 0.5, epochs: [1, 2]}, {lr: 0.25, epochs: [2, 3]}]\ntrain: [{data: dot:pre}]\n"
    )
    assert names(made) == [
        f"train/dot:pre@lr={lr},epochs={epochs}"
        for lr, epochs in ((0.5, 1), (0.5, 2), (0.25, 2), (0.25, 3))
    ]


def test_a_tied_list_of_one_kind_is_multiplied_with_the_other_sweeps() -> None:
    made = a_plan(
        f"matrix: {{poison_seed: [1, 2], train: {TIED}}}\ntrain: [{{data: dot:pre, poison: 20}}]\n"
    )
    assert names(made, "train") == [
        f"train/dot:pre%20@lr={lr},epochs={epochs},poison_seed={seed}"
        for seed in (1, 2)
        for lr, epochs in ((0.5, 1), (0.25, 2))
    ]


def test_kinds_are_tied_to_each_other_in_a_list_of_the_file() -> None:
    made = a_plan(
        "matrix:\n  - {train: {lr: 0.5}, unlearn: {strength: 1}}\n"
        "  - {train: {lr: 0.25}, unlearn: {strength: 0.5}}\n"
        "train: [{data: dot:pre, poison: 20}]\nunlearn: [pgu]\n"
    )
    assert names(made, "unlearn") == [
        "unlearn/dot:pre%20~pgu@lr=0.5,strength=1.0",
        "unlearn/dot:pre%20~pgu@lr=0.25,strength=0.5",
    ]


def test_a_value_of_a_tied_list_can_be_given_a_name() -> None:
    made = a_plan(
        "matrix: [{data_root: {a: /x/y}, lr: 1}, {data_root: {b: z/y}, lr: 2}]\n"
        "train: [{data: dot:pre}]\n"
    )
    assert names(made) == [
        "train/dot:pre@data_root=a,lr=1.0",
        "train/dot:pre@data_root=b,lr=2.0",
    ]


def test_what_the_command_line_sets_falls_out_of_a_tied_list() -> None:
    for text in (
        f"matrix: {TIED}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {TIED}}}]\n",
    ):
        made = a_plan(text, "lr=3")
        assert names(made) == ["train/dot:pre@epochs=1", "train/dot:pre@epochs=2"]
        assert [one.message for one in notes(made)] == ["--set takes the place of this sweep of lr"]
        assert names(a_plan(text, "lr=3", "epochs=4")) == ["train/dot:pre"]


def test_a_tied_list_is_taken_from_an_included_file_or_replaced_as_a_whole() -> None:
    base = f"name: base\nmatrix: {TIED}\n"
    train = "train: [{data: dot:pre}]\n"
    made = a_plan(f"include: b.yaml\n{train}", files={"b.yaml": base})
    assert len(names(made)) == 2
    other = "include: b.yaml\nmatrix: [{lr: 7}]\n"
    assert names(a_plan(f"{other}{train}", files={"b.yaml": base})) == ["train/dot:pre@lr=7.0"]


@pytest.mark.parametrize("sweep", ["matrix.lr=[1, 2]", "matrix.train.lr=[1, 2]"])
def test_one_sweep_cannot_be_laid_over_a_tied_list(sweep: str) -> None:
    matrix = f"{{train: {TIED}}}" if "train" in sweep else TIED
    problem = refusal(f"matrix: {matrix}\ntrain: [{{data: dot:pre}}]\n", sweep)
    assert (problem.code, marked(problem)) == ("set", ("--set", 1, "lr"))
    assert problem.hint == "--set lr=VALUE takes one value in place of all of its own"


@pytest.mark.parametrize(
    ("matrix", "caret", "said"),
    [
        ("[]", "[", "matrix: the list has no combinations"),
        ("[{lr: 1, epochs: 2}, 7]", "7", "matrix: expected a combination such as"),
        ("[{lr: 1}, {}]", "{", "matrix: expected a combination such as"),
        ("[{lr: 1}, null]", "null", "matrix: expected a combination such as"),
        ("[{lr: 1, epochs: 2}, {lr: 2}]", "lr", "this one lacks epochs"),
        ("[{lr: 1}, {lr: 2, epochs: 2}]", "epochs", "this one has epochs, which the first has not"),
        ("[{lr: 1}, {epochs: 2}]", "epochs", "this one lacks lr, and has epochs, which"),
        ("[{lr: 1, lr: 2}]", "lr", "'lr' is given twice"),
        ("[{lr: 1, epochs: 2}, {lr: 1.0, epochs: 2}]", "1.0", "this combination is there twice"),
        ("[{lr: 1, epochs: [2, 3]}, {lr: 1, epochs: 3}]", "1", "this combination is there twice"),
        (
            "[{data_root: a/b, lr: 1}, {data_root: a-b, lr: 1}]",
            "a-b",
            "two combinations would both",
        ),
        ("[{lr: 1}, {lr: []}]", "[", "matrix: lr has no values"),
        ("[{lrr: 1}, {lrr: 2}]", "lrr", "'lrr' is not a setting of"),
        ("[{lr: 1, threads: 2}]", "threads", "threads cannot change a result"),
        ("7", "7", "matrix: expected sweeps such as {seed: [1, 2, 3]}"),
    ],
)
def test_a_tied_list_without_sense_is_told_at_its_place(matrix: str, caret: str, said: str) -> None:
    for text in (
        f"matrix: {matrix}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {matrix}}}]\n",
    ):
        problem = refusals(text)[0]
        assert said in problem.message
        file, line, text_above = marked(problem)
        assert (file, line) == ("x.yaml", 2)
        assert text_above.startswith(caret)


def test_sweeps_of_a_tied_list_of_the_file_are_not_swept_for_a_kind_besides() -> None:
    problem = refusal("matrix: [{lr: 1, train: {lr: 2}}]\ntrain: [{data: dot:pre}]\n")
    assert problem.message == "matrix: lr is swept for all kinds and for train"


def test_a_tied_setting_that_changes_no_model_is_refused() -> None:
    problem = refusal("matrix: [{lr: 1, poison_seed: 2}]\ntrain: [{data: dot:pre}]\n")
    assert "'poison_seed' changes no model" in problem.message
    assert marked(problem)[2] == "poison_seed"
