"""The parts of `make gpu`, each with a function `measure`, and what they share.

Start reading at `nvml.measure`.
In reading order: nvml_questions, nvml, programs, queue, sharing, memory, images, networks, training,
waiting, classes, features, decoding, mps, variants.
"""
