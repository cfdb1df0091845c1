"""A study of poisoned labels from end to end: ours, ours without the store, and that of the original.

python -m benchmarks.study [--json]

It has two seeds. Each has three trainings of a frozen network's last layer (0, 20 and 50 % of the labels
flipped). Each poisoned model is unlearned four times: two retrainings, and two that train it further. All
eleven models are tested. This is tasks/poison_faces.yaml at a size that ends in a quarter of an hour.

    ours: `launcher run` in an empty queue folder with an empty cache.

    no store: The same with `cache: none`. Every job computes its own features.

    original: One process per job. It reads, decodes, augments and passes every image in every epoch.
        The number of concurrent jobs, images, weights, flipped labels and settings are the same.

The images are the faces in the folder next to the project if it exists, otherwise synthetic images.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.study_ways import BIN, RUN, Material, Study, run_original, run_ours
from benchmarks.table import Row, draw, machine, publish
from trueface.data.made.sample import SampleSpec, make_sample

SHARED = Path(__file__).parents[2] / "shared" / "data"
FACES = SHARED / "faces"
WEIGHTS = SHARED / "weights" / "mobilenet_v2_imagenet_tv_fp16.pt"
FACES_EACH = 260  # photographs, and as many generated faces
SHARES = "0.562,0.112"  # fractions of them for training and validation; the rest is for testing
TARGET, STORE_TARGET = 6.0, 4.0


def material(folder: Path) -> Material:
    """Return images with a split; synthetic ones are made where there are no faces."""
    if FACES.is_dir() and WEIGHTS.is_file():
        splits = folder / "splits"
        options = ["--seed", "1", "--shares", SHARES, "--subsample", str(FACES_EACH)]
        subprocess.run(
            [BIN / "trueface", "splits", FACES, "--out", splits, *options],
            check=True, stdout=subprocess.DEVNULL, timeout=300,
        )  # fmt: skip
        return Material(root=FACES, splits=splits, weights=str(WEIGHTS))
    root = folder / "images"
    make_sample(root, SampleSpec(seed=1, size_px=256, train=146, val=29, test=85))
    return Material(root=root, splits=root / "splits", weights="none")


def tell(text: str) -> None:
    """Say what was done, beside the answer."""
    print(text, file=sys.stderr, flush=True)


def warm_up(images: Material) -> None:
    """Read the packages and the images once: no way pays for the first reading from the disk."""
    subprocess.run(
        [sys.executable, "-c", "import torch, torchvision, trueface.training.trainer"],
        check=True, timeout=300,
    )  # fmt: skip
    for file in images.root.rglob("*"):
        if file.is_file():
            file.read_bytes()


def studies(folder: Path) -> dict[str, Study]:
    """Run the study in each way; return them by name."""
    images = material(folder)
    warm_up(images)
    ours = run_ours(folder / "ours", images)
    tell(f"ours: {ours.seconds:.0f} s")
    alone = run_ours(folder / "alone", images, "--set", "cache=none")
    tell(f"no store: {alone.seconds:.0f} s")
    original = run_original(folder / "original", images, folder / "ours" / "runs" / RUN)
    tell(f"original: {original.seconds:.0f} s")
    return {"ours": ours, "no store": alone, "original": original}


def agreeing(ours: Study, original: Study) -> bool:
    """Return whether all accuracies lie inside each other's intervals."""
    if set(ours.accuracies) != set(original.accuracies):
        raise ValueError(f"{sorted(ours.accuracies)} are not {sorted(original.accuracies)}")
    return all(
        ours.accuracies[model].agrees(accuracy) for model, accuracy in original.accuracies.items()
    )


def time_rows(ways: dict[str, Study]) -> list[Row]:
    """Return how long the study takes with the store and without it."""
    ours, alone, original = (ways[name].seconds for name in ("ours", "no store", "original"))
    return [
        Row(
            what="study, s", ours=ours, peers={"original": original}, beside="original",
            target=f"≤ 1/{TARGET:.0f} of the original",
        ),
        Row(
            what="study without the store, s", ours=alone, peers={"with the store": ours},
            beside="with the store", target=f"≥ {STORE_TARGET:.0f} × with the store",
        ),
    ]  # fmt: skip


def accuracy_rows(ways: dict[str, Study]) -> list[Row]:
    """Return the accuracies of each model in all ways, in percent."""
    ours, original = ways["ours"], ways["original"]
    rows = []
    for model, accuracy in ours.accuracies.items():
        others = {
            name: 100 * way.accuracies[model].value for name, way in ways.items() if name != "ours"
        }
        low, high = (100 * limit for limit in original.accuracies[model].interval())
        what = f"{model}, accuracy % (original {low:.1f} to {high:.1f})"
        rows.append(Row(what=what, ours=100 * accuracy.value, peers=others))
    return rows


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(*, as_json: bool) -> None:
    """Run the study in three ways, and print how long each takes."""
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        ways = studies(Path(folder).resolve())
    ours, alone, original = ways["ours"], ways["no store"], ways["original"]
    ratio, store_ratio = original.seconds / ours.seconds, alone.seconds / ours.seconds
    agree = agreeing(ours, original)
    if as_json:
        result = {
            "ratio": ratio,
            "store_ratio": store_ratio,
            "accuracies_agree": agree,
            "seconds": {name: way.seconds for name, way in ways.items()},
            "accuracies": {
                model: {name: way.accuracies[model].value for name, way in ways.items()}
                for model in ours.accuracies
            },
        }
        print(json.dumps(result))
        return
    print(machine())
    publish(time_rows(ways), "lab")
    print(draw(accuracy_rows(ways)))
    words = "lie" if agree else "do not all lie"
    print(f"{ratio:.1f} × the original's way, {store_ratio:.1f} × from the store alone")
    print(f"the accuracies of ours and the original {words} inside each other's intervals")


if __name__ == "__main__":
    main()
