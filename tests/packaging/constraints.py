"""The versions that `make demo` and `make test` install: `constraints.txt`, from the packages installed here.

`python -m tests.packaging.constraints` writes the file again.
"""

import configparser
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TREE = Path(__file__).parents[2]
FILE = TREE / "constraints.txt"
# no target that tests or shows something installs them, except `make night`, in the newest versions
LEFT_OUT = "bench", "diffusion", "landmarks", "metrics", "nudity"
_HEADER = """\
# What `make demo` and `make test` install, so that a clone is the same next year: `pip install -c constraints.txt`.
# Versions are equal for Python 3.11, 3.12 and 3.13 (the extra docs wants 3.11.5); `make demo CONSTRAINTS=` goes without.
# Not among them: the extras {}. Written by `python -m tests.packaging.constraints`.
"""


def requirements() -> Iterator[Requirement]:
    """Give what setup.cfg requires, with all extras whose versions are fixed."""
    setup = configparser.ConfigParser()
    setup.read(TREE / "setup.cfg", encoding="utf-8")
    texts = [setup["options"]["install_requires"]]
    texts += [
        text for name, text in setup["options.extras_require"].items() if name not in LEFT_OUT
    ]
    for line in "\n".join(texts).splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


def pins() -> dict[str, str]:
    """Return the versions that the file fixes, by canonical name."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def installed() -> dict[str, str]:
    """Return what is installed of all that is required, directly or not.

    Raises:
        PackageNotFoundError: something is not installed here.
    """
    found: dict[str, str] = {}
    waiting, seen = list(requirements()), set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        package = distribution(requirement.name)
        found[canonicalize_name(requirement.name)] = package.version
        for inner in map(Requirement, package.requires or ()):
            chosen = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in chosen):
                waiting.append(inner)
    return dict(sorted(found.items()))


def write() -> None:
    """Write the file again."""
    lines = (f"{name}=={version}\n" for name, version in installed().items())
    FILE.write_text(_HEADER.format(", ".join(LEFT_OUT)) + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write()
