#!/bin/bash
#SBATCH --job-name=siskin-recipe
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
# sbatch slurm.sh, from this folder.
set -eu
python train.py --resume
