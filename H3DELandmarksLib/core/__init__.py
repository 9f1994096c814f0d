"""What everything stands on: geometry, landmarks, shapes, files and errors; no room above is known here."""
