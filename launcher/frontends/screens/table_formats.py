"""Tables in the markup of texts: Markdown and LaTeX. `text_table` has the formats of terminals and pipes."""

from collections.abc import Collection, Sequence

from launcher.system.lazy_regex import compile_lazily
from launcher.system.text_table import Cell, TextTable, line, table_of_texts, text_of

_SPECIAL = compile_lazily(r"([\\`*_~|<\[\]&])")  # special characters of Markdown
_ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedblright{}", "±": r"$\pm$", "–": "--",
    "\u2212": "$-$", "×": r"$\times$", "†": r"$^\dagger$", "→": r"$\rightarrow$", "·": r"$\cdot$",
    "²": "$^2$", "°": r"$^\circ$", "µ": r"$\mu$", "‖": r"$\|$", "≤": r"$\leq$", "≥": r"$\geq$",
})  # fmt: skip  # each works in the default encoding OT1 and with booktabs alone


def markdown_text(table: TextTable) -> str:
    """Return a table of Markdown."""
    rule = ["--:" if column.right else "---" for column in table.columns]
    lines = [
        map(_escape_cell, table.titles),
        rule,
        *(map(_escape_cell, row) for row in table.cells),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape_cell(cell: Cell) -> str:
    return _SPECIAL.sub(r"\\\1", text_of(cell))


def latex_text(table: TextTable) -> str:
    """Return a `tabular` with its notes; the document needs the package booktabs.

    Special characters of LaTeX are escaped.
    """
    shape = "".join("r" if column.right else "l" for column in table.columns)
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{shape}}}",
        "\\toprule",
        _line(table.titles),
        "\\midrule",
        *map(_line, table.cells),
        "\\bottomrule",
        *(
            f"\\multicolumn{{{len(table.columns)}}}{{l}}{{{escape_latex(note.text)}}} \\\\"
            for note in table.notes
        ),
        "\\end{tabular}",
    ]
    return "\n".join(lines)


def latex_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Collection[int] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return texts as a `tabular`; the document needs the package booktabs.

    Args:
        titles: Titles of the columns.
        rows: Texts of the cells. Special characters of LaTeX are escaped.
        texts: Positions of columns with words, which are aligned to the left.
        notes: Lines below the table.
    """
    numbers = set(range(len(titles))).difference(texts)
    table = table_of_texts(titles, rows, numbers)
    return latex_text(table._replace(notes=[line(note) for note in notes]))


def _line(cells: Sequence[Cell]) -> str:
    text = " & ".join(escape_latex(text_of(cell)) for cell in cells)
    # the end of the previous line would read these as its star and option
    return f"{{}}{text} \\\\" if text[:1] in {"*", "["} else f"{text} \\\\"


def escape_latex(text: str) -> str:
    """Return a text escaped for LaTeX; a minus sign before a number is a mathematical minus."""
    if text[:1] == "-" and (text[1:2].isdigit() or text == "-inf"):
        return f"$-${text[1:].translate(_ESCAPES)}"
    return text.translate(_ESCAPES)
