"""The entry function of `restored`: what a generator makes of purified images, of disrupted and of original ones.

The way back from a purified folder is told by the `made.json` of each; what the generator makes of the originals
is the same for all purifiers of a run, and kept.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from launcher.api import Job, Json, write_atomic, write_json
from trueface.data.made_folders import (
    MADE,
    MadeFolder,
    digest_of,
    image_names,
    made_folder,
    partners,
    read_images,
    read_made,
    save_picture,
)
from trueface.disruption.attack import outputs_of
from trueface.disruption.settings import RestoredSettings
from trueface.evaluation import image_measures as feature_networks
from trueface.evaluation.image_measures import (
    FeatureNetwork,
    feature_network,
    frechet_distance,
    l1,
    linf,
    mse,
    psnr,
    share_above,
    ssim,
)
from trueface.jobs.setup import checkpoint_of, entry, made_folder_of, watch_of
from trueface.purification.grammar import PurifierName, parse_purifier
from trueface.runtime import paths, tensor_files
from trueface.runtime.errors import DataError
from trueface.translation import translator as translators
from trueface.translation.detector_set import original_of
from trueface.translation.labels import flipped, labels_of
from trueface.translation.translator import Translator, load_translator

Facts = Mapping[str, Json]
KEPT = ".outputs"  # beside the made folders of a run
CODE = tuple(Path(str(module.__file__)) for module in (translators, feature_networks))
MOST_BYTES = 1 << 26  # of outputs, which are held in memory; beyond, nothing is kept
SCHEMA = 1
IMAGES = "images.npz"  # the measures of each image
GRID = "grid.png"
TILES = 8  # images that it shows


DELTA = 10  # times which the perturbation is shown, around mid grey
COLUMNS = (
    "original",
    "G(original)",
    "disrupted",
    f"delta x{DELTA}",
    "G(disrupted)",
    "purified",
    "G(purified)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Three folders of the same images, by names in the same order, and what was done from one to the next."""

    purified: Path
    source: Path  # what was purified: disrupted images, or originals
    original: Path
    names: tuple[str, ...]
    sources: tuple[str, ...]
    originals: tuple[str, ...]
    purification: Facts
    disruption: Facts = field(default_factory=dict)  # empty where originals were purified

    @property
    def is_clean(self) -> bool:
        """Whether originals were purified: what a purifier costs where nothing was disrupted."""
        return not self.disruption

    @property
    def attack(self) -> Mapping[str, Json]:
        """The settings of the disruption; none where originals were purified."""
        return _settings(self.disruption)

    @property
    def purifier(self) -> PurifierName:
        """What purified the images."""
        return parse_purifier(str(_settings(self.purification)["purifier"]))

    @property
    def through(self) -> str:
        """The purifier through which the attack went; "": none."""
        random = self.attack.get("attack") == "random"
        return "" if random else str(self.attack.get("purifier", ""))

    @property
    def is_adaptive(self) -> bool:
        """Whether the attack went through this very purifier, with the same models."""
        if not self.through or self.through != self.purifier.text:
            return False
        purification = _settings(self.purification)
        return all(self.attack[model] == purification[model] for model in self.purifier.needs)


def chain_of(purified: Path, resolve: Callable[[str], Path]) -> Chain:
    """Return the folders that a purified one comes from.

    Args:
        purified: the folder.
        resolve: gives the place of a path as a `made.json` names it.

    Raises:
        DataError: it is no purified folder, a partner is missing, or the images that were purified
            have changed since.
    """
    facts = _made_by(purified, "purify")
    source = resolve(str(facts["source"]))
    disruption = _made_by(source, "disrupt") if (source / MADE).is_file() else {}
    original = original_of(source, resolve)
    names = image_names(purified)
    sources, originals = partners(source, names), partners(original, names)
    if facts.get("source_digest") != digest_of(source, sorted(sources)):
        raise DataError(
            f"{source} holds other images than those of which {purified} was made; purify it again"
        )
    return Chain(
        purified=purified,
        source=source,
        original=original,
        names=names,
        sources=sources,
        originals=originals,
        purification=facts,
        disruption=disruption,
    )


def _made_by(folder: Path, kind: str) -> Facts:
    facts = read_made(folder)
    if facts.get("kind") != kind or not isinstance(facts.get("settings"), dict):
        raise DataError(
            f"{folder} was made by {facts.get('kind')}, not by {kind}: restored reads what purify made of "
            "originals or of what disrupt made"
        )
    return facts


def _settings(facts: Facts) -> Mapping[str, Json]:
    settings = facts.get("settings")
    return settings if isinstance(settings, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Outputs of the originals, and their features."""

    outputs: Tensor  # S×N×3×H×W
    features: Tensor  # S·N×F


def reference_of(
    job: Job,
    settings: RestoredSettings,
    chain: Chain,
    translator: Translator,
    network: FeatureNetwork,
    labels: Tensor,
) -> Reference | None:
    """Return the outputs of the originals, read where another job of the run has made them.

    Args:
        job: that measures.
        settings: its settings.
        chain: the images.
        translator: the generator.
        network: of the features.
        labels: S×N×K.

    Returns:
        On the CPU; None where there are too many to be held.
    """
    values = labels.shape[0] * labels.shape[1] * 3 * translator.size**2
    if values * 4 > MOST_BYTES:
        return None
    key = _key(job, settings, chain, labels)
    path = job.run_folder / paths.MADE / KEPT / f"{key}.pt"
    try:
        content = tensor_files.load(path)
        return Reference(outputs=content["outputs"], features=content["features"])
    except (FileNotFoundError, tensor_files.BrokenFileError, KeyError, TypeError):
        made = _reference(job, settings, chain, translator, network, labels)
        tensor_files.save(path, {"outputs": made.outputs, "features": made.features})
        return made


def _reference(
    job: Job,
    settings: RestoredSettings,
    chain: Chain,
    translator: Translator,
    network: FeatureNetwork,
    labels: Tensor,
) -> Reference:
    outputs = []
    for start in range(0, len(chain.originals), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        images = read_images(chain.original, chain.originals[part], size=translator.size)
        wanted = labels[:, part].to(job.device)
        outputs.append(outputs_of(translator, images.to(job.device), wanted).cpu())
    whole = torch.cat(outputs, dim=1)
    features = network(whole.flatten(0, 1).to(job.device)).cpu()
    return Reference(outputs=whole, features=features)


def _key(job: Job, settings: RestoredSettings, chain: Chain, labels: Tensor) -> str:
    """Return a digest of all that decides the outputs and their features."""
    files = [checkpoint_of(job, settings.translator)]
    if settings.feature_weights:
        files.append(job.path(settings.feature_weights))
    digest = hashlib.sha256(digest_of(chain.original, chain.originals).encode())
    digest.update(labels.numpy().tobytes())
    digest.update(settings.features.encode())
    for path in (*CODE, *files):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(slots=True)
class Measured:
    """Measures of each image, batch after batch."""

    columns: dict[str, list[Tensor]] = field(default_factory=dict)
    of_originals: list[Tensor] = field(default_factory=list)  # features of the outputs
    of_purified: list[Tensor] = field(default_factory=list)

    def add(self, values: Mapping[str, Tensor], prefix: str = "") -> None:
        """Keep the measures of a batch's images."""
        for name, column in values.items():
            self.columns.setdefault(prefix + name, []).append(column.cpu())

    def column(self, name: str) -> Tensor:
        """Return one measure of all images, (N,)."""
        return torch.cat(self.columns[name])


@entry(RestoredSettings)
def restored(job: Job, settings: RestoredSettings) -> Mapping[str, Json]:
    """Measure the generator's outputs of the job's purified images; write measures and pictures.

    A stop leaves nothing behind; the next attempt begins anew.
    """
    chain = chain_of(job.path(settings.source), job.path)
    translator = load_translator(checkpoint_of(job, settings.translator), job.device)
    weights = job.path(settings.feature_weights) if settings.feature_weights else None
    network = feature_network(settings.features, weights, device=job.device)
    with made_folder(made_folder_of(job)) as made:
        measured = _measured(job, settings, chain, translator, network, made)
        facts = _facts(settings, chain, translator, network.name, measured)
        write_json(made.root / paths.METRICS, facts)
        _write_columns(made.root / IMAGES, chain.names, measured)
        made.record(
            {
                "kind": "restored",
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "images": len(chain.names),
            }
        )
    summary = facts["summary"]
    return dict(summary) if isinstance(summary, dict) else {}


def _measured(
    job: Job,
    settings: RestoredSettings,
    chain: Chain,
    translator: Translator,
    network: FeatureNetwork,
    made: MadeFolder,
) -> Measured:
    """Measure all images, batch by batch; the first ones are drawn, too.

    Raises:
        DataError: an image cannot be read, or has another size than the translator's.
        JobError: stopped.
    """
    _, own = labels_of(chain.original, chain.originals, translator.labels)
    every = flipped(own, translator.labels)  # K×N×K
    measured, rows, missing = Measured(), [], 0 if chain.is_clean else TILES
    reference = reference_of(job, settings, chain, translator, network, every)
    if reference is not None:
        measured.of_originals.append(reference.features)
    for part in watch_of(job).batches(len(chain.names), settings.batch_size):
        labels = every[:, part].to(job.device)
        images = [
            read_images(folder, names[part], size=translator.size).to(job.device)
            for folder, names in (
                (chain.original, chain.originals),
                (chain.source, chain.sources),
                (chain.purified, chain.names),
            )
        ]
        known = None if reference is None else reference.outputs[:, part].to(job.device)
        outputs = _outputs(translator, images, labels, known)
        measured.add(effect(outputs[0], outputs[2]))
        measured.add(effect(outputs[0], outputs[1]), "unpurified_")
        measured.add({"psnr": psnr(images[0], images[2]), "ssim": ssim(images[0], images[2])})
        measured.of_purified.append(network(outputs[2].flatten(0, 1)).cpu())
        if reference is None:
            measured.of_originals.append(network(outputs[0].flatten(0, 1)).cpu())
        if missing:
            rows.append(_drawn(images, outputs, missing))
            missing -= min(missing, len(images[0]))
    if rows:
        save_picture(made.root / GRID, torch.cat(rows, dim=1))
    return measured


def _outputs(
    translator: Translator, images: Sequence[Tensor], labels: Tensor, known: Tensor | None
) -> list[Tensor]:
    """Return the outputs of originals, sources and purified images; those of equal images are made once."""
    made = [outputs_of(translator, images[0], labels) if known is None else known]
    for at in (1, 2):
        same = next((no for no in range(at) if torch.equal(images[no], images[at])), None)
        made.append(outputs_of(translator, images[at], labels) if same is None else made[same])
    return made


def _drawn(images: Sequence[Tensor], outputs: Sequence[Tensor], most: int) -> Tensor:
    """Return a picture of the first images; the outputs are those with the first attribute flipped."""
    original, source, purified = (batch[:most] for batch in images)
    of_original, of_source, of_purified = (batch[0, :most] for batch in outputs)
    return grid((original, source, purified), (of_original, of_source, of_purified))


def _facts(
    settings: RestoredSettings,
    chain: Chain,
    translator: Translator,
    network: str,
    measured: Measured,
) -> dict[str, Json]:
    """Return what `metrics.json` says: what was measured of what."""
    purification, disruption, attack = chain.purification, chain.disruption, chain.attack
    summary: dict[str, Json] = {
        name: _mean(measured.column(name)) for name in ("mse", "l1", "linf", "psnr", "ssim")
    }
    unpurified: dict[str, Json] = {
        name: _mean(measured.column(f"unpurified_{name}")) for name in ("mse", "l1", "linf")
    }
    summary["share"] = share_above(measured.column("mse"))
    unpurified["share"] = share_above(measured.column("unpurified_mse"))
    features = torch.cat(measured.of_originals), torch.cat(measured.of_purified)
    summary["frechet"] = frechet_distance(*features) if len(features[0]) > 1 else None
    return {
        "schema": SCHEMA,
        "purifier": chain.purifier.label(),
        "attack": attack.get("attack", ""),
        "target": attack.get("target", ""),
        "over": attack.get("over", ""),
        "adaptive": chain.is_adaptive,
        "through": chain.through,
        "gradient": disruption.get("gradient", ""),
        "eps": disruption.get("eps"),
        "seed": purification.get("seed"),
        "attack_seed": disruption.get("seed"),
        "translator": settings.translator,
        "labels": list(translator.labels),
        "images": len(chain.names),
        "net_calls": purification.get("net_calls"),
        "seconds": purification.get("seconds"),
        "summary": summary,
        "unpurified": unpurified,
        "delta": {name: disruption.get(name) for name in ("linf", "rms", "eps_levels")},
        "features": {"network": network, "samples": len(features[0])},
        "grid": [] if chain.is_clean else list(COLUMNS),
    }


def _mean(values: Tensor) -> float | None:
    """Return the mean over images; of PSNR over those that differ; None where none does."""
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _write_columns(path: Path, names: Sequence[str], measured: Measured) -> None:
    content = io.BytesIO()
    columns: dict[str, Any] = {name: measured.column(name).numpy() for name in measured.columns}
    np.savez_compressed(content, names=np.array(names), **columns)
    write_atomic(path, content.getvalue())


def effect(of_originals: Tensor, of_others: Tensor) -> Mapping[str, Tensor]:
    """Return mse, l1 and linf of each image's outputs, (N,) each: the mean over sets of labels.

    Args:
        of_originals: S×N×C×H×W, what the generator makes of the originals under each set of labels.
        of_others: likewise of the images that stand in their place.
    """
    pairs = list(zip(of_originals, of_others, strict=True))
    return {
        measure.__name__: torch.stack([measure(*pair) for pair in pairs]).mean(0)
        for measure in (mse, l1, linf)
    }


def grid(images: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return one picture of tiles without margins: a row an image, the columns of `COLUMNS`.

    Args:
        images: original, disrupted, purified, N×C×H×W in [-1, 1] each.
        outputs: what the generator makes of each, likewise.
    """
    original, disrupted, purified = images
    delta = DELTA * (disrupted - original)
    tiles = (original, outputs[0], disrupted, delta, outputs[1], purified, outputs[2])
    rows = torch.cat(tiles, dim=3)  # N×C×H×7W
    return torch.cat(list(rows), dim=1)  # C×NH×7W
