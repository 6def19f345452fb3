"""Post-processing with wide multipliers, every clock."""

import cocotb

from tb.mars.tb_post_processing import begin, random_pass


@cocotb.test()
async def wide_multipliers(dut) -> None:
    """Headers of twice the size, second shifts, averages with one."""
    bench = await begin(dut, 14, 1, wide=True)
    passes = []
    for _ in range(30):
        more = {"gap_post_shift": bench.rng.randrange(8), "skip_mult": bench.rng.getrandbits(31)}
        passes.append(random_pass(bench.rng, 1, wide_multiplier=True, **more))
    await bench.run(passes)
