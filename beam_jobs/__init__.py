"""Raw images -> TFRecord data sets. Imports schemas only, never TensorFlow."""

import warnings

# On Python 3.10, each of Google's libraries warns at import that it will drop that version. The lock file pins versions
# that work.
warnings.filterwarnings("ignore", "You are using a (non-supported )?Python version", FutureWarning)
