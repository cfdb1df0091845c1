"""What holds for every test."""

import os
import signal

# A shell that starts the tests in the background has SIGINT ignored, and every process below
# inherits that: the commands under test could not be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

# what a developer likes for himself is no part of any test
os.environ["LAUNCHER_CONFIG"] = os.devnull
