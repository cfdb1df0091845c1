from pathlib import Path

import pytest
import torch

from tests.trueface.diffusion.stable.tiny_folder import PROMPTS, write_tiny_folder
from trueface.diffusion.diffuser import Diffuser, load_diffuser, save_diffuser
from trueface.diffusion.stable import import_stable, stable_folder
from trueface.erasing.erasure import ErasingProblem, run_erasure
from trueface.erasing.registry import METHODS
from trueface.erasing.samples import Sampling, drawn_classes

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")
pytest.importorskip("transformers", reason="the extra `diffusion` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of packages that are not ours

SMALL = {"num_steps": 1, "batch_size": 2, "sample_steps": 2, "paths": 2}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Diffuser:
    root = write_tiny_folder(tmp_path_factory.mktemp("stable") / "sd")
    return import_stable(stable_folder(root), PROMPTS)


@pytest.mark.parametrize("method", ["abo", "esd-x", "sdd", "ablate", "uce"])
def test_a_concept_is_erased_from_prompts_as_from_classes(method: str, teacher: Diffuser) -> None:
    options = METHODS[method].options(SMALL)
    problem = ErasingProblem(erase=0, anchor=1, options=options, seed=1)
    erased = run_erasure(method, teacher, problem)
    assert 0 < erased.changed <= erased.parameters
    before, after = teacher.network.state_dict(), erased.diffuser.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if not name.startswith("unet.")]
    if method in {"esd-x", "sdd", "uce"}:  # others train all weights
        assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in changed)


def test_samples_of_an_imported_model_are_drawn(teacher: Diffuser) -> None:
    (drawn,) = drawn_classes(teacher, (0,), 2, Sampling(seed=1, steps=2, guidance=2.0))
    assert len(drawn) == 2
    assert drawn.isfinite().all()


def test_the_checkpoint_of_an_erased_one_is_one_of_stable_diffusion(
    teacher: Diffuser, tmp_path: Path
) -> None:
    problem = ErasingProblem(erase=0, anchor=1, options=METHODS["uce"].options({}))
    erased = run_erasure("uce", teacher, problem).diffuser
    save_diffuser(tmp_path / "best.pt", erased, {})
    again = load_diffuser(tmp_path / "best.pt").network.state_dict()
    assert all(
        torch.equal(weight, again[name]) for name, weight in erased.network.state_dict().items()
    )
