"""What every room needs and that needs none: geometry, landmarks with their states, shapes, regions, files, errors."""
