"""What leaves a trace when processes are killed; goes into the service that is tried."""
