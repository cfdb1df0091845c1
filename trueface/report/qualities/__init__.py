"""The page of qualities: how well each method does on raw and compressed copies of the same images.

Start reading at `page.write_quality_page`.
"""
