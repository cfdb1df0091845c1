import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.experiments.planning.comparison import Action, ComparedJob, Comparison
from launcher.experiments.planning.estimates import RuntimeHistory
from launcher.experiments.planning.first_wave import MachineState
from launcher.experiments.planning.plan import JobCode, Plan
from launcher.experiments.planning.plan_records import plan_commands, plan_json
from launcher.experiments.planning.preview import preview_plan, refusals
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.submit import submit
from launcher.frontends.screens.plan_view import MOST_LISTED, draw_plan
from launcher.ids import Words
from launcher.provenance.git import WorkTree
from launcher.queue.gpu.resources import MEMORY, ForeignReservation, core_resource_name
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.policy.model import Running
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from tests.build import a_context, in_state, until
from tests.launcher.conftest import Launcher
from tests.launcher.plans import (
    GIB,
    TOYS,
    a_gpu,
    a_history,
    a_plan,
    changed,
    compared_jobs,
    done_before,
    here,
    some_commands,
)
from tests.terminal import in_a_terminal

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
TREE = WorkTree(
    commit="3f9c2e1a" * 5,
    changed=("lab/toys.py", "notes.txt"),
    modules={"tests.launcher.toylab": ("lab/toys.py",)},
)
LONG = "any:shr&dot:fb&line:tw&ring:pre"


def drawn(
    made: Plan,
    judged: list[ComparedJob],
    *,
    around: MachineState | None = None,
    history: RuntimeHistory | None = None,
    width: int = 120,
    tree: WorkTree | None = None,
    everything: bool = False,
    refused: Sequence[str] = (),
) -> str:
    outlook = preview_plan(judged, history or a_history(), around or here())
    return draw_plan(
        Comparison(plan=made, jobs=tuple(judged), accepted={}),
        outlook,
        taskfile="tasks/toys.yaml",
        start="launcher run tasks/toys.yaml",
        tree=tree,
        width=width,
        everything=everything,
        refusals=refused,
    )


def a_busy_day() -> tuple[Plan, list[ComparedJob], MachineState, RuntimeHistory]:
    """A plan of which a part is done, a part was changed and a part failed, beside two cards."""
    needs = "resources: {train: {vram: 11.2GiB}, unlearn: {vram: 4GiB}}\n"
    more = f'  - {{model: dot:pre, data: "{LONG}"}}\n'
    made = a_plan(needs + TOYS.replace("unlearn:", more + "unlearn:"))
    judged = compared_jobs(made, done=1)
    judged[1] = changed(judged[1], "lr 0.1 → 0.5", "tests.launcher.toylab a81d… → 09f2…")
    judged[2] = changed(judged[2], "train/dot:pre runs again")
    judged[3] = judged[3]._replace(state="failed", reason="failed before: no room left on the disk")
    words = Words(subsets={"dot": ("data/spots", "data/dots-*")})
    judged[3] = judged[3]._replace(job=judged[3].job._replace(words=words))
    gpus = a_gpu(0), a_gpu(1, free=6.3)
    past = [
        done_before(one.job, seconds, disk=2 << 30, on_gpu=True)
        for one in judged[1:2]
        for seconds in (6000.0, 6700.0, 7300.0)
    ]
    busy = here(*gpus, running=(Running(devices=("GPU-1",), cpus=1, exclusive=True),))
    return made, judged, busy, a_history(*past, gpus=True)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_plan_listing_shows_jobs_resources_and_totals(width: int) -> None:
    made, judged, around, history = a_busy_day()
    text = drawn(made, judged, around=around, history=history, width=width, tree=TREE)
    assert text + "\n" == (GOLDEN / f"plan-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_only_long_names_exceed_the_terminal_width(width: int) -> None:
    made, judged, around, history = a_busy_day()
    judged[1] = changed(judged[1], *(f"setting_{at} {'x' * 30} → {'y' * 30}" for at in range(9)))
    names = {one.job.name for one in judged}
    text = drawn(made, judged, around=around, history=history, width=width, tree=TREE)
    wide = [line for line in text.split("\n") if len(line) > width and line.strip() not in names]
    assert [line for line in wide if not line.lstrip().startswith(("|", "2 |", "-->"))] == []


@pytest.mark.parametrize("width", [1, 40, 80, 120])
def test_names_are_never_cut(width: int) -> None:
    made, judged, around, history = a_busy_day()
    lines = drawn(made, judged, around=around, history=history, width=width).split("\n")
    for one in judged:
        assert any(line.strip().startswith(one.job.name) for line in lines), one.job.name


def test_plain_jobs_take_one_line_in_the_plan() -> None:
    made = some_commands("", "")
    assert "\n  command/c0  new\n  command/c1  new\n" in drawn(made, compared_jobs(made))


@pytest.mark.parametrize(("vram", "shown"), [("vram: 6GiB, ", "2 × 6 GiB"), ("", "2 GPUs")])
def test_job_on_several_gpus_shows_the_count_if_gpus_exist(vram: str, shown: str) -> None:
    made = a_plan(f"resources: {{train: {{{vram}gpus: 2}}}}\n{TOYS}")
    judged, cards = compared_jobs(made), here(a_gpu(0), a_gpu(1))
    text = drawn(made, judged, around=cards, history=a_history(gpus=True))
    assert [line for line in text.split("\n") if " train/dot:pre " in line and shown in line]
    assert shown not in drawn(made, judged, around=here())


def test_missing_inputs_are_marked_and_counted_in_the_last_line() -> None:
    made = a_plan("name: x\ntrain: [{data: dot:pre}]\n")
    text = drawn(made, compared_jobs(made), refused=refusals(made, {}, ()))
    assert "warning[missing-input]: 2 inputs are missing, and no job makes them" in text
    assert text.endswith(
        "nothing was queued (dry run). launcher run refuses this file: inputs are missing"
    )


def test_warnings_are_wrapped_except_lines_of_the_task_file() -> None:
    made = a_plan("name: x\ntrain: [{data: dot:pre}]\n")
    lines = drawn(made, compared_jobs(made), width=60).split("\n")
    assert "warning[missing-input]: 2 inputs are missing, and no job" in lines
    assert "  makes them" in lines
    assert "2 | train: [{data: dot:pre}]" in lines


def test_fully_cached_plan_shows_no_estimate() -> None:
    made = a_plan()
    text = drawn(made, compared_jobs(made, done=len(made.jobs)))
    assert text.endswith("nothing was queued (dry run). No job has to run.")
    assert "First wave" not in text


def test_long_plans_are_cut_without_the_option_all() -> None:
    made = some_commands(*[""] * (MOST_LISTED + 5))
    short = drawn(made, compared_jobs(made))
    assert "  … 5 more; --all lists every job, --json gives the plan" in short
    assert "command/c44" not in short
    assert "command/c44" in drawn(made, compared_jobs(made), everything=True)


def test_empty_plan_is_reported() -> None:
    made = replace(some_commands(""), jobs=())
    text = drawn(made, [])
    assert "\n  no jobs\n" in text
    assert text.endswith("No job has to run.")


def test_plan_with_complete_history_shows_the_minimum_duration() -> None:
    made = some_commands("", "")
    text = drawn(made, compared_jobs(made), history=a_history(done_before(made.jobs[0], 60.0)))
    assert (
        "Job time: about 2 m for command, one after another, from 1 earlier run;"
        " at least 1 m, however many jobs run in\n    parallel\n"
    ) in text
    single = drawn(
        made, compared_jobs(made, done=1), history=a_history(done_before(made.jobs[0], 60.0))
    )
    assert "Job time: about 1 m for command from 1 earlier run\n" in single


def test_machine_without_gpus_is_reported_without_gpu_memory() -> None:
    made, judged, _, _ = a_busy_day()
    text = drawn(made, judged)
    assert "Now free: no GPU · 4 of 4 cores · 12 GiB of 16 GiB memory" in text
    assert "11.2 GiB" not in text


def test_reservations_of_another_queue_are_not_free() -> None:
    made = some_commands("")
    foreign = (
        ForeignReservation("kim", core_resource_name(3), 2, folder="/home/kim/q"),
        ForeignReservation("kim", MEMORY, 4 * GIB, folder="/home/kim/q"),
    )
    idle = here(cpus=2)
    around = idle._replace(machine=idle.machine._replace(foreign=foreign))
    text = drawn(made, compared_jobs(made), around=around)
    assert "Now free: no GPU · 0 of 2 cores · 12 GiB of 16 GiB memory" in text
    assert "2 of 2 reserved by the queue /home/kim/q of user kim" in " ".join(text.split())


def test_a_clean_tree_has_no_mark() -> None:
    made = some_commands("")
    clean = TREE._replace(changed=(), modules={})
    assert ", git 3f9c2e1\n" in drawn(made, compared_jobs(made), tree=clean)


def test_task_file_text_cannot_control_the_terminal() -> None:
    made = replace(some_commands(""), about="\x1b[2Jgone")
    judged = [changed(one, "argv \x1b[31m → x") for one in compared_jobs(made)]
    assert "\x1b" not in drawn(made, judged)


def test_json_contains_the_whole_plan() -> None:
    text = f"{TOYS}resources: {{train: {{vram: 1GiB}}}}\n"
    made = a_plan(text.replace("data: dot:pre,", "data: dot:pre, lr: 0.5,"))
    judged = compared_jobs(made)
    outlook = preview_plan(judged, a_history(done_before(made.jobs[1], 9.0)), here())
    record = json.loads(json.dumps(plan_json(made, judged, outlook, TREE)))
    assert (record["schema"], record["refused"]) == (1, False)
    assert [one["name"] for one in record["jobs"]] == [job.name for job in made.jobs]
    trained = record["jobs"][4]
    assert {key: trained[key] for key in ("kind", "model", "base", "data", "images")} == {
        "kind": "train",
        "model": "dot:pre%20",
        "base": None,
        "data": "dot:pre",
        "images": "dot:pre&real:pre",
    }
    assert trained["settings"]["lr"] == 0.5
    assert trained["needs"] == ["shapes/toys", "poison/dot:pre%20"]
    assert (trained["state"], trained["reason"]) == ("new", "new")
    assert trained["argv"] == ["python", "-m", "toylab", "train", "dot:pre%20"]
    assert (trained["estimate"]["seconds"], trained["estimate"]["source"]) == (9.0, "measured")
    asked = trained["resources"]
    assert asked["vram"] == GIB
    assert record["git"]["commit"] == TREE.commit
    assert {"machine", "first_wave", "time", "disk"} <= set(record)


def test_warnings_in_json_have_file_and_line() -> None:
    made = a_plan("name: x\ntrain: [{data: dot:pre}]\n")
    outlook = preview_plan(compared_jobs(made), a_history(), here())
    (warning,) = json.loads(json.dumps(plan_json(made, compared_jobs(made), outlook)))["warnings"]
    assert (warning["code"], warning["file"]) == ("missing-input", "toys.yaml")
    assert (warning["line"], warning["column"]) == (2, 10)


@pytest.mark.parametrize(
    "word", ["plain", "two words", "it's", "a\nb", "\\", "ü\x1b'\\x", "\udcff"]
)
def test_command_is_one_line_of_valid_shell(word: str) -> None:
    (one,) = compared_jobs(some_commands(""))
    judged = [one._replace(job=one.job._replace(argv=("printf", "%s", word)))]
    (line,) = plan_commands(judged)
    assert line.isprintable()
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert said == word.encode(errors="surrogateescape")


def test_only_jobs_to_run_have_a_command() -> None:
    run, joined, done = compared_jobs(some_commands("", "", ""))
    judged = [run, joined._replace(action=Action.JOIN), done._replace(action=Action.CACHED)]
    assert len(plan_commands(judged)) == 1


def test_command_lines_need_a_dry_run(launcher: Launcher, tmp_path: Path) -> None:
    said = launcher.refused("run", a_file(tmp_path), "--commands")
    assert "--commands works only with --dry-run" in said


def test_command_option_prints_only_commands(launcher: Launcher, tmp_path: Path) -> None:
    said = launcher("run", a_file(tmp_path), "--dry-run", "--commands")
    assert [shlex.split(line) for line in said.out.splitlines()] == [["sleep", "0"], ["true"]]


def test_dry_run_creates_no_queue(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    launcher.well("run", a_file(tmp_path), "--dry-run")
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("form", [[], ["--all"], ["--commands"]])
def test_dry_run_of_a_refused_plan_has_the_exit_code_of_the_run(
    form: list[str], launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lacking.yaml").write_text(
        "name: x\ndefaults: {data_root: data, split_path: my splits}\ntrain: [{data: gan2:pre}]\n"
    )
    (tmp_path / "data").mkdir()
    assert launcher("run", "lacking.yaml").code == 2
    dry = launcher("run", "lacking.yaml", "--dry-run", *form)
    assert dry.code == 2
    assert "to make the lists: trueface splits data --out 'my splits'" in dry.out + dry.err
    assert json.loads(launcher.well("run", "lacking.yaml", "--dry-run", "--json").out)["refused"]
    (tmp_path / "data").rmdir()  # no lists are made of no images
    assert "trueface splits" not in launcher("run", "lacking.yaml", "--dry-run").out


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (
            "resources: {cpus: 9999}\n",
            "1 job can never start here: needs 9,999 CPU cores",
            "1 job can never start here",
        ),
        (
            "pass_env: [NOWHERE_TO_BE_FOUND]\n",
            "pass_env: NOWHERE_TO_BE_FOUND is not set in this shell",
            "NOWHERE_TO_BE_FOUND of pass_env is not set in this shell",
        ),
    ],
)
def test_dry_run_prints_every_reason_for_refusal(
    text: str,
    error: str,
    reason: str,
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    fine, other = a_file(tmp_path), tmp_path / "x.yaml"
    other.write_text(f"name: x\n{text}command: [{{name: a, argv: ['true']}}]\n")
    assert error in launcher.refused("run", fine, "x.yaml")
    assert store.read.jobs() == []  # the first file has none either
    for form in ([], ["--all"], ["--commands"]):
        dry = launcher("run", "x.yaml", "--dry-run", *form)
        assert dry.code == 2
        assert f"launcher run refuses this file: {reason}" in " ".join((dry.out + dry.err).split())
        assert "To start:" not in dry.out
    record = launcher("run", "x.yaml", "--dry-run", "--json")
    told = json.loads(record.out)
    assert (record.code, told["refused"], told["refusals"]) == (0, True, [reason])


def test_dry_run_stores_the_same_variables_as_the_run(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", "x")
    assert (
        "--pass-env LAB_TOKEN"
        in launcher.well("run", a_file(tmp_path), "--dry-run", "--pass-env", "LAB_TOKEN").out
    )


def test_plan_never_exceeds_the_terminal_width(home: Home, tmp_path: Path) -> None:
    file = a_file(tmp_path)
    for columns in (80, 100):
        lines = in_a_terminal("run", file, "--dry-run", columns=columns).split("\n")
        assert max(len(line) for line in lines if file not in line) <= columns


def test_cached_jobs_show_their_time_and_changed_jobs_their_changes(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = a_file(tmp_path)
    launcher.well("run", file, "--detach")
    until(lambda: all(in_state(store, job, State.DONE) for job in (1, 2)), "both are done")
    cached = launcher("run", file, "--dry-run").out
    assert "cached" in cached
    assert "No job has to run." in cached
    forced = launcher.json("run", file, "--dry-run", "--force")
    assert [one["estimate"]["runs"] for one in forced["jobs"]] == [1, 1]
    Path(file).write_text(Path(file).read_text().replace("'0'", "'0.1'"))
    edited = launcher("run", file, "--dry-run").out
    assert '│ argv ["sleep", "0"] → ["sleep", "0.1"]' in edited


def test_changed_job_lists_settings_modules_words_and_dependencies(store: Store) -> None:
    made = a_plan()
    sample, train = made.jobs[:2]
    code = JobCode(train.entry, {"": "other", "tests.launcher.toylab": "a81d2222"})
    before = train._replace(
        identity=replace(train.identity, settings="other", code=code),
        settings={**train.settings, "lr": 0.5, "scale": None},
        words=Words(subsets={"dot": ("spots",)}),
    )
    other = sample._replace(identity=replace(sample.identity, settings="other"))
    rows = queued(store, replace(made, jobs=(other, before)))
    compared_job = compare_with_queue(made, rows, lambda _: None).jobs[1]
    assert compared_job.state == "changed"
    assert compared_job.changes == (
        "lr 0.5 → 0.1",
        "scale null → 1.0",
        "tests.launcher.toylab a81d… → d…",
        "folders of dot changed",
        "shapes/toys runs again",
    )
    assert compared_job.reason.endswith("a81d… → d…, …")


def a_file(folder: Path) -> str:
    file = folder / "c.yaml"
    file.write_text(
        "name: quick\ncommand:\n  - {name: a, argv: [sleep, '0']}\n  - {name: b, argv: ['true']}\n"
    )
    return str(file)


def queued(store: Store, made: Plan) -> dict[str, JobRow]:
    """Queue a plan and return its rows by name."""
    root = Path("/project")
    submit(store, root, compare_with_queue(made, {}, lambda _: None), a_context(), 1.0)
    return store.read.jobs_of(root, made.name)
