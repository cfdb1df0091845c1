"""The lack of memory that ended a program, from the end of its log or from its exception.

Out of memory is recognized by the last lines of any program's output, with the numbers in them. Only
the *final* error counts. A program may lack memory, recover, and fail later for another reason. So a
sign of it counts only if nothing contradicts it:

* An exception's own line, with few lines of other text behind it, counts if it is the last exception.
* If a later exception was raised `from` it, it counts as the cause.
* If a later exception only says that a child failed, it counts too: torchrun, accelerate, a shell.
* If any other exception is behind it, "during handling of" or not, that one ended the program.
* A bare mention ("cudaMalloc failed: out of memory") counts among the last few lines. It does not count as a warning, a
  retry or a denial.
* A limit that a program has set itself (a JVM's heap) does not count. More memory would not help.

The texts are those of torch 1.0 to 2.15, CuPy, Numba, TensorFlow, JAX, the CUDA runtime, cuBLAS,
cuDNN, Python, numpy and the C library.
"""

import math
import re
from collections.abc import Sequence

from launcher.queue.jobs.states import IMPLAUSIBLE_BYTES, MemoryKind, OomReport

TAIL_BYTES = 16_384  # bytes of a log; JAX writes some hundred lines on buffers after the headline
MOST_MESSAGE_CHARACTERS = 300  # characters of a headline that are kept
_AFTER_EXCEPTION = 25  # lines that may follow the exception: a launcher's summary, a farewell
_AFTER_MENTION = 5
_MESSAGE_LINES = 12  # lines of one message
# a program that prints this after a mention was not ended by a lack of memory
_OTHER_ERROR = re.compile(r"(?i)\b(?:fatal|cannot|no such|not found|denied|invalid|unrecognized)\b")
_MOST_CAUSES = 16  # causes of one exception; a chain may be a ring
# prefixes that launchers of many processes write before a line, and colour codes
_LINE_PREFIXES = re.compile(
    r"\x1b\[[0-9;]{0,20}[A-Za-z]|^(?:\[(?:rank)?[0-9]{1,4}\]: ?|[0-9]{1,4}: |\(\w{1,40} pid=[^)]{1,80}\) )"
)
# an exception's own line, as Python prints it
_EXCEPTION_LINE = re.compile(
    r"(?:[A-Za-z_][\w<>]{0,80}\.){0,12}[A-Za-z_]?\w{0,80}(?:Error|Exception|Interrupt)(?::|$)"
)
# exceptions that only report an exception of another process, and warnings
_CHILD_ERROR = re.compile(
    r"(?:[\w.]{1,200}\.)?(?:ChildFailedError|CalledProcessError|ProcessExitedException"
    r"|ProcessRaisedException|RayTaskError|RemoteError|SystemExit)\b"
)
_FROM = "The above exception was the direct cause of the following exception"
# lines that continue the lines above them, or contain nothing
_CONTINUATION = re.compile(
    r"$|\s|[│╭╰]|frame #|Buffer|Peak buffers|Exception raised from|Traceback|The above exc|wandb:"
    r"|[-=*#_+~ ]+$|CUDA kernel errors|For debugging|Compile with|Search for"
)
_GPU_NAME = re.compile(
    r"(?:torch|cupy|cupy_backends|numba|rmm|pycuda)\.(?:[\w]{1,40}\.){0,6}\w{0,40}(?:OutOfMemory|Memory)Error"
)
# CUBLAS_STATUS_NOT_INITIALIZED and "unable to find an engine" may mean it too, and may not
_GPU_WORDS = re.compile(
    r"(?i)(?:CUDA|HIP|cudaMalloc)\b.{0,80}?out of memory|CUDA_ERROR_OUT_OF_MEMORY"
    r"|cudaMalloc\w{1,20} .{0,80}?out of memory|cudaErrorMemoryAllocation|cuMemAlloc.{0,40}out of memory"
    r"|CU(?:BLAS|SOLVER|SPARSE|DNN|RAND)_STATUS_ALLOC(?:ATION)?_FAILED|CUFFT_ALLOC_FAILED"
    r"|RESOURCE[_ ]EXHAUSTED: (?:Out of memory|Failed to allocate request)"
    r"|OOM when allocating tensor.{0,300}device:GPU|allocat.{0,60} would exceed allowed memory"
)
_RAM_NAME = re.compile(r"(?:numpy\.[\w.]{0,60}\.)?_?(?:Array)?MemoryError(?::|$)")
_RAM_WORDS = re.compile(
    r"(?i)DefaultCPUAllocator: (?:can't|not enough)|std::bad_alloc|cannot allocate memory"
    r"|cannot allocate vector of size|unable to allocate [0-9.]{1,20} [KMGT]iB"
    r"|OOM when allocating tensor.{0,300}device:CPU|virtual memory exhausted"
)
# words about a lack of memory that did not happen, or that the program survived
_DISMISSED_WORDS = re.compile(
    r"(?i)\b(?:no|not|without|never|avoid|skip\w*|retr(?:y|ies|ying)|recover\w*|caught|handled"
    r"|falls?|falling|warn\w*|if|may|might|in case|prevent\w*|reduc\w+|trying|again)\b"
)
_NEUTRAL = re.compile(
    r"(?i)not enough|you tried to|(?:while|when) trying to|(?:if reserved|see doc|cuda kernel err).*"
)
_WORDS_BY_MEMORY: tuple[tuple[re.Pattern[str], MemoryKind], ...] = (
    (_GPU_WORDS, "gpu"),
    (_RAM_WORDS, "ram"),
)
_AMOUNT = r"([0-9][0-9,]{0,25}(?:\.[0-9]{1,9})?) ?(bytes|[KMGT]i?B|[KMGT]b|B)\b"
_WANTED = re.compile(
    r"(?i:tried to allocate|trying to allocate|\ballocating|allocate request for|unable to allocate"
    r"|cannot allocate vector of size|requested size:|requested\s{1,30}:) " + _AMOUNT
)
_IN_USE = re.compile(r"[Tt]his process has " + _AMOUNT + " memory in use")  # prose: ok, torch's
_RESERVED = re.compile(_AMOUNT + " reserved in total by PyTorch")
_ALLOCATED = re.compile(_AMOUNT + " (?:is allocated by PyTorch|already allocated)")
_SPARE = re.compile(_AMOUNT + r" (?:is reserved by PyTorch but unallocated|cached\))")
_SO_FAR = re.compile(r"(?:allocated so far: |Currently allocated\s{1,30}: )" + _AMOUNT)
_CAP = re.compile(
    _AMOUNT + " allowed; " + r"|(?:memory fraction\)\s{1,40}: |limit set to: )" + _AMOUNT
)
_FREE = re.compile(_AMOUNT + r" (?:is free\.|free; )" + r"|Free \(according to CUDA\): " + _AMOUNT)
_TOTAL = re.compile(
    r"(?:total capaci?ty of |Device limit\s{1,30}: )" + _AMOUNT + "|" + _AMOUNT + " total capacity"
)
_SHAPE = re.compile(
    r"OOM when allocating tensor with shape ?\[([0-9,]{1,120})\](?: and type (\w{1,20}))?"
)
_ADVICE = re.compile(r"\s(?:If reserved|CUDA kernel errors|See documentation|BufferAssign|Hint:)")
_POWERS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_WIDTHS = {"half": 2, "bfloat16": 2, "double": 8, "int64": 8, "bool": 1, "uint8": 1}


def find_oom_in_log(text: str) -> OomReport | None:
    """Return the lack of memory that ended a program, from the end of its log; None if it ended otherwise."""
    lines = [_LINE_PREFIXES.sub("", line).rstrip() for line in text[-TAIL_BYTES:].splitlines()]
    ends = _find_exceptions(lines)
    place = _find_cause(lines, ends)
    if place is not None:
        text = _whole_message(lines, place)
        where = _memory_of_exception(text)
        if where is not None and _count_other_lines(lines, place) <= _AFTER_EXCEPTION:
            return _parse_oom_report(where, text)
    for place in range(len(lines) - 1, ends[-1] if ends else -1, -1):
        if (where := _memory_of_mention(lines[place])) is not None:
            contrary = any(_OTHER_ERROR.search(line) for line in lines[place + 1 :])
            few = _count_other_lines(lines, place) <= _AFTER_MENTION and not contrary
            return _parse_oom_report(where, _whole_message(lines, place)) if few else None
    return None


def find_oom_in_exception(error: BaseException) -> OomReport | None:
    """Return the lack of memory that an exception reports or was raised from; None if it has another cause."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            break
        text = str(cause)[:TAIL_BYTES]
        for kind in type(cause).__mro__:
            name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            if where := _memory_of_exception(f"{name}: {text}"):
                return _parse_oom_report(where, f"{type(cause).__name__}: {text}")
        cause = cause.__cause__
    return None


def _find_exceptions(lines: Sequence[str]) -> list[int]:
    """Return the indexes of lines with an exception that ended a program or thread, in order."""
    places = []
    traced = False  # the next line that is not indented is an exception's, whatever its name
    for place, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            traced = True
        elif line and not line[0].isspace() and (traced or _EXCEPTION_LINE.match(line)):
            traced = False
            if not _CHILD_ERROR.match(line):
                places.append(place)
    return places


def _find_cause(lines: Sequence[str], ends: Sequence[int]) -> int | None:
    """Return the last exception, or its cause if the cause is the shortage."""
    cause = None
    for place in reversed(ends):
        if cause is not None and not any(line.startswith(_FROM) for line in lines[place:cause]):
            break
        cause = place
        if _memory_of_exception(_whole_message(lines, place)):
            break
    return cause


def _count_other_lines(lines: Sequence[str], place: int) -> int:
    """Return how many lines with something else to say stand below a line."""
    return sum(not _CONTINUATION.match(line) for line in lines[place + 1 :])


def _whole_message(lines: Sequence[str], place: int) -> str:
    """Return a line and the lines that continue its message; the numbers may be on the next lines."""
    rest: list[str] = []
    for line in lines[place + 1 : place + _MESSAGE_LINES]:
        if not line or _EXCEPTION_LINE.match(line):
            break
        rest.append(line.strip())
    return " ".join([lines[place].strip(), *rest])


def _memory_of_exception(text: str) -> MemoryKind | None:
    """Return which memory was missing, from the name and message of an exception; None if none was."""
    if _GPU_NAME.match(text):
        return "gpu"
    if _RAM_NAME.match(text):
        return "gpu" if _GPU_WORDS.search(text) else "ram"
    for words, where in _WORDS_BY_MEMORY:
        match = words.search(text)
        if match is not None:
            return None if _is_dismissed(text[: match.end()]) else where
    return None


def _memory_of_mention(line: str) -> MemoryKind | None:
    """Return which memory was missing according to a line that is not an exception's; None if none was."""
    where = _memory_of_exception(line)
    return None if where is None or _is_dismissed(line) else where


def _is_dismissed(text: str) -> bool:
    return _DISMISSED_WORDS.search(_NEUTRAL.sub("", text)) is not None


def _parse_oom_report(memory_kind: MemoryKind, text: str) -> OomReport:
    wanted, total, cap = _amount(_WANTED, text), _amount(_TOTAL, text), _amount(_CAP, text)
    whole = cap is not None and total is not None and cap >= total
    return OomReport(
        where=memory_kind,
        wanted=_tensor_bytes(text) if wanted is None else wanted,
        held=_process_bytes(text),
        cap=None if whole else cap,
        free=_amount(_FREE, text),
        total=total,
        message=_ADVICE.split(text, maxsplit=1)[0][:MOST_MESSAGE_CHARACTERS].strip(),
    )


def _process_bytes(text: str) -> int | None:
    """Return the memory usage of the process: with its context if that is reported, otherwise its allocator's."""
    for pattern in (_IN_USE, _RESERVED):
        if (amount := _amount(pattern, text)) is not None:
            return amount
    allocated = _amount(_ALLOCATED, text)
    if allocated is not None:
        return allocated + (_amount(_SPARE, text) or 0)
    return _amount(_SO_FAR, text)


def _amount(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    if match is None:
        return None
    number, unit = (part for part in match.groups() if part is not None)
    value = float(number.replace(",", "")) * 1024 ** _POWERS[unit[0].upper()]
    return round(value) if value < IMPLAUSIBLE_BYTES else None


def _tensor_bytes(text: str) -> int | None:
    """Return the bytes of the tensor that TensorFlow names by its shape."""
    match = _SHAPE.search(text)
    if match is None:
        return None
    sides = [int(side) for side in match[1].split(",") if side]
    value = math.prod(sides) * _WIDTHS.get(match[2] or "float", 4)
    return value if value < IMPLAUSIBLE_BYTES else None
