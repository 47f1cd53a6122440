"""Model folders for other programs: adapters merged, another dtype, shards; checked against their source."""
