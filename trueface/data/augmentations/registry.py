"""Augmentations by name, and their settings: no torch here.

What `@register_augmentation` says in the files of this folder is read from their text; a file is
imported when images are augmented.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from pydantic import create_model

from trueface.runtime.declarations import Declaration, Declared, Registry
from trueface.runtime.errors import DeclarationError
from trueface.runtime.field_types import Settings

PACKAGE = "trueface.data.augmentations"
# from which the settings of an augmentation may take names
ALLOWED = (__name__, "typing", "pydantic", "trueface.runtime.field_types")

Base = TypeVar("Base", bound=Settings)


class HasSettings(Protocol):
    """A class whose settings are added to those of every training."""

    @property
    def settings(self) -> type[Settings]:
        """These settings."""


@dataclass(frozen=True, slots=True)
class AugmentationSpec(Declared):
    """Declares an augmentation; the class below it is made of `settings`, see `steps.Augmentation`."""

    name: str  # part of its random stream
    _: KW_ONLY
    # become settings of every training; each has a default that changes nothing
    settings: type[Settings]


register_augmentation = AugmentationSpec
SPECS = Registry(PACKAGE, AugmentationSpec, decorator="register_augmentation", modules=ALLOWED)


def with_augmentations(base: type[Base]) -> type[Base]:
    """Return `base` with the settings of all registered augmentations.

    Raises:
        DeclarationError: two of them, or one and `base`, have a setting of the same name, or one
        has no
            default.
    """
    return extend_settings(base, SPECS, SPECS.declared)


def extend_settings(
    base: type[Base], specs: Mapping[str, HasSettings], declarations: Mapping[str, Declaration]
) -> type[Base]:
    """Return `base` with the settings of `specs`, on which cost and code depend as on its own."""
    if not specs:
        return base
    owners = dict.fromkeys(base.model_fields, "every training")
    costs, modules = base.costs, dict(base.modules)
    for name, spec in specs.items():
        declared_by = declarations[name]
        for key, field in spec.settings.model_fields.items():
            if field.is_required():
                raise DeclarationError(
                    declared_by.path, declared_by.line, f"setting {key} needs a default"
                )
            if key in owners:
                reason = f"setting {key} already belongs to {owners[key]}. Choose another name."
                raise DeclarationError(declared_by.path, declared_by.line, reason)
            owners[key] = name
            modules[key] = partial(_module_in_use, declared_by.module, field.get_default())
        costs |= spec.settings.costs
    bases = (base, *(spec.settings for spec in specs.values()))
    model = cast(
        Any,  # pydantic: a type of several bases
        create_model(base.__name__, __base__=bases, __module__=base.__module__),
    )
    model.costs, model.modules = costs, modules
    return cast(type[Base], model)


def _module_in_use(module: str, default: Any, value: Any) -> tuple[str, ...]:
    return () if value == default else (module,)


def settings_of(spec: AugmentationSpec, settings: Settings) -> Settings:
    """Return an augmentation's own settings among those of a training."""
    return spec.settings.model_validate(
        {key: getattr(settings, key) for key in spec.settings.model_fields}
    )
