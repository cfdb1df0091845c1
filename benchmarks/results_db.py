"""How long `launcher results --db` takes for a run of 10,000 tests; noisy machine.

python -m benchmarks.results_db [TESTS]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Row, machine, publish
from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.context import current_context
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import NewJob, Store
from launcher.system.files import Json
from trueface.data.settings import TestSettings
from trueface.evaluation import results
from trueface.evaluation.results import KEPT, KEPT_SCHEMA
from trueface.runtime import paths
from trueface.runtime.files import write_json
from trueface.training.history import Epoch, write_history
from trueface.training.settings import TrainSettings

TESTS, A_MODEL, SEEDS, EPOCHS = 10_000, 20, 5, 12
TARGET_S = 5.0
METRICS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "ap", "eer", "tpr_at_1fpr",
    "ece", "loss",
)  # fmt: skip


def models(count: int) -> Iterator[tuple[str, int, float]]:
    """Yield IDs of models with seed and learning rate: a sweep."""
    for number in range(count):
        seed, lr = number % SEEDS, 0.001 * (1 + number // SEEDS)
        yield f"gan2:pre@lr={lr:g},seed={seed}", seed, lr


def write_run(root: Path, count: int) -> list[Spec]:
    """Write what trainings and tests leave, and return their jobs."""
    run = root / "runs" / "sweep"
    tests = [f"set{number}:pre" for number in range(A_MODEL)]
    train = TrainSettings(data_root="data", split_path="splits").model_dump(mode="json")
    test = TestSettings(data_root="data", split_path="splits").model_dump(mode="json")
    specs, rows, scores = [], [], {}
    for model, seed, lr in models(count // A_MODEL):
        folder = run / model
        epochs = [
            Epoch(
                epoch=number + 1, lr=lr, loss=1 / (number + 1), accuracy=0.9, val_loss=0.5,
                val_accuracy=0.8, val_balanced_accuracy=0.8, seconds=1.5, images_per_s=200.0,
            )
            for number in range(EPOCHS)
        ]  # fmt: skip
        write_history(paths.history(folder), epochs)
        write_json(paths.summary(folder), {"seconds": 20.0}, durable=False)
        settings = {**train, "lr": lr, "seed": seed}
        specs.append(
            Spec(name=f"train/{model}", kind="train", role="train", model=model, data="gan2:pre",
                 settings=settings, run="sweep", root=str(root))
        )  # fmt: skip
        paths.scores(folder, model, tests[0]).parent.mkdir(parents=True)
        for data in tests:
            path = paths.scores(folder, model, data)
            path.touch()
            specs.append(
                Spec(name=f"test/{model} on {data}", kind="test", role="test", model=model, data=data,
                     settings=test, run="sweep", root=str(root))
            )  # fmt: skip
            rows.append(a_row(model, data))
            scores[model, data] = results._state(path)  # noqa: SLF001  # the rows are measured already
    mark = results._mark(run, scores)  # noqa: SLF001
    write_json(run / KEPT, {"schema": KEPT_SCHEMA, "mark": mark, "rows": list(rows)}, durable=False)
    return specs


def a_row(model: str, data: str) -> dict[str, Json]:
    """Return a row of the table of results."""
    value: Json = {"value": 0.9, "low": 0.85, "high": 0.95}
    return {
        "model": model, "method": "train", "data": data, "modifier": "pre", "condition": "",
        "pooled": False, "n": 600, **dict.fromkeys(METRICS, value), "threshold": 0.1,
        "temperature": 1.2, "sources": {"real": 2, "fake": 2}, "few_sources": "2 real sources",
        "confusion": [[250, 50], [50, 250]], "verdict": "", "reason": "", "reasons": {},
        "data_root": None, "seconds": 20.0,
    }  # fmt: skip


def queue(home: Home, root: Path, specs: list[Spec]) -> None:
    """Put the jobs into a queue as if they had been done."""
    make_home(home)
    store = Store(home, durable=False)
    context = current_context({})
    with store.database.writing():
        run = store.ensure_run(root, "sweep")
        new = [NewJob(spec=spec, state=State.DONE) for spec in specs]
        numbers = store.insert_new(run, context, new, time.time())
        store.database.executemany(
            "INSERT INTO attempts (job, number, boot, device, cpus, claimed, ended, outcome, reason_code)"
            """ VALUES (?, 1, '', 'cpu', 1, 1, 9, '{"schema": 1, "ending": "done"}', 'done')""",
            [(number,) for number in numbers],
        )
        store.database.executemany(
            "INSERT INTO results (job, at, body) VALUES (?, 9, ?)",
            [(number, '{"n": 600, "accuracy": 0.9, "auc": 0.95}') for number in numbers],
        )
        store.database.execute("UPDATE jobs SET attempts = 1, ended = 9")
    store.close()


def seconds(*words: str, environment: dict[str, str]) -> float:
    """Return how long a command of the command line takes."""
    start = time.perf_counter()
    argv = [str(Path(sys.executable).parent / "launcher"), *words]
    subprocess.run(argv, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main(count: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = Home(folder / "home")
        queue(home, folder, write_run(folder, count))
        environment = {
            **os.environ,
            "LAUNCHER_HOME": str(home.folder),
            "LAUNCHER_CONFIG": os.devnull,
        }
        path = str(folder / "results.sqlite")
        writing = ("results", "sweep", "--db", path)
        first = seconds(*writing, environment=environment)
        again = seconds(*writing, environment=environment)
        size = Path(path).stat().st_size / 1e6
        asked = seconds(
            "query", "--db", path, "select lr, avg(auc) from results group by lr",
            environment=environment,
        )  # fmt: skip
        over = seconds("results", "sweep", "--over", "seed", "--json", environment=environment)
        rows = [
            Row(what=f"results --db, {count:,} tests, s", ours=first, goal=TARGET_S, target=f"≤ {TARGET_S:g} s"),
            Row(what="once more, nothing new, s", ours=again),
            Row(what="query over all of it, s", ours=asked),
            Row(what="results --over seed --json, s", ours=over),
            Row(what="size of the file, MB", ours=size),
        ]  # fmt: skip
    print(machine(), end="\n\n")
    publish(rows, "screens")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TESTS)
