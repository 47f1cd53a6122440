"""Stands in for verifiers 0.1 in tests: what the bridge calls of it, behaving as the library does. See README.md."""

import importlib
import inspect
import logging
import time


class State(dict):
    @classmethod
    def for_task(cls, task):
        return cls({**task, "task": dict(task), "completion": None, "timing": {"start_time": time.time()}})


class Rubric:
    has_group_rewards = False

    def __init__(self, funcs=(), weights=()):
        self.funcs, self.weights = funcs, weights
        self.logger = logging.getLogger("verifiers.rubrics.rubric.Rubric")

    async def score_rollout(self, state):
        state["reward"] = 0.0
        for function, weight in zip(self.funcs, self.weights, strict=True):
            given = {name: state[name] for name in inspect.signature(function).parameters}
            try:
                score = function(**given)
                score = float(await score if inspect.isawaitable(score) else score)
            except Exception as error:  # as the library does
                self.logger.error(f"Error calling reward function {function.__name__}: {error}")
                score = 0.0
            state["reward"] += weight * score


class Environment:
    def __init__(self, dataset, rubric, system_prompt=None):
        self.dataset, self.rubric, self.system_prompt = dataset, rubric, system_prompt

    def get_dataset(self):
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        for number, row in enumerate(self.dataset):
            prompt = [*system, {"role": "user", "content": row["question"]}]
            yield {**row, "example_id": number, "prompt": prompt}


class MultiTurnEnv(Environment):
    pass


class SingleTurnEnv(MultiTurnEnv):
    pass


def load_environment(env_id, **arguments):
    name = env_id.replace("-", "_")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"Could not import '{env_id}' environment.") from error
    try:
        return module.load_environment(**arguments)
    except Exception as error:
        raise RuntimeError(f"Failed to load environment '{env_id}': {error}") from error
