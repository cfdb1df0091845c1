"""Properties of every valid task file, even unusual ones: order, dependencies, names, sweeps."""

import itertools
from collections.abc import Mapping, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.ids import canonical, normalise, parse_model
from launcher.kind_interface import Role
from launcher.planning.plan import Plan
from tests.launcher.language import a_plan, names
from tests.launcher.toylab import elementary

toy_data = st.lists(
    st.tuples(st.sampled_from(["dot", "line", "ring"]), st.sampled_from(["pre", "fb", "tw"])),
    min_size=1,
    max_size=3,
    unique=True,
).map(lambda parts: "&".join(map(":".join, parts)))


def check(made: Plan) -> None:
    """Assert what must hold for any plan."""
    seen: dict[str, str | None] = {}
    before: tuple[str | None, Role] = (None, Role.PLAIN)
    for job in made.jobs:
        assert job.name not in seen
        assert all(need in seen for need in job.needs)
        if job.base is not None and job.role is not Role.LABELS:
            makers = [name for name, model in seen.items() if model == job.base]
            assert set(makers) & set(job.needs)
        if job.role is Role.TEST:
            model, role = before
            assert model == job.model
            assert role in (Role.TRAIN, Role.METHOD, Role.TEST)
        before = (job.model, job.role)
        if job.role in (Role.TRAIN, Role.METHOD):
            seen[job.name] = job.model
        else:
            seen[job.name] = None


Trainings = list[tuple[str | None, str]]


@st.composite
def train_lists(draw: st.DrawFn) -> Trainings:
    """Trainings as in the original: from nothing, or from a model made earlier in the list."""
    found: Trainings = []
    models: list[str] = []
    images: set[object] = set()
    for _ in range(draw(st.integers(1, 7))):
        base, data = draw(st.sampled_from([None, *models])), draw(toy_data)
        model = data if base is None else f"{base}#{data}"
        key = normalise(parse_model(model), lambda one: canonical(elementary(one)))
        if key not in images:
            images.add(key)
            models.append(model)
            found.append((base, data))
    return found


def as_entries(trainings: Trainings) -> list[str]:
    return [
        f"  - {{model: {'null' if base is None else repr(base)}, data: '{data}'}}\n"
        for base, data in trainings
    ]


def autotest(trainings: Trainings, tests: Sequence[str]) -> list[tuple[str, str]]:
    """Do as the original: for every training in order, for every data ID in order, one test."""
    models = [data if base is None else f"{base}#{data}" for base, data in trainings]
    return list(itertools.product(models, tests))


def interleave(trainings: Trainings, tests: Sequence[tuple[str, str]]) -> list[str]:
    """Do as the original: each training, then every test of the model that it made."""
    found = []
    for base, data in trainings:
        made = data if base is None else f"{base}#{data}"
        found.append(f"train/{made}")
        found += [f"test/{model}/{one}" for model, one in tests if model == made]
    return found


# no two of the same images: of those one would run
test_sets = st.lists(
    toy_data, min_size=1, max_size=4, unique_by=lambda one: frozenset(one.split("&"))
)


@settings(max_examples=150, deadline=None)
@given(train_lists(), test_sets)
def test_autotest_and_interleaving_keep_the_order_of_the_original(
    trainings: Trainings, tests: list[str]
) -> None:
    made = a_plan(f"autotest: {tests}\ntrain:\n{''.join(as_entries(trainings))}")
    assert names(made) == interleave(trainings, autotest(trainings, tests))
    check(made)


@settings(max_examples=100, deadline=None)
@given(train_lists(), test_sets, st.randoms(use_true_random=False))
def test_tests_in_any_order_follow_their_training(
    trainings: Trainings, tests: list[str], dice: Random
) -> None:
    by_hand = autotest(trainings, tests)
    dice.shuffle(by_hand)
    entries = "".join(f"  - {{model: '{model}', data: '{one}'}}\n" for model, one in by_hand)
    made = a_plan(f"test:\n{entries}train:\n{''.join(as_entries(trainings))}")
    assert names(made) == interleave(trainings, by_hand)


@settings(max_examples=100, deadline=None)
@given(train_lists(), test_sets, st.randoms(use_true_random=False))
def test_model_listed_too_late_is_moved_forward(
    trainings: Trainings, tests: list[str], dice: Random
) -> None:
    entries = as_entries(trainings)
    dice.shuffle(entries)
    made = a_plan(f"train:\n{''.join(entries)}autotest: {tests}\n")
    check(made)
    assert sorted(names(made)) == sorted(interleave(trainings, autotest(trainings, tests)))


rates = st.lists(st.sampled_from(["0", "5", "20", "f2r-5"]), min_size=1, max_size=3, unique=True)
sweeps = st.dictionaries(
    st.sampled_from(["lr", "epochs", "optimizer", "frozen"]),
    st.integers(1, 3),
    max_size=2,
)
VALUES = {
    "lr": ("0.5", "0.25", "0.125"),
    "epochs": ("2", "3", "4"),
    "optimizer": ("adam", "sgd"),
    "frozen": ("true", "false"),
}


def as_matrix(sweep: Mapping[str, int]) -> str:
    return ", ".join(f"{key}: [{', '.join(VALUES[key][:count])}]" for key, count in sweep.items())


def combinations(sweep: Mapping[str, int]) -> list[str]:
    """Return the variant of every combination, the first key changing slowest."""
    each = [[f"{key}={one}" for one in VALUES[key][:count]] for key, count in sweep.items()]
    return [f"@{','.join(one)}" if one else "" for one in itertools.product(*each)]


@settings(max_examples=100, deadline=None)
@given(toy_data, rates, sweeps, test_sets, st.booleans())
def test_sweep_makes_every_combination_of_every_poison_once(
    data: str, poisons: list[str], sweep: dict[str, int], tests: list[str], whole_file: bool
) -> None:
    matrix = f"matrix: {{{as_matrix(sweep)}}}"
    entry = f"data: '{data}', poison: [{', '.join(poisons)}]"
    swept = f"{matrix}\n" if whole_file else ""
    inner = "" if whole_file else f", {matrix}"
    made = a_plan(f"{swept}train: [{{{entry}{inner}}}]\nautotest: {tests}\n")
    check(made)
    models = [
        f"{data}{'' if rate == '0' else '%' + rate}{variant}"
        for variant in combinations(sweep)
        for rate in poisons
    ]
    assert sorted(job.model or "" for job in made.jobs if job.role is Role.TRAIN) == sorted(models)
    tested = [(job.model, job.data) for job in made.jobs if job.role is Role.TEST]
    assert sorted(tested) == sorted(itertools.product(models, tests))
    assert len({job.hash for job in made.jobs}) == len(made.jobs)


@settings(max_examples=60, deadline=None)
@given(train_lists(), rates, sweeps, st.lists(st.sampled_from(["retrain", "pgu"]), unique=True))
def test_whole_studies_are_in_an_executable_order(
    trainings: Trainings, poisons: list[str], sweep: dict[str, int], methods: list[str]
) -> None:
    poisoned = [rate for rate in poisons if rate != "0"]
    entries = [entry.replace("}\n", f", poison: {poisons}}}\n") for entry in as_entries(trainings)]
    text = f"matrix: {{{as_matrix(sweep)}}}\nautotest: [real:pre]\nshapes: [{{data_root: toys}}]\n"
    clean = [(base, data) for base, data in trainings if base is None]
    unlearn = f"unlearn: {methods}\n" if methods and poisoned else ""
    made = a_plan(text + unlearn + "train:\n" + "".join(entries[at] for at in _roots(trainings)))
    check(made)
    variants = len(combinations(sweep))
    count = {role: sum(job.role is role for job in made.jobs) for role in Role}
    assert count[Role.TRAIN] == variants * len(clean) * len(poisons)
    # nothing that is swept here has a say in which labels are flipped
    assert count[Role.LABELS] == len({data for _, data in clean}) * len(poisoned)
    assert count[Role.METHOD] == variants * len(clean) * len(poisoned) * len(methods)
    assert count[Role.TEST] == count[Role.TRAIN] + count[Role.METHOD]


def _roots(trainings: Trainings) -> list[int]:
    return [at for at, (base, _) in enumerate(trainings) if base is None]


def test_chain_of_two_hundred_stages_in_reverse_order_is_planned() -> None:
    chain = ["dot:pre"]
    entries = ["  - {model: null, data: dot:pre}\n"]
    for at in range(199):
        data = ("ring:pre", "dot:pre")[at % 2]
        entries.append(f"  - {{model: '{chain[-1]}', data: '{data}'}}\n")
        chain.append(f"{chain[-1]}#{data}")
    made = a_plan(f"train:\n{''.join(reversed(entries))}")
    assert names(made) == [f"train/{model}" for model in chain]
    check(made)
    assert len({job.outputs[0].parent for job in made.jobs}) == len(chain)
