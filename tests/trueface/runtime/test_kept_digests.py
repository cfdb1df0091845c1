"""Digests and random streams have the values of earlier versions: records, caches and results depend on them."""

import platform
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from trueface.attacks import perturb
from trueface.attacks.registry import Attack
from trueface.benchmark import cells
from trueface.corruptions.chain import Chain
from trueface.data import class_images, examples, folders, image_headers
from trueface.data.forging import forged_set, plan
from trueface.data.forging.blending import SelfBlending
from trueface.data.index import Image
from trueface.data.loading import shared_images, transforms
from trueface.data.loading.pass_order import epoch_order
from trueface.data.made import sample
from trueface.data.quality_feed import QualityTransform
from trueface.data.settings import AugmentationSettings, DrawSettings
from trueface.data.splits import equal_files, near_duplicates, splitting
from trueface.data.splits import split_files as splits
from trueface.evaluation import inference, results
from trueface.features import file_digests, matrix, store
from trueface.generators import made_folders
from trueface.generators.drawn_set import _plan
from trueface.generators.erasing import recovery
from trueface.generators.jobs import restoration
from trueface.models import inference as backbones
from trueface.poisoning import poison_record
from trueface.prediction import model_folder
from trueface.runtime import paths, rng, stepping
from trueface.runtime.files import Json
from trueface.unlearning import cache, image_source

NAME = "Real/é\udcff.png"  # a file name that is not UTF-8
FACTS: dict[str, Json] = {"b": [2.5, None], "a": "é"}
IMAGES = [Image(f"{n}.png", f"m/{n % 3}/{n}", n % 2, "m", "pre") for n in range(12)]
AUGMENTATION = AugmentationSettings(
    data_root="d", split_path="s", resize_size=16, blur_prob=0.5, jpeg_prob=0.5
)
LISTS = {"train": [f"a/{n}" for n in range(8)], "test": [f"b/{n}" for n in range(4)]}


def constant(module: nn.Module) -> nn.Module:
    for value in module.parameters():
        nn.init.constant_(value, 0.5)
    return module


def short(value: object) -> str:
    return stepping.values_fingerprint(value)[:16]


def fake(**values: Any) -> Any:
    return SimpleNamespace(**values)


def detector() -> Any:
    module = nn.Module()
    module.network = constant(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2, 1)))
    module.spec = fake(head="2")
    return module


def source(identity: str = "photos") -> Any:
    return fake(identity=identity)


def loader(*names: str) -> Any:
    images = [fake(name=name, file=f"/nowhere/{name}") for name in names]
    transform = fake(id=fake(identity={"size": 32}))
    return fake(dataset=fake(images=images, stamped={2, 1}, transform=transform))


def settings(**values: Any) -> Any:
    return fake(model_dump=lambda mode: values)


DIGESTS: dict[str, tuple[Callable[[], object], object]] = {
    "log": (lambda: paths.fit_file_name("é" * 200, ".log")[-18:], "é.df20b2aa6262.log"),
    "steps": (
        lambda: stepping.values_fingerprint(FACTS),
        "d9160b84375e7c2f8cc1227d14dfac3d78f1d5d6fb15331369199dbe0490d811",
    ),
    "order of attacks": (
        lambda: inference._place(NAME).hex(),
        "af20b12175b4f1293b70c240b660c2896175a83ce0febd30b0b780358473175c",
    ),
    "model folder": (
        lambda: model_folder._digest(FACTS),
        "2e912e1a4a257da344aefbbbe9758b135fb7a674d7d744e6cc0f15b2cbff797a",
    ),
    "features": (
        lambda: store.stem_of({"body_sha256": "0" * 64, "view": 1}),
        "0000000000000000-2c4fd5c7c6ec3c6295662ae4e2a40b38-v1",
    ),
    "row of features": (
        lambda: store.row_keys(
            fake(
                transform=fake(id=fake(row_identity={"x": "own"}, is_test=False)),
                images=[fake(name=NAME)],
                stamped={0},
            ),
            [0],
            [b"1"],
        )[0].hex(),
        "8a392f2e21257b83916298c0151f8070f5e67f02fc05c59c12fa4919f8748182",
    ),
    "manifest": (
        lambda: (
            cells.Manifest(
                entries=(
                    cells.Entry(
                        path="Real/é", key="é", sha256="00", label=0, source="é", modifier="pre"
                    ),
                )
            ).sha256
        ),
        "e9bdb48c1cb2f2b8332de48fdf71d3b5ac3771c44fbec3f4aabb82c4c69dcf1c",
    ),
    "cell": (
        lambda: cells.identity_of(FACTS),
        "d9160b84375e7c2f8cc1227d14dfac3d78f1d5d6fb15331369199dbe0490d811",
    ),
    "source of examples": (
        lambda: image_source.identity_of(
            loader("a"), loader("é"), settings(decode="scaled", seed=3)
        ),
        "2205f1db6ecb30d258cf417e3d0d672b2ceb6cbd80c7e40351a00dcca6999eb2",
    ),
    "model": (
        lambda: cache.fingerprint(constant(nn.Linear(2, 2))),
        "243f55dc98bec104e70269011ce6780f554545cfd9005b0950033a049f9af926",
    ),
    "tensors": (
        lambda: cache.fingerprint({"é": torch.arange(3)}),
        "1f3922e650ff81051a0a33716413756a9efeec71856e3daa10ae05251c8b727a",
    ),
    "tensor": (
        lambda: examples._tensor_digest(torch.arange(3.0)),
        "e975d8cb618032dc3829e9072de60f6b96fed0ce6bf20a6de80dbc46653b50ab",
    ),
    "examples": (
        lambda: (
            examples.Examples(source=source(), positions=(1, 2), trained=(0, 1), true=None).identity
        ),
        "91c18a2d73c37c0a5dba5934449be871ae95375bb02891350b30779b8ef05da9",
    ),
    "pictures and classes": (
        lambda: made_folders.digest_of_images(
            torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2), torch.tensor([1]), ["é"]
        ),
        "b08a25a087192fe4bbffdb963273539c4b029e3eb9346e72f1619b975df4a970",
    ),
    "list of classes": (
        lambda: (
            class_images.ClassImageList(
                torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2), (1,), ("é",)
            ).sha256
        ),
        "ae30e795e3bf039ffac387a208ca6dc6a17b496715cae83dd7b73bf58e8b87f0",
    ),
    "list for a face": (
        lambda: [plan._draw_list(fake(path=f"{n}.png")) for n in range(9)],
        ["train", "train", "train", "train", "test", "train", "train", "train", "train"],
    ),
    "order of faces": (
        lambda: plan._rank(fake(path=NAME), 3)[0].hex(),
        "b1b955d2718b4903420c7c8e622ad738d51c601b2612553562e15f3c2b127760",
    ),
    "split": (
        lambda: splits.keys_digest([NAME, "a"]),
        "a60dfe099ec7b16437652ff4cdd51878e6f1fcf330768670f1a2d33e50dc76c9",
    ),
    "tables of a JPEG": (lambda: image_headers._mark({1: [3, 2], 0: (1,)}), "396a00e1"),
    "poisoned set": (
        lambda: poison_record.fingerprint([fake(name=NAME), fake(name="a")]),
        "69588bbb618fb332d6152794036489bdd90f1fba41a266c2dbf2cfaaa1ee8ea4",
    ),
    "backbone": (
        lambda: backbones.fingerprint(detector()),
        "16f140011bc8afba629e93ecaa9cff64f9ce71209468e8542d9700c2f2da8ee6",
    ),
}

STREAMS: dict[str, tuple[Callable[[], object], object]] = {
    "seed": (lambda: rng.stream_seed("weights", 42), 1218831237610215275),
    "torch": (lambda: rng.torch_rng("weights", 42).initial_seed(), 1218831237610215275),
    "numpy": (lambda: rng.numpy_rng("order", 1).random(), 0.6145956947527392),
    "numpy by name": (lambda: rng.numpy_rng(f"forge/3/{NAME}").random(), 0.18778862981499145),
    "python": (lambda: rng.python_rng("forget", 3).random(), 0.4333728358048956),
    "python by name": (lambda: rng.python_rng("order/3/2").random(), 0.37830341815756263),
    "python by seed": (lambda: rng.seeded_python_rng(42).random(), 0.6394267984578837),
    "numpy by seed": (lambda: rng.seeded_numpy_rng(24).random(), 0.3302688366693154),
    "numpy by seeds": (lambda: rng.seeded_numpy_rng([103, 97, 110]).random(), 0.7355968422255635),
    "order": (lambda: epoch_order(range(8), shuffle_seed=3, epoch=2), [7, 0, 3, 5, 1, 4, 2, 6]),
    "balanced order": (
        lambda: epoch_order(range(6), shuffle_seed=3, epoch=2, cells=[0, 0, 0, 0, 1, 1]),
        [2, 5, 4, 0, 1, 5],
    ),
    "corruption": (
        lambda: int(
            Chain.parse("noise10")(torch.full((3, 8, 8), 100, dtype=torch.uint8), "é").sum()
        ),
        19398,
    ),
    "strength": (
        lambda: str(transforms.matched_chains(IMAGES, 3)["pre:m/0/3"]),
        "noise2.23",
    ),
    "augmentation": (
        lambda: str(
            transforms.TrainTransform(settings=AUGMENTATION, seed=3).parameters(
                32, 32, IMAGES[0], 2
            )
        ),
        "AugmentationParams(crop=None, sigma=0.5, quality=None, mirrored=False, turned=False, patch=None)",
    ),
    "quality": (
        lambda: [
            QualityTransform.choice(
                fake(qualities=range(9), _stream=lambda image, epoch: f"{image.name}/{epoch}"),
                image,
                1,
            )
            for image in IMAGES[:4]
        ],
        [2, 7, 8, 8],
    ),
    "attack": (
        lambda: perturb._generator(Attack("square", 4), NAME).initial_seed(),
        8596068221654780603,
    ),
    "sample": (
        lambda: sample._stream(
            fake(seed=3), sample.Picture(folder="Real/F", stem="00001", split="train"), "fb"
        ).random(),
        0.5325338977107955,
    ),
    "self-blending": (
        lambda: [SelfBlending(0.5).makes_fake(image, f"3/{image.name}") for image in IMAGES],
        [True, False, False, False, True, False, True, False, True, False, False, False],
    ),
    "noise of an image": (
        lambda: made_folders.PerImageRNG(["a/é.png"], 3).normal("x", torch.zeros(1, 2)).tolist(),
        [[1.552518606185913, -0.5429254770278931]],
    ),
    "lists": (lambda: short(splitting.make_splits(IMAGES, seed=3)), "8322f9e9126f898c"),
    "lists of the original": (
        lambda: short(splitting.make_splits(IMAGES, seed=3, stratify=False)),
        "d0ec0b4c63558aa0",
    ),
    "lists of groups": (
        lambda: short(
            splitting.make_splits(
                IMAGES, seed=3, groups={image.key: image.key[:3] for image in IMAGES}
            )
        ),
        "ade0d6f1b2aa7b83",
    ),
    "lists of cells": (
        lambda: short(
            splitting.make_splits(
                IMAGES, seed=3, cells={image.key: image.key[-1] for image in IMAGES}
            )
        ),
        "2b32c08570982670",
    ),
    "smaller lists": (
        lambda: short(splitting.subsample(LISTS, amount=Fraction(1, 2), seed=3)),
        "deab61c631fd1862",
    ),
}


def file_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(platform, "node", lambda: "machine")
    monkeypatch.setattr(shared_images, "version", lambda package: "1")
    monkeypatch.setattr(folders, "cache_folder", lambda: folder)
    monkeypatch.setattr(results, "code_digest", lambda *modules: "code")
    monkeypatch.setattr(restoration, "CODE", ())
    monkeypatch.setattr(results, "KEPT_SCHEMA", 7)
    monkeypatch.setattr(recovery, "SCHEMA", 2)
    monkeypatch.setattr(shared_images, "SCHEMA", 1)
    monkeypatch.setattr(restoration, "checkpoint_of", lambda job, name: folder / "a")
    (folder / "a").write_bytes(b"content")
    picture = PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    picture.save(folder / "b.png")
    labels = torch.tensor([[0, 1]])
    chain = fake(original=folder, originals=["a"])
    job = fake(
        chain=chain,
        labels=labels,
        weights=None,
        job=None,
        settings=fake(features="own", reference=None, translator="t"),
    )
    recovery.load_or_make_curve(folder, ("é", 1), lambda: ())
    cache.Cache(folder, examples.CostCounter()).tensors("features", ("é", "1"), dict)
    shard = matrix.OpenShard(None, (b"k" * 32,), np.ones((1, 2), matrix.FLOAT), 1.0)
    face = fake(path="é.png", split="train", file=folder / "a", columns={"b": "1", "a": "2"})
    appearance = near_duplicates.read_appearance(str(folder / "b.png"))
    assert not isinstance(appearance, str)
    (folder / "pictures").mkdir()
    for name in "abc":
        (folder / f"pictures/{name}.png").write_bytes(b"content")
    listing = folders.open_listing(Path("/nowhere/é"))._file
    written = matrix.write_shard(folder, "stem", {"a": "é"}, shard).path
    assert listing is not None
    assert written is not None
    drawing = DrawSettings(data_root="d", content="resized", source="pictures", images=3, size=8)
    return {
        "recovery": next((folder / "cache").iterdir()).name,
        "cached tensors": next(folder.glob("features-*.pt")).name,
        "listing": listing.name,
        "end of a file": equal_files._end(equal_files.LabelledFile(str(folder / "a"), 7, 0)).hex(),
        "pictures": made_folders.digest_of(folder, ["a"]),
        "decoded pixels": shared_images._decoding(None),
        "forged set": forged_set._digest(fake(table=fake(faces=[face]))),
        "pixels": appearance.pixels.hex(),
        "table of results": results._mark(folder, {}),
        "restored outputs": restoration._Measuring._key(job),
        "drawn set": _plan(drawing, folder / "pictures", None).facts["source_sha256"],
        "shard": written.name,
        "machine": file_digests._machine(),
    }


FILES = {
    "recovery": "recovery-e05be6e5c8755d5a4a18.json",
    "cached tensors": "features-05970587cf8fc9a2acd3.pt",
    "listing": "8c027673f1573a9bb03abf3e7c02ad9a.index",
    "end of a file": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    "pictures": "b248614acb3c609db997b64076e16f2575a5dcf01c529525282f04fab70568d3",
    "decoded pixels": "3ac1e3f97d55b311",
    "forged set": "f745b1da487bb055ba785c3cfa6204431ea1dc7a18ced601bf407966c2ae595b",
    "pixels": "44a180d46ca97f4b0326fefcfdf40c445fb6a16157e3830342ad6668f76160f4",
    "table of results": "0922e411a9cc58ac03abbcb67f5dabdeee4f11f7ffdcdfde018f2036dcae4e23",
    "restored outputs": "890e5138266be57a82a20b8326a8e7ff814c2870c7d160d39d40b0660272ba25",
    "drawn set": "9e518137a7f99fa1cda71ebabd5affe1377af5dc6f5ced0b15baa8867b81d63e",
    "shard": "stem-7b2a3f0188dc2e01e6d74b382bd0dc67be062fa71797062662986593c5a6dab5.features",
    "machine": "bc020a35b7f9",
}


@pytest.mark.parametrize(("make", "value"), DIGESTS.values(), ids=DIGESTS)
def test_digest_of_values_is_kept(make: Callable[[], object], value: object) -> None:
    assert make() == value


@pytest.mark.parametrize(("make", "value"), STREAMS.values(), ids=STREAMS)
def test_random_stream_is_kept(make: Callable[[], object], value: object) -> None:
    assert make() == value


def test_digests_of_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_values(tmp_path, monkeypatch) == FILES
