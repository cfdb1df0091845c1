"""Options that say when a job runs, how long, how often, and beside which others."""

from launcher.job import LONGEST_BACKOFF_S, RERUNS
from launcher.job_options.registry import JobOption, register_options
from launcher.job_options.value_types import (
    PRIORITY,
    Choice,
    Moment,
    Names,
    Signal,
    Span,
    Whole,
    Word,
)

MOST_RETRIES = 1000  # the pause doubles each time, and must stay a number

register_options(
    JobOption(
        name="priority",
        takes=PRIORITY,
        field="priority",
        default="0",
        help="Higher starts sooner",
    ),
    JobOption(
        name="group",
        takes=Word(),
        field="terms.group",
        help="It shares the limit that `launcher group` gave this group",
    ),
    JobOption(
        name="not_before",
        takes=Moment(),
        field="terms.not_before",
        help="It starts no sooner; 18:00 is the next time that local clocks show it",
    ),
    JobOption(
        name="time_limit",
        takes=Span(positive=True),
        field="terms.time_limit_s",
        help="It is ended when it has run for so long",
    ),
    JobOption(
        name="warn",
        takes=Span(),
        field="terms.warn_s",
        help="It gets `signal` so long before its time limit",
    ),
    JobOption(
        name="signal",
        takes=Signal(),
        field="terms.warn_signal",
        default="SIGTERM",
        help="What `warn` sends",
    ),
    JobOption(
        name="retries",
        takes=Whole(0, MOST_RETRIES),
        field="terms.retries",
        default="0",
        help="How often it runs again after it failed",
    ),
    JobOption(
        name="backoff",
        takes=Span(most_s=LONGEST_BACKOFF_S),
        field="terms.backoff_s",
        default="10s",
        help="Pause before its first retry; doubles each time, up to an hour",
    ),
    JobOption(
        name="grace",
        takes=Span(),
        field="terms.grace_s",
        default="30s",
        help="From SIGTERM to SIGKILL",
    ),
    JobOption(
        name="rerun",
        takes=Choice(RERUNS),
        field="terms.rerun",
        default="again",
        help="What follows when it was stopped, or its end is unknown; never: it fails",
    ),
    JobOption(
        name="on",
        takes=Names(),
        field="terms.on",
        help="Where it may run, the preferred place first: local, or a table of [backends] in config.toml",
    ),
)
