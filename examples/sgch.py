"""SGCH on emoji: three labels in ten; the codes and the modality discriminator take turns."""

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import SGCH
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures, SGCHGraph

torch.manual_seed(0)
raw = Emoji("data/emoji")[0]
new_texts = raw["text"].x[:3]  # as the data set delivers them: the model scales them itself
data = T.Compose([LabelRate(0.3), ScaleFeatures(), SGCHGraph(k=20)])(raw)

model = SGCH(data.num_features, num_classes=data.num_classes, num_bits=32)
optimizers = {  # one for each part; torch.optim.Adam(model.parameters(), ...) would do as well
    part: torch.optim.Adam(parameters, lr=5e-3) for part, parameters in model.parts().items()
}
history = fit(model, data, optimizers, epochs=80)
print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
print(evaluate(model, data))
print(model.encode_text(new_texts)[:, :8])  # joined to their nearest anchors, one by one
