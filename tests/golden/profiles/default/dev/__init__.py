"""Development: real backing services and every process on one machine. Never part of the image."""
