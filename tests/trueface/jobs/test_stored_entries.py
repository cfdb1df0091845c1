"""Jobs that earlier versions queued, under the names that functions had then."""

import pytest

from launcher.errors import MachineError
from launcher.job import Spec
from launcher.workers.worker import _function


@pytest.mark.parametrize(
    ("kind", "entry", "now"),
    [
        ("train", "trueface.jobs:train", "trueface.jobs.training"),
        ("train", "trueface.jobs.training:train", "trueface.jobs.training"),
        ("test", "trueface.jobs:test", "trueface.jobs.testing"),
        ("poison", "trueface.jobs:poison", "trueface.jobs.poisoning"),
        ("unlearn", "trueface.jobs:unlearn", "trueface.jobs.unlearning"),
        ("sample", "trueface.jobs:sample", "trueface.jobs.sampling"),
        ("classify", "trueface.classes.jobs:classify", "trueface.jobs.classes.classification"),
        ("forget", "trueface.classes.jobs:forget", "trueface.jobs.classes.forgetting"),
    ],
)
def test_a_stored_entry_is_found_where_its_kind_has_it_now(kind: str, entry: str, now: str) -> None:
    spec = Spec(name="x", kind=kind, role="", run="x", root="/", entry=entry)
    assert getattr(_function(spec), "__module__", "") == now


def test_an_entry_of_a_kind_that_is_gone_names_both() -> None:
    spec = Spec(name="x", kind="weigh", role="", run="x", root="/", entry="trueface.jobs:weigh")
    with pytest.raises(MachineError) as caught:
        _function(spec)
    assert str(caught.value).startswith(
        "trueface.jobs:weigh does not exist, and no kind 'weigh' is installed"
    )
