"""Names and behaviour of verifiers 0.4.0, as far as an answer of one turn is judged."""

import asyncio
import importlib
import inspect
from typing import Any, Generic, get_args

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from verifiers.v1.state import State


class RolloutError(Exception):
    pass


class TaskError(RolloutError):
    pass


class SystemMessage(BaseModel):
    role: str = "system"
    content: str


class UserMessage(SystemMessage):
    role: str = "user"


class AssistantMessage(SystemMessage):
    role: str = "assistant"


class MessageNode(BaseModel):
    parent: int | None = None
    message: SystemMessage
    sampled: bool = False


class AgentConfig(BaseModel):
    pass


class AgentInfo(BaseModel):
    config: AgentConfig


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)
    idx: int | None = None
    prompt: str | list[Any] | None = None
    system_prompt: str | None = None


class TraceTask(BaseModel):
    type: str
    data: Any
    key: str | None = None
    hash: str | None = None


class Trace(BaseModel):
    task: TraceTask
    agent: AgentInfo
    state: State
    nodes: list[MessageNode] = Field(default_factory=list)
    rewards: dict[str, float | None] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    is_completed: bool = False
    ok: bool = False

    @property
    def reward(self):
        return sum(value for value in self.rewards.values() if value is not None)

    @property
    def last_reply(self):
        said = [node.message.content for node in self.nodes if node.sampled]
        return said[-1].strip() if said else ""

    @property
    def num_turns(self):
        return sum(node.sampled for node in self.nodes)


def _mark(name, function, weight):
    def decorate(fn):
        setattr(fn, name, True)
        fn._vf_weight = weight
        return fn

    return decorate if function is None else decorate(function)


def reward(func=None, weight=1.0, priority=0):
    return _mark("reward", func, weight)


def metric(func=None, priority=0):
    return _mark("metric", func, 1.0)


class TaskConfig(BaseModel):
    pass


class TasksetConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str = ""
    task: TaskConfig = TaskConfig()


DataT = TypeVar("DataT")
TaskT = TypeVar("TaskT")
ConfigT = TypeVar("ConfigT", default=Any)


def _argument(cls, base, default):
    found = [a for kind in cls.__orig_bases__ for a in get_args(kind) if isinstance(a, type) and issubclass(a, base)]
    return found[0] if found else default


class Task(Generic[DataT]):
    NEEDS_CONTAINER = False
    key = hash = None

    def __init__(self, data, config=None):
        self.data, self.config = data, config

    @classmethod
    def data_type(cls):
        return _argument(cls, TaskData, TaskData)

    @classmethod
    def toolsets(cls, config):
        return []

    def plugged_judges(self):
        return []

    def hooks(self, kind):
        names = sorted(name for name in dir(type(self)) if hasattr(getattr(type(self), name), kind))
        return [getattr(self, name) for name in names if not name.startswith("_")]

    async def setup(self, trace, runtime):
        return None

    async def finalize(self, trace, runtime):
        return None

    async def score(self, trace, runtime=None):
        known = {"task": self.data, "trace": trace}

        async def call(fn):
            return await fn(**{name: known[name] for name in inspect.signature(fn).parameters if name in known})

        trace.rewards.update({fn.__name__: None for fn in self.hooks("reward")})
        try:
            results = await asyncio.gather(*map(call, self.hooks("reward")))
        except Exception as error:
            raise TaskError(f"task {type(self).__name__} scoring: {type(error).__name__}: {error}") from error
        for fn, result in zip(self.hooks("reward"), results, strict=True):
            trace.rewards[fn.__name__] = result * fn._vf_weight


class Taskset(Generic[TaskT, ConfigT]):
    def __init__(self, config):
        self.config = config

    def __iter__(self):
        for idx, task in enumerate(self.load()):
            yield type(task)(task.data.model_copy(update={"idx": idx}), task.config)

    @classmethod
    def task_type(cls):
        return _argument(cls, Task, Task)

    @classmethod
    def toolsets(cls, config):
        return []


class SingleAgentEnv:
    pass


def environment_class(taskset_id, env_id=""):
    return SingleAgentEnv


def _class(taskset_id):
    name = taskset_id.replace("-", "_")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"taskset {taskset_id!r} not found (tried to import {name!r})") from error
    (found,) = (getattr(module, each) for each in module.__all__)
    return found


def taskset_config_type(taskset_id):
    return _argument(_class(taskset_id), TasksetConfig, TasksetConfig)


def load_taskset(config):
    return _class(config.id)(config)
