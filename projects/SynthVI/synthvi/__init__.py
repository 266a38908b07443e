"""Procedural pedestrians in visible and infrared light: demo data in the real sets' layouts.

One direction: exact, materials -> person -> people; solids -> outfit, carry -> head, body -> raster ->
shade; levels, scene, camera -> render -> layout -> tree, sheet; checksum, tree -> benchmarks.
"""
