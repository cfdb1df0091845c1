"""Orders written ahead, the record of a start, the time that counts, how a program ended, and memory that ran out."""

import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import CPU, Terms
from launcher.queue.jobs.states import (
    Done,
    Failed,
    OomReport,
    Outcome,
    OutOfMemory,
    Stopped,
    outcome_record,
    read_oom_report,
    read_outcome,
)
from launcher.queue.workers.attempt_journal import (
    acquire_start,
    outcome_line,
    read_recorded_outcome,
    record_outcome,
    restore_record,
)
from launcher.queue.workers.attempt_process import CannotStart, spawn
from launcher.queue.workers.attempt_spec import AttemptSpec, AttemptSpecWriter, is_unused
from launcher.queue.workers.exit_outcome import NOT_REPORTED, ExitContext, judge_exit
from launcher.queue.workers.memory_share import (
    MemoryReport,
    Share,
    VramLimit,
    read_report,
    read_share,
    write_share,
)
from launcher.queue.workers.pause import PAUSE_POLL_S, Pause
from launcher.queue.workers.running_time import KILL_RETRY_S, Deadlines, TerminationStep
from launcher.queue.workers.shortage import find_oom_in_exception, find_oom_in_log
from launcher.system.files import write_json
from tests.build import Clock, a_context, a_spec

# --- orders that are written before their attempts are claimed


@pytest.fixture
def orders(home: Home) -> AttemptSpecWriter:
    """A writer that has written an order ahead."""
    orders = AttemptSpecWriter(home)
    orders.prepare(7, 1, "first\n")
    return orders


def test_prepared_spec_is_not_written_again(home: Home, orders: AttemptSpecWriter) -> None:
    spec = home.attempt(7, 1).spec
    before = spec.stat()
    assert orders.prepared_number(7) == 1
    assert not orders.prepared_number(8)
    orders.write(7, 1, "first\n")
    assert (spec.stat().st_ino, spec.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not orders.prepared_number(7), "it is the attempt's now"


def test_spec_for_another_place_replaces_the_prepared_one(
    home: Home, orders: AttemptSpecWriter
) -> None:
    orders.write(7, 1, "2nd\n")
    assert home.attempt(7, 1).spec.read_text() == "2nd\n"


def test_deleted_files_are_written_again(home: Home, orders: AttemptSpecWriter) -> None:
    attempt = home.attempt(7, 1)
    shutil.rmtree(attempt.folder)
    assert not orders.prepared_number(7)
    orders.write(7, 1, "first\n")
    assert attempt.spec.read_text() == "first\n"


@pytest.mark.parametrize("number", [1, 2])
def test_folder_of_a_claimed_attempt_is_never_discarded(
    number: int, home: Home, orders: AttemptSpecWriter
) -> None:
    orders.write(7, number, "claimed\n")
    orders.discard()
    assert home.attempt(7, number).spec.exists()


def test_unclaimed_folder_is_discarded_unless_it_contains_other_files(
    home: Home, orders: AttemptSpecWriter
) -> None:
    orders.discard()
    assert not home.attempt(7, 1).folder.exists()
    begun = orders.prepare(8, 1, "first\n")
    begun.started.touch()
    orders.discard()
    assert begun.spec.exists()


def test_log_is_created_with_a_prepared_spec_and_kept_once_it_has_content(
    home: Home, orders: AttemptSpecWriter
) -> None:
    attempt = home.attempt(7, 1)
    assert attempt.log.read_bytes() == b""
    assert is_unused(attempt)
    attempt.log.write_text("a program's")
    assert not is_unused(attempt)
    orders.discard()
    assert attempt.log.exists()


# --- the record of an attempt where no file can have two names


ORDER = b'{"schema": 1}\n'


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """An attempt on such a file system."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    attempt = Attempt(tmp_path / "1-1")
    attempt.folder.mkdir()
    attempt.spec.write_bytes(ORDER)
    return attempt


def test_start_right_is_granted_once_without_links(attempt: Attempt) -> None:
    record = acquire_start(attempt)
    assert record is not None
    with open(record, "rb") as file:  # noqa: PTH123  # a descriptor
        assert file.read() == ORDER
    assert acquire_start(attempt) is None


def test_deleted_record_is_created_again_without_links(attempt: Attempt) -> None:
    shutil.rmtree(attempt.folder)
    restore_record(attempt, ORDER)
    record_outcome(attempt, outcome_line(Done(at=1.0)))
    assert read_recorded_outcome(attempt) == Done(at=1.0)
    assert attempt.spec.read_bytes() == ORDER


# --- running time


LIMITED = Terms(time_limit_s=100.0, warn_s=10.0, grace_s=5.0)


def test_program_is_warned_then_terminated_then_killed_until_it_is_gone() -> None:
    times = Deadlines.from_terms(LIMITED, 1000.0)
    due = [
        times.take_due_step(at, stop_requested=False, is_paused=False)
        for at in (1089, 1090, 1091, 1100, 1104, 1105)
    ]
    assert due == [
        None,
        TerminationStep.WARN,
        None,
        TerminationStep.END,
        None,
        TerminationStep.KILL,
    ]
    assert (times.limit_reached, times.stop_requested, times.was_killed) == (True, False, True)
    assert times.next_deadline(is_paused=False) == 1105 + KILL_RETRY_S


def test_stop_request_precedes_the_time_limit() -> None:
    times = Deadlines.from_terms(LIMITED, 1000.0)
    assert times.take_due_step(1010, stop_requested=True, is_paused=False) is TerminationStep.END
    assert times.take_due_step(1011, stop_requested=True, is_paused=False) is None
    assert times.next_deadline(is_paused=False) == 1015
    assert (times.limit_reached, times.stop_requested) == (False, True)


def test_program_ended_by_its_limit_is_not_stopped_again() -> None:
    times = Deadlines.from_terms(Terms(time_limit_s=1.0, grace_s=5.0), 0.0)
    assert times.take_due_step(1, stop_requested=False, is_paused=False) is TerminationStep.END
    assert times.take_due_step(2, stop_requested=True, is_paused=False) is None
    assert (times.limit_reached, times.stop_requested) == (True, False)


def test_program_with_an_earlier_deadline_is_killed_then_and_never_later() -> None:
    times = Deadlines.from_terms(LIMITED, 1000.0)
    times.kill_by(1001.0)  # it is not ending
    assert times.take_due_step(1010, stop_requested=True, is_paused=False) is TerminationStep.END
    times.kill_by(2000.0)
    assert times.next_deadline(is_paused=False) == 1015
    times.kill_by(900.0)  # its node was frozen past its grace
    assert times.take_due_step(1010, stop_requested=True, is_paused=False) is TerminationStep.KILL
    times.kill_by(900.0)
    assert times.next_deadline(is_paused=False) == 1010 + KILL_RETRY_S


def test_pause_postpones_later_deadlines() -> None:
    times = Deadlines.from_terms(LIMITED, 1000.0)
    assert times.take_due_step(1095, stop_requested=False, is_paused=True) is None
    assert times.next_deadline(is_paused=True) is None
    times.postpone(50.0)
    assert (times.warn, times.limit) == (1140, 1150)
    assert Deadlines.from_terms(Terms(), 0.0).next_deadline(is_paused=False) is None


def test_program_without_processes_is_paused_as_long_as_its_folder_requests(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    pause = Pause(attempt, list)
    assert (pause.apply_request(1.0), pause.is_paused) == (0.0, False)
    attempt.paused.touch()
    assert (pause.apply_request(2.0), pause.is_paused) == (0.0, True)
    assert (pause.apply_request(3.0), pause.retry_at) == (0.0, 3.0 + PAUSE_POLL_S)  # asked twice
    assert [pause.is_due(at) for at in (3.0, 3.0 + PAUSE_POLL_S)] == [False, True]
    attempt.paused.unlink()
    assert (pause.apply_request(7.0), pause.is_paused) == (5.0, False)
    assert pause.resume(9.0) == 0.0


# --- the outcome of a program, from its exit status, its report and its log: the reported exception


EXIT_1 = 1 << 8
KEY_ERROR = '  File "a.py", line 1, in <module>\nKeyError: 7\n'
BAR = "\r 44%|████▍     | 4/9 [00:00<00:00, 12.25it/s]"


@pytest.mark.parametrize(
    ("last", "exception"),
    [
        ("FileNotFoundError: [Errno 2] No such file", "FileNotFoundError: [Errno 2] No such file"),
        ("yaml.constructor.ConstructorError: no tag", "ConstructorError: no tag"),
        ("line 7: yaml.constructor.ConstructorError: no tag", "line 7: ConstructorError: no tag"),
        ("KeyError", "KeyError"),
        ("KeyErrors: 7", ""),
        ("all is well", ""),
        ("", ""),
    ],
)
def test_exception_in_the_last_line_is_reported_without_its_module(
    tmp_path: Path, last: str, exception: str
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(f"begun\n{last}\n" if last else "")
    outcome = judge_exit(EXIT_1, attempt, ExitContext(), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.exception == exception
    assert outcome.error == "ended with exit code 1" + (f": {last}" if last else "")
    assert read_outcome(outcome_record(outcome)) == outcome


@pytest.mark.parametrize(
    ("status", "log", "stderr", "error"),
    [
        (EXIT_1, f"{KEY_ERROR}{BAR}", "", "ended with exit code 1: KeyError: 7"),
        (EXIT_1, "epoch 1\n", f"{KEY_ERROR}{BAR}", "ended with exit code 1: KeyError: 7"),
        (EXIT_1, f"{KEY_ERROR}saved\n", BAR, "ended with exit code 1: KeyError: 7"),
        (EXIT_1, f"\x1b[31mno rows\x1b[0m\n{BAR}", "", "ended with exit code 1: no rows"),
        (EXIT_1, BAR * 2, "", f"ended with exit code 1: {BAR.strip()}"),
        (EXIT_1, "\0" * 9, "", "ended with exit code 1"),
        (signal.SIGABRT, f"what():  no\n{BAR}", "", "ended by SIGABRT: what():  no"),
        (signal.SIGTERM, f"{KEY_ERROR}epoch 2\n{BAR}", "", "ended by SIGTERM: epoch 2"),
        (137 << 8, f"{KEY_ERROR}epoch 2\n{BAR}", "", "ended with exit code 137: epoch 2"),
    ],
)
def test_reason_of_a_failure_is_the_error_and_not_the_last_line(
    tmp_path: Path, status: int, log: str, stderr: str, error: str
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(log)
    attempt.stderr.write_text(stderr)
    outcome = judge_exit(status, attempt, ExitContext(), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.error == error


def test_reason_is_the_last_line_if_the_environment_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "launcher.queue.workers.failure_words", None)
    attempt = Attempt(tmp_path)
    attempt.log.write_text("one\ntwo\n\0")
    outcome = judge_exit(EXIT_1, attempt, ExitContext(), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.error == "ended with exit code 1: two"


def test_worker_without_a_report_has_the_error_of_its_log(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(f"{KEY_ERROR}{BAR}")
    outcome = judge_exit(0, attempt, ExitContext(has_worker=True), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.error == f"{NOT_REPORTED}: KeyError: 7"


def test_worker_out_of_memory_reports_its_exception_and_usage(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    error, shortage = "MemoryError: no room", {"where": "ram"}
    write_json(attempt.result, {"schema": 1, "ok": False, "error": error, "shortage": {**shortage}})
    outcome = judge_exit(EXIT_1, attempt, ExitContext(max_rss=1 << 30), 5.0)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.exception == outcome.error == "MemoryError: no room (used 1 GiB of main memory)"
    assert read_outcome(outcome_record(outcome)) == outcome


@pytest.mark.parametrize(
    "outcome",
    [
        Done(at=1.0, cpu_s=2.5),
        Failed(at=1.0, error="no", cpu_s=2.5),
        OutOfMemory(1.0, "no", OomReport("gpu"), cpu_s=2.5),
        Stopped(at=1.0, cpu_s=2.5),
        Stopped(at=1.0),
    ],
)
def test_cpu_time_of_an_outcome_is_recorded(outcome: Outcome) -> None:
    assert read_outcome(outcome_record(outcome)) == outcome


def test_program_that_reached_its_time_limit_is_recorded_as_such(tmp_path: Path) -> None:
    outcome = judge_exit(EXIT_1, Attempt(tmp_path), ExitContext(over_limit_s=3.0), 5.0)
    assert isinstance(outcome, Failed)
    assert outcome.over_limit
    assert read_outcome(outcome_record(outcome)) == outcome


# --- messages of memory that ran out, and how much of a card a program may take


# --- the texts are what libraries wrote into real logs, shortened where they repeat themselves


MIB, GIB = 1 << 20, 1 << 30
ADVICE = (
    " If reserved but unallocated memory is large try setting"
    " PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation"
    " for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html)"
)
TRACE = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    main()\n'
SHARED = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 996.00 MiB. GPU 0 has a total"
    " capacity of 44.43 GiB of which 9.06 GiB is free. Process 2102129 has 17.54 GiB memory in use."
    " Including non-PyTorch memory, this process has 17.81 GiB memory in use. 17.69 GiB allowed;"
    " Of the allocated memory 17.44 GiB is allocated by PyTorch, and 59.88 MiB is reserved by"
    f" PyTorch but unallocated.{ADVICE}\n"
)
ALONE = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total"
    " capacty of 4.00 GiB of which 41.56 MiB is free. Including non-PyTorch memory, this process has"
    " 3.44 GiB memory in use. Of the allocated memory 2.58 GiB is allocated by PyTorch, and 1.90 MiB"
    " is reserved by PyTorch but unallocated.\n"
)
NO_NVML = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.70 GiB. GPU 0 has a total"
    " capacity of 6.00 GiB of which 0 bytes is free. Of the allocated memory 2.93 GiB is allocated by"
    " PyTorch, with 1.38 MiB allocated in private pools (e.g., CUDA Graphs), and 2.25 GiB is reserved"
    f" by PyTorch but unallocated.{ADVICE}\n"
)
WSL = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.13 GiB. GPU 0 has a total capacity of "
    "8.00 GiB of which 6.10 GiB is free. Process 9132 has 17179869184.00 GiB memory in use. Including "
    "non-PyTorch memory, this process has 17179869184.00 GiB memory in use. 2.63 GiB allowed; Of the "
    "allocated memory 954.00 MiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but "
    "unallocated."
)
OLD = (
    "RuntimeError: CUDA out of memory. Tried to allocate 2.26 GiB (GPU 0; 6.00 GiB total capacity;"
    " 781.59 MiB already allocated; 3.03 GiB free; 1.24 GiB reserved in total by PyTorch)\n"
)
OLD_CAPPED = (
    "RuntimeError: CUDA out of memory. Tried to allocate 37.25 GiB (GPU 0; 23.68 GiB total capacity;"
    " 192.29 MiB already allocated; 15.79 GiB free; 2.37 GiB allowed; 5.05 GiB reserved in total by"
    " PyTorch)\n"
)
OLDEST = (
    "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total capacity;"
    " 8.50 MiB already allocated; 9.28 GiB free; 4.50 MiB cached)\n"
)
UNCAPPED_AGAIN = ALONE.replace("in use. Of", "in use. 4.00 GiB allowed; Of")
ASYNC = """torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)
Currently allocated     : 1.50 GiB
Requested               : 2.00 GiB
Device limit            : 8.00 GiB
Free (according to CUDA): 1.00 GiB
PyTorch limit (set by user-supplied memory fraction)
                        : 3.00 GiB
"""
CUPY = (
    "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 2,147,483,648 bytes (allocated so"
    " far: 1,073,741,824 bytes, limit set to: 2,684,354,560 bytes).\n"
)
JAX = """jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 6291456 bytes.
BufferAssignment OOM Debugging.
BufferAssignment stats:
             parameter allocation:    6.00MiB
Peak buffers:
""" + "".join(
    f"\tBuffer {n}:\n\t\tSize: 6.00MiB\n\t\tShape: f32[4096,128,3]\n\t\t==========\n\n"
    for n in range(1, 16)
)
TENSORFLOW = """tensorflow.python.framework.errors_impl.ResourceExhaustedError: 2 root error(s) found.
  (0) Resource exhausted: OOM when allocating tensor with shape[16,112,112,147] and type float on /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc
\t [[{{node resnet_v1_50/conv1/ExtractImagePatches}}]]
Hint: If you want to see a list of allocated tensors when OOM happens, add report_tensor_allocations_upon_oom to RunOptions for current allocation info.
"""
CUDA = """RuntimeError: CUDA error: out of memory
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.

"""
CPP = """terminate called after throwing an instance of 'c10::OutOfMemoryError'
  what():  CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.51 GiB of which 1.50 MiB is free. Process 9500 has 148.91 MiB memory in use. Including non-PyTorch memory, this process has 7.00 GiB memory in use.
Exception raised from malloc at ../c10/cuda/CUDACachingAllocator.cpp:1359 (most recent call first):
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x57 (0x7f in libc10.so)
frame #1: <unknown function> + 0x3f8c8 (0x7f in libc10_cuda.so)

Aborted (core dumped)
"""
HOST = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate"
    " memory: you tried to allocate 67108864 bytes. Error code 12 (Cannot allocate memory)\n"
)
CHILD_FAILED = """E1120 12:00:00 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/usr/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-20_12:00:00
  exitcode  : 1 (pid: 4711)
============================================================
"""
CALLED = """Traceback (most recent call last):
  File "/usr/bin/accelerate", line 8, in <module>
    raise subprocess.CalledProcessError(returncode=process.returncode, cmd=cmd)
subprocess.CalledProcessError: Command '['python', 'train.py']' returned non-zero exit status 1.
"""
CAUSED = """
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise Broken("epoch 3 failed") from error
__main__.Broken: epoch 3 failed
"""
BESIDE = CAUSED.replace(
    "The above exception was the direct cause of the following exception",
    "During handling of the above exception, another exception occurred",
)
BOX = """╭───────────── Traceback (most recent call last) ──────────────╮
│ train.py:3 in main                                            │
╰───────────────────────────────────────────────────────────────╯
OutOfMemoryError: CUDA out of memory. Tried to allocate
2.00 GiB. GPU 0 has a total capacity of 11.91 GiB of which
406.38 MiB is free. Including non-PyTorch memory, this process
has 11.50 GiB memory in use.
"""


def gpu(*, wanted: float | None = None, held: float | None = None, cap: float | None = None,
        free: float | None = None, total: float | None = None) -> OomReport:  # fmt: skip
    """A shortage of a GPU; in MiB."""
    numbers = {"wanted": wanted, "held": held, "cap": cap, "free": free, "total": total}
    return read_oom_report({k: None if v is None else round(v * MIB) for k, v in numbers.items()})


def ram(wanted: int | None = None) -> OomReport:
    return OomReport(where="ram", wanted=wanted)


LAST_WORDS = {
    "shared": (
        TRACE + SHARED,
        gpu(wanted=996, held=17.81 * 1024, cap=17.69 * 1024, free=9.06 * 1024, total=44.43 * 1024),
    ),
    "alone": (ALONE, gpu(wanted=32, held=3.44 * 1024, free=41.56, total=4096)),
    "no NVML": (NO_NVML, gpu(wanted=1.7 * 1024, held=5.18 * 1024, free=0, total=6144)),
    "WSL": (WSL, gpu(wanted=2.13 * 1024, held=954, cap=2.63 * 1024, free=6.1 * 1024, total=8192)),
    "old": (OLD, gpu(wanted=2.26 * 1024, held=1.24 * 1024, free=3.03 * 1024, total=6144)),
    "old, with a cap": (
        OLD_CAPPED,
        gpu(wanted=37.25 * 1024, held=5.05 * 1024, cap=2.37 * 1024, free=15.79 * 1024,
            total=23.68 * 1024),
    ),
    "oldest": (OLDEST, gpu(wanted=12.5, held=13, free=9.28 * 1024, total=10.92 * 1024)),
    "a cap of the whole card is none": (
        UNCAPPED_AGAIN,
        gpu(wanted=32, held=3.44 * 1024, free=41.56, total=4096),
    ),
    "cudaMallocAsync": (ASYNC, gpu(wanted=2048, held=1536, cap=3072, free=1024, total=8192)),
    "CuPy": (CUPY, gpu(wanted=2048, held=1024, cap=2560)),
    "JAX": (TRACE + JAX, gpu(wanted=6)),
    "JAX, newer": (
        "XlaRuntimeError: RESOURCE_EXHAUSTED: Failed to allocate request for 176.00MiB"
        " (184549376B) on device ordinal 0",
        gpu(wanted=176),
    ),
    "TensorFlow": (TENSORFLOW, gpu(wanted=16 * 112 * 112 * 147 * 4 / MIB)),
    "CUDA's own": (TRACE + CUDA, gpu()),
    "cuBLAS": (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        gpu(),
    ),
    "cuDNN": ("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED\n", gpu()),
    "Numba": (
        "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in"
        " CUDA_ERROR_OUT_OF_MEMORY\n",
        gpu(),
    ),
    "PyCUDA": ("pycuda._driver.MemoryError: cuMemAlloc failed: out of memory\n", gpu()),
    "RMM": (
        "MemoryError: std::bad_alloc: out_of_memory: CUDA error at: /rmm/cuda_memory_resource.hpp:70:"
        " cudaErrorMemoryAllocation out of memory\n",
        gpu(),
    ),
    "NCCL": (
        "torch.distributed.DistBackendError: NCCL error: unhandled cuda error\nncclUnhandledCudaError:"
        " Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'\n",
        gpu(),
    ),
    "C++": (CPP, gpu(wanted=20, held=7168, free=1.5, total=7.51 * 1024)),
    "llama.cpp": (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 5000.00 MiB on device 0: cudaMalloc"
        " failed: out of memory\nllama_model_load: error loading model: unable to allocate CUDA0"
        " buffer\nmain: error: unable to load model\n",
        gpu(wanted=5000),
    ),
    "a program of one's own": ("step 1\nCUDA error 2 at stencil.cu:12: out of memory\n", gpu()),
    "wrapped by rich": (BOX, gpu(wanted=2048, held=11776, free=406.38, total=11.91 * 1024)),
    "colours": ("\x1b[31mRuntimeError\x1b[0m: CUDA error: out of memory\n", gpu()),
    "ranks": (f"[rank0]: {TRACE}[rank0]: {OLDEST}", gpu(wanted=12.5, held=13, free=9.28 * 1024,
                                                       total=10.92 * 1024)),
    "ray": (f"(train pid=12, ip=10.0.0.1) {CUDA}", gpu()),
    "torchrun": (TRACE + CUDA + CHILD_FAILED, gpu()),
    "accelerate": (TRACE + CUDA + CALLED, gpu()),
    "raised from it": (TRACE + CUDA + CAUSED, gpu()),
    "Hydra": (TRACE + CUDA + "\nSet the environment variable HYDRA_FULL_ERROR=1 for more.\n", gpu()),
    "Python": (TRACE + "MemoryError\n", ram()),
    "numpy": (
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with"
        " shape (1000, 1000, 1000) and data type float64\n",
        ram(round(7.45 * GIB)),
    ),
    "torch on the CPU": (HOST, ram(64 * MIB)),
    "torch on the CPU, older": (
        "RuntimeError: [enforce fail at CPUAllocator.cpp:64] . DefaultCPUAllocator: not enough memory:"
        " you tried to allocate 1024 bytes. Buy new RAM!\n",
        ram(1024),
    ),
    "fork": ("OSError: [Errno 12] Cannot allocate memory\n", ram()),
    "a shell": ("bash: fork: Cannot allocate memory\n", ram()),
    "C++ on the CPU": (
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        ram(),
    ),
    "R": ("Error: cannot allocate vector of size 2.0 Gb\nExecution halted\n", ram(2 * GIB)),
}  # fmt: skip


def facts(found: OomReport | None) -> OomReport | None:
    return None if found is None else read_oom_report(found.to_json())


@pytest.mark.parametrize(("text", "told"), LAST_WORDS.values(), ids=list(LAST_WORDS))
def test_lack_of_memory_is_reported_with_its_numbers(text: str, told: OomReport) -> None:
    assert facts(find_oom_in_log(f"epoch 1 loss 0.3\n{text}")) == told


OTHER_ENDS = {
    "nothing was said": "",
    "all is well": "epoch 1\nno CUDA out of memory so far\nepoch 2\n",
    "a denial": "finished without CUDA out of memory\nValueError: no images",
    "overcome, then another error": f"{TRACE}{CUDA}retrying with batch 16\n{TRACE}KeyError: 'lr'\n",
    "another error while it was handled": TRACE + CUDA + BESIDE,
    "another error without a name that ends so": (
        f"{TRACE}{CUDA}{TRACE}queue.Empty\n"
    ),
    "skipped": "WARNING: CUDA out of memory, skipping batch 12\nAssertionError\n",
    "skipped, and a plain end": "WARNING: CUDA out of memory, skipping batch 12\nbad data\n",
    "long ago": TRACE + CUDA + "trial goes on\n" * 30,
    "a mention long ago": "cudaMalloc failed: out of memory\n" + "using the CPU\n" * 6,
    "not a failure": (
        "Allocator (GPU_0_bfc) ran out of memory trying to allocate 3.37GiB with freed_by_count=0."
        " The caller indicates that this is not a failure, but this may mean that there could be"
        " performance gains if more memory were available.\nerror: no such file\n"
    ),
    "a source line of another error": (
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
        '    raise Retry("CUDA out of memory")  # never\nzlib.error: incorrect header\n'
    ),
    "Java's own heap": 'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space\n',
    "node's own heap": "FATAL ERROR: Reached heap limit - JavaScript heap out of memory\n",
    "a full disk": "OSError: [Errno 28] No space left on device\n",
    "ambiguous": "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`",
    "a quota": "grpc.RpcError: RESOURCE_EXHAUSTED: Quota exceeded\n",
    "advice": "RuntimeError: if CUDA runs out of memory, take a smaller batch\n",
}  # fmt: skip


@pytest.mark.parametrize("text", OTHER_ENDS.values(), ids=list(OTHER_ENDS))
def test_other_failure_is_not_mistaken_for_a_lack_of_memory(text: str) -> None:
    assert find_oom_in_log(text) is None


def test_message_stops_before_the_advice() -> None:
    found = find_oom_in_log(ALONE.replace("\n", ADVICE))
    assert found is not None
    assert found.message.startswith("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to")
    assert "If reserved" not in found.message


def test_log_cut_within_a_line_is_read_from_its_end() -> None:
    found = find_oom_in_log("x" * 1_000_000 + "\n" + OLD)
    assert found is not None
    assert found.wanted == round(2.26 * GIB)


class OutOfMemoryError(RuntimeError):
    """As torch's, which the launcher never imports."""


OutOfMemoryError.__module__ = "torch"


class Worse(OutOfMemoryError):
    pass


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


RING = RuntimeError("a")
RING.__cause__ = caused(RuntimeError("b"), RING)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemoryError("Tried to allocate 2.00 GiB."), gpu(wanted=2048)),
        (Worse("later"), gpu()),
        (RuntimeError("CUDA error: out of memory"), gpu()),
        (MemoryError(), ram()),
        (RuntimeError(HOST), ram(64 * MIB)),
        (caused(ValueError("epoch 3"), OutOfMemoryError("x")), gpu()),
        (ValueError("no images"), None),
        (RING, None),
    ],
)
def test_exception_is_a_lack_of_memory_by_class_message_or_cause(
    error: BaseException, told: OomReport | None
) -> None:
    assert facts(find_oom_in_exception(error)) == told


pieces = st.sampled_from([text for text, _ in LAST_WORDS.values()] + list(OTHER_ENDS.values()))
logs = st.lists(pieces | st.text(max_size=80), max_size=4).map("".join)


@settings(max_examples=300, deadline=None)
@given(logs | st.binary(max_size=400).map(lambda raw: raw.decode(errors="replace")))
def test_any_log_can_be_read(text: str) -> None:
    found = find_oom_in_log(text)
    if found is not None:
        assert read_oom_report(found.to_json()) == read_oom_report({**found.to_json()})
        assert all(value is None or value >= 0 for value in (found.wanted, found.held, found.cap))


@settings(max_examples=100, deadline=None)
@given(logs, st.integers(0, 400))
def test_log_that_ends_earlier_can_be_read(text: str, end: int) -> None:
    find_oom_in_log(text[:end])


# --- memory share


CONTEXT = 512 << 20


def test_memory_share_without_a_folder_limits_nothing_and_writes_nothing() -> None:
    share = Share()
    share.report(reserved_bytes=1, peak=1, last=True)
    assert share.vram_limit() == VramLimit()
    assert share.cap() is None


def test_cap_includes_the_context_and_the_rest_is_the_allocators(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=8 * GIB, context=CONTEXT)
    share = Share(tmp_path)
    assert share.cap() == 8 * GIB
    assert share.vram_limit().allocator == 8 * GIB - CONTEXT


def test_cap_below_the_context_leaves_the_allocator_nothing(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=1, context=CONTEXT)
    assert Share(tmp_path).vram_limit().allocator == 0


def test_job_alone_on_a_gpu_has_no_cap(tmp_path: Path) -> None:
    write_share(Attempt(tmp_path), cap=None, context=CONTEXT)
    assert read_share(Attempt(tmp_path)) == VramLimit(cap=None, context=CONTEXT)
    assert Share(tmp_path).vram_limit().allocator is None


def test_change_is_seen_after_half_a_second(tmp_path: Path) -> None:
    clock = Clock(now=0.0)
    share = Share(tmp_path, clock=clock)
    assert share.cap() is None
    write_share(Attempt(tmp_path), cap=GIB, context=0)
    clock.now = 0.4
    assert share.cap() is None
    clock.now = 0.5
    assert share.cap() == GIB
    write_share(Attempt(tmp_path), cap=None, context=0)
    clock.now = 1.0
    assert share.cap() is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 2, "cap": 1, "context": 0}', '{"schema": 1, "cap": "8", "context": 0}',
             '{"schema": 1, "cap": -1, "context": 0}', '{"schema": 1, "context": 0}',
             '{"schema": 1, "cap": null}', '{"schema": 1, "cap": true, "context": 0}'],
)  # fmt: skip
def test_unreadable_share_changes_nothing(tmp_path: Path, text: str) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    share = Share(tmp_path, clock=clock)
    write_share(attempt, cap=GIB, context=0)
    assert share.cap() == GIB
    attempt.share.write_text(text)
    clock.now = 1.0
    assert share.cap() == GIB
    assert read_share(attempt) is None
    attempt.share.unlink()
    clock.now = 2.0
    assert share.cap() == GIB


def test_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    write_share(attempt, cap=GIB, context=0)
    share = Share(tmp_path, clock=clock)
    assert share.cap() == GIB
    told = attempt.share.stat()
    attempt.share.write_text(attempt.share.read_text().replace("1", "2"))
    os.utime(attempt.share, ns=(told.st_atime_ns, told.st_mtime_ns))
    clock.now = 1.0
    assert share.cap() == GIB


def test_report_survives_a_round_trip(tmp_path: Path) -> None:
    Share(tmp_path).report(reserved_bytes=3, peak=5, context=CONTEXT, uuid="GPU-8932f937")
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert report == MemoryReport(
        at=report.at, reserved=3, peak=5, context=CONTEXT, uuid="GPU-8932f937"
    )
    assert [one.name for one in tmp_path.iterdir()] == ["memory.json"]


def test_reports_are_written_once_a_second_and_the_last_one_always(tmp_path: Path) -> None:
    attempt, clock = Attempt(tmp_path), Clock(now=0.0)
    share = Share(tmp_path, clock=clock)

    def told(reserved: int, at: float, *, last: bool = False) -> int | None:
        clock.now = at
        share.report(reserved_bytes=reserved, peak=reserved, last=last)
        report = read_report(attempt)
        return None if report is None else report.reserved

    assert told(1, 0.0) == 1
    assert told(2, 0.9) == 1
    assert told(3, 1.0) == 3
    assert told(4, 1.1, last=True) == 4


def test_worker_continues_if_its_report_cannot_be_written(tmp_path: Path) -> None:
    Share(tmp_path / "gone").report(reserved_bytes=1, peak=1)
    assert read_report(Attempt(tmp_path / "gone")) is None


GOOD = {"schema": 1, "at": 5.0, "reserved": 3, "peak": 5, "context": None, "uuid": None}


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"at": "now"}, {"at": float("nan")}, {"reserved": -1}, {"reserved": None},
     {"peak": 1.5}, {"reserved": True}, {"reserved": 1 << 62}],
)  # fmt: skip
def test_invalid_report_is_ignored(tmp_path: Path, change: dict[str, object]) -> None:
    Attempt(tmp_path).memory.write_text(json.dumps(GOOD | change))
    assert read_report(Attempt(tmp_path)) is None


@pytest.mark.parametrize("uuid", [7, "", "x" * 101, "GPU\n1"])
def test_gpu_with_an_invalid_name_is_skipped(tmp_path: Path, uuid: object) -> None:
    Attempt(tmp_path).memory.write_text(json.dumps(GOOD | {"uuid": uuid}))
    assert read_report(Attempt(tmp_path)) == MemoryReport(at=5.0, reserved=3, peak=5)


def test_folder_in_place_of_a_record_is_not_a_record(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    attempt.memory.mkdir()
    attempt.share.mkdir()
    assert read_report(attempt) is None
    assert read_share(attempt) is None
    assert Share(tmp_path).cap() is None
    Share(tmp_path).report(reserved_bytes=1, peak=1)


amounts = st.none() | st.integers(0, 1 << 59)


@settings(max_examples=30, deadline=None)
@given(amounts, st.integers(0, 1 << 59))
def test_share_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, cap: int | None, context: int
) -> None:
    attempt = Attempt(tmp_path_factory.mktemp("attempt"))
    write_share(attempt, cap=cap, context=context)
    assert read_share(attempt) == VramLimit(cap=cap, context=context)


def test_job_on_several_gpus_reports_each_by_its_name(tmp_path: Path) -> None:
    cards = {"GPU-a": 3 * GIB, "GPU-b": 5 * GIB}
    Share(tmp_path).report(reserved_bytes=5 * GIB, peak=6 * GIB, cards=cards)
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert (report.cards, report.uuid, report.reserved) == (cards, None, 5 * GIB)


@pytest.mark.parametrize("cards", [None, [], "x", {"GPU-a": -1}, {"": 1}, {"GPU\n": 1}])
def test_invalid_entries_about_several_gpus_are_skipped(tmp_path: Path, cards: object) -> None:
    record = {"schema": 1, "at": 1.0, "reserved": 1, "peak": 1, "cards": cards}
    Attempt(tmp_path).memory.write_text(json.dumps(record))
    report = read_report(Attempt(tmp_path))
    assert report is not None
    assert report.cards == {}


# --- a program that the machine has no memory for


@pytest.mark.parametrize(
    ("limits", "number", "why"),
    [
        ({"NOFILE": 64}, errno.ENOMEM, "Cannot allocate memory"),
        ({"AS": 1 << 40}, None, "its memory limit (ulimit -v, ulimit -d) is too small"),
    ],
)
def test_shortage_is_attributed_to_a_memory_limit_only_if_there_is_one(
    limits: dict[str, int], number: int | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "execve", refuse)  # in the child that `spawn` forks
    context = a_context("/", limits=limits)
    order = AttemptSpec(spec=a_spec("true"), context=context, job=1, number=1, device=CPU, cpus=1)
    with Path(os.devnull).open("wb") as log, pytest.raises(CannotStart) as raised:
        spawn(order, os.environ, (log.fileno(), log.fileno()))
    assert (raised.value.errno, str(raised.value)) == (number, why)
