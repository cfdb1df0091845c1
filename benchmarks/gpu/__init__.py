"""What only a GPU can tell, measured by one command: `make gpu`.

Start reading at `parts.PARTS`.
In reading order: __main__, command, installation, bench, parts, report, runner, child, simulated,
measurements.
"""
