"""What the panel does not need: most commands, and what made the bundled models and the published tables.

Installed by pip, absent from the extension for Slicer. `cases` exchanges, audits and changes sets of corrected cases.
`converters` and `head_neck` turn published data sets into cases, `phantom` and `radiographs` make cases; the files in
``configurations`` say how each bundled model is trained from them, by ``h3delandmarks train NAME``. `published` makes
model packages of other people's checkpoints, `networks` holds those to compare with, `studies` measures, and `cli` adds
the commands. The library never imports this package; ``H3DELandmarksLib.core.resources`` finds it where it is.
"""
