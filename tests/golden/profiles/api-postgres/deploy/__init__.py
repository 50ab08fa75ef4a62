"""Build, release, run (factor V): the verbs of bin/, which need Python and its library alone."""
