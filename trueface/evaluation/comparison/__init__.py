"""Two models compared: differences with intervals, paired tests, and both as JSON.

Start reading at `compare.compare`.
"""
