"""What the evidence engine is worth, measured: suites over any collection, with baselines, controls and intervals."""
