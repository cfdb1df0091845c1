import signal

import pytest
import torch

from launcher.api import JobError, MachineError
from launcher.workers.exit_outcome import _CHILD_KILLED, read_error
from trueface.jobs.ranks.failures import Failure, cause_of, error_of
from trueface.runtime.errors import BadImageError, DataError

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which "
    "1.20 GiB is free. Process 7 has 22.00 GiB memory in use."
)


def raised(error: BaseException, name: str = "rank 1 of 2 (cuda:1)") -> Exception:
    return error_of(name, Failure.read(Failure.of(error).record()))


def test_too_little_memory_stays_what_it_was_and_names_the_rank() -> None:
    error = raised(torch.OutOfMemoryError(CUDA))
    shortage = read_error(error)
    assert isinstance(error, torch.OutOfMemoryError)
    assert shortage is not None
    assert (shortage.where, shortage.wanted) == ("gpu", 2 << 30)
    assert "rank 1 of 2 (cuda:1)" in shortage.message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_main_memory_is_seen_as_such(error: Exception) -> None:
    shortage = read_error(raised(error))
    assert shortage is not None
    assert shortage.where == "ram"


def test_an_error_of_the_laboratory_keeps_its_message_and_exit_code() -> None:
    assert str(raised(JobError("stopped in epoch 1 of 2"))) == "stopped in epoch 1 of 2"
    assert isinstance(raised(MachineError("the disk is full")), MachineError)
    for error in (DataError("no image"), BadImageError(signal.__file__, "cut off")):  # type: ignore[arg-type]  # a path
        assert raised(error).exit_code == error.exit_code  # type: ignore[attr-defined]  # an Error


def test_an_error_that_nobody_expected_says_its_type_and_its_rank(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["lr"]
    assert str(raised(caught.value, "rank 0 of 2 (cpu)")) == "rank 0 of 2 (cpu): KeyError: 'lr'"
    assert "Traceback" in capsys.readouterr().err


def test_a_rank_that_the_kernel_killed_is_told_in_the_words_that_the_launcher_looks_for() -> None:
    error = error_of("rank 1 of 2 (cpu)", Failure.ended(-signal.SIGKILL, at=1.0))
    assert _CHILD_KILLED in str(error)


def test_the_first_failure_is_the_cause_and_the_loss_of_another_rank_never_is() -> None:
    lost = Failure.of(RuntimeError("[/gloo/pair.cc:1] Connection closed by peer [127.0.0.1]:7"))
    killed = Failure.ended(-signal.SIGKILL, at=lost.at + 1)
    later = Failure(at=lost.at + 2, sort="other", text="ValueError: no")
    assert cause_of({"rank 0": lost, "rank 1": killed, "rank 2": later}) == ("rank 1", killed)
    assert cause_of({"rank 0": lost}) == ("rank 0", lost)
