"""Two models compared: differences with intervals, paired tests, and both as JSON.

Start reading at `compare.compare`.
In reading order: inputs, compare, significance, document.
"""
