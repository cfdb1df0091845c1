"""Reads a log line by line, with what lines mean for those below them: headings, tables, records, tracebacks."""

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence

from launcher.queue.workers.progress.line_content import FormLine
from launcher.queue.workers.progress.line_forms import read_form
from launcher.queue.workers.progress.log_lines import LogLine
from launcher.queue.workers.progress.number_names import (
    EVALUATION,
    TRAINING,
    FoundNumber,
    has_phase,
    is_of_mean,
    mentions,
    plain_name,
)
from launcher.queue.workers.progress.number_texts import NUMBER, to_number
from launcher.queue.workers.progress.pair_lines import (
    DIFFERENCE,
    EPOCH,
    OTHERS,
    Pair,
    PairLine,
    read_pairs,
)
from launcher.queue.workers.progress.pair_patterns import COUNTER
from launcher.queue.workers.progress.printed_tables import (
    Table,
    TableRow,
    is_ruler,
    may_be_headings,
    may_be_row,
    read_headings,
    read_row,
    split_cells,
)
from launcher.queue.workers.progress.progress_bars import BarLine, read_bar
from launcher.queue.workers.progress.record_lines import (
    CONFIG_WORDS,
    STEP_NAMES,
    are_settings,
    flat_numbers,
    parse_record,
)
from launcher.queue.workers.progress.result_names import (
    SETTING,
    SPREAD,
    needs_fraction,
    reason_against,
)
from launcher.queue.workers.progress.steps import STEP, ProgressReport

MOST_LEFT_OUT = 200  # names that are remembered
_LONGEST_RECORD = 400  # lines
_LONGEST_TITLE = 60  # characters
OTHER_TEXT = "its line contains other text"
EXAMPLE = "it is that of one example"
INITIAL = "it is from before the work began"
WHOLE = "a whole number"
_PHASES = frozenset(
    {"train", "val", "valid", "test", "dev", "tr", "va", "te"}
)  # names of numbers, behind a counter
_COUNTERS = frozenset(
    {
        "epoch",
        "step",
        "steps",
        "iteration",
        "iterations",
        "timesteps",
        "totalenvinteracts",
        "nupdates",
    }
)
_MEANS = frozenset({"mean", "avg", "average"})
_NAME_COLUMNS = frozenset({"metric", "measure", "name"})
_NEUTRAL = re.compile(  # titles that say nothing about a number
    r"final.*|running \w+|metrics on all data|saving dict for global step \d+|(?:best )?params"
    r"|(?:the |your |our |final |overall |all |main |run |model |classification |performance |and |of )*"
    r"(?:results?|metrics?|scores?|summary|report|performance|statistics|stats|done|finished|output|values?|history|info"
    r"|log|epoch|step|iteration|evaluation results?|average|avg)",
    re.IGNORECASE,
)
_SPREAD_ROWS = re.compile(r"std(?:\.? ?dev)?|var|sem|count|min|max|\d{1,2}%|±")
_EXAMPLES = re.compile(r"(?i:best|median|worst) [A-Z]+")  # titles of single examples
_INITIAL = re.compile(r"(?:init|initial|before|sanity)\b", re.IGNORECASE)
_OF_OTHERS = re.compile(  # titles of numbers that the program did not compute
    r"(?:goal|target|required|previous|resum\w+|load(?:ed|ing) (?!best)|restored (?!best))",
    re.IGNORECASE,
)
_INNER = re.compile(
    r"[Ff]old|[Tt]rial|[Rr]epeat"
)  # titles of parts whose epochs say nothing of the whole
_EDGE = r"[=\-*#~_+<>─━═ ]{2,}"
_DECORATED = re.compile(rf"{_EDGE}\s*(?P<title>[^\W_][^=#~─━═]{{0,60}}?)\s*{_EDGE}")
_HASHED = re.compile(r"(?:#{1,6}|={1,5}>|>{2,4}|--+>) ?(?P<title>[^\W\d_][\w '/()&.-]{0,50}):?")
_LABELLED = re.compile(r"(?P<title>[^\W_][\w '/()&.*-]{0,50}?)\s*:")
_COCO = re.compile(
    r"(?:IoU metric: |Evaluate annotation type \*|Evaluation results for |Evaluating )(?P<title>bbox|segm|keypoints)[*:.]*"
)
_SUITE = re.compile(r"(?P<title>(?:humaneval|mbpp)\+? \([a-z +]+\))")  # EvalPlus
_PHASE_LINE = re.compile(  # `Evaluating on the test set...`, or only `Test`
    r"(?:(?:evaluating|testing|validating|results|evaluation|performance|metrics|scores) (?:on|for) (?:the )?)?"
    r"(?P<title>test|train|training|val|valid|validation|dev)(?:ing)?(?: (?:set|data|split))?(?:\.{2,3}|:)?",
    re.IGNORECASE,
)
_PHASE_STARTS = frozenset("EeTtVvRrPpMmSsDd")
_PART = re.compile(  # a line that names the part to which the next numbers belong
    r"(?:Category|Subset|Subtask|Domain|Language): (?P<title>[^\W\d][\w .-]{0,40}?)(?=,|$)"
    r"|(?P<fold>(?:[a-z]+ )?(?:fold|Fold) \d+): (?=[A-Z])"
)
_LETTERS = re.compile(r"[^\W\d_]{2}|[^\W\d_]\d*$")
_METRICS_BLOCK = re.compile(r"\w+ metrics|Run summary")  # transformers; W&B
_FAULT = re.compile(
    r".*?(?:\b\w+(?:Warning|Error|Exception)\b(?: \[\w+\])?: |\bException ignored in|\bassert\b|\bWARN(?:ING)?\b.*=)"
    r"|\+{1,4} |\$ |PS [A-Z]:|.*://"
)
_LISTING = re.compile(r"\s+\d+ \| {2,}|\s*File \"")  # lines of source code
_FAILURES, _FAILURES_END = re.compile(r"=+ (?:FAILURES|ERRORS) =+"), re.compile(r"=+ .* =+")
_COUNTED_TEXT = re.compile(
    r"\[\s*(?P<a>\d{1,9})\s*/\s*(?P<b>\d{1,9})\](?=\s+[A-Za-z])"
    r"|(?i:(?:part|file|chunk|shard|stage|image|batch|epoch|step|iteration|round|durchlauf|epoche|video|item) )"
    r"(?P<c>\d{1,9})(?: of |/| von )(?P<d>\d{1,9})\b"
)
_SCATTERED = re.compile(rf"(?P<name>[^\W\d][\w/@.-]{{0,40}})(?:\s?[=:]\s?| ){NUMBER}(?![\w.%/:-])")
_UNREAD_PAIR = re.compile(  # a name with a text that is meant as a number: `score: 1.2k`, `loss: <0.01`, `"acc": 0.9,`
    r"(?:^\W*|[,{]\s*[\"'])(?P<name>[^\W\d][\w/@.%()-]*(?: [\w/@.%()-]+){0,3}?)[\"']?\s*[:=]\s*"
    rf"(?:(?P<value>{NUMBER})(?![\w%.])|[\[(\"'`*<>=~\u2248\u2264\u2265\u2212\u2013\u2010\u2011$ +-]{{0,4}}\.?\d)"
)
_UNREAD_LINE = (
    re.compile(  # a line of nothing else than a name and a number: `(acc) 0.9`, `acc;0.9`
        rf"\W*(?P<name>[^\W\d][\w/@.%-]*(?: [\w/@.%-]+){{0,3}}?)[\s,;)\]]+(?P<value>{NUMBER})\W*"
    )
)
_ANY_DIGIT = re.compile("[0-9]")
_ONLY_NUMBER = re.compile(rf"\s*{NUMBER}\s*")
_NAME_ALONE = re.compile(r"(?P<title>[^\W\d_][\w /()-]{0,50}?)\s*=")  # MATLAB
_INDENTED_CELL = re.compile(r"\s*[|│┃]\s{3,}")
_BORDERS = str.maketrans("│┃", "||")


class LogReader:
    """The numbers and steps of the lines so far, and the state that the next line needs."""

    def __init__(self, asked_names: Sequence[str], timestamp: float) -> None:
        """Begin with no line.

        Args:
            asked_names: Names that count wherever they are printed as a pair.
            timestamp: Time of all steps, in seconds since 1970.
        """
        self.found: list[FoundNumber] = []
        self.left_out: dict[str, tuple[str, int]] = {}  # name → reason, line
        self.unread: dict[
            str, int
        ] = {}  # plain name → last line of a counter with it that was not read
        self.unread_values: dict[
            str, tuple[int, float | None]
        ] = {}  # plain name → last line with a value of it that was not read, and the number in it
        self.asked_found: dict[str, tuple[float, int]] = {}  # name → value, line
        self.table_rows: dict[
            int, int
        ] = {}  # number of a table → rows without a label and a counter
        self.evaluated: set[str] = set()  # plain names of evaluations whose means replaced them
        self.inner_bars: set[tuple[str, int | None]] = set()  # title, total
        self._at = timestamp
        self._asked = _asked_pattern(asked_names)
        self._asked_names = {plain_name(name): name for name in asked_names}
        self._steps: list[ProgressReport] = []
        self._bars: dict[
            int, tuple[str, int | None]
        ] = {}  # place of a step → the bar that shows it
        self._evaluation_step: ProgressReport | None = None  # counts if nothing else does
        self._counts_steps = True  # False: epochs are counted within a fold
        self._instance = ""  # title of the newest line that names only one of several parts
        self._batch_title = ""  # phase of the newest batches
        self._block_title, self._block_is_used, self._block_is_known = "", False, False
        self._table: Table | None = None
        self._tables = self._rows = 0  # tables so far, rows of this one
        self._row_label = ""  # the label to which rows without a label belong
        self._group = ""  # name of a group in a table of names and values: `rollout/`
        self._in_logger_table = False  # between two lines of dashes
        self._in_traceback = self._in_failures = False
        self._above = ""  # the line above
        self._name_above = ""  # a name whose number is in the next line
        self._no_record = 0  # number of lines in which no record begins
        self._lines: Iterator[LogLine] = iter(())
        self._waiting: deque[LogLine] = deque()  # lines that were looked at, and are not read

    # lines

    def read(self, lines: Iterable[LogLine], *, is_ended: bool) -> None:
        """Read lines; `is_ended` says that the last one is whole."""
        self._lines = iter(lines)
        while (line := self._read_line_ahead()) is not None:
            if line.is_open and not is_ended and not line.text.rstrip().endswith("]"):
                continue  # bars have no end of line
            if not line.text:
                self._end_block()
                continue
            if self._asked is not None:
                self._read_asked(line)
            if self._is_noise(line.text):
                continue
            self._no_record = max(0, self._no_record - 1)
            if line.text.rstrip()[-1] in "{[," and not self._no_record and self._read_record(line):
                continue
            name_above = self._name_above
            self._read_line(line)
            if self._name_above == name_above:
                # name without a number; only the next line may have the number
                self._name_above = ""
            self._above = line.text

    def _read_line_ahead(self) -> LogLine | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _peek_line(self) -> str:
        """Return the next line without reading it."""
        if not self._waiting and (more := next(self._lines, None)) is not None:
            self._waiting.append(more)
        return self._waiting[0].text if self._waiting else ""

    def _is_noise(self, text: str) -> bool:
        """Return whether a line is part of a traceback, a trace of a shell, a warning or a listing."""
        if self._in_traceback:
            self._in_traceback = text.startswith((" ", "\t"))
            return True
        if self._in_failures:
            self._in_failures = not _FAILURES_END.fullmatch(text)
            return True
        self._in_traceback = text.startswith("Traceback (most recent call last)")
        self._in_failures = text[0] == "=" and _FAILURES.fullmatch(text) is not None
        if self._in_traceback or self._in_failures:
            return True
        may_be_fault = (
            text[0] in "+$P" or "://" in text or "ssert" in text or "arning" in text
            or "WARN" in text or "rror" in text or "xception" in text
        )  # fmt: skip
        if may_be_fault and _FAULT.match(text):
            return True
        return text[0] in " \t" and _LISTING.match(text) is not None

    def _read_line(self, line: LogLine) -> None:
        text = line.text
        has_digits = _ANY_DIGIT.search(text) is not None or _has_word_number(text)
        if has_digits:
            if (form := read_form(text)) is not None:
                self._add_form(line, *form)
                return
            if "]" in text and (bar := read_bar(text, self._at)) is not None:
                self._add_bar(line, bar)
                return
        if is_ruler(text):
            self._read_ruler(text)
        elif self._read_heading(text):
            pass
        elif has_digits:
            if not self._read_value(line):
                self._read_numbers(line)
        elif not self._read_group_name(text):
            self._read_headings(text, has_digits=False)

    def _read_value(self, line: LogLine) -> bool:
        """Read a number below its name: `Accuracy:` and `0.93`."""
        name, self._name_above = self._name_above, ""
        value = to_number(line.text.strip()) if name and _ONLY_NUMBER.fullmatch(line.text) else None
        if value is None or (needs_fraction(name) and value.is_integer()):
            return False
        self._add(
            FoundNumber(name, "", value, line.number, "number below its name"), is_known=False
        )
        return True

    def _read_numbers(self, line: LogLine) -> None:
        text = line.text
        if self._table is not None and self._read_row(line, self._table):
            return
        if self._table is not None and self._rows and may_be_row(self._table, text):
            self._skip_values(self._table.headings, line)
        if ("|" in text or "│" in text or "┃" in text) and self._read_two_cells(line):
            return
        if (pairs := read_pairs(text.strip().strip("|│┃•"))) is not None:
            self._add_pairs(line, pairs)
            return
        if counted := _COUNTED_TEXT.match(text.strip()):
            step, total = counted["a"] or counted["c"], counted["b"] or counted["d"]
            self._add_step(int(step), int(total), STEP)
        self._leave_out_scattered(line)
        self._read_headings(text, has_digits=True)

    # lines of one kind

    def _add_form(self, line: LogLine, rule: str, form: FormLine) -> None:
        title = form.title or (self._block_title if rule == "COCO" else "")
        if form.is_batch:
            self._batch_title = title
            if EVALUATION.match(title):
                self.evaluated.update(plain_name(name) for name, _ in form.numbers)
        if form.is_mean:
            title = title or self._batch_title
            self._drop_batches(title)
        if form.step is not None:
            self._add_step(form.step, form.total, form.unit, form.batch)
        elif form.eval_step is not None:
            self._evaluation_step = ProgressReport(self._at, *form.eval_step, {}, unit=STEP)
        if "{" in line.text:
            read = {plain_name(name.rpartition("/")[2]) for name, _ in form.numbers}
            self._skip_pairs(line, read)
        for name, value in form.numbers:
            number = FoundNumber(
                name,
                title,
                value,
                line.number,
                rule,
                is_batch=form.is_batch,
                is_counted=form.step is not None or form.is_batch,
            )
            self._add(number, is_known=form.is_known)

    def _add_bar(self, line: LogLine, bar: BarLine) -> None:
        key = (re.sub(r"[0-9.]+", "#", bar.title), bar.step.total)
        if line.is_inner:
            self.inner_bars.add(key)
        else:
            self._bars[len(self._steps)] = key
            self._steps.append(bar.step)
        is_phase = EVALUATION.match(bar.title) or TRAINING.match(bar.title)
        title = bar.title.split()[0] if is_phase else ""
        for name, value in bar.step.metrics.items():
            if isinstance(value, float):
                number = FoundNumber(name, title, value, line.number, "bar of tqdm")
                self._add(number, is_known=True)
            elif _ANY_DIGIT.match(str(value).lstrip("+-.")):
                self._skip_values([name], line)
        # ultralytics draws bars behind headings and rows
        table = read_headings(line.text) if bar.title else None
        if table is not None and table.is_known:
            self._begin_table(table)
        elif self._table is not None and self._table.is_known:
            self._read_row(line, self._table, counts=False)

    def _add_pairs(self, line: LogLine, pair_line: PairLine) -> None:
        self._block_is_used = True
        if pair_line.is_mean:
            self._drop_batches(pair_line.title)
        is_inside = line.text[0] in " \t-•" and pair_line.step is None
        if _lists_settings(pair_line) or (is_inside and CONFIG_WORDS.search(self._block_title)):
            for pair in pair_line.pairs:
                self._leave_out(pair.name, SETTING, line.number)
            return
        is_known, title = self._block_is_known, pair_line.title
        if title and _NEUTRAL.fullmatch(title):
            title = ""
        if pair_line.is_instance and _INNER.match(title):
            self._counts_steps = False
        if pair_line.is_instance and not pair_line.pairs and not {":", "="} & {*title}:
            self._instance = title
        if pair_line.step is not None:
            self._add_step(pair_line.step, pair_line.total, pair_line.unit, pair_line.batch)
            self._end_block(is_over=True)
        elif not title:
            title = self._block_title
        phase = ""
        for pair in pair_line.pairs:
            first, _, rest = pair.name.partition(" ")
            if rest and not title and (EVALUATION.fullmatch(first) or TRAINING.fullmatch(first)):
                phase = phase or first
            own = pair.title or title or ("" if has_phase(pair.name) else phase)
            if self._instance and (not own or own == phase) and not is_of_mean(pair.name):
                named = pair_line._replace(is_instance=True)
                self._add_pair(
                    line, pair, named, f"{self._instance} {own}".strip(), is_known=is_known
                )
            else:
                self._add_pair(line, pair, pair_line, own, is_known=is_known)

    def _add_pair(
        self, line: LogLine, pair: Pair, pair_line: PairLine, title: str, *, is_known: bool
    ) -> None:
        is_epoch = pair_line.counters == 1 and pair_line.unit == EPOCH
        value = pair.value if pair.mean is None or not pair_line.counters or is_epoch else pair.mean
        plain = plain_name(pair.name)
        is_phase = plain.rpartition(" ")[2] in _PHASES
        reason = pair.reason
        if (is_phase or needs_fraction(pair.name)) and value.is_integer() and "." not in pair.text:
            reason = reason or WHOLE
        if reason:
            self._leave_out(pair.name, reason, line.number)
            if reason not in {DIFFERENCE, OTHERS}:
                self._skip_values([pair.name], line)
        else:
            is_loss = plain in _PHASES and pair_line.step is not None and "." in pair.text
            number = FoundNumber(
                pair.name,
                title,
                value,
                line.number,
                "pairs",
                is_batch=pair_line.counters > 1 and bool(pair_line.title),
                is_counted=pair_line.step is not None,
                is_instance=pair_line.is_instance,
            )
            self._add(number, is_known=is_known or is_loss)
        if pair.spread is not None:
            self._leave_out(f"{pair.name} std", SPREAD, line.number)

    def _leave_out_scattered(self, line: LogLine) -> None:
        for match in _SCATTERED.finditer(line.text):
            if not reason_against(match["name"]):
                self._leave_out(match["name"], OTHER_TEXT, line.number)
                if COUNTER.match(line.text.strip()):
                    self.unread[plain_name(match["name"])] = line.number
        self._skip_pairs(line)

    # records of several lines

    def _read_record(self, line: LogLine) -> bool:
        """Read JSON with indents, or what `pprint` prints; False if no record begins here."""
        text = line.text.strip()
        begin = text.find("[" if text.endswith("[") else "{")
        if begin < 0 or not (text.endswith(("{", "[")) or text[begin:].startswith(("{'", '{"'))):
            return False
        title = text[:begin].strip(" :=-")
        if len(title) > _LONGEST_TITLE:
            return False
        taken = self._take_record(text[begin:])
        record = parse_record("\n".join([text[begin:], *(each.text for each in taken)]))
        if record is None:
            self._waiting.extendleft(reversed(taken))
            self._no_record = len(taken)  # the lines contain no record
            return False
        self._above = ""
        if not title and not self._block_is_used:
            title = self._block_title
        if CONFIG_WORDS.search(title):
            return True
        if isinstance(record, list):
            record = record[-1] if record and isinstance(record[-1], dict) else {}
        last = taken[-1].number if taken else line.number
        numbers = [
            each for each in flat_numbers(record, is_log_record=True) if each[0] not in STEP_NAMES
        ]
        if are_settings(name for name, _ in numbers):
            for name, _ in numbers:
                self._leave_out(name, SETTING, last)
            return True
        for name, value in numbers:
            self._add(FoundNumber(name, title, value, last, "record"), is_known=False)
        return True

    def _take_record(self, first: str) -> list[LogLine]:
        """Return the lines until the brackets that the first one opens are closed."""
        taken: list[LogLine] = []
        depth = _depth(first)
        while (
            depth > 0
            and len(taken) < _LONGEST_RECORD
            and (line := self._read_line_ahead()) is not None
        ):
            taken.append(line)
            depth += _depth(line.text)
        return taken

    # tables

    def _read_headings(self, text: str, *, has_digits: bool) -> None:
        table = read_headings(text, self._peek_line()) if may_be_headings(text) else None
        if table is not None:
            self._begin_table(table)
        elif not has_digits and not text.startswith((" ", "\t", "|", "│")):
            is_index = self._table is not None and not self._rows and " " not in text.strip()
            self._table = self._table if is_index else None  # an index column names the rows

    def _begin_table(self, table: Table) -> None:
        above = self._table
        if above is not None and not self._rows and len(above.headings) == len(table.headings):
            pairs = zip(above.headings, table.headings, strict=True)  # headings of two lines
            table = table._replace(headings=tuple(f"{a} {b}".strip() for a, b in pairs))
        self._table, self._rows, self._row_label = table, 0, ""
        self._tables += 1

    def _read_row(self, line: LogLine, table: Table, *, counts: bool = True) -> bool:
        row = read_row(table, line.text)
        if row is None:
            return False
        self._rows += 1
        if table.headings[0].lower() == "model_id":  # a list of the models that were tried
            return True
        if row.step is not None and counts:
            self._add_step(row.step, row.total, row.unit)
        if table.metric_place is not None:  # the rows of a metric table name their numbers
            self._row_label = row.label or self._row_label
            (name, value), *_ = row.numbers
            number = FoundNumber(f"{self._row_label} {name}", "", value, line.number, "table")
            self._add(number, is_known=True)
            return True
        is_single = row.step is None and not row.label
        self.table_rows[self._tables] = self.table_rows.get(self._tables, 0) + is_single
        for heading, value in row.numbers:
            self._add_cell(line, table, row, heading, value)
        if not row.label:
            self._skip_values(row.unread, line)
        return True

    def _add_cell(
        self, line: LogLine, table: Table, row: TableRow, heading: str, value: float
    ) -> None:
        title, name, is_known, number = "", heading, table.is_known, 0
        if _SPREAD_ROWS.fullmatch(row.label):
            self._leave_out(f"{row.label} {heading}", SPREAD, line.number)
            return
        if "DataLoader" in heading:  # Lightning
            many = sum("DataLoader" in each for each in table.headings) > 1
            place = heading.rpartition(" ")[2]
            name = f"{row.label}/dataloader_idx_{place}" if many else row.label
        elif len(table.headings) == 2 and table.headings[0].lower() in _NAME_COLUMNS:
            name = row.label
        elif heading.lower() in _MEANS and row.label and not reason_against(row.label):
            name = f"{row.label} {heading}"
        else:
            title = row.label if row.step is None else ""
            number = self._tables if row.step is None and not title else 0
        found = FoundNumber(name, title, value, line.number, "table", table=number)
        self._add(found, is_known=is_known)

    def _read_two_cells(self, line: LogLine) -> bool:
        """Read a row of a table of names and values."""
        _, cells = split_cells(line.text)
        match = re.fullmatch(rf"({NUMBER}) ?%?", cells[1]) if len(cells) == 2 else None
        value = to_number(match[1]) if match else None
        if value is None or not re.fullmatch(r"[^\W\d_](?!.*[:=]\s*[+-]?\.?\d).*", cells[0]):
            return False
        if plain_name(cells[0]).rpartition(" ")[2] in _COUNTERS and value.is_integer():
            self._add_step(int(value), None, STEP)
            return True
        is_framed = line.raw.translate(_BORDERS).strip().startswith("|")
        is_known = is_framed and (bool(self._group) or self._in_logger_table)
        in_group = self._group and _INDENTED_CELL.match(line.raw) is not None
        name = f"{self._group}{cells[0]}" if in_group else cells[0]
        self._add(FoundNumber(name, "", value, line.number, "table"), is_known=is_known)
        return True

    def _read_group_name(self, text: str) -> bool:
        """Read the name of a group in a table of names and values: `| rollout/ |   |`."""
        cells = split_cells(text)[1] if "│" in text or "|" in text else []
        if len(cells) != 2 or not cells[0].endswith("/") or cells[1]:
            return False
        self._group = cells[0]
        return True

    # headings and blocks

    def _read_ruler(self, text: str) -> None:
        is_dashes = not text.strip("-") and len(text) >= 10
        self._in_logger_table = is_dashes and not self._in_logger_table
        above = self._above.strip()
        underlines = set(text.strip()) <= set("-=~*") and self._table is None
        if underlines and above and len(above) < _LONGEST_TITLE and ":" not in above:
            self._begin_block(above)

    def _read_heading(self, text: str) -> bool:
        stripped = text.strip()
        match = None
        if stripped[0] in "=-*#~_+<>─━═":
            match = _DECORATED.fullmatch(stripped) or _HASHED.fullmatch(stripped)
        elif stripped[-1] == ":":
            match = _COCO.fullmatch(stripped) or _LABELLED.fullmatch(stripped)
            self._name_above = match["title"] if match else ""
        elif stripped[-1] == "=" and (named := _NAME_ALONE.fullmatch(stripped)):
            self._name_above = named["title"]
            return True
        elif stripped[0] in "IEhm":
            match = _COCO.fullmatch(stripped) or _SUITE.fullmatch(stripped)
        if match is None and ": " in stripped:
            match = _PART.match(stripped)
        elif match is None and stripped[0] in _PHASE_STARTS:
            match = _PHASE_LINE.fullmatch(stripped)
        if match is None:
            return False
        if "|" not in text:
            self._table = None
        if match.re is _PART and match["fold"]:
            self._block_title, self._block_is_used = match["fold"], False
        else:
            self._begin_block(match["title"])
        return True

    def _begin_block(self, title: str) -> None:
        title = title.strip(" *=-:")
        if not _LETTERS.search(title):
            return
        self._block_is_used = self._block_is_known = False
        counted = read_pairs(title)
        if counted is None:
            self._block_is_known = _METRICS_BLOCK.fullmatch(title) is not None
            says_nothing = self._block_is_known or _NEUTRAL.fullmatch(title)
            self._block_title = "" if says_nothing else title
        elif counted.is_instance:
            self._counts_steps = self._counts_steps and not _INNER.match(counted.title)
            self._block_title = counted.title
        elif counted.step is not None and not counted.pairs:
            self._add_step(counted.step, counted.total, counted.unit)
            self._block_title = ""

    def _end_block(self, *, is_over: bool = False) -> None:
        """End a block at a blank line below its numbers, or at a line that counts."""
        if self._block_is_used or is_over:
            self._block_title, self._block_is_known = "", False
        if is_over:
            self._group = ""
        if self._table is not None and not self._table.is_known and self._rows:
            self._table = None

    # values

    def _add(self, number: FoundNumber, *, is_known: bool) -> None:
        """Add a number, if its name is one of a result."""
        title = number.title
        if title and _NEUTRAL.fullmatch(title):
            title = ""
        reason = reason_against(number.name, is_known=is_known)
        if title and _INITIAL.match(title):
            reason = reason or INITIAL
        if title and _OF_OTHERS.match(title):
            reason = reason or OTHERS
        if title and _EXAMPLES.fullmatch(title):
            reason = reason or EXAMPLE
        if reason:
            self._leave_out(number.name, reason, number.line)
            return
        title = "" if title and mentions(number.name, title) else title
        self.found.append(number._replace(title=title, step=len(self._steps) - 1))

    def _leave_out(self, name: str, reason: str, line: int) -> None:
        if len(self.left_out) < MOST_LEFT_OUT:
            self.left_out.setdefault(name, (reason, line))

    def _skip_values(self, names: Iterable[str], line: LogLine) -> None:
        """Note that a line has values of some names that were not read: earlier ones are not the last."""
        self.unread_values |= dict.fromkeys(map(plain_name, names), (line.number, None))

    def _skip_pairs(self, line: LogLine, read_names: Collection[str] = ()) -> None:
        """Note the pairs of a line that were not read."""
        whole = _UNREAD_LINE.fullmatch(line.text)
        for match in [*_UNREAD_PAIR.finditer(line.text), *([whole] if whole else [])]:
            if (name := plain_name(match["name"])) not in read_names:
                value = to_number(match["value"]) if match["value"] else None
                self.unread_values[name] = line.number, value

    def _drop_batches(self, title: str) -> None:
        """Forget the numbers of the batches of a phase: the line of means has those of all."""
        phase = plain_name(title)
        self.found = [
            each for each in self.found if not (each.is_batch and plain_name(each.title) == phase)
        ]

    def _read_asked(self, line: LogLine) -> None:
        assert self._asked is not None
        for match in self._asked.finditer(line.text):
            value = to_number(match["value"])
            if value is not None:
                name = self._asked_names[plain_name(match["name"])]
                self.asked_found[name] = value, line.number

    # steps

    def _add_step(
        self, step: int, total: int | None, unit: str, batch: tuple[int, int] | None = None
    ) -> None:
        if self._counts_steps and (total is None or step <= total + 1):
            is_place = batch is not None and batch[0] <= batch[1]
            report = ProgressReport(self._at, step, total, {}, unit=unit)
            self._steps.append(report._replace(batch=batch if is_place else None))

    def outer_steps(self) -> Iterator[tuple[int, ProgressReport]]:
        """Yield the steps with their places; those of a bar that was ever an inner one are left out."""
        for place, step in enumerate(self._steps):
            if self._bars.get(place) not in self.inner_bars:
                yield place, step

    def newest_step(self) -> ProgressReport | None:
        """Return the newest step; that of an evaluation or an inner bar if there is no other."""
        if not self._counts_steps:
            return None
        outer = [step for _, step in self.outer_steps()] or self._steps
        return outer[-1] if outer else self._evaluation_step


def _lists_settings(pair_line: PairLine) -> bool:
    """Return whether a line lists settings: its title says so, or most of its names are some."""
    if pair_line.title and CONFIG_WORDS.search(pair_line.title):
        return True
    if pair_line.step is not None or len(pair_line.pairs) < 3:
        return False
    reasons = [reason_against(pair.name) for pair in pair_line.pairs]
    results = reasons.count("")
    return len(reasons) - results >= 3 and reasons.count(SETTING) >= 2 * max(1, results)


def _has_word_number(text: str) -> bool:
    lower = text.lower()
    return "nan" in lower or "inf" in lower


def _depth(text: str) -> int:
    return text.count("{") + text.count("[") - text.count("}") - text.count("]")


def _asked_pattern(names: Sequence[str]) -> "re.Pattern[str] | None":
    """Return a pattern of pairs with one of some names; None if there is no name."""
    if not names:
        return None
    longest_first = sorted(names, key=len, reverse=True)
    words = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in longest_first)
    return re.compile(
        rf"(?<![\w/.@-])(?P<name>{words})['\"]?(?:\s*[:=]\s*|\s+)['\"\[(]?(?P<value>{NUMBER})(?!\w|[.,:-]\d)",
        re.IGNORECASE,
    )
