"""A search as `launcher show` prints it."""

import re
import shlex
from collections.abc import Iterator, Mapping

from launcher.experiments.search.definition import SearchDefinition, read_definition
from launcher.experiments.search.submission import describe
from launcher.experiments.taskfile.domains import Choice, Range, text_of
from launcher.frontends.screens.search_view import (
    best_of,
    count_more_best,
    search_title,
    state_text,
    trials_text,
)
from launcher.queue.jobs.params import TEMPLATE
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import columns

_BRACES = re.compile(r"[\w{}=.,:/+-]+")  # words that no shell changes, also with a name in braces


def search_lines(store: Store, search: SearchRow) -> Iterator[str]:
    """Yield the lines about a search: its state, why it ended, its values and its best trials."""
    definition = read_definition(search.body)
    reason = f": {sanitize_terminal(search.reason)}" if search.reason else ""
    yield f"search {search_title(search)}"
    yield f"{state_text(search)}{reason}"
    yield ""
    facts = [
        ("goal", describe(search, definition).partition(": ")[2]),
        ("trials", trials_text(search)),
        ("pruner", definition.pruner),
        *((f"values of {name}", _domain_text(each)) for name, each in definition.space.items()),
        *([] if definition.repeat is None else [("repeated", definition.repeat.name)]),
        *([("program", _program(definition))] if definition.argv else []),
    ]
    yield from columns([(name, sanitize_terminal(text)) for name, text in facts])
    best = best_of(search)
    if not best:
        return
    params = {row.job: row.values for row in store.searches.trials(search.id)}
    yield ""
    yield "best trial" if len(best) == 1 else "best trials: none is better in each metric"
    rows = []
    for each in best:
        job = each.get("job")
        values = params.get(job, {}) if isinstance(job, int) else {}
        rows.append((f"  job {job}", _pairs(each.get("values")), _pairs(values)))
    yield from columns(rows)
    if more := count_more_best(search):
        yield f"  and {pluralize(more, 'more trial')} as good. List the trials: launcher results {shlex.quote(search.run)}"


def _pairs(values: object) -> str:
    known = values if isinstance(values, Mapping) else {}
    words = (
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in known.items()
    )
    return sanitize_terminal(" ".join(words))


def _domain_text(domain: Range | Choice) -> str:
    if isinstance(domain, Choice):
        return ",".join(map(text_of, domain.values))
    step = "" if domain.step is None else f"..{domain.step}"
    return f"{domain.low}..{domain.high}{step}{':log' if domain.log else ''}"


def _program(definition: SearchDefinition) -> str:
    spec = definition.spec
    if spec is None:
        return ""
    template = spec.settings.get(TEMPLATE)
    written = template["settings"].get("argv") if isinstance(template, Mapping) else None
    words = map(str, written or spec.argv)
    return " ".join(word if _BRACES.fullmatch(word) else shlex.quote(word) for word in words)
