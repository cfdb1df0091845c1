"""A folder with a Stable Diffusion model in the layout of diffusers, checked before anything is imported."""

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, JobError

INDEX = "model_index.json"
# what must lie in a folder: its parts, with the file that describes each
PARTS: Mapping[str, str] = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
# of a part, the first that is there
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
PACKAGES = ("diffusers", "transformers", "safetensors")
INSTALL = "pip install 'launcher-trueface[diffusion]'"


@dataclass(frozen=True, slots=True)
class StableFolder:
    """A folder whose parts are all there."""

    root: Path

    def config(self, part: str) -> dict[str, Any]:
        """Return how a part is built: the file that describes it.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.root / part / PARTS[part]
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} describes no part of a model: it holds no JSON object")
        return content

    def state(self, part: str) -> dict[str, Tensor]:
        """Return the weights of a part, in fp32.

        Raises:
            CheckpointError: they are absent, damaged, or would have to execute something.
        """
        folder = self.root / part
        path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if path is None:
            raise CheckpointError(
                f"{folder} holds no weights: it needs {WEIGHTS[0]} or {WEIGHTS[1]}, as "
                "save_pretrained writes them"
            )
        try:
            content = tensor_files.load(path)
        except tensor_files.BrokenFileError as error:
            raise CheckpointError(f"{path} cannot be read safely: {error}") from error
        return {name: tensor.float() for name, tensor in content.items() if _is_float(tensor)}


def stable_folder(root: Path) -> StableFolder:
    """Return a folder whose parts are all there.

    Raises:
        CheckpointError: the folder or a part of it is absent; names what it needs.
    """
    if not root.is_dir():
        raise CheckpointError(
            f"weights: there is no folder {root}; give a folder with a Stable Diffusion model in "
            f"the layout of diffusers ({INDEX} and {', '.join(PARTS)})"
        )
    wanted = [INDEX, *(f"{part}/{name}" for part, name in PARTS.items())]
    missing = [name for name in wanted if not (root / name).is_file()]
    if missing:
        raise CheckpointError(
            f"weights: {root} lacks {', '.join(missing)}; it must hold a whole Stable Diffusion "
            "model in the layout of diffusers, as save_pretrained of a pipeline writes it"
        )
    return StableFolder(root)


def need_packages() -> None:
    """Make sure that the extra is installed, and that it asks no network.

    Raises:
        JobError: a package of it is missing; says how to install it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise JobError(
            f"Stable Diffusion needs {', '.join(missing)}, not installed here: {INSTALL}"
        )
    # read when they are imported; a folder that lacks something must not be looked for elsewhere
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _is_float(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point()
