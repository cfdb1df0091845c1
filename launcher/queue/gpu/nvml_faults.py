"""Meaning of the driver's numbered messages (Xids) for jobs.

Source: "Analyzing Xid Errors with the Xid Catalog", docs.nvidia.com/deploy/xid-errors. A fault is an Xid for which the
catalog recommends RESET_GPU or RESTART_BM, or says that only a reset clears it (48, 74). An application's error is
RESTART_APP or IGNORE. Two Xids differ from the catalog. For 109 it recommends RESET_GPU, but a program that hangs causes
it, too, and k8s-device-plugin (internal/rm/health.go) counts it as an application's error. 155 is also logged for links
that were shut down on purpose.
"""

XID_FALLEN_OFF_BUS = 79  # a GPU that responds after this one was reset
XID_FAULTS = {
    46: "stopped processing and did not recover",
    48: "uncorrectable memory error",
    62: "its controller halted",
    64: "a bad row of memory could not be replaced",
    74: "NVLink error",
    XID_FALLEN_OFF_BUS: "has fallen off the bus",
    95: "uncontained memory error",
    110: "security fault",
    119: "its system processor does not respond",
    120: "its system processor failed",
    136: "a link could not be trained",
    140: "unrecovered memory error",
    143: "could not be initialised",
    158: "fatal timeout",
}
XID_WARNINGS = {
    63: "a bad row of memory is to be replaced at the next reset",
    92: "many single-bit memory errors",
    94: "a contained memory error ended one program",
    109: "a program could not be preempted",
    155: "an NVLink went down",
    156: "a part of it is to be retired at the next reset",
    157: "a bad part of it could not be retired",
}
APPLICATION_XIDS = frozenset(
    {8, 11, 13, 31, 32, 37, 38, 39, 40, 41, 43, 44, 45, 60, 66, 67, 68, 69, 70, 71, 72, 75, 76, 77}
    | {80, 82, 83, 84, 85, 86, 88, 89, 106, 107, 137, 139, 141}
    | set(range(96, 106))  # video decoders and image engines
    | set(range(126, 136))  # copy engines
    | {154}  # 154 sums up another fault
)


def fault_of(xid: int) -> str:
    """Return why no job may run on a GPU after this Xid; empty where one may."""
    return f"{XID_FAULTS[xid]} (Xid {xid})" if xid in XID_FAULTS else ""


def warning_of(xid: int) -> str:
    """Return the warning of this Xid for a GPU's owner. Empty if a program caused it."""
    if xid in XID_FAULTS or xid in APPLICATION_XIDS:
        return ""
    # the driver is newer than the catalogue: the Xid may be harmless, but it is reported
    return f"{XID_WARNINGS.get(xid, 'the driver reports an error')} (Xid {xid})"
