"""Running programs that nobody has read, such as those that a model has written.

    from tunesmith.sandbox import Limits, Python, Sandbox

    outcome = Sandbox().run(Python("print(input()[::-1])"), stdin=b"abc", limits=Limits(wall=2))
    outcome.ending, outcome.stdout  # "ok", b"cba\\n"

Every program gets a process tree of its own that can read the system's programs and libraries and nothing else, has no
network, sees no other process, inherits no variable and no descriptor, and is bounded in time, memory, processes, files
and output. `tunesmith doctor sandbox` says which tier a machine has, and `--attacks` proves it.

What this does not stop: faults in the kernel or the processor, and what leaks by timing or load; programs run on the
machine's own kernel, so give really valuable machines a virtual one around it. Memory is counted by looking every
20 ms where no control group does it, so short peaks above the limit pass; the limit on addresses of each process holds
at all times. What the interpreter's folder and ``/usr`` hold is readable. In the Landlock tier a program can also tell
whether a path exists, how long a file is and when it was changed. A program knows its own inputs, and a verifier must
not put answers into them, nor take anything for right because the program says so.
"""

from tunesmith.sandbox.limits import (
    Calls,
    Command,
    Ending,
    Limits,
    Outcome,
    Program,
    Python,
    Report,
)
from tunesmith.sandbox.plain import Pairs, Unordered
from tunesmith.sandbox.pool import Sandbox
from tunesmith.sandbox.probes import Probe, probes, strongest
from tunesmith.sandbox.tiers import TIERS, Tier

__all__ = [
    "TIERS",
    "Calls",
    "Command",
    "Ending",
    "Limits",
    "Outcome",
    "Pairs",
    "Probe",
    "Program",
    "Python",
    "Report",
    "Sandbox",
    "Tier",
    "Unordered",
    "probes",
    "strongest",
]
