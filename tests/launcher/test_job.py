import json
from typing import Any

import pytest

from launcher.job import Resources, Spec, SpecWriter, Terms, asks_for, program_signature, read_spec
from launcher.kinds import costs, signature_of
from launcher.system.stored_fields import Unreadable
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


PLAIN = Spec(name="command/1", kind="command", role="plain", run="r", root="/x")
FULL = PLAIN._replace(
    entry="lab:run",
    preload=("numpy", "torch"),
    argv=("echo", 'a "quote" \\ ü', "\udcff.png", "new\nline"),
    model="a:pre",
    settings={"lr": 1e-05, "sizes": [1, 2], "about": "ü", "on": True, "none": None},
    words={"subsets": {"mine": ["A-*"]}, "modifiers": {}},
    needs=("train/x", "train/y"),
    outputs=("/x/a", "/x/b"),
    sources={"lab": "0" * 16},
    log_link="/x/log",
    resources=Resources(cpus=3, min_vram=1 << 30),
    terms=Terms(retries=2, time_limit_s=60.0),
    priority=-4,
    hash="f" * 64,
    signature="train 0",
)


@pytest.mark.parametrize(
    "spec",
    [
        PLAIN,
        FULL,
        FULL._replace(settings={}, resources=Resources()),
        FULL._replace(terms=Terms(on=("slurm", "local"))),
        FULL._replace(terms=Terms(tensorboard="runs/first")),
    ],
)
def test_a_spec_is_stored_as_json_without_defaults_and_read_as_it_was(spec: Spec) -> None:
    usual = Spec(name="", kind="", role="", run="", root="").record()
    record: dict[str, Any] = {
        name: value for name, value in spec.record().items() if value != usual[name]
    }
    for name in ("on", "tensorboard"):
        if not getattr(spec.terms, name) and "terms" in record:
            del record["terms"][name]  # earlier versions read what is queued without it
    text = SpecWriter().text(spec)
    assert text == json.dumps(record)
    assert read_spec(json.loads(text)) == spec._replace(
        settings=json.loads(text).get("settings", {})
    )


def test_a_writer_mixes_up_no_two_specs_that_share_some_of_their_parts() -> None:
    writer = SpecWriter()
    specs = [
        FULL,
        FULL._replace(settings={"lr": 2}),
        FULL._replace(name="command/2", resources=Resources(cpus=9)),
    ]
    assert [writer.text(spec) for spec in specs] == [SpecWriter().text(spec) for spec in specs]
    for number in range(50):  # each is gone before the next one takes its place in memory
        text = writer.text(PLAIN._replace(settings={"number": number}))
        assert json.loads(text)["settings"] == {"number": number}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"resources": Resources(cpus=4)}, False),
        ({"resources": Resources()}, False),
        ({"terms": Terms(retries=3)}, False),
        ({"terms": FULL.terms._replace(on=("slurm",))}, False),
        ({"priority": 0}, False),
        ({"settings": {}}, True),
    ],
)
def test_a_stored_spec_tells_whether_it_has_some_options(
    changes: dict[str, object], same: bool
) -> None:
    stored = json.loads(SpecWriter().text(FULL._replace(**changes)))  # type: ignore[arg-type]
    assert asks_for(stored, FULL.resources, FULL.terms, FULL.priority) is same


def test_names_of_places_that_are_none_make_a_spec_unreadable() -> None:
    record = json.loads(SpecWriter().text(FULL))
    with pytest.raises(Unreadable, match="'on' of terms"):
        read_spec({**record, "terms": {**record["terms"], "on": "slurm"}})
