"""Random changes of a chest X-ray that preserve the diagnosis, as Keras layers inside the model's graph.

They imitate how positioning and exposure vary between two images of one patient: a few degrees, a few per cent of shift
and distance, some contrast. There are no flips: mirrored, the heart lies on the right (dextrocardia, a finding of its
own), and no patient is examined upside down.
"""

from keras import layers

ROTATION = 0.02  # of a full turn: 7 degrees either way
SHIFT = 0.05  # of the height and of the width
ZOOM = 0.08
CONTRAST = 0.15


def augmentation() -> list[layers.Layer]:
    """Layers from float32 [batch, height, width, channels] in [0, 1] to the same; they do nothing in inference."""
    return [
        # Black outside the image, as the collimated border of an X-ray is.
        layers.RandomRotation(ROTATION, fill_mode="constant", dtype="float32"),
        layers.RandomTranslation(SHIFT, SHIFT, fill_mode="constant", dtype="float32"),
        layers.RandomZoom(ZOOM, fill_mode="constant", dtype="float32"),
        layers.RandomContrast(CONTRAST, value_range=(0.0, 1.0), dtype="float32"),
    ]
