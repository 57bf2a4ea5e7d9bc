"""Prints the golden learning rates of `src/train/schedule.rs`, as Rust tests.

Made with transformers 5.23.0 and torch 2.15.0. Run: python scripts/make_schedule_goldens.py
"""

import torch
from transformers import get_scheduler

LEARNING_RATE = 2e-4
CASES = [
    ("constant_with_warmup", "Constant", 0, 20),
    ("constant_with_warmup", "Constant", 4, 20),
    ("linear", "Linear", 0, 20),
    ("linear", "Linear", 3, 20),
    ("cosine", "Cosine", 0, 20),
    ("cosine", "Cosine", 3, 100),
]

for name, kind, warmup, total in CASES:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    rates = []
    for _ in range(total + 2):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    steps = sorted({0, 1, 2, 3, 4, total // 3, total // 2, total - 2, total - 1, total})
    print(f"    #[test]\n    fn {kind.lower()}_with_warmup_{warmup}_of_{total}_equals_transformers() {{")
    print(f"        let expected = &[{', '.join(f'({step}, {rates[step]!r})' for step in steps)}];")
    print(f"        assert_close(Kind::{kind}, {warmup}, {total}, expected);\n    }}\n")
