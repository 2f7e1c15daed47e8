#!/bin/sh
# Question: what do pruning single weights and pruning whole filters cost, at the same share removed?
# Six runs of the embedded digits model, a minute or two on a laptop; extra overrides are passed on:
#   sh sweeps/basic_interplay_experiment.sh results_dir=/tmp/results
set -eu
cd "$(dirname "$0")/.."
python evaluate.py -m model=digits_cnn compressor=level,l1_filter compressor.sparsity=0.3,0.5,0.7 "$@"
for override in "$@"; do
    case $override in results_dir=*) set -- "$override" && break ;; *) shift ;; esac
done
python report.py "$@"
