"""The files that this software writes and reads, as validated types: the only room that opens a JSON object."""
