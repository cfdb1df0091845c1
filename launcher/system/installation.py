"""The command that installs missing packages into the environment in which launcher runs.

It installs from where the installation came. Names of this project's distributions are in no public index, so that
a message never names them alone: somebody else may own the name.
"""

import json
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "launcher-trueface"
_CHECKOUT = Path(__file__).parents[2]
_PIPX_RECORD = "pipx_metadata.json"  # in an environment of pipx
_UV_RECORD = "uv-receipt.toml"  # in an environment of `uv tool`


def install_command(extra: str, distribution: str = DISTRIBUTION, *, python: str = "") -> str:
    """Return the command that installs an extra, to paste into any shell.

    If the folder or archive of the installation is gone, the command names the packages of the extra.

    Args:
        extra: the name of the extra.
        distribution: the name of a package that is installed here.
        python: the interpreter of the environment; "" for this process's interpreter.
    """
    records = [*metadata.distributions(name=distribution)]
    if not records:  # a checkout that is not installed
        source, required = [f"{_CHECKOUT}[{extra}]"], []
    else:
        source = source_words(distribution, _direct_url(records), [extra])
        required = requirements_of(records[0].requires or (), extra)
    return shlex.join(_install_words(distribution, extra, source, required, python))


def _install_words(
    package: str, extra: str, source: list[str], requirements: list[str], python: str
) -> list[str]:
    """Return the command of the program that made the environment."""
    environment = None if python else Path(sys.prefix)
    program = python or sys.executable or "python"
    if environment and (environment / _PIPX_RECORD).exists() and requirements:
        return ["pipx", "inject", environment.name, *requirements]
    if environment and (environment / _UV_RECORD).exists():
        if source:
            extras = [*_uv_extras(environment / _UV_RECORD, package), extra]
            record = _direct_url(metadata.distributions(name=package))
            words = source_words(package, record, dict.fromkeys(extras))
            return ["uv", "tool", "install", "--force", *words]
        return ["uv", "pip", "install", "--python", program, *requirements]
    if environment and find_spec("pip") is None and which("uv"):
        return ["uv", "pip", "install", "--python", program, *(source or requirements)]
    return [program, "-m", "pip", "install", *(source or requirements)]


def _direct_url(records: Iterable[metadata.Distribution]) -> str | None:
    """Return the record of where a package came from. A build leaves a second package without it in a checkout."""
    return next(filter(None, (record.read_text("direct_url.json") for record in records)), None)


def source_words(package: str, direct_url: str | None, extras: Iterable[str]) -> list[str]:
    """Return the words of `pip install` for the place from which a package came; none if it is gone or unknown.

    Args:
        package: the name of the distribution.
        direct_url: the text of its direct_url.json, None if it came from an index.
        extras: names of extras.
    """
    record: Mapping[str, Any] = json.loads(direct_url or "{}")
    url, names = str(record.get("url", "")), ",".join(extras)
    parts = urlsplit(url)
    if parts.scheme != "file":
        versioned = record.get("vcs_info")
        prefix = f"{versioned['vcs']}+" if versioned else ""
        revision = versioned and versioned.get("requested_revision")
        address = f"{prefix}{url}{f'@{revision}' if revision else ''}"
        return [f"{package}[{names}] @ {address}"] if url else []
    place = Path(unquote(parts.path))
    if not place.exists():
        return []
    editable = bool(record.get("dir_info", {}).get("editable"))
    return [*(["-e"] if editable else []), f"{place}[{names}]"]


def requirements_of(requires: Iterable[str], extra: str) -> list[str]:
    """Return the requirements of an extra, from those of a distribution."""
    from packaging.requirements import Requirement  # takes 10 ms, only for a message

    parsed = map(Requirement, requires)
    return [
        str(requirement).partition(";")[0].strip()
        for requirement in parsed
        if requirement.marker
        and requirement.marker.evaluate({"extra": extra})
        and not requirement.marker.evaluate({"extra": ""})
    ]


def _uv_extras(receipt: Path, package: str) -> list[str]:
    """Return the extras with which uv has installed a tool."""
    with suppress(OSError, tomllib.TOMLDecodeError):
        tool = tomllib.loads(receipt.read_text(encoding="utf-8")).get("tool", {})
        for requirement in tool.get("requirements", ()):
            if requirement.get("name") == package:
                return [*requirement.get("extras", ())]
    return []
