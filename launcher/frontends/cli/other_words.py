"""Other words for a subject, with which people search the pages.

`launcher help WORD` prints the section of such a word first, and the search of the site finds its page.
"""

from collections.abc import Iterator, Mapping

# topic → heading → phrases; a phrase is compared as a whole, without regard to case and a plural s
PHRASES: Mapping[str, Mapping[str, str]] = {
    "installing": {
        "Install the queue": "macos, mac, windows, wsl, requirements, pip",
        "Use a container": "docker, podman, image",
        "Upgrade": "update, new version",
        "Uninstall": "remove launcher",
    },
    "programs": {
        "Queue a program": "submit, enqueue, script",
        "Run one program after another": "dependency, depend, chain, pipeline, workflow",
        "Limit how many jobs run at once": "max parallel, concurrency, parallel jobs, throttle, slots",
        "Limit the running time": "time limit, timeout, walltime, deadline, maximum time",
        "Retry a failed program": "crash, retry failed, automatic restart",
    },
    "environments": {
        "Which Python does a job use?": "conda, virtualenv, venv, uv, pyenv, mamba, interpreter, modules",
        "What is the standard input of a job?": "stdin, standard input, pipe input",
    },
    "continue": {
        "Continue a training": "checkpoint, continue after time limit, requeue at time limit",
        "Continue a sweep": "resume sweep, continue sweep, skip finished",
    },
    "sweeps": {
        "Run a program with several values": "array, job array, grid, grid search, parameter sweep, multirun",
        "Queue a sweep again": "sweep again, repeat sweep",
        "Stop a sweep that fails": "fail fast, first failure, stop at first error",
    },
    "matrix": {"What does a seed decide?": "seed, random seed, reproducible"},
    "search": {
        "Search for a learning rate": "hyperparameter, hyperparameter search, tuning, bayesian, optuna",
        "End bad trials early": "early stopping, hyperband, asha, prune",
    },
    "progress": {
        "Report progress from Python": "progress bar, tqdm, eta",
        "Use TensorBoard event files": "tensorboard, event files",
        "Use MLflow or W&B": "wandb, mlflow, tracker, weights and biases",
    },
    "watching": {
        "What runs, and why do other jobs wait?": "monitor, squeue, pending, list jobs",
        "What did a job print?": "log, output, stdout, stderr, tail",
        "Watch everything on one screen": "tui, htop",
    },
    "browser": {"Open the page": "dashboard, browser, gui, web interface"},
    "changing": {
        "Cancel a job": "kill, abort, terminate, delete job, stop job, kill job",
        "Run a job again": "restart, rerun, requeue, resubmit, restart job",
        "Pause a running job": "suspend, freeze",
        "Start a job earlier": "reorder, urgent",
    },
    "messages": {
        "Get a mail or a message when a run ends": "email, e-mail, notification, slack, telegram, alert",
    },
    "service": {
        "Start the scheduler at boot": "systemd, cron, boot, daemon, autostart",
        "Keep jobs running after logout": "nohup, tmux, disconnect, close terminal",
        "Watch from a laptop over ssh": "remote, laptop",
    },
    "gpus": {
        "Why does my job wait?": "stuck, does not start, waiting",
        "Choose GPUs for a program": "certain gpus, cuda_visible_devices, choose gpu",
    },
    "sharing": {"Share one GPU between jobs": "jobs per gpu, oversubscribe, mps"},
    "clusters": {
        "Use a Slurm or Ray cluster": "multi node, multinode, several machines, mpi, pbs, sge, lsf, kubernetes",
    },
    "cluster-failures": {"… the submit host fails": "login node, head node"},
    "prediction": {
        "Train a model and classify images": "single image, one photo, inference",
    },
    "data-sets": {"Import two folders of images": "own images, own data, custom data set"},
    "detectors": {
        "Detectors that others published": "pretrained, pretrained model, pretrained weights, model zoo",
    },
    "configuration": {"Pass a secret to a job": "api key, password, token, credentials"},
}


def places_of(phrase: str) -> Iterator[tuple[str, str]]:
    """Give the topic and the heading of each section that is meant by another word."""
    searched = without_plural(phrase)
    for topic, headings in PHRASES.items():
        for heading in headings:
            if searched in map(without_plural, phrases_of(topic, heading)):
                yield topic, heading


def phrases_of(topic: str, heading: str | None = None) -> list[str]:
    """Return the other words for a page, or for one of its sections."""
    headings = PHRASES.get(topic, {})
    texts = headings.values() if heading is None else [headings[heading]]
    return [phrase for text in texts for phrase in text.split(", ")]


def without_plural(phrase: str) -> str:
    """Return a phrase in lower case with single blanks, without an s at its end."""
    return " ".join(phrase.lower().split()).removesuffix("s")
