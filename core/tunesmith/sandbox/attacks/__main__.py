"""``python -m tunesmith.sandbox.attacks [TIER ...]``: make every attempt, and print what came of it."""

import sys

from tunesmith.sandbox.attacks import attempt_all
from tunesmith.sandbox.attacks.table import lines
from tunesmith.sandbox.probes import probes

if __name__ == "__main__":
    wanted = sys.argv[1:]
    found = attempt_all([probe.tier for probe in probes() if probe.works and (not wanted or probe.tier in wanted)])
    print("\n".join(lines(found)))
    sys.exit(any(result.result != "stopped" for result in found) or not found)
