"""Parts that scripts of the Snakemake workflow share; imports no Snakemake."""
