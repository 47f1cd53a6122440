"""The models of a run by their role."""

from __future__ import annotations

from tunesmith.components import Role
from tunesmith.scoring.scorer import Scorer


class Models:
    """The models that a method declared. Asking for another role is an error of the method."""

    def __init__(self, roles: dict[Role, Scorer]) -> None:
        self._roles = roles

    def _get(self, role: Role) -> Scorer:
        if role not in self._roles:
            raise LookupError(f"the method did not declare the role {role!r}; it has {sorted(self._roles)}")
        return self._roles[role]

    @property
    def policy(self) -> Scorer:
        """The model that is trained."""
        return self._get("policy")

    @property
    def reference(self) -> Scorer:
        """The frozen model that the policy is held against."""
        return self._get("reference")
