"""The parts of vLLM 0.33 that its engine uses: the signatures as they are there, behind them a model of transformers.

What vLLM itself does with the calls is not shown by tests against this record.
"""

import copy
import json
import threading
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunesmith import Sampling
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import Native


class World:
    """What a process of vLLM holds: the weights that it was sent, and a record of the calls."""

    def __init__(self, config=None, logprobs_mode="processed_logprobs"):
        self.config, self.logprobs_mode = config, logprobs_mode
        self.calls, self.weights, self.options = [], {}, []

    def receive(self, source):
        """Names, dtypes and shapes as announced, in that order."""
        sent = [(name, tensor.clone()) for name, tensor in source.iter_full()]
        announced = [(meta.name, meta.dtype, meta.shape) for meta in source.metadata]
        assert [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in sent] == announced
        self.weights = dict(sent)

    def complete(self, ids, params):
        """Tokens and log-probabilities of one request."""
        self.options.append(params)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(self.config))
        missing, unexpected = model.load_state_dict(self.weights, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}
        scorer = Scorer(model)
        choose(scorer)
        names = ("temperature", "top_p", "top_k", "min_p")
        sampling = Sampling(max_new_tokens=params["max_tokens"], **{name: params[name] for name in names})
        engine = Native().open(scorer, None, params["stop_token_ids"])
        prompt = np.array(ids, dtype=np.int32)
        ((sample,),) = engine.generate([prompt], [[params["seed"]]], sampling)
        drawn, logps = sample.ids.tolist(), sample.logps.tolist()
        if self.logprobs_mode == "raw_logprobs":
            with torch.no_grad():
                row = torch.tensor([[*ids, *drawn]])
                model.set_attn_implementation("eager")
                logits = model(row).logits[0, len(ids) - 1 : -1].log_softmax(-1)
                logps = logits.gather(1, row[0, len(ids) :, None])[:, 0].tolist()
        return drawn, logps


# ---------------------------------------------------------------------------------------------- vllm
@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    logprobs: int | None = None
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False


@dataclass
class WeightTransferConfig:
    backend: str = "nccl"


class LLM:
    """``world`` is set by the test."""

    world: ClassVar[World]

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        **kwargs: Any,
    ) -> None:
        # the others are fields of vllm.engine.arg_utils.EngineArgs
        assert set(kwargs) <= {"load_format", "max_model_len", "logprobs_mode", "weight_transfer_config"}
        self.world.config = AutoConfig.from_pretrained(model)
        self.world.logprobs_mode = kwargs.get("logprobs_mode", "raw_logprobs")
        self.world.calls.append(("LLM", dtype, gpu_memory_utilization, kwargs))

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None, priority=None):
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            ids, logps = self.world.complete(prompt["prompt_token_ids"], vars(params))
            rows = [{token: SimpleNamespace(logprob=logp)} for token, logp in zip(ids, logps, strict=True)]
            completion = SimpleNamespace(token_ids=tuple(ids), logprobs=rows, finish_reason="length", stop_reason=None)
            outputs.append(SimpleNamespace(outputs=[completion]))
        return outputs

    def init_weight_transfer_engine(self, request: dict) -> None:
        self.world.calls.append(("init", request["init_info"]))

    def start_weight_update(self) -> None:
        self.world.calls.append("start")

    def update_weights(self, request: dict) -> None:
        self.world.calls.append("update")
        self.world.receive(request["update_info"])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.world.calls.append("finish")

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        self.world.calls.append("reset_prefix_cache")
        return True


# ---------------------------------------------------------------------------------------------- weight_transfer
@dataclass(frozen=True)
class ParamMeta:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource:
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        assert isinstance(cls.__dict__["metadata"], cached_property)


@dataclass
class IPCTrainerInitInfo:
    backend: ClassVar[str] = "ipc"
    packed: bool = False
    packed_buffer_size_bytes: int = 1 << 30
    rank: int = 0


@dataclass
class NCCLTrainerInitInfo:
    master_address: str
    master_port: int
    world_size: int
    rank: int
    packed: bool = True


class WeightTransferTrainerFactory:
    @classmethod
    def trainer_init(cls, init_info, *, client, source=None):
        client.init_weight_transfer_engine(vars(init_info))
        return TrainerWeightTransferEngine(client, source)


class TrainerWeightTransferEngine:
    def __init__(self, client, source):
        self.client, self.source = client, source

    def send_weights(self) -> None:
        self.client.start_weight_update()
        self.client.update_weights(self.source)
        self.client.finish_weight_update()

    def shutdown(self) -> None:
        self.client = None


class HTTPVLLMWeightSyncClient:
    """Without the wire: what it would post is recorded."""

    world: ClassVar[World]

    def __init__(self, base_url: str, timeout: float = 300) -> None:
        self.base_url = base_url

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.world.calls.append(("init", init_info))

    def start_weight_update(self) -> None:
        self.world.calls.append("start")

    def update_weights(self, update_info: Any) -> None:
        self.world.receive(update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.world.calls.append("finish")


def install(monkeypatch, world: World) -> None:
    """Put the record where ``import vllm`` finds it."""
    names = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams},
        "vllm.config": {"WeightTransferConfig": WeightTransferConfig},
        "vllm.distributed": {},
        "vllm.distributed.weight_transfer": {
            "HTTPVLLMWeightSyncClient": HTTPVLLMWeightSyncClient,
            "ParamMeta": ParamMeta,
            "WeightSource": WeightSource,
            "WeightTransferTrainerFactory": WeightTransferTrainerFactory,
        },
        "vllm.distributed.weight_transfer.ipc_engine": {"IPCTrainerInitInfo": IPCTrainerInitInfo},
        "vllm.distributed.weight_transfer.nccl_engine": {"NCCLTrainerInitInfo": NCCLTrainerInitInfo},
    }
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(__import__("sys").modules, name, module)
    monkeypatch.setattr(LLM, "world", world, raising=False)
    monkeypatch.setattr(HTTPVLLMWeightSyncClient, "world", world, raising=False)


# ---------------------------------------------------------------------------------------------- the server
def serve(world: World) -> ThreadingHTTPServer:
    """A server with the routes that are used, on a free port."""
    lock = threading.Lock()

    class Routes(BaseHTTPRequestHandler):
        def do_GET(self):
            content = {"/v1/models": {"data": [{"id": "tiny"}]}, "/get_world_size": {"world_size": 2}}
            self.answer(content.get(self.path))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                assert body.pop("model") == "tiny" and body.pop("return_token_ids") is True
                with lock:
                    ids, logps = world.complete(body.pop("prompt"), body)
                self.answer({"choices": [{"token_ids": ids, "logprobs": {"token_logprobs": logps}}]})
            else:
                world.calls.append(self.path)
                known = ("/pause?mode=wait", "/resume", "/shutdown_weight_transfer_engine")
                self.answer({"status": "done"} if self.path in known else None)

        def answer(self, content):
            data = json.dumps(content or {"error": "Not Found"}).encode()
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
