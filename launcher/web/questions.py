"""What is asked before a job is changed, and what was answered."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.screens.dashboard.job_actions import JobAction
from launcher.screens.dashboard.job_texts import TEXTS, JobText
from launcher.screens.format import harmless
from launcher.web.pages.page import Content, NotThere

KEYS: Mapping[str, str] = {
    "hold": "h",
    "release": "l",
    "pause": "p",
    "resume": "u",
    "cancel": "c",
    "retry": "r",
    "raise": "+",
    "lower": "-",
    "tag": "t",
    "note": "n",
}  # the verbs of addresses; what `top` can do, too, has the key that it has there
LABELS: Mapping[str, str] = {
    "hold": "Hold",
    "release": "Release",
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel",
    "retry": "Retry",
    "raise": "Priority +1",
    "lower": "Priority -1",
    "tag": "Tags",
    "note": "Note",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What shall be done, and to which job."""

    job: int
    verb: str

    def __post_init__(self) -> None:
        """Refuse what nobody can do.

        Raises:
            NotThere: there is no such verb.
        """
        if self.verb not in KEYS:
            raise NotThere(f"there is no change {harmless(self.verb)!r} of a job")

    @property
    def key(self) -> str:
        """The key that does it."""
        return KEYS[self.verb]

    @property
    def writes(self) -> bool:
        """A text on the job is changed."""
        return self.verb in TEXTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a text is typed."""

    text: str
    rule: str
    longest: int  # characters
    several_lines: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a form sends."""

    confirms: str  # of the question that was answered
    text: str = ""  # that was typed


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked before a change, or why there can be none."""

    text: str
    possible: bool
    confirms: str = ""  # is sent with the answer: another one where something else would be done
    field: Field | None = None
    trouble: str = ""  # why the answer to the one before did nothing

    def content(self, target: Target) -> Content:
        """Return what fills the page that asks."""
        yes = "Save" if target.writes else f"Yes, {target.verb}"
        values = {"target": target, "question": self, "yes": yes}
        return Content(title=f"{target.verb} job {target.job}", values=values)


def question_of(proposal: JobAction | JobText | str) -> Question:
    """Return the question for a change.

    Args:
        proposal: the change, or why it cannot be.
    """
    if isinstance(proposal, str):
        return Question(text=proposal, possible=False)
    if isinstance(proposal, JobAction):
        return Question(text=proposal.asked, possible=True, confirms=proposal.asked)
    digest = hashlib.sha256(proposal.text.encode(errors="surrogatepass")).hexdigest()
    field = Field(
        text=proposal.text,
        rule=proposal.rule,
        longest=proposal.longest,
        several_lines=proposal.several_lines,
    )
    confirms = f"{proposal.asked} {digest[:16]}"
    return Question(text=f"{proposal.asked}:", possible=True, confirms=confirms, field=field)
