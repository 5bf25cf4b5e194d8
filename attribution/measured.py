"""What the search for copies misses of each kind of edit, as last measured. Light.

Measured by `lawful evaluate copy` on paintings of at least 200 px on the short side, at a false-positive rate of at
most 1 in 1,000; benchmarks/results/copy.json has the run. Other pictures, and other edits, are missed more or less
often: flat drawings much more.
"""

MISSED: dict[str, float] = {
    "JPEG-30": 0.0,
    "half size": 0.0,
    "crop to 50 % of the area": 0.0,
    "rotation to 15°": 0.0,
    "grey": 0.0,
    "brightness and contrast ±40 %": 0.0,
    "20 % overlay": 0.0,
    "10 % border": 0.0,
    "flip": 0.0,
    "pasted at 25 % of the area": 1 / 275,
    "four combined": 0.0,
}
