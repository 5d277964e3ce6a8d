"""Files of float32 tensors (safetensors), and how far gradients are from others."""

import json
import struct

import numpy as np
import torch

NULL_SHARE = 1e-5


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
        values = tensor.detach().contiguous().numpy().astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [place, place + len(values)]}
        place += len(values)
        parts.append(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def error_l2(found, expected):
    """The largest relative L2 error of a gradient; what differs by rounding of the largest one has none."""
    largest = max(value.norm() for value in expected.values())
    errors = [0.0]
    for name, value in expected.items():
        difference = (found[name] - value).norm()
        if difference > NULL_SHARE * largest:
            errors.append((difference / value.norm()).item())
    return max(errors)


def gradients_of(parameters):
    return {name: value.grad for name, value in parameters if value.grad is not None}
