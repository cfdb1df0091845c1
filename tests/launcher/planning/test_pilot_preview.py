"""What a dry run says of backends: which jobs go where, how many pilots, when the engine would start one."""

import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from launcher.backends.protocol import Estimate
from launcher.backends.settings import Backends, BackendSettings
from launcher.functions.plan_checks import ask_engines
from launcher.planning.preview import Answer, BackendPreview, preview_backends, preview_plan
from launcher.screens.plan_view import backend_lines
from launcher.system.paths import Home
from tests.launcher.plans import GIB, NOON, a_history, compared_jobs, here, some_commands

SLURM = BackendSettings(name="slurm", kind="slurm", cpus=4, gpus=2, gpu_type="a100", pilots=3)
SMALL = BackendSettings(name="small", kind="local", cpus=1)
BACKENDS = Backends(by_name={"slurm": SLURM, "small": SMALL})


def on(names: str, more: str = "") -> str:
    return f', resources: {{on: "{names}"{more}}}'


def previewed(
    *commands: str, answer: Answer | None = None, done: int = 0
) -> tuple[BackendPreview, ...]:
    def ask(asked: Sequence[BackendSettings]) -> Mapping[str, Answer]:
        return {each.name: answer or Answer() for each in asked}

    judged = compared_jobs(some_commands(*commands), done)
    return preview_backends(judged, BACKENDS, ask)


def told(*commands: str, answer: Answer | None = None) -> str:
    return "\n".join(backend_lines(previewed(*commands, answer=answer), NOON))


def test_a_plan_that_runs_here_asks_no_engine() -> None:
    def ask(_: Sequence[BackendSettings]) -> Mapping[str, Answer]:
        raise AssertionError("nobody is asked")

    judged = compared_jobs(some_commands("", on("local")), 0)
    assert preview_backends(judged, BACKENDS, ask) == ()


def test_jobs_go_to_the_first_backend_that_can_hold_them() -> None:
    jobs = [on("small,slurm"), on("small,slurm", ", cpus: 4"), on("small,slurm,local", ", cpus: 9")]
    previews = {each.name: each for each in previewed(*jobs)}
    assert {name: each.jobs for name, each in previews.items()} == {
        "small": 1,
        "slurm": 1,
        "local": 1,
    }
    assert previews["slurm"].otherwise == ("small",)


def test_pilots_are_counted_by_what_fits_on_one_and_no_more_than_there_may_be() -> None:
    (five,) = previewed(*[on("slurm")] * 5)
    assert (five.first, five.most) == (2, 2), "four cores each"
    (many,) = previewed(*[on("slurm", ", cpus: 3")] * 9)
    assert (many.first, many.most) == (3, 3), "nine would be needed, three may be there"
    (cards,) = previewed(*[on("slurm", ", vram: 4GiB, gpus: 2")] * 2)
    assert cards.most == 2, "each takes both GPUs"


def test_what_the_engine_says_is_told_in_words() -> None:
    two = [on("slurm", ", cpus: 4")] * 2
    assert told(*two, answer=Answer(estimate=Estimate(possible=True, starts_at=NOON))) == (
        "On slurm: 2 command; 2 pilots with 4 cores, 2 a100 each; one would start at once"
    )
    later = Answer(estimate=Estimate(possible=True, starts_at=NOON + 600))
    assert "one is expected to start at " in told(*two, answer=later)
    never = Answer(estimate=Estimate(possible=False, why="invalid partition specified: gpu"))
    assert told(*two, answer=never).endswith("; none can start: invalid partition specified: gpu")
    mute = Answer(trouble="no answer in 10 s")
    assert told(*two, answer=mute).endswith("would start is not known: no answer in 10 s")
    for at in (1e300, NOON + 365 * 86_400):  # a year is what Slurm says where it knows no limits
        odd = Answer(estimate=Estimate(possible=True, starts_at=at))
        assert told(*two, answer=odd).endswith("; none is expected to start within 60 d")


def test_places_that_come_second_are_named() -> None:
    assert told(on("slurm,local")).startswith("On slurm, else on this machine: 1 command; ")
    some = told(on("slurm,local"), on("slurm"), on("slurm"))
    assert some.startswith("On slurm, all but 2 else on this machine: 3 command; ")


def test_only_what_may_run_here_is_in_the_first_wave_here() -> None:
    judged = compared_jobs(some_commands("", on("slurm"), on("slurm,local")), 0)
    preview = preview_plan(judged, a_history(), here(cpus=8), BACKENDS)
    assert sum(preview.wave.starts.values()) == 2


def test_a_job_that_no_pilot_can_hold_is_told_before_it_is_queued() -> None:
    judged = compared_jobs(some_commands(on("small,slurm", ", cpus: 9")), 0)
    preview = preview_plan(judged, a_history(), here(cpus=16), BACKENDS)
    (why,) = preview.wave.hopeless
    assert "a pilot of small has 1" in why
    assert "a pilot of slurm has 4" in why


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_an_engine_that_hangs_does_not_hold_a_dry_run(
    home: Home, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging:
        def estimate(self, _: object) -> Estimate:
            stuck.wait()
            return Estimate(possible=True)

    monkeypatch.setattr("launcher.functions.plan_checks.backend_of", lambda *_: Hanging())
    answers = ask_engines([SLURM], home, patience_s=0.05)
    assert answers["slurm"].trouble == "no answer in 0.05 s"


def test_shapes_name_all_that_is_asked_for() -> None:
    assert "64 GiB, 12 h" in "\n".join(
        backend_lines(
            [
                BackendPreview(
                    name="a",
                    settings=BackendSettings(
                        name="a", kind="slurm", memory=64 * GIB, time_s=43_200.0
                    ),
                    kinds={"train": 1},
                    otherwise=(),
                    only_there=0,
                    first=1,
                    most=1,
                    answer=Answer(),
                )
            ],
            NOON,
        )
    )
