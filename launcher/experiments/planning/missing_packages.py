"""Packages that a kind's work imports and that are not installed, and how to install them.

A kind is described without its laboratory's heavy packages, so that it can be planned where these
are absent: the queue is installed without them. Its jobs would all fail.
"""

import importlib.util
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution

from launcher.experiments.kind_interface import Kind
from launcher.queue.jobs.context import KIND_GROUP
from launcher.system.entry_points import find_entry_points
from launcher.system.installation import install_command
from launcher.system.lazy_regex import compile_lazily

_EXTRA = compile_lazily(r"""^([A-Za-z0-9._-]+).*\bextra *== *["']([^"']+)["']""")


def missing_packages(kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Return two sentences without the last full stop for each set of missing modules; none if all are installed.

    Args:
        kinds: those whose jobs shall run. The modules in the `preload` of each kind must be importable.
    """
    absent: dict[tuple[str, ...], list[str]] = {}
    for kind in kinds:
        if modules := _absent_modules(kind.preload):
            absent.setdefault(modules, []).append(kind.name)
    if not absent:
        return ()
    offers = {point.name: point.dist for point in find_entry_points(KIND_GROUP)}
    return tuple(
        f"{_join_with_and(names)} {'needs' if len(names) == 1 else 'need'} {_join_with_and(modules)}, which "
        f"{'is' if len(modules) == 1 else 'are'} not installed. {_install_remedy(offers.get(names[0]), modules)}"
        for modules, names in absent.items()
    )


def _absent_modules(modules: Iterable[str]) -> tuple[str, ...]:
    tops = dict.fromkeys(module.partition(".")[0] for module in modules)
    return tuple(top for top in tops if not _is_there(top))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _install_remedy(package: Distribution | None, modules: Collection[str]) -> str:
    """Return what to type so that the modules are there."""
    them = "it" if len(modules) == 1 else "them"
    if package is None:
        return f"Install {them}"
    extra = _extra(package.requires or (), modules)
    if not extra:
        return f"Install the requirements of {package.name}"
    return f"Install {them} with `{install_command(extra, package.name)}`"


def _extra(requires: Iterable[str], modules: Collection[str]) -> str:
    """Return which extra of a package brings most of the modules; '' if none brings one."""
    brought: dict[str, int] = {}
    for requirement in requires:
        if (match := _EXTRA.match(requirement)) and match[1].lower() in modules:
            brought[match[2]] = brought.get(match[2], 0) + 1
    return max(brought, key=lambda extra: brought[extra], default="")


def _join_with_and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
