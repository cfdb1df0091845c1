"""The entry function of `restored`: outputs of a generator for purified, disrupted and original images.

The `made.json` of each folder names the folder it was made from. The generator's outputs for the originals
are the same for all purifiers of a run and are cached.

If the generator itself is the defence, because of its adversarial training, its own outputs for the originals
are the reference, as in the original program. Another training alone changes outputs, so the undefended
generator gives the damage without a defence, the outputs of the Fréchet distance, and `reference_mse`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from launcher.api import Job, JobError, Json, write_atomic, write_json
from trueface.generators import image_measures as feature_networks
from trueface.generators.image_measures import (
    feature_network,
    fraction_above,
    frechet_distance,
    l1,
    linf,
    mse,
    psnr,
    ssim,
)
from trueface.generators.made_folders import (
    MADE,
    ImageFolderWriter,
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    partners,
    read_output_record,
    save_picture,
)
from trueface.generators.purification.disruption_settings import RestoredSettings
from trueface.generators.purification.registry import NONE, PurifierName, parse_purifier
from trueface.generators.translation import translator as translators
from trueface.generators.translation.detector_set import original_of
from trueface.generators.translation.disruption import generate_outputs
from trueface.generators.translation.translator import (
    Translator,
    flip_each_attribute,
    labels_of,
    load_translator,
)
from trueface.jobs.job_data import checkpoint_of, output_folder_of_job
from trueface.jobs.setup import entry, run_context
from trueface.runtime import paths, tensor_files
from trueface.runtime.digests import file_digest, sha256_hex
from trueface.runtime.errors import DataError

Facts = Mapping[str, Json]
KEPT = ".outputs"  # in the folder of a run's made folders
CODE = tuple(Path(str(module.__file__)) for module in (translators, feature_networks))
MOST_BYTES = 1 << 26  # bytes of outputs, which are held in memory; beyond, nothing is kept
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
class FolderChain:
    """Three folders of the same images in the same order of names, and the settings of each step between them."""

    purified: Path
    source: Path  # the purified images' source: disrupted images, or originals
    original: Path
    names: tuple[str, ...]
    sources: tuple[str, ...]
    originals: tuple[str, ...]
    purification: Facts
    disruption: Facts = field(default_factory=dict)  # empty where originals were purified

    @property
    def is_clean(self) -> bool:
        """Whether originals were purified, which measures the cost of a purifier on clean images."""
        return not self.disruption

    @property
    def attack(self) -> Mapping[str, Json]:
        """The settings of the disruption; none where originals were purified."""
        return _settings(self.disruption)

    @property
    def purifier(self) -> PurifierName:
        """The purifier of the images."""
        return parse_purifier(str(_settings(self.purification)["purifier"]))

    @property
    def attacked_purifier(self) -> str:
        """The purifier through which the attack went; "": none."""
        random = self.attack.get("attack") == "random"
        return "" if random else str(self.attack.get("purifier", ""))

    @property
    def is_adaptive(self) -> bool:
        """Whether the attack went through this very purifier, with the same models."""
        return bool(self.attacked_purifier) and self._went_through_purifier()

    def _went_through_purifier(self) -> bool:
        if (self.attacked_purifier or NONE) != self.purifier.text:
            return False
        purification = _settings(self.purification)
        return all(self.attack[model] == purification[model] for model in self.purifier.needs)

    def describe_knowledge(self, translator: str, reference: str) -> tuple[str, bool]:
        """Return what of a defence the attack knows, "" for nothing, and whether it knows all of it.

        Args:
            translator: model ID of the generator whose outputs are measured.
            reference: model ID of the undefended generator; "" if `translator` is undefended.
        """
        attacked = str(self.attack.get("translator", ""))
        if not reference or self.attack.get("attack") in {None, "random"}:
            return self.attacked_purifier, self.is_adaptive
        known = (attacked if attacked != reference else "", self.attacked_purifier)
        knows_all = attacked == translator and self._went_through_purifier()
        return ", ".join(filter(None, known)), knows_all


def read_chain(purified_folder: Path, resolve: Callable[[str], Path]) -> FolderChain:
    """Return the folders that a purified one comes from.

    Args:
        purified_folder: the folder.
        resolve: gives the place of a path as a `made.json` names it.

    Raises:
        DataError: the folder was not purified, a partner is missing, or the source images have changed
            since the purification.
    """
    facts = _read_maker_facts(purified_folder, "purify")
    source = resolve(str(facts["source"]))
    disruption = _read_maker_facts(source, "disrupt") if (source / MADE).is_file() else {}
    original = original_of(source, resolve)
    names = image_names(purified_folder)
    sources, originals = partners(source, names), partners(original, names)
    if facts.get("source_digest") != digest_of(source, sorted(sources)):
        raise DataError(
            f"the images in {source} differ from the images that {purified_folder} was made of. Purify it again."
        )
    return FolderChain(
        purified=purified_folder,
        source=source,
        original=original,
        names=names,
        sources=sources,
        originals=originals,
        purification=facts,
        disruption=disruption,
    )


def _read_maker_facts(folder: Path, kind: str) -> Facts:
    facts = read_output_record(folder)
    if facts.get("kind") != kind or not isinstance(facts.get("settings"), dict):
        raise DataError(
            f"{folder} was made by {facts.get('kind')}, not by {kind}. The source of restored is a folder "
            "that purify made of original or disrupted images."
        )
    return facts


def _settings(facts: Facts) -> Mapping[str, Json]:
    settings = facts.get("settings")
    return settings if isinstance(settings, dict) else {}


@entry(RestoredSettings)
def measure_restored_outputs(job: Job, settings: RestoredSettings) -> Mapping[str, Json]:
    """Measure the generator's outputs of the job's purified images; write measures and pictures.

    A stopped job leaves no files; the next attempt starts again.
    """
    chain = read_chain(job.path(settings.source), job.path)
    measuring = _Measuring(job, settings, chain)
    with output_folder(output_folder_of_job(job)) as writer:
        measuring.all_images(writer)
        facts = measuring.facts()
        write_json(writer.root / paths.METRICS, facts)
        write_atomic(writer.root / IMAGES, measuring.columns_file())
        writer.write_output_record(
            {
                "kind": "restored",
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "images": len(chain.names),
            }
        )
    summary = facts["summary"]
    return dict(summary) if isinstance(summary, dict) else {}


class _Measuring:
    """Outputs of three folders, batch after batch, and the measures of each image."""

    def __init__(self, job: Job, settings: RestoredSettings, chain: FolderChain) -> None:
        self.job, self.settings, self.chain = job, settings, chain
        self.translator = load_translator(checkpoint_of(job, settings.translator), job.device)
        self.reference = self.translator  # gives the outputs of the originals
        if settings.reference:
            self.reference = _load_reference(job, settings, self.translator)
        self.weights = job.path(settings.feature_weights) if settings.feature_weights else None
        self.network = feature_network(settings.features, self.weights, device=job.device)
        _, own = labels_of(chain.original, chain.originals, self.translator.labels)
        self.labels = flip_each_attribute(own, self.translator.labels)  # S×N×K
        self.measured: dict[str, list[Tensor]] = {}
        self.features: tuple[list[Tensor], list[Tensor]] = [], []  # originals, purified images

    def all_images(self, writer: ImageFolderWriter) -> None:
        """Measure all images, batch by batch. The first ones also become a picture.

        Raises:
            DataError: an image cannot be read, or has another size than the translator's.
            JobError: stopped.
        """
        job, chain, rows = self.job, self.chain, []
        missing = 0 if chain.is_clean else TILES
        known = self._load_or_make_outputs()
        for part in run_context(job).batches(len(chain.names), self.settings.batch_size):
            images = [
                self._images(folder, names, part)
                for folder, names in (
                    (chain.original, chain.originals),
                    (chain.source, chain.sources),
                    (chain.purified, chain.names),
                )
            ]
            outputs = self._outputs(images, part, known)
            own = outputs[0]
            if self.settings.reference:
                own = self._translate_part(images[0], part, self.translator)
                self._add({"reference_mse": effect(outputs[0], outputs[2])["mse"]})
            self._add(effect(own, outputs[2]))
            self._add(effect(outputs[0], outputs[1]), "unpurified_")
            self._add({"psnr": psnr(images[0], images[2]), "ssim": ssim(images[0], images[2])})
            self.features[1].append(self._features(outputs[2]))
            if known is None:
                self.features[0].append(self._features(outputs[0]))
            if missing:
                # the outputs are those with the first attribute flipped
                original, source, purified = (batch[:missing] for batch in images)
                of_original, of_source, of_purified = (batch[0, :missing] for batch in outputs)
                rows.append(
                    grid((original, source, purified), (of_original, of_source, of_purified))
                )
                missing -= min(missing, len(images[0]))
        if rows:
            save_picture(writer.root / GRID, torch.cat(rows, dim=1))

    def facts(self) -> dict[str, Json]:
        """Return the content of `metrics.json`: the measures and the folders they belong to."""
        chain = self.chain
        purification, disruption, attack = chain.purification, chain.disruption, chain.attack
        summary, unpurified = (
            {name: self._mean(prefix + name) for name in ("mse", "l1", "linf", *further)}
            | {"share": fraction_above(self._column(f"{prefix}mse"))}
            for prefix, further in (("", ("psnr", "ssim")), ("unpurified_", ()))
        )
        if self.settings.reference:
            summary["reference_mse"] = self._mean("reference_mse")
        through, is_adaptive = chain.describe_knowledge(
            self.settings.translator, self.settings.reference
        )
        first, second = map(torch.cat, self.features)
        summary["frechet"] = frechet_distance(first, second) if len(first) > 1 else None
        return {
            "schema": SCHEMA,
            "purifier": chain.purifier.label(),
            "attack": attack.get("attack", ""),
            "target": attack.get("target", ""),
            "over": attack.get("over", ""),
            "adaptive": is_adaptive,
            "through": through,
            "gradient": disruption.get("gradient", ""),
            "eps": disruption.get("eps"),
            "seed": purification.get("seed"),
            "attack_seed": disruption.get("seed"),
            "purifier_settings": {
                name: _settings(purification).get(name) for name in chain.purifier.needs
            },
            "attack_settings": {}
            if attack.get("attack") in {None, "random"}
            else {name: attack.get(name) for name in ("steps", "step_size", "eot")},
            "translator": self.settings.translator,
            **({"reference": self.settings.reference} if self.settings.reference else {}),
            "labels": list(self.translator.labels),
            "images": len(chain.names),
            "net_calls": purification.get("net_calls"),
            "seconds": purification.get("seconds"),
            "summary": {**summary},
            "unpurified": {**unpurified},
            "delta": {name: disruption.get(name) for name in ("linf", "rms", "eps_levels")},
            "features": {"network": self.network.name, "samples": len(first)},
            "grid": [] if chain.is_clean else list(COLUMNS),
        }

    def columns_file(self) -> bytes:
        """Return the measures of each image as a file of numpy."""
        content = io.BytesIO()
        columns: dict[str, Any] = {name: self._column(name).numpy() for name in self.measured}
        np.savez_compressed(content, names=np.array(self.chain.names), **columns)
        return content.getvalue()

    def _load_or_make_outputs(self) -> Tensor | None:
        """Return the outputs of the originals, S×N×3×H×W, read where another job of the run has made them.

        Their features are cached as well. None if there are too many outputs to keep in memory.
        """
        sets, count = self.labels.shape[:2]
        if sets * count * 3 * self.translator.size**2 * 4 > MOST_BYTES:
            return None
        path = self.job.run_folder / paths.OUTPUTS_FOLDER / KEPT / f"{self._key()}.pt"
        try:
            content = tensor_files.load(path)
            outputs, features = content["outputs"], content["features"]
        except (FileNotFoundError, tensor_files.BrokenFileError, KeyError, TypeError):
            parts = []
            for start in range(0, count, self.settings.batch_size):
                part = slice(start, start + self.settings.batch_size)
                images = self._images(self.chain.original, self.chain.originals, part)
                parts.append(self._translate_part(images, part, self.reference).cpu())
            outputs = torch.cat(parts, dim=1)
            features = self._features(outputs.to(self.job.device))
            tensor_files.save(path, {"outputs": outputs, "features": features})
        self.features[0].append(features)
        kept: Tensor = outputs
        return kept

    def _key(self) -> str:
        """Return a digest of all that decides the outputs and their features."""
        files = [checkpoint_of(self.job, self.settings.reference or self.settings.translator)]
        files += [] if self.weights is None else [self.weights]
        return sha256_hex(
            digest_of(self.chain.original, self.chain.originals),
            self.labels.numpy().tobytes(),
            self.settings.features,
            *(file_digest(path) for path in (*CODE, *files)),
        )

    def _outputs(
        self, images: Sequence[Tensor], part: slice, known_labels: Tensor | None
    ) -> list[Tensor]:
        """Return the outputs of originals, sources and purified images; those of equal images are made once."""
        first = None if known_labels is None else known_labels[:, part].to(self.job.device)
        by = (self.reference, self.reference, self.translator)
        outputs = [self._translate_part(images[0], part, by[0]) if first is None else first]
        for at in (1, 2):
            equal = (
                no for no in range(at) if by[no] is by[at] and torch.equal(images[no], images[at])
            )
            same = next(equal, None)
            outputs.append(
                self._translate_part(images[at], part, by[at]) if same is None else outputs[same]
            )
        return outputs

    def _translate_part(self, images: Tensor, part: slice, translator: Translator) -> Tensor:
        return generate_outputs(translator, images, self.labels[:, part].to(self.job.device))

    def _images(self, folder: Path, names: Sequence[str], part: slice) -> Tensor:
        return load_image_batch(folder, names[part], size=self.translator.size).to(self.job.device)

    def _features(self, outputs: Tensor) -> Tensor:
        return self.network(outputs.flatten(0, 1)).cpu()

    def _add(self, values: Mapping[str, Tensor], prefix: str = "") -> None:
        for name, column in values.items():
            self.measured.setdefault(prefix + name, []).append(column.cpu())

    def _column(self, name: str) -> Tensor:
        return torch.cat(self.measured[name])

    def _mean(self, name: str) -> float | None:
        """Return the mean over images (for PSNR: over images that differ), or None if there is no finite value."""
        values = self._column(name)
        finite = values[torch.isfinite(values)]
        return float(finite.mean()) if len(finite) else None


def _load_reference(job: Job, settings: RestoredSettings, translator: Translator) -> Translator:
    """Return the undefended translator.

    Raises:
        JobError: it changes other attributes than the translator, or images of another size.
    """
    reference = load_translator(checkpoint_of(job, settings.reference), job.device)
    made_for = [
        f"{', '.join(each.labels)} of {each.size} pixels" for each in (reference, translator)
    ]
    if made_for[0] != made_for[1]:
        raise JobError(
            f"{settings.reference} changes {made_for[0]}, but {settings.translator} changes {made_for[1]}. "
            "Use translators of the same images and attributes."
        )
    return reference


def effect(of_originals: Tensor, of_others: Tensor) -> Mapping[str, Tensor]:
    """Return mse, l1 and linf of each image's outputs, (N,) each: the mean over sets of labels.

    Args:
        of_originals: S×N×C×H×W, outputs of the generator for the originals under each set of labels.
        of_others: S×N×C×H×W, outputs for the images that replace them.
    """
    pairs = list(zip(of_originals, of_others, strict=True))
    return {
        measure.__name__: torch.stack([measure(*pair) for pair in pairs]).mean(0)
        for measure in (mse, l1, linf)
    }


def grid(images: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return one picture of tiles without margins: one row per image, the columns of `COLUMNS`.

    Args:
        images: original, disrupted, purified, N×C×H×W in [-1, 1] each.
        outputs: outputs of the generator for each, N×C×H×W in [-1, 1].
    """
    original, disrupted, purified = images
    delta = DELTA * (disrupted - original)
    tiles = (original, outputs[0], disrupted, delta, outputs[1], purified, outputs[2])
    rows = torch.cat(tiles, dim=3)  # N×C×H×7W
    return torch.cat(list(rows), dim=1)  # C×NH×7W
