"""constraints.txt fixes a version of everything that setup.cfg asks for."""

import re

from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.constraints import FILE, pins, requirements


def test_every_requirement_has_a_matching_pinned_version() -> None:
    fixed = pins()
    wrong = {
        str(each)
        for each in requirements()
        if not each.specifier.contains(fixed.get(canonicalize_name(each.name), "0"))
    }
    assert not wrong, "python -m tests.packaging.constraints"


def test_pinned_versions_have_no_local_suffix() -> None:
    assert not [version for version in pins().values() if Version(version).local]


def test_constraints_file_contains_only_names_and_versions() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    assert list(pins()) == sorted(pins())
    assert not [line for line in names if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)]
