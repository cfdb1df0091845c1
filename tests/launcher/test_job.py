import pytest

from launcher.job import program_signature
from launcher.kinds import costs, signature_of
from tests.launcher.plans import KINDS


def test_runs_of_a_sweep_share_a_signature() -> None:
    first = program_signature(["python", "fit.py", "--lr", "1e-3", "--seed=1", "out/run_7"])
    assert first == program_signature(
        ["python", "fit.py", "--lr", "0.5", "--seed=20", "out/run_12"]
    )
    assert first.startswith("command ")


@pytest.mark.parametrize(
    "other",
    [
        ["python", "test.py", "--lr", "1"],
        ["python", "fit.py", "--lr", "1", "--big"],
        ["python", "fit.py", "--lr 1"],
        ["python", "fit.py", "--lr", "one"],
    ],
)
def test_other_programs_have_other_signatures(other: list[str]) -> None:
    assert program_signature(other) != program_signature(["python", "fit.py", "--lr", "1"])


def test_words_that_are_no_text_have_a_signature() -> None:
    assert program_signature(["cat", "\udcff.png"]) != program_signature(["cat", "x.png"])


def test_of_a_kind_only_settings_count_that_cost_and_two_kinds_are_never_alike() -> None:
    train, test = KINDS["train"], KINDS["test"]
    assert costs(train)
    one = dict.fromkeys(costs(train), 1)
    assert signature_of(train, one) == signature_of(train, {**one, "nobody knows": 2})
    assert signature_of(train, one) != signature_of(train, {**one, costs(train)[0]: 2})
    assert signature_of(train, {}) != signature_of(test, {})


def test_neutral_settings_do_not_cost() -> None:
    for kind in KINDS.values():
        told = kind.settings.costs
        assert set(costs(kind)) == (
            set(told) if told else set(kind.settings.model_fields) - set(kind.settings.neutral)
        )


def test_the_number_of_a_network_is_part_of_its_name() -> None:
    small, large = (
        program_signature(["fit.py", "--net", net]) for net in ("resnet18", "resnet152")
    )
    assert small != large
    assert program_signature(["fit.py", "llama-7b"]) != program_signature(["fit.py", "llama-70b"])
    assert program_signature(["fit.py", "qwen-0.5b"]) != program_signature(["fit.py", "qwen-1.5b"])


def test_jobs_that_share_their_work_among_several_gpus_are_learned_of_apart() -> None:
    train, settings = KINDS["train"], dict.fromkeys(costs(KINDS["train"]), 1)
    assert signature_of(train, settings, 1) == signature_of(train, settings)
    assert len({signature_of(train, settings, gpus) for gpus in (1, 2, 3)}) == 3
