import json
import multiprocessing
import subprocess
import sys
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from launcher.api import (
    Draft,
    HasEpochs,
    Kind,
    UnknownName,
    UsageError,
    Words,
    model_folder_name,
    parse_data,
)
from launcher.queue.jobs.job import Spec
from launcher.queue.workers.worker import _entry_function
from launcher.system.errors import MachineError
from tests.trueface.jobs import build
from trueface.cli.classic.request import parse_command_line
from trueface.evaluation.measurement import METRICS
from trueface.generators.erasing.study import MEASURES, PUBLISHED
from trueface.generators.jobs.diffusion_kinds import LOW as LOW_ERASED
from trueface.generators.jobs.purification_kinds import LOW as LOW_RESTORED
from trueface.jobs.classes.kinds import CLASSIFY
from trueface.jobs.job_kind import PRELOAD, refuse_unfit
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN

KINDS: tuple[Kind, ...] = (TRAIN, TEST, POISON, UNLEARN, SAMPLE)
RUN = Path("/lab/runs/study")
CLEAN = "gan2:pre&real:pre"


def a_draft(kind: Kind, settings: dict[str, Any] | None = None, **facts: Any) -> Draft:
    given = {"data_root": "data", "split_path": "splits", **(settings or {})}
    if kind is SAMPLE:
        del given["split_path"]
    return build.a_draft(kind, Path("/lab"), given, **{"model": CLEAN, "data": CLEAN, **facts})


def inputs(kind: Kind, draft: Draft) -> list[str]:
    return [str(one.path) for one in kind.inputs(draft)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_satisfies_the_launcher_interface(kind: Kind) -> None:
    assert isinstance(kind, Kind)
    module, _, function = kind.entry.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("kind", [TEST, SAMPLE], ids=lambda kind: kind.name)
def test_request_for_idle_gpus_is_rejected(kind: Kind) -> None:
    named = None if kind is SAMPLE else CLEAN
    assert not any("idle" in one for one in kind.refusals(a_draft(kind, model=named), ()))
    first, *_ = kind.refusals(a_draft(kind, model=named, gpus=3), ())
    assert first == f"{named or 'sample'}: this job type uses one GPU. 3 GPUs would leave 2 idle."


def test_real_images_are_added_to_training_data_only() -> None:
    data = parse_data("gan2:fb")
    assert str(TRAIN.images(data)) == "gan2:fb&real:fb"
    assert str(POISON.images(data)) == str(UNLEARN.images(data)) == "gan2:fb&real:fb"
    assert TEST.images(data) == data


def test_unknown_subset_is_rejected_at_planning() -> None:
    for kind in KINDS:
        with pytest.raises(UnknownName, match="Did you mean 'gan2'"):
            kind.images(parse_data("gna2:pre"))


BEST = f"{RUN}/{CLEAN}/checkpoints/best.pt"


def test_poisoned_training_reads_record_of_poison_job() -> None:
    model = f"{CLEAN}%50"
    made = POISON.outputs(a_draft(POISON, model=model))
    assert made == (RUN / model / "poison.json",)
    assert str(made[0]) in inputs(TRAIN, a_draft(TRAIN, model=model))


@pytest.mark.parametrize("before", ["", "~relabel"])
def test_unlearning_reads_base_and_its_poison_record(before: str) -> None:
    base = f"{CLEAN}%50{before}"
    draft = a_draft(UNLEARN, {"method": "retrain"}, model=f"{base}~retrain", base=base)
    assert inputs(UNLEARN, draft)[3:] == [
        f"{RUN}/{base}/checkpoints/best.pt",
        f"{RUN}/{base}/poison.json",
    ]
    folder = RUN / f"{base}~retrain"
    names = ("checkpoints/best.pt", "poison.json", "unlearning.json")
    assert UNLEARN.outputs(draft) == tuple(folder / name for name in names)


def test_unlearning_with_settings_in_name_reads_record_of_base() -> None:
    base = f"{CLEAN}%50@lr=0.01"
    model = f"{CLEAN}%50~relabel@strength=1,seed=1"
    draft = a_draft(UNLEARN, {"method": "relabel"}, model=model, base=base)
    assert f"{RUN}/{base}/poison.json" in inputs(UNLEARN, draft)
    assert UNLEARN.argv(draft)[-2:] == ("--base", base)


def test_long_id_has_shortened_folder() -> None:
    model = "#".join([CLEAN] * 20)
    (best, _) = TRAIN.outputs(a_draft(TRAIN, model=model))
    assert best.parents[1] == RUN / model_folder_name(model)
    assert len(best.parents[1].name) == 255


def test_training_that_saves_its_optimizer_has_output_that_fine_tuning_requires() -> None:
    kept = a_draft(TRAIN, {"save_optimizer": True})
    state = RUN / CLEAN / "checkpoints" / "optimizer.pt"
    assert state in TRAIN.outputs(kept)
    then = {"optimizer_state": "kept"}
    draft = a_draft(TRAIN, then, model=f"{CLEAN}#gan2:fb", base=CLEAN, data="gan2:fb")
    (needed,) = (one for one in TRAIN.inputs(draft) if one.path == state)
    what = f"the optimizer state of {CLEAN} (set save_optimizer: true in its training)"
    assert needed.what == what
    assert TRAIN.refusals(draft, ()) == ()


def test_training_from_scratch_cannot_continue_optimizer() -> None:
    draft = a_draft(TRAIN, {"optimizer_state": "kept"})
    (said,) = TRAIN.refusals(draft, ())
    assert "needs a model to start from" in said
    with pytest.raises(UsageError, match="needs a model to start from"):
        refuse_unfit(TRAIN, draft)


def test_only_kind_with_words_knows_them() -> None:
    own = Words(subsets={"ganMine": ("MyGAN", "SDXL-*")}, modifiers={"wa": ("WhatsApp",)})
    for kind in KINDS:
        told = kind.with_words(own)
        assert isinstance(told, Kind)
        assert "ganMine:wa" in str(told.elementary(parse_data("gan:wa")))
        assert told.images(parse_data("ganMine:wa&real:wa")) == parse_data("ganMine:wa&real:wa")
        with pytest.raises(UnknownName):
            kind.images(parse_data("ganMine:pre"))


def test_folder_of_user_word_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "WhatsApp/Fake/SDXL-turbo").mkdir(parents=True)
    own = Words(subsets={"mine": ("SDXL-*",)}, modifiers={"wa": ("What*",)})
    settings = {"data_root": str(tmp_path)}
    kind = TEST.with_words(own)
    there = a_draft(TEST, settings, data="mine:wa", words=own)
    assert not any("WhatsApp" in path or "SDXL" in path for path in inputs(kind, there))
    absent = a_draft(TEST, settings, data="mine:pre", words=own)
    assert str(tmp_path / "PreSocial/Fake/SDXL-*") in inputs(kind, absent)


def test_test_reads_model_and_writes_scores_and_metrics() -> None:
    draft = a_draft(TEST, data="real:pre")
    assert inputs(TEST, draft) == [BEST, "/lab/data", "/lab/splits/test.json"]
    assert TEST.outputs(draft) == (
        RUN / CLEAN / "scores" / f"{CLEAN}_vs_real:pre.csv",
        RUN / CLEAN / "metrics" / "real:pre.json",
    )


def test_sample_output_is_proved_by_file_written_last() -> None:
    draft = a_draft(SAMPLE)
    assert SAMPLE.inputs(draft) == ()
    assert SAMPLE.outputs(draft) == (Path("/lab/data"), Path("/lab/data/sample.json"))


def test_images_absent_from_data_folder_are_missing_inputs(tmp_path: Path) -> None:
    (tmp_path / "PreSocial/Fake/StyleGAN2").mkdir(parents=True)
    draft = a_draft(TEST, {"data_root": str(tmp_path)})
    assert str(tmp_path / "PreSocial/Real/FFHQ") in inputs(TEST, draft)
    assert not any("StyleGAN2" in path for path in inputs(TEST, draft))


def a_linked_set(root: Path) -> dict[str, Any]:
    """Make a data root of links; 0 and 2 of them lead nowhere, and 3 is in no list."""
    (root / "originals").mkdir()
    (root / "originals/1.png").touch()
    for folder in ("Fake/StyleGAN2", "Real/FFHQ"):
        (root / "PreSocial" / folder).mkdir(parents=True)
        for number in range(4):
            link = root / f"PreSocial/{folder}/{number}.png"
            link.symlink_to(root / f"originals/{number}.png")
    for name, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (1,))):
        keys = [f"{method}/{number}" for method in ("StyleGAN2", "FFHQ") for number in numbers]
        (root / f"{name}.json").write_text(json.dumps(keys))
    return {"data_root": str(root), "split_path": str(root)}


def test_plan_checks_a_sample_of_links_in_many_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for folder in ("Fake/StyleGAN2", "Real/FFHQ"):
        for video in range(3):
            below = tmp_path / f"PreSocial/{folder}/v{video}"
            below.mkdir(parents=True)
            for frame in range(10):
                (below / f"{frame}.png").symlink_to("nowhere")
                keys.append(f"{below.parent.name}/v{video}/{frame}")
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps(keys))
    settings = {"data_root": str(tmp_path), "split_path": str(tmp_path)}
    for most, seen in ((12, "at least 12"), (1000, "60")):
        monkeypatch.setattr("trueface.data.index.MOST_LINKS", most)
        whats = [each.what for each in TRAIN.inputs(a_draft(TRAIN, settings))]
        assert f"one of {seen} images that are broken links" in whats


@pytest.mark.parametrize(
    ("kind", "count"),
    [(TRAIN, 4), (UNLEARN, 4), (POISON, 2), (TEST, 0)],
    ids=lambda each: getattr(each, "name", None),
)
def test_plan_counts_dangling_links_in_lists_of_job(tmp_path: Path, kind: Kind, count: int) -> None:
    settings = a_linked_set(tmp_path) | ({"method": "scrub"} if kind is UNLEARN else {})
    facts = {"base": CLEAN, "model": f"{CLEAN}~scrub"} if kind is UNLEARN else {}
    lost = [each for each in kind.inputs(a_draft(kind, settings, **facts)) if "link" in each.what]
    if not count:
        assert lost == []
        return
    (first,) = lost
    assert first.path == tmp_path / "PreSocial/Fake/StyleGAN2/0.png"
    assert first.what == f"one of {count} images that are broken links"
    assert f"its target is {tmp_path}/originals/0.png. Restore" in first.remedy
    skipping = a_draft(kind, settings | {"missing_images": "skip"}, **facts)
    assert not any("link" in each.what for each in kind.inputs(skipping))


@pytest.mark.parametrize(
    ("poison", "refused"), [("20", True), ("f2r-20", False), ("r2f-20", False)]
)
def test_projected_gradients_are_rejected_for_random_flips(poison: str, *, refused: bool) -> None:
    base = f"{CLEAN}%{poison}"
    draft = a_draft(UNLEARN, {"method": "pgu"}, model=f"{base}~pgu", base=base)
    assert ["randomly flipped" in reason for reason in UNLEARN.refusals(draft, ())] == (
        [True] if refused else []
    )


def test_all_missing_inputs_are_named() -> None:
    with pytest.raises(UsageError, match=r"(?s)/lab/data.*train\.json.*val\.json"):
        refuse_unfit(TRAIN, a_draft(TRAIN))


def test_command_of_model_with_settings_in_name_creates_that_model() -> None:
    model = f"{CLEAN}%20@lr=0.001,seed=2"
    draft = a_draft(TRAIN, {"lr": 0.001, "seed": 2}, model=model)
    request = parse_command_line(TRAIN.argv(draft)[3:])
    assert (request.model, request.saved_as) == (model, model)


@pytest.mark.parametrize("kind", [POISON, SAMPLE], ids=lambda kind: kind.name)
def test_command_without_device_option_contains_no_device(kind: Kind) -> None:
    draft = a_draft(kind, model=f"{CLEAN}%50", device="cpu")
    assert "--device" not in kind.argv(draft)


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "x" * 5000])
def test_data_folder_with_invalid_name_is_missing(tmp_path: Path, name: str) -> None:
    for kind in (TRAIN, TEST):
        settings = {"data_root": str(tmp_path / name), "split_path": str(tmp_path / name)}
        draft = a_draft(kind, settings)
        assert str(tmp_path / name) in inputs(kind, draft)
        assert kind.refusals(draft, [draft] if kind is TEST else ()) == ()
        with pytest.raises(UsageError, match="the data folder"):
            refuse_unfit(kind, draft)


def test_unlearning_with_another_objective_than_its_model_is_refused() -> None:
    poisoned = "gan2:pre%20"
    training = a_draft(TRAIN, {"objective": "ce"}, model=poisoned)
    model = f"{poisoned}~retrain"
    other = a_draft(UNLEARN, {"method": "retrain"}, model=model, base=poisoned)
    same = a_draft(UNLEARN, {"method": "retrain", "objective": "ce"}, model=model, base=poisoned)
    assert UNLEARN.refusals(other, [training]) == (
        f"{poisoned} is trained with objective: ce, and this is objective: bce. "
        "Use the same value in training and unlearning.",
    )
    assert UNLEARN.refusals(same, [training]) == ()


def test_kinds_declare_metrics_where_lower_is_better() -> None:
    low = {name for name, metric in METRICS.items() if metric.low}
    assert low == {"eer", "ece", "loss"}
    assert TEST.lower_is_better & set(METRICS) == low
    assert {"mse", "share"} <= LOW_RESTORED
    assert not LOW_RESTORED & {"psnr", "ssim"}
    assert {*MEASURES, *PUBLISHED} - {
        *("anchor", "others", "ssim", "classifier_accuracy", "clip_score"),
    } == LOW_ERASED


@pytest.mark.parametrize("kind", [TRAIN, UNLEARN, CLASSIFY], ids=lambda kind: kind.name)
def test_the_architecture_of_a_model_is_a_column_of_results(kind: Kind) -> None:
    assert kind.settings.columns == {"architecture": "model"}


NAMES = """
from trueface.models.registry import SPECS, model_name
from trueface.generators.purification.registry import PurifySettings
from trueface.training.objectives.registry import objectives

assert 'slim18' in SPECS
model_name('patch/tv/resnet18')
objectives()
PurifySettings(source='x', purifier='jpeg75+oneshot10')
assert not {'torch', 'torchvision', 'trueface.models.architectures'} & {*sys.modules}
"""


def test_epochs_of_trainings_and_names_of_networks_purifiers_and_objectives_need_no_torch() -> None:
    code = "import sys\n"
    for kind in (TRAIN, UNLEARN, CLASSIFY):
        assert isinstance(kind, HasEpochs)
        module, _, function = kind.epochs.partition(":")
        code += f"import {module}; assert callable({module}.{function})\n"
    code += "assert 'numpy' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code + NAMES], check=True)


ROOMS = """
import sys
from launcher.api import load

task = load(sys.argv[1])
assert not task.problems, task.problems
rooms = ("jobs.benchmark", "jobs.classes", "jobs.forging", "generators.jobs")
print(*sorted({kind.name for kind in task.kinds.values()}))
print(*[room for room in rooms if f"trueface.{room}" in sys.modules], *{"torch", "numpy"} & {*sys.modules})
"""
SAMPLE_OF_IT = """
name: x
defaults: {data_root: data, split_path: splits, num_epochs: 1}
train: [{model: null, data: real:pre}]
"""


@pytest.mark.parametrize(
    ("text", "kinds", "rooms"),
    [
        (SAMPLE_OF_IT, "features poison sample test train unlearn", ""),
        # unknown words are looked up in all kinds: a word of another kind is recognised, with the old message
        (
            SAMPLE_OF_IT.replace("num_epochs", "faces"),
            None,
            "jobs.benchmark jobs.classes jobs.forging generators.jobs",
        ),
    ],
    ids=["its own room", "a word of another room"],
)
def test_task_file_is_read_with_the_kinds_of_its_packages(
    tmp_path: Path, text: str, kinds: str | None, rooms: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", ROOMS, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    known, imported = done.stdout.splitlines()
    assert kinds is None or known == kinds
    assert imported == rooms


@pytest.mark.parametrize(
    ("kind", "entry", "now"),
    [
        ("train", "trueface.jobs:train", "trueface.jobs.training"),
        ("train", "trueface.jobs.training:train", "trueface.jobs.training"),
        ("test", "trueface.jobs:test", "trueface.jobs.testing"),
        ("poison", "trueface.jobs:poison", "trueface.jobs.poisoning"),
        ("unlearn", "trueface.jobs:unlearn", "trueface.jobs.unlearning"),
        ("sample", "trueface.jobs:sample", "trueface.jobs.sampling"),
        ("classify", "trueface.classes.jobs:classify", "trueface.jobs.classes.classification"),
        ("forget", "trueface.classes.jobs:forget", "trueface.jobs.classes.forgetting"),
        ("weigh", "trueface.jobs:weigh", ""),
    ],
)
def test_entry_point_queued_by_earlier_version_is_resolved_to_current_one(
    kind: str, entry: str, now: str
) -> None:
    spec = Spec(name="x", kind=kind, role="", run="x", root="/", entry=entry)
    if now:
        assert getattr(_entry_function(spec), "__module__", "") == now
        return
    with pytest.raises(MachineError) as caught:
        _entry_function(spec)
    assert str(caught.value).startswith(
        "trueface.jobs:weigh does not exist, and no job type 'weigh' is installed"
    )


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Notes the operations of torch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.operations: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


def import_again(answer: Connection) -> None:
    """Import what workers share again, beside the libraries; send the operations and the number of new threads."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"launcher", "trueface"}:
            del sys.modules[name]
    threads = len([*Path("/proc/self/task").iterdir()])
    with Recorder() as recorder:
        for name in PRELOAD:
            import_module(name)
    answer.send((recorder.operations, len([*Path("/proc/self/task").iterdir()]) - threads))


def test_modules_that_workers_share_compute_nothing_and_use_no_gpu_when_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("CUDA is used before a fork")

    for name in ("is_available", "device_count", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    assert "trueface.jobs.testing" in PRELOAD
    for name in PRELOAD:  # libraries are imported here, for the other tests as well
        if not name.startswith("trueface."):
            import_module(name)
    fork = multiprocessing.get_context("fork")
    answer, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=import_again, args=(sender,))
    child.start()
    sender.close()
    operations, threads = answer.recv()
    child.join()
    assert threads == 0
    assert operations <= {"empty"}  # it allocates memory, and starts no thread
