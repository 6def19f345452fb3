"""All proofs."""

from tb.formal import bridge
from tb.formal.board import requests
from tb.formal.bus import axi_lite
from tb.formal.harness import Proof
from tb.formal.mars import (
    index_decoder,
    line_reader,
    loader,
    map_loader,
    membranes,
    requantiser,
    row_unit,
)
from tb.formal.npu import (
    event_input,
    population,
    post_synaptic,
    row_walker,
    soma,
    spike_output,
    weight_memory,
)

MODULES = (
    soma,
    post_synaptic,
    row_walker,
    event_input,
    spike_output,
    population,
    weight_memory,
    axi_lite,
    index_decoder,
    line_reader,
    loader,
    map_loader,
    membranes,
    requantiser,
    row_unit,
    bridge,
    requests,
)
PROOFS: dict[str, Proof] = {proof.name: proof for module in MODULES for proof in module.PROOFS}
"""By name, in the order of the table."""
