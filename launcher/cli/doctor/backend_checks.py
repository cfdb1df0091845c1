"""The check of the backends: whether their engines can be asked, and whether nodes see what they need."""

from launcher.cli.doctor.facts import Engine, Finding, ok, trouble, unknown, warning
from launcher.errors import counted

NAMED = 8  # partitions that a line names


def check_backend(engine: Engine) -> Finding:
    """Check one backend."""
    return (
        _engine(engine) or _pilots(engine) or _folder(engine) or ok(_name(engine), _summary(engine))
    )


def _engine(engine: Engine) -> Finding | None:
    """Return what is wrong with its engine, None where nothing is."""
    match engine.kind:
        case "slurm":
            return _slurm(engine)
        case "ray":
            return _ray(engine)
    return None


def _slurm(engine: Engine) -> Finding | None:
    name = _name(engine)
    if engine.missing:
        return trouble(
            name,
            f"not in PATH: {', '.join(engine.missing)}",
            "install Slurm's client programs on this host (Debian: slurm-client), or run launcher on "
            "a login node of the cluster",
        )
    if not engine.answers:
        complaint = engine.complaint or "it printed nothing"
        return trouble(
            name,
            f"Slurm does not answer: {complaint}",
            "`sinfo` in this shell must list the partitions; SLURM_CONF names another configuration",
        )
    if engine.partition and engine.partition not in engine.partitions:
        there = ", ".join(engine.partitions[:NAMED])
        return trouble(
            name,
            f"Slurm has no partition {engine.partition!r}; it has {there}",
            f"correct `partition` in {engine.table} of config.toml",
        )
    return None


def _ray(engine: Engine) -> Finding | None:
    name = _name(engine)
    if not engine.python:
        return unknown(
            name,
            "its interpreter is not on this host, which must join the cluster with it",
            f"name one with ray in it: `python` in {engine.table}",
        )
    if engine.ray:
        return None
    return trouble(
        name,
        f"{engine.python} has no ray: {engine.complaint or 'it printed nothing'}",
        f"pip install 'launcher-trueface[ray]' there, or name another `python` in {engine.table}",
    )


def _pilots(engine: Engine) -> Finding | None:
    """Return that pilots could not work, and why."""
    if not engine.failures:
        return None
    advice = "`launcher status` has the last lines of their log; mend that, or change the table: then it is tried at once"
    return warning(_name(engine), engine.reason, advice)


def _folder(engine: Engine) -> Finding | None:
    """Return that nodes will not see the folder of the pilots, as far as the file system tells."""
    if engine.kind == "local" or engine.shared or not engine.folder:
        return None
    kind = engine.file_system or "of unknown type"
    return warning(
        _name(engine),
        f"{_summary(engine)}; but {engine.folder} lies on a local disk ({kind}), which other machines do not see",
        f"name a shared folder: `folder` in {engine.table}; on a cluster of this machine alone it is well",
    )


def _summary(engine: Engine) -> str:
    match engine.kind:
        case "slurm":
            where = (
                f"partition {engine.partition}"
                if engine.partition
                else (counted(len(engine.partitions), "partition"))
            )
            text = f"Slurm answers, {where}"
        case "ray":
            text = f"ray {engine.ray} in {engine.python}"
        case _:
            return "pilots are processes of this machine"
    return f"{text}; pilots in {engine.folder} ({engine.file_system})" if engine.shared else text


def _name(engine: Engine) -> str:
    return f"backend {engine.name}"
