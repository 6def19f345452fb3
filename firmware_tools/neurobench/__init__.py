"""NeuroBench figures of networks of both halves of the chip, as docs/benchmark.md defines them."""
