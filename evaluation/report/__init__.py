"""The written report: tables, intervals and sheets of images."""
