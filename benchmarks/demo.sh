#!/usr/bin/env bash
# Fresh clone to finished `make demo`, in seconds; the limit is 300 on two cores. Packages come from pip's usual index.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
begun=$(date +%s)
git clone -q "$source" "$folder/clone"
cd "$folder/clone"
make demo </dev/null
echo "{\"fresh_clone_to_demo_s\": $(($(date +%s) - begun)), \"limit_s\": 300}"
