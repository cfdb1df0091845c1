from hypothesis import given
from hypothesis import strategies as st

from launcher.cli.output import escaped, latex_text
from launcher.screens.text_table import of_texts


def test_a_table_has_the_rules_of_booktabs() -> None:
    assert latex_text(of_texts(("model", "AUC"), [("all:pre%50~pgu_1", "-0.5")], {1})) == (
        "% \\usepackage{booktabs}\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "model & AUC \\\\\n"
        "\\midrule\n"
        "all:pre\\%50\\textasciitilde{}pgu\\_1 & $-$0.5 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}"
    )


def test_a_line_that_begins_with_a_star_or_a_bracket_is_no_part_of_the_command_before() -> None:
    lines = latex_text(of_texts(("model",), [("*%20",), ("[1, 2]",), ("a*",)])).splitlines()
    assert lines[5:8] == ["{}*\\%20 \\\\", "{}[1, 2] \\\\", "a* \\\\"]


def test_deviations_and_dashes_are_those_of_latex() -> None:
    assert escaped("0.9 ± 0.1") == r"0.9 $\pm$ 0.1"
    assert escaped("–") == "--"


@given(st.text("\\&%$#_{}~^", max_size=8))
def test_no_character_keeps_its_power(text: str) -> None:
    bare = escaped(text)
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        bare = bare.replace(command, "")
    for character in "&%$#_{}":
        bare = bare.replace(f"\\{character}", "")
    assert bare == ""
