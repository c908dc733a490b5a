"""Encode and search with the exported encoder alone: numpy and onnxruntime, no torch.

    pyg-hash export RUN --to onnx --out encoders
    python examples/onnx_encode.py encoders/text.onnx queries.npy database.npy

Features are those that `pyg-hash encode --features` takes: float32 [n, d], before any scaling.
"""

import sys

import numpy as np
import onnxruntime

encoder = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = encoder.get_modelmeta().custom_metadata_map
print(f"{about['class']}, {about['modality']}, {about['num_bits']} bits, {about['model'][:12]}")


def encode(rows: np.ndarray) -> np.ndarray:
    """Packed codes, uint8, 256 at a time, as more are slower; a second output is relaxed codes."""
    parts = [rows[i : i + 256].astype(np.float32) for i in range(0, len(rows), 256)]
    return np.concatenate([encoder.run(None, {"features": part})[0] for part in parts])


codes, others = (encode(np.load(name)) for name in sys.argv[2:4])

distances = np.unpackbits(codes[:, None] ^ others[None], axis=2).sum(axis=2, dtype=np.int32)
for row, nearest in enumerate(np.argsort(distances, axis=1, kind="stable")[:, :5]):
    print(f"query {row}:", ", ".join(f"{item} at {distances[row, item]}" for item in nearest))
