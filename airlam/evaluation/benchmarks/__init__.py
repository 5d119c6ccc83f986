"""One folder for each benchmark."""
