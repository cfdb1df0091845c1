"""Types of options of the command line: numbers, time spans, memory, and defaults as text."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from launcher.errors import UsageError
from launcher.job_options import value_types
from launcher.job_options.value_types import LONGEST_SPAN_S, ValueType
from launcher.states import OPEN_STATES, State

Command = TypeVar("Command", bound=Callable[..., Any])
RUN = "add"  # the run of jobs that come from no task file


class ValueParamType(click.ParamType[Any]):
    """A value that a person writes with its unit; a wrong one is named with its option."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        """Read texts with a function that raises UsageError, which says what was expected."""
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the text means."""
        try:
            return self._read(str(value))
        except UsageError as error:
            return self.fail(str(error), param, ctx)


class TextDefaultOption(click.Option):
    """An option whose default is set later, by whoever reads the request; help and `config` show it."""

    def __init__(self, *arguments: Any, text_default: str = "", **options: Any) -> None:
        """Take the default as it would be typed; '': there is none."""
        super().__init__(*arguments, **options)
        self.text_default = text_default

    def get_help_extra(self, ctx: click.Context) -> Any:  # click's own type is not public
        """Return what stands in brackets behind the help text."""
        extra = super().get_help_extra(ctx)
        if self.text_default:
            extra["default"] = self.text_default
        return extra


flag = partial(click.option, is_flag=True)
json_option = flag("--json", "as_json", help="Print one JSON object (schema 1).")


def value_param(takes: ValueType) -> ValueParamType:
    """Return the type of an option that reads its values as task files do."""
    return ValueParamType(takes.metavar, lambda text: takes.read(text, time.time()))


def span(*, most_s: float = LONGEST_SPAN_S, bare: bool = False) -> ValueParamType:
    """Return the type of a time span such as `8h`, in seconds.

    Args:
        most_s: a longer one is refused.
        bare: a number without a unit means seconds.
    """
    return value_param(value_types.span(most_s=most_s, bare=bare))


def whole(least: int, most: int | None = None) -> ValueParamType:
    """Return the type of a whole number within limits.

    Args:
        least: the smallest.
        most: the largest; None: there is none.
    """
    return value_param(value_types.whole(least, most))


def real(least: float, most: float) -> ValueParamType:
    """Return the type of a number within limits."""
    return value_param(value_types.real(least, most))


class States(click.ParamType[frozenset[State]]):
    """Some of the states of jobs, with commas between them."""

    name = "states"

    def __init__(self, among: frozenset[State] = frozenset(State)) -> None:
        """Take those among some states."""
        self._among = among

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[State]:
        """Return the states."""
        names = [str(state) for state in State if state in self._among]
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if word in OPEN_STATES - self._among:
                self.fail(f"{word} jobs have not ended. Cancel them first.", param, ctx)
            if word not in names:
                self.fail(f"expected some of {', '.join(names)}, got {word!r}", param, ctx)
        return frozenset(map(State, words))


SIZE = value_param(value_types.size())  # memory such as `8GiB`, in bytes
PRIORITY = value_param(value_types.PRIORITY)
SHARE = value_param(value_types.SHARE)


def policy_option() -> Callable[[Command], Command]:
    """Return the option that chooses the policy of the queue, `policy`."""
    # what decides what starts, of which few verbs need a name
    from launcher.scheduler.chosen_policy import find_policy
    from launcher.scheduler.policy.disciplines import POLICIES_BY_NAME

    return click.option(
        "--policy",
        type=ValueParamType("name", find_policy),
        metavar="NAME",
        help=f"Set the scheduling policy of the queue: {', '.join(POLICIES_BY_NAME)}.",
    )
