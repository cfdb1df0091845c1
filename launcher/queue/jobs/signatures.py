"""Signatures of jobs: jobs with the same signature are expected to need the same memory and time."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.queue.jobs.job import PROGRAM
from launcher.system.lazy_regex import compile_lazily

# a separate number: that of `lr=0.1` and `out/run-7`, not those of resnet18 and llama-7b
_NUMBER = compile_lazily(
    r"(?<![A-Za-z0-9.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![A-Za-z0-9]|\.\d)"
)
_PATH = compile_lazily(r"[^\W\d][^/]*/|/[^/]*[^\W\d]")  # such as out/run-7, not 3/4


def program_signature(argv: Sequence[str], exact: Sequence[str] = ()) -> str:
    """Return the signature of a program: its arguments without separate numbers.

    All jobs of a sweep over learning rates and seeds therefore share the measurements of the first one.

    Args:
        argv: Program and arguments.
        exact: Further values that affect the cost, compared with their numbers: variables of its entry.
    """
    return kind_digest(PROGRAM, repr([*(_NUMBER.sub("#", word) for word in argv), *exact]))


def program_cost(settings: Mapping[str, Any], argv: Sequence[str]) -> str:
    """Return the signature of a program; the folder in which it starts does not affect it."""
    variables = settings.get("env") or {}
    return program_signature(argv, [f"{name}={variables[name]}" for name in sorted(variables)])


def ignored_numbers(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers that a program's signature omits, except those in paths, which do not affect the cost."""
    parts = (part for word in argv for part in word.split() if not _PATH.search(part))
    return tuple(number for part in parts for number in _NUMBER.findall(part))


def is_exact_signature(signature: str) -> bool:
    """Return whether jobs with this signature agree in all cost settings; programs may differ in numbers."""
    return not signature.startswith(f"{PROGRAM} ")


def kind_digest(kind: str, text: str) -> str:
    """Return a kind's name and the first 64 bits of the SHA-256 of a text."""
    return f"{kind} {hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"
