"""State of a rollout."""

from pydantic import BaseModel


class State(BaseModel):
    pass


def state_cls(cls):
    return State
