"""A training step of RFMedSAM 2's adapters on a frozen SAM 2.1 in PyTorch: two slices, one object, the second slice with
the memory of the first, for each clip of a batch. Forward, loss, gradients, clipping, AdamW.

Reads a folder that bench/against-pytorch.ts has written, and prints one JSON document. No gradient goes through a memory.
`reference` computes loss and gradients once in double precision, which is what every single-precision result is held
against.
"""

import json
import sys
from pathlib import Path

import torch
from sam2_tiny import CORNERS, opened_model
from tensor_bundles import gradients_of, read_bundle, write_bundle
from timed_steps import time_steps
from torch.nn import functional

DICE_SMOOTH = 1


def opened(folder):
    task, model = opened_model(folder)
    for name, value in model.named_parameters():
        value.requires_grad_(".adapter." in name)
    return task, model, read_bundle(folder / "batch.safetensors")


def answers(model, images, boxes):
    """Masks, estimated overlaps and object scores of both slices. `images` [2, B, 3, S, S], `boxes` [2, B, 2, 2]"""
    clips = images.shape[1]
    _, features, positions, sizes = model._prepare_backbone_features(model.forward_image(images.flatten(0, 1)))
    found, kept = [], {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for frame in (0, 1):
        some = slice(frame * clips, (frame + 1) * clips)
        own, places = [level[:, some] for level in features], [level[:, some] for level in positions]
        points = {"point_coords": boxes[frame], "point_labels": torch.tensor([CORNERS] * clips, dtype=torch.int32)}
        current, (_, _, ious, low, high, pointer, scores), _, _ = model._track_step(
            frame, frame == 0, own, places, sizes, points, None, kept, 2, False, None
        )
        found.append((low[:, 0], ious, scores))
        if frame == 0:
            with torch.no_grad():
                model._encode_memory_in_output(own, sizes, points, True, high, scores, current)
            kept["cond_frame_outputs"][0] = {**current, "obj_ptr": pointer.detach()}
    return found


def mask_loss(masks, ious, scores, targets, weights):
    """Cross-entropy, Dice, the squared error of the estimated overlap, and whether the object is there."""
    entropy = functional.binary_cross_entropy_with_logits(masks, targets, reduction="none").mean((1, 2))
    shares = masks.sigmoid()
    common, total = (shares * targets).sum((1, 2)), (shares + targets).sum((1, 2))
    dice = 1 - (2 * common + DICE_SMOOTH) / (total + DICE_SMOOTH)
    with torch.no_grad():
        drawn, wanted = masks > 0, targets > 0.5
        overlap = (drawn & wanted).sum((1, 2)) / (drawn | wanted).sum((1, 2)).clamp_min(1)
    object_loss = functional.binary_cross_entropy_with_logits(scores[:, 0], torch.ones_like(scores[:, 0]))
    error = (ious[:, 0] - overlap).square()
    terms = weights["mask"] * entropy + weights["dice"] * dice + weights["iou"] * error
    return terms.mean() + weights["object"] * object_loss


def loss_of(model, batch, weights):
    each = answers(model, batch["images"], batch["boxes"])
    losses = [mask_loss(*answer, targets, weights) for answer, targets in zip(each, batch["targets"])]
    return sum(losses) / len(losses)


def trained(model):
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


def reference(folder):
    task, model, batch = opened(folder)
    # The package asks for single precision in places.
    torch.set_default_dtype(torch.float64)
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    loss = loss_of(model.double(), {name: value.double() for name, value in batch.items()}, task["loss"])
    loss.backward()
    write_bundle(folder / "gradients.safetensors", gradients_of(trained(model)))
    print(json.dumps({"loss": loss.item()}))


def main(folder, threads, runs, layout):
    torch.set_num_threads(threads)
    task, model, batch = opened(folder)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        batch["images"] = batch["images"].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    time_steps(folder, task, trained(model), lambda: loss_of(model, batch, task["loss"]), runs)


if sys.argv[2] == "reference":
    reference(Path(sys.argv[1]))
else:
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
