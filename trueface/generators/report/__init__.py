"""The pages of the studies of erasing and purification: one HTML file each.

Start reading at `study_parts`, then `erasing_page.erasing_page`.
"""

from pathlib import Path

TEMPLATES = (
    Path(__file__).parent / "templates"
)  # they extend base.html of trueface/report/templates
