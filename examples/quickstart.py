"""Train TaughtHash on emoji and print the mAP: the library in a dozen lines."""

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe

taught = recipe("taughthash", num_bits=32, label_rate=0.3)  # model, optimiser, epochs
data = Emoji("data/emoji", pre_transform=taught.transforms)[0]
model = taught.model(data)
taught.fit(model, data)
print(evaluate(model, data))  # mAP i2t, t2i, i2i, t2t and pair recall, with definition
codes = model.encode(data, "image")
