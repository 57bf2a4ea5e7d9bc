#!/usr/bin/env python3
"""Makes tests/goldens/train/rollouts.safetensors: one step of each of TRL's losses of a model's own answers, on the tiny model and
adapter of goldens/model/lora, and the advantages of rewards.

usage: make_rollout_goldens.py [GOLDENS]    (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, trl 1.16.0)

ids, lengths, prompts   the sequences one after the other, GROUP answers to each prompt in turn; their lengths; how many tokens of each
                        are the prompt, which has no loss
learnt                  whether each answer counts: the last one does not
advantages              how good each answer is
old, reference          the log-probability of each token of the answers when it was said, and where the run started
KIND.loss               of `dapo`, `grpo`, `bnpo`, `dr_grpo`, `cispo` and `rloo`: TRL's loss of all answers
KIND.gradient           its gradient: of every parameter of the adapter in turn (PEFT's names, sorted), every STRIDEth value
KIND.metrics            what TRL logs, in the order of the header's `KIND.metrics`
rewards                 of three groups of three answers, the last of equal ones
advantages.KIND         of these, with `scale_rewards` of `group`, `batch` and `none`, and of `rloo`, also `normalized`

TRL's own code computes losses and metrics: `GRPOTrainer._compute_loss` and its like, on a trainer that has only what it asks for, and on
log-probabilities in f64. Advantages are computed with its own `nanstd` as its trainers do.
"""
import collections
import json
import sys
import types
import peft
import torch
import transformers
import trl
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import nanstd

torch.set_num_threads(1)
GOLDENS = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens"
PROMPTS, GROUP, VOCABULARY, STRIDE = 2, 3, 320, 11
EPSILON, EPSILON_HIGH, CISPO_HIGH, BETA, TEMPERATURE, LONGEST = 0.2, 0.3, 1.1, 0.3, 0.7, 12
TOKEN_METRICS = ["kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"]

g = torch.Generator().manual_seed(23)
base = Gemma3ForCausalLM.from_pretrained(f"{GOLDENS}/model/lora/model", attn_implementation="eager").double()
model = peft.PeftModel.from_pretrained(base, f"{GOLDENS}/model/lora/adapter", is_trainable=True).double().train()
trained = dict(sorted((name, p) for name, p in model.named_parameters() if p.requires_grad))


def words(low, high):
    return torch.randint(3, VOCABULARY, (int(torch.randint(low, high, (1,), generator=g)),), generator=g)


asked, answers = [], []
for _ in range(PROMPTS):
    prompt = words(3, 7)
    for _ in range(GROUP):
        asked.append(prompt)
        answers.append(words(2, 9))
count, longest, widest = len(answers), max(map(len, answers)), max(map(len, asked))
# As in TRL, prompts are padded on the left and answers on the right.
prompt_ids = torch.stack([torch.nn.functional.pad(p, (widest - len(p), 0)) for p in asked])
prompt_mask = torch.stack([(torch.arange(widest) >= widest - len(p)).long() for p in asked])
completion_ids = torch.stack([torch.nn.functional.pad(a, (0, longest - len(a))) for a in answers])
is_answer = torch.stack([(torch.arange(longest) < len(a)).long() for a in answers])
learnt = torch.tensor([1] * (count - 1) + [0])
completion_mask = is_answer * learnt[:, None]  # as with mask_truncated_completions
advantages = torch.tensor([1.0, -0.5, 0.25, -1.5, 2.0, -0.5], dtype=torch.float64)


def logps(self, model, input_ids, attention_mask, logits_to_keep, **_):
    rows = []
    for prompt, answer in zip(asked, answers):  # each alone, so that there is no padding to be seen
        logits = model(input_ids=torch.cat([prompt, answer])[None], use_cache=False).logits[0].double()
        all_ = (logits[len(prompt) - 1 : -1] / TEMPERATURE).log_softmax(-1)
        of_answer = torch.stack([all_.gather(-1, answer[:, None])[:, 0], -(all_.exp() * all_).sum(-1)])
        rows.append(torch.nn.functional.pad(of_answer, (0, logits_to_keep - len(answer))))
    logps, entropies = torch.stack(rows, dim=1)
    return logps, entropies, None


with torch.no_grad():
    now, _, _ = logps(None, model, None, None, longest)
# As if the policy had moved: some tokens beyond the bounds on either side, none at one.
reference = now + 0.3 * torch.randn(now.shape, dtype=torch.float64, generator=g)
old = now + 0.5 * torch.randn(now.shape, dtype=torch.float64, generator=g)
old[1, 0] = now[1, 0] + 1.0  # of an answer that is worse: less likely than may be gained from

accelerator = types.SimpleNamespace(device="cpu", num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x,
                                    reduce=lambda x, reduction="sum": x)


def trainer_of(cls, **settings):
    trainer = object.__new__(cls)
    args = types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1)
    fixed = dict(args=args, accelerator=accelerator, aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
                 importance_sampling_level="token", beta=BETA, epsilon_low=EPSILON, epsilon_high=EPSILON_HIGH, use_vllm=False,
                 vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=1, max_completion_length=LONGEST,
                 _entropy_bonus_enabled=False, use_adaptive_entropy=False, model=types.SimpleNamespace(training=True),
                 _metrics=collections.defaultdict(lambda: collections.defaultdict(list)))
    for name, value in (fixed | settings).items():
        setattr(trainer, name, value)
    trainer._get_per_token_logps_and_entropies = types.MethodType(logps, trainer)
    return trainer


def of_answers(table):
    return torch.cat([table[at, : len(answer)] for at, answer in enumerate(answers)])


out = {"ids": torch.cat([torch.cat(pair) for pair in zip(asked, answers)]),
       "lengths": torch.tensor([len(p) + len(a) for p, a in zip(asked, answers)]), "prompts": torch.tensor([len(p) for p in asked]),
       "learnt": learnt, "advantages": advantages, "old": of_answers(old), "reference": of_answers(reference)}
header = {}
inputs = dict(prompt_ids=prompt_ids, prompt_mask=prompt_mask, completion_ids=completion_ids, completion_mask=completion_mask,
              advantages=advantages, old_per_token_logps=old, ref_per_token_logps=reference,
              old_logps=(old * completion_mask).sum(1), num_items_in_batch=completion_mask.sum())
for kind in ["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "rloo"]:
    cls = RLOOTrainer if kind == "rloo" else GRPOTrainer
    trainer = trainer_of(cls, loss_type=kind, epsilon_high=CISPO_HIGH if kind == "cispo" else EPSILON_HIGH)
    model.zero_grad()
    loss = cls._compute_loss(trainer, model, inputs)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in trained.values()])
    names = {"cispo": ["kl", "cispo_clip_ratio"], "rloo": []}.get(kind, TOKEN_METRICS)
    logged = [trainer._metrics["train"][name][0] for name in names]
    out[f"{kind}.loss"] = loss.detach().double().reshape(1)
    out[f"{kind}.gradient"] = gradient[::STRIDE].float()
    if names:
        out[f"{kind}.metrics"] = torch.tensor(logged, dtype=torch.float64)
        header[f"{kind}.metrics"] = json.dumps(names)
    print(kind, loss.item(), gradient.norm().item(), dict(zip(names, logged)))

rewards = torch.tensor([1.0, 0.0, 0.5, 2.0, -1.0, 0.25, 0.3, 0.3, 0.3], dtype=torch.float64)
groups = rewards.view(-1, GROUP)
mean = groups.mean(1).repeat_interleave(GROUP)
out["rewards"] = rewards
out["advantages.group"] = (rewards - mean) / (nanstd(groups, dim=1).repeat_interleave(GROUP) + 1e-4)
out["advantages.batch"] = (rewards - mean) / (nanstd(rewards) + 1e-4)
out["advantages.none"] = rewards - mean
out["advantages.rloo"] = rewards - ((groups.sum(1, keepdim=True) - groups) / (GROUP - 1)).view(-1)
alone = out["advantages.rloo"]
out["advantages.normalized"] = (alone - alone.mean()) / (nanstd(alone) + 1e-4)
print(out["advantages.group"], out["advantages.normalized"])

settings = {"stride": STRIDE, "epsilon": EPSILON, "epsilon_high": EPSILON_HIGH, "cispo_high": CISPO_HIGH, "beta": BETA,
            "temperature": TEMPERATURE, "max_completion_length": LONGEST, "group": GROUP}
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "trl": trl.__version__}
header |= versions | {"settings": json.dumps(settings)}
save_file({k: v.contiguous() for k, v in out.items()}, f"{GOLDENS}/train/rollouts.safetensors", metadata=header)
