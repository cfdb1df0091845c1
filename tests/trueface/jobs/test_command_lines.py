"""The lines that `launcher run --dry-run --commands` prints, run one after the other."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Draft, Kind, Words, model_folder_name, parse_data
from tests.trueface.jobs.build import a_draft, job_of
from trueface.__main__ import main
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN
from trueface.models.checkpoint import load
from trueface.poisoning.poison_record import read_record

torch.set_num_threads(1)

WORDS = Words(subsets={"mygan": ("Style*",)}, modifiers={"wa": ("Facebook",)})
DATA = "mygan:pre&realFFHQ:pre"
BASE = f"{DATA}%50@seed=3"
UNLEARNED = f"{DATA}%50~relabel@seed=4"
AGAIN = f"{DATA}%50~relabel~retrain@seed=5"
TUNED = f"{BASE}#mygan:wa&realFFHQ:wa"
LONG = f"{BASE}#{'&'.join(['mygan:wa&realFFHQ:wa'] * 12)}"
SMALL = {
    "model": "slim18", "weights": "none", "num_epochs": 1, "batch_size": 8, "resize_size": 32,
    "seed": 3, "lr": 0.003, "resize_scale": [0.2, 1.0], "split_path": "data/splits",
}  # fmt: skip
TESTED = {"resize_size": 32, "split_path": "data/splits"}


def planned(kind: Kind, folder: Path, settings: Mapping[str, Any], **facts: Any) -> Draft:
    words = WORDS if "data" in facts else Words()
    return a_draft(kind, folder, {"data_root": "data", **settings}, words=words, **facts)


def chain(folder: Path) -> Iterator[tuple[Kind, Draft]]:
    """Plan a poisoned training, its dependent models, and tests."""
    yield SAMPLE, planned(SAMPLE, folder, {"size": 32, "train": 6, "val": 3, "test": 3})
    chosen = {"poison_seed": 7, "poison_per": "subset", "split_path": "data/splits"}
    yield POISON, planned(POISON, folder, chosen, model=BASE, data=DATA)
    saved = {**SMALL, "save_optimizer": True}
    yield TRAIN, planned(TRAIN, folder, saved, model=BASE, data=DATA)
    shared, kept = "mygan:wa&realFFHQ:wa", {**SMALL, "optimizer_state": "kept"}
    yield TRAIN, planned(TRAIN, folder, kept, model=TUNED, base=BASE, data=shared)
    twelve = "&".join([shared] * 12)
    yield TRAIN, planned(TRAIN, folder, SMALL, model=LONG, base=BASE, data=twelve)
    for method, seed, model, base in (
        ("relabel", 4, UNLEARNED, BASE),
        ("retrain", 5, AGAIN, UNLEARNED),
    ):
        settings = {**SMALL, "seed": seed, "method": method}
        yield UNLEARN, planned(UNLEARN, folder, settings, model=model, base=base, data=DATA)
    for model in (BASE, TUNED, LONG, UNLEARNED, AGAIN):
        yield TEST, planned(TEST, folder, TESTED, model=model, data="mygan:wa")


def queued(kind: Kind, draft: Draft, attempt: Path) -> None:
    """Run a job as a worker does."""
    known = kind.with_words(draft.words)
    if draft.model is not None:
        draft.model_folder(draft.model).mkdir(parents=True, exist_ok=True)
    images = None
    if draft.data is not None:
        images = str(known.images(parse_data(draft.data)))
    job = job_of(draft, kind, images=images, words=draft.words, attempt_folder=attempt)
    module, _, function = kind.entry.partition(":")
    getattr(importlib.import_module(module), function)(job)


def files(folder: Path) -> set[str]:
    kept = (path for path in (folder / "runs").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in kept if path.suffix not in {".log", ".txt"}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run the same chain as pasted lines and as jobs of the queue."""
    pasted, queue = (tmp_path_factory.mktemp(name) for name in ("pasted", "queued"))
    for kind, draft in chain(pasted):
        argv = kind.with_words(draft.words).argv(draft)
        assert argv[:3] == ("python", "-m", "trueface")
        with chdir(pasted):
            assert main(argv[3:]) == 0, argv
    for kind, draft in chain(queue):
        queued(kind, draft, queue)
    return pasted, queue


def test_pasted_commands_create_same_files_as_queue(folders: tuple[Path, Path]) -> None:
    pasted, queue = folders
    assert files(pasted) == files(queue)
    made = {folder.name for folder in (pasted / "runs/study").iterdir()}
    models = {model_folder_name(model) for model in (BASE, TUNED, LONG, UNLEARNED, AGAIN)}
    assert made == models | {"code"}


@pytest.mark.parametrize("model", [BASE, TUNED, LONG, UNLEARNED, AGAIN], ids=len)
def test_pasted_commands_create_same_weights_as_queue(
    folders: tuple[Path, Path], model: str
) -> None:
    path = Path("runs/study", model_folder_name(model), "checkpoints/best.pt")
    one, other = (load(folder / path) for folder in folders)
    assert one.provenance["model"] == other.provenance["model"] == model
    assert one.provenance["settings"] == other.provenance["settings"]
    for name, values in one.state.items():
        assert torch.equal(values, other.state[name]), name


def test_all_models_share_record_of_pasted_poison_command(
    folders: tuple[Path, Path],
) -> None:
    records = [
        read_record(folder / "runs/study" / model / "poison.json")
        for folder in folders
        for model in (BASE, UNLEARNED, AGAIN)
    ]
    assert all(record == records[0] for record in records)
    assert (records[0].seed, records[0].per) == (7, "subset")


def test_shortened_folder_records_the_whole_id(folders: tuple[Path, Path]) -> None:
    run = folders[0] / "runs/study"
    assert (run / model_folder_name(LONG) / "model_id.txt").read_text() == f"{LONG}\n"
    assert not (run / BASE / "model_id.txt").exists()
