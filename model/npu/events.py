"""Address events on the AXI4-Stream ports: one 64-bit beat each way."""

TDATA_WIDTH = 64
STEP_FIELD = (0, 32)
"""Time step: (lowest bit, width)."""
INDEX_FIELD = (32, 16)
"""Axon (in) or neuron (out), counted within its population."""
POPULATION_FIELD = (48, 8)
FENCE_FIELD = (56, 1)
"""Input only: no event, but the word that all events before `step` have been sent."""


def beat(step: int, population: int, index: int, fence: bool = False) -> int:
    """The beat of an event."""
    return (
        step | index << INDEX_FIELD[0] | population << POPULATION_FIELD[0] | fence << FENCE_FIELD[0]
    )


def read_beat(tdata: int) -> tuple[int, int, int]:
    """(step, population, index) of an event."""
    step, index, population = (
        (tdata >> low) & ((1 << width) - 1)
        for low, width in (STEP_FIELD, INDEX_FIELD, POPULATION_FIELD)
    )
    return step, population, index
