"""Task files from Python, and the examples that come with the project."""

import json
from pathlib import Path

import pytest

from launcher.api import Plan, TaskFileError, UsageError, load, plan
from launcher.experiments.planning.load import plan_files
from launcher.experiments.taskfile.yaml_tree import MOST_BYTES
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.launcher import language
from tests.launcher.conftest import Launcher
from tests.launcher.language import ROOT, finish, queue

TREE = Path(__file__).parents[3]


TASKS = sorted((TREE / "tasks").glob("*.yaml"))


METHODS = {
    "Fake": ("StyleGAN", "StyleGAN2", "StyleGAN3", "StableDiffusion2", "StableDiffusionXL"),
    "Real": ("FFHQ", "RAISE", "FORLAB"),
}


@pytest.fixture
def trueface(tmp_path: Path) -> Path:
    """A root with TrueFace-shaped folders, splits, CIFAR-10 and what generators read, where the examples look for it."""
    prompts = ("a photo of a parachute", "a photo of the sky")
    for part in ("train", "test"):
        for name in prompts:
            (tmp_path / "data" / "concepts" / part / name).mkdir(parents=True)
    (tmp_path / "data" / "prompts.txt").write_text("\n".join(prompts))
    for folder in ("stable-diffusion-v1-4", "img_align_celeba"):
        (tmp_path / "data" / folder).mkdir()
    for file in ("list_attr_celeba.txt", "squeezenet1_1.pth"):
        (tmp_path / "data" / file).touch()
    for part in ("train", "test"):
        for name in ("airplane", "bird", "cat"):
            (tmp_path / "data" / "cifar10" / part / name).mkdir(parents=True)
    for modifier in ("PreSocial", "Facebook", "Telegram", "Twitter"):
        for folder, methods in METHODS.items():
            for method in methods:
                for data in ("TrueFace", "faces"):
                    (tmp_path / "data" / data / modifier / folder / method).mkdir(parents=True)
    for splits in (tmp_path / "splits" / "TrueFace", tmp_path / "data" / "faces" / "splits"):
        splits.mkdir(parents=True)
        for number, name in enumerate(("train", "val", "test")):
            (splits / f"{name}.json").write_text(
                json.dumps(
                    [
                        f"{method}/{each:05d}"
                        for method in ("StyleGAN", "StyleGAN2", "StableDiffusion2", "FFHQ")
                        for each in (number, number + 3)  # validation needs two of each class
                    ]
                )
            )
    groups = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label,spe_label\n"
    (tmp_path / "data" / "faces" / "faces.csv").write_text(groups)
    for folder in (
        "groups",
        "fairface",
    ):  # real faces that are to be forged: white men and women
        (tmp_path / "data" / folder).mkdir()
        header = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label,split\n"
        rows = "1.jpg,0,1,-1,1,-1,1,train\n2.jpg,0,-1,-1,1,-1,5,train\n"
        (tmp_path / "data" / folder / "faces.csv").write_text(header + rows)
        for name in ("1.jpg", "2.jpg"):
            (tmp_path / "data" / folder / name).touch()
    return tmp_path


def methods(made: Plan) -> set[str]:
    """Return the unlearning methods of a plan."""
    mended = [job.model or "" for job in made.jobs if job.kind in {"unlearn", "forget"}]
    return {model.rpartition("~")[2].partition("@")[0] for model in mended}


FIELD = {"retrain", "finetune", "restart", "scrub", "ssd", "salun"}
LADDERS = {
    **dict.fromkeys(
        ("poison_sample", "poison_faces", "layer_attack", "layer_attack_cpu"),
        FIELD | {"pgu", "lau"},
    ),
    **dict.fromkeys(("forget_instances", "forget_instances_sample"), FIELD | {"ng", "rl"}),
}


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_examples_are_planned_with_and_without_their_data_and_studies_have_all_methods(
    path: Path, trueface: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a package of an extra may be missing
    monkeypatch.setattr("trueface.generators.erasing.registry.missing_detector", lambda _: ())
    assert {*LADDERS} <= {each.stem for each in TASKS}
    task = load(path)
    for root, warned in ((trueface / "nothing", {"missing-input"}), (trueface, set())):
        made = plan(task, root=root)
        # a fifth of the few images made here has none to flip
        few = {"kind-warning"} if path.stem == "poison_study" else set()
        if path.stem == "concept_erasing_tiny":  # its pipeline is made by a command of its own
            few = {"missing-input"}
        assert {one.code for one in made.warnings} <= warned | few
        place = {job.name: number for number, job in enumerate(made.jobs)}
        assert all(place[need] < place[job.name] for job in made.jobs for need in job.needs)
        assert place
        if ladder := LADDERS.get(path.stem):
            assert methods(made) >= ladder
            assert ("sample" in {job.kind for job in made.jobs}) == path.stem.endswith("sample")
        if "forget_instances" in path.stem:
            forgets = [job.settings for job in made.jobs if job.kind == "forget"]
            assert {settings["forget_fraction"] for settings in forgets} == {0.1}


def test_whole_study_of_the_original_has_three_rates_and_their_unlearning() -> None:
    path = TREE / "tasks" / "poison_study.yaml"
    assert len(path.read_text().splitlines()) < 60
    made = plan(load(path))
    data = "gan2:pre&gan3:pre&sdXL:pre&real:pre"
    trained = [f"{data}{rate}@seed={seed}" for seed in (1, 2, 3) for rate in ("", "%20", "%50")]
    assert sorted(job.model or "" for job in made.jobs if job.kind == "train") == sorted(trained)
    mended = [job.model for job in made.jobs if job.kind == "unlearn"]
    ways = methods(made)
    assert ways >= {"retrain", "corrected", "finetune", "relabel", "restart", "exact", "pgu"}
    assert len(mended) == len(set(mended)) == 2 * 3 * len(ways)
    tests = {(job.model, job.data) for job in made.jobs if job.kind == "test"}
    sets = ["real:pre", "gan2:pre", "gan3:pre", "sdXL:pre"]
    assert tests == {(model, one) for model in [*trained, *mended] for one in sets}
    settings = next(job.settings for job in made.jobs if job.kind == "train")
    assert settings["resize_scale"] == [0.2, 1.0]
    assert (settings["lr"], settings["lr_decay_epochs"], settings["patch_size"]) == (1e-4, 3, 96)


def test_python_and_command_line_have_the_same_plan(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(TREE / "tasks" / "quickstart.yaml")
    said = launcher("run", path, "--dry-run", "--json", "--set", "num_epochs=1")
    told = json.loads(said.out)["jobs"]
    made = plan(load(path, settings=["num_epochs=1"]))
    assert [(one["name"], one["hash"]) for one in told] == [
        (one.name, one.hash) for one in made.jobs
    ]


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_errors_of_all_files_are_reported_together(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "name: a\ntrian: []\n")
    second = write(tmp_path, "b.yaml", "name: b\ncommand: [{argv: [ls]}]\nphases: [nothing]\n")
    with pytest.raises(TaskFileError) as caught:
        plan_files([first, second, str(tmp_path / "none.yaml")])
    assert [one.code for one in caught.value.problems] == ["unknown-key", "phases", "no-file"]
    assert f"3 errors in {first}, {second}; nothing was queued" in str(caught.value)


def test_variables_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        tmp_path, "x.yaml", 'name: x\ncommand: [{argv: [echo, "${WHO}-${NOBODY:-none}"]}]\n'
    )
    monkeypatch.setenv("WHO", "you")
    monkeypatch.delenv("NOBODY", raising=False)
    assert plan(load(file)).jobs[0].argv == ("echo", "you-none")


def test_words_of_the_configuration_are_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "config.toml", '[subsets]\nwild = ["InTheWild", "SDXL-*"]\n')
    text = 'name: x\ndefaults: {data_root: d, split_path: s}\ntrain: [{data: "wild:pre"}]\n'
    file = write(tmp_path, "x.yaml", text)
    with pytest.raises(UsageError, match="unknown subset 'wild'"):
        plan(load(file))
    monkeypatch.setenv("LAUNCHER_CONFIG", config)
    job = plan(load(file)).jobs[0]
    assert job.images == "wild:pre&real:pre"
    assert job.words.subsets == {"wild": ("InTheWild", "SDXL-*")}


def test_public_interface_offers_nothing_else() -> None:
    import launcher.api

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = launcher.api.nothing


def test_two_files_cannot_have_jobs_of_one_name(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "name: x\ncommand: [{name: one, argv: [ls]}]\n")
    same = write(tmp_path, "b.yaml", "name: x\ncommand: [{name: one, argv: [ls]}]\n")
    other = write(tmp_path, "c.yaml", "name: x\ncommand: [{name: one, argv: [pwd]}]\n")
    assert len(plan_files([first, same])) == 2
    with pytest.raises(
        TaskFileError, match=r"command/one of run x differs between .*a\.yaml and .*c\.yaml"
    ):
        plan_files([first, other])


def test_the_plans_of_several_files_are_one_json_object(launcher: Launcher, tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "name: x\ncommand: [{name: one, argv: [ls]}]\n")
    second = write(tmp_path, "b.yaml", "name: y\ncommand: [{name: one, argv: [ls]}]\n")
    told = launcher.json("run", first, second, "--dry-run")
    assert [one["run"] for one in told["plans"]] == ["x", "y"]


def test_unreadable_file_is_reported_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"File name too long\)\. Give a file that you can read"):
        load(tmp_path / ("x" * 300 + ".yaml"))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(UsageError, match="split it and join the parts with include"):
        load(large)


# --- From a plan to the queue, again and again with a file that was changed


FIRST = "train: [{data: dot:pre}]\nautotest: [real:pre]\n"


def a_plan(text: str, *said: str, there: bool = False) -> Plan:
    return language.a_plan(text, *said, exists=lambda path: there or "toys" in path.parts)


def needs_by_name(store: Store) -> dict[str, list[str]]:
    rows = store.read.jobs_of(ROOT, "x")
    return {name: sorted(store.read.dependency_names(row.id)) for name, row in rows.items()}


def test_requeued_jobs_do_not_shift_dependencies_of_new_jobs(store: Store) -> None:
    queue(store, a_plan(FIRST))
    finish(store)
    changed = "train: [{data: dot:pre, lr: 0.5}, {data: line:pre}]\nautotest: [real:pre, dot:pre]\n"
    done = queue(store, a_plan(changed))
    assert (done.queued, done.cached) == (6, 0)
    assert needs_by_name(store) == {job.name: sorted(job.needs) for job in a_plan(changed).jobs}
    names = [row.name for row in store.read.jobs_by_id(done.jobs)]
    assert sorted(names) == sorted(job.name for job in a_plan(changed).jobs)


def test_phases_refuse_results_with_other_settings(store: Store) -> None:
    queue(store, a_plan(FIRST))
    finish(store)
    assert queue(store, a_plan(FIRST, "phases=[test]", there=True)).cached == 1
    with pytest.raises(UsageError) as caught:
        queue(store, a_plan(FIRST, "phases=[test]", "lr=0.25", there=True))
    assert str(caught.value) == (
        "phases leaves out train/dot:pre, but it was made differently (lr 0.1 → 0.25). "
        "Run phases: [train] first."
    )


def test_phases_refuse_unfinished_results(store: Store) -> None:
    queue(store, a_plan(FIRST, "phases=[train]"))
    number = store.read.jobs_of(ROOT, "x")["train/dot:pre"].id
    waits = f"phases leaves out train/dot:pre, but its state is queued. Wait for it with `launcher wait {number}`."
    with pytest.raises(UsageError, match=waits):
        queue(store, a_plan(FIRST, "phases=[test]", there=True))
    finish(store)
    assert queue(store, a_plan(FIRST, "phases=[test]", there=True)).queued == 1
    assert store.read.jobs_of(ROOT, "x")["train/dot:pre"].state is State.DONE
    assert Path(store.read.jobs_of(ROOT, "x")["test/dot:pre/real:pre"].root) == ROOT
