"""What is compared: the sections of a report and their rows."""
