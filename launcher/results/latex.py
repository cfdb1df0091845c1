"""A table for a paper: LaTeX with the rules of the package booktabs."""

from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--",
    "\u2212": "$-$", "×": r"$\times$", "→": r"$\rightarrow$",
}  # fmt: skip
_SPECIAL_CHARACTERS = str.maketrans(_SPECIAL)


def latex_text(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Return rows as a `tabular`, the first as its head; the document needs the package booktabs.

    Args:
        rows: cells without control characters; what LaTeX takes for more than a character is escaped.
        right: columns whose cells end together.
    """
    head, *below = rows
    shape = "".join("r" if index in right else "l" for index in range(len(head)))
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{shape}}}",
        "\\toprule",
        _line(head),
        "\\midrule",
        *map(_line, below),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    text = " & ".join(map(escaped, cells))
    # the end of the line before would take these for its own star and option
    return f"{{}}{text} \\\\" if text[:1] in {"*", "["} else f"{text} \\\\"


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it; a minus before a number is one."""
    if text[:1] == "-" and text[1:2].isdigit():
        return f"$-${text[1:].translate(_SPECIAL_CHARACTERS)}"
    return text.translate(_SPECIAL_CHARACTERS)
