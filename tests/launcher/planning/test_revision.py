import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import Problems
from launcher.job import Resources, Terms
from launcher.job_options.registry import JobRequest, job_options
from launcher.planning.revision import option_text, yaml_text
from launcher.taskfile.yaml_tree import plain_value, read_document

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    problems = Problems()
    node = read_document(f"key: {yaml_text(value)}", "form", problems)
    assert node is not None
    assert not problems
    assert plain_value(node) == {"key": value}


@given(
    st.integers(1, 1 << 50),
    st.floats(0.001, 10**7),
    st.integers(-100, 100),
    st.floats(1, 10**8),
)
def test_an_option_is_read_back_as_it_was(
    amount: int, span_s: float, priority: int, later_s: float
) -> None:
    now = time.time()
    span_s = round(span_s, 6)
    asked = JobRequest(
        resources=Resources(min_vram=amount, ram=amount * 2, exclusive=True, cpus=3),
        terms=Terms(
            time_limit_s=span_s,
            not_before=round(now + later_s, 3),
            group="a b",
            tensorboard="runs/# 1: first",
            rerun="never",
            warn_signal="SIGUSR1",
            on=("slurm", "local"),
        ),
        priority=priority,
        gpus=2,
    )
    asked = asked._replace(resources=asked.resources._replace(gpus=2))
    read = JobRequest()
    for option in job_options().values():
        if text := option_text(option, asked):
            node = read_document(f"key: {text}", "form", Problems())
            assert node is not None
            written = plain_value(node)["key"]
            value = option.takes.read(
                str(written).lower() if written is True else str(written), now
            )
            read = option.apply(read, value)
    assert abs((read.terms.time_limit_s or 0) - span_s) < 1e-6
    moments = read.terms.not_before, asked.terms.not_before
    assert abs((moments[0] or 0) - (moments[1] or 0)) < 1e-3
    terms = read.terms._replace(time_limit_s=span_s, not_before=asked.terms.not_before)
    assert read._replace(terms=terms) == asked
