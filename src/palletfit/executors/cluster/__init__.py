"""Fits in jobs of a Slurm cluster, by workers of Parsl or Dask."""
