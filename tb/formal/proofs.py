"""All proofs."""

from tb.formal.harness import Proof
from tb.formal.mars import index_decoder
from tb.formal.npu import post_synaptic, row_walker, soma

MODULES = (soma, post_synaptic, row_walker, index_decoder)
PROOFS: dict[str, Proof] = {proof.name: proof for module in MODULES for proof in module.PROOFS}
"""By name, in the order of the table."""
