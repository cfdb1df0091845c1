"""Messages for a wrong command line: what is wrong, and what could stand there."""

from collections.abc import Collection, Sequence

import click

from launcher.errors import nearest


def explained(
    error: click.ClickException, words: Sequence[str], verbs: Collection[str]
) -> click.ClickException:
    """Return an error of the command line's grammar with what to do about it.

    Args:
        error: as click raised it.
        words: the command line.
        verbs: those of `launcher`.
    """
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        return click.UsageError(_no_option(error.option_name, error.ctx), error.ctx)
    if isinstance(error, click.exceptions.NoSuchCommand) and error.ctx is not None:
        return click.UsageError(_no_command(error, error.ctx), error.ctx)
    if isinstance(error, click.UsageError) and error.ctx is None:
        verb = next((word for word in words if word in verbs), None)
        where = f"launcher {verb} --help" if verb else "launcher --help"
        return click.UsageError(f"{error.format_message()} `{where}` tells which.")
    return error


def _no_option(name: str, context: click.Context) -> str:
    options = [option for option in context.command.params if isinstance(option, click.Option)]
    by_word = {word.lstrip("-"): word for option in options for word in option.opts}
    close = nearest(name.lstrip("-"), by_word)  # the dashes of all are alike
    return f"No such option {name!r}.{_meant(by_word[close] if close else None)}"


def _no_command(error: click.exceptions.NoSuchCommand, context: click.Context) -> str:
    verbs = (
        context.command.list_commands(context) if isinstance(context.command, click.Group) else []
    )
    close = nearest(error.command_name, verbs)
    hint = _meant(close) or (f" Known: {', '.join(verbs)}." if len(verbs) < 5 else "")
    return f"{error.message}{hint}"


def _meant(word: str | None) -> str:
    return f" Did you mean {word!r}?" if word else ""
