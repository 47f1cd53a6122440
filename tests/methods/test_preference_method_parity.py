"""Whole methods against TRL 1.16: the same rows and weights give the same tokens, loss and gradient.

Deviations of TRL 1.16 that these tests step around, each on purpose:

- In a chat it also trains on what the template writes after the token that ends an answer (`test_dpo_of_chats`).
- Its ORPO trains on the prompts as well (`test_orpo_differs...`), and averages over the tokens of a micro-batch.
- Its KTO pairs an answer with the previous prompt, we with the next, and takes the baseline per micro-batch.
"""

import json

import pytest
import torch

pytest.importorskip("trl")
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]  # TRL's own warnings
ROWS = [
    {
        "prompt": f"Question {i}: " + "what comes next, please? " * (1 + i % 3) + "\n",
        "chosen": "The quick brown fox " + "jumps over the lazy dog " * (i % 4) + f"and runs {i}.",
        "rejected": "She sells " + "sea shells by the sea shore " * (1 + i * 2 % 5) + f"{i}",
    }
    for i in range(6)
]
THUMBS = [
    {"prompt": row["prompt"], "completion": row["chosen" if i % 3 else "rejected"], "label": bool(i % 3)}
    for i, row in enumerate(ROWS)
]


def noisy(source, folder, seed):
    """A copy of a model folder with weights that are far enough from their start for answers to differ."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def policy(tiny_model, tmp_path_factory):
    return noisy(tiny_model, tmp_path_factory.mktemp("policy"), 1)


@pytest.fixture(scope="module")
def reference(tiny_model, tmp_path_factory):
    return noisy(tiny_model, tmp_path_factory.mktemp("reference"), 2)


@pytest.fixture
def ours(train, metrics, tmp_path, monkeypatch):
    """``ours(method, rows, **settings)``: loss, gradient by parameter and token ids of the first step."""
    from tunesmith.runner.step import Stepper

    seen = {}
    original = Stepper.gradient

    def gradient(self, batch, *args):
        sums = original(self, batch, *args)
        named = self.models.policy.module.named_parameters()
        seen["gradient"] = {name: p.grad.clone() for name, p in named if p.grad is not None}
        seen["ids"] = [[*t.trunk.tolist(), *branch.ids.tolist()] for t in batch.trees for branch in t.branches]
        return sums

    def run(method, rows, **settings):
        monkeypatch.setattr(Stepper, "gradient", gradient)
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        fixed = {"max_steps": 1, "batch_size": len(rows), "schedule": "constant", "shuffle": False, "dtype": "fp32"}
        folder = train(method, "run", data=str(path), micro_tokens=150, **fixed, **settings)
        return {**metrics(folder)[0], **seen}

    return run


def arguments(kind, tmp_path, **settings):
    """Arguments of a TRL trainer that takes all rows as one batch."""
    return kind(
        output_dir=str(tmp_path / "trl"),
        per_device_train_batch_size=len(ROWS),
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        max_length=250,
        **settings,
    )


def theirs(trainer, change=lambda batch: batch):
    """Loss, gradient by parameter and batch of a trainer's first step; ``change`` is applied to the batch before it."""
    batch = change(trainer._prepare_inputs(next(iter(trainer.get_train_dataloader()))))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradient = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradient, batch


def rows_of(ids, mask):
    """The token ids of every row of a padded batch, without padding."""
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


def assert_same(mine, wanted, ids):
    loss, gradient, _ = wanted
    assert sorted(mine["ids"]) == sorted(ids)
    assert mine["loss"] == pytest.approx(loss, rel=1e-5)
    assert mine["gradient"].keys() == gradient.keys()
    norm = torch.stack([g.norm() for g in gradient.values()]).norm().item()
    apart = torch.stack([(g - mine["gradient"][name]).norm() for name, g in gradient.items()]).norm().item()
    assert mine["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert apart < 1e-5 * norm


def load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("objective", "loss_type"),
    [
        ({"name": "sigmoid", "beta": 0.3}, "sigmoid"),
        ({"name": "sigmoid-norm", "beta": 3.0}, "sigmoid_norm"),
        ({"name": "hinge", "beta": 0.01}, "hinge"),
        ({"name": "ipo", "beta": 0.3}, "ipo"),
        ({"name": "robust", "beta": 0.3, "label_smoothing": 0.2}, "robust"),
        ({"name": "apo-zero", "beta": 0.3}, "apo_zero"),
        ({"name": "apo-down", "beta": 0.3}, "apo_down"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dpo(ours, policy, reference, tmp_path, objective, loss_type):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    settings = {"beta": objective["beta"], "label_smoothing": objective.get("label_smoothing", 0.0)}
    model, tokenizer = load(policy)
    trainer = DPOTrainer(
        model,
        ref_model=load(reference)[0],
        args=arguments(DPOConfig, tmp_path, loss_type=[loss_type], **settings),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
    )
    wanted = theirs(trainer)
    mine = ours("dpo", ROWS, model=str(policy), reference_model=str(reference), objective=objective)
    assert_same(mine, wanted, rows_of(wanted[2]["input_ids"], wanted[2]["attention_mask"]))


def test_dpo_of_chats(ours, policy, reference, tmp_path):
    """The template writes a line break after the token that ends an answer.

    TRL trains on it; once that last token is cut off its rows, tokens, loss and gradient are the same.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    rows = [{key: [{"role": roles[key], "content": text}] for key, text in row.items()} for row in ROWS]
    model, tokenizer = load(policy)
    trainer = DPOTrainer(
        model,
        ref_model=load(reference)[0],
        args=arguments(DPOConfig, tmp_path, beta=0.3),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )

    def cut(batch):
        last = batch["attention_mask"].sum(1, keepdim=True) - 1
        assert {tokenizer.decode(token) for token in batch["input_ids"].gather(1, last)} == {"\n"}
        for mask in ("attention_mask", "completion_mask"):
            batch[mask].scatter_(1, last, 0)
        return batch

    wanted = theirs(trainer, cut)
    objective = {"name": "sigmoid", "beta": 0.3}
    mine = ours("dpo", rows, model=str(policy), reference_model=str(reference), objective=objective)
    assert_same(mine, wanted, rows_of(wanted[2]["input_ids"], wanted[2]["attention_mask"]))


# ------------------------------------------------------------------------------------------------ without reference
def trl_pairs(trainer_type, config, policy, tmp_path, **settings):
    """First step of an experimental TRL trainer of pairs, and the ids of its rows."""
    from datasets import Dataset

    model, tokenizer = load(policy)
    trainer = trainer_type(
        model,
        args=arguments(config, tmp_path, **settings),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
    )
    loss, gradient, batch = theirs(trainer)
    ids = [
        row
        for side in ("chosen", "rejected")
        for row in rows_of(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"])
    ]
    return (loss, gradient, batch), ids


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_simpo(ours, policy, tmp_path, weight):
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    settings = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.2, "cpo_alpha": weight}
    wanted, ids = trl_pairs(CPOTrainer, CPOConfig, policy, tmp_path, **settings)
    objective = {"name": "simpo", "beta": 2.0, "gamma_beta_ratio": 0.6, "sft_weight": weight}
    assert_same(ours("simpo", ROWS, model=str(policy), objective=objective), wanted, ids)


def orpo_on_answers(trainer_type):
    """TRL's trainer with the likelihood of the chosen answers alone, as its CPO trainer has it."""

    class OnAnswers(trainer_type):
        def concatenated_forward(self, model, batch):
            chosen, rejected, *logits, _ = super().concatenated_forward(model, batch)
            tokens = (batch["chosen_labels"][:, 1:] != -100).sum(1)
            return chosen, rejected, *logits, -(chosen * tokens).sum() / tokens.sum()

    return OnAnswers


def test_orpo_on_answers(ours, policy, tmp_path):
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    wanted, ids = trl_pairs(orpo_on_answers(ORPOTrainer), ORPOConfig, policy, tmp_path, beta=0.5)
    assert_same(ours("orpo", ROWS, model=str(policy), objective={"name": "orpo", "beta": 0.5}), wanted, ids)


def test_orpo_differs_by_the_likelihood_of_the_prompts(ours, policy, tmp_path):
    """TRL's loss less ours is the NLL over prompts and chosen answers less that over the answers alone."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    (loss, _, batch), _ = trl_pairs(ORPOTrainer, ORPOConfig, policy, tmp_path, beta=0.5)
    mine = ours("orpo", ROWS, model=str(policy), objective={"name": "orpo", "beta": 0.5})
    with torch.no_grad():
        logits = load(policy)[0](batch["chosen_input_ids"], attention_mask=batch["chosen_attention_mask"]).logits
    logps = logits[:, :-1].log_softmax(-1).gather(2, batch["chosen_input_ids"][:, 1:, None])[..., 0]
    everything, answers = batch["chosen_attention_mask"][:, 1:] == 1, batch["chosen_labels"][:, 1:] != -100
    assert loss - mine["loss"] == pytest.approx((logps[answers].mean() - logps[everything].mean()).item(), rel=1e-3)
    assert mine["nll_loss"] == pytest.approx(-logps[answers].mean().item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------ single answers
@pytest.mark.parametrize(("name", "loss_type"), [("kto", "kto"), ("apo-zero-unpaired", "apo_zero_unpaired")])
def test_kto(ours, policy, reference, tmp_path, name, loss_type):
    """TRL pairs every answer with the prompt before, so its rows are given in reverse to pair them as we do."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    policy, reference = reference, policy  # this way round z0 is positive
    model, tokenizer = load(policy)
    settings = {"beta": 0.02, "desirable_weight": 1.5, "undesirable_weight": 0.7, "loss_type": loss_type}
    trainer = KTOTrainer(
        model,
        ref_model=load(reference)[0],
        args=arguments(KTOConfig, tmp_path, **settings),
        train_dataset=Dataset.from_list(THUMBS[::-1]),
        processing_class=tokenizer,
    )
    wanted = theirs(trainer)
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.7, "objective": {"name": name, "beta": 0.02}}
    mine = ours("kto", THUMBS, model=str(policy), reference_model=str(reference), **weights)
    assert_same(mine, wanted, rows_of(wanted[2]["input_ids"], wanted[2]["attention_mask"]))
    # a difference of sums of hundreds of nats in fp32
    assert mine["kl"] == pytest.approx(trainer._metrics["train"]["kl"][0], rel=1e-4, abs=1e-6)
    assert name != "kto" or mine["kl"] > 0


# ------------------------------------------------------------------------------------------------ reward model
@pytest.mark.parametrize("centering", [None, 0.01])
def test_reward_model(ours, tiny_model, tmp_path, centering):
    """A score head of random weights, saved before; the second answer of a pair has a margin."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    folder = tmp_path / "scorer"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [{**row, "margin": i / 3} for i, row in enumerate(ROWS)]
    trainer = RewardTrainer(
        model,
        args=arguments(RewardConfig, tmp_path, center_rewards_coefficient=centering),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    wanted = theirs(trainer)
    objective = {"name": "bradley-terry", "centering": centering or 0.0}
    mine = ours("rm", rows, model=str(folder), objective=objective)
    assert_same(mine, wanted, rows_of(wanted[2]["input_ids"], wanted[2]["attention_mask"]))
