"""Types of options of the command line: numbers, time spans, memory, and defaults as text."""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from launcher.queue.job_options import value_types
from launcher.queue.job_options.value_types import LONGEST_SPAN_S, ValueType
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.system.errors import UsageError

_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
Command = TypeVar("Command", bound=Callable[..., Any])


class ValueParamType(click.ParamType[Any]):
    """A value with a unit; errors name the option of an invalid value."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        """Set the reader of texts, which raises UsageError with the expected form."""
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of the text."""
        try:
            return self._read(str(value))
        except UsageError as error:
            return self.fail(f"{error}{self._point_hint(str(value))}", param, ctx)

    def _point_hint(self, text: str) -> str:
        """Return the sentence that writes a decimal comma as a point; '' if this does not help."""
        pointed = _DECIMAL_COMMA.sub(".", text, count=1)
        if pointed == text:
            return ""
        try:
            self._read(pointed)
        except UsageError:
            return ""
        return f". Write {pointed}"


class TextDefaultOption(click.Option):
    """An option whose default is set by the reader of the request; help and `config` show it."""

    def __init__(self, *arguments: Any, text_default: str = "", **options: Any) -> None:
        """Set the default as it would be typed; '' for none."""
        super().__init__(*arguments, **options)
        self.text_default = text_default

    def get_help_extra(self, ctx: click.Context) -> Any:  # click's own type is not public
        """Return the text in brackets after the help text."""
        extra = super().get_help_extra(ctx)
        if self.text_default:
            extra["default"] = self.text_default
        return extra


flag = partial(click.option, is_flag=True)
json_option = flag("--json", "as_json", help="Print one JSON object (schema 1).")


def value_param(value_type: ValueType) -> ValueParamType:
    """Return the type of an option that reads its values as in task files."""
    return ValueParamType(value_type.metavar, lambda text: value_type.read(text, time.time()))


def span(*, most_s: float = LONGEST_SPAN_S) -> ValueParamType:
    """Return the type of a time span such as `8h`, in seconds.

    Args:
        most_s: Longest valid span in seconds.
    """
    return value_param(value_types.span(most_s=most_s))


def whole_number(least: int, most: int | None = None) -> ValueParamType:
    """Return the type of an integer within limits.

    Args:
        least: Smallest valid number.
        most: Largest valid number; None for no limit.
    """
    return value_param(value_types.whole_number(least, most))


def real_number(least: float, most: float) -> ValueParamType:
    """Return the type of a number within limits."""
    return value_param(value_types.real_number(least, most))


class States(click.ParamType[frozenset[State]]):
    """A list of states of jobs, separated by commas."""

    name = "states"

    def __init__(self, allowed_states: frozenset[State] = frozenset(State)) -> None:
        """Set the valid states."""
        self._among = allowed_states

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
    # the scheduling policy, which few verbs need
    from launcher.queue.scheduler.chosen_policy import find_policy
    from launcher.queue.scheduler.policy.disciplines import POLICIES_BY_NAME

    return click.option(
        "--policy",
        type=ValueParamType("name", find_policy),
        metavar="NAME",
        help=f"Set the scheduling policy of the queue: {', '.join(POLICIES_BY_NAME)}.",
    )
