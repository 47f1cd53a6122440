"""verifiers 0.1: a module's load_environment returns an environment with a data set and a rubric."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith import Fault

from tunesmith_verifiers.library import Task, refuse


def load_environment(name: str, arguments: Mapping[str, Any]) -> SingleTurn:
    """The environment of this name. Raises `ConfigError` where there is none, or it takes more than one turn."""
    import verifiers as vf

    try:
        environment = vf.load_environment(name, **arguments)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        # load_environment turns what the environment raised into one of these
        raise refuse(name, str(error)) from None
    if not isinstance(environment, vf.SingleTurnEnv):
        raise refuse(name, f"{type(environment).__name__} is no SingleTurnEnv: an answer takes several turns")
    if environment.rubric.has_group_rewards:
        raise refuse(name, "its rubric compares answers with each other, and here each is judged alone")
    return SingleTurn(name, environment)


class SingleTurn:
    """An environment of one turn, and its rubric."""

    def __init__(self, name: str, environment: Any) -> None:
        self.name, self.environment = name, environment

    def tasks(self) -> Iterator[Task]:
        """The rows of its data set, in their order."""
        for row in self.environment.get_dataset():
            data = json.loads(json.dumps(dict(row), default=str))
            yield Task(data["prompt"], data, data.get("answer") or None)

    def score(self, data: Mapping[str, Any], prompt: list[dict[str, Any]], reply: str) -> float | Fault:
        """The weighted sum of the rubric's functions. One that raises is a fault, where the rubric would score 0."""
        import verifiers as vf
        from verifiers.utils.message_utils import normalize_messages

        row = json.loads(json.dumps(data))
        if isinstance(row.get("info"), str):
            row["info"] = json.loads(row["info"])
        state = vf.State.for_task(row)
        state["prompt"] = normalize_messages(prompt, field_name="prompt")
        answer = [{"role": "assistant", "content": reply}]
        state["completion"] = normalize_messages(answer, field_name="completion")
        raised = _Errors()
        log = logging.getLogger("verifiers")
        log.addHandler(raised)
        try:
            asyncio.run(self.environment.rubric.score_rollout(state))
        finally:
            log.removeHandler(raised)
        return Fault("error", raised.messages[0][:300]) if raised.messages else float(state["reward"])


class _Errors(logging.Handler):
    """What the rubric logs where a function of it raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
