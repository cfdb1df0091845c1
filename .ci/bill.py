"""Writes the bill of materials of each extra, and docs/licences.md: `make bill`, after `make release`.

A bill lists what pip resolves for an extra in an empty environment of this Python, with the versions of
constraints.txt. It is CycloneDX 1.6. Two bills of one commit are equal if the package index has not changed.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matrix import extras
from pip_reports import ROOT, PipError, make_environment, make_tools, resolve

PAGE = ROOT / "docs" / "licences.md"
CORRECTIONS = ROOT / ".ci" / "licences.toml"
BASE = "base"  # the bill of the installation without extras
DISTRIBUTION = "launcher-trueface"
# spellings in metadata and classifiers that name one licence
SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Boost Software License": "BSL-1.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_SIMPLE = r"(?:(?:Apache|BSD|GPL|LGPL|LicenseRef|MPL|PSF)-[\w.-]+|ISC|MIT(?:-CMU)?)"
_EXPRESSION = re.compile(rf"{_SIMPLE}(?: (?:AND|OR) {_SIMPLE})*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HEAD = """\
# Licences of the packages that launcher and trueface use

For people who must know the licences before they install or hand on the programs. launcher and trueface themselves
are under the MIT licence.

The table lists what pip installs for the base and for each [extra](installing.md#which-extra-do-i-need). Only developers need the extras
`bench`, `dev` and `docs`. Licences are SPDX expressions, and describe the wheels with the libraries in them. `make bill` writes this page,
and a bill of materials (CycloneDX) with versions and digests for each extra into `dist/`.

| package | licence | needed by |
|---|---|---|
"""


def main() -> None:
    """Write the bills into dist/ and the page, or say what is missing."""
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        sys.exit("error: dist/ contains no wheel. Build it first: make release")
    reports: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="bill-", dir=ROOT / "build") as name:
        folder = Path(name)
        tools = make_tools(folder / "tools", [])
        python = make_environment(sys.executable, folder / "environment")
        try:
            for extra in ("", *extras(wheels[-1])):
                file = folder / "report.json"
                reports[extra or BASE] = resolve(tools, python, wheels[-1], extra, file)
        except PipError as error:
            sys.exit(f"error: pip resolves no {wheels[-1].name}: {error}")
    corrections = read_corrections()
    packages = {
        each["metadata"]["name"]: each for report in reports.values() for each in report["install"]
    }
    unknown = [
        name for name, each in packages.items() if licence(each["metadata"], corrections) is None
    ]
    if unknown:
        sys.exit(
            f"error: no licence is known of {', '.join(unknown)}. Add it to {CORRECTIONS.relative_to(ROOT)}."
        )
    command = ["git", "show", "--no-patch", "--format=%ct", "HEAD"]
    epoch = int(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
    for extra, report in reports.items():
        text = json.dumps(bill(report, extra, epoch, corrections), indent=1, ensure_ascii=False)
        target = wheels[-1].with_name(
            f"{'-'.join(wheels[-1].name.split('-')[:2])}-{extra}.cdx.json"
        )
        target.write_text(f"{text}\n", encoding="utf-8")
        print(f"{target.name}  {len(report['install']) - 1} packages")
    PAGE.write_text(page(reports, corrections), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def read_corrections() -> dict[str, str]:
    """Return the corrected licences by the name of the package."""
    with CORRECTIONS.open("rb") as file:
        return {canonical(name): entry["licence"] for name, entry in tomllib.load(file).items()}


def canonical(name: str) -> str:
    """Return the name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(metadata: Mapping[str, Any], corrections: Mapping[str, str]) -> str | None:
    """Return the licence of a package as an SPDX expression; None if it is not known."""
    if corrected := corrections.get(canonical(metadata["name"])):
        return corrected
    if stated := metadata.get("license_expression"):
        return str(stated)
    first = metadata.get("license", "").partition("\n")[0].strip()
    if _EXPRESSION.fullmatch(first):
        return str(first)
    names = [
        each.rpartition(" :: ")[2]
        for each in metadata.get("classifier", ())
        if each.startswith("License")
    ]
    found = {SPDX[name] for name in (first, *names) if name in SPDX}
    return found.pop() if len(found) == 1 else None


def bill(
    report: Mapping[str, Any], extra: str, epoch: int, corrections: Mapping[str, str]
) -> dict[str, Any]:
    """Return the bill of materials of a report of pip, as CycloneDX.

    The serial number follows from the contents. A dependency under a condition counts if pip installs it.

    Args:
        report: of `pip install --dry-run --report`.
        extra: the extra, or "base".
        epoch: the time of the commit.
        corrections: corrected licences.
    """
    entries = sorted(report["install"], key=lambda each: canonical(each["metadata"]["name"]))
    own = next(
        each["metadata"] for each in entries if canonical(each["metadata"]["name"]) == DISTRIBUTION
    )
    references = {
        canonical(each["metadata"]["name"]): _reference(each["metadata"]) for each in entries
    }
    components = [_component(each, corrections) for each in entries if each["metadata"] is not own]
    dependencies = [
        {
            "ref": _reference(each["metadata"]),
            "dependsOn": _needed(each["metadata"], references, extra),
        }
        for each in entries
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components) + extra).urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": _reference(own),
                "name": own["name"],
                "version": own["version"],
                "purl": _reference(own),
                "licenses": [{"expression": own["license_expression"]}],
                "properties": [{"name": "extra", "value": extra}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }


def _component(entry: Mapping[str, Any], corrections: Mapping[str, str]) -> dict[str, Any]:
    metadata = entry["metadata"]
    hashes = entry["download_info"]["archive_info"]["hashes"]
    return {
        "type": "library",
        "bom-ref": _reference(metadata),
        "name": metadata["name"],
        "version": metadata["version"],
        "hashes": [{"alg": "SHA-256", "content": hashes["sha256"]}],
        "licenses": [{"expression": licence(metadata, corrections)}],
        "purl": _reference(metadata),
    }


def _reference(metadata: Mapping[str, Any]) -> str:
    return f"pkg:pypi/{canonical(metadata['name'])}@{metadata['version']}"


def _needed(metadata: Mapping[str, Any], references: Mapping[str, str], extra: str) -> list[str]:
    """Return the packages that a package needs, without those of extras that pip does not install."""
    needed = set()
    for requirement in metadata.get("requires_dist", ()):
        condition = requirement.partition(";")[2]
        match = _NAME.match(requirement)
        name = canonical(match[0]) if match else ""
        if name in references and ("extra" not in condition or f'"{extra}"' in condition):
            needed.add(references[name])
    return sorted(needed)


def page(reports: Mapping[str, Mapping[str, Any]], corrections: Mapping[str, str]) -> str:
    """Return the page with the licence of each package."""
    licences: dict[str, str | None] = {}
    needed_by: dict[str, list[str]] = {}
    for extra, report in reports.items():
        for each in report["install"]:
            name = canonical(each["metadata"]["name"])
            licences[name] = licence(each["metadata"], corrections)
            needed_by.setdefault(name, []).append(extra)
    del licences[DISTRIBUTION]
    rows = (
        f"| `{name}` | `{licences[name]}` | {_short(needed_by[name])} |\n"
        for name in sorted(licences)
    )
    return _HEAD + "".join(rows)


def _short(names: Sequence[str]) -> str:
    if BASE in names:
        return "every installation"
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    main()
