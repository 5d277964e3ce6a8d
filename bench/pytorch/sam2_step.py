"""A training step of RFMedSAM 2's adapters on a frozen SAM 2.1 in PyTorch: two slices, one object, the second slice with
the memory of the first, for each clip of a batch. Forward, loss, gradients, clipping, AdamW.

Reads a folder that bench/against-pytorch.ts has written, and prints one JSON document. SAM 2.1 is the package `sam2`; the
adapters are written here. No gradient goes through a memory. `reference` computes loss and gradients once in double
precision, which is what every single-precision result is held against.
"""

import json
import sys
import types
from pathlib import Path

import torch
from sam2.build_sam import build_sam2
from sam2.modeling.backbones.hieradet import do_pool
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from tensor_bundles import gradients_of, read_bundle, write_bundle
from timed_steps import time_steps
from torch.nn import functional

EPSILON = 1e-6
DICE_SMOOTH = 1
CORNERS = [2, 3]


class DwconvAdapter(torch.nn.Module):
    """Of images [B, H, W, C] with channels last, or of their places in a row [B, H * W, C]."""

    def __init__(self, channels, width):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(channels, eps=EPSILON)
        self.fc1 = torch.nn.Linear(channels, width)
        self.dwconv = torch.nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm2 = torch.nn.LayerNorm(width, eps=EPSILON)
        self.fc2 = torch.nn.Linear(width, channels)

    def forward(self, x):
        narrow = self.fc1(self.norm1(x))
        side = int(narrow.shape[1] ** 0.5)
        image = narrow if narrow.dim() == 4 else narrow.unflatten(1, (side, side))
        local = self.dwconv(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(narrow.shape)
        return x + self.fc2(self.norm2(functional.gelu(local)))


class CnnAdapter(torch.nn.Module):
    """Of images [B, C, H, W]."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, width, 1)
        self.dwconv = torch.nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv2 = torch.nn.Conv2d(width, channels, 1)

    def forward(self, x):
        return x + self.conv2(self.dwconv(functional.gelu(self.conv1(x))))


def adapted_block(self, x):
    """A block of Hiera whose attention has an adapter behind it, on the whole image again."""
    shortcut, x = x, self.norm1(x)
    if self.dim != self.dim_out:
        shortcut = do_pool(self.proj(x), self.pool)
    window, (height, width) = self.window_size, x.shape[1:3]
    if window > 0:
        x, padded = window_partition(x, window)
    x = self.attn(x)
    if self.q_stride:
        window //= self.q_stride[0]
        height, width = shortcut.shape[1:3]
        padded = [side + (window - side % window) % window for side in (height, width)] if window > 0 else None
    if window > 0:
        x = window_unpartition(x, window, tuple(padded), (height, width))
    x = shortcut + self.attn.adapter(x)
    return x + self.mlp(self.norm2(x))


def add_adapters(model, divisor):
    channels = model.hidden_dim
    for block in model.image_encoder.trunk.blocks:
        block.attn.adapter = DwconvAdapter(block.dim_out, block.dim_out // divisor)
        block.forward = types.MethodType(adapted_block, block)
    behind = [layer.cross_attn_image_to_token for layer in model.sam_mask_decoder.transformer.layers]
    for layer in model.memory_attention.layers:
        behind += [layer.self_attn, layer.cross_attn_image]
    for attention in behind:
        attention.adapter = DwconvAdapter(channels, channels // divisor)
        attention.register_forward_hook(lambda module, _, found: module.adapter(found))
    # The first level is dropped behind the neck. Each is a sequence of modules, which the adapter lengthens.
    for level in list(model.image_encoder.neck.convs)[model.image_encoder.scalp :]:
        level.adapter = CnnAdapter(channels, channels // divisor)


def opened(folder):
    task = json.loads((folder / "task.json").read_text())
    model = build_sam2(
        f"configs/sam2.1/{task['published']}",
        device="cpu",
        hydra_overrides_extra=[f"++model.image_size={task['size']}"],
        apply_postprocessing=False,
    )
    add_adapters(model, task["divisor"])
    model.load_state_dict(read_bundle(folder / "weights.safetensors"), strict=True)
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
