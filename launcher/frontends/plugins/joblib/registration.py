"""`launcher.api.register_joblib`."""

from launcher.frontends.plugins.joblib.batches import NAME, is_running
from launcher.system.errors import MachineError
from launcher.system.installation import install_command


def register_joblib() -> None:
    """Add the backend `launcher` to joblib, whose batches of calls are jobs of the queue.

    After this, `joblib.parallel_config(backend="launcher", n_jobs=8, cpus=2)` has an effect on joblib and on
    libraries that use it, such as scikit-learn. `n_jobs` is the most jobs that run at once. Other parameters are options
    of the jobs, as of `launcher.api.submit`.

    Raises:
        MachineError: joblib is not installed.
    """
    try:
        from joblib.parallel import register_parallel_backend

        from launcher.frontends.plugins.joblib.backend import LauncherBackend
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "joblib":
            raise
        raise MachineError(
            f"joblib is not installed. Install it: {install_command('joblib')}"
        ) from error
    if not is_running():
        register_parallel_backend(NAME, LauncherBackend)
