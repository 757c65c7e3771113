"""Profile likelihoods of parameters: scans, contours, and the impacts of groups."""
