"""Steps of training, timed: gradients, clipping, AdamW. Prints one JSON document."""

import json
import time

import torch
from tensor_bundles import error_l2, gradients_of, read_bundle

WARM_UPS = 2


def time_steps(folder, task, named, loss_of, runs):
    """`named` are the trained tensors; what has one axis does not decay."""
    decays = [value for _, value in named if value.dim() > 1]
    others = [value for _, value in named if value.dim() <= 1]
    groups = [{"params": decays, "weight_decay": task["weightDecay"]}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=task["learningRate"])
    seconds, walls, first, gradient_error = [], [], None, None
    for run in range(WARM_UPS + runs):
        cpu, wall = time.process_time(), time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        if first is None:
            first = loss.item()
            gradient_error = error_l2(gradients_of(named), read_bundle(folder / "gradients.safetensors"))
        torch.nn.utils.clip_grad_norm_([value for _, value in named], task["gradientNormL2Max"])
        optimiser.step()
        if run >= WARM_UPS:
            seconds.append(time.process_time() - cpu)
            walls.append(time.perf_counter() - wall)
    print(json.dumps({
        "loss": first,
        "gradientError": gradient_error,
        "cpuSeconds": sorted(seconds)[len(seconds) // 2],
        "wallSeconds": min(walls),
        "version": torch.__version__,
    }))
