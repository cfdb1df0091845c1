"""What only a GPU can tell, measured by one command: `make gpu`.

Start reading at `parts.PARTS`.
In reading order: __main__, bench, parts, report, runner, child, nvml_questions, nvml, queue, programs,
sharing, memory, mps, images, networks, training, waiting, decoding, classes, variants.
"""
