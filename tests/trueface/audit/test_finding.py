"""What an audit says of its checks."""

import pytest

from trueface.audit.finding import WARNING, Audit, Finding, Gap


@pytest.mark.parametrize("found", [True, False])
def test_a_check_that_found_something_was_made(found: bool) -> None:
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
    assert audit.unmade == (frozenset() if found else {"leak"})
