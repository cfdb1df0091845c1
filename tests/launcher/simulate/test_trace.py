"""Traces and machines as people write them, with their mistakes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.frontends.simulate.machine import SimulatedCluster, parse_cluster
from launcher.frontends.simulate.memory_claims import MEMORY_SIZES, MEMORY_SIZES_TEXT, draw_memory
from launcher.frontends.simulate.trace import read_trace
from launcher.system.errors import UsageError
from tests.launcher.simulate.worlds import GIB, PHILLY, TRACES, a_job, needs_traces

HEADER = "submit_s,duration_s,gpus,vc\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "jobs.csv"


def said(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_trace(path)
    assert error.value.exit_code == 2
    return str(error.value)


def test_columns_are_found_by_their_names(trace: Path) -> None:
    trace.write_text("vc,gpus,vram,other,duration_s,submit_s\nx,2,,?,7.5,100\ny,1,8GiB,?,3,40\n\n")
    first, second = read_trace(trace)
    assert (first.submitted, first.seconds, first.gpus, first.group) == (0, 3, 1, "y")
    assert (second.submitted, second.seconds, second.gpus, second.group) == (60, 7.5, 2, "x")
    assert (first.index, first.vram, second.index, second.vram) == (0, 8 * GIB, 1, None)


def test_trace_of_tiresias_has_other_names(trace: Path) -> None:
    trace.write_text(
        "job_id,num_gpu,submit_time,iterations,model_name,duration,interval\n"
        "0,8,30,606,vgg19,164,30\n"
    )
    (job,) = read_trace(trace)
    assert (job.submitted, job.seconds, job.gpus, job.group) == (0, 164, 8, "vgg19")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("1,-5,1,a", "duration_s: expected seconds from 0 to 1e+10, got '-5'"),
        ("-1,5,1,a", "submit_s: expected seconds from 0 to 1e+10, got '-1'"),
        ("soon,5,1,a", "submit_s: expected seconds from 0 to 1e+10, got 'soon'"),
        ("1,nan,1,a", "duration_s: expected seconds from 0 to 1e+10, got 'nan'"),
        ("1,inf,1,a", "duration_s: expected seconds from 0 to 1e+10, got 'inf'"),
        ("1,1e300,1,a", "duration_s: expected seconds from 0 to 1e+10, got '1e300'"),
        ("1,,1,a", "duration_s: expected seconds from 0 to 1e+10, got ''"),
        ("1,5,0,a", "gpus: expected a number from 1 to 100,000, got '0'"),
        ("1,5,1.5,a", "gpus: expected a number from 1 to 100,000, got '1.5'"),
        ("1,5,many,a", "gpus: expected a number from 1 to 100,000, got 'many'"),
        (f"1,5,{'9' * 60},a", f"gpus: expected a number from 1 to 100,000, got '{'9' * 40}…'"),
        ("1,5,1", "expected 4 cells as in the header, got 3"),
        ("1,5,1,a,b", "expected 4 cells as in the header, got 5"),
    ],
)
def test_error_is_named_with_its_line(trace: Path, row: str, what: str) -> None:
    trace.write_text(f"{HEADER}0,5,1,a\n{row}\n")
    assert said(trace) == f"1 error in the trace {str(trace)!r}\n  {trace}:3: {what}"


def test_amount_of_memory_needs_its_unit(trace: Path) -> None:
    trace.write_text("submit_s,duration_s,gpus,vram\n0,1,1,8\n")
    assert f"{trace}:2: '8' has no unit. Write 8GiB or 8MiB" in said(trace)


def test_errors_are_reported_up_to_a_screenful(trace: Path) -> None:
    trace.write_text(HEADER + "x,5,1,a\n" * 3)
    assert [line.split(":")[1] for line in said(trace).splitlines()[1:]] == ["2", "3", "4"]
    trace.write_text(HEADER + "x,5,1,a\n" * 500)
    assert said(trace).startswith(f"20 errors in the trace {str(trace)!r} (the first 20 are shown)")
    assert len(said(trace).splitlines()) == 21


def test_missing_column_is_named(trace: Path) -> None:
    trace.write_text("submit_s,length,gpu\n0,1,1\n")
    assert said(trace) == (
        f"{trace}:1: no column duration_s or duration, no column gpus or num_gpu or plan_gpu: expected a header "
        "such as submit_s,duration_s,gpus,vc, got 'submit_s, length, gpu'"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty: expected a header such as submit_s,duration_s,gpus,vc"),
        (HEADER.encode(), "contains no jobs. Write one line per job."),
        (HEADER.encode() + b"\xff\xfe,1,1,a\n", "is not a trace: it is not UTF-8 text"),
        (HEADER.encode() + b'1,"5,1,a\n', "is not a trace: unexpected end of data"),
        (
            HEADER.encode() + b"1" * 200_000,
            "is not a trace: field larger than field limit (131072)",
        ),
    ],
)
def test_invalid_trace_is_refused(trace: Path, content: bytes, what: str) -> None:
    trace.write_bytes(content)
    assert what in said(trace)


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    assert said(tmp_path) == f"{str(tmp_path)!r} is a folder. Give a trace or task file."
    missing = tmp_path / "x.csv"
    assert (
        said(missing)
        == f"file {str(missing)!r} does not exist. Give the path of a trace or task file."
    )
    assert said(Path("a\0b")).startswith("cannot read the trace")


@given(st.binary(max_size=200))
def test_no_content_causes_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_trace(path)
    path.write_bytes(HEADER.encode() + content)
    try:
        read_trace(path)
    except UsageError as error:
        assert str(error)  # noqa: PT017  # most are refused, a few are traces


@needs_traces
def test_recorded_traces_are_read() -> None:
    assert len(read_trace(PHILLY)) == 82_247
    tiresias = read_trace(TRACES / "tiresias_60_job.csv")
    assert len(tiresias) == 60
    assert {job.gpus for job in tiresias} <= {1, 2, 4, 8}


# --- memory


def test_memory_is_sampled_by_seed_and_position_only() -> None:
    jobs = [a_job(index) for index in range(50)]
    blank = [type(job)(index=job.index, submitted=0, seconds=1, gpus=1) for job in jobs]
    drawn = draw_memory(blank, 7)
    assert draw_memory(blank[:20], 7) == drawn[:20]
    assert draw_memory(blank, 8) != drawn
    assert draw_memory(jobs, 7) == tuple(jobs), "what a trace names stays"
    assert {job.vram for job in draw_memory(blank, 7, fixed_bytes=5 * GIB)} == {5 * GIB}


def test_memory_has_the_stated_distribution() -> None:
    blank = [type(a_job(0))(index=index, submitted=0, seconds=1, gpus=1) for index in range(20_000)]
    drawn = [job.vram for job in draw_memory(blank, 0)]
    assert sum(MEMORY_SIZES.values()) == 100
    for gib, share in MEMORY_SIZES.items():
        assert abs(drawn.count(gib * GIB) / len(drawn) - share / 100) < 0.01
        assert f"{gib} GiB {share} %" in MEMORY_SIZES_TEXT


# --- machines


@pytest.mark.parametrize(
    ("text", "sizes", "shown"),
    [
        ("8x24GiB", [24] * 8, "8x24GiB"),
        (" 2 x 80 GiB + 6x24gib ", [80, 80, *[24] * 6], "2x80GiB+6x24GiB"),
        ("1x24GiB+1x24GiB", [24, 24], "2x24GiB"),
        ("1x0.5TiB", [512], "1x512GiB"),
    ],
)
def test_machines_are_written_in_common_notation(text: str, sizes: list[int], shown: str) -> None:
    fleet = parse_cluster(text)
    assert fleet == SimulatedCluster((tuple(size * GIB for size in sizes),))
    assert str(fleet) == shown
    assert parse_cluster(str(fleet)) == fleet


@pytest.mark.parametrize(
    ("text", "machines", "shown"),
    [
        ("4x(2x24GiB)", [[24, 24]] * 4, "4x(2x24GiB)"),
        (" 2 x ( 1x80GiB + 1x24GiB ) ", [[80, 24]] * 2, "2x(1x80GiB+1x24GiB)"),
        ("4x(1x24GiB)+1x80GiB+1x12GiB", [[80, 12], *[[24]] * 4], "(1x80GiB+1x12GiB)+4x(1x24GiB)"),
        ("(8x24GiB)", [[24] * 8], "8x24GiB"),
    ],
)
def test_cluster_is_written_machine_by_machine(
    text: str, machines: list[list[int]], shown: str
) -> None:
    fleet = parse_cluster(text)
    totals = [[gpu.total // GIB for gpu in machine] for machine in fleet.gpus()]
    assert totals == machines
    assert str(fleet) == shown
    assert parse_cluster(str(fleet)) == fleet


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "",
            "expected GPUs such as 8x24GiB or 2x80GiB+6x24GiB, or machines such as 4x(2x24GiB), got ''",
        ),
        ("4x()", "expected GPUs such as"),
        ("0x(2x24GiB)", "'0x(2x24GiB)' contains no machine"),
        ("4x(2x24GiB", "expected GPUs such as"),
        ("2x(2x(1x24GiB))", "expected GPUs such as"),
        ("99999x(99999x1GiB)", "at most 10,000 GPUs can be simulated"),
        ("24GiB", "expected GPUs such as 8x24GiB"),
        ("8x24", "'24' has no unit. Write 24GiB or 24MiB"),
        ("8x24GB", "unknown unit 'GB'. Did you mean 24GiB?"),
        ("-1x24GiB", "expected GPUs such as"),
        ("0x24GiB", "'0x24GiB' contains no GPU"),
        ("8x0", "'8x0' contains no GPU"),
        ("8x24GiB+", "expected GPUs such as"),
        ("99999x24GiB", "at most 10,000 GPUs can be simulated"),
        ("1x999999TiB", "no GPU has 999999 TiB"),
        ("nanx24GiB", "expected GPUs such as"),
    ],
)
def test_invalid_machine_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_cluster(text)
    assert what in str(error.value)
