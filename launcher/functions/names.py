"""How jobs of functions are called in the queue, and where their calls lie."""

from launcher.job import FUNCTION

KIND = FUNCTION
RUN = "functions"  # the run of all of them
ENTRY = "launcher.functions.entry:call"
PRELOAD = ("launcher.functions.entry",)  # with cloudpickle, once for all workers
FOLDER = "functions"  # of the calls: in the home, or in the folder of pilots
SUFFIX = ".calls"
FILE = "file"  # the setting of a job that names the file with its call
