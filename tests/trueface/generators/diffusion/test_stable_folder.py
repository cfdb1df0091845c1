import importlib.util
import json
import re
from pathlib import Path

import pytest

from launcher.api import install_command
from trueface.generators.diffusion.stable import (
    PACKAGES,
    PARTS,
    import_stable,
    need_packages,
    read_prompts,
    stable_folder,
)
from trueface.runtime.errors import CheckpointError, DataError, JobError


def _parts(root: Path) -> Path:
    (root / "unet").mkdir(parents=True)
    (root / "model_index.json").write_text("{}")
    for part, name in PARTS.items():
        (root / part).mkdir(exist_ok=True)
        (root / part / name).write_text("{}")
    return root


def test_missing_folder_is_named_without_mention_of_a_hub(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        stable_folder(tmp_path / "sd-v1-4")
    assert "sd-v1-4" in str(caught.value)
    assert "model_index.json" in str(caught.value)
    assert not {"hub", "http", "huggingface"} & set(str(caught.value).lower().split())


@pytest.mark.parametrize("part", ["model_index.json", *PARTS])
def test_missing_part_is_named(tmp_path: Path, part: str) -> None:
    root = _parts(tmp_path / "sd")
    (root / part / PARTS[part] if part in PARTS else root / part).unlink()
    with pytest.raises(CheckpointError, match=f"does not contain {part}"):
        stable_folder(root)


def test_part_with_missing_or_broken_weights_raises_error_that_names_it(
    tmp_path: Path,
) -> None:
    folder = stable_folder(_parts(tmp_path / "sd"))
    with pytest.raises(CheckpointError, match=r"unet has no weights"):
        folder.state("unet")
    (folder.root / "unet/diffusion_pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        folder.state("unet")


def test_configuration_that_is_not_json_raises_an_error(tmp_path: Path) -> None:
    folder = stable_folder(_parts(tmp_path / "sd"))
    (folder.root / "unet/config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        folder.config("unet")
    (folder.root / "unet/config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        folder.config("unet")


@pytest.mark.parametrize(
    ("part", "description", "says"),
    [
        (
            "unet",
            {"addition_embed_type": "text_time"},
            "addition_embed_type shows that this model takes",
        ),
        (
            "unet",
            {"in_channels": 9, "out_channels": 4},
            "in_channels shows that this model takes more",
        ),
        ("scheduler", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is not supported"),
        ("scheduler", {"beta_schedule": "cosine"}, "'cosine' with 'epsilon' is not supported"),
    ],
)
def test_unsupported_model_is_rejected(
    tmp_path: Path, part: str, description: dict[str, object], says: str
) -> None:
    root = _parts(tmp_path / "sd")
    (root / "scheduler" / PARTS["scheduler"]).write_text(json.dumps({"beta_schedule": "linear"}))
    known = {"beta_schedule": "linear", **description} if part == "scheduler" else description
    (root / part / PARTS[part]).write_text(json.dumps(known))
    with pytest.raises(CheckpointError, match=says):
        import_stable(stable_folder(root), ("a cross", "a disc"))


@pytest.mark.skipif(
    all(importlib.util.find_spec(name) for name in PACKAGES), reason="the extra is installed"
)
def test_missing_extra_raises_error_with_install_command() -> None:
    with pytest.raises(JobError, match=re.escape(install_command("diffusion"))):
        need_packages()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cross\n", "at least two"),
        ("# a cross\n# a disc\n", "has 0"),
        ("a cross\na disc\na cross\n", "twice"),
    ],
)
def test_fewer_than_two_prompts_are_rejected(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_prompts(tmp_path / "prompts.txt")


def test_prompts_are_lines_without_comments(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("# shapes\n\n a cross \na disc\n")
    assert read_prompts(tmp_path / "prompts.txt") == ("a cross", "a disc")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_prompts(tmp_path / "nowhere.txt")
