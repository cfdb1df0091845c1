"""What a generator makes of the originals, and its features: the same for all purifiers of a run, so kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from launcher.api import Job
from trueface.data.made.folders import digest_of, read_images
from trueface.disruption.objectives import outputs_of
from trueface.disruption.settings import RestoredSettings
from trueface.evaluation import image_measures as feature_networks
from trueface.evaluation.image_measures import FeatureNetwork
from trueface.jobs.generation.disrupting.chain import Chain
from trueface.runtime import paths, tensor_files
from trueface.translation import networks
from trueface.translation.translator import Translator

KEPT = ".outputs"  # beside the made folders of a run
CODE = tuple(Path(str(module.__file__)) for module in (networks, feature_networks))
MOST_BYTES = 1 << 26  # of outputs, which are held in memory; beyond, nothing is kept


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
    path = job.run_folder / "made" / KEPT / f"{key}.pt"
    try:
        content = tensor_files.load(path)
        return Reference(outputs=content["outputs"], features=content["features"])
    except (FileNotFoundError, tensor_files.BrokenFileError, KeyError, TypeError):
        made = _made(job, settings, chain, translator, network, labels)
        tensor_files.save(path, {"outputs": made.outputs, "features": made.features})
        return made


def _made(
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
    files = [paths.checkpoint(job.model_folder(settings.translator))]
    if settings.feature_weights:
        files.append(job.path(settings.feature_weights))
    digest = hashlib.sha256(digest_of(chain.original, chain.originals).encode())
    digest.update(labels.numpy().tobytes())
    digest.update(settings.features.encode())
    for path in (*CODE, *files):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
