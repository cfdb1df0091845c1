"""What squeue and sinfo print, as what became of pilots."""

import math

import pytest

from launcher.backends.protocol import Cause, Observation, Stage
from launcher.backends.slurm_states import (
    live_elements,
    marked_after_s,
    name_and_index,
    observations,
    ranges,
    read_rows,
    silent_nodes,
    unsure_nodes,
)

TOKEN = "launcher-ab12"


def seen(text: str, token: str = TOKEN) -> Observation:
    return observations(read_rows(text), [token])[token]


def line(state: str = "RUNNING", *, name: str = TOKEN, reason: str = "None", **more: str) -> str:
    fields = {"job": "7", "index": "N/A", "start": "N/A", "end": "N/A", "node": "n1"} | more
    first = "|".join([fields["job"], state, fields["index"], fields["start"], fields["end"]])
    return f"{first}|{fields['node']}|{reason}|{name}\n"


def test_a_waiting_pilot_has_a_reason_and_an_estimated_start() -> None:
    text = line("PENDING", node="", reason="Resources", start="1795380663")
    assert seen(text) == Observation(
        stage=Stage.WAITING, reason="Resources", starts_at=1795380663.0
    )


def test_a_running_pilot_has_a_node_and_an_end() -> None:
    text = line(start="1795373463", end="1795375263")
    assert seen(text) == Observation(stage=Stage.RUNNING, node="n1", ends_at=1795375263.0)


@pytest.mark.parametrize("when", ["N/A", "NONE", "Unknown", "", "-5", "nan", "9" * 30, "²"])
def test_a_time_that_is_none_is_not_known(when: str) -> None:
    assert seen(line("PENDING", start=when)).starts_at is None


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("COMPLETED", Cause.COMPLETED),
        ("PREEMPTED", Cause.PREEMPTED),
        ("NODE_FAIL", Cause.NODE_FAILED),
        ("BOOT_FAIL", Cause.NODE_FAILED),
        ("REVOKED", Cause.NODE_FAILED),
        ("TIMEOUT", Cause.TIME_LIMIT),
        ("DEADLINE", Cause.TIME_LIMIT),
        ("OUT_OF_MEMORY", Cause.MEMORY),
        ("CANCELLED", Cause.CANCELLED),
        ("FAILED", Cause.FAILED),
    ],
)
def test_an_end_has_the_cause_that_slurm_tells(state: str, cause: Cause) -> None:
    observation = seen(line(state, reason="NonZeroExitCode"))
    assert (observation.stage, observation.cause) == (Stage.ENDED, cause)
    assert observation.reason == "NonZeroExitCode"


@pytest.mark.parametrize("state", ["COMPLETING", "STOPPED", "SUSPENDED", "HOVERING"])
def test_a_state_with_a_node_that_is_no_end_is_running(state: str) -> None:
    observation = seen(line(state))
    assert (observation.stage, observation.reason) == (Stage.RUNNING, state.lower())


@pytest.mark.parametrize("state", ["CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "HOVERING"])
def test_a_state_without_a_node_that_is_no_end_is_waiting(state: str) -> None:
    observation = seen(line(state, node=""))
    assert (observation.stage, observation.reason) == (Stage.WAITING, state.lower())


def test_a_pilot_that_stands_in_no_line_is_unknown() -> None:
    assert seen("").stage is Stage.UNKNOWN


def test_another_job_whose_name_begins_like_ours_is_not_ours() -> None:
    text = line(name=TOKEN + "x") + line(name=TOKEN[:-1]) + line(name="x|" + TOKEN + "|x")
    assert seen(text).stage is Stage.UNKNOWN


def test_the_number_of_a_job_counts_for_nothing() -> None:
    text = line("COMPLETED", job="7", name="foreign") + line("PENDING", job="7", node="")
    assert seen(text).stage is Stage.WAITING


def test_of_two_jobs_with_a_name_the_one_that_lives_counts() -> None:
    text = line("FAILED") + line("RUNNING") + line("PENDING", node="")
    assert seen(text).stage is Stage.RUNNING


def test_a_reason_may_hold_a_bar() -> None:
    assert seen(line("PENDING", node="", reason="a|b")).reason == "a|b"


@pytest.mark.parametrize(
    "text",
    [
        "slurm_load_jobs error: Unable to contact slurm controller\n",
        "7|RUNNING|N/A\n",
        "|||||||\n",
        "x7|RUNNING|N/A|1|1|n1|None|name\n",
        "<html>502|Bad|Gateway|a|b|c|d|e</html>\n",
        "\x00\x01\n",
    ],
)
def test_what_is_no_line_of_squeue_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line of squeue"):
        read_rows(line() + text)


def test_an_element_of_an_array_is_known_by_name_and_number() -> None:
    text = line("RUNNING", job="9_3", index="3") + line("PENDING", job="9_4", index="4", node="")
    assert seen(text, f"{TOKEN}_3").stage is Stage.RUNNING
    assert seen(text, f"{TOKEN}_4").stage is Stage.WAITING
    assert seen(text, f"{TOKEN}_5").stage is Stage.UNKNOWN


def test_elements_cancelled_before_they_began_stand_in_one_line() -> None:
    text = line("RUNNING", job="9_3", index="3") + line("CANCELLED", job="9", node="")
    assert seen(text, f"{TOKEN}_3").stage is Stage.RUNNING
    assert seen(text, f"{TOKEN}_7").cause is Cause.CANCELLED


def test_of_elements_those_that_have_not_ended_are_cancelled() -> None:
    text = (
        line("RUNNING", job="9_3", index="3")
        + line("PENDING", job="9_4", index="4", node="")
        + line("COMPLETED", job="9_5", index="5")
        + line("RUNNING", job="9_6", index="6")
        + line("RUNNING", job="11_3", index="3", name="foreign")
    )
    tokens = [f"{TOKEN}_{number}" for number in (3, 4, 5)]
    assert [row.job for row in live_elements(read_rows(text), tokens)] == ["9_3", "9_4"]


def test_elements_are_written_as_ranges() -> None:
    assert ranges([8, 0, 1, 2, 7, 5]) == "0-2,5,7-8"
    assert ranges([]) == ""


def test_a_token_without_a_number_is_a_job_of_its_own() -> None:
    assert name_and_index("launcher-ab12") == ("launcher-ab12", "")
    assert name_and_index("launcher-ab12_07") == ("launcher-ab12", "07")


def test_a_node_with_an_asterisk_does_not_answer() -> None:
    text = "n1|idle\nn2|down*\nn2|down*\nn3|allocated*\nn4|powered_down\n"
    assert silent_nodes(text) == {"n2", "n3"}


def test_of_a_node_that_an_administrator_set_down_it_is_not_known_whether_it_answers() -> None:
    text = "n1|down\nn2|down$\nn3|unknown\nn4|DOWN\nn5|draining\nn6|maint\nn7|down*\n"
    assert unsure_nodes(text) == {"n1", "n2", "n3", "n4"}
    assert silent_nodes(text) == {"n7"}


def test_a_node_that_is_down_answers_if_slurm_has_not_marked_it_for_long() -> None:
    assert marked_after_s("SlurmctldTimeout = 9 sec\nSlurmdTimeout           = 300 sec\n") == 960.0
    assert marked_after_s("SlurmdTimeout           = 0 sec\n") == math.inf
    assert marked_after_s("") == math.inf


@pytest.mark.parametrize("elsewhere", ["n2", ""])
def test_what_became_of_a_second_process_elsewhere_says_nothing_of_the_pilot(
    elsewhere: str,
) -> None:
    rows = read_rows(line("FAILED", node=elsewhere, reason="NonZeroExitCode"))
    assert observations(rows, [TOKEN], {TOKEN: "n1"})[TOKEN].stage is Stage.UNKNOWN
    assert observations(rows, [TOKEN], {TOKEN: ""})[TOKEN].stage is Stage.ENDED


def test_a_job_that_waits_to_be_started_again_is_no_end() -> None:
    rows = read_rows(line("PENDING", node=""))
    assert observations(rows, [TOKEN], {TOKEN: "n1"})[TOKEN].stage is Stage.WAITING


def test_what_is_no_line_of_sinfo_is_refused() -> None:
    with pytest.raises(ValueError, match="no line of sinfo"):
        silent_nodes("n1|idle\nslurm_load_node: error\n")
