"""The start of a job asks the rules that planning asks."""

from importlib import import_module

import pytest

from launcher.api import Draft, Job, Kind, UsageError
from launcher.experiments.kinds import installed_kinds
from tests.trueface.jobs import build
from tests.trueface.jobs.test_rule_order import CASES, LAB, draft_of
from trueface.jobs.job_kind import JobKind
from trueface.jobs.rule import PlanCheck, Rule

KINDS = ("benchmark", "checkpoint", "classify", "diffuser", "disrupt", "erase", "erased", "forget", "poison", "purify",
    "restored", "test", "train", "translate", "translator", "unlearn")  # fmt: skip
# sentences of rules that several cases break; the other sentences are of checks, which read files or other jobs
AT_START = {
    "train/objective": 3,
    "train/parts": 10,
    "train/qualities": 6,
    "train/list": 2,
    "train/base": 2,
    "train/shots": 2,
    "unlearn/all": 4,
    "unlearn/clean": 1,
    "unlearn/find": 2,
    "unlearn/half": 1,
    "test/surrogate": 1,
    "benchmark/surrogate": 1,
    "poison/kind": 1,
    "checkpoint/all": 2,
    "classify/all": 3,
    "forget/base": 2,
    "forget/half": 1,
    "translator/base": 1,
    "translate/none": 1,
    "purify/models": 2,
    "disrupt/models": 3,
    "restored/models": 2,
    "diffuser/classes": 4,
    "erase/images": 1,
}


def rules_of(kind: JobKind) -> list[Rule]:
    """Return what the start of a job asks."""
    return [rule for rule in kind.rules if not isinstance(rule, PlanCheck)]


def job_of(draft: Draft, kind: Kind) -> Job:
    named = {"name": f"{kind.name}/{draft.model or draft.name}", "gpus": draft.gpus}
    device = "cuda:0" if draft.gpus > 1 else "cpu"
    return build.job_of(draft, kind, **named, device=device, outputs=(LAB / "made",))


@pytest.mark.parametrize("name", AT_START)
def test_start_of_a_job_reports_broken_rules_in_the_words_of_its_plan(name: str) -> None:
    case = CASES[name]
    kind = installed_kinds([case.kind])[case.kind]
    assert isinstance(kind, JobKind)
    draft = draft_of(case.kind, case.settings, case.facts)
    planned = [sentence for rule in rules_of(kind) for sentence in rule(draft)]
    assert len(planned) == AT_START[name]
    assert set(planned) <= set(kind.refusals(draft, ()))
    module, _, function = kind.entry.partition(":")
    with pytest.raises(UsageError) as refused:
        getattr(import_module(module), function)(job_of(draft, kind))
    assert str(refused.value).split("\n       ") == planned


@pytest.mark.parametrize("name", KINDS)
def test_rules_of_a_job_type_are_beside_its_entry_function(name: str) -> None:
    kind = installed_kinds([name])[name]
    assert isinstance(kind, JobKind)
    package = kind.entry.partition(":")[0].rpartition(".")[0]
    assert import_module(f"{package}.rules").RULES[name] is kind.rules


def test_every_job_type_with_rules_asks_them_at_the_start() -> None:
    made = [kind for kind in installed_kinds().values() if isinstance(kind, JobKind)]
    assert {kind.name for kind in made if rules_of(kind)} <= {*KINDS}
