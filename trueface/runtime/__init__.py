"""What every part of the laboratory needs: errors, paths, random streams, files, memory.

Start reading at `rng.derive`.
"""
