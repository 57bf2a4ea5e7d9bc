#!/usr/bin/env python3
"""Makes tests/goldens/train/run.safetensors: 20 steps of PEFT on the tiny model and adapter of goldens/model/lora.

usage: make_training_goldens.py [GOLDENS]        (made with torch 2.15.0, transformers 5.23.0, peft 0.21.2)

ids, lengths          the rows one after the other, and their lengths: three of each step; a row's first 3 labels are -100
losses, norms, rates  of each step: the mean over its supervised tokens, the norm of all gradients before clipping, the
                      learning rate
KEY                   the adapter's tensors after the last step, by PEFT's names

AdamW with weight decay, cosine with warm-up, gradients clipped to a norm of 1, in f64 but for what transformers itself
does in f32 (norms, softmax). The header says with which versions the committed file was made; tests/it/training.rs
repeats the settings.
"""
import sys
import peft
import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM

torch.set_num_threads(1)
GOLDENS = sys.argv[1] if len(sys.argv) > 1 else "tests/goldens"
STEPS, ROWS, UNSUPERVISED, VOCABULARY = 20, 3, 3, 320

g = torch.Generator().manual_seed(21)
base = Gemma3ForCausalLM.from_pretrained(f"{GOLDENS}/model/lora/model", attn_implementation="eager").double()
model = peft.PeftModel.from_pretrained(base, f"{GOLDENS}/model/lora/adapter", is_trainable=True).double().train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=5e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
scheduler = transformers.get_scheduler("cosine", optimizer, num_warmup_steps=3, num_training_steps=STEPS)

# Few words, so that there is something to learn.
rows = [torch.randint(3, 40, (int(torch.randint(8, 21, (1,), generator=g)),), generator=g) for _ in range(STEPS * ROWS)]
losses, norms, rates = [], [], []
for step in range(STEPS):
    window = rows[step * ROWS:(step + 1) * ROWS]
    supervised = sum(len(row) - UNSUPERVISED for row in window)
    optimizer.zero_grad()
    total = 0.0
    for row in window:
        labels = row.clone()
        labels[:UNSUPERVISED] = -100
        # Each row alone: no padding, no packing. The model's own loss is a mean over the row, in f32.
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits.double(), labels[1:], reduction="sum") / supervised
        loss.backward()
        total += loss.item()
    losses.append(total)
    norms.append(torch.nn.utils.clip_grad_norm_(trained, 1.0).item())
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    scheduler.step()

out = {"ids": torch.cat(rows), "lengths": torch.tensor([len(row) for row in rows])}
out |= {k: torch.tensor(v, dtype=torch.float64) for k, v in dict(losses=losses, norms=norms, rates=rates).items()}
out |= {k: v.detach().float() for k, v in peft.get_peft_model_state_dict(model).items()}
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
save_file({k: v.contiguous() for k, v in out.items()}, f"{GOLDENS}/train/run.safetensors", metadata=versions)
print([round(x, 4) for x in losses], [round(x, 2) for x in norms])
