"""The results of checks of `launcher doctor`."""

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from launcher.system.files import Json
from launcher.system.text import sanitize_terminal


class CheckStatus(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """The result of one check."""

    status: CheckStatus
    summary: str
    advice: str = ""  # the remedy; empty: there is none
    name: str = ""

    def columns(self) -> tuple[str, ...]:
        """Return the finding as a line for pipes."""
        return (
            self.name,
            self.status,
            sanitize_terminal(self.summary),
            sanitize_terminal(self.advice) or "-",
        )

    def to_json(self) -> dict[str, Json]:
        """Return the finding for JSON."""
        return {
            "name": self.name,
            "verdict": self.status,
            "told": self.summary,
            "advice": self.advice or None,
        }


Findings = Mapping[str, Finding | None]  # by name; None: nothing to report


# no problem, possible problem, problem for jobs, and unknown or irrelevant
ok, warning, trouble, unknown = (partial(Finding, verdict) for verdict in CheckStatus)
