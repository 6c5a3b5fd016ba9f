"""Raw images -> TFRecord data sets. Imports schemas only, never TensorFlow."""

import warnings

# On Python 3.10 each of Google's libraries says at import that it will drop that version; the lock file pins ones that work.
warnings.filterwarnings("ignore", "You are using a (non-supported )?Python version", FutureWarning)
