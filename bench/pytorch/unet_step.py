"""A training step of nnU-Net's 2-D PlainConvUNet in PyTorch: forward, loss, gradients, clipping, AdamW.

Reads a folder that bench/against-pytorch.ts has written, and prints one JSON document. The network is
dynamic-network-architectures' own; the loss is nnU-Net's with every organ drawn. `reference` computes loss and gradients
once in double precision, which is what every single-precision result is held against.
"""

import json
import sys
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from tensor_bundles import gradients_of, read_bundle, write_bundle
from timed_steps import time_steps

SMOOTH = 1e-5


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
    write_bundle(folder / "gradients.safetensors", gradients_of(model.named_parameters()))
    print(json.dumps({"loss": loss.item()}))


def main(folder, threads, runs, layout):
    torch.set_num_threads(threads)
    task, model, images, classes = opened(folder)
    if layout == "channels_last":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    loss_of = lambda: supervised_loss(model(images), classes, task["levels"])
    time_steps(folder, task, list(model.named_parameters()), loss_of, runs)


if __name__ == "__main__" and sys.argv[2] == "reference":
    reference(Path(sys.argv[1]))
elif __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
