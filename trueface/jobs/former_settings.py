"""The settings that went: each is a constant in the file of its method, with its source.

A task file that names one is answered with the constant's module, name and value.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Constant(NamedTuple):
    """A constant that replaced a setting."""

    module: str
    name: str
    value: float

    def __str__(self) -> str:
        return f"{self.module}.{self.name} = {self.value:g}"


_GENERATORS = "trueface.generators.translation"
_OBJECTIVES = "trueface.training.objectives"
_METHODS = "trueface.unlearning.methods"
FORMER_SETTINGS: Mapping[str, Constant] = MappingProxyType(
    {
        "add_spectra": Constant(f"{_OBJECTIVES}.add", "SPECTRA", 1.0),
        "beta1": Constant(f"{_GENERATORS}.training", "BETA1", 0.5),
        "beta2": Constant(f"{_GENERATORS}.training", "BETA2", 0.999),
        "fair_smooth": Constant("trueface.training.group_losses", "FUSION_SMOOTH", 0.001),
        "fisher_most": Constant(f"{_METHODS}.fisher", "MOST", 1e3),
        "fisher_most_last": Constant(f"{_METHODS}.fisher", "MOST_LAST", 1e2),
        "iwu_most": Constant(f"{_METHODS}.instance_wise", "MOST_IMAGES", 256),
        "lambda_gp": Constant(f"{_GENERATORS}.training", "LAMBDA_GP", 10.0),
        "lau_attack_steps": Constant(f"{_METHODS}.layer_attack", "ATTACK_STEPS", 10),
        "potion_growth": Constant(f"{_METHODS}.potion", "GROWTH", 1.1),
        "potion_start": Constant(f"{_METHODS}.potion", "START", 1e-6),
        "scrub_gamma": Constant(f"{_METHODS}.scrub", "GAMMA", 0.99),
        "scrub_temperature": Constant(f"{_METHODS}.scrub", "TEMPERATURE", 4.0),
        "shrink_bound": Constant(f"{_METHODS}.boundary", "BOUND", 0.1),
    }
)
"""Former setting of any job type → its constant."""

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {name: str(constant) for name, constant in FORMER_SETTINGS.items()}
)
"""Former setting → its constant in words, for `launcher.api.NamesConstants`."""
