"""PGU against the numbers of the authors' program (arXiv 2312.04095) on a small network.

The program's own loops ran outside this repository: `compute_svd`, `compute_retain_svd`, the choice of directions
and three steps of unlearn.py, unlearn_class.py and depoisoning.py, the last one without its scale. All inputs are
the sines below, so that both programs see the same numbers. The file has the mean loss of each step, the norms of
the first projected gradients, the numbers of protected directions and the weights after three steps. The largest
differences were 2.4e-7 for a loss, 2.1e-7 for a weight, and 7e-7 of the norm of a gradient.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trueface.data.examples import examples
from trueface.unlearning.api import UnlearningReport, run
from trueface.unlearning.registry import Goal
from trueface.unlearning.subspaces import CovarianceAccumulator, layers_of, principal_subspace

NUMBERS = json.loads(
    (Path(__file__).parents[3] / "data/pgu_authors_program.json").read_text(encoding="utf-8")
)
FORGOTTEN = 8  # the first ones of 24 images
SETTINGS: dict[str, Any] = {
    "lr": 0.2,
    "lr_end": 0.2,
    "batch_size": FORGOTTEN,
    "weight_decay": 0.01,
    "clip": 0.0,
    "retained": 0.8,
    "positions": 1000,  # all of them
    "stop_rule": "class",  # with most_loss it stops only where nothing is left
    "most_loss": 1.0,
}
# name of the authors' run: goal and settings
CASES: dict[str, tuple[Goal, dict[str, Any]]] = {
    "instances": ("instances", {}),
    "class": ("instances", {"rule": "class"}),
    "flips": ("flips", {}),
    "two_classes": ("flips", {"loss": "max_entropy"}),
}
CLASSES = {"instances": 4, "class": 4, "flips": 4, "two_classes": 2}


def sines(*shape: int, rate: float) -> Tensor:
    count = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(rate * count**1.1).reshape(shape).float()


def make_network(classes: int) -> nn.Sequential:
    network = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, classes, bias=False),
    )
    with torch.no_grad():
        for at, weight in enumerate(network.parameters()):
            weight.copy_(0.6 * sines(*weight.shape, rate=0.7 + 0.1 * at))
    return network.eval()


def unlearn(name: str, *, epochs: int) -> UnlearningReport:
    goal, settings = CASES[name]
    labels = torch.tensor(NUMBERS[name]["labels"])
    network, inputs = make_network(CLASSES[name]), sines(24, 2, 4, 4, rate=1.3)
    assert torch.equal(network(inputs).argmax(1), labels)
    true = (labels + 1) % CLASSES[name] if goal == "flips" else labels
    retain = examples(inputs[FORGOTTEN:], labels[FORGOTTEN:])
    return run(
        "pgu",
        network,
        forget=examples(inputs[:FORGOTTEN], labels[:FORGOTTEN], true[:FORGOTTEN]),
        retain=retain,
        validation=retain,
        options={**SETTINGS, **settings, "epochs": epochs},
        goal=goal,
        force=True,
    )


def counts_of_directions(name: str) -> list[int]:
    """Return how many directions of each layer are protected."""
    network = make_network(CLASSES[name])
    retained = sines(24, 2, 4, 4, rate=1.3)[FORGOTTEN:]
    sums = CovarianceAccumulator(layers_of(network), most=1000)
    sums.positions = torch.arange(len(retained))
    with torch.no_grad(), sums.accumulate_inputs():
        network(retained)
    more = int(name == "class")
    spaces = [principal_subspace(found, 0.8, "s", more) for found in sums.found.values()]
    return [space.protected[0] for space in spaces]


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_the_authors_program(name: str) -> None:
    wanted = NUMBERS[name]
    assert counts_of_directions(name) == wanted["counts"]
    done = unlearn(name, epochs=3)
    losses = [step.metrics["loss"] for step in done.log[1:-1]]
    assert losses == pytest.approx(wanted["losses"], abs=5e-6)
    for weight, value in zip(done.model.parameters(), wanted["weights"], strict=True):
        assert weight.detach().flatten().tolist() == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize("name", CASES)
def test_first_projected_gradients_are_those_of_the_authors_program(name: str) -> None:
    done = unlearn(name, epochs=1)
    starts = make_network(CLASSES[name]).parameters()
    lengths = [
        float((weight - start).detach().norm()) / SETTINGS["lr"]
        for weight, start in zip(done.model.parameters(), starts, strict=True)
    ]
    assert lengths == pytest.approx(NUMBERS[name]["projected_gradient_norms"], rel=1e-5)
