"""Published likelihoods: fetch, unpack and check them, apply patches, and combine them."""
