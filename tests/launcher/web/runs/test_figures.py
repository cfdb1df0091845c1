from xml.etree import ElementTree

from launcher.web.runs.figures import MOST_FIGURES, figure_of, figures_of

PLOT = '<svg class="plot" viewBox="0 0 200 90"><title>{}</title><path class="grid" d="M0 0"/></svg>'
PAGE = (
    "<style>.grid { stroke: red; }</style><h2>net <b>&amp; co</b></h2>"
    + PLOT.format("ROC &amp; more")
    + '<svg viewBox="0 0 16 16"><title>a mark</title></svg>'
    + PLOT.format("Loss")
)


def test_drawings_of_a_page_are_figures_with_the_heading_above_them() -> None:
    figures = figures_of(PAGE)
    assert [(each.number, each.section, each.title) for each in figures] == [
        (0, "net & co", "ROC & more"),
        (2, "net & co", "Loss"),
    ]


def test_a_figure_is_a_file_of_its_own_with_the_style_of_the_page() -> None:
    drawing = figure_of(PAGE, 0)
    assert drawing is not None
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].text == ".grid { stroke: red; }"


def test_a_style_that_ends_the_sheet_early_does_not_break_the_file() -> None:
    drawing = figure_of(f"<style>]]></style>{PLOT.format('a')}", 0)
    assert drawing is not None
    ElementTree.fromstring(drawing)


def test_what_only_html_allows_is_no_figure() -> None:
    assert figures_of('<svg viewBox="0 0 200 9"><br>&nbsp;</svg>') == []
    assert figures_of("<svg") == []
    assert figure_of(PAGE, 3) is None


def test_a_figure_says_whether_it_is_wide() -> None:
    page = '<svg viewBox="0 0 300 100"></svg><svg viewBox="0 0 200 100"></svg><svg viewBox="0 0 200 0"></svg>'
    assert [figure.wide for figure in figures_of(page)] == [True, False, False]
    assert figures_of('<svg viewBox="0 0 . ."></svg>') == []


def test_a_page_of_many_drawings_gives_the_first() -> None:
    assert len(figures_of(PLOT.format("a") * (MOST_FIGURES + 5))) == MOST_FIGURES
