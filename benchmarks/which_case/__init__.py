"""The parts of `which_case_next`."""
