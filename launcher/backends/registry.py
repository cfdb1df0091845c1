"""Which kinds of engines there are: a new one is a module of this room that registers itself."""

from collections.abc import Callable
from importlib import import_module

from launcher.backends.protocol import Backend
from launcher.backends.settings import BackendSettings
from launcher.system.paths import Home

Maker = Callable[[BackendSettings, Home], Backend]

_MODULES = {
    "local": "local",
    "slurm": "slurm",
    "ray": "ray",
}  # imported when a backend of the kind is used


def backend_of(settings: BackendSettings, home: Home) -> Backend:
    """Return the engine of a table of config.toml; its module has a function `make`."""
    module = import_module(f"launcher.backends.{_MODULES[settings.kind]}")
    make: Maker = module.make
    return make(settings, home)
