#!/usr/bin/env python3
"""Makes tests/goldens/train/optimizer.safetensors: 50 updates of one adapter by PyTorch's optimisers, in f64.

usage: make_optimizer_goldens.py [OUT]        (made with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0)

start.A, start.B    the parameters before the first update
gradients.A, .B     the gradients of every update, [50, ..], the same for each case: small and large ones, updates above
                    and below the norm that is clipped to, and one entry that is always 0
steps               the updates after which parameters are kept
CASE.A, CASE.B      the parameters after these updates
CASE.rates, .norms  the learning rate of each update, and the norm of its gradients before clipping

Everything is f64; parameters and gradients are numbers that f32 holds, so that both sides begin with the same. On the way
each optimiser is put away as its `state_dict` and a new one goes on from it: a warm start is part of what is compared.
The header says with which versions the committed file was made; tests/it/optimizer.rs repeats the cases.
"""
import os, sys
import torch
import transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/train"
UPDATES, WARM_START, STEPS = 50, 20, [1, 2, 3, 10, 20, 21, 35, 50]
SHAPES = {"A": (3, 5), "B": (4, 3)}
ADAMW = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
# name: optimiser, its settings, largest norm (0: none), schedule, warm-up
CASES = {
    "adamw": ("AdamW", dict(ADAMW), 0.0, "constant_with_warmup", 0),
    "adamw_decay_clip_cosine": ("AdamW", dict(ADAMW, weight_decay=0.1), 1.0, "cosine", 5),
    "adamw_other_betas_linear": ("AdamW", dict(betas=(0.8, 0.95), eps=1e-3, weight_decay=0.01), 0.5, "linear", 3),
    "sgd": ("SGD", dict(), 0.0, "constant_with_warmup", 4),
    "sgd_clip": ("SGD", dict(), 0.5, "cosine", 0),
    "sgd_momentum_decay_clip_linear": ("SGD", dict(momentum=0.9, weight_decay=0.05), 1.0, "linear", 2),
}
RATE = 0.05

g = torch.Generator().manual_seed(9)
f32 = lambda t: t.float().double()
start = {k: f32(torch.randn(s, generator=g)) for k, s in SHAPES.items()}
sizes = {k: torch.exp(1.5 * torch.randn(s, generator=g)) for k, s in SHAPES.items()}  # entries of very different size
steps = 0.015 * torch.exp(torch.randn(UPDATES, 1, 1, generator=g))  # and updates
gradients = {k: f32(steps * sizes[k] * (0.3 + torch.randn(UPDATES, *s, generator=g))) for k, s in SHAPES.items()}
gradients["A"][:, 1, 2] = 0.0


def make(kind, parameters, settings, schedule, warmup):
    optimizer = getattr(torch.optim, kind)(parameters, lr=RATE, foreach=False, **settings)
    return optimizer, transformers.get_scheduler(schedule, optimizer, warmup, UPDATES)


def run(kind, settings, largest, schedule, warmup):
    parameters = [torch.nn.Parameter(start[k].clone()) for k in SHAPES]
    optimizer, scheduler = make(kind, parameters, settings, schedule, warmup)
    rates, norms, kept = [], [], {k: [] for k in SHAPES}
    for update in range(UPDATES):
        if update == WARM_START:
            states = optimizer.state_dict(), scheduler.state_dict()
            parameters = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
            optimizer, scheduler = make(kind, parameters, settings, schedule, warmup)
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
        for p, k in zip(parameters, SHAPES):
            p.grad = gradients[k][update].clone()
        bound = largest if largest > 0 else float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, bound, foreach=False).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        if update + 1 in STEPS:
            for p, k in zip(parameters, SHAPES):
                kept[k].append(p.detach().clone())
    return rates, norms, {k: torch.stack(v) for k, v in kept.items()}


out = {f"start.{k}": v for k, v in start.items()} | {f"gradients.{k}": v for k, v in gradients.items()}
out["steps"] = torch.tensor(STEPS)
for case, (kind, settings, largest, schedule, warmup) in CASES.items():
    rates, norms, kept = run(kind, settings, largest, schedule, warmup)
    out |= {f"{case}.rates": rates, f"{case}.norms": norms}
    out |= {f"{case}.{k}": v for k, v in kept.items()}
    clipped = sum(0 < largest < norm for norm in norms)
    moved = sum((kept[k][-1] - start[k]).square().sum() for k in SHAPES).sqrt().item()
    print(f"{case}: norms {min(norms):.2f} to {max(norms):.2f}, {clipped} clipped, moved by {moved:.2f}")
out = {k: (v if torch.is_tensor(v) else torch.tensor(v, dtype=torch.float64)).contiguous() for k, v in out.items()}
os.makedirs(OUT, exist_ok=True)
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
save_file(out, f"{OUT}/optimizer.safetensors", metadata=versions)
