"""What the reference and the critic of a run are, before either is loaded."""

from __future__ import annotations

from tunesmith.components import Method
from tunesmith.errors import ConfigError
from tunesmith.models.loading import check_exists
from tunesmith.offline import HasReference
from tunesmith.online import HasCritic
from tunesmith.settings import RunSettings


def kind_of(method: Method, settings: RunSettings) -> tuple[str, str]:
    """What the reference is, and the model it is made of. Needs neither of them loaded.

    Raises:
        ConfigError: a kind of reference that this run cannot have.
        ResourceError: the model of the reference is not there.
    """
    kind, name, sync = "auto", None, None
    if isinstance(method, HasReference) and "reference" in method.active_roles():
        kind, name, sync = method.reference, method.reference_model, method.sync_every
        if name is not None:  # the policy's own model is looked for where the policy is
            check_exists(name, "reference model")
    adapter = settings.adapter != "none" and name is None
    if kind == "auto":
        kind = "adapter-off" if adapter and sync is None else "copy"
    if kind == "adapter-off" and not adapter:
        raise ConfigError(
            "reference: adapter-off needs an adapter on the model that is the reference",
            fix="set --adapter lora, or --reference copy",
        )
    if sync is not None and kind != "copy":
        raise ConfigError(f"sync_every moves the reference, but reference: {kind} cannot move", fix="--reference copy")
    if sync is not None and settings.adapter != "none":
        raise ConfigError("sync_every cannot move a reference towards an adapter", fix="train without an adapter")
    return kind, name or settings.model


def critic_kind(method: Method, settings: RunSettings) -> str:
    """``model`` or ``adapter``. Raises `ConfigError` for a kind that this run cannot have."""
    assert isinstance(method, HasCritic), f"{method.name} declares the role 'value' and has no settings of a critic"
    if method.critic_model is not None:
        check_exists(method.critic_model, "critic model")
    kind = method.critic
    if kind == "auto":
        kind = "adapter" if settings.adapter != "none" and method.critic_model is None else "model"
    if kind == "adapter" and settings.adapter == "none":
        raise ConfigError(
            "critic: adapter needs an adapter on the policy's base", fix="--adapter lora, or --critic model"
        )
    if kind == "adapter" and method.critic_model is not None:
        raise ConfigError("critic: adapter starts on the policy's base, not on critic_model", fix="--critic model")
    return kind
