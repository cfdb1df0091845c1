"""Charts as SVG: pure functions of numbers, coloured by the style sheet, so that both themes and print have their own.

Start reading at `line_chart.line_chart`.
"""
