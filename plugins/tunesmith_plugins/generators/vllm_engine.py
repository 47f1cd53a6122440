"""vLLM as an engine: written for the interfaces of vLLM 0.33; the tests know them from a record only."""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tunesmith import ConfigError, ResourceError, Sample, Sampling
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators.merged import merged_weights
from tunesmith_plugins.generators.model import Ids, longest_allowed, longest_of, rescored
from tunesmith_plugins.generators.stops import StopStrings, cut
from tunesmith_plugins.generators.trial import NEW_TOKENS, trial_prompts

if TYPE_CHECKING:
    from tunesmith_plugins.generators import VLLM

LARGEST_GAP = 0.3
"""Mean difference of log-probabilities in the trial: other weights or another temperature give more."""


@dataclass(slots=True)
class Request:
    """One completion to sample."""

    prompt: Ids
    seed: int


@dataclass(slots=True)
class Reply:
    """Its tokens, and their log-probabilities as vLLM gives them."""

    ids: list[int]
    logps: list[float]


class Connection(Protocol):
    """An engine in another process."""

    def complete(self, requests: Sequence[Request], options: Mapping[str, Any]) -> list[Reply]:
        """One reply for every request; ``options`` under the names that vLLM has for them everywhere."""

    def send(self) -> None:
        """Send the weights of the policy."""

    def close(self) -> None:
        """Let go of the engine."""


class VLLMSession:
    """See `tunesmith.GeneratorSession`.

    Args:
        settings: of the component.
        policy: whose weights are sent.
        tokenizer: of the policy.
        stop_ids: tokens that end a completion.

    Raises:
        ConfigError: the policy cannot be run by vLLM in this mode, or the trial gives other log-probabilities.
        ResourceError: no server answers.
    """

    def __init__(self, settings: VLLM, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> None:
        check_possible(policy)
        self.policy, self.tokenizer, self.stop_ids = policy, tokenizer, sorted(stop_ids)
        opened = Colocated if settings.mode == "colocate" else Server
        self.connection: Connection = opened(settings, policy, tokenizer)
        try:
            self.sync()
            self._try()
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[Sample]]:
        """See `tunesmith.GeneratorSession`.

        Raises:
            DataError: a prompt without tokens, or one that leaves no room for the completion.
            ResourceError: the engine failed.
        """
        longest_of(self.policy, prompts, sampling)
        requests = [
            Request(prompt, seed % (1 << 63))
            for prompt, its_seeds in zip(prompts, seeds, strict=True)
            for seed in its_seeds
        ]
        replies = iter(self.connection.complete(requests, self._options(sampling)) if requests else [])
        stops = StopStrings(self.tokenizer, sampling.stop)
        return [
            [self._sample(prompt, next(replies), sampling, stops) for _ in its_seeds]
            for prompt, its_seeds in zip(prompts, seeds, strict=True)
        ]

    def sync(self) -> None:
        """Send the weights of the policy."""
        self.connection.send()

    def close(self) -> None:
        """Stop the colocated engine; a server goes on, without a connection to this process."""
        self.connection.close()

    def _options(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "stop": list(sampling.stop),
            "stop_token_ids": self.stop_ids,
            "ignore_eos": True,  # what ends a completion is in stop_token_ids
            "skip_special_tokens": False,
            "include_stop_str_in_output": True,
            "logprobs": 0,  # of the drawn token only
        }

    def _sample(self, prompt: Ids, reply: Reply, sampling: Sampling, stops: StopStrings) -> Sample:
        length, why = cut(reply.ids, self.stop_ids, stops)
        ids = np.array(reply.ids[:length], dtype=np.int32)
        if sampling.whole or sampling.temperature == 0:
            return Sample(ids, np.array(reply.logps[:length], dtype=np.float32), why)
        return Sample(ids, rescored(self.policy, prompt, ids, sampling.temperature), why)

    def _try(self) -> None:
        """Raises `ConfigError` unless its log-probabilities are the policy's at the sampling temperature."""
        sampling = Sampling(max_new_tokens=4 * NEW_TOKENS, temperature=0.5)
        prompts = trial_prompts(self.policy, sampling.max_new_tokens)
        samples = self.generate(prompts, [[i] for i in range(len(prompts))], sampling)
        gaps = [
            np.abs(group[0].logps - rescored(self.policy, prompt, group[0].ids, sampling.temperature))
            for prompt, group in zip(prompts, samples, strict=True)
        ]
        gap = float(np.concatenate(gaps).mean())
        if not gap <= LARGEST_GAP:
            raise ConfigError(
                f"vLLM's log-probabilities are {gap:.2f} away from the policy's on average (at most {LARGEST_GAP})",
                why="it has other weights, or reports them for temperature 1",
                fix="start the server with --logprobs-mode processed_logprobs, and with the policy's own architecture",
            )


def check_possible(policy: Scorer) -> None:
    """Raises `ConfigError` unless the policy is on a GPU of the only training process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ConfigError(
            "the engine `vllm` serves one training process", fix="train on one GPU, or use the engine `native`"
        )
    if policy.device.type != "cuda":
        raise ConfigError(
            f"the engine `vllm` fetches weights from a GPU, but the policy is on {policy.device}",
            fix="use the engine `native`",
        )


# ---------------------------------------------------------------------------------------------- colocated
class Colocated:
    """`vllm.LLM`, whose worker maps the weights out of the GPU memory of this process."""

    def __init__(self, settings: VLLM, policy: Scorer, tokenizer: Any) -> None:
        # the handles of GPU memory go to the worker pickled; it is a child of this process
        os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
        from vllm import LLM
        from vllm.config import WeightTransferConfig
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        self._folder = tempfile.TemporaryDirectory(prefix="tunesmith-vllm-")  # no weights: they come by `send`
        policy.language_model.config.save_pretrained(self._folder.name)
        tokenizer.save_pretrained(self._folder.name)
        self.llm = LLM(
            model=self._folder.name,
            load_format="dummy",
            dtype=str(_dtype(policy)).removeprefix("torch."),
            gpu_memory_utilization=settings.gpu_memory,
            max_model_len=longest_allowed(policy),
            logprobs_mode="processed_logprobs",
            weight_transfer_config=WeightTransferConfig(backend="ipc"),
        )
        self._sender = WeightTransferTrainerFactory.trainer_init(
            IPCTrainerInitInfo(rank=0, packed=True), client=_InProcess(self.llm), source=_source_of(policy)
        )

    def complete(self, requests: Sequence[Request], options: Mapping[str, Any]) -> list[Reply]:
        """See `Connection`."""
        from vllm import SamplingParams

        outputs = self.llm.generate(
            [{"prompt_token_ids": request.prompt.tolist()} for request in requests],
            [SamplingParams(seed=request.seed, **options) for request in requests],
            use_tqdm=False,
        )
        replies = []
        for output in outputs:
            (completion,) = output.outputs
            ids = list(completion.token_ids)
            logps = [row[token].logprob for token, row in zip(ids, completion.logprobs, strict=True)]
            replies.append(Reply(ids, logps))
        return replies

    def send(self) -> None:
        """See `Connection`."""
        self._sender.send_weights()
        self.llm.reset_prefix_cache()  # its keys and values are of the old weights

    def close(self) -> None:
        """See `Connection`."""
        self._sender.shutdown()
        del self.llm
        self._folder.cleanup()


class _InProcess:
    """What vLLM's sender of weights wants to talk to, for an `LLM` in this process."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self.llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.llm.finish_weight_update(weight_version)


# ---------------------------------------------------------------------------------------------- server
class Server:
    """A server with OpenAI's completions, whose workers get the weights over NCCL."""

    def __init__(self, settings: VLLM, policy: Scorer, tokenizer: Any) -> None:
        self.url, self.timeout, self.at_once = settings.url.rstrip("/"), settings.timeout, settings.requests
        self.model = self._ask("v1/models")["data"][0]["id"]
        workers = self._ask("get_world_size")["world_size"]
        from vllm.distributed.weight_transfer import HTTPVLLMWeightSyncClient, WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        self._client = HTTPVLLMWeightSyncClient(self.url, timeout=self.timeout)
        self._sender = WeightTransferTrainerFactory.trainer_init(
            NCCLTrainerInitInfo(
                rank=0, master_address=settings.address, master_port=settings.port, world_size=workers + 1
            ),
            client=self._client,
            source=_source_of(policy),
        )

    def complete(self, requests: Sequence[Request], options: Mapping[str, Any]) -> list[Reply]:
        """See `Connection`."""

        def one(request: Request) -> Reply:
            body = {
                "model": self.model,
                "prompt": request.prompt.tolist(),
                "seed": request.seed,
                "return_token_ids": True,
                **options,
            }
            (choice,) = self._ask("v1/completions", body)["choices"]
            return Reply(choice["token_ids"], choice["logprobs"]["token_logprobs"])

        with ThreadPoolExecutor(min(self.at_once, len(requests))) as pool:
            return list(pool.map(one, requests))

    def send(self) -> None:
        """See `Connection`."""
        self._ask("pause?mode=wait", {})  # this also clears the prefix cache, which is of the old weights
        try:
            self._sender.send_weights()
        finally:
            self._ask("resume", {})

    def close(self) -> None:
        """See `Connection`."""
        self._sender.shutdown()
        self._ask("shutdown_weight_transfer_engine", {})

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the server answers; a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            reason = error.read(300).decode(errors="replace")
            fix = "set VLLM_SERVER_DEV_MODE=1 for the server" if error.code == 404 else None
            raise ResourceError(f"vLLM answered {error.code} to {path}", where=self.url, why=reason, fix=fix) from None
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"no answer from vLLM to {path}", where=self.url, why=str(error), fix="start the server, or set its url"
            ) from None


# ---------------------------------------------------------------------------------------------- weights
def _dtype(policy: Scorer) -> torch.dtype:
    """What the policy computes in."""
    return torch.bfloat16 if policy.autocast else next(policy.module.parameters()).dtype


def _source_of(policy: Scorer) -> Any:
    """The policy's weights as vLLM's senders read them."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource

    dtype = _dtype(policy)

    class Merged(WeightSource):
        @cached_property
        def metadata(self) -> list[Any]:
            return [
                ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in merged_weights(policy, dtype)
            ]

        def iter_full(self) -> Iterator[tuple[str, Tensor]]:
            yield from merged_weights(policy, dtype)

    return Merged()
