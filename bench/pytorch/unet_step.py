"""A training step of nnU-Net's 2-D PlainConvUNet in PyTorch: forward, loss, gradients, clipping, AdamW.

Reads a folder that bench/against-pytorch.ts has written, and prints one JSON document. The network is
dynamic-network-architectures' own; the loss is nnU-Net's with every organ drawn. `reference` computes loss and gradients
once in double precision, which is what every single-precision result is held against.
"""

import json
import struct
import sys
import time
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

SMOOTH = 1e-5
NULL_SHARE = 1e-5
WARM_UPS = 2


def read_bundle(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + place for place in entry["data_offsets"])
        values = np.frombuffer(content[start:end], dtype=np.float32).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


def write_bundle(path, tensors):
    header, parts, place = {}, [], 0
    for name, tensor in tensors.items():
        values = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + len(values)]}
        place += len(values)
        parts.append(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def network(config):
    stages = len(config["featuresPerStage"])
    return PlainConvUNet(
        input_channels=config["inputChannels"],
        n_stages=stages,
        features_per_stage=config["featuresPerStage"],
        conv_op=torch.nn.Conv2d,
        kernel_sizes=config["kernelSizes"],
        strides=config["strides"],
        n_conv_per_stage=config["convsPerStage"],
        num_classes=config["classCount"],
        n_conv_per_stage_decoder=config["convsPerStageDecoder"],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def dice_cross_entropy(logits, classes):
    probabilities = torch.softmax(logits, 1)
    labelled = torch.nn.functional.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    intersection = (probabilities * labelled).sum((0, 2, 3))[1:]
    total = (probabilities.sum((0, 2, 3)) + labelled.sum((0, 2, 3)))[1:]
    dice = (2 * intersection + SMOOTH) / (total + SMOOTH).clamp_min(1e-8)
    return torch.nn.functional.cross_entropy(logits, classes) - dice.mean()


def supervised_loss(outputs, classes, levels):
    weights = [2.0**-level for level in range(levels)]
    losses = []
    for weight, logits in zip(weights, outputs):
        rows, columns = classes.shape[1] // logits.shape[2], classes.shape[2] // logits.shape[3]
        losses.append(weight / sum(weights) * dice_cross_entropy(logits, classes[:, rows // 2 :: rows, columns // 2 :: columns]))
    return sum(losses)


def error_l2(found, expected):
    """The largest relative L2 error of a gradient; what differs by rounding of the largest one has none."""
    largest = max(value.norm() for value in expected.values())
    errors = [0.0]
    for name, value in expected.items():
        difference = (found[name] - value).norm()
        if difference > NULL_SHARE * largest:
            errors.append((difference / value.norm()).item())
    return max(errors)


def gradients_of(model):
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def opened(folder):
    task = json.loads((folder / "task.json").read_text())
    model = network(task["config"])
    # The package names the same modules several times; what is given must all be taken.
    missing, unexpected = model.load_state_dict(read_bundle(folder / "weights.safetensors"), strict=False)
    assert not unexpected and all("all_modules" in name or name.startswith("decoder.encoder") for name in missing)
    batch = read_bundle(folder / "batch.safetensors")
    return task, model, batch["images"].permute(0, 3, 1, 2).contiguous(), batch["classes"].long()


def reference(folder):
    task, model, images, classes = opened(folder)
    loss = supervised_loss(model.double()(images.double()), classes, task["levels"])
    loss.backward()
    write_bundle(folder / "gradients.safetensors", {name: value.float() for name, value in gradients_of(model).items()})
    print(json.dumps({"loss": loss.item()}))


def main(folder, threads, runs, layout):
    torch.set_num_threads(threads)
    task, model, images, classes = opened(folder)
    if layout == "channels_last":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=task["learningRate"], weight_decay=task["weightDecay"])
    seconds, walls, first = [], [], None
    for run in range(WARM_UPS + runs):
        cpu, wall = time.process_time(), time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = supervised_loss(model(images), classes, task["levels"])
        loss.backward()
        if first is None:
            first = loss.item()
            gradient_error = error_l2(gradients_of(model), read_bundle(folder / "gradients.safetensors"))
        torch.nn.utils.clip_grad_norm_(model.parameters(), task["gradientNormL2Max"])
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


if sys.argv[2] == "reference":
    reference(Path(sys.argv[1]))
else:
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
