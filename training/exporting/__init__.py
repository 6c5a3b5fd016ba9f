"""From a run to one file or folder that other software serves."""
