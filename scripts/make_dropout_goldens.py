#!/usr/bin/env python3
"""Makes tests/goldens/train/dropout.safetensors: a linear layer with PEFT's adapters under a known mask, in f64.

usage: make_dropout_goldens.py [OUT]        (made with torch 2.15.0, peft 0.21.2, safetensors 0.8.0)

x, mask, upstream  the input [7, 6], the factors of its dropout (0 or 1 / (1 - p)), the gradient of the output [7, 5]
weight             the frozen weight [5, 6] before PEFT's initialisation changes it
CASE.A, .B, .m     the adapter as it is run; m for DoRA
CASE.A0, .B0       PiSSA's principal part, which PEFT takes out of the weight
CASE.scaling       s of s B A
CASE.y             the output in training mode
CASE.grad.*        the gradients of x, A, B and m

PEFT's own dropout module is replaced by one that multiplies by the mask; all else is PEFT's code. What is given are
numbers that f32 holds. The header says with which versions the committed file was made.
"""
import os, sys
import peft
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

torch.set_num_threads(1)
OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/train"
INPUTS, OUTPUTS, ROWS, P = 6, 5, 7, 0.4
CASES = {
    "lora": dict(),
    "rslora": dict(use_rslora=True),
    "dora": dict(use_dora=True),
    "dora_rslora": dict(use_dora=True, use_rslora=True),
    "pissa": dict(init_lora_weights="pissa"),
    "pissa_rslora": dict(init_lora_weights="pissa", use_rslora=True),
}

g = torch.Generator().manual_seed(11)
normal = lambda *shape: torch.randn(*shape, generator=g).double()
x, upstream, weight = normal(ROWS, INPUTS), normal(ROWS, OUTPUTS), normal(OUTPUTS, INPUTS)
mask = (torch.rand(ROWS, INPUTS, generator=g) >= P).double() * torch.tensor(1 / (1 - P)).float().double()
move_a, move_b, size = 0.3 * normal(2, INPUTS), 0.3 * normal(OUTPUTS, 2), 1 + 0.2 * normal(OUTPUTS)


class Fixed(torch.nn.Module):
    def forward(self, x):
        return x * mask


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
        self.q_proj.weight.data = weight.float().clone()


out = dict(x=x, mask=mask, upstream=upstream, weight=weight)
for case, settings in CASES.items():
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=3, lora_dropout=P, target_modules=["q_proj"], **settings)
    model = get_peft_model(Model(), config).double().train()
    layer = model.base_model.model.q_proj
    layer.lora_dropout["default"] = Fixed()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    if "pissa" in case:
        out |= {f"{case}.A0": a.detach().clone(), f"{case}.B0": b.detach().clone()}
    named = {"A": a, "B": b}
    with torch.no_grad():
        for parameter, move in [(a, move_a), (b, move_b)]:
            parameter.copy_((parameter + move).float())
        if "dora" in case:
            m = layer.lora_magnitude_vector["default"].weight
            m.copy_((m * size).float())
            named["m"] = m
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    (y * upstream).sum().backward()
    out |= {f"{case}.{k}": v.detach().clone() for k, v in named.items()}
    out |= {f"{case}.grad.{k}": v.grad for k, v in named.items()} | {f"{case}.grad.x": leaf.grad}
    out |= {f"{case}.y": y.detach(), f"{case}.scaling": torch.tensor([layer.scaling["default"]]).double()}
    print(case, layer.scaling["default"], y.norm().item())
os.makedirs(OUT, exist_ok=True)
versions = {"torch": torch.__version__, "peft": peft.__version__}
save_file({k: v.contiguous() for k, v in out.items()}, f"{OUT}/dropout.safetensors", metadata=versions)
