"""The forms of the last lines in the log of a failed program: errors, and other lines of tools.

`classify_line` reads one line. `launcher.queue.workers.failure_lines` reads lines whose meaning depends on the lines above
them, such as the lines of a traceback.
"""

import re
from enum import StrEnum

_ENDS_IN_VERB = r"(?:failed|aborted|crashed|terminated|unsuccessful)"
_RUNNING_THING = (
    r"(?:training|job|run|script|process|command|subcommand|build|task|step|program|experiment|execution|pipeline"
    r"|workflow|stage|trial|worker|child|compilation|\S+\.(?:py|sh|jl|R))"
)


class LineKind(StrEnum):
    """The meaning of a line."""

    UNCAUGHT = "uncaught"  # names an error that ends a program
    ERROR = "error"  # names an error; the program may have continued
    CRASH = "crash"  # names the signal that ended a program, and nothing else
    SECONDARY = "secondary"  # error of a thread
    SUMMARY = "summary"  # says that another process or step failed, not why
    INDENTED = "indented"  # continues the line above it
    PASSED = "passed"  # never a reason: a bar, a separator, a closing line, a frame of a traceback
    OTHER = "other"


def _any_of(*forms: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{form})" for form in forms), flags)


_WORD = re.compile(r"[^\W_]")
_BAR = _any_of(
    r"\d{1,3}(?:\.\d+)?%\s*(?:\([^)]{1,40}\)\s*)?\|[^|]*\|",  # tqdm, progressbar2, ProgressMeter.jl
    r"\d[\d.]*[kMGT]?i?B?/[\d.?]+[kMGT]?i?B? \[\d+:\d\d",  # tqdm that draws no bar
    r"(?:\A|\s|:)\d[\d.]*\S{0,12} \[\d+:\d\d, ",  # tqdm without a total
    r"\A\d+/(?:\d+|Unknown) \[[=>.]+\]",  # Keras 2
    r"\[[=#>. -]{5,}\]\s*\d|\d%.{0,20}\[[=#>. -]{5,}\]",  # wget, click, apt
    r"\A\|[=# -]{5,}\|\s*\d{1,3}%",  # R
)
_BLOCKS = re.compile(r"[━╸╺▰▱█▉▊▋▌▍▎▏▓▒░⣀-⣿]{3}")  # rich, Keras 3, pip, alive-progress
_PASSED = _any_of(
    r"wandb:(?! ERROR)|nohup: ",
    r"COMET (?:INFO|WARNING):",
    r"🏃 View run |🧪 View experiment ",  # MLflow
    r"Set the environment variable HYDRA_FULL_ERROR",
    r"Error executing job with overrides|Available options(?: in .{1,80})?:|Config search path:",
    r"Process finished with exit code",  # PyCharm
    r"Command exited with non-zero status|(?:real|user|sys)\s+\d+[m.,]\d",  # time
    r"(?:Spawn|Fork|ForkServer|Dummy)?(?:Pool)?Process [\w-]{1,40}:\Z",  # multiprocessing
    r"-- Process \d+ terminated with the following error",  # torch.multiprocessing
    r"(?:\w+\.)*_?RemoteTraceback:",
    r"During handling of the above exception|The above exception was the direct cause",
    r"Original Traceback |Original exception was:",
    r"NoneType: None\Z",
    r"\S+:\d+: \w*Warning: ",  # Python's warnings
    r".{0,80}\bleaked (?:semaphore|shared_memory|folder|file)",
    r"\[?W\d{3,4} \d\d:\d\d:\d\d|\[W \w+\.cpp:\d+|\[W\d+ \S+ \w+\.cpp",  # warnings of torch and glog
    r".{0,80}(?:Sending process \d+ closing signal|Killing subprocess \d+)",  # torchrun, DeepSpeed
    r".{0,60} [IWE] (?:tensorflow|external)/",  # printed when TensorFlow is imported
    r"CUDA kernel errors might be|For debugging consider passing CUDA_LAUNCH|Compile with `TORCH_USE_CUDA_DSA`",
    r"Device-side assertion tracking was not enabled|Search for `cudaError",
    r"Exception raised from \w+|frame #\d+:",  # C++ part of torch's messages
    r"Extension modules: |(?:Current )?[Tt]hread 0x[0-9a-f]+ ",  # faulthandler
    r"Execution halted|Calls: |Warning messages?:|In addition: Warning|In .{1,80} :\Z|Backtrace:",  # R
    r"Stacktrace:\Z|in expression starting at ",  # Julia
    r"[Ee]rror: called from\Z|MATLAB is exiting|ERROR: MATLAB error Exit Status",
    r"note: (?:run with|Some details)|\S+:\d+: note: ",  # Rust, gcc
    r"stack backtrace:|For more information about (?:this|an) error|Some errors have detailed",  # Rust
    r"goroutine \d+ \[|created by \S+(?: in goroutine \d+)?\Z|\[signal SIG",  # Go
    r"(?:main|runtime|[\w.-]+/[\w./-]+)\.[\w.()*]+\(.*\)\Z|panic\(.*\)\Z",
    r"Node\.js v\d|\(Use `node --trace",
    r"Error termination\. Backtrace|Backtrace for this error|#\d+\s+(?:0x[0-9a-f]+|\{main\}|.{1,200}:\d+$)",  # Fortran
    r"Image +PC +Routine|Stack trace terminated abnormally|\S+ +[0-9A-F]{12,16} +\S+ +\S+ +\S+\Z",  # Intel Fortran
    r"Stack trace:\Z|Traceback \(most recent call first\)|CallStack \(from|stack traceback:",
    r"Primary job +terminated|a non-zero exit code\. Per user|(?:mpirun|mpiexec|prterun|prun)\b.{0,40} detected that",
    r"the job to be terminated\. The first|NOTE: invoking MPI_ABORT|You may or may not see output|exactly when Open MPI",
    r"MPI_ABORT was invoked|with errorcode -?\d+\.|(?:Process name|Exit code): ",  # Open MPI
    r"= (?:  |BAD TERMINATION)|This typically refers to a problem|Please see the FAQ page",  # MPICH
    r"srun: (?:Job step aborted|Terminating|launch/slurm|Force Terminated)",
    r"(?:Other )?Failures:\Z|Root Cause\b[^:]*:\Z|\[\d+\]:\Z|<NO_OTHER_FAILURES>",  # torchrun
    r".{0,200}\bfailed \(exitcode: ",
    r"\[[\w.-]+:\d+\] (?:\[|\*\*\*|Signal code|Failing at)",  # a signal, by Open MPI
    r"Resource usage summary:|The output \(if any\)",  # LSF
    r"make.{0,12}: (?:\*\*\* Waiting|Leaving|Entering|Target)",
    r"\d+ (?:errors?|warnings?)(?: and \d+ (?:errors?|warnings?))?(?:\Z| generated| detected)|compilation terminated",
    r"(?:Run|See|Try|Use) ['`\"].{1,80}help|Shadow byte|==\d+==ABORTING",
    r"-- Configuring incomplete|See also \"",  # CMake
    r"error: aborting due to |error: could not compile ",
    r"npm (?:ERR!|error)(?: (?:code|errno|path|syscall|cwd|command|A complete|signal)\b.*|\s.{0,8})?\Z",
    r"npm (?:ERR!|error)\s+(?:/|\d{4}-|This is probably not)",
    r"error Command failed|info Visit https://yarnpkg|\s?ELIFECYCLE",  # yarn, pnpm
    r"exit status \d+\Z",  # go run
    r"\[notice\] |WARNING: You are using pip",  # pip
    r"For further information visit https://errors\.pydantic",
    r"Exiting because a job execution failed|Shutting down, this might take|Complete log(?:\(s\))?: |WorkflowError:\Z",  # Snakemake
    r"At least one job did not complete|Error in rule |\[\w{3} \w{3} +\d+ [\d:]+ \d{4}\]\Z",
    r"Work dir:|Tip: |-- Check '|Command (?:error|output|exit status|executed|wrapper):",  # Nextflow
    r"Traceback \(|\+ Exception Group Traceback|[Ee]xit code: \d+\Z",
    r"(?:Started|Ended|Finished|Terminated) at:? (?:\w{3} \w{3} |\d{4}-)",
    r"Node: '|<stack traces unavailable>",  # TensorFlow
)
_CRASH = _any_of(
    r"(?:.{0,200}: line \d+:\s+\d+ |.{0,200}\] )?(?:Aborted|Segmentation fault|Bus error|Illegal instruction"
    r"|Floating point exception|Trace/breakpoint trap)\b",
    r"Command terminated by signal \d+",
    r".{0,200}\bdied with <Signals\.",
    r"YOUR APPLICATION TERMINATED WITH THE EXIT STRING",
    r"(?:mpirun|mpiexec|prterun)\b.{0,20} noticed that process rank|\[[\w.-]+:\d+\] Signal: ",
)
_KILLED = _any_of(
    r"(?:.{0,200}: line \d+:\s+\d+ )?(?:Killed|Terminated(?! at)|Out of memory)\b",
    r"TERM_\w+: job killed",  # LSF
    r"(?:slurmstepd|srun): error: .*(?:oom|OOM|Out Of Memory|out of memory|TIME LIMIT|NODE FAIL)",
)
_SUMMARY = _any_of(
    r"\bexit(?:ed|s|ing)?(?: unexpectedly)?(?: with)?(?: an?)?(?: error| non-?zero)?(?: exit| return| error)?"
    r"[ -]?(?:code|status)\b",
    r"\bexit(?:ed|s) with \d|\bexitcode\b|\bexits with return code|\bexited unexpectedly",
    r"\breturned (?:a )?(?:non-?zero|exit (?:code|status)|code \d)|\bnon-?zero (?:exit|status|code)",
    r"\A(?:\w+\.)*(?:ChildFailedError|CalledProcessError|ProcessExitedException|ProcessRaisedException|RemoteError"
    r"|RayTaskError(?:\(\w+\))?|RuleException|SpawnedJobError|ExecutionException)(?![\w(])",
    r"\ASystemExit: -?\d+\Z",
    r"\A\S*make(?:\[\d+\])?: \*\*\* .*Error \d+|\Aninja: build stopped|\Acollect2: error: ld returned|\AFAILED: ",
    r"\Anpm (?:ERR!|error) ",
    r"\A(?:slurmstepd|srun): error: .*(?:CANCELLED|[Tt]asks? [\d,-]+: )",
    r"\A=* ?\d+ (?:failed|errors?)\b.* in [\d.]+s|\AFound \d+ errors?\b",  # pytest, mypy, ruff
    r"\bsee above for (?:the )?error|\bSee above\b|\bLook (?:above|below) for error",
)
_STEP_FAILED = _any_of(  # these words name no error
    rf"\b{_RUNNING_THING}\W{{0,3}}(?:\S+ ){{0,2}}?(?:has |was |is )?{_ENDS_IN_VERB}[\s.!…=*-]*\Z",
    r"\A\W*(?:error|fatal)?\W*(?:failed|failure|aborting|exiting|stopping|terminating)[\s.!…]*\Z",
    flags=re.IGNORECASE,
)
_UNCAUGHT = _any_of(
    r"Exception in thread \"",  # Java
    r"Caused by: \S",
    r"Original error was: ",
    r"thread '.*' (?:\(\d+\) )?panicked at|panic: |fatal error: all goroutines",
    r"terminate called|what\(\):\s|libc\+\+abi: ",
    r"(?:free|malloc|realloc|munmap_chunk)\(\): |double free or |corrupted size|\*\*\* (?:stack|buffer) ",
    r".{1,300}: Assertion [`'\u2018].*['\u2019] failed",
    r"Fatal Python error: (?!Aborted\Z)",
    r"(?:PHP )?(?:Fatal error: +)?(?:Uncaught|Unhandled)\b|\[?UnhandledPromiseRejection",
    r"ERROR: LoadError: ",
    r"Error in (?!rule |atexit|sys\.)[^:]{1,200}: ?",  # R
    r"forrtl: (?:severe|error)|Fortran runtime error: |ERROR STOP\b",
    r"Program received signal SIG",
    r"(?:==\d+==\s?)?(?:ERROR|SUMMARY): \w+Sanitizer",
    r"\*\* \((?:\w+\.)*\w+\) ",  # Elixir
)
_NO_NUMBER = (  # a measured error: `test error: 0.12 (best 0.11)`, `Test Error: accuracy: 60 %`
    r"(?!\s*[-+]?(?:\d*\.\d|(?:\d[\d.,]*|nan|inf)(?:e[-+]?\d+)?\s*(?:\Z|[%,;|(\[±/]|[\w ]{1,40}[:=]))|\s*\w+[:=]\s*[-+\d.])"
)
_STAMP = r"(?:\[?\d[\d:.,TZ/+-]*\]?,?\s){0,3}"
_ERROR = _any_of(
    rf"{_STAMP}(?:\S+: ){{0,4}}(?:[A-Za-z]+ ){{0,3}}(?:[Ee]rror|ERROR|[Ff]atal|FATAL|Failure|FAILURE|[Pp]anic)"
    rf"(?: \w{{1,10}}| ?\[\w{{1,10}}\])?:{_NO_NUMBER}",
    rf"(?:Fehler|Erreur|Errore|错误|エラー|오류)\s?[:：]{_NO_NUMBER}",  # noqa: RUF001  # as it is printed
    # an exception, as most languages print it
    r"\[?(?:[A-Za-z_]\w*[.$])*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Timeout|Expired|Fault)(?:\(\w+\))?(?: \[\w+\])?"
    r"(?::(?:\s|\Z)|\Z)",
    r"\S+?[:(]\d+(?:[:,]\d+)*\)?:? (?:fatal )?[Ee]rror\b",
    # a logger's line of that level; not a count of errors
    r".{0,80}?(?<![\w.])(?:ERROR|CRITICAL|FATAL|SEVERE)(?![\w.])(?!\s*[:=]?\s*[\d.]+(?:\s|\Z|%))(?=.*[a-z])",
    r".{0,120}?\blevel\W{1,4}(?:error|fatal|critical)\b",
    r"\[?[EF]\d{3,4} \d\d:\d\d:\d\d",  # glog
    r"CMake Error |E: \S|! \S|undefined reference to ",  # CMake, apt, rlang and LaTeX
    r".{1,300}: (?:undefined reference to |syntax error\b)|\w+ in (?:rule|file) .*, line \d+:\Z",
    r"(?:FAILED|ERROR) \S+\.py\b",  # pytest
    r".{1,300}: (?:command not found|not found|No such file or directory|Permission denied|Is a directory)\Z",
    r".{1,300}\((?:\w+::)*[A-Z]\w*(?:Error|Exception)\)\Z",  # Ruby
    r".{1,300} at \S+ line \d+\.\Z",  # Perl
    r"slurmstepd: error: |srun: error: |sbatch: error: ",
)
_MENTION = _any_of(
    r"\b(?:no such|no \w+ (?:left|found|given)|not (?:found|a|an|enough|in|defined|allowed|supported|exist)|cannot"
    r"|can't|could ?n[o']t|unable|fail\w*|invalid|missing|denied|refused|unknown|unexpected|illegal|unsupported"
    r"|must be|required|abort\w*|giving up|gave up|diverged|killed|timed? ?out|exceed\w*|empty|wrong|bad|corrupt\w*"
    r"|broken|unrecognized|undefined|sorry|stopping|stopped|does not|doesn't|is not|errors?|overflow|incompatible"
    r"|non-?finite|nan (?:loss|detected|in|found)|(?:encountered|is|was|became|got) (?:nan|inf\w*))\b",
    flags=re.IGNORECASE,
)
_URL = re.compile(r"\w+://\S+")
_CALM_LEVEL = re.compile(r".{0,60}?\b(?:INFO|DEBUG|info|debug)\b")
_PARALLEL = _any_of(  # printed by a program that started several processes, one of which has failed
    r"srun: error: .*: tasks? \d",
    r"Primary job +terminated|(?:mpirun|mpiexec|prterun|prun)\b.{0,40} detected that|MPI_ABORT was invoked",
    r"= +BAD TERMINATION",
    r".{0,200}\bfailed \(exitcode: ",  # torchrun
    r".{0,200}\bexits with return code = ",  # DeepSpeed
)
_CONSEQUENCE = re.compile(
    r"(?i)connection (?:was )?(?:closed|reset|refused)|remote process exited|communicator was aborted|ncclRemoteError"
    r"|broken pipe|closing signal|SIGTERM|socket timeout|by peer"
)
_COMPILER = re.compile(
    r"\S+?[:(]\d+(?:[:,]\d+)*\)?:? (?:fatal )?error\b|FAILED \S+\.py|error\[E\d+\]|npm "
)
# characters of a long line that are read; a command with its options may be in between
_HEAD, _TAIL = 400, 200


def classify_line(text: str) -> LineKind:
    """Return what a line is if it does not belong to a traceback."""
    line = _shorten(text.strip())
    if not _WORD.search(line):
        return LineKind.PASSED
    for kind, pattern in (
        (LineKind.ERROR, _KILLED),
        (LineKind.PASSED, _PASSED),
        (LineKind.CRASH, _CRASH),
    ):
        if pattern.match(line):
            return kind
    if _is_bar(line):
        return LineKind.PASSED
    if _SUMMARY.search(line) or _STEP_FAILED.search(line):
        return LineKind.SUMMARY
    if _UNCAUGHT.match(line):
        return LineKind.UNCAUGHT
    if text[:1].isspace():
        return LineKind.INDENTED
    return LineKind.ERROR if _ERROR.match(line) else LineKind.OTHER


def is_summary(text: str) -> bool:
    """Return whether an exception's line only says that another process failed."""
    return _SUMMARY.search(_shorten(text)) is not None


def mentions_failure(text: str) -> bool:
    """Return whether a line of no known form may name an error."""
    line = _URL.sub("", _shorten(text))
    return _MENTION.search(line) is not None and not _CALM_LEVEL.match(line)


def is_of_parallel_program(text: str) -> bool:
    """Return whether a line is the summary of a program that ran several processes."""
    return _PARALLEL.match(text.strip()) is not None


def is_consequence(text: str) -> bool:
    """Return whether the end of another rank caused the error of a rank."""
    return _CONSEQUENCE.search(_shorten(text)) is not None


def is_one_of_several(text: str) -> bool:
    """Return whether a line is one of several errors, of which the first counts: a compiler's, a test's."""
    return _COMPILER.match(text) is not None


def _shorten(line: str) -> str:
    return line if len(line) <= _HEAD + _TAIL else f"{line[:_HEAD]} … {line[-_TAIL:]}"


def _is_bar(line: str) -> bool:
    if _BLOCKS.search(line):
        return any(character.isdigit() for character in line)
    return _BAR.search(line) is not None
