import os

from launcher.notify.messages import of_test
from launcher.notify.sending import send_now
from launcher.notify.settings import Target
from tests.build import DEADLINE_S

TEST = of_test("desk", "host")


def test_a_command_that_prints_without_end_is_ended() -> None:
    target = Target(name="desk", command=("yes",), timeout_s=DEADLINE_S)
    answer = send_now(target, TEST, os.environ)
    assert (answer.sent, answer.text) == (False, "it was ended: it printed more than 64 MiB")
