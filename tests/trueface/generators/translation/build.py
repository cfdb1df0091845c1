"""Small translators and folders of labelled images for tests."""

from pathlib import Path
from typing import Any

from trueface.data.settings import DrawSettings
from trueface.generators.drawn_set import ATTRIBUTES, make_drawn
from trueface.generators.translation.settings import TranslatorSettings
from trueface.generators.translation.translator import (
    GeneratorShape,
    Translator,
    build_generator,
    freeze_for_inference,
)

SIZE = 32


def a_translator(labels: tuple[str, ...] = ATTRIBUTES, *, seed: int = 1) -> Translator:
    shape = GeneratorShape(len(labels), width=4, blocks=1)
    return freeze_for_inference(build_generator(shape, seed=seed), labels, SIZE, "cpu")


def portraits(root: Path, count: int = 20) -> Path:
    """Draw portraits; return their data root."""
    settings = DrawSettings(data_root="drawn", images=count, size=SIZE)
    make_drawn(root / "drawn", settings)
    return root / "drawn"


def tiny(**given: Any) -> TranslatorSettings:
    """Return settings of a training that takes a moment."""
    usual = {
        "data_root": "drawn",
        "size": SIZE,
        "width": 4,
        "blocks": 1,
        "critic_width": 4,
        "gan": "hinge",
        "n_critic": 1,
        "num_steps": 6,
        "batch_size": 4,
        "save_every": 2,
    }
    return TranslatorSettings.model_validate(usual | given)
