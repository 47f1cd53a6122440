"""The models of a run by their role."""

from __future__ import annotations

from tunesmith.models.critic import Critic
from tunesmith.models.reference import Reference
from tunesmith.scoring.scorer import Scorer


class Models:
    """The models that a method declared. Asking for another role is an error of the method."""

    def __init__(self, policy: Scorer, reference: Reference | None = None, critic: Critic | None = None) -> None:
        self.policy = policy
        self._reference, self._critic = reference, critic

    @property
    def reference(self) -> Reference:
        """The frozen model that the policy is held against. Raises `LookupError` when it was not declared."""
        if self._reference is None:
            raise LookupError("the method did not declare the role 'reference'")
        return self._reference

    @property
    def has_reference(self) -> bool:
        """True where the method declared one."""
        return self._reference is not None

    @property
    def critic(self) -> Critic:
        """The model that estimates returns. Raises `LookupError` when it was not declared."""
        if self._critic is None:
            raise LookupError("the method did not declare the role 'value'")
        return self._critic

    @property
    def has_critic(self) -> bool:
        """True where the method declared one."""
        return self._critic is not None

    @property
    def scorers(self) -> list[Scorer]:
        """Every model that computes, each once."""
        scorers = [self.policy]
        if self._reference is not None and self._reference.scorer not in (None, self.policy):
            scorers.append(self._reference.scorer)
        if self._critic is not None and self._critic.scorer is not None:
            scorers.append(self._critic.scorer)
        return scorers
