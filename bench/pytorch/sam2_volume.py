"""Stages 0 to 2 of a volume in PyTorch: the prompter on every slice, SAM 2.1 tiny's image encoder, and the questions that
refinement asks about its objects, with the memories that it asks them with.

Reads a folder that bench/volume-against-pytorch.ts has written, with the questions in calls one after another; how boxes
were found and results are merged is no part of it. Prints one JSON document and leaves its masks in the folder.
"""

import json
import sys
import time
from pathlib import Path

import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe
from sam2_tiny import CORNERS, opened_model
from tensor_bundles import read_bundle, write_bundle
from unet_step import network

WARM_UPS = 1
AT_ONCE = 8


def prompted(prompter, slices):
    return [torch.softmax(prompter(some), 1) for some in slices.split(AT_ONCE)]


class Features:
    """Of every slice, as the package has them: levels of [places, slices, channels]."""

    def __init__(self, model, images):
        parts = [model._prepare_backbone_features(model.forward_image(some)) for some in images.split(AT_ONCE)]
        self.levels = [torch.cat([features[level] for _, features, _, _ in parts], 1) for level in range(3)]
        _, _, positions, self.sizes = parts[0]
        self.positions = positions[-1][:, :1]

    def of(self, slices):
        return [level[:, slices] for level in self.levels]


def remembered(model, questions, kept):
    """Tokens and positions [tokens, questions, channels] of memories, then of pointers; every question has as many."""
    tokens, positions = [], []
    for memories in zip(*(question["memories"] for question in questions)):
        features, places, _ = zip(*(kept[memory["of"]] for memory in memories))
        tokens.append(torch.cat(features).flatten(2).permute(2, 0, 1))
        times = torch.cat([model.maskmem_tpos_enc[model.num_maskmem - memory["slot"] - 1] for memory in memories], 1)
        positions.append(torch.cat(places).flatten(2).permute(2, 0, 1) + times)
    pointing = list(zip(*(question["memories"][: model.max_obj_ptrs_in_encoder] for question in questions)))
    pieces = model.hidden_dim // model.mem_dim
    distances = torch.tensor([[memory["distance"] for memory in memories] for memories in pointing])
    ago = get_1d_sine_pe(distances.float() / (model.max_obj_ptrs_in_encoder - 1), dim=model.hidden_dim)
    pointers = torch.stack([torch.cat([kept[memory["of"]][2] for memory in memories]) for memories in pointing])
    split = pointers.unflatten(2, (pieces, model.mem_dim)).permute(0, 2, 1, 3).flatten(0, 1)
    tokens.append(split)
    positions.append(model.obj_ptr_tpos_proj(ago).repeat_interleave(pieces, 0))
    return torch.cat(tokens), torch.cat(positions), split.shape[0]


def answered(model, features, questions, masks, kept):
    """Questions with equally many memories. Keeps a memory of each. Returns masks [questions, 1, S / 4, S / 4]"""
    own = features.of([question["slice"] for question in questions])
    count = len(questions)
    if questions[0]["memories"]:
        memory, places, pointer_tokens = remembered(model, questions, kept)
        attended = model.memory_attention(
            curr=own[-1:],
            curr_pos=[features.positions.expand(-1, count, -1)],
            memory=memory,
            memory_pos=places,
            num_obj_ptr_tokens=pointer_tokens,
        )
    else:
        attended = own[-1] + model.no_mem_embed
    height, width = features.sizes[-1]
    fine = [
        level.permute(1, 2, 0).unflatten(2, size) for level, size in zip(own[:-1], features.sizes[:-1])
    ]
    _, _, _, low, high, pointers, scores = model._forward_sam_heads(
        backbone_features=attended.permute(1, 2, 0).unflatten(2, (height, width)),
        point_inputs={
            "point_coords": torch.tensor([question["box"] for question in questions]),
            "point_labels": torch.tensor([CORNERS] * count, dtype=torch.int32),
        },
        mask_inputs=masks[[question["mask"] for question in questions]][:, None],
        high_res_features=fine,
        multimask_output=False,
    )
    memories, places = model._encode_new_memory(own, features.sizes, high, scores, False)
    for index, question in enumerate(questions):
        kept[question["id"]] = (
            memories[index : index + 1],
            places[-1][index : index + 1],
            pointers[index : index + 1],
        )
    return low


def refined(model, images, calls, masks):
    features = Features(model, images)
    kept, found = {}, {}
    for call in calls:
        for count in {len(question["memories"]) for question in call}:
            alike = [question for question in call if len(question["memories"]) == count]
            for start in range(0, len(alike), AT_ONCE):
                some = alike[start : start + AT_ONCE]
                low = answered(model, features, some, masks, kept)
                found.update((question["id"], low[index, 0]) for index, question in enumerate(some))
    return torch.stack([found[id] for id in range(len(found))])


def main(folder, threads, runs, layout):
    torch.set_num_threads(threads)
    task, model = opened_model(folder)
    model.eval()
    prompter = network(task["prompter"]).eval()
    prompter.decoder.deep_supervision = False
    missing, unexpected = prompter.load_state_dict(read_bundle(folder / "prompter.safetensors"), strict=False)
    assert not unexpected and all("all_modules" in name or name.startswith("decoder.encoder") for name in missing)
    volume = read_bundle(folder / "volume.safetensors")
    slices, images = volume["slices"], volume["images"]
    if layout == "channels_last":
        model, prompter, slices, images = (
            one.to(memory_format=torch.channels_last) for one in (model, prompter, slices, images)
        )
    seconds, walls, masks = [], [], None
    with torch.inference_mode():
        for run in range(WARM_UPS + runs):
            cpu, wall = time.process_time(), time.perf_counter()
            prompted(prompter, slices)
            masks = refined(model, images, task["calls"], volume["masks"])
            if run >= WARM_UPS:
                seconds.append(time.process_time() - cpu)
                walls.append(time.perf_counter() - wall)
    write_bundle(folder / "answers.safetensors", {"masks": masks.contiguous()})
    print(json.dumps({"cpuSeconds": sorted(seconds)[len(seconds) // 2], "wallSeconds": min(walls), "version": torch.__version__}))


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
