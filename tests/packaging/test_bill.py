"""The bill of materials and the page of licences, from reports of pip."""

import re
from pathlib import Path
from typing import Any

import pytest

import bill
import matrix
from tests.packaging.constraints import pins

TREE = Path(__file__).parents[2]
CORRECTIONS = {"pillow-heif": "GPL-2.0-or-later"}
BSD = ["License :: OSI Approved :: BSD License"]


def entry(name: str, **metadata: Any) -> dict[str, Any]:
    """Return what a report of pip has of one package."""
    return {
        "metadata": {"name": name, "version": "1.0", "license_expression": "MIT", **metadata},
        "download_info": {"archive_info": {"hashes": {"sha256": "ab" * 32}}},
    }


OWN = entry(
    "launcher-trueface",
    requires_dist=["click>=8", 'Zoo.Keeper; extra == "zoo"', 'plotly; extra == "web"'],
)
REPORT = {
    "install": [
        OWN,
        entry(
            "zoo_keeper", requires_dist=["click", 'plotly ; extra == "all"', "absent; os == 'x'"]
        ),
        entry("plotly"),
        entry("click"),
    ]
}


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "Apache-2.0 OR MIT"}, "Apache-2.0 OR MIT"),
        ({"license": "Apache 2.0 License"}, "Apache-2.0"),
        ({"license": "BSD 3-Clause License\n\nCopyright"}, "BSD-3-Clause"),
        ({"license": "BSD-3-Clause", "classifier": BSD}, "BSD-3-Clause"),
        ({"classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"name": "pillow_heif", "license": "BSD-3-Clause"}, "GPL-2.0-or-later"),
        ({"license": "BSD", "classifier": BSD}, None),
        ({"license": "UNKNOWN"}, None),
        (
            {"license": "MIT License", "classifier": ["License :: OSI Approved :: ISC License"]},
            None,
        ),
        ({}, None),
    ],
)
def test_licence_is_named_only_if_the_metadata_are_clear(
    metadata: dict[str, Any], licence: str | None
) -> None:
    assert bill.licence({"name": "x", **metadata}, CORRECTIONS) == licence


def test_bill_lists_packages_with_digests_licences_and_dependencies() -> None:
    made = bill.bill(REPORT, "zoo", 1_700_000_000, {})
    assert made["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert [each["name"] for each in made["components"]] == ["click", "plotly", "zoo_keeper"]
    assert made["components"][0] == {
        "type": "library",
        "bom-ref": "pkg:pypi/click@1.0",
        "name": "click",
        "version": "1.0",
        "hashes": [{"alg": "SHA-256", "content": "ab" * 32}],
        "licenses": [{"expression": "MIT"}],
        "purl": "pkg:pypi/click@1.0",
    }
    needed = {each["ref"].partition("@")[0]: each["dependsOn"] for each in made["dependencies"]}
    both = ["pkg:pypi/click@1.0", "pkg:pypi/zoo-keeper@1.0"]
    assert needed["pkg:pypi/launcher-trueface"] == both, "plotly is needed by another extra"
    assert needed["pkg:pypi/zoo-keeper"] == ["pkg:pypi/click@1.0"]
    again = bill.bill({"install": REPORT["install"][::-1]}, "zoo", 1_700_000_000, {})
    assert again == made, "the order of the report does not matter"


def test_page_names_the_extras_that_need_a_package() -> None:
    base = {"install": [OWN, entry("click")]}
    text = bill.page({"base": base, "zoo": REPORT, "web": base}, {"plotly": "ISC"})
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| `click` | `MIT` | every installation |",
        "| `plotly` | `ISC` | `zoo` |",
        "| `zoo-keeper` | `MIT` | `zoo` |",
    ]


def test_every_pinned_package_has_a_licence_on_the_page() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| `(.+?)` \|", bill.PAGE.read_text("utf-8"), re.MULTILINE
    )
    licences = dict(rows)
    assert not pins().keys() - licences.keys(), "make release bill"
    corrections = bill.read_corrections()
    assert {name: licences.get(name) for name in corrections} == corrections, "make release bill"


def test_first_sweep_of_the_readme_is_found_with_its_output() -> None:
    commands, output = matrix.first_sweep((TREE / "README.md").read_text(encoding="utf-8"))
    assert commands.startswith("launcher add --run demo --sweep lr=0.1,0.01")
    assert output.startswith("  lr  count")
    assert "0.9100 ± 0.0100" in output
