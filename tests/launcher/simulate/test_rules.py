"""A simulated queue follows the rules of the product: reserve, baseline, memory that is learned, users, others."""

import json
from pathlib import Path

import pytest

from launcher.simulate.baselines import Beside, beside
from launcher.simulate.machine import Fleet, fit, replay
from launcher.simulate.queue import PEAK_S, DecayedUse, Memory
from launcher.simulate.trace import draw_memory, read_trace
from tests.launcher.conftest import Launcher, home, launcher, store
from tests.launcher.simulate.worlds import GIB, a_fleet, a_job, live, replayed, starts

__all__ = ["home", "launcher", "store"]  # fixtures


def test_what_others_use_and_what_is_left_to_them_is_not_ours() -> None:
    fleet = Fleet(((24 * GIB,),), baseline=2 * GIB, reserve=2 * GIB)
    jobs = [a_job(0, gib=10), a_job(1, gib=10), a_job(2, gib=11)]
    assert fit([*jobs, a_job(3, gib=21)], fleet).too_much_vram == 1
    spans = replayed(jobs, live(fleet), 1, slowdown=1.0)
    assert starts(spans)[:2] == [0, 0]
    assert starts(spans)[2] == 10, "20 GiB are for jobs: 10 and 11 do not fit"
    assert starts(replayed(jobs[1:], live(a_fleet(1)), 1, slowdown=1.0)) == [0, 0]


def test_until_one_alike_has_ended_each_job_has_its_card_for_itself() -> None:
    jobs = [a_job(index, 100.0, at=index, gib=6, group="a") for index in range(4)]
    known = replayed(jobs, live(a_fleet(1)), 1, slowdown=1.0)
    assert starts(known)[:2] == [0, 1]
    learned = replayed(jobs, live(a_fleet(1), memory=Memory.LEARNED), 1, slowdown=1.0)
    assert starts(learned) == [0, 100, 100, 200]


def test_a_job_that_takes_more_than_its_like_did_runs_again_with_more() -> None:
    jobs = [
        a_job(0, 100.0, gib=6, group="a"),
        a_job(1, 1000.0, at=1, gib=6, group="a"),
        a_job(2, 500.0, at=2, gib=12, group="a"),
    ]
    queue = live(a_fleet(1), memory=Memory.LEARNED)
    spans = replayed(jobs, queue, 1, slowdown=1.0)
    assert queue.out_of_memory == 1
    assert spans[2].start == 100 + PEAK_S, "beside the second one it failed first"
    assert spans[2].end == spans[2].start + 500
    assert spans[2].ready == 2


def test_a_job_of_unknown_memory_fails_on_a_card_that_is_too_small_and_runs_on_another() -> None:
    fleet = Fleet(((8 * GIB, 24 * GIB),))
    jobs = [a_job(0, 500.0, gib=20, group="a"), a_job(1, 500.0, gib=20, group="b")]
    queue = live(fleet, memory=Memory.LEARNED)
    spans = replayed(jobs, queue, 2)
    assert [span.cards for span in spans.values()] == [(1,), (1,)]
    assert queue.out_of_memory == 1
    assert starts(spans) == [0, 500]


def test_who_used_less_of_late_goes_first() -> None:
    jobs = [a_job(index, 10.0, gib=20, user="a") for index in range(4)]
    jobs.append(a_job(4, 10.0, gib=20, at=1.0, user="b"))
    assert starts(replayed(jobs, live(a_fleet(1)), 1))[4] == 40
    assert starts(replayed(jobs, live(a_fleet(1), users=True), 1))[4] == 10


def test_use_counts_half_after_a_day() -> None:
    use = DecayedUse()
    use.begin(0, "a", 2, 0.0)
    assert use.at(100.0) == {"a": 200.0}
    use.end(0, 100.0)
    assert use.at(100.0 + 86_400) == pytest.approx({"a": 100.0})


def test_others_take_idle_cards_and_ask_nobody() -> None:
    ours = [a_job(0, 10.0, gpus=1), a_job(1, 10.0, at=5.0, gpus=2)]
    theirs = [a_job(0, 100.0, at=1.0, gpus=1), a_job(1, 7.0, at=2.0, gpus=1)]
    fleet, jobs = a_fleet(2), beside(ours, theirs)
    queue = Beside(live(fleet), fleet, first=2)
    spans = {span.job: span for span in replay(jobs, queue, cards=2, slowdown=1.5)}
    assert (spans[2].start, spans[3].start) == (1, 10), "a card of ours is not idle"
    assert spans[2].cards != spans[3].cards
    assert spans[1].start == 101, "two cards are free of others then"


# --- traces


@pytest.mark.parametrize(
    ("columns", "cells", "gpus", "claim"),
    [
        ("gpus", "0.25", 1, 6),
        ("gpus", "2", 2, None),
        ("num_gpu,gpu_milli", "1,500", 1, 12),
        ("num_gpu,gpu_milli", "2,1000", 2, None),
        ("plan_gpu", "50", 1, 12),
        ("plan_gpu", "250", 3, None),
        ("gpus,gpu_frac", "1,0.5", 1, 12),
        ("gpus,gpu_share", "1,", 1, None),
    ],
)
def test_a_part_of_a_card_is_that_part_of_its_memory(
    tmp_path: Path, columns: str, cells: str, gpus: int, claim: int | None
) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(f"submit_s,duration_s,user,{columns}\n0,10,eve,{cells}\n")
    (job,) = read_trace(path)
    assert (job.gpus, job.user) == (gpus, "eve")
    (drawn,) = draw_memory([job], 0, always=GIB, card=24 * GIB)
    assert drawn.vram == (GIB if claim is None else claim * GIB)


def test_all_of_it_is_said(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus,user\n0,10,1,a\n0,10,1,b\n5,10,0.5,b\n")
    words = ["simulate", str(path), "--gpus", "2x24GiB", "--users", "--others", str(path)]
    words += ["--memory", "learned", "--reserve", "1GiB", "--baseline", "0.5GiB"]
    text = " ".join(launcher(*words).out.split())
    for each in (
        "1 GiB of each GPU left to others",
        "512 MiB of each GPU in use by others",
        "launcher learns memory",
        "who has used less of late goes first",
        "others run 3 jobs on whole idle GPUs",
        "of jobs of a part of a GPU this part of its memory",
    ):
        assert each in text
    assumed = json.loads(launcher(*words, "--json").out)["assumptions"]
    assert assumed["reserve_bytes"] == 2 * assumed["baseline_bytes"] == GIB
    assert (assumed["memory_is"], assumed["users"], assumed["jobs_of_others"]) == (
        "learned",
        True,
        3,
    )


def test_users_need_a_column(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus\n0,10,1\n")
    answer = launcher("simulate", str(path), "--gpus", "2x24GiB", "--users")
    assert answer.code == 2
    assert "give a trace with a column user" in " ".join(answer.err.split())


@pytest.mark.parametrize(
    "options",
    [
        ["--vram", "0", "--reserve", "24GiB"],
        ["--vram", "8GiB", "--baseline", "3GiB", "--memory", "learned"],
    ],
)
def test_jobs_that_never_start_are_an_error_and_not_left_out_of_the_figures(
    options: list[str], launcher: Launcher, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus,vram\n0,10,1,\n1,10,1,\n", encoding="utf-8")
    answer = launcher("simulate", str(path), "--gpus", "2x24GiB", *options)
    assert answer.code == 2
    assert "2 of 2 jobs never start under launcher: of each GPU" in answer.err
