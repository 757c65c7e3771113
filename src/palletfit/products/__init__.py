"""What can be asked of a patch, a package for each product."""
