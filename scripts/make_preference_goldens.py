#!/usr/bin/env python3
"""Makes tests/goldens/train/preference.safetensors: one step of each of TRL's losses of pairs and of single answers, on the tiny
model and adapter of goldens/model/lora.

usage: make_preference_goldens.py [GOLDENS]    (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2, trl 1.16.0)

ids, lengths, prompts   the sequences one after the other, chosen and rejected of each pair in turn; their lengths; how many
                        tokens of each are the prompt, which has no loss
reference               the summed log-probability of each sequence's answer under the model without its adapter
KIND.loss               of `sigmoid`, `ipo`, .. and of `mix`, which is sigmoid and 0.3 times sft: TRL's loss of all pairs
KIND.gradient           its gradient: of every parameter of the adapter in turn (PEFT's names, sorted), every STRIDEth value
KIND.norm               the norm of all of it
metrics                 what TRL logs, in the order of the header's `metrics`; the same for each loss of DPO
KIND.metrics            of the other kinds, in the order of the header's `KIND.metrics`: `orpo`, `orpo_answer` (whose likelihood is
                        that of the answer alone), `cpo`, `cpo_hinge`, `cpo_ipo`, `simpo`, `alphapo`, `kto`, `apo_zero_unpaired`. Of the last two each sequence is a
                        row, in turn a good and a bad one, and each is read with the answer of the row before it, too
mismatched              the reference of those, moved so that there is a divergence
head                    a head of one row over the normalised hidden rows, which judges each sequence by its last token
KIND.head_gradient      its gradient with `reward`, and with `reward_centred`, which has margins and a penalty beside
margins                 by how much each pair's chosen answer is better

TRL's own code computes losses and metrics: `DPOTrainer._compute_loss` and its like, on a trainer that has only what it asks for,
and on log-probabilities in f64 (but for what transformers, and ORPO, do in f32).
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
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

torch.set_num_threads(1)
GOLDENS = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens"
PAIRS, VOCABULARY, BETA, SMOOTHING, STRIDE = 3, 320, 0.4, 0.1, 11
CPO_ALPHA, SIMPO_GAMMA, ALPHA, DESIRABLE, UNDESIRABLE, CENTRE = 0.3, 0.5, 0.25, 1.5, 0.7, 0.25
KINDS = ["sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
         "sigmoid_norm"]
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"]

g = torch.Generator().manual_seed(15)
base = Gemma3ForCausalLM.from_pretrained(f"{GOLDENS}/model/lora/model", attn_implementation="eager").double()
model = peft.PeftModel.from_pretrained(base, f"{GOLDENS}/model/lora/adapter", is_trainable=True).double().train()
trained = dict(sorted((name, p) for name, p in model.named_parameters() if p.requires_grad))


def words(low, high):
    return torch.randint(3, VOCABULARY, (int(torch.randint(low, high, (1,), generator=g)),), generator=g)


sequences, prompts = [], []
for _ in range(PAIRS):
    prompt = words(3, 7)
    for _ in range(2):
        sequences.append(torch.cat([prompt, words(2, 9)]))
        prompts.append(len(prompt))
# TRL's order: all that are chosen, then all that are rejected.
order = list(range(0, 2 * PAIRS, 2)) + list(range(1, 2 * PAIRS, 2))
longest = max(len(s) for s in sequences)
ids = torch.stack([torch.nn.functional.pad(sequences[i], (0, longest - len(sequences[i]))) for i in order])
at = torch.arange(longest)
attention_mask = torch.stack([(at < len(sequences[i])).long() for i in order])
completion_mask = torch.stack([((at >= prompts[i]) & (at < len(sequences[i]))).long() for i in order])


class Policy(torch.nn.Module):
    """The model with the outputs of TRL's fused head."""

    def forward(self, input_ids, attention_mask, labels, **_):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1].double()
        logps, next_ids, learnt = logits.log_softmax(-1), input_ids[:, 1:], labels[:, 1:] != -100
        of_targets = logps.gather(-1, next_ids[..., None])[..., 0]
        return types.SimpleNamespace(
            log_probs=torch.where(learnt, of_targets, torch.zeros_like(of_targets)), entropy=-(logps.exp() * logps).sum(-1),
            mean_logits=logits.mean(-1), is_top1=logits.argmax(-1) == next_ids)


policy = Policy()
labels = ids.masked_fill(completion_mask == 0, -100)
with torch.no_grad(), model.disable_adapter():
    reference = policy(ids, attention_mask, labels).log_probs.sum(1)
accelerator = types.SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
inputs = dict(input_ids=ids, attention_mask=attention_mask, completion_mask=completion_mask,
              ref_chosen_logps=reference[:PAIRS], ref_rejected_logps=reference[PAIRS:])

out = {"ids": torch.cat(sequences), "lengths": torch.tensor([len(s) for s in sequences]), "prompts": torch.tensor(prompts)}
of_sequence = torch.empty(2 * PAIRS, dtype=torch.float64)
of_sequence[order] = reference
out["reference"] = of_sequence
for kind in KINDS + ["mix"]:
    types_, weights = (["sigmoid", "sft"], [1.0, 0.3]) if kind == "mix" else ([kind], [1.0])
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True), accelerator=accelerator, aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=types_, loss_weights=weights, beta=BETA,
        label_smoothing=SMOOTHING, use_weighting=False, _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _total_train_tokens=0, _tp_size=1)
    model.zero_grad()
    loss = DPOTrainer._compute_loss(trainer, policy, inputs, False)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in trained.values()])
    out[f"{kind}.loss"] = loss.detach().double().reshape(1)
    out[f"{kind}.gradient"] = gradient[::STRIDE].float()
    out[f"{kind}.norm"] = gradient.norm().reshape(1)
    out["metrics"] = torch.tensor([trainer._metrics["train"][name][0] for name in METRICS], dtype=torch.float64)
    print(kind, loss.item(), gradient.norm().item())
print(dict(zip(METRICS, out["metrics"].tolist())), len(gradient))


def save(kind, loss, metrics):
    gradient = torch.cat([p.grad.flatten() for p in trained.values()])
    out[f"{kind}.loss"] = loss.detach().double().reshape(1)
    out[f"{kind}.gradient"] = gradient[::STRIDE].float()
    out[f"{kind}.norm"] = gradient.norm().reshape(1)
    out[f"{kind}.metrics"] = torch.tensor([float(torch.as_tensor(value).detach()) for value in metrics.values()], dtype=torch.float64)
    header[f"{kind}.metrics"] = json.dumps(list(metrics))
    print(kind, loss.item(), gradient.norm().item(), metrics)


class Unfused(torch.nn.Module):
    """The model with logits in f64."""

    def forward(self, input_ids, attention_mask, **_):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return types.SimpleNamespace(logits=logits.double())


def trainer_of(cls, **settings):
    trainer = object.__new__(cls)
    for name, value in dict(is_encoder_decoder=False, padding_value=0, pad_token_id=0, accelerator=accelerator,
                            aux_loss_enabled=False, beta=BETA, **settings).items():
        setattr(trainer, name, value)
    return trainer


# Without TRL's padding of sequences apart, which its collator makes: these are of one length already.
pairs = {}
for name, part in (("chosen", slice(0, PAIRS)), ("rejected", slice(PAIRS, None))):
    pairs |= {f"{name}_input_ids": ids[part], f"{name}_attention_mask": attention_mask[part], f"{name}_labels": labels[part]}
header = {}
of_pairs = {
    "orpo": trainer_of(ORPOTrainer),
    "cpo": trainer_of(CPOTrainer, label_smoothing=SMOOTHING, loss_type="sigmoid", cpo_alpha=CPO_ALPHA, alpha=0.0),
    "simpo": trainer_of(CPOTrainer, label_smoothing=SMOOTHING, loss_type="simpo", cpo_alpha=CPO_ALPHA, alpha=0.0,
                        simpo_gamma=SIMPO_GAMMA),
    "cpo_hinge": trainer_of(CPOTrainer, label_smoothing=0.0, loss_type="hinge", cpo_alpha=CPO_ALPHA, alpha=0.0),
    "cpo_ipo": trainer_of(CPOTrainer, label_smoothing=0.0, loss_type="ipo", cpo_alpha=CPO_ALPHA, alpha=0.0),
    "alphapo": trainer_of(CPOTrainer, label_smoothing=SMOOTHING, loss_type="simpo", cpo_alpha=CPO_ALPHA, alpha=ALPHA,
                          simpo_gamma=SIMPO_GAMMA),
}
for kind, trainer in of_pairs.items():
    model.zero_grad()
    loss, metrics = trainer.get_batch_loss_metrics(Unfused(), pairs)
    loss.backward()
    save(kind, loss, {name: value for name, value in metrics.items() if not name.startswith("logits/")})
# The likelihood of the answer alone: no code of TRL's, but what its code would do with other labels.
model.zero_grad()
logps = Unfused()(ids, attention_mask).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
learnt = completion_mask[:, 1:].bool()
per_token = (logps * learnt).sum(1) / learnt.sum(1)
losses, *_ = of_pairs["orpo"].odds_ratio_loss(per_token[:PAIRS], per_token[PAIRS:])
nll = -logps[:PAIRS][learnt[:PAIRS]].mean()
loss = nll - losses.mean()
loss.backward()
save("orpo_answer", loss, {"nll_loss": nll.detach()})


def padded(rows, prompts_of):
    longest = max(len(row) for row in rows)
    at = torch.arange(longest)
    return [torch.stack(made) for made in zip(*[
        (torch.nn.functional.pad(row, (0, longest - len(row))), (at < len(row)).long(),
         ((at >= prompt) & (at < len(row))).long())
        for row, prompt in zip(rows, prompts_of)])]


answers = [row[prompt:] for row, prompt in zip(sequences, prompts)]
others = [torch.cat([row[:prompt], answer]) for row, prompt, answer in zip(sequences, prompts, answers[-1:] + answers[:-1])]
rows = dict(zip(("input_ids", "attention_mask", "completion_mask"), padded(sequences, prompts)))
rows |= dict(zip(("KL_input_ids", "KL_attention_mask", "KL_completion_mask"), padded(others, prompts)))
rows |= dict(label=torch.tensor([True, False] * PAIRS), ref_logps=of_sequence)
with torch.no_grad(), model.disable_adapter():
    of_others = rows["KL_input_ids"].masked_fill(rows["KL_completion_mask"] == 0, -100)
    # Of a random adapter the divergence would be below 0, and not count: as if the reference said less of these.
    rows["ref_KL_logps"] = policy(rows["KL_input_ids"], rows["KL_attention_mask"], of_others).log_probs.sum(1) - 3
out["mismatched"] = rows["ref_KL_logps"]
for kind in ("kto", "apo_zero_unpaired"):
    trainer = trainer_of(KTOTrainer, calculate_KL=kind == "kto", loss_type=kind, precompute_ref_logps=True,
                         desirable_weight=DESIRABLE, undesirable_weight=UNDESIRABLE, _total_train_tokens=0, _tp_size=1)
    trainer.model = types.SimpleNamespace(training=True)
    trainer._metrics = collections.defaultdict(lambda: collections.defaultdict(list))
    model.zero_grad()
    loss = trainer._compute_loss(policy, rows, False)
    loss.backward()
    names = ["kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"]
    save(kind, loss, {name: trainer._metrics["train"][name][0] for name in names})


class Judge(torch.nn.Module):
    """The model with a head of one row, as transformers reads it: at the last token that is no padding."""

    def forward(self, input_ids, attention_mask, **_):
        hidden = model.get_base_model().model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        ends = attention_mask.sum(1) - 1
        return types.SimpleNamespace(logits=hidden[torch.arange(len(ends)), ends] @ head.T)


head = torch.nn.Parameter(torch.randn(1, base.config.hidden_size, generator=torch.Generator().manual_seed(7)).double() * 0.05)
out["head"], out["margins"] = head.detach().float(), torch.tensor([0.5, 0.0, -0.25])
head.data = out["head"].double()
for kind, centre in (("reward", None), ("reward_centred", CENTRE)):
    trainer = object.__new__(RewardTrainer)
    trainer.model = types.SimpleNamespace(training=True)
    trainer.args = types.SimpleNamespace(center_rewards_coefficient=centre)
    trainer.accelerator, trainer._total_train_tokens, trainer._tp_size = accelerator, 0, 1
    trainer._metrics = collections.defaultdict(lambda: collections.defaultdict(list))
    model.zero_grad()
    head.grad = None
    judged = dict(input_ids=ids, attention_mask=attention_mask)
    loss = trainer.compute_loss(Judge(), judged | ({} if centre is None else {"margin": out["margins"].double()}))
    loss.backward()
    out[f"{kind}.head_gradient"] = head.grad.float()
    names = ["accuracy", "margin", "mean_reward", "min_reward", "max_reward"]
    save(kind, loss, {name: trainer._metrics["train"][name][0] for name in names})

versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "trl": trl.__version__}
settings = {"beta": BETA, "label_smoothing": SMOOTHING, "stride": STRIDE, "cpo_alpha": CPO_ALPHA, "simpo_gamma": SIMPO_GAMMA, "alpha": ALPHA,
            "desirable_weight": DESIRABLE, "undesirable_weight": UNDESIRABLE, "center_rewards_coefficient": CENTRE}
header |= versions | {"metrics": json.dumps(METRICS), "settings": json.dumps(settings)}
save_file({k: v.contiguous() for k, v in out.items()}, f"{GOLDENS}/train/preference.safetensors", metadata=header)
