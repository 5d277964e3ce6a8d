"""SAM 2.1 of the package `sam2` with RFMedSAM 2's adapters, which are written here."""

import json
import types

import torch
from sam2.build_sam import build_sam2
from sam2.modeling.backbones.hieradet import do_pool
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from tensor_bundles import read_bundle
from torch.nn import functional

EPSILON = 1e-6
# SAM 2's labels for the corners of a box.
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


def opened_model(folder):
    task = json.loads((folder / "task.json").read_text())
    model = build_sam2(
        f"configs/sam2.1/{task['published']}",
        device="cpu",
        hydra_overrides_extra=[f"++model.image_size={task['size']}"],
        apply_postprocessing=False,
    )
    add_adapters(model, task["divisor"])
    model.load_state_dict(read_bundle(folder / "weights.safetensors"), strict=True)
    return task, model
