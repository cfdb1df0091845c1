"""A Ray cluster on this machine, in a process of its own: it runs one command per line, and ends with its input.

`add NAME CPUS GPUS` adds a node, `pid NAME` returns its raylet's pid, `kill NAME` kills it; each is answered by a JSON line.
"""

import json
import os
import sys
from typing import Any

# a dead raylet is noticed after seconds, not after a quarter of a minute
QUICK = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}


def main() -> None:
    """Start the head, and serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "_system_config": QUICK}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    nodes: dict[str, Any] = {}
    try:
        _say(answers, address=cluster.address)
        for line in sys.stdin:
            word, name, *more = line.split()
            if word == "add":
                cpus, gpus = map(int, more)
                mark = {f"on-{name}": 1000}
                nodes[name] = cluster.add_node(num_cpus=cpus, num_gpus=gpus, resources=mark)
                _say(answers, added=name)
            elif word == "pid":
                _say(answers, pid=_raylet(nodes[name]).pid)
            else:
                raylet = _raylet(nodes[name])
                raylet.kill()
                raylet.wait()
                _say(answers, killed=raylet.pid)
    finally:
        cluster.shutdown()


def _raylet(node: Any) -> Any:
    return node.all_processes["raylet"][0].process


def _say(answers: Any, **answer: object) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
