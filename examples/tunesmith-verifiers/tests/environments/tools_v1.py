"""An environment whose tasks work in a runtime."""

import verifiers.v1 as vf

__all__ = ["Tools"]


class Tool(vf.Task[vf.TaskData]):
    async def setup(self, trace, runtime) -> None:
        raise AssertionError("never called")

    @vf.reward
    async def done(self, trace: vf.Trace) -> float:
        return 1.0


class Tools(vf.Taskset[Tool]):
    def load(self):
        yield Tool(vf.TaskData(prompt="Do it."))
