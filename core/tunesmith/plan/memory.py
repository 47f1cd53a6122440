"""Memory of a run on one device, by component, role and phase."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tunesmith.components import Phase, StepSize, Texts, Workload
from tunesmith.config import Run
from tunesmith.plan import model as models
from tunesmith.plan.body import Pass, passed
from tunesmith.plan.hardware import Device
from tunesmith.plan.head import head_memory
from tunesmith.plan.kinds import critic_kind, kind_of
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup, States, states_of

COMPONENTS = (
    "weights", "gradients", "optimizer", "activations", "working memory", "loss head", "KV cache", "engine copy",
    "framework",
)  # fmt: skip
FRAMEWORK_CPU = 620e6
"""Of a process with torch, transformers and peft imported, on Linux; measured."""
FRAMEWORK_GPU, FRAGMENTATION = 0.8e9, 0.05
"""CUDA context and libraries, and the share of memory that allocations of changing sizes leave unused: not measured."""
LOGIT_COPIES = 4
"""Of the logits of a step of sampling: as they come, scaled, sorted or drawn from."""


@dataclass(frozen=True, slots=True)
class Held:
    """A model of the run.

    Attributes:
        role: what it is.
        blueprint: its config.
        setup: how it is held.
        states: its bytes.
    """

    role: str
    blueprint: Blueprint
    setup: Setup
    states: States


@dataclass(slots=True)
class PhaseMemory:
    """Bytes in a phase, at its peak, by component and role."""

    name: str
    parts: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts.values())

    def of(self, component: str) -> float:
        """Bytes of a component, over all roles."""
        return sum(value for (name, _), value in self.parts.items() if name == component)


@dataclass(slots=True)
class Memory:
    """What a run takes on a device.

    Attributes:
        phases: in order.
        held: models in memory.
        workload: as the method declares it.
        part: the trees of the largest part of an update.
        parts: of an update, on one device.
        notes: what was assumed.
    """

    phases: list[PhaseMemory]
    held: list[Held]
    workload: Workload
    part: list[Texts]
    parts: int
    notes: list[str]

    @property
    def peak(self) -> PhaseMemory:
        """The phase that takes the most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        return self.peak.total


@dataclass(slots=True)
class Estimate:
    """Computes the memory of a run; models and passes that were looked at are remembered.

    Attributes:
        device: what it runs on.
        devices: how many of them, each with a copy of everything.
        prompt: tokens of a prompt at most, where that is known; else 0.
        whole: run all layers on fake tensors instead of going on from two depths.
    """

    device: Device
    devices: int = 1
    prompt: int = 0
    whole: bool = False
    _blueprints: dict[str, Blueprint] = field(default_factory=dict)
    _states: dict[tuple[Any, ...], States] = field(default_factory=dict)
    _passes: dict[tuple[Any, ...], Pass] = field(default_factory=dict)

    def blueprint(self, name: str, run: Run) -> Blueprint:
        """See `tunesmith.plan.model.find`."""
        if name not in self._blueprints:
            self._blueprints[name] = models.find(name, trust_remote_code=run.settings.trust_remote_code)
        return self._blueprints[name]

    def dtype(self, run: Run) -> torch.dtype:
        """Of the computation: bf16 on a GPU where nothing else is said."""
        auto = torch.float32 if self.device.cpu else torch.bfloat16
        return {"auto": auto, "fp32": torch.float32, "bf16": torch.bfloat16}[run.settings.dtype]

    # ------------------------------------------------------------------------------------------ models
    def held(self, run: Run, workload: Workload) -> list[Held]:
        """The models that a run holds, the policy first.

        Raises:
            ConfigError, ResourceError: as the run itself would, for what cannot be.
        """
        settings, method, dtype = run.settings, run.method, self.dtype(run)
        adapter = settings.adapter != "none"
        policy = Setup(
            dtype, adapter=adapter, quantize=settings.quantize, optimizer=settings.optimizer,
            checkpointing=settings.activation_checkpointing, score=method.head == "score",
            new_layers=workload.new_layers, trained_layers=workload.trained_layers,
        )  # fmt: skip
        found = [self._hold("policy", settings.model, policy, run)]
        active = method.active_roles()
        if "reference" in active:
            kind, name = kind_of(method, settings)
            if kind == "copy":
                found.append(self._hold("reference", name, Setup(dtype, trained=False), run))
        if "value" in active:
            found.append(self._critic(run, policy))
        for name in _judges(run):
            found.append(self._judge(name, policy, run))
        return found

    def _critic(self, run: Run, policy: Setup) -> Held:
        if critic_kind(run.method, run.settings) == "adapter":
            held = self._hold("value", run.settings.model, replace(policy, own_base=False), run)
            head = 4 * held.blueprint.hidden
            return replace(held, states=held.states + States(head, head, 2 * head + 4, 0, head // 4, head // 4))
        name = getattr(run.method, "critic_model", None) or run.settings.model
        own = replace(policy, adapter=False, quantize="none", score=True, new_layers=0, trained_layers=None)
        return self._hold("value", name, own, run)

    def _judge(self, name: str, policy: Setup, run: Run) -> Held:
        """A reward model: an adapter on the policy's base where it is one, else a model with its own precision."""
        from pathlib import Path

        shared = policy.adapter and (Path(name) / "adapter_config.json").is_file()
        if shared:
            return self._hold("reward", name, replace(policy, trained=False, own_base=False, score=True), run)
        stored = getattr(self.blueprint(name, run).config, "dtype", None) or torch.float32
        setup = Setup(stored if isinstance(stored, torch.dtype) else torch.float32, trained=False, score=True)
        held = self._hold("reward", name, setup, run)
        if stored == torch.bfloat16:
            held = replace(held, states=replace(held.states, weights=held.states.weights // 2))
        return held

    def _hold(self, role: str, name: str, setup: Setup, run: Run) -> Held:
        blueprint = self.blueprint(name, run)
        key = (blueprint, setup, self._adapter_key(run))
        if key not in self._states:
            self._states[key] = states_of(blueprint, setup, run.settings)
        return Held(role, blueprint, setup, self._states[key])

    def _adapter_key(self, run: Run) -> tuple[Any, ...]:
        settings = run.settings
        return (settings.adapter, settings.lora_r, settings.lora_dropout > 0, settings.lora_targets)

    def run_through(self, held: Held, part: Iterable[Texts], run: Run) -> Pass:
        """What a part takes in a model; see `tunesmith.plan.body.passed`."""
        key = (held.blueprint, held.setup, tuple(part), self._adapter_key(run))
        if key not in self._passes:
            self._passes[key] = passed(held.blueprint, held.setup, run.settings, key[2], whole=self.whole)
        return self._passes[key]

    # ------------------------------------------------------------------------------------------ the run
    def of(self, run: Run) -> Memory:
        """The memory of a run. Raises `ConfigError` for an architecture that cannot be planned for."""
        settings = run.settings
        layers = self.blueprint(settings.model, run).layers
        workload = run.method.workload(StepSize(settings.batch_size, settings.max_length, self.prompt), layers)
        held = self.held(run, workload)
        memory = Memory([], held, workload, [], 1, list(workload.notes))
        always = _always(held)
        if self.device.cpu:
            memory.phases.append(_loading(held))
        for phase in workload.phases:
            one = PhaseMemory(phase.name, dict(always))
            if phase.does == "sample":
                self._sampling(one, phase, held, run)
            elif phase.does == "score":
                if not self._scoring(one, phase, held, run):
                    continue
            else:
                self._training(one, phase, memory, run)
            memory.phases.append(one)
        self._buffers(memory, run)
        for one in memory.phases:
            rest = FRAMEWORK_CPU if self.device.cpu else FRAMEWORK_GPU + FRAGMENTATION * one.total
            one.parts["framework", ""] = rest
        return memory

    def _parts(self, phase: Phase, run: Run) -> tuple[list[Texts], int]:
        """The trees of the largest part, and how many such parts an update has on one device."""
        trees = max(1, math.ceil(phase.trees * phase.passes / phase.updates / self.devices))
        return parts_of(phase.texts, trees, run.settings.micro_tokens)

    def _sampling(self, one: PhaseMemory, phase: Phase, held: list[Held], run: Run) -> None:
        policy, texts = held[0], phase.texts
        answers = math.ceil(phase.trees / self.devices) * texts.answers
        engine = run.method.generator.memory_needed(answers, texts.longest)  # type: ignore[attr-defined]  # what samples has one
        token = 2 * policy.blueprint.key_width * (policy.blueprint.layers + policy.setup.new_layers)
        width = policy.setup.dtype.itemsize
        prompts, _ = parts_of(
            Texts(answer=max(1, texts.prompt)), math.ceil(phase.trees / self.devices), run.settings.micro_tokens
        )
        own = self.run_through(replace(policy, setup=replace(policy.setup, checkpointing=False)), prompts, run)
        one.parts["activations", "policy"] = own.forward
        if engine.device_share:
            one.parts["engine copy", "policy"] = engine.device_share * self.device.memory
            return
        prefilled = sum(prompt.tokens for prompt in prompts)
        one.parts["KV cache", "policy"] = token * width * (engine.cache_tokens + prefilled)
        one.parts["engine copy", "policy"] = engine.weight_copies * policy.states.parameters * width
        growing = max(1, engine.cache_tokens // texts.longest)
        one.parts["working memory", "policy"] = LOGIT_COPIES * 4.0 * growing * policy.blueprint.vocabulary

    def _scoring(self, one: PhaseMemory, phase: Phase, held: list[Held], run: Run) -> bool:
        """False where nothing is computed in the run: the reference is cached."""
        role = phase.roles[0]
        models = [model for model in held if model.role == role]
        if role == "reference" and not models:
            if kind_of(run.method, run.settings)[0] == "cached":
                return False
            models = held[:1]
        part, _ = self._parts(phase, run)
        for model in models or held[:1]:
            owner = model if model.setup.own_base else replace(model, setup=held[0].setup)
            found = self.run_through(owner, part, run).forward
            one.parts["activations", role] = max(one.parts.get(("activations", role), 0.0), found)
            head = head_memory(model.blueprint, model.setup, part, cpu=self.device.cpu, gradient=False)
            one.parts["loss head", role] = float(head.working)
        return True

    def _training(self, one: PhaseMemory, phase: Phase, memory: Memory, run: Run) -> None:
        """The largest of the moments of an update: see `_moments`."""
        part, parts = self._parts(phase, run)
        memory.part, memory.parts = part, parts
        policy = memory.held[0]
        found = self.run_through(policy, part, run)
        detailed = run.settings.log_every == 1
        head = head_memory(policy.blueprint, policy.setup, part, cpu=self.device.cpu, gradient=True, detailed=detailed)
        critics = [model for model in memory.held if model.role == "value" and "value" in phase.roles]
        beside, critic_gradients = 0.0, 0.0
        for critic in critics:
            owner = critic if critic.setup.own_base else policy
            own = self.run_through(owner, head.chunk, run)
            beside = max(own.rising, own.falling, own.ending)
            critic_gradients = float(critic.states.gradients)
        rows = sum(texts.scored for texts in part) * policy.blueprint.hidden * policy.setup.dtype.itemsize
        moments = _moments(found, policy.states, parts, rows, head.working, beside)
        most = max(moments, key=lambda moment: sum(moment.values()))
        one.parts["gradients", "policy"] = most["gradients"]
        one.parts["activations", "policy"] = most["activations"]
        one.parts["loss head", "policy"] = most["loss head"]
        if critics:
            one.parts["activations", "value"] = most["beside"]
            one.parts["gradients", "value"] = critic_gradients

    def _buffers(self, memory: Memory, run: Run) -> None:
        """The buffers of logits stay in all phases, once one has made them."""
        for model in memory.held:
            uses = [p for p in memory.workload.phases if model.role in p.roles and p.does != "sample"]
            kept = [
                head_memory(
                    model.blueprint,
                    model.setup,
                    self._parts(p, run)[0],
                    cpu=self.device.cpu,
                    gradient=p.does == "train",
                ).kept
                for p in uses
                if model.role != "value"
            ]
            for one in memory.phases:
                if kept and one.name != "load":
                    key = ("loss head", model.role)
                    one.parts[key] = one.parts.get(key, 0.0) + max(kept)


def _judges(run: Run) -> Iterable[str]:
    """Models that rewards hold."""
    return [name for reward in getattr(run.method, "rewards", ()) for name in reward.models_held()]


def _always(held: Iterable[Held]) -> dict[tuple[str, str], float]:
    """What is there in every phase, from the second step on."""
    parts: dict[tuple[str, str], float] = {}
    for model in held:
        own = {
            "weights": model.states.weights,
            "optimizer": model.states.optimizer,
            "gradients": model.states.head_gradient,
        }
        for name, value in own.items():
            parts[name, model.role] = parts.get((name, model.role), 0.0) + value
    return parts


def _loading(held: list[Held]) -> PhaseMemory:
    """The largest model beside the pages of its file, which count as well while they are read."""
    parts = {("weights", model.role): float(model.states.weights) for model in held}
    most = max((model for model in held if model.setup.own_base), key=lambda model: model.states.weights)
    return PhaseMemory("load", {**parts, ("working memory", most.role): float(most.states.weights)})


def _moments(
    found: Pass, states: States, parts: int, rows: float, head: float, beside: float
) -> list[Mapping[str, float]]:
    """What is there at the moments of an update that can be its peak.

    In the first part gradients come into being as activations go; in later ones all of them are there.

    Args:
        rows: bytes of the gradient of the scored hidden states.
        head: working memory of the loss head.
        beside: what a critic takes beside it.
    """
    every, first = float(states.gradients), float(states.head_gradient)
    early = every if parts > 1 else first

    def moment(gradients: float, activations: float, head: float = 0.0, beside: float = 0.0) -> Mapping[str, float]:
        return {"gradients": gradients, "activations": activations, "loss head": head, "beside": beside}

    return [
        moment(early, found.rising),
        moment(early, found.saved + rows, head, beside),
        moment(early, found.falling),
        moment(every, max(0.0, found.falling - found.saved)),
        moment(every, found.ending),
    ]


def parts_of(texts: Texts, trees: int, micro_tokens: int) -> tuple[list[Texts], int]:
    """The largest part of so many trees of this shape, and how many parts they make.

    Trees are not cut: one that is larger than ``micro_tokens`` is a part of its own. What the longest leave free is
    filled with a shorter one, as real batches have them.

    >>> part, parts = parts_of(Texts(answer=1500), 8, 4096)
    >>> [texts.tokens for texts in part], parts
    ([1500, 1500, 1096], 4)
    """
    fit = max(1, micro_tokens // texts.tokens)
    part = [texts] * min(fit, trees)
    left = micro_tokens - fit * texts.tokens
    if trees > fit and left > 1:
        part.append(Texts(answer=left))
    return part, math.ceil(trees / fit)
