"""One table of options: task files and `launcher add` read the same rows, with the same limits."""

import click
import pytest

from launcher.frontends.cli.commands.adding import add
from launcher.frontends.cli.main import options_of
from launcher.queue.job_options.registry import JobOption, JobRequest, job_options, register_options
from launcher.queue.job_options.value_types import TRUTH, WORD, span
from launcher.queue.jobs.job import Resources, Terms
from launcher.system.errors import UsageError
from tests.launcher.language import a_plan, refusal

# An example of each option in the form of a task file, and the resulting request.
EXAMPLES = {
    "cpus": ("2", JobRequest(resources=Resources(cpus=2))),
    "ram": ("1KiB", JobRequest(resources=Resources(ram=1024))),
    "vram": ("1KiB", JobRequest(resources=Resources(vram=1024))),
    "gpus": ("2", JobRequest(resources=Resources(gpus=2), gpus=2)),
    "device": ("cuda:1", JobRequest(resources=Resources(device="cuda:1"))),
    "exclusive": ("true", JobRequest(resources=Resources(exclusive=True))),
    "gpu_ids": ("numbers", JobRequest(resources=Resources(gpu_ids="numbers"))),
    "priority": ("3", JobRequest(priority=3)),
    "group": ("night", JobRequest(terms=Terms(group="night"))),
    "not_before": ("+2h", JobRequest(terms=Terms(not_before=7300.0))),
    "time_limit": ("8h", JobRequest(terms=Terms(time_limit_s=28_800.0))),
    "warn": ("5m", JobRequest(terms=Terms(warn_s=300.0))),
    "signal": ("usr1", JobRequest(terms=Terms(warn_signal="SIGUSR1"))),
    "retries": ("3", JobRequest(terms=Terms(retries=3))),
    "max_failures": ("3", JobRequest(terms=Terms(max_failures=3))),
    "backoff": ("1m", JobRequest(terms=Terms(backoff_s=60.0))),
    "grace": ("2m", JobRequest(terms=Terms(grace_s=120.0))),
    "rerun": ("never", JobRequest(terms=Terms(rerun="never"))),
    "on": ("slurm", JobRequest(terms=Terms(on=("slurm",)))),
    "stderr": ("separate", JobRequest(terms=Terms(stderr="separate"))),
    "notify_on": ("failure", JobRequest(terms=Terms(notify_on="failure"))),
    "metrics": ("logs/*/a b.csv", JobRequest(terms=Terms(metrics="logs/*/a b.csv"))),
    "note": ("the run of table 3", JobRequest(terms=Terms(note="the run of table 3"))),
    "numbers": ("F1 score", JobRequest(terms=Terms(numbers=("F1 score",)))),
    "tensorboard": ("runs/a b", JobRequest(terms=Terms(tensorboard="runs/a b"))),
}
WRONG = {
    "cpus": "0",
    "ram": "8",
    "vram": "much",
    "gpus": "65",
    "gpu_ids": "names",
    "stderr": "file",
    "device": "gpu0",
    "priority": "high",
    "not_before": "tomorrow",
    "time_limit": "0s",
    "warn": "99999d",
    "signal": "KILL",
    "retries": "1001",
    "max_failures": "0",
    "backoff": "2h",
    "grace": "30",
    "rerun": "maybe",
    "on": "slurm local",
    "note": "x" * 10_001,
}


@pytest.mark.parametrize("name", job_options())
def test_option_sets_the_field_of_its_row(name: str) -> None:
    option = job_options()[name]
    text, expected = EXAMPLES[name]
    assert option.apply(JobRequest(), option.takes.read(text, 100.0)) == expected


@pytest.mark.parametrize("name", job_options())
def test_documented_default_is_the_effective_default(name: str) -> None:
    option = job_options()[name]
    if option.default:
        value = option.takes.read(option.default, 0.0)
        assert option.apply(JobRequest(), value) == JobRequest()


@pytest.mark.parametrize("name", job_options())
def test_task_file_and_command_line_accept_every_option(name: str) -> None:
    assert job_options()[name].flag.removeprefix("--") in options_of(add)
    text, expected = EXAMPLES[name]
    more = {"warn": ", time_limit: 8h", "signal": ", warn: 1m, time_limit: 8h"}.get(name, "")
    (job,) = a_plan(f"resources: {{{name}: {text}{more}}}\ntrain: [{{data: dot:pre}}]\n").jobs
    if name == "not_before":
        assert job.terms.not_before is not None
    elif not more:
        assert (job.terms, job.priority) == (expected.terms, expected.priority)


@pytest.mark.parametrize(("name", "text"), WRONG.items())
def test_task_file_and_command_line_refuse_a_wrong_value_with_the_same_message(
    name: str, text: str
) -> None:
    option = job_options()[name]
    with pytest.raises(UsageError) as refused:
        option.takes.read(text, 100.0)
    problem = refusal(f"resources: {{{name}: {text}}}\ntrain: [{{data: dot:pre}}]\n")
    assert problem.message == f"{name}: {refused.value}"
    (flag,) = (one for one in add.params if one.name == name)
    with pytest.raises(click.BadParameter) as shown:
        flag.type.convert(text, flag, None)
    words = ", ".join(map(repr, option.takes.words))
    wording = f"{text!r} is not one of {words}" if words else str(refused.value)
    assert wording in shown.value.message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{warn: 5m}", "warn needs time_limit. Add a limit, such as time_limit: 8h"),
        ("{warn: 5m, time_limit: 5m}", "warn must be shorter than time_limit"),
        ("{signal: USR1}", "signal: SIGUSR1 needs warn. Add a time, such as warn: 5m"),
        ("{gpus: 2, device: 'cuda:1'}", "device: cuda:1 is one GPU, but gpus: 2 requests 2"),
    ],
)
def test_contradicting_options_have_the_message_of_the_command_line(
    said: str, message: str
) -> None:
    problem = refusal(f"train: [{{data: dot:pre, resources: {said}}}]\nautotest: [dot:pre]\n")
    assert problem.message.startswith(message)
    assert problem.place is not None
    assert problem.place.line == 2


def test_fault_in_an_inherited_option_is_reported_once() -> None:
    text = "resources: {warn: 5m}\ntrain: [{data: dot:pre}, {data: ring:pre}]\n"
    assert "warn needs" in refusal(text).message


def test_entry_completes_options_of_the_file() -> None:
    text = "resources: {warn: 5m}\ntrain: [{data: dot:pre, resources: {time_limit: 8h}}]\n"
    (job,) = a_plan(text).jobs
    assert (job.terms.warn_s, job.terms.time_limit_s) == (300.0, 28_800.0)


def test_past_start_time_is_ignored_when_a_file_runs_again() -> None:
    text = "resources: {not_before: 2001-01-01}\ntrain: [{data: dot:pre}]\n"
    made = a_plan(text)
    assert made.jobs[0].terms.not_before is None
    assert any("is in the past and delays nothing" in str(one) for one in made.warnings)


def test_terms_of_a_job_do_not_change_its_hash() -> None:
    text = "train: [{data: dot:pre}]\n"
    asked = "resources: {group: night, not_before: +2h, backoff: 1m, grace: 2m}\n"
    assert [job.hash for job in a_plan(text).jobs] == [
        job.hash for job in a_plan(asked + text).jobs
    ]


def test_duplicate_option_name_is_refused() -> None:
    for name in ("retries", "min_vram"):
        with pytest.raises(UsageError, match="two job options have the name"):
            register_options(JobOption(name=name, takes=WORD, help="x", field="terms.group"))


def test_option_without_a_known_field_is_refused() -> None:
    for field in ("terms.colour", "colour", "colours.group"):
        with pytest.raises(ValueError, match="which is not a field"):
            register_options(JobOption(name="colour", takes=span(), help="x", field=field))
    assert "colour" not in job_options()


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_boolean_is_written_as_in_yaml(text: str) -> None:
    assert TRUTH.read(text, 0.0) == (text.lower() == "true")


def test_folder_option_needs_a_name() -> None:
    with pytest.raises(UsageError, match="expected a folder such as runs/first, got ' '"):
        job_options()["tensorboard"].takes.read(" ", 0.0)
