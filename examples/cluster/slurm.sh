#!/bin/bash
# Four ranks, one a machine: sbatch examples/cluster/slurm.sh config.yaml
# The folder of the job, the model and the rows must be on storage that all machines share.
#SBATCH --job-name=revmoe
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
# Ten minutes before the time is over srun's tasks get SIGTERM: the run saves behind its step.
#SBATCH --signal=TERM@600

# A job that is requeued has a SLURM_RESTART_COUNT, and goes on from its newest checkpoint.
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
# srun has not taken over --cpus-per-task from sbatch since Slurm 22.05.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 revmoe train "$@"
