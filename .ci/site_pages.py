"""What the site has beyond docs/: README.md as its first page, two more, the commands, the laboratory's parts, the task files.

A line `<!-- keys -->` of a page is replaced by the keys of the screen.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from launcher.experiments.kinds import installed_kinds
from launcher.experiments.taskfile.schema.reference import reference
from launcher.frontends.cli.documents import LATE_GROUPS, entries
from launcher.frontends.cli.main import cli as launcher
from launcher.frontends.cli.other_words import phrases_of
from launcher.frontends.screens.dashboard.keys import help_page
from trueface.attacks.registry import SPECS as ATTACKS
from trueface.audit.check import every_check
from trueface.cli.main import cli as trueface
from trueface.corruptions.registry import SPECS as CORRUPTIONS
from trueface.data.forging.registry import SPECS as FORGERIES
from trueface.data.imports.registry import LAYOUTS
from trueface.evaluation.measurement import METRICS
from trueface.generators.erasing.registry import METHODS as ERASURES
from trueface.generators.purification.registry import SPECS as PURIFIERS
from trueface.models.registry import FAMILIES, LIBRARIES, RECIPES, ModelSpec
from trueface.models.registry import SPECS as MODELS
from trueface.training.objectives.registry import objectives
from trueface.unlearning.registry import METHODS as UNLEARNINGS

TREE = Path(__file__).parents[1]
STYLE = Path(__file__).with_name("site.css")
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
FOR_CONTRIBUTORS = tuple(
    sorted(page.relative_to(TREE).as_posix() for page in (TREE / "contributing").glob("*.md"))
)
# all values of benchmarks and studies, which the search leaves out
OF_BENCHMARKS = tuple(
    sorted(page.relative_to(TREE).as_posix() for page in (TREE / "benchmarks").rglob("*.md"))
)
# pages of the site that the list of all pages does not have, by its groups
ONLY_HERE = {
    "Start": (("All pages", "pages.md"),),
    "Look things up": (
        ("Commands", "commands.md"),
        ("Keys of task files", "keys.md"),
        ("Parts of the lab", "parts.md"),
        ("Changes", "CHANGELOG.md"),
    ),
    "Measured": (("All measurements", "benchmarks/RESULTS.md"),),
    "Contribute": (
        ("Contributing", "CONTRIBUTING.md"),
        ("Security", "SECURITY.md"),
        *(
            (name.rpartition("/")[2].removesuffix(".md"), name)
            for name in OF_BENCHMARKS
            if "studies" in name
        ),
    ),
}
WIDTH = 80  # columns of a help page
LATE_BOOST = 0.3  # of pages that explain or measure, in the search
KEYS_WIDTH = 100  # columns of the list of keys
_INTO_DOCS = re.compile(r"\]\(docs/")
_BACK_INTO_DOCS = re.compile(r"\]\(((?:\.\./)+)docs/")
_OUT_OF_DOCS = re.compile(r"\]\(\.\./")
_MADE = re.compile(r"^<!-- keys -->$", re.MULTILINE)
_LISTED = re.compile(r"^- \[([^\]]+)\]\((?:\.\./)?([\w/-]+\.md)\)", re.MULTILINE)
_INTO_CODE = re.compile(r"\[([^]]+)\]\(\.\./[^)]+\.py#L\d+\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation of the list of all pages, and of the pages that only the site has."""
    nav: list[dict[str, list[dict[str, str]]]] = []
    text = (TREE / "docs" / "pages.md").read_text(encoding="utf-8")
    for part in text.split("\n## ")[1:]:
        group = part.partition("\n")[0]
        pages = [{title: name} for title, name in _LISTED.findall(part)]
        nav.append({group: [*pages, *({title: name} for title, name in ONLY_HERE.get(group, ()))]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that lie outside docs/, and the page of all commands."""
    tasks = sorted((TREE / "tasks").glob("*.yaml"))
    for path in (
        *(TREE / name for name in (*AT_THE_TOP, *FOR_CONTRIBUTORS, *OF_BENCHMARKS, "CITATION.cff")),
        *tasks,
    ):
        name = path.relative_to(TREE).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, STYLE.name, abs_src_path=str(STYLE)))
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    keys = f"# Keys of task files\n\n{reference(installed_kinds())}"
    files.append(File.generated(config, "keys.md", content=keys))
    files.append(File.generated(config, "parts.md", content="\n".join(_parts())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # MkDocs' shape
    """Let a link that is right in the repository be right in the site, where docs/ is the root.

    Other words for the subjects of a page become its tags, which the search reads and nobody sees.
    """
    topic = page.file.name.lower()
    page.meta["tags"] = phrases_of(topic)
    page.meta["search"] = {"boost": LATE_BOOST if topic in _late_topics() else 1}
    if page.file.src_uri in FOR_CONTRIBUTORS:
        return _BACK_INTO_DOCS.sub(r"](\1", _INTO_CODE.sub(r"\1", markdown))
    if page.file.src_uri in OF_BENCHMARKS:
        page.meta["search"] = {"exclude": True}
        return _BACK_INTO_DOCS.sub(r"](\1", markdown)
    if page.file.src_uri in AT_THE_TOP:
        return _INTO_DOCS.sub("](", markdown)
    markdown = _MADE.sub(lambda _: _keys_of_the_screen(), markdown)
    return _OUT_OF_DOCS.sub("](", _INTO_CODE.sub(r"\1", markdown))  # no code is in the site


@cache
def _late_topics() -> frozenset[str]:
    return frozenset(entry.topic for entry in entries() if entry.group in LATE_GROUPS)


def _keys_of_the_screen() -> str:
    lines = ("".join(span.text for span in line.spans).rstrip() for line in help_page(KEYS_WIDTH))
    return "\n".join(["```plain", *lines, "```"])


def _commands() -> Iterator[str]:
    yield "# Commands\n\nEach command prints this text with `--help`. After an installation, "
    yield "`man launcher-add` shows it as a manual page.\n"
    for name, group in (("launcher", launcher), ("trueface", trueface)):
        context = click.Context(group, info_name=name, terminal_width=WIDTH)
        yield from _help(group, context)
        for verb in group.list_commands(context):
            command = group.get_command(context, verb)
            if command is not None and not command.hidden:
                inner = click.Context(command, parent=context, info_name=verb, terminal_width=WIDTH)
                yield from _help(command, inner)


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```plain\n{command.get_help(context)}\n```\n"


def _parts() -> Iterator[str]:
    yield "# Parts of the laboratory\n\nWhat task files and commands can name, from the files that register it.\n"
    networks = [
        *((each.name, _network(each)) for each in MODELS.values()),
        *((f"{each.name}/NETWORK", each.summary) for each in FAMILIES.values()),
        *((f"{each.name}/NAME", f"a network of {each.summary}") for each in LIBRARIES.values()),
    ]
    yield from _table("Detectors", "model", networks)
    yield from _table("Networks of classes", "model of `classify`", _summaries(RECIPES))
    yield from _table("Objectives", "objective", _summaries(objectives()))
    corruptions = [(each.example, each.summary) for each in CORRUPTIONS.values()]
    yield from _table("Corruptions", "corrupt", corruptions)
    yield from _table("Attacks", "attack", _summaries(ATTACKS))
    metrics = [(each.name, each.title) for each in METRICS.values()]
    yield from _table("Metrics", "key in JSON and CSV", metrics)
    yield from _table(
        "Checks of the audit", "check", [(each.code, each.purpose) for each in every_check()]
    )
    yield from _table("Unlearning methods", "method", _summaries(UNLEARNINGS))
    yield from _table("Methods of erasing", "method", _summaries(ERASURES))
    purifiers = [(each.example, each.summary) for each in PURIFIERS.values()]
    yield from _table("Purifiers", "purifier", purifiers)
    yield from _table("Types of forged faces", "type", _summaries(FORGERIES))
    yield from _table("Layouts of data sets", "layout", _summaries(LAYOUTS))


def _network(spec: ModelSpec) -> str:
    start = "ImageNet weights" if spec.weights_url else "random weights"
    return f"{spec.summary}; {'in closed form' if spec.solver == 'ridge' else start}"


def _summaries(registry: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, spec.summary) for name, spec in registry.items()]


def _table(title: str, column: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"## {title}\n\n| {column} | what it is |\n|---|---|"
    yield from (f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in rows)
    yield ""
