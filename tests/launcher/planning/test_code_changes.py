"""Jobs that were done with other code: distinguished from those with other settings, and kept on request."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from launcher.experiments.planning.comparison import Action, ComparedJob
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.revision import option_text, yaml_text
from launcher.experiments.planning.submit import submit
from launcher.experiments.taskfile.nodes import plain_value
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.frontends.screens.plan_differences import other_options
from launcher.queue.job_options.registry import JobRequest, job_options
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.store.queue import Store
from launcher.system.errors import Problems, UsageError
from tests.build import a_context, claimed
from tests.launcher import language
from tests.launcher.language import KINDS, ROOT, finish, queue

FILE = "train: [{data: dot:pre, poison: [0, 50]}, {data: line:pre, poison: 50}]\nautotest: [real:pre]\n"


def a_plan(
    text: str = FILE,
    *said: str,
    code: str | Mapping[str, str] = "old",
    kinds: Mapping[str, Any] = KINDS,
) -> Plan:
    digests = {"": code} if isinstance(code, str) else code
    return language.a_plan(text, *said, exists=lambda _: True, code=lambda *_: digests, kinds=kinds)


def judged(store: Store, made: Plan, **options: Any) -> dict[str, ComparedJob]:
    return {one.job.name: one for one in language.compared(store, made, **options).jobs}


@pytest.fixture
def done(store: Store) -> Store:
    """A queue in which all of `FILE` was done with the old code."""
    queue(store, a_plan())
    finish(store)
    return store


def test_every_job_differs_only_in_code_and_is_not_accepted_without_the_option(done: Store) -> None:
    compared = judged(done, a_plan(code="new"))
    assert {one.action for one in compared.values()} == {Action.RUN}
    assert all(one.is_other_code for one in compared.values())
    assert not any(one.is_other_code for one in judged(done, a_plan()).values())
    submitted = queue(done, a_plan(code="new"))
    assert (submitted.queued, submitted.cached) == (len(submitted.jobs), 0)
    events = [event for number in submitted.jobs for event in done.read.events_of(number)]
    assert ReasonCode.ACCEPTED not in {reason.code for _, _, reason in events}


def test_accepted_results_are_kept_until_the_code_changes_again(done: Store) -> None:
    accepted = queue(done, a_plan(code="new"), accept_code=True)
    assert (accepted.queued, accepted.cached) == (0, len(accepted.jobs))
    later = judged(done, a_plan(code="new"))
    assert {(one.action, one.is_other_code) for one in later.values()} == {(Action.CACHED, False)}
    reasons = {done.read.events_of(number)[-1][2].text for number in accepted.jobs}
    assert reasons == {"accepted by --accept-code: result made with other code"}
    newest = judged(done, a_plan(code="newest"))
    assert all(one.is_other_code and one.action is Action.RUN for one in newest.values())
    assert queue(done, a_plan(code="newest"), accept_code=True).queued == 0


def test_changed_setting_and_its_dependents_are_not_accepted(done: Store) -> None:
    text = FILE.replace("poison: [0, 50]}", "poison: [0, 50], lr: 0.25}")
    compared = judged(done, a_plan(text, code="new"), accept_code=True)
    again = {name for name, one in compared.items() if one.action is Action.RUN}
    assert again == {
        name for name in compared if "dot:pre" in name and not name.startswith("poison")
    }
    assert not any(compared[name].is_other_code for name in again)


@pytest.mark.parametrize(
    ("code", "modules", "change"),
    [
        ({"": "new", "lab.work": "a1", "lab.loss": "b2"}, ("lab.loss",), "lab.loss b1… → b2…"),
        ({"": "new", "lab.work": "a1", "lab.far": "b1"}, (), "other code"),
        ({"": "new", "lab.work": "a1"}, ("lab.loss",), "lab.loss b1… → absent"),
        ({"": "new", "lab": "a2", "lab.far": "b1"}, ("lab", "lab.work"), "lab absent → a2…"),
    ],
)
def test_change_lists_changed_but_not_moved_modules(
    store: Store, code: Mapping[str, str], modules: tuple[str, ...], change: str
) -> None:
    queue(store, a_plan(code={"": "old", "lab.work": "a1", "lab.loss": "b1"}))
    finish(store)
    compared = judged(store, a_plan(code=code))["train/dot:pre"]
    assert (compared.other_definitions, compared.changes[0]) == (modules, change)
    assert compared.is_other_code


def test_new_setting_with_its_default_counts_as_code(done: Store) -> None:
    train = KINDS["train"]

    class Newer(train.settings):  # type: ignore[name-defined, misc]  # made from what a test has
        momentum: float = 0.5

    kinds = {**KINDS, "train": replace(train, settings=Newer)}  # type: ignore[type-var]
    compared = judged(done, a_plan(code="new", kinds=kinds))
    assert all(one.is_other_code for one in compared.values())
    other = judged(done, a_plan(FILE, "train.momentum=0.75", code="new", kinds=kinds))
    assert not any(one.is_other_code for name, one in other.items() if name.startswith("train"))


def with_revisions(*names: str) -> Mapping[str, Any]:
    """Return the kinds with revisions of trainings with a learning rate of 0.25."""
    train = KINDS["train"]

    class Revised(train.settings):  # type: ignore[name-defined,misc]  # a variable
        @classmethod
        def revisions(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
            return names if values["lr"] == 0.25 else ()

    return {**KINDS, "train": replace(train, settings=Revised)}  # type: ignore[type-var]


def test_revision_reruns_only_jobs_with_its_settings_and_can_be_accepted(store: Store) -> None:
    text = FILE.replace("poison: [0, 50]}", "poison: [0, 50], lr: 0.25}")
    queue(store, a_plan(text))
    finish(store)
    kinds = with_revisions("another sum")
    compared = judged(store, a_plan(text, kinds=kinds))
    again = {name for name, one in compared.items() if one.action is Action.RUN}
    assert {name for name in again if name.startswith("train")} == {
        "train/dot:pre",
        "train/dot:pre%50",
    }
    assert compared["train/dot:pre"].changes == ("another sum",)
    assert all(compared[name].is_other_code for name in again)
    assert queue(store, a_plan(text, kinds=kinds), accept_code=True).queued == 0
    now = judged(store, a_plan(text, kinds=kinds)).values()
    assert {one.action for one in now} == {Action.CACHED}
    newest = a_plan(text, code="new", kinds=kinds)
    assert all(one.is_other_code for one in judged(store, newest).values())


@pytest.mark.parametrize(
    "names", [("another sum", "bias"), ("another sum", "zeros"), ("a", "another sum", "b")]
)
def test_further_revisions_are_named_alone_and_can_be_accepted(
    store: Store, names: tuple[str, ...]
) -> None:
    text = FILE.replace("poison: [0, 50]}", "poison: [0, 50], lr: 0.25}")
    queue(store, a_plan(text, kinds=with_revisions("another sum")))
    finish(store)
    kinds = with_revisions(*names)
    compared = judged(store, a_plan(text, kinds=kinds))
    new = tuple(sorted({*names} - {"another sum"}))
    assert compared["train/dot:pre"].changes == new
    assert queue(store, a_plan(text, kinds=kinds), accept_code=True).queued == 0


# --- settings and plug-ins that came later, and that a job does not use


class Index:
    """An index of code that did not change; `words` are the words in it."""

    def __init__(self, *words: str, whole: str = "old") -> None:
        self._words, self._whole = frozenset(words), whole

    def code(self, *_: object) -> Mapping[str, str]:
        return {"": self._whole}

    def words(self, *_: object) -> frozenset[str]:
        return self._words

    def changed_definitions(self, *_: str) -> tuple[str, ...]:
        return ()


def with_setting(
    name: str, default: float | None = 0.5, kinds: Mapping[str, Any] = KINDS
) -> Mapping[str, Any]:
    """Return kinds of which trainings have one setting more."""
    train = kinds["train"]
    fields: dict[str, Any] = {name: (float | None, default)}
    settings = create_model("Wider", __base__=train.settings, **fields)
    return {**kinds, "train": replace(train, settings=settings)}


def known(text: str, *said: str, index: Index | None = None, **rest: Any) -> Plan:
    made: Any = a_plan(text, *said, **rest)
    return replace(made, index=index or Index())  # type: ignore[no-any-return]  # a dataclass


def actions(store: Store, made: Plan, **options: Any) -> set[Action]:
    return {one.action for one in judged(store, made, **options).values()}


def test_later_setting_causes_no_rerun_of_code_that_does_not_use_it(
    done: Store,
) -> None:
    kinds = with_setting("cfk_most")
    assert actions(done, known(FILE, kinds=kinds)) == {Action.CACHED}
    named = judged(done, known(FILE, kinds=kinds, index=Index("cfk_most")))
    assert named["train/dot:pre"].is_other_code  # the effect of the code without it is not known
    assert judged(done, known(FILE, "train.cfk_most=1", kinds=kinds))["train/dot:pre"].changes == (
        "cfk_most unset → 1.0",
    )
    assert actions(done, known(FILE, kinds=kinds, index=Index(whole="new"))) != {Action.CACHED}


def test_job_keeps_its_hash_when_plugins_follow_each_other(
    done: Store,
) -> None:
    more = FILE.replace("[real:pre]", "[real:pre, line:pre]")
    one, two = with_setting("one", None), with_setting("two", None)
    both = with_setting("two", None, one)
    compared = judged(done, known(more, kinds=one))
    new = {name for name, each in compared.items() if each.action is Action.RUN}
    assert new == {name for name in compared if name.endswith("/line:pre")}
    queue(done, known(more, kinds=one))
    finish(done)
    for kinds in (one, two, both, KINDS):
        assert actions(done, known(more, kinds=kinds)) == {Action.CACHED}
    again = [name for name, each in judged(done, known(more, kinds=one), force=True).items()]
    assert len(again) == len(compared)


def test_rerun_job_has_all_current_settings(done: Store) -> None:
    kinds = with_setting("cfk_most", None)
    queue(done, known(FILE, kinds=kinds), force=True)
    assert "cfk_most" in done.read.jobs_of(ROOT, "x")["train/dot:pre"].spec.settings
    finish(done)
    assert actions(done, known(FILE, kinds=kinds)) == {Action.CACHED}
    assert actions(done, known(FILE)) == {Action.CACHED}  # the plug-in is gone
    assert actions(done, known(FILE, index=Index("cfk_most"))) != {Action.CACHED}


def test_results_of_excluded_phases_match_without_later_plugins(
    done: Store,
) -> None:
    made = known(FILE, "phases=[test]", kinds=with_setting("cfk_most"))
    assert actions(done, made) == {Action.CACHED}


def test_changed_definition_is_named(store: Store) -> None:
    class Naming(Index):
        def changed_definitions(self, *digests: str) -> tuple[str, ...]:
            assert digests == ("b1", "b2")
            return ("", "decay", "rate")

    queue(store, a_plan(code={"": "old", "lab.work": "a1", "lab.loss": "b1"}))
    finish(store)
    code = {"": "new", "lab.work": "a1", "lab.loss": "b2"}
    compared = judged(store, known(FILE, code=code, index=Naming(whole="new")))["train/dot:pre"]
    assert compared.other_definitions == ("lab.loss", "lab.loss.decay", "lab.loss.rate")
    assert compared.changes == (
        "lab.loss b1… → b2…",
        "lab.loss.decay changed",
        "lab.loss.rate changed",
    )


def test_results_of_excluded_phases_are_accepted(done: Store) -> None:
    made = a_plan(FILE, "phases=[test]", code="new")
    with pytest.raises(UsageError, match=r"was made with other code\. .* or keep it with --accept"):
        judged(done, made)
    assert queue(done, made, accept_code=True).queued == 0
    assert {one.action for one in judged(done, made).values()} == {Action.CACHED}


@pytest.mark.parametrize(("said", "options"), [((), {"force": True}), (("reuse=nothing",), {})])
def test_results_are_not_both_kept_and_made_again(
    done: Store, said: tuple[str, ...], options: dict[str, bool]
) -> None:
    with pytest.raises(UsageError, match="Remove one of them"):
        judged(done, a_plan(FILE, *said, code="new"), accept_code=True, **options)


def test_job_running_with_other_code_is_awaited(store: Store) -> None:
    queue(store, a_plan())
    number = store.ready_jobs.read_ready(1)[0].id
    claimed(store, number)
    with pytest.raises(UsageError, match="is running, but the task file has changed"):
        judged(store, a_plan(code="new"), accept_code=True)


def test_result_changed_after_the_comparison_is_not_accepted(done: Store) -> None:
    compared = language.compared(done, a_plan(code="new"), accept_code=True)
    rows = done.read.jobs_of(ROOT, "x")
    name = next(iter(compared.accepted))
    done.database.execute("UPDATE jobs SET hash = 'another' WHERE id = ?", (rows[name].id,))
    submit(done, ROOT, compared, a_context(), 1.0)
    hashes = {row.name: row.hash for row in done.read.jobs_of(ROOT, "x").values()}
    accepted = {job.name for job in compared.plan.jobs if hashes[job.name] == job.hash}
    assert hashes[name] == "another"
    assert accepted == set(compared.accepted) - {name}


# --- revision


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
    st.integers(1, 10**14),
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
        resources=Resources(vram=amount, ram=amount * 2, exclusive=True, cpus=3),
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


# --- Jobs that wait in the queue already, and the message of a plan with other requests


ONE_TRAINING = "train: [{data: dot:pre}, {data: line:pre}]\n"


def test_plan_names_the_changed_options_of_a_waiting_job(store: Store) -> None:
    queue(store, a_plan(ONE_TRAINING))
    made = a_plan(
        f"resources: {{cpus: 2, vram: 3GiB, time_limit: 2h, priority: 5}}\n{ONE_TRAINING}"
    )
    compared = judged(store, made)["train/dot:pre"]
    assert compared.action is Action.JOIN
    assert set(compared.options) == {"cpus", "vram", "time_limit", "priority"}
    text = other_options(language.compared(store, made).jobs)
    assert text.startswith("2 waiting jobs keep the options with which they were queued")


@pytest.mark.parametrize("top", ["", "resources: {not_before: '23:59'}\n"])
def test_plan_does_not_mention_unchanged_options(store: Store, top: str) -> None:
    queue(store, a_plan(ONE_TRAINING))
    assert other_options(language.compared(store, a_plan(top + ONE_TRAINING)).jobs) == ""
