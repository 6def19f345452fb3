"""Operations of a neuron in a step: additions, multiplications, shifts and comparisons."""

LIF = 4
"""Of MARS: charge, leak, comparison, reset. NeuroBench 2.3.0 has 4 for `Leaky`, either reset."""
IQIF_SOMA = 11
"""Of POPPINS (docs/neuron.md): comparison with the branch point, distance, slope, shift; force,
current, bias and noise added; comparisons with both ends; reset. NeuroBench has no such neuron."""
IQIF_DECAY = 3
"""Of a neuron with tau: shift, comparison with 0, subtraction."""
