from pathlib import Path

from launcher.job import Terms
from launcher.system.paths import Attempt
from launcher.workers.supervisor import KILL_AGAIN_S, LOOK_S, Pause, RunningTime, Step

LIMITED = Terms(time_limit_s=100.0, warn_s=10.0, grace_s=5.0)


def test_a_program_is_warned_then_asked_to_end_then_killed_until_it_is_gone() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    due = [times.due(at, asked=False, paused=False) for at in (1089, 1090, 1091, 1100, 1104, 1105)]
    assert due == [None, Step.WARN, None, Step.END, None, Step.KILL]
    assert (times.over, times.stopped, times.insisted) == (True, False, True)
    assert times.next(paused=False) == 1105 + KILL_AGAIN_S


def test_who_asks_for_its_end_comes_before_its_limit() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    assert times.due(1010, asked=True, paused=False) is Step.END
    assert times.due(1011, asked=True, paused=False) is None
    assert times.next(paused=False) == 1015
    assert (times.over, times.stopped) == (False, True)


def test_what_its_limit_has_ended_is_not_asked_again() -> None:
    times = RunningTime.of(Terms(time_limit_s=1.0, grace_s=5.0), 0.0)
    assert times.due(1, asked=False, paused=False) is Step.END
    assert times.due(2, asked=True, paused=False) is None
    assert (times.over, times.stopped) == (True, False)


def test_a_program_whose_end_is_due_earlier_is_killed_then_and_never_later() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    times.kill_by(1001.0)  # it is not ending
    assert times.due(1010, asked=True, paused=False) is Step.END
    times.kill_by(2000.0)
    assert times.next(paused=False) == 1015
    times.kill_by(900.0)  # its node was frozen past its grace
    assert times.due(1010, asked=True, paused=False) is Step.KILL
    times.kill_by(900.0)
    assert times.next(paused=False) == 1010 + KILL_AGAIN_S


def test_a_pause_moves_what_is_still_to_come() -> None:
    times = RunningTime.of(LIMITED, 1000.0)
    assert times.due(1095, asked=False, paused=True) is None
    assert times.next(paused=True) is None
    times.move(50.0)
    assert (times.warn, times.limit) == (1140, 1150)
    assert RunningTime.of(Terms(), 0.0).next(paused=False) is None


def test_a_program_without_processes_is_paused_as_long_as_its_folder_says(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    pause = Pause(attempt, list)
    assert (pause.look(1.0), pause.lasts) == (0.0, False)
    attempt.paused.touch()
    assert (pause.look(2.0), pause.lasts) == (0.0, True)
    assert (pause.look(3.0), pause.again_at) == (0.0, 3.0 + LOOK_S)  # asked twice
    assert [pause.due(at) for at in (3.0, 3.0 + LOOK_S)] == [False, True]
    attempt.paused.unlink()
    assert (pause.look(7.0), pause.lasts) == (5.0, False)
    assert pause.end(9.0) == 0.0
