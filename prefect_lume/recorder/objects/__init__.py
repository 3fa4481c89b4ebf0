"""Running a flow over objects, as one pipeline."""
