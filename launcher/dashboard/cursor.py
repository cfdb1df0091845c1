"""Sections of lines, the jobs among them, and the one that is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.lines import Line, line


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lines that belong together, such as those of what runs."""

    name: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Where the cursor may rest: a job in a section, and the lines that it takes."""

    section: str
    job: int
    first: int
    end: int  # the line after its last


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sections one below the other, with an empty line between two."""

    lines: tuple[Line, ...]
    stops: tuple[Stop, ...]
    tops: tuple[int, ...]  # where the sections begin

    def find(self, chosen: Stop | None, place: int) -> int | None:
        """Return the stop of the job that was chosen, None where there is no stop at all.

        Args:
            chosen: where the cursor was.
            place: which of all stops that was; it is taken where the job is gone.
        """
        if not self.stops:
            return None
        if chosen is None:
            return 0
        same = [n for n, stop in enumerate(self.stops) if stop.job == chosen.job]
        there = [n for n in same if self.stops[n].section == chosen.section]
        return next(iter([*there, *same]), min(place, len(self.stops) - 1))


def laid_out(sections: Sequence[Section]) -> Layout:
    """Return sections as one list of lines, and where their jobs are."""
    lines: list[Line] = []
    stops: list[Stop] = []
    tops: list[int] = []
    for section in sections:
        if not section.lines:
            continue
        if lines:
            lines.append(line(""))
        tops.append(len(lines))
        for one in section.lines:
            number = len(lines)
            lines.append(one)
            if one.job is None:
                continue
            last = stops[-1] if stops else None
            if last and last.end == number and last.job == one.job:
                stops.pop()
                number = last.first
            stops.append(Stop(section=section.name, job=one.job, first=number, end=len(lines)))
    return Layout(lines=tuple(lines), stops=tuple(stops), tops=tuple(tops))
