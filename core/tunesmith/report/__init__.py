"""Pages that stand alone: one HTML file with its own pictures, style and script, and nothing fetched from anywhere."""
