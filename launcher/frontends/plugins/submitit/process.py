"""The process of a task: `python -m launcher.frontends.plugins.submitit.process FOLDER` runs the submission of its job."""

import sys

from submitit.core.submission import process_job

if __name__ == "__main__":
    process_job(sys.argv[1])
