"""Help pages of commands: the summary, examples, and the options under headings."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

TYPED_WORDS = f"{__name__}.words"  # key of a context's `meta`: the words behind the command's name
_EXAMPLES = "\b\nExamples:\n"  # after a backspace, click does not rewrap lines
COMMON_OPTIONS = "Common options"  # first section of a long page
_OTHER_OPTIONS = "Other options"
_WIDEST = 30  # columns; the text of an option with a longer name starts on the next line


class HelpPage(click.Command):
    """A command whose page begins with its summary and examples. Its options are in sections.

    The docstring of the command ends with the examples, below a backspace and `Examples:`. The page prints further
    paragraphs below the section of common options, or above all options.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        heading: str = "",
        place: int = 0,
        summary: str = "",
        offered_states: Sequence[str] = (),
        other_names: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Set the sections of the options, and the row of the command in the table of verbs.

        `.ci/verb_table.py` writes this table, launcher/frontends/cli/verb_table.py.

        Args:
            arguments: Arguments of `click.Command`.
            sections: Heading → long names of its options without the dashes, in the order of the page. Other
                options follow below a separate heading.
            heading: Heading of the command in `launcher --help`; '' for a subcommand.
            place: Place below this heading, counted in tens.
            summary: Text in `launcher --help`; '' for the first paragraph of the docstring.
            offered_states: States of the jobs that completion offers first.
            other_names: Words of the command line here → names of this command in other tools, with blanks between
                them. Words in capitals stand for those of the user.
            settings: Keyword arguments of `click.Command`.
        """
        super().__init__(*arguments, **settings)
        self.sections = sections or {}
        self.heading, self.place, self.offered = heading, place, offered_states
        self.summary = summary or " ".join((self.help or "").partition("\n\n")[0].split())
        self.other_names = other_names or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, and refuse an option that took the separator `--` as its value."""
        ctx.meta[TYPED_WORDS] = [*args]
        rest = super().parse_args(ctx, args)
        for option in self.params:
            value = ctx.params.get(option.name or "")
            values = value if isinstance(value, tuple | list) else (value,)
            if isinstance(option, click.Option) and "--" in values:
                name = max(option.opts, key=len)
                raise click.UsageError(f"{name}: missing value before '--'", ctx)
        return rest

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Print the summary and the examples."""
        text, _, examples = inspect.cleandoc(self.help or "").partition(_EXAMPLES)
        _write_text(formatter, text.partition("\n\n")[0])
        if examples:
            with formatter.section("Examples"):
                for line in inspect.cleandoc(examples).splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the other paragraphs, the options in their sections, and the commands of a group."""
        records = {
            max(option.opts, key=len).lstrip("-"): record
            for option in self.get_params(ctx)
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx))
        }
        rows = {
            heading: [records.pop(name) for name in names]
            for heading, names in self.sections.items()
        }
        rows[_OTHER_OPTIONS if rows else "Options"] = [*records.values()]
        lengths = [len(names) for section in rows.values() for names, _ in section]
        widest = max(length for length in lengths if length <= _WIDEST)
        further = inspect.cleandoc(self.help or "").partition(_EXAMPLES)[0].partition("\n\n")[2]
        if COMMON_OPTIONS not in rows:
            _write_text(formatter, further)
        for heading, section in rows.items():
            with formatter.section(heading):  # aligns the texts of all sections
                formatter.write_dl([(f"{names:{widest}}", text) for names, text in section])
            if heading == COMMON_OPTIONS:
                _write_text(formatter, further)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


def _write_text(formatter: click.HelpFormatter, text: str) -> None:
    if text.strip():
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.rstrip())


class GroupPage(HelpPage, click.Group):
    """A group of commands with such a page."""


def launcher_command(**settings: Any) -> Callable[[Callable[..., Any]], HelpPage]:
    """Return a decorator that creates a command; `settings` are those of `HelpPage`."""
    return click.command(cls=HelpPage, **settings)


def launcher_group(**settings: Any) -> Callable[[Callable[..., Any]], GroupPage]:
    """Return a decorator that creates a group of commands."""
    return click.group(cls=GroupPage, **settings)
