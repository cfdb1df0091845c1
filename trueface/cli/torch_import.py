"""Imports of torch for commands that answer at once: no compiler, no garbage collection.

torchvision imports `torch._dynamo`, and with it sympy and a thousand modules, for a function that asks
whether an operator of object detection can be compiled, and for a decorator that keeps the compiler
away from its tensors. That takes as long as torch itself. The garbage collector looks through what is
being imported again and again, which takes a fifth of the time.

torchvision imports `torch._dynamo`, and with it sympy and a thousand modules, for a function that asks
whether an operator of object detection can be compiled, and for a decorator that keeps the compiler
away from its tensors. That takes as long as torch itself. The garbage collector looks through what is
being imported again and again, which takes a fifth of the time.
"""

import contextlib
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

COMPILER = "torch._dynamo.utils"
ASKED = "is_compile_supported"
MODULES = ("torchvision", "torchvision.tv_tensors")


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector away while modules are imported."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def import_torchvision() -> None:
    """Import torchvision; the compiler is imported when its function is called, if ever.

    Where a version of torchvision wants more of the compiler, it gets the compiler.
    """
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    # what fails here fails again, or comes with the compiler, where it is imported for its use
    with _without_compiler(), contextlib.suppress(ImportError, AttributeError):
        for name in MODULES:
            importlib.import_module(name)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    compiler = importlib.import_module("torch.compiler")
    disable = compiler.disable
    instead = ModuleType(COMPILER)
    setattr(instead, ASKED, _ask)
    sys.modules[COMPILER] = instead
    setattr(compiler, "disable", _as_it_is)  # noqa: B010  # a module has no such type
    try:
        yield
    finally:
        setattr(compiler, "disable", disable)  # noqa: B010
        if sys.modules.get(COMPILER) is instead:
            del sys.modules[COMPILER]


def _ask(device_type: object) -> object:
    return getattr(importlib.import_module(COMPILER), ASKED)(device_type)


def _as_it_is(function: Callable[..., object]) -> Callable[..., object]:
    """Return a function that the compiler would be kept from, were there one."""
    return function
