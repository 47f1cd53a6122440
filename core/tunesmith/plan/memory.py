"""Memory of a run on one device, by component, role and phase."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tunesmith.components import Phase, StepSize, Texts, Workload
from tunesmith.config import Run
from tunesmith.plan import model as models
from tunesmith.plan.account import Held, Memory, PhaseMemory, always_there, loading, moments_of, parts_of, unpack
from tunesmith.plan.body import Pass, passed
from tunesmith.plan.hardware import Device
from tunesmith.plan.head import head_memory
from tunesmith.plan.kinds import critic_kind, kind_of
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup, States, skeleton, states_of

FRAMEWORK_CPU = 620e6
"""Of a process with torch, transformers and peft imported, on Linux; measured."""
FRAMEWORK_GPU, FRAGMENTATION = 0.8e9, 0.05
"""CUDA context and libraries, and the share of memory that allocations of changing sizes leave unused: not measured."""
LOGIT_COPIES = 4
"""Of the logits of a step of sampling: as they come, scaled, sorted or drawn from."""


@dataclass(slots=True)
class Estimate:
    """Computes the memory of a run; models and passes that were looked at are remembered.

    Attributes:
        device: what it runs on.
        devices: how many of them, each with a copy of everything.
        prompt: tokens of a prompt at most, where that is known; else 0.
        whole: run all layers on fake tensors instead of going on from two depths.
        rough: scale what is known of other parts instead of tracing anew; for comparing many settings.
    """

    device: Device
    devices: int = 1
    prompt: int = 0
    whole: bool = False
    _blueprints: dict[str, Blueprint] = field(default_factory=dict)
    rough: bool = False
    _states: dict[tuple[Any, ...], States] = field(default_factory=dict)
    _skeletons: dict[tuple[Any, ...], nn.Module] = field(default_factory=dict)
    _passes: dict[tuple[Any, ...], Pass] = field(default_factory=dict)
    _any_pass: dict[tuple[Any, ...], tuple[int, Pass]] = field(default_factory=dict)

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
            self._states[key] = states_of(self._skeleton(blueprint, setup, run), setup)
        return Held(role, blueprint, setup, self._states[key])

    def _skeleton(self, blueprint: Blueprint, setup: Setup, run: Run) -> nn.Module:
        built = replace(_computed(setup), checkpointing=False)
        key = (blueprint, built, self._adapter_key(run))
        if key not in self._skeletons:
            self._skeletons[key] = skeleton(blueprint, built, run.settings)
        return self._skeletons[key]

    def _adapter_key(self, run: Run) -> tuple[Any, ...]:
        settings = run.settings
        return (settings.adapter, settings.lora_r, settings.lora_dropout > 0, settings.lora_targets)

    def run_through(self, held: Held, part: Iterable[Texts], run: Run, *, gradient: bool = True) -> Pass:
        """What a part takes in a model; see `tunesmith.plan.body.passed`. Remembered by all that changes it."""
        setup, trees = _computed(held.setup), tuple(part)
        gradient = gradient and setup.trained
        setup = setup if gradient else replace(setup, checkpointing=False)
        model = (held.blueprint, setup, self._adapter_key(run), gradient)
        key, tokens = (*model, trees), sum(texts.tokens for texts in trees)
        if key not in self._passes:
            if self.rough and model in self._any_pass:
                known, found = self._any_pass[model]
                return found.times(tokens / known)
            self._passes[key] = passed(held.blueprint, setup, run.settings, trees, gradient=gradient, whole=self.whole)
            self._any_pass[model] = tokens, self._passes[key]
        return self._passes[key]

    # ------------------------------------------------------------------------------------------ the run
    def of(self, run: Run) -> Memory:
        """The memory of a run. Raises `ConfigError` for an architecture that cannot be planned for."""
        settings = run.settings
        layers = self.blueprint(settings.model, run).layers
        workload = run.method.workload(StepSize(settings.batch_size, settings.max_length, self.prompt), layers)
        held = self.held(run, workload)
        memory = Memory([], held, workload, [], 1, list(workload.notes))
        always = always_there(held)
        if self.device.cpu:
            memory.phases.append(loading(held))
        for phase in workload.phases:
            one = PhaseMemory(phase.name, dict(always))
            if phase.does == "sample":
                self._sampling(one, phase, held, run)
            elif phase.does == "score" and _cached(phase, held, run):
                one = self._filling(phase, held, run)
            elif phase.does == "score":
                self._scoring(one, phase, held, run)
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
        own = self.run_through(policy, prompts, run, gradient=False)
        one.parts["activations", "policy"] = own.forward
        unpack(one, policy)
        if engine.device_share:
            one.parts["engine copy", "policy"] = engine.device_share * self.device.memory
            return
        prefilled = sum(prompt.tokens for prompt in prompts)
        one.parts["KV cache", "policy"] = token * width * (engine.cache_tokens + prefilled)
        one.parts["engine copy", "policy"] = engine.weight_copies * policy.states.parameters * width
        growing = max(1, engine.cache_tokens // texts.longest)
        logits = LOGIT_COPIES * 4.0 * growing * policy.blueprint.vocabulary
        one.parts["working memory", "policy"] = one.parts.get(("working memory", "policy"), 0.0) + logits

    def _scoring(self, one: PhaseMemory, phase: Phase, held: list[Held], run: Run) -> None:
        """A pass without gradient through whoever has the role; the policy, adapters off, where nobody has."""
        role = phase.roles[0]
        models = [model for model in held if model.role == role] or held[:1]
        part, _ = self._parts(phase, run)
        for model in models:
            owner = model if model.setup.own_base else replace(model, setup=held[0].setup)
            found = self.run_through(owner, part, run, gradient=False).forward
            one.parts["activations", role] = max(one.parts.get(("activations", role), 0.0), found)
            head = head_memory(model.blueprint, model.setup, part, cpu=self.device.cpu, gradient=False)
            one.parts["loss head", role] = float(head.working)
            unpack(one, owner)

    def _filling(self, phase: Phase, held: list[Held], run: Run) -> PhaseMemory:
        """Before the first step: neither gradients nor states yet, but a reference other than the policy is loaded."""
        one = PhaseMemory("cache references", {("weights", model.role): float(model.states.weights) for model in held})
        _, name = kind_of(run.method, run.settings)
        source = held[0]
        if name != run.settings.model:
            source = self._hold("reference", name, Setup(self.dtype(run), trained=False), run)
            one.parts["weights", "reference"] = float(source.states.weights)
        self._scoring(one, phase, [replace(source, role="reference")], run)
        return one

    def _training(self, one: PhaseMemory, phase: Phase, memory: Memory, run: Run) -> None:
        """The largest of the moments of an update: see `moments_of`."""
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
        moments = moments_of(found, policy.states, parts, rows, head.working, beside)
        most = max(moments, key=lambda moment: sum(moment.values()))
        one.parts["gradients", "policy"] = most["gradients"]
        one.parts["activations", "policy"] = most["activations"]
        one.parts["loss head", "policy"] = most["loss head"]
        unpack(one, policy)
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


def _cached(phase: Phase, held: list[Held], run: Run) -> bool:
    """True where the reference has said all that it has to say before the first step."""
    there = any(model.role == "reference" for model in held)
    return phase.roles[0] == "reference" and not there and kind_of(run.method, run.settings)[0] == "cached"


def _computed(setup: Setup) -> Setup:
    """What of it changes the computation: neither how states are stored nor whose they are."""
    return replace(setup, optimizer="adamw", quantize="none", own_base=True)


def _judges(run: Run) -> Iterable[str]:
    """Models that rewards hold."""
    return [name for reward in getattr(run.method, "rewards", ()) for name in reward.models_held()]
