"""verifiers 0.4: a taskset yields tasks, whose methods marked as rewards judge a trace of messages."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from tunesmith import Fault

from tunesmith_verifiers.library import Task, refuse


def load_taskset(name: str, arguments: Mapping[str, Any]) -> Taskset:
    """The taskset of this name. Raises `ConfigError` where there is none, or none whose answers are judged alone."""
    import verifiers.v1 as vf

    try:
        config = vf.taskset_config_type(name).model_validate({**arguments, "id": name})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise refuse(name, f"its arguments are wrong: {wrong}") from None
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise refuse(name, str(error)) from None
    found = Taskset(name, vf.load_taskset(config))
    found.check()
    return found


class Taskset:
    """A taskset whose tasks are answered in one turn and judged by the answer alone."""

    def __init__(self, name: str, taskset: Any) -> None:
        self.name, self.taskset = name, taskset
        self.task_type = type(taskset).task_type()

    def check(self) -> None:
        """Raises `ConfigError` for what needs more than an answer: tools, a container, several agents."""
        import verifiers.v1 as vf

        task, config = self.task_type, self.taskset.config
        own = [hook for hook in ("setup", "finalize") if getattr(task, hook) is not getattr(vf.Task, hook)]
        wrong = {
            "it has an environment class of its own, so more than one agent may play": vf.environment_class(self.name)
            is not vf.SingleAgentEnv,
            "its tasks need a container": task.NEEDS_CONTAINER,
            "its tasks have tools, so an answer takes several turns": bool(
                task.toolsets(config.task) or type(self.taskset).toolsets(config)
            ),
            f"its tasks have a hook of their own ({', '.join(own)}) that works in a runtime": bool(own),
        }
        for why, holds in wrong.items():
            if holds:
                raise refuse(self.name, why)

    def tasks(self) -> Iterator[Task]:
        """Its tasks, in their order."""
        for task in self.taskset:
            data = task.data.model_dump(mode="json", exclude_none=True)
            if not data.get("prompt"):
                raise refuse(self.name, f"task {data.get('idx')} has no prompt: there the user speaks in turns")
            yield Task(_messages(task.data), data, data.get("answer"))

    def score(self, data: Mapping[str, Any], prompt: list[dict[str, Any]], reply: str) -> float | Fault:
        """The weighted sum of the task's rewards, of one answer and without a runtime."""
        import verifiers.v1 as vf
        from verifiers.v1.state import state_cls

        task = self.task_type(self.task_type.data_type().model_validate(data), self.taskset.config.task)
        unfit = [fn.__name__ for fn in task.hooks("reward") if _needs_runtime(fn)]
        unfit += [judge.reward_name for judge in task.plugged_judges() if _needs_runtime(judge.score)]
        if unfit:
            return Fault("error", f"rewards that need a runtime cannot judge an answer alone: {', '.join(unfit)}")
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
            state=state_cls(type(task))(),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=_nodes(prompt, reply),
            is_completed=True,
            ok=True,
        )
        try:
            asyncio.run(task.score(trace))
        except vf.RolloutError as error:
            return Fault("error", f"scoring failed: {error}"[:300])
        if not trace.rewards or None in trace.rewards.values():
            return Fault("error", f"the task {type(task).__name__} has no reward that judged the answer")
        return float(trace.reward)


def _needs_runtime(function: Any) -> bool:
    wanted = inspect.signature(function).parameters.get("runtime")
    return wanted is not None and wanted.default is inspect.Parameter.empty


def _messages(data: Any) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    if isinstance(data.prompt, str):
        return [*system, {"role": "user", "content": data.prompt}]
    return [*system, *(message.model_dump(mode="json", exclude_none=True) for message in data.prompt)]


def _nodes(prompt: list[dict[str, Any]], reply: str) -> list[Any]:
    import verifiers.v1 as vf

    kinds = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
    said = [kinds[turn["role"]](content=turn["content"]) for turn in prompt]
    nodes = [vf.MessageNode(parent=i - 1 if i else None, message=message) for i, message in enumerate(said)]
    answer = vf.AssistantMessage(content=reply)
    return [*nodes, vf.MessageNode(parent=len(nodes) - 1 if nodes else None, message=answer, sampled=True)]
