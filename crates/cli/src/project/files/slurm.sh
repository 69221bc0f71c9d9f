#!/bin/bash
#SBATCH --job-name=siskin-recipe
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
# sbatch [--nodes=N] slurm.sh, from this folder, which every node must see.
set -eu
GPUS=${SLURM_GPUS_ON_NODE:-4}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export GPUS HEAD
srun bash -c 'START \
  --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS))" --machine_rank "$SLURM_NODEID" \
  --main_process_ip "$HEAD" --main_process_port 29500 \
  SCRIPT'
