"""Tables with a row of headings: one row per epoch, per model or per data set."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from launcher.queue.workers.progress.number_texts import NUMBER, to_number

_BORDERS = str.maketrans(dict.fromkeys("│┃║", "|"))
_CELLS = re.compile(r"\S+(?: \S+)*")
_RULER = re.compile(r"[\s|+=\-:─━┄┈═╪╫╬┼┿╂┏┓┗┛┡┩┢┪├┤┠┨╞╡╒╕╘╛╔╗╚╝┌┐└┘┬┴┳┻╇╈╤╧╥╨╭╮╰╯*_~]+")
_CELL_NUMBER = re.compile(rf"({NUMBER})\s?%?(?:\s?(?:±|\+/-)\s?{NUMBER}%?)?")
_MEANT_AS_NUMBER = re.compile(r"[<>=~\u2248\u2264\u2265\u2212\u2013+-]{0,2}\.?\d(?!\d*:)")
_HEADING = re.compile(
    r"[#%]|-|\([\w:]+\)|[^\W\d_][\w@/.%#&^+*'|-]*(?:[ _/.-]?\(?[\w@/.%^+|:-]+\)?){0,4}|P>\|[tz]\||\[?0\.\d+\]?|\d{1,2}%|\s*",
)
_WIDE_HEADING = re.compile(r"[^\W\d_][^|=:]{0,39}")
COUNTERS = {
    "epoch": "epoch", "epochs": "epoch", "ep": "epoch", "e": "epoch", "step": "step", "steps": "step", "iter": "step", "it": "step",
    "iteration": "step", "gen": "step", "generation": "step", "round": "step", "#": "step", "global_step": "step", "n_iter": "step",
}  # fmt: skip
_LABELS = frozenset(
    {
        "fold",
        "seed",
        "run",
        "trial",
        "k",
        "split",
        "client",
        "task",
        "class",
        "id",
        "name",
        "model",
        "method",
        "dataset",
    }
)
_KNOWN = (
    (re.compile(r"\s*Step\s+Temp\s"), ""),  # LAMMPS
    (re.compile(r'#"Progress \(%\)",|#"Step",'), ""),  # OpenMM
    (re.compile(r"\s*abs_rel \|\s+sq_rel \|"), ""),  # depth
    (re.compile(r"gen\s+nevals\s"), ""),  # DEAP
    (re.compile(r"E +# +LOSS "), ""),  # spaCy
    (
        re.compile(r"\s*(?:Class|Epoch|classes)\s+(?:Images|GPU_mem|gpu_mem|top1_acc)\s"),
        "all",
    ),  # ultralytics
    (
        re.compile(r".*(?:Test|Validate|Predict|test|validate) metric\s.*DataLoader 0"),
        "",
    ),  # Lightning
    (re.compile(r"\s*precision\s+recall\s+f1-score\s+support"), ""),  # scikit-learn
)
_NEVER = frozenset(
    {
        "progress (%)",
        "speed (ns/day)",
        "time remaining",
        "time (ps)",
        "elapsed time (s)",
        "images",
        "instances",
        "size",
        "gpu_mem",
        "support",
        "labels",
        "nevals",
        "time",
        "e_mol",
    }
)
_MISSING = frozenset({"-", "N/A", "nan"})
_METRIC_HINT = re.compile(
    r"loss|acc|auc|f1|score|error|err\b|mse|mae|psnr|ssim|fid|iou|map|dice|bleu|wer|cer|ppl|reward|precision|recall|rmse|r2|metric|value|Temp|nevals|GPU_mem|AP|result|ndcg|perplexity|hits|mrr|Verlust|损失|准确率|objective|fitness|Elapsed|Energy",
    re.IGNORECASE,
)


class Table(NamedTuple):
    """The headings of a table."""

    headings: tuple[str, ...]
    style: str  # the separator of the table's cells
    is_known: bool = False
    plain_label: str = ""  # label of the row whose numbers have no label in their names
    text: str = ""  # text of the line

    @property
    def metric_place(self) -> int | None:
        """Place of the cell that names the number of the row; None if the headings name the numbers."""
        lower = [heading.lower() for heading in self.headings]
        return (
            lower.index("metric")
            if "metric" in lower and "value" in lower and len(lower) > 2
            else None
        )


class TableRow(NamedTuple):
    """A row of a table."""

    numbers: tuple[tuple[str, float], ...]
    label: str = ""
    step: int | None = None
    unit: str = "step"
    total: int | None = None
    unread: tuple[str, ...] = ()  # headings of texts that are meant as numbers, such as `1.2k`


def is_ruler(text: str) -> bool:
    """Return whether a line only separates others."""
    return len(text) > 1 and _RULER.fullmatch(text) is not None


def split_cells(text: str) -> tuple[str, list[str]]:
    """Return how the cells of a line are separated, and the cells."""
    text = text.translate(_BORDERS)
    if text.count("&") >= 2:
        text = text.replace("&", "|").rstrip("\\ ")
    if text.count("|") >= 2 or (" | " in text and not text.lstrip().startswith("|")):
        cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
        return "|", cells
    if "\t" in text.strip():
        return "\t", [cell.strip() for cell in text.strip().split("\t") if cell.strip()]
    if text.count(",") >= 2 and (", " not in text):
        return ",", [cell.strip(' "#') for cell in text.strip().split(",")]
    cells = re.split(r"\s{2,}", text.strip())
    return ("  ", cells)


def may_be_headings(text: str) -> bool:
    """Return whether a line can be a row of headings, by what separates its words."""
    stripped = text.strip()
    return (
        "  " in stripped or "|" in stripped or "\t" in stripped or "│" in stripped or "┃" in stripped
        or stripped.count(",") >= 2 or (len(stripped) < 60 and not stripped.endswith((".", ":")) and " " in stripped and stripped.count(" ") < 8)
    )  # fmt: skip


def read_headings(text: str, next_line: str = "") -> Table | None:
    """Return the table that a row of headings begins; None if the line is something else."""
    style, cells = split_cells(text)
    if len(cells) < 2 and len(next_line.split()) != len(text.split()):
        return None
    if not _METRIC_HINT.search(text):
        return None
    known = next(((True, plain) for form, plain in _KNOWN if form.match(text)), (False, ""))
    text = re.split(r":\s+\d+%", text)[0]  # a bar behind the headings
    style, cells = split_cells(text)
    if known[1] == "all":
        cells = [cell.strip() for cell in text.split()]
        style = " "
        cells = _join_headings(cells)
    elif style == "  " and next_line:
        words, row = text.split(), next_line.split()
        if len(row) == len(words) and len(split_cells(next_line)[1]) not in {
            len(cells),
            len(cells) + 1,
        }:
            cells, style = words, " "
    if len(cells) < 2 or len(cells) > 40:
        return None
    for cell in cells:
        if len(cell) > 40 or not (
            _HEADING.fullmatch(cell) or (style == "|" and _WIDE_HEADING.fullmatch(cell))
        ):
            return None
    if not any(cell and cell[0].isalpha() for cell in cells):
        return None
    return Table(tuple(cells), style, *known, text)


def _join_headings(cells: list[str]) -> list[str]:
    """Return the headings of ultralytics, with the name of their group if there are two: `Box(P`, `R`, `Mask(P`."""
    is_grouped = sum("(" in cell for cell in cells) > 1
    headings, group = [], ""
    for cell in cells:
        before, bracket, name = cell.rpartition("(")
        group = before if bracket else group
        name = name.rstrip("):")
        headings.append(f"{group} {name}" if group and is_grouped else name)
    return headings


def _without_repeated(headings: Sequence[str]) -> list[str]:
    """Return headings, with an empty text for those that occur twice: nothing says which number is which."""
    return [
        "" if place and headings.count(each) > 1 else each for place, each in enumerate(headings)
    ]


def may_be_row(table: Table, text: str) -> bool:
    """Return whether a line begins with two numbers, as rows of a table do."""
    words = text.replace(table.style, " ").split()
    return len(words) > 1 and all(_MEANT_AS_NUMBER.match(word) for word in words[:2])


def read_row(table: Table, text: str) -> TableRow | None:
    """Return the numbers of a row; None if the line is not a row of the table."""
    style, cells = split_cells(text)
    if table.style == " ":
        cells = re.split(r":\s+\d+%", text)[0].split()
    elif style != table.style:
        return None
    elif style == "\t" and text.count("\t") >= table.text.count("\t"):
        cells = [cell.strip() for cell in text.split("\t")]  # some are empty
    headings = _without_repeated(table.headings)
    if (labelled := _split_by_words(table, text)) is not None:
        headings, cells = labelled
    if len(cells) == len(headings) + 1:
        if _is_remark(cells[-1]) and _CELL_NUMBER.fullmatch(cells[0]):
            cells = cells[:-1]
        else:
            headings = ["", *headings]  # an index or a label without a heading
    if len(cells) != len(headings):
        if headings[-1].lower() == "support" and len(cells) == 3:  # accuracy of a report
            return _report_accuracy(cells)
        aligned = _read_aligned_headings(table, text) if table.style == "  " else None
        if aligned is None:
            return None
        headings, cells = aligned
    if not headings[0] and headings[1].lower() in COUNTERS and "." in cells[1].removesuffix(".0"):
        return None  # one number more than headings
    label, step, total, unit = "", None, None, "step"
    numbers, unread = [], []
    if table.metric_place is not None:
        return _named_row(headings, cells)
    for place, (heading, cell) in enumerate(zip(headings, cells, strict=True)):
        match = _CELL_NUMBER.fullmatch(cell)
        value = to_number(match[1]) if match else None
        word = heading.lower()
        if value is None and word in COUNTERS and (counted := re.fullmatch(r"(\d+)/(\d+)", cell)):
            step, total, unit = int(counted[1]), int(counted[2]), COUNTERS[word]
        elif value is None:
            if heading and word not in _NEVER and _MEANT_AS_NUMBER.match(cell):
                unread.append(heading)
            if not label and cell and not re.match(r"[\d:.]", cell) and cell not in _MISSING:
                label = cell
        elif (
            word in COUNTERS
            and (place <= 1 or word in {"iter", "epoch", "step", "global_step"})
            and value >= 0
            and (float(value).is_integer() or word == "epoch")
        ):
            if step is None or word == "#" or (unit == "epoch" and "." not in cell):
                step, unit = int(value), COUNTERS[word]
        elif word in _LABELS or (not heading and place == 0):
            label = label or f"{heading} {cell}".strip()
        elif heading and word not in _NEVER:
            numbers.append((heading, value))
    if not numbers:
        return None
    if label == table.plain_label:
        label = ""
    return TableRow(tuple(numbers), label, step, unit, total, tuple(unread))


def _is_remark(cell: str) -> bool:
    """Return whether the last cell of a row is a text behind its numbers, such as `best`."""
    return cell not in _MISSING and _CELL_NUMBER.fullmatch(cell) is None


def _read_aligned_headings(table: Table, text: str) -> tuple[list[str], list[str]] | None:
    """Return the headings above the cells of a row in which cells are empty; None if the row is not aligned with them."""
    heads = [(match[0], match.start(), match.end()) for match in _CELLS.finditer(table.text)]
    headings: list[str] = []
    cells: list[str] = []
    for match in _CELLS.finditer(text):
        above = [name for name, begin, end in heads if match.end() == end or match.start() == begin]
        if not above and cells:
            return None
        headings.append(above[0] if above else "")
        cells.append(match[0])
    return (headings, cells) if len(cells) >= 2 and len(set(headings)) == len(headings) else None


def _split_by_words(table: Table, text: str) -> tuple[list[str], list[str]] | None:
    """Return the headings and cells of a row whose label touches its first number."""
    words = text.split()
    numbers = words[1:]
    if table.style != "  " or len(numbers) != len(table.headings):
        return None
    if not all(_CELL_NUMBER.fullmatch(word) for word in numbers):
        return None
    return ["", *table.headings], words


def _named_row(headings: list[str], cells: list[str]) -> TableRow | None:
    """Return the number of a row that has its name in a cell: `|piqa|1|none|0|acc|↑|0.7073|±|0.0106|`."""
    lower = [heading.lower() for heading in headings]
    cell = cells[lower.index("value")]
    match = _CELL_NUMBER.fullmatch(cell)
    value = to_number(match[1]) if match else None
    name = cells[lower.index("metric")]
    if value is None or not name:
        return None
    filtered = cells[lower.index("filter")] if "filter" in lower else ""
    name = f"{name},{filtered}" if filtered and filtered != "none" else name
    return TableRow(((name, value),), cells[0])


def _report_accuracy(cells: list[str]) -> TableRow | None:
    value = to_number(cells[1]) if _CELL_NUMBER.fullmatch(cells[1]) else None
    if value is None or cells[0] != "accuracy":
        return None
    return TableRow((("accuracy", value),))
