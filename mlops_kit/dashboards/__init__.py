"""The pages for those who decide: they read stored results, compute nothing, and write nothing.

What a page shows is plain HTML with drawings in SVG; what a person decides on it is taken by the
server (``server``), which asks what it is given by its caller.
"""
