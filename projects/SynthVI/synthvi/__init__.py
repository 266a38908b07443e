"""Rendered pedestrians in visible and infrared light, in the layouts of the real data sets.

What decides the pictures, in the order of imports:

    modality, levels, portable_math, materials    constants, difficulty, reflectances and patterns
    person, identities                            what an identity is, and how one is sampled
    solids, outfit, accessories, head, body       an identity in a pose as solids with surfaces
    raster, shading                               solids to pixels, then light
    place, background, camera                     where the camera is, and how it forms an image
    render                                        one image
    layout                                        all images and lists of a data set

What uses them: `writer` (files), `checksum` and `benchmarks` (SynthVI, SynthVI-S), `contact_sheet`.
Only numpy, scipy, pillow and tqdm are imported.
"""
