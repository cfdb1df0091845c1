"""A network without `fc` and without batch norms, of one new file, through every sort of job."""

import contextlib
import importlib
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import trueface
from tests.trueface.conftest import Tree

NETWORK = """
from torch import Tensor, nn
from trueface.models.registry import register_model

class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.GroupNorm(1, 16)
        self.classifier = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 1000))

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.patches(images)).relu().mean((2, 3))
        return self.classifier(x)

@register_model("patches", summary="patches and layer norms", head="classifier.1")
def patches() -> nn.Module:
    return Patches()
"""
PROGRAM = """
import torch
from tests.trueface.jobs import build
from trueface.jobs import poisoning
from trueface.jobs import testing
from trueface.jobs import training
from trueface.jobs import unlearning
from trueface.prediction.predictor import Predictor
from trueface.models import checkpoint
from trueface.models.assembly import weights_sha256
from trueface.runtime import paths

data = "gan2:pre&real:pre"
whole = {
    "model": "patches", "weights": "none", "num_epochs": 1, "lr": 0.01, "batch_size": 8,
    "resize_size": 12, "afterwards": False,
}
learning = {key: value for key, value in whole.items() if key != "afterwards"}
frozen = {"freeze": True, "flip_prob": 0}

def folder(lab, model):
    return lab / "runs" / "r" / model

def job(lab, kind, model, **more):
    settings = {"data_root": "data", "split_path": "splits", **more.pop("settings", {})}
    return build.a_job(lab, kind, model, run="r", settings=settings, **more)

def state(model):
    return checkpoint.load(paths.checkpoint(folder(lab, model))).state

def changed(before, after):
    return sorted(name for name in before if not torch.equal(before[name], after[name]))

name = f"{data}%50"
poisoning.poison(job(lab, "poison", name, data=data, settings={"poison_per": "subset"}))
training.train(job(lab, "train", name, data=data, settings=learning))
weights = paths.checkpoint(folder(lab, name))
head = f"{name}@freeze=true"
poisoning.poison(job(lab, "poison", head, data=data, settings={"poison_per": "subset"}))
training.train(
    job(lab, "train", head, data=data, settings=learning | frozen | {"weights": str(weights)})
)
unlearned = f"{name}~relabel"
unlearning.unlearn(
    job(lab, "unlearn", unlearned, base=name, data=data, settings=whole | {"method": "relabel"})
)
exact = f"{name}~exact@freeze=true"
unlearning.unlearn(
    job(lab, "unlearn", exact, base=head, data=data,
        settings=whole | frozen | {"method": "exact", "weights": str(weights)})
)
tested = testing.test(
    job(lab, "test", exact, data=data, settings={"resize_size": 12, "features": True})
)
files = sorted((lab / "data").rglob("*.png"))[:3]
answers = [answer.logit for answer in Predictor.load(weights, batch_size=2).predict_files(files)]
facts = {
    "names": sorted(state(name)),
    "frozen": changed(state(name), state(head)),
    "exact": changed(state(head), state(exact)),
    "relabel": len(changed(state(name), state(unlearned))),
    "tested": tested["n"],
    "answers": len(answers),
    "sha256": weights_sha256("patches", str(weights)),
}
"""


@contextlib.contextmanager
def laboratory_in(folder: Path) -> Iterator[None]:
    """Let the laboratory be imported again, from a folder."""
    path, before = [*sys.path], forget_laboratory()
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()  # those of two copies would be mixed
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        forget_laboratory()
        sys.modules.update(before)
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def forget_laboratory() -> dict[str, ModuleType]:
    """Return all modules of the laboratory, none of which are imported any more."""
    names = [name for name in sys.modules if name.partition(".")[0] == "trueface"]
    return {name: sys.modules.pop(name) for name in names}


def test_network_in_new_file_works_in_all_jobs(tree: Tree, tmp_path: Path) -> None:
    folders = "Fake/StyleGAN2/conf-f-psi-1", "Real/FFHQ"
    tree(f"PreSocial/{place}/{number:05}.png" for place in folders for number in range(12))
    (tmp_path / "splits").mkdir()
    for name, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        keys = [f"{place.split('/', 1)[1]}/{number:05}" for place in folders for number in numbers]
        (tmp_path / "splits" / f"{name}.json").write_text(json.dumps(keys))
    copy = tmp_path / "copy"
    installed = Path(trueface.__file__).parent
    shutil.copytree(installed, copy / "trueface")  # with its compiled files
    (copy / "trueface/models/architectures/patches.py").write_text(NETWORK)
    names: dict[str, Any] = {"lab": tmp_path}
    with laboratory_in(copy), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(PROGRAM, names)
        assert sys.modules["trueface"].__file__ == str(copy / "trueface/__init__.py")
    facts = names["facts"]
    head = ["classifier.1.bias", "classifier.1.weight"]
    assert facts["names"] == [
        "classifier.0.bias", "classifier.0.weight", *head, "norm.bias", "norm.weight",
        "patches.bias", "patches.weight",
    ]  # fmt: skip
    assert facts["frozen"] == facts["exact"] == head
    assert facts["relabel"] == len(facts["names"])
    assert facts["tested"] == 6
    assert facts["answers"] == 3
    assert len(facts["sha256"]) == 64
