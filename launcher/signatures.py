"""What jobs have in common that take the same memory and time: their signature."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # with it comes pydantic, and `launcher add` must be quick
    from launcher.kinds import Kind

PROGRAM = "command"
# a number that stands by itself: the one of `lr=0.1` and `out/run-7`, not those of resnet18 and llama-7b
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![A-Za-z0-9]|\.\d)"
)


def costs(kind: "Kind") -> tuple[str, ...]:
    """Return the settings on which a kind's time and memory depend."""
    settings = kind.settings
    return tuple(sorted(settings.costs or set(settings.model_fields) - settings.neutral))


def signature_of(kind: "Kind", settings: Mapping[str, Any]) -> str:
    """Return the signature of a job of a kind: the settings that cost, not which images it reads."""
    return _digest(kind.name, repr([settings.get(name) for name in costs(kind)]))


def program_signature(argv: Sequence[str]) -> str:
    """Return the signature of a program: its words without the numbers that stand by themselves.

    So all runs of a sweep over learning rates and seeds share what was learned from the first of them.
    """
    return _digest(PROGRAM, repr([_NUMBER.sub("#", word) for word in argv]))


def is_exact(signature: str) -> bool:
    """Tell whether jobs that share a signature agree in all that costs; programs differ in numbers."""
    return not signature.startswith(f"{PROGRAM} ")


def _digest(kind: str, text: str) -> str:
    return f"{kind} {hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"
