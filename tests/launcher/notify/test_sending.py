import os
import tempfile

import pytest

from launcher.frontends.notify.messages import make_trial_message
from launcher.frontends.notify.sending import deliver
from launcher.frontends.notify.settings import NotifyTarget
from tests.build import DEADLINE_S

TEST = make_trial_message("desk", "host")


def test_command_with_endless_output_is_stopped() -> None:
    target = NotifyTarget(name="desk", command=("yes",), timeout_s=DEADLINE_S)
    answer = deliver(target, TEST, os.environ)
    assert (answer.delivered, answer.text) == (False, "it was killed: it printed more than 64 MiB")


def test_command_is_not_started_when_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = deliver(NotifyTarget(name="desk", command=("true",)), TEST, os.environ)
    assert (answer.delivered, answer.text) == (False, "cannot be started: No space left on device")
