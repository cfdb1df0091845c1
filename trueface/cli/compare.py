"""`trueface compare`: two models side by side, in the original's report and beyond it."""

import json
from pathlib import Path

import click

from launcher.api import UsageError

SEVERAL = frozenset({"--before", "--after"})


class SeveralFiles(click.Command):
    """Lets some options take all the words that follow, as a shell's pattern gives them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such an option for each of its words."""
        words: list[str] = []
        taking = None
        for word in args:
            if word.startswith("-"):
                taking = word if word in SEVERAL else None
            elif taking is not None and words[-1] != taking:
                words.append(taking)
            words.append(word)
        return super().parse_args(ctx, words)


@click.command(cls=SeveralFiles)
@click.argument("places", metavar="[A B]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--before", multiple=True, type=click.Path(path_type=Path), metavar="FILE…",
    help="Score files of the first model.",
)  # fmt: skip
@click.option(
    "--after", multiple=True, type=click.Path(path_type=Path), metavar="FILE…",
    help="Score files of the second model.",
)  # fmt: skip
@click.option(
    "--titles",
    nargs=2,
    metavar="A B",
    help="Names of the two models in the output.  [default: their own]",
)
@click.option(
    "--same-order",
    is_flag=True,
    help="Pair the rows of old score files by position if their labels agree. These files do not name images.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def compare(
    places: tuple[Path, ...],
    *,
    before: tuple[Path, ...],
    after: tuple[Path, ...],
    titles: tuple[str, str] | None,
    same_order: bool,
    as_json: bool,
) -> None:
    """Compare two models with paired tests.

    A and B are each a folder or a score file. The folder is that of a model (runs/RUN/MODEL), or that of
    a run in which one model has scores. The file is .csv, or .pkl of the original system. The output has
    metrics with 95 % intervals, their differences, McNemar and DeLong tests, and one table per subset.

    \b
    Examples:
      trueface compare runs/clean runs/50_poison --titles "0% poison" "50% poison"
      trueface compare --before old/*_vs_*.pkl --after new/*_vs_*.pkl
    """
    inputs = _inputs(places, before, after)
    # scikit-learn takes a second to import; help and wrong arguments must not wait for it
    from trueface.cli import comparison_text
    from trueface.evaluation import comparison as reading
    from trueface.evaluation.comparison import compare as compare_models
    from trueface.evaluation.comparison import document

    names = titles or reading.titles(*inputs)
    first, second = (
        reading.read_input(paths, title=name) for paths, name in zip(inputs, names, strict=True)
    )
    first, second = reading.note_launch_modes(first, second)
    comparison = compare_models(first, second, same_order=same_order)
    click.echo(json.dumps(document(comparison)) if as_json else comparison_text.text(comparison))


def _inputs(
    places: tuple[Path, ...], first_files: tuple[Path, ...], second_files: tuple[Path, ...]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    if len(places) == 2 and not first_files and not second_files:
        return places[:1], places[1:]
    if not places and first_files and second_files:
        return first_files, second_files
    raise UsageError(
        "expected two models. Give A and B, or --before FILE… with --after FILE…: "
        "trueface compare --help"
    )
