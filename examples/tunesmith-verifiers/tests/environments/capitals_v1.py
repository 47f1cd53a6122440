"""An environment as verifiers 0.4 has them."""

import verifiers.v1 as vf

__all__ = ["Capitals"]


class Data(vf.TaskData):
    answer: str


class Capital(vf.Task[Data]):
    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        return float(self.data.answer.lower() in trace.last_reply.lower())

    @vf.reward(weight=0.5)
    async def short(self, task: Data, trace: vf.Trace) -> float:
        if "panic" in trace.last_reply:
            raise KeyError("a fault of the environment")
        return float(len(trace.last_reply) <= 2 * len(task.answer))

    @vf.metric
    async def turns(self, trace: vf.Trace) -> float:
        return float(trace.num_turns)


class Config(vf.TasksetConfig):
    reverse: bool = False


class Capitals(vf.Taskset[Capital, Config]):
    def load(self):
        for country, city in (("France", "Paris"), ("Japan", "Tokyo"), ("Peru", "Lima")):
            prompt, answer = (f"Of what is {city} the capital?", country) if self.config.reverse else (country, city)
            yield Capital(Data(prompt=prompt, system_prompt="Name the capital.", answer=answer), self.config.task)
