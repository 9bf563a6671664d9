"""Sphinx: Markdown by MyST, theme furo, warnings are errors (`make docs`)."""

project = "Indaco"
author = "The Indaco developers"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
