"""The training of a denoiser."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.purification.build import normal, smooth_images
from tests.trueface.stored_states import assert_almost_equal, put_state
from tests.trueface.watches import killed_at, stopping_at
from trueface.generators.made_folders import to_minus_one_one, to_uint8
from trueface.generators.purification.denoiser import (
    Denoiser,
    DenoiserShape,
    TrainedDenoiser,
    load_denoiser,
    new_denoiser,
    train_denoiser,
)
from trueface.generators.purification.registry import DenoiserSettings
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, JobError
from trueface.runtime.progress import RunContext

IMAGES = to_uint8(smooth_images(16, side=16))


def make_settings(**given: Any) -> DenoiserSettings:
    values: dict[str, Any] = {
        "data_root": "x", "size": 16, "width": 8, "depth": 3, "batch_size": 8, "num_steps": 12,
        "save_every": 5,
    }  # fmt: skip
    return DenoiserSettings.model_validate(values | given)


def trained(
    state: Path, settings: DenoiserSettings, watch: RunContext | None = None
) -> TrainedDenoiser:
    return train_denoiser(IMAGES, settings, watch=watch or RunContext(), state=state)


def bits(denoiser: Denoiser) -> list[Tensor]:
    return list(denoiser.state_dict().values())


def test_trained_denoiser_removes_more_noise_than_identity(tmp_path: Path) -> None:
    denoiser = trained(tmp_path / "resume.pt", make_settings(num_steps=75, lr=0.01)).denoiser
    clean = to_minus_one_one(IMAGES)
    noisy = clean + 0.05 * normal(clean.shape)
    after = (denoiser(noisy) - clean).pow(2).mean()
    assert float(after) < 0.6 * float((noisy - clean).pow(2).mean())
    assert float((denoiser(clean) - clean).pow(2).mean()) < 0.02**2  # at a small price


def test_killed_training_resumes_from_last_state(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "resume.pt", make_settings(), killed_at(8))
    resumed = trained(tmp_path / "resume.pt", make_settings())
    assert resumed.resumed_at == 5
    whole = trained(tmp_path / "whole.pt", make_settings())
    assert all(map(torch.equal, bits(resumed.denoiser), bits(whole.denoiser)))


def test_state_of_earlier_version_resumes(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (16, 3, 16, 16), generator=rng, dtype=torch.uint8)
    put_state("denoiser-0.3", tmp_path / "resume.pt")
    resumed, whole = (
        train_denoiser(images, make_settings(), watch=RunContext(), state=tmp_path / name)
        for name in ("resume.pt", "whole.pt")
    )
    assert (resumed.resumed_at, whole.resumed_at) == (7, 0)
    assert_almost_equal(resumed.denoiser.state_dict(), whole.denoiser.state_dict())
    assert resumed.loss == pytest.approx(whole.loss)


def test_state_of_other_settings_or_images_and_broken_state_are_ignored(tmp_path: Path) -> None:
    state = tmp_path / "resume.pt"
    for images, changed in (
        (IMAGES, {"seed": 1}),
        (IMAGES, {"num_steps": 13}),
        (IMAGES.flip(-1), {}),
    ):
        state.unlink(missing_ok=True)
        with pytest.raises(JobError):
            trained(state, make_settings(), stopping_at(3))
        other = train_denoiser(images, make_settings(**changed), watch=RunContext(), state=state)
        assert other.resumed_at == 0
    state.write_bytes(b"torn")
    assert trained(state, make_settings()).resumed_at == 0
    tensor_files.save(state, {"step": 3})
    assert trained(state, make_settings()).resumed_at == 0


def test_nonfinite_loss_fails_training_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"the loss is (nan|inf) at step \d+\. Use a smaller lr"):
        trained(tmp_path / "resume.pt", make_settings(lr=1e25))


def test_weights_depend_on_seed_and_global_generator_is_unchanged() -> None:
    shape = DenoiserShape(channels=1, width=4, depth=3)
    before = torch.get_rng_state()
    one, same, other = (new_denoiser(shape, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, bits(one), bits(same)))
    assert not all(map(torch.equal, bits(one), bits(other)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"checkpoint .* does not exist\. Train the denoiser first"),
        (b"torn", "Train the denoiser again"),
        ({"kind": "diffuser"}, "is not a denoiser"),
        ({"network": {"widths": [8]}, "kind": "diffuser"}, "is not a denoiser"),
        ({"kind": "denoiser", "schema": 9}, "has another schema version"),
        (
            {"kind": "denoiser", "arch": "residual", "schema": 1, "state": {}, "channels": 3,
             "width": 4, "depth": 2},
            "is damaged",
        ),
    ],
)  # fmt: skip
def test_file_without_denoiser_raises_an_error(
    tmp_path: Path, content: bytes | dict[str, Any] | None, message: str
) -> None:
    path = tmp_path / "best.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        tensor_files.save(path, content)
    with pytest.raises(CheckpointError, match=message):
        load_denoiser(path)
