"""What making and running a service costs, as CPU-seconds and ratios of one run."""
