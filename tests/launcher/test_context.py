"""The folder and the variables that a program's own entry names, as its attempt gets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import api
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import (
    Context,
    attempt_job_folder,
    entry_context,
    job_folder,
    job_folder_link,
    read_context,
    start_folder,
    substitute_folders,
    uses_job_folder,
    with_programs,
)
from launcher.queue.jobs.job import Resources
from launcher.queue.store.lanes import lane_of
from launcher.queue.workers.attempt_spec import attempt_spec_text, read_attempt_spec
from launcher.queue.workers.worker import make_attempt_environment
from launcher.system.environment import (
    QUEUE_VARIABLES,
    SITE_VARIABLE,
    owners_environment,
    queue_variables,
)
from launcher.system.stored_fields import Unreadable
from tests.build import a_context, a_spec, an_attempt


def test_attempt_spec_has_its_own_folder_and_variables(home: Home) -> None:
    context = a_context("/project", environment={"A": "owner", "B": "owner"})
    spec = a_spec("true", settings={"argv": ["true"], "cwd": "work", "env": {"A": "own"}})
    attempt = an_attempt(home, spec, context=context)
    order = read_attempt_spec(attempt.spec.read_bytes())
    assert order.context.folder == "/project/work"
    assert order.context.environment == {"A": "own", "B": "owner"}


@pytest.mark.parametrize(
    ("cwd", "folder"),
    [
        ("", "/project"),
        (".", "/project"),
        ("/data", "/data"),
        ("../x", "/project/../x"),
        ("~", str(Path.home())),
        ("~nobody-has-this-name/x", "/project/~nobody-has-this-name/x"),
    ],
)
def test_program_folder_is_resolved_against_the_project(cwd: str, folder: str) -> None:
    assert start_folder(a_spec(settings={"cwd": cwd}), "/project") == folder


@pytest.mark.parametrize(
    ("name", "planned", "folder", "link"),
    [
        ("command/train", True, "train", ""),
        ("command/train@lr=0.1,hidden=8", True, "train@lr=0.1,hidden=8", ""),
        ("command/train", False, "12", "train@12"),
        ("command/train@12", False, "12", "train@12"),  # it was renamed since
        ("command/train@12''", False, "12", "train@12"),
        ("command/train@7", False, "12", "train@7@12"),
        ("command/train@lr=0.1", False, "12", "train@lr=0.1@12"),
        ("command/12", False, "12", ""),
        ("command/12'", False, "12", ""),
        ("command/größe", True, "größe", ""),
        ("command/a/b", True, "a-b.c14cddc033f6", ""),
        ("command/a b", True, "a-b.c8687a08aa5d", ""),
        ("command/a/b", False, "12", "a-b@12.a59871b064c8"),
        ("command/..", True, "-..5ec1f7e700f3", ""),
        ("command/" + "x" * 300, True, "x" * 60 + ".0d4e2ca9e9cb", ""),
    ],
)
def test_programs_of_a_run_have_distinct_folders(
    name: str, planned: bool, folder: str, link: str
) -> None:
    spec = a_spec(name=name, root="/data", run="night", hash="0f" * planned)
    assert job_folder(spec, 12) == Path("/data/runs/night/jobs", folder)
    assert job_folder_link(spec, 12) == link
    suffixed = spec._replace(folder_suffix="-4f20")
    if not planned and "/" not in name:
        assert job_folder(suffixed, 12).name == "12-4f20"
        assert job_folder_link(suffixed, 12) == (f"{link}-4f20" if link else "")
    assert attempt_job_folder(suffixed, 12) == Path("/data/runs/night/jobs/12")


_STUDY = "/data/runs/night"


@pytest.mark.parametrize(
    ("argv", "settings", "expected"),
    [
        (("a", "{job_folder}/x", "--to={run_folder}"), {}, ("a", "/own/x", f"--to={_STUDY}")),
        (("awk", "{print $1}", "{}", "{job}"), {}, ("awk", "{print $1}", "{}", "{job}")),
        (("a", "{{job_folder}}"), {}, ("a", "{/own}")),
        (("a",), {"cwd": "{job_folder}/x"}, "/own/x"),
        (("a",), {"cwd": "{run_folder}"}, _STUDY),
        (("a",), {"env": {"OUT": "{job_folder}", "A": "{b}"}}, {"OUT": "/own", "A": "{b}"}),
    ],
)
def test_only_folder_placeholders_of_a_program_are_expanded(
    argv: tuple[str, ...], settings: dict[str, object], expected: object
) -> None:
    spec = a_spec(*argv, settings=settings, root="/data", run="night")
    context = entry_context(spec, a_context("/project", environment={"HOME": "{job_folder}"}))
    made: list[Path] = []

    def make() -> Path:
        made.append(Path("/own"))
        return made[0]

    filled, place = substitute_folders(spec, context, make)
    own = {**place.environment}
    assert own.pop("HOME") == "{job_folder}"  # its owner's, not its entry's
    assert expected in (filled.argv, place.folder, own)
    assert uses_job_folder(spec) == bool(made)


def test_programs_that_jobs_of_a_sweep_name_are_all_stored(tmp_path: Path) -> None:
    tools = [tmp_path / "bin" / name for name in ("a-tool", "b-tool")]
    for tool in tools:
        tool.parent.mkdir(exist_ok=True)
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
    variables = {"PATH": f"{tmp_path}/bin:/bin", "VIRTUAL_ENV": str(tmp_path)}
    specs = [a_spec("sh", "--with", tool.name) for tool in tools]
    context = with_programs(a_context(str(tmp_path), environment=variables), specs)
    assert {*map(str, tools)} <= {*context.programs.values()}


def test_only_programs_have_their_own_folder_and_variables() -> None:
    context = a_context("/project")
    settings = {"cwd": "work", "env": {"A": "b"}}
    assert entry_context(a_spec(kind="train", settings=settings), context) is context
    assert entry_context(a_spec(settings={"argv": ["a"]}), context) is context


@pytest.mark.parametrize("settings", [{"env": {"A": 1}}, {"env": ["A"]}, {"cwd": 7}])
def test_invalid_record_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        entry_context(a_spec(settings=settings), a_context())


def test_site_changes_only_search_paths_of_an_entry(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"A": "site", "B": "site", "PATH": ["/site/bin", ""]}
    monkeypatch.setenv(SITE_VARIABLE, json.dumps(changes))
    context = a_context("/", environment={"A": "owner", "B": "owner", "PATH": "/bin"})
    spec = a_spec(settings={"env": {"A": "own", "PATH": "/own/bin"}})
    attempt = an_attempt(home, spec, context=context)
    found = make_attempt_environment(read_attempt_spec(attempt.spec.read_bytes()), attempt)
    assert {name: found[name] for name in ("A", "B", "PATH")} == {
        "A": "own",
        "B": "site",
        "PATH": "/site/bin:/own/bin",
    }


def test_visible_gpus_of_an_entry_determine_its_lane() -> None:
    context = a_context(environment={"CUDA_VISIBLE_DEVICES": "0,1"})
    resources = Resources(device="cuda")
    plain = a_spec(resources=resources)
    own = a_spec(resources=resources, settings={"env": {"CUDA_VISIBLE_DEVICES": "1"}})
    assert lane_of(plain, context).visible == ("0", "1")
    assert lane_of(own, context).visible == ("1",)


# --- limits and niceness


def test_stored_context_has_its_limits_except_on_nodes() -> None:
    record = a_context(limits={"NOFILE": 64, "AS": None}, niceness=5)._asdict()
    assert read_context(json.loads(json.dumps(record))) == Context(**record)
    del record["limits"], record["niceness"]
    assert read_context(record) == Context(**record)
    assert (Context(**record).limits, Context(**record).niceness) == ({}, None)


@pytest.mark.parametrize(
    "odd", [{"limits": {"NOFILE": "64"}}, {"limits": [64]}, {"limits": {"AS": -1}}, {"niceness": "5"}]
)  # fmt: skip
def test_non_numeric_limits_are_refused(odd: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        read_context({**a_context()._asdict(), **odd})


def test_context_of_a_shell_changes_with_its_limits() -> None:
    script = """
import os, resource
from launcher.queue.jobs.context import current_context
first = current_context({})
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
print(first.digest == current_context({}).digest, first.niceness == os.nice(0))
resource.setrlimit(resource.RLIMIT_CORE, (0 if first.limits["CORE"] else hard, hard))
print(first.digest == current_context({}).digest)
os.nice(1)
print(current_context({}).niceness == first.niceness + 1)
"""
    asked = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert asked.stdout.split() == ["True", "True", "False", "True"]


# --- `launcher.api`: the names that laboratories import


NAMES = [
    "DataId",
    "Draft",
    "Entry",
    "Error",
    "Input",
    "Job",
    "JobError",
    "Json",
    "Kind",
    "MachineError",
    "ModelId",
    "Part",
    "Plan",
    "PlannedJob",
    "Poison",
    "Role",
    "Settings",
    "Share",
    "Stage",
    "TaskFile",
    "TaskFileError",
    "UnknownName",
    "UsageError",
    "Words",
    "canonical",
    "load",
    "model_folder_name",
    "nearest",
    "parse_data",
    "parse_model",
    "parse_poison",
    "plan",
    "read_json",
    "write_atomic",
    "write_json",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_for_plugin_packages_is_available(name: str) -> None:
    assert getattr(api, name) is not None
    assert name in api.__all__


def test_dir_lists_names_that_are_not_yet_imported() -> None:
    code = (
        "import sys, launcher.api as api; print(set(api.__all__) <= set(dir(api)), "
        "{'cloudpickle', 'launcher.experiments.functions', 'launcher.experiments.planning', 'rich'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "True set()\n"
    assert all(getattr(api, name) is not None for name in api.__all__)


def test_submitting_functions_does_not_import_task_file_planning() -> None:
    code = (
        "import sys; from launcher.api import submit, submit_many, wait; "
        "print({'launcher.experiments.planning', 'launcher.experiments.taskfile'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "set()\n"


def test_job_finds_its_own_queue(home: Home) -> None:
    submitters = dict.fromkeys(QUEUE_VARIABLES, "/before")
    scheduler = {"LAUNCHER_HOME": "/elsewhere", "LAUNCHER_CLAIMS": "/claims", "LAUNCHER_CONFIG": ""}
    settings = {"argv": ["true"], "env": {"LAUNCHER_CLAIMS": "/own"}}
    queue = queue_variables(home.folder, scheduler)
    for entry, claims in ({"argv": ["true"]}, "/claims"), (settings, "/own"):
        text = attempt_spec_text(
            job=1,
            attempt_number=1,
            device="cpu",
            cpus=1,
            queue_variables=queue,
            spec_text=json.dumps(a_spec("true", settings=entry).to_json()),
            context_text=json.dumps(a_context(environment=submitters)._asdict()),
        )
        found = make_attempt_environment(read_attempt_spec(text.encode()), home.attempt(1, 1))
        names = {name: found[name] for name in QUEUE_VARIABLES}
        assert names == {
            "LAUNCHER_HOME": str(home.folder),
            "LAUNCHER_CLAIMS": claims,
            "LAUNCHER_CONFIG": "/before",
        }
        assert owners_environment(found)["LAUNCHER_HOME"] == str(home.folder)
