"""A run with results, in a laboratory of its own."""

import json
from pathlib import Path

import pytest

from launcher.ids import model_folder_name
from launcher.queue.store.queue import Store
from tests.build import a_spec, enqueue, finished
from tests.launcher.results.scored_toys import EPOCHS, KINDS, SCORES
from tests.launcher.test_kinds import install

RUN = "test"
DATA = ("dot:pre", "ring:pre", "dot:pre@tilt=3")


@pytest.fixture
def scored(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run of six models, two learning rates and three seeds, with their tests."""
    site = tmp_path / "site"
    module = "tests.launcher.results.scored_toys"
    install(site, "scoredlab", {kind: f"{module}:{name}" for kind, name in KINDS.items()})
    monkeypatch.syspath_prepend(str(site))
    root = tmp_path / "project"
    for rate in (0.1, 0.2):
        for seed in range(3):
            with_model(store, root, f"line:pre@lr={rate},seed={seed}", rate, seed)
    return root / "runs" / RUN


def with_model(store: Store, root: Path, model: str, rate: float, seed: int) -> None:
    """Queue a training and its tests as done, and write what they leave."""
    folder = root / "runs" / RUN / model_folder_name(model)
    folder.mkdir(parents=True)
    values = {data: rate + seed / 10 + at / 100 for at, data in enumerate(DATA)}
    (folder / SCORES).write_text(json.dumps(values))
    (folder / EPOCHS).write_text(json.dumps([0.5, 0.25]))
    settings = {"lr": rate, "seed": seed, "model": "tiny", "threads": seed}
    train = a_spec(
        name=f"scoredtrain/{model}",
        kind="scoredtrain",
        role="train",
        model=model,
        data="line:pre",
        settings=settings,
        root=str(root),
    )
    tests = [
        a_spec(
            name=f"scoredtest/{model}/{data}",
            kind="scoredtest",
            role="test",
            model=model,
            data=data.partition("@")[0],
            settings={"crops": 1, "tilt": 3 if "@" in data else 0},
            root=str(root),
        )
        for data in DATA
    ]
    for job in enqueue(store, train, *tests, root=root):
        finished(store, job)
