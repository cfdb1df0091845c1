"""A matrix makes many models of one entry. A setting closer to a job has precedence."""

from collections.abc import Sequence

import pytest

from tests.launcher.language import (
    a_plan,
    blamed,
    marked,
    names,
    notes,
    refusal,
    refusals,
    setting,
)

# --- sweeps


def test_model_without_variant_means_every_variant_of_the_file() -> None:
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


def test_poison_seeds_are_swept_only_with_poison() -> None:
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


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {lr: [0.5, 0.25]}\ntrain: [{data: dot:pre, lr: 0.1}]\n",
        "matrix: {lr: [0.5, 0.25]}\ndefaults: {train: {lr: 0.1}}\ntrain: [{data: dot:pre}]\n",
        "matrix: {strength: [0.5, 0.25]}\ntrain: [{data: dot:pre}]\n",
        "matrix: {poison_seed: [1, 2]}\ntrain: [{data: dot:pre}]\n",
    ],
)
def test_sweep_that_changes_no_model_is_refused(text: str) -> None:
    problem = refusal(text)
    assert problem.code == "matrix"
    assert "changes no model" in problem.message
    assert problem.place is not None
    assert problem.place.line == 2


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
def test_more_specific_settings_override_and_the_command_line_wins(
    text: str, settings: Sequence[str], lr: float
) -> None:
    assert a_plan(f"{text}\n", *settings).jobs[0].settings["lr"] == lr


def test_setting_for_all_kinds_applies_to_kinds_that_have_it() -> None:
    made = a_plan(
        "defaults: {data_root: there, crops: 4, epochs: 3}\n"
        "train: [{data: dot:pre, poison: 20}]\nunlearn: [pgu]\nautotest: [dot:pre]\n"
    )
    assert {one.settings["data_root"] for one in made.jobs} == {"there"}
    assert {one.settings["crops"] for one in made.jobs if one.kind == "test"} == {4}
    assert setting(made, "epochs") == {"dot:pre%20": 3}


# --- settings that are tied


TIED = "[{lr: 0.5, epochs: 1}, {lr: 0.25, epochs: 2}]"


ONE = "train: [{data: dot:pre}]\n"
POISONED = "train: [{data: dot:pre, poison: 20}]\n"
MANY = ", ".join(map(str, range(1, 900)))
PLANS = {
    "the matrix of an entry": (
        "train:\n  - {data: dot:pre, matrix: {lr: [0.5, 0.25]}}\n  - {data: ring:pre}\n"
        "  - {model: ring:pre, data: dot:fb, matrix: {epochs: [2, 3]}}",
        *("dot:pre@lr=0.5", "dot:pre@lr=0.25", "ring:pre"),
        *("ring:pre#dot:fb@epochs=2", "ring:pre#dot:fb@epochs=3"),
    ),
    "the matrix of a tuned model": (
        "matrix: {lr: [0.5, 0.25]}\n"
        "train: [{data: dot:pre}, {model: dot:pre, data: ring:pre, matrix: {epochs: [2, 3]}}]",
        *(
            f"dot:pre@lr={lr}{tuned.format(lr)}"
            for lr in (0.5, 0.25)
            for tuned in ("", "#ring:pre@lr={},epochs=2", "#ring:pre@lr={},epochs=3")
        ),
    ),
    "one variant, its keys in any order": (
        "train:\n  - {data: dot:pre, matrix: {lr: 0.5, epochs: [1, 2]}}\n"
        "  - {model: 'dot:pre@epochs=1,lr=0.5', data: ring:pre}\n"
        "unlearn: [{model: 'dot:pre@lr=0.5,epochs=2', method: pgu}]",
        *("dot:pre@lr=0.5,epochs=1", "dot:pre@lr=0.5,epochs=2"),
        *("dot:pre@lr=0.5,epochs=1#ring:pre", "dot:pre~pgu@lr=0.5,epochs=2"),
    ),
    "methods": (
        f"{POISONED}unlearn: [{{model: poisoned, method: [pgu, relabel], matrix: {{strength: [0.5, 1]}}}}]",
        "dot:pre%20",
        *(f"dot:pre%20~{m}@strength={s}" for m in ("pgu", "relabel") for s in ("0.5", "1.0")),
    ),
    "training and unlearning": (
        f"matrix: {{train: {{lr: [0.5]}}, unlearn: {{strength: [0.25]}}}}\n{POISONED}unlearn: [pgu]",
        *("dot:pre%20@lr=0.5", "dot:pre%20~pgu@lr=0.5,strength=0.25"),
    ),
    "an item of a tied list is a product": (
        f"matrix: [{{lr: 0.5, epochs: [1, 2]}}, {{lr: 0.25, epochs: [2, 3]}}]\n{ONE}",
        *(f"dot:pre@lr={lr}" for lr in ("0.5,epochs=1", "0.5,epochs=2")),
        *(f"dot:pre@lr={lr}" for lr in ("0.25,epochs=2", "0.25,epochs=3")),
    ),
    "a tied list and other sweeps": (
        f"matrix: {{poison_seed: [1, 2], train: {TIED}}}\n{POISONED}",
        *(
            f"dot:pre%20@lr={lr},poison_seed={seed}"
            for seed in (1, 2)
            for lr in ("0.5,epochs=1", "0.25,epochs=2")
        ),
    ),
    "kinds that are tied": (
        "matrix:\n  - {train: {lr: 0.5}, unlearn: {strength: 1}}\n"
        f"  - {{train: {{lr: 0.25}}, unlearn: {{strength: 0.5}}}}\n{POISONED}unlearn: [pgu]",
        *("dot:pre%20@lr=0.5", "dot:pre%20~pgu@lr=0.5,strength=1.0"),
        *("dot:pre%20@lr=0.25", "dot:pre%20~pgu@lr=0.25,strength=0.5"),
    ),
    "tied values in any order": (
        f"matrix:\n  - {{lr: 0.5, epochs: 1}}\n  - {{epochs: 2, lr: 0.25}}\n{ONE}",
        *("dot:pre@lr=0.5,epochs=1", "dot:pre@lr=0.25,epochs=2"),
    ),
    "names of tied values": (
        f"matrix: [{{data_root: {{a: /x/y}}, lr: 1}}, {{data_root: {{b: z/y}}, lr: 2}}]\n{ONE}",
        *("dot:pre@data_root=a,lr=1.0", "dot:pre@data_root=b,lr=2.0"),
    ),
    "an included tied list": (
        f"include: b.yaml\n{ONE}",
        *("dot:pre@lr=0.5,epochs=1", "dot:pre@lr=0.25,epochs=2"),
    ),
    "an included tied list that is replaced": (
        f"include: b.yaml\nmatrix: [{{lr: 7}}]\n{ONE}",
        "dot:pre@lr=7.0",
    ),
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
def test_sweep_makes_these_models(case: tuple[str, ...]) -> None:
    made = a_plan(case[0], files={"b.yaml": f"name: base\nmatrix: {TIED}\n"})
    models = [one for one in made.jobs if one.kind in {"train", "unlearn"}]
    assert [one.model for one in models] == [*case[1:]]
    assert notes(made) == []


MISTAKES = {
    "a variant that nobody makes": (
        "train: [{data: dot:pre, matrix: {lr: [0.5, 0.25]}}]\n"
        "test: [{model: 'dot:pre@lr=0.26', data: real:pre}]",
        *("error[unknown-model]", "^ did you mean 'dot:pre@lr=0.25'?\n", "@x.yaml:3 "),
    ),
    "too many combinations": (
        f"train: [{{data: dot:pre, matrix: {{epochs: [{MANY}], lr: [{MANY}]}}}}]",
        *("error[matrix]", "808,201 combinations"),
    ),
    "two ways to one model": (
        "train:\n  - {data: dot:pre, lr: 0.5}\n  - {data: dot:pre, lr: 0.25}",
        *("error[duplicate-job]", "= first in line 3\n", "= lr: 0.5 and 0.25\n"),
        "@x.yaml:4 dot:pre\n",
    ),
    "a setting beside its sweep": (
        "train: [{data: dot:pre, lr: 5, matrix: {lr: [6]}}]",
        ": 'lr' is given in the matrix and in the entry\n",
    ),
    "a setting tied for all kinds and for one": (
        f"matrix: [{{lr: 1, train: {{lr: 2}}}}]\n{ONE}",
        ": matrix: lr is swept for all job types and for train\n",
    ),
    "a tied setting that changes no model": (
        f"matrix: [{{lr: 1, poison_seed: 2}}]\n{ONE}",
        *("'poison_seed' changes no model", " poison_seed\n"),
    ),
    **{
        f"{sweep} over a tied list": (
            f"matrix: {matrix}\n{ONE}\n--set {sweep}=[1, 2]",
            "error[set]",
            "^ to use one value for all combinations: --set lr=VALUE\n@--set:1 lr\n",
        )
        for sweep, matrix in (("matrix.lr", TIED), ("matrix.train.lr", f"{{train: {TIED}}}"))
    },
}


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_impossible_sweep_is_refused(case: tuple[str, ...]) -> None:
    said = blamed(case[0])
    assert [piece for piece in case[1:] if piece not in said] == []


def test_command_line_setting_is_removed_from_a_tied_list() -> None:
    for text in (
        f"matrix: {TIED}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {TIED}}}]\n",
    ):
        made = a_plan(text, "lr=3")
        assert names(made) == ["train/dot:pre@epochs=1", "train/dot:pre@epochs=2"]
        assert [one.message for one in notes(made)] == ["--set replaces this sweep of lr"]
        assert names(a_plan(text, "lr=3", "epochs=4")) == ["train/dot:pre"]


@pytest.mark.parametrize(
    ("matrix", "caret", "said"),
    [
        ("[]", "[", "matrix: the list has no combinations"),
        ("[{lr: 1, epochs: 2}, 7]", "7", "matrix: expected a combination such as"),
        ("[{lr: 1}, {}]", "{", "matrix: expected a combination such as"),
        ("[{lr: 1}, null]", "null", "matrix: expected a combination such as"),
        ("[{lr: 1, epochs: 2}, {lr: 2}]", "lr", "this one lacks epochs"),
        ("[{lr: 1}, {lr: 2, epochs: 2}]", "epochs", "this one also has epochs"),
        ("[{lr: 1}, {epochs: 2}]", "epochs", "this one lacks lr and also has epochs"),
        ("[{lr: 1, lr: 2}]", "lr", "'lr' is given twice"),
        ("[{lr: 1, epochs: 2}, {lr: 1.0, epochs: 2}]", "1.0", "this combination is listed twice"),
        ("[{lr: 1, epochs: [2, 3]}, {lr: 1, epochs: 3}]", "1", "this combination is listed twice"),
        (
            "[{data_root: a/b, lr: 1}, {data_root: a-b, lr: 1}]",
            "a-b",
            "two combinations would both",
        ),
        ("[{lr: 1}, {lr: []}]", "[", "matrix: lr has no values"),
        ("[{lrr: 1}, {lrr: 2}]", "lrr", "'lrr' is not a setting of"),
        ("[{lr: 1, threads: 2}]", "threads", "threads does not change results"),
        ("7", "7", "matrix: expected sweeps such as {seed: [1, 2, 3]}"),
    ],
)
def test_invalid_tied_list_is_reported_at_its_place(matrix: str, caret: str, said: str) -> None:
    for text in (
        f"matrix: {matrix}\ntrain: [{{data: dot:pre}}]\n",
        f"train: [{{data: dot:pre, matrix: {matrix}}}]\n",
    ):
        problem = refusals(text)[0]
        assert said in problem.message
        file, line, text_above = marked(problem)
        assert (file, line) == ("x.yaml", 2)
        assert text_above.startswith(caret)
