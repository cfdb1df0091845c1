"""Signatures, parameters and stored specs of jobs; their states and outcomes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.experiments.kinds import cost_settings, signature_of
from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.jobs.params import PARAMS, params_of, to_param_value, with_option
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import (
    ENDED_STATES,
    LEGAL_TRANSITIONS,
    OPEN_STATES,
    Done,
    Failed,
    Lost,
    NeverStarted,
    OomReport,
    Outcome,
    OutOfMemory,
    State,
    Stopped,
    outcome_kind,
    outcome_record,
    read_oom_report,
    read_outcome,
)
from launcher.queue.jobs.stored_specs import SpecWriter, has_options, read_spec
from launcher.system.files import FileVersion, Json
from launcher.system.stored_fields import Unreadable
from tests.build import renamed
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


def test_non_utf8_arguments_have_a_signature() -> None:
    assert program_signature(["cat", "\udcff.png"]) != program_signature(["cat", "x.png"])


def test_signature_depends_on_kind_and_cost_settings() -> None:
    train, test = KINDS["train"], KINDS["test"]
    assert cost_settings(train)
    one = dict.fromkeys(cost_settings(train), 1)
    assert signature_of(train, one) == signature_of(train, {**one, "nobody knows": 2})
    assert signature_of(train, one) != signature_of(train, {**one, cost_settings(train)[0]: 2})
    assert signature_of(train, {}) != signature_of(test, {})


def test_neutral_settings_are_not_cost_settings() -> None:
    for kind in KINDS.values():
        told = kind.settings.costs
        assert set(cost_settings(kind)) == (
            set(told) if told else set(kind.settings.model_fields) - set(kind.settings.neutral)
        )


def test_number_in_a_model_name_is_part_of_the_signature() -> None:
    small, large = (
        program_signature(["fit.py", "--net", net]) for net in ("resnet18", "resnet152")
    )
    assert small != large
    assert program_signature(["fit.py", "llama-7b"]) != program_signature(["fit.py", "llama-70b"])
    assert program_signature(["fit.py", "qwen-0.5b"]) != program_signature(["fit.py", "qwen-1.5b"])


@pytest.mark.parametrize(
    ("asked", "works"),
    [
        (Resources(), [False, False, False]),
        (Resources(accelerated=True), [False, True, False]),
        (Resources(gpus=2), [False, True, True]),
        (Resources(vram=1), [False, True, True]),
        (Resources(device="cuda"), [True, True, True]),
        (Resources(device="cpu", gpus=2, accelerated=True), [False, False, False]),
    ],
)
def test_device_request_determines_gpu_use_and_visibility(
    asked: Resources, works: list[bool]
) -> None:
    """Without GPUs, with them, and where its owner hides them."""
    machines: list[tuple[bool, bool | None]] = [(False, None), (True, None), (True, False)]
    assert [
        asked.works_on_gpu(machine_has_gpu=there, gpu_is_visible=shown) for there, shown in machines
    ] == works


def test_multi_gpu_jobs_have_separate_signatures() -> None:
    train, settings = KINDS["train"], dict.fromkeys(cost_settings(KINDS["train"]), 1)
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
    resources=Resources(cpus=3, vram=1 << 30),
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
        FULL._replace(terms=Terms(max_failures=0)),
        FULL._replace(terms=Terms(stderr="separate")),
        FULL._replace(terms=Terms(notify_on="failure")),
        FULL._replace(terms=Terms(note="first")),
    ],
)
def test_stored_spec_omits_defaults_and_round_trips(spec: Spec) -> None:
    usual: dict[str, Any] = Spec(name="", kind="", role="", run="", root="").to_json()
    record: dict[str, Any] = {
        name: value for name, value in spec.to_json().items() if value != usual[name]
    }
    for part in record.keys() & {"resources", "terms"}:
        record[part] = {
            name: value for name, value in record[part].items() if value != usual[part].get(name)
        }
    record.pop("sources", None)  # many specs share theirs, which are stored once
    text = SpecWriter().text(spec)
    assert text == json.dumps(record)
    assert read_spec(json.loads(text)) == spec._replace(
        settings=json.loads(text).get("settings", {}), sources={}
    )


def test_spec_writer_keeps_specs_with_shared_parts_separate() -> None:
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
def test_stored_spec_is_compared_with_options(changes: dict[str, object], same: bool) -> None:
    stored = json.loads(SpecWriter().text(FULL._replace(**changes)))  # type: ignore[arg-type]
    assert has_options(stored, FULL.resources, FULL.terms, FULL.priority) is same


def test_invalid_backend_names_make_a_spec_unreadable() -> None:
    record = json.loads(SpecWriter().text(FULL))
    with pytest.raises(Unreadable, match="'on' of terms"):
        read_spec({**record, "terms": {**record["terms"], "on": "slurm"}})


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
def test_parameters_are_read_from_a_command_line(words: str, params: dict[str, object]) -> None:
    read = params_of({}, words.split())
    assert read == params
    assert [*map(type, read.values())] == [*map(type, params.values())]


@pytest.mark.parametrize(
    ("words", "name", "value", "changed"),
    [
        ("t.py --lr 0.1 --seed 3", "lr", "0.2", "t.py --lr 0.2 --seed 3"),
        ("t.py --augment --lr 0.1", "augment", "false", "t.py --augment=false --lr 0.1"),
        ("t.py --lr 0.1 --amp", "amp", "false", "t.py --lr 0.1 --amp=false"),
        ("t.py --shift -0.5 -n 8", "shift", "-1", "t.py --shift -1 -n 8"),
        ("t.py --shift -0.5 -n 8", "n", "-4", "t.py --shift -0.5 -n -4"),
        ("t.py -v -n 8", "v", "2", "t.py -v -n 8"),
        ("t.py --lr=1 +lr=2 --lr 3", "lr", "4", "t.py --lr=4 +lr=4 --lr 4"),
    ],
)
def test_another_value_of_an_option_leaves_the_other_options_as_they_are(
    words: str, name: str, value: str, changed: str
) -> None:
    assert " ".join(with_option(words.split(), name, value)) == changed


def test_swept_values_come_first_and_override_parsed_ones() -> None:
    swept = {"data": "a/b", "lr": 0.1, "amp": False, "none": None, "hidden": [4, 8]}
    read = params_of({PARAMS: swept}, ["train.py", "--depth", "3", "--lr", "0.10001"])
    assert read == {**swept, "hidden": "[4, 8]", "depth": 3}
    assert next(iter(read)) == "data"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("3", 3), ("-1e-4", -1e-4), ("0.5", 0.5), ("1000", 1000), ("1.0", 1.0), ("2.5e-05", 2.5e-5),
        ("1e-3", 0.001), ("0.001", 0.001), ("1e-05", 1e-5),  # small numbers have two usual spellings
        *((text, text) for text in (
            ".5", "007", "-0", "+5", "1e3", "1E+3", "0.10", "1.10", "1e-400", "12e4567", "5e999",
            "1_000", "0x10", "nan", "x", "1.2.3", "",
        )),
        (True, True), (None, None), ([1, 2], "[1, 2]"),
    ],
)  # fmt: skip
def test_only_the_usual_spelling_of_a_number_becomes_a_number(value: object, cell: object) -> None:
    assert to_param_value(value) == cell
    assert type(to_param_value(value)) is type(cell)


times = st.floats(0, 1e10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


amounts = st.none() | st.integers(0, (1 << 50) - 1)
cpu_times = st.none() | times
clock_shifts = st.none() | st.floats(1, 1e6) | st.floats(-1e6, -1)


versions = st.builds(FileVersion, st.integers(), st.integers(), st.text())


outcomes = st.one_of(
    st.builds(
        Done,
        at=times,
        result=st.dictionaries(st.text(), json_values, max_size=3),
        files=st.just(()) | st.tuples(st.text(min_size=1), st.text()),
        outputs=st.lists(st.none() | versions, max_size=2).map(tuple),
        cpu_s=cpu_times,
        clock_shift_s=clock_shifts,
    ),
    st.builds(
        Failed,
        at=times,
        error=st.text(),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        cpu_s=cpu_times,
        clock_shift_s=clock_shifts,
    ),
    st.builds(
        OutOfMemory,
        at=times,
        error=st.text(),
        report=st.builds(
            OomReport,
            where=st.sampled_from(["gpu", "ram"]),
            **dict.fromkeys(["wanted", "held", "cap", "free", "total"], amounts),
            message=st.just(""),  # is not part of the record
        ),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        cpu_s=cpu_times,
        clock_shift_s=clock_shifts,
    ),
    st.builds(Stopped, at=times, cpu_s=cpu_times, clock_shift_s=clock_shifts),
    st.builds(Lost, at=times, why=st.text()),
    st.builds(NeverStarted, at=times, why=st.just(""), blamed_on=st.just("")),
    st.builds(NeverStarted, at=times, why=st.text(min_size=1), blamed_on=st.text()),
)


def test_every_state_has_defined_transitions() -> None:
    assert set(LEGAL_TRANSITIONS) == set(State)
    assert all(state not in LEGAL_TRANSITIONS[state] for state in State)


def test_job_starts_running_only_from_the_queue() -> None:
    assert [state for state in State if State.RUNNING in LEGAL_TRANSITIONS[state]] == [State.QUEUED]


def test_job_becomes_done_when_it_ran_or_its_owner_accepts_its_files() -> None:
    sources = {state for state in State if State.DONE in LEGAL_TRANSITIONS[state]}
    assert sources == {State.RUNNING, *ENDED_STATES} - {State.DONE}


def test_a_running_job_is_never_skipped() -> None:
    assert State.SKIPPED not in LEGAL_TRANSITIONS[State.RUNNING]


def test_ended_job_can_only_return_to_the_queue_or_be_accepted() -> None:
    assert set(State) == OPEN_STATES | ENDED_STATES
    assert LEGAL_TRANSITIONS[State.DONE] == {State.QUEUED}
    assert LEGAL_TRANSITIONS[State.FAILED] == {State.QUEUED, State.DONE}
    for state in (State.CANCELLED, State.SKIPPED):  # either may have been held before
        assert LEGAL_TRANSITIONS[state] == {State.QUEUED, State.HELD, State.DONE}


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_outcome_round_trips(outcome: Outcome) -> None:
    read = read_outcome(json.loads(json.dumps(outcome_record(outcome))))
    assert (type(read), read) == (type(outcome), outcome)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"schema": 2, "ending": "done", "at": 1.0, "result": {}},
        {"schema": 1, "ending": "done", "at": 1.0},
        {"schema": 1, "ending": "done", "at": 1.0, "result": [1]},
        {"schema": 1, "ending": "failed", "at": "yesterday"},
        {"schema": 1, "ending": "exploded", "at": 1.0},
    ],
)
def test_invalid_outcome_record_becomes_lost(record: dict[str, Json]) -> None:
    assert isinstance(read_outcome(record), Lost)


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_ending_has_one_stored_word(outcome: Outcome) -> None:
    words = {"done", "failed", "out-of-memory", "stopped", "lost", "void"}
    assert outcome_kind(outcome) in words
    assert outcome_record(outcome)["ending"] == outcome_kind(outcome)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Done(0.0), "done"),
        (Failed(0.0, "x"), "failed"),
        (OutOfMemory(0.0, "x", OomReport("gpu")), "out-of-memory"),
        (Stopped(0.0), "stopped"),
        (Lost(0.0, "x"), "lost"),
        (NeverStarted(0.0), "void"),
    ],
)
def test_a_stored_ending_does_not_depend_on_the_name_of_its_class(
    outcome: Outcome, word: str
) -> None:
    with renamed(type(outcome)):
        assert outcome_record(outcome)["ending"] == word


def test_oom_report_round_trips() -> None:
    shortage = OomReport(
        where="ram", wanted=1, held=2, cap=3, free=4, total=5, message="MemoryError"
    )
    assert read_oom_report(shortage.to_json()) == OomReport(
        where="ram", wanted=1, held=2, cap=3, free=4, total=5
    )


@pytest.mark.parametrize("nonsense", [{}, {"where": 3}, {"held": -1}, {"held": True, "cap": "8"}])
def test_invalid_oom_report_is_unknown(nonsense: dict[str, Json]) -> None:
    assert read_oom_report(nonsense) == OomReport(where="gpu")
