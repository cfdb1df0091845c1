"""Flags of the original programs: their parser, the help of a setting, and the rate of flipped labels."""

import argparse
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from launcher.api import (
    UsageError,
    meant,
)
from trueface.jobs.flags import (
    is_range,
    is_truth,
)


class Parser(argparse.ArgumentParser):
    """Reads the flags of an original program, and reports errors as the rest of the laboratory does."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` where argparse would end the program."""
        raise UsageError(message)

    def add_setting(
        self, key: str, field: FieldInfo, text: str, *, truth: str | None = None, **default: Any
    ) -> None:
        """Add the flag of a setting; of one that is true or false also --no-KEY.

        Args:
            key: its name.
            field: definition of the setting.
            text: its help.
            truth: how help names the value of a boolean flag, or None for the wording of the setting.
            default: where the parser has no other for all.
        """
        if not is_truth(field):
            self.add_argument(
                f"--{key}", nargs="+" if is_range(field) else None, help=text, **default
            )
            return
        self.add_argument(f"--{key}", nargs="?", const="true", metavar=truth, help=text, **default)
        self.add_argument(f"--no-{key}", dest=key, action="store_const", const="false")

    def parse_flags(
        self, argv: Sequence[str], flag_names: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Return what flags gave.

        Args:
            argv: the command line.
            flag_names: names of flags that one may have meant; by default all that have a value.

        Raises:
            UsageError: an unknown flag, with the nearest one, or a flag without its value.
        """
        namespace, unknown = self.parse_known_args(argv)
        given = vars(namespace)
        for word in unknown:
            flags = (f"--{name}" for name in flag_names or given)
            raise UsageError(f"unknown argument {word!r}{meant(word.partition('=')[0], flags)}")
        return given


def percent_of(rate: str) -> Decimal | None:
    """Return the percentage of --poison_rate; None where it is not within 0 to 1.

    Raises:
        UsageError: the text is not a number.
    """
    try:
        percent = Decimal(rate) * 100
        is_within = 0 <= percent <= 100
    except InvalidOperation as error:
        raise UsageError(f"--poison_rate {rate!r} is not a number from 0 to 1") from error
    return percent if is_within else None


def help_text(description: str, value: object) -> str:
    """Return the help of a setting, with its default where it has one."""
    if isinstance(value, tuple):
        value = " ".join(map(str, dict.fromkeys(value)))
    shown = "" if value is None else f" (default: {value})"
    return f"{description}{shown}".replace("%", "%%")
