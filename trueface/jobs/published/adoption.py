"""The entry function of `checkpoint`: from a published file to a checkpoint of the lab."""

from collections.abc import Mapping
from dataclasses import replace

from launcher.api import Job, Json
from trueface.data.loading.preprocessing import Preprocessing
from trueface.data.settings import PREPROCESSING
from trueface.evaluation.operating_threshold import Calibration
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import entry, job_provenance, write_facts
from trueface.models import model_file
from trueface.models.published_checkpoints import PARAMETERS, read_published, read_published_parts
from trueface.models.published_settings import PublishedSettings
from trueface.runtime import paths
from trueface.runtime.tensor_files import cached_sha256


@entry(PublishedSettings)
def adopt(job: Job, settings: PublishedSettings) -> Mapping[str, Json]:
    """Write a published network as the job's model, with its origin and preprocessing."""
    folder = folder_of(job)
    files = {name: job.path(file) for name, file in settings.weight_files.items()}
    paths.make_folder(folder, job.model or "")
    base = job.path(settings.base_weights) if settings.base_weights else None
    if "" in files:
        kept = read_published(files[""], settings, base)
    else:
        kept = read_published_parts(files, settings)
    found = dict(kept.provenance)
    parameters = found.pop(PARAMETERS)
    digests = [cached_sha256(path) for path in files.values()]
    preprocessing = Preprocessing(
        crop=settings.crop,
        resize=settings.resize,
        squash=settings.squash,
        interpolation=settings.interpolation,
        resize_side=settings.resize_side,
    )
    facts: dict[str, Json] = {
        **found,
        "weights_sha256": ",".join(digests),
        **({} if base is None else {"base_weights_sha256": cached_sha256(base)}),
        PREPROCESSING: preprocessing.json_record,
        "calibration": Calibration(threshold=settings.threshold_logit).json_record,
    }
    source = job_provenance(job, settings, **facts)
    result: dict[str, Json] = {
        "architecture": settings.architecture,
        PARAMETERS: parameters,
        "logits": settings.logits,
        "weights_sha256": facts["weights_sha256"],
        **{name: found[name] for name in ("key", "prefix", "ignored_tensors")},
    }
    write_facts(folder, source, result)
    model_file.save(paths.checkpoint(folder), replace(kept, provenance=source))
    return result
