import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.trueface.audit.build import DATA, POISONED, Lab, update_json
from trueface.audit.check import Check, check, collect, every_check
from trueface.audit.finding import WARNING, Audit, Finding, Gap, Outcome
from trueface.audit.run_facts import Model
from trueface.cli import main
from trueface.runtime import paths


def module(name: str, **contents: Check) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


@check("nothing", "nothing at all")
def first(model: Model) -> Iterator[Outcome]:
    """Find nothing."""
    yield Gap(reason=model.name)


@check("nothing", "nothing either")
def second(model: Model) -> Iterator[Outcome]:
    """Find nothing."""
    yield Gap(reason=model.name)


def test_two_checks_with_one_code_are_rejected_and_both_are_named() -> None:
    assert collect([module("a", first=first), module("b", again=first)]) == (first,)
    names = rf"{__name__}\.first and {__name__}\.second"
    with pytest.raises(ValueError, match=names):
        collect([module("a", first=first), module("b", second=second)])


def test_checks_are_listed_by_module_and_in_source_order() -> None:
    codes = [check.code for check in every_check()]
    assert codes[:4] == [
        "poisoned-validation",
        "record-of-another-split",
        "flag-without-effect",
        "one-class-forget-set",
    ]
    assert codes[-1] == "unlearned-model-is-the-old-one"
    assert len(codes) == 44


@pytest.mark.parametrize("found", [True, False])
def test_check_with_a_finding_counts_as_done(found: bool) -> None:
    finding = Finding(
        severity=WARNING, code="leak", model="m", sentence="it leaks", advice="mend it", evidence={}
    )
    audit = Audit(
        run="r",
        models=("m",),
        checks=(("leak", "images of training in the test"),),
        findings=(finding,) if found else (),
        gaps=(Gap(code="leak", model="m", reason="of another test there is no list"),),
    )
    assert audit.checks_without_result == (frozenset() if found else {"leak"})


def _run_audit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.run(["audit", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_audit_of_clean_run_by_its_name_exits_0_and_lists_the_checks(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    code, out, _ = _run_audit(capsys, "night")
    assert code == 0
    assert out.startswith(
        "night: 2 models, 0 faults, 0 warnings\nchecked without findings: poisoned"
    )
    assert "not checked" not in out


def test_fault_exits_1_and_is_printed_with_evidence_and_advice(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    update_json(paths.provenance(lab.run / POISONED), flipped_val=3)
    code, out, _ = _run_audit(capsys, str(lab.run))
    assert code == 1
    assert out.startswith(f"fault[poisoned-validation]: {POISONED}: validation labels were flipped")
    assert "   = flipped validation labels: 3\n" in out
    assert "   = do: train again" in out
    assert "night: 2 models, 1 fault, 0 warnings" in out


def test_warning_alone_is_not_a_failure(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    update_json(paths.summary(lab.run / DATA), images=100, bad_images=50)
    code, out, _ = _run_audit(capsys, str(lab.run))
    assert (code, out.count("warning[bad-images]")) == (0, 1)


def test_json_output_contains_findings_checks_and_gaps(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    update_json(paths.provenance(lab.run / POISONED), flipped_train=0)
    paths.history(lab.run / DATA).unlink()
    code, out, _ = _run_audit(capsys, str(lab.run), "--json")
    told = json.loads(out)
    assert (code, told["schema"], told["faults"]) == (1, 1, 1)
    assert told["findings"][0]["evidence"]["labels turned round"] == 0
    assert "same-content" in told["checks"]
    gaps = {one["code"] for one in told["not_checked"]}
    assert gaps == {"edited-scores", "loss-not-falling", "first-epoch-best"}


def test_single_model_can_be_audited(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run_audit(capsys, str(lab.run / DATA))
    assert (code, "1 model," in out) == (0, True)


@pytest.mark.parametrize("name", ["no such run", "../..", "\0", "x" * 300])
def test_missing_run_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out, err = _run_audit(capsys, str(tmp_path / name) if name != "\0" else name)
    assert (code, out) == (2, "")
    assert err.startswith(("error: run ", "error: no model in "))


def test_audit_and_page_do_not_import_torch(lab: Lab) -> None:
    script = (
        "import sys; from trueface.cli import main as cli;"
        "code = max(cli.run([command, sys.argv[1]]) for command in ('audit', 'report'));"
        "sys.exit(7 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(lab.run)], capture_output=True)
    assert done.returncode == 0, done.stderr
