"""Published likelihoods: where they come from, what they hold, and how a patch changes them."""
