"""All sentences about a job that must not run, in their order, for jobs that break several rules.

`python -m tests.trueface.jobs.test_rule_order` writes the file again after an intended change.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launcher.api import Draft
from launcher.experiments.kinds import installed_kinds
from tests.trueface.jobs import build

GOLDEN = Path(__file__).parents[2] / "data/golden/refusals.json"
LAB = Path("/no/such/lab")
CLEAN, FLIPPED = "gan2:pre&real:pre", "gan2:pre&real:pre%50"
PLACES = {"data_root": "data", "split_path": "splits"}


class Case(NamedTuple):
    kind: str
    settings: dict[str, Any]
    facts: dict[str, Any]
    makers: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = ()


TRAINED = (
    "train",
    {**PLACES, "save_weights": False, "decode": "scaled"},
    {"model": CLEAN, "data": CLEAN},
)
FAIR = (
    "train",
    {**PLACES, "fair": "dro", "attributes": "faces.csv"},
    {"model": FLIPPED, "data": CLEAN},
)
DIFFUSER = (
    "diffuser",
    {"data_root": "data", "drop": 0, "t_max": 100, "without": "disc"},
    {"model": "classes:all"},
)
CLASSIFIED = ("classify", {"data_root": "data", "size": 64, "seed": 1}, {"model": "cifar10:all"})
FORGOTTEN = (
    "forget",
    {"data_root": "data", "method": "rl", "forget_fraction": 0.1},
    {"model": "cifar10:all~rl"},
)
MODEL = {"model": CLEAN, "data": CLEAN}
CASES = {
    "train/processes": Case("train", {**PLACES, "processes": 3, "freeze": True, "compile": True, "batch_size": 2}, {**MODEL, "gpus": 2}),
    "train/objective": Case("train", {**PLACES, "processes": 2, "fair": "daw", "objective": "mix"}, MODEL),
    "train/base": Case("train", {**PLACES, "optimizer_state": "kept", "select": "worst-cell"}, MODEL, (TRAINED,)),
    "train/shots": Case("train", {**PLACES, "shots": 4, "fair": "dro"}, {**MODEL, "base": CLEAN}, (TRAINED,)),
    "train/ridge": Case("train", {**PLACES, "solver": "ridge", "fair": "dro", "features": True, "processes": 2, "qualities": "raw, jpeg75", "awp": 0.1}, {**MODEL, "model": FLIPPED, "base": CLEAN}, (TRAINED,)),
    "train/parts": Case("train", {**PLACES, "shots": 4, "collab": 0.1, "qualities": "raw, jpeg75", "freeze": True, "compile": True, "features": True, "fair": "mix"}, {**MODEL, "model": FLIPPED, "gpus": 2}),
    "train/qualities": Case("train", {**PLACES, "qualities": "raw, files:c23", "decode": "scaled", "collab": 0.1, "quality_batch": "mixed", "batch_size": 2, "freeze": True, "compile": True}, MODEL),
    "train/list": Case("train", {**PLACES, "qualities": "raw, jpeg75", "quality_list": "data.json", "dropout": 0.5, "processes": 2}, MODEL),
    "train/network": Case("train", {**PLACES, "objective": "fairnet", "model": "slim18", "freeze": True}, MODEL),
    "train/body": Case("train", {**PLACES, "objective": "fairnet", "model": "fairnet", "weights": "none", "freeze": True, "processes": 2}, MODEL),
    "train/device": Case("train", {**PLACES, "processes": 2}, {**MODEL, "device": "cuda"}),
    "unlearn/all": Case("unlearn", {**PLACES, "method": "npo", "objective": "mix", "select": "worst-cell", "sbi": 0.5, "known": 0, "save_weights": True}, {**MODEL, "model": "gan2:pre%100~npo", "base": "gan2:pre%100"}, (TRAINED, FAIR)),
    "unlearn/flipped": Case("unlearn", {**PLACES, "method": "scrub", "sbi": 0.5}, {**MODEL, "model": "gan2:pre%100~scrub", "base": "gan2:pre%100"}),
    "unlearn/base": Case("unlearn", {**PLACES, "method": "scrub"}, {**MODEL, "model": f"{FLIPPED}~scrub", "base": FLIPPED}, (TRAINED,)),
    "unlearn/clean": Case("unlearn", {**PLACES, "method": "npo", "select": "worst-cell"}, {**MODEL, "model": f"{CLEAN}~npo", "base": CLEAN}),
    "unlearn/find": Case("unlearn", {**PLACES, "method": "pgu", "known": 0.1, "find": True, "keep_retain": False, "sbi": 0.1}, {**MODEL, "model": f"{FLIPPED}~pgu", "base": FLIPPED}),
    "unlearn/half": Case("unlearn", {**PLACES, "method": "scrub", "precision": "fp16"}, {**MODEL, "model": f"{FLIPPED}~scrub", "base": FLIPPED}),
    "test/surrogate": Case("test", {**PLACES, "attack": "transfer8", "surrogate": CLEAN}, {**MODEL, "gpus": 2}, (TRAINED,)),
    "benchmark/surrogate": Case("benchmark", {**PLACES, "attack": ["transfer8", "none"], "setting": "white"}, {**MODEL, "gpus": 2}, (TRAINED,)),
    "poison/kind": Case("poison", PLACES, {**MODEL, "model": f"{CLEAN}%other-50"}),
    "checkpoint/all": Case("checkpoint", {"architecture": "tv/resnet18", "weights": "theirs.pth"}, {"model": "published:a%50", "data": "published:a", "base": "gan2:pre", "gpus": 2}),
    "classify/all": Case("classify", {"data_root": "data"}, {"model": "cifar11:all%50", "data": "cifar11:all", "base": "cifar10:all", "gpus": 2}),
    "forget/base": Case("forget", {"data_root": "data", "method": "relabel"}, {"model": "cifar10:all%50~relabel", "data": "cifar10:all", "base": "cifar10:all"}, (CLASSIFIED,)),
    "forget/again": Case("forget", {"data_root": "data", "method": "rl"}, {"model": "cifar10:all~rl~rl", "data": "cifar10:all", "base": "cifar10:all~rl"}, (CLASSIFIED, FORGOTTEN)),
    "forget/half": Case("forget", {"data_root": "data", "method": "rl", "precision": "fp16"}, {"model": "cifar10:all~rl", "data": "cifar10:all", "base": "cifar10:all"}),
    "translator/base": Case("translator", {"data_root": "data"}, {"model": "labelled:A", "data": "labelled:A", "base": "labelled:A"}),
    "translate/none": Case("translate", {"source": "a", "translator": ""}, {"name": "t", "gpus": 2}),
    "purify/models": Case("purify", {"source": "a", "purifier": "dae+oneshot10"}, {"name": "p"}),
    "purify/steps": Case("purify", {"source": "a", "purifier": "oneshot10", "diffuser": "images:A"}, {"name": "p"}, (("diffuser", {"data_root": "d", "t_max": 5}, {"model": "images:A"}),)),
    "purify/kind": Case("purify", {"source": "a", "purifier": "dae", "denoiser": "images:A"}, {"name": "p"}, (("diffuser", {"data_root": "d"}, {"model": "images:A"}),)),
    "disrupt/models": Case("disrupt", {"source": "a", "translator": "", "purifier": "dae+oneshot10"}, {"name": "d"}),
    "disrupt/steps": Case("disrupt", {"source": "a", "translator": "labelled:A", "purifier": "oneshot10", "diffuser": "images:A"}, {"name": "d"}, (("diffuser", {"data_root": "d", "t_max": 5}, {"model": "images:A"}),)),
    "restored/models": Case("restored", {"source": "a", "translator": "", "features": "squeezenet"}, {"name": "r"}),
    "diffuser/classes": Case("diffuser", {"data_root": "data", "drop": 0.1, "without": "disc"}, {"model": "images:A%50", "data": "images:A", "base": "images:A"}),
    "erase/images": Case("erase", {"method": "uce", "concept": "disc"}, {"model": "images:A~uce", "data": "images:A", "base": "images:A"}, (DIFFUSER,)),
    "erase/trained": Case("erase", {"method": "abo", "concept": "disc", "anchor": "ring"}, {"model": "classes:all~abo", "data": "classes:all", "base": "classes:all"}, (DIFFUSER,)),
    "sample/gpus": Case("sample", {"data_root": "data"}, {"name": "s", "gpus": 4}),
}  # fmt: skip


def draft_of(kind: str, settings: dict[str, Any], facts: dict[str, Any]) -> Draft:
    """Return a job as it is planned."""
    return build.a_draft(installed_kinds([kind])[kind], LAB, settings, **facts)


def refusals(case: Case) -> list[str]:
    """Return the sentences about a job of one of the cases."""
    makers = [draft_of(*maker) for maker in case.makers]
    kind = installed_kinds([case.kind])[case.kind]
    return list(kind.refusals(draft_of(case.kind, case.settings, case.facts), makers))


@pytest.mark.parametrize("name", CASES)
def test_sentences_about_broken_rules_and_their_order_stay(name: str) -> None:
    assert refusals(CASES[name]) == json.loads(GOLDEN.read_text(encoding="utf-8"))[name]


if __name__ == "__main__":
    text = json.dumps({name: refusals(case) for name, case in CASES.items()}, indent=1)
    GOLDEN.write_text(f"{text}\n", encoding="utf-8")
