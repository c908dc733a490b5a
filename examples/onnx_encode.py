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

queries, database = (np.load(name).astype(np.float32) for name in sys.argv[2:4])
codes, relaxed = encoder.run(None, {"features": queries})  # packed uint8, float32
others, _ = encoder.run(None, {"features": database})

distances = np.bitwise_count(codes[:, None] ^ others[None]).sum(axis=2, dtype=np.int32)
for row, nearest in enumerate(np.argsort(distances, axis=1, kind="stable")[:, :5]):
    print(f"query {row}:", ", ".join(f"{item} at {distances[row, item]}" for item in nearest))
