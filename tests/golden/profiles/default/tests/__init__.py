"""Tests on real parts: nothing here pretends to be a backing service."""
