#!/bin/sh
# Question: which criterion keeps most of the accuracy at each share of filters removed?
# 25 jobs of the embedded digits model as one array; options are passed on, of sbatch among them:
#   sh sweeps/criteria_on_a_cluster.sh hydra.launcher.options.partition=cpu
#   sh sweeps/criteria_on_a_cluster.sh dry_run=true        the scripts and the table of jobs
#   sh sweeps/criteria_on_a_cluster.sh mode=local hydra.launcher.n_jobs=4        without a cluster
# The same command sends only what is not committed; python -m cluster status SWEEP looks at it.
set -eu
cd "$(dirname "$0")/.."
case " $* " in *" mode="*) ;; *) set -- mode=cluster "$@" ;; esac
python evaluate.py -m model=digits_cnn compressor=l1_filter,l2_filter,fpgm,taylor_fo_weight,random_filter \
    compressor.sparsity=0.1,0.3,0.5,0.7,0.9 "$@"
