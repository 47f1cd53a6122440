"""An environment as verifiers 0.1 has them."""

import verifiers as vf
from datasets import Dataset


def correct(completion, answer) -> float:
    return float(answer.lower() in completion[-1]["content"].lower())


async def short(completion, info) -> float:
    if "panic" in completion[-1]["content"]:
        raise KeyError("a fault of the environment")
    return float(len(completion[-1]["content"]) <= info["most"])


def load_environment(reverse: bool = False) -> vf.Environment:
    cities = {"France": "Paris", "Japan": "Tokyo", "Peru": "Lima"}
    rows = [{"question": k, "answer": v, "info": {"most": 2 * len(v)}} for k, v in cities.items()]
    if reverse:
        rows = [
            {"question": f"Of what is {v} the capital?", "answer": k, "info": {"most": 2 * len(k)}}
            for k, v in cities.items()
        ]
    rubric = vf.Rubric(funcs=[correct, short], weights=[1.0, 0.5])
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), system_prompt="Name the capital.", rubric=rubric)
