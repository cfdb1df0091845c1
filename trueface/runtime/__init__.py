"""What every part of the laboratory needs: errors, paths, random streams, files (those of the original, too), memory.

Start reading at `rng.stream_seed`.
"""
