"""Procedural pedestrians in visible and infrared light: demo data in the real sets' layouts.

One direction: materials -> person -> solids, outfit, body -> raster; scene, camera -> render ->
layout -> tree, sheet.
"""
