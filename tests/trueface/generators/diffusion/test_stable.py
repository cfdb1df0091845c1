from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from launcher.api import Job
from tests.trueface.extras import need_extra
from tests.trueface.generators.diffusion.tiny_folder import (
    FACTOR,
    LATENT_PX,
    PROMPTS,
    TOKENS,
    WIDTH,
    write_prompts,
    write_tiny_folder,
)
from tests.trueface.jobs import build
from trueface.generators.diffusion.diffuser import (
    Diffuser,
    Prediction,
    ddim_sample,
    load_diffuser,
    save_diffuser,
)
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.diffusion.stable import import_stable, stable_folder
from trueface.generators.erasing.erasure import ErasureTask, run_erasure
from trueface.generators.erasing.methods.forget_me_not import (
    attention_loss,
    attention_map,
    concept_places,
)
from trueface.generators.erasing.registry import METHODS
from trueface.generators.jobs.diffusion_kinds import ERASE
from trueface.generators.jobs.erase import erase
from trueface.generators.jobs.stable_diffusion import import_diffuser
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, DataError, JobError

need_extra("diffusers", "transformers")
MODEL = "classes:all"
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of packages that are not ours


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("stable") / "sd")


@pytest.fixture(scope="module")
def diffuser(root: Path) -> Diffuser:
    return import_stable(stable_folder(root), PROMPTS)


def _latents(count: int) -> torch.Tensor:
    return torch.randn(count, 4, LATENT_PX, LATENT_PX, generator=torch.Generator().manual_seed(3))


def test_prompts_are_classes_and_empty_prompt_is_null(diffuser: Diffuser) -> None:
    assert diffuser.class_names == PROMPTS
    named, null = diffuser.embed(torch.arange(len(PROMPTS))), diffuser.null(2)
    assert named.shape == (len(PROMPTS), TOKENS, WIDTH)
    assert null.shape == (2, TOKENS, WIDTH)
    assert not torch.equal(named[0], named[1])
    assert torch.equal(null[0], null[1])


def test_schedule_is_read_from_the_folder(diffuser: Diffuser, root: Path) -> None:
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler.from_pretrained(root / "scheduler").alphas_cumprod
    ours = diffuser.schedule.alpha_bar[1:]
    assert torch.allclose(ours.float(), theirs, atol=1e-6)


def test_predicted_noise_equals_that_of_the_source_network(diffuser: Diffuser, root: Path) -> None:
    from diffusers import UNet2DConditionModel

    theirs = UNet2DConditionModel.from_pretrained(root / "unet", local_files_only=True).eval()
    latents, words = _latents(2), diffuser.embed(torch.tensor([0, 2]))
    with torch.no_grad():
        expected = theirs(latents, torch.tensor([0, 999]), encoder_hidden_states=words).sample
        answer = diffuser.eps(latents, torch.tensor([1, 1000]), words)
    assert torch.allclose(answer, expected, atol=1e-5)  # mapped weights differ in the last bits


def test_samples_are_guided_and_decoded_and_can_be_encoded(diffuser: Diffuser) -> None:
    words = diffuser.embed(torch.tensor([0, 1]))
    with torch.no_grad():
        latents = ddim_sample(diffuser, _latents(2), words, steps=3, guidance=2.0)
        images = diffuser.network.decode_latents(latents)
        again = diffuser.network.encode_images(images)
    assert images.shape == (2, 3, LATENT_PX * FACTOR, LATENT_PX * FACTOR)
    assert images.abs().max() <= 1
    assert again.shape == latents.shape


def test_condition_maps_are_cross_attention_keys_and_values(
    diffuser: Diffuser,
) -> None:
    maps = diffuser.network.condition_maps()
    assert len(maps) == 2 * 4  # blocks with cross-attention: down, middle, and two up
    assert {each.in_features for each in maps} == {WIDTH}


def test_vae_has_no_trainable_weights(diffuser: Diffuser) -> None:
    names = [name for name, _ in diffuser.network.named_parameters()]
    assert names
    assert not [name for name in names if name.startswith("vae.")]
    assert any(name.startswith("vae.") for name in diffuser.network.state_dict())


def test_job_writes_diffuser_that_round_trips_bit_identically(root: Path, tmp_path: Path) -> None:
    job = Job(
        name="diffuser/classes:all",
        kind="diffuser",
        run="study",
        run_folder=tmp_path / "runs/study",
        folder=tmp_path,
        attempt_folder=tmp_path,
        attempt=1,
        device="cpu",
        cpus=1,
        model="classes:all",
        data="classes:all",
    )
    prompts = write_prompts(tmp_path / "prompts.txt")
    settings = DiffuserSettings(data_root="data", weights=str(root), prompts=str(prompts))
    result = import_diffuser(job, settings)
    assert result["classes"] == len(PROMPTS)
    kept = load_diffuser(paths.checkpoint(job.model_folder("classes:all")))
    fresh = import_stable(stable_folder(root), PROMPTS)
    latents, words = _latents(1), fresh.embed(torch.tensor([1]))
    assert kept.class_names == PROMPTS
    assert torch.equal(kept.embed(torch.tensor([1])), words)
    with torch.no_grad():
        assert torch.equal(kept.eps(latents, 500, words), fresh.eps(latents, 500, words))
        assert torch.equal(
            kept.network.decode_latents(latents), fresh.network.decode_latents(latents)
        )


def test_prompts_equal_after_truncation_are_rejected(root: Path) -> None:
    long = "a photo of a photo of a photo of a "
    with pytest.raises(
        DataError, match="have the same first 24 tokens, and the text encoder reads no more"
    ):
        import_stable(stable_folder(root), (f"{long}cross", f"{long}disc"))


def test_weights_that_contradict_their_configuration_are_named(tmp_path: Path) -> None:
    root = write_tiny_folder(tmp_path / "sd")
    config = (root / "unet/config.json").read_text()
    (root / "unet/config.json").write_text(
        config.replace('"cross_attention_dim": 16', '"cross_attention_dim": 24')
    )
    with pytest.raises(CheckpointError, match="do not fit the configuration of unet"):
        import_stable(stable_folder(root), PROMPTS)


def test_checkpoint_after_erasing_is_a_stable_diffusion_checkpoint(
    diffuser: Diffuser, tmp_path: Path
) -> None:
    task = ErasureTask(erase=0, anchor=1, options=METHODS["uce"].options({}))
    erased = run_erasure("uce", diffuser, task).diffuser
    save_diffuser(tmp_path / "best.pt", erased, {})
    again = load_diffuser(tmp_path / "best.pt").network.state_dict()
    assert all(
        torch.equal(weight, again[name]) for name, weight in erased.network.state_dict().items()
    )


def _erase(base: Path, **given: object) -> Diffuser:
    """Run an erasing of the first prompt by Forget-Me-Not as a job; return its result."""
    few = {"num_steps": 3, "paths": 2, "sample_steps": 2, "lr": 2e-4}
    values = {"method": "forget-me-not", "concept": PROMPTS[0], **few, **given}
    folder = base.parents[4]
    draft = build.a_draft(
        ERASE, folder, values, model=f"{MODEL}~forget-me-not", base=MODEL, data=MODEL
    )
    erase(build.job_of(draft, ERASE))
    return load_diffuser(ERASE.outputs(draft)[0])


@pytest.fixture
def stored(diffuser: Diffuser, tmp_path: Path) -> Path:
    """Return the file of the diffuser in a run folder."""
    draft = build.a_draft(
        ERASE, tmp_path, {"method": "uce", "concept": "x"}, model=f"{MODEL}~uce", base=MODEL
    )
    path = paths.checkpoint(draft.model_folder(MODEL))
    save_diffuser(path, diffuser, {"settings": {"weights": "sd"}})
    return path


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_forget_me_not_lowers_the_attention_to_the_words(
    diffuser: Diffuser, prediction: Prediction
) -> None:
    teacher = replace(diffuser, prediction=prediction)
    given = {"concept_words": "cross", "num_steps": 5, "paths": 2, "sample_steps": 2, "lr": 2e-4}
    task = ErasureTask(erase=0, anchor=None, options=METHODS["forget-me-not"].options(given))
    places = concept_places(teacher, task)
    assert places == (9, 10, 11, 12, 13, 14)  # five letters, and one end of the text of ten
    erased = run_erasure("forget-me-not", teacher, task)
    t = torch.tensor([500])
    before, after = (
        float(attention_loss(each, _latents(1), t, task, places).detach())
        for each in (teacher, erased.diffuser)
    )
    assert after < before - 0.1
    assert 0 < erased.changed < erased.parameters


def test_attention_equals_that_of_the_source_network(diffuser: Diffuser) -> None:
    """The maps are those that diffusers multiplies with the values."""
    layer: Any = diffuser.network.cross_attentions()[0]
    pixels, text = torch.randn(1, 9, layer.to_q.in_features), diffuser.embed(torch.tensor([0]))
    queries, keys = layer.to_q(pixels), layer.to_k(text)
    heads = [layer.head_to_batch_dim(each) for each in (queries, keys)]
    expected = layer.get_attention_scores(*heads)
    assert torch.allclose(attention_map(queries, keys, layer)[0], expected, atol=1e-6)


def test_erasing_job_reads_images_of_the_concept_and_keeps_the_places(
    stored: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(DataError, match="contains no images"):
        _erase(stored, images=str(photos))
    side = LATENT_PX * FACTOR
    for number in range(2):
        PIL.Image.new("RGB", (side, side), (90 * number, 40, 200)).save(photos / f"{number}.png")
    erased = _erase(stored, images=str(photos), concept_words="cross", scope="attention")
    again = load_diffuser(stored)
    assert erased.network.token_spans == again.network.token_spans
    changed = {
        name
        for name, weight in erased.network.state_dict().items()
        if not torch.equal(weight, again.network.state_dict()[name])
    }
    assert changed
    assert all(".attn2." in name for name in changed)


def test_prompt_beyond_the_text_encoder_is_imported_and_not_erased_by_forget_me_not(
    root: Path,
) -> None:
    long = "a photo of a photo of a photo of a cross"
    diffuser = import_stable(stable_folder(root), (long, "a disc"))
    task = ErasureTask(
        erase=0, anchor=None, options=METHODS["forget-me-not"].options({"concept_words": "cross"})
    )
    with pytest.raises(JobError, match="does not read 'cross'"):
        run_erasure("forget-me-not", diffuser, task)
