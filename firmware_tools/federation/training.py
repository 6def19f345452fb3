"""The network that was found, trained with quantised weights and activations: LG-LSQ."""

from pathlib import Path

import torch

from firmware_tools.federation.evaluation import BITS, keep_groups, normalised
from firmware_tools.federation.partition import Images
from firmware_tools.federation.space import Subnet
from firmware_tools.federation.supernet import Weights
from firmware_tools.quantize.digits import Data
from firmware_tools.quantize.training import Settings, Training

EPOCHS = Settings.epochs


class SubnetTraining(Training):
    """Quantised epochs that begin with the supernet's weights; zeros between groups stay."""

    def __init__(
        self,
        subnet: Subnet,
        weights: Weights,
        images: Images,
        seed: int,
        checkpoint: Path | None = None,
    ) -> None:
        data: Data = images.final
        network = normalised(subnet, weights, data.training.images)
        self._subnet = subnet
        settings = Settings(weight_bits=BITS, act_bits=BITS, seed=seed, epochs=EPOCHS)
        super().__init__(settings, data, checkpoint, network)

    def _enter(self, stage: str) -> None:
        super()._enter(stage)
        if self.twin is not None:
            with torch.no_grad():
                keep_groups(self.twin, self._subnet)
